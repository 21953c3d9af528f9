//! Every plain type, in every position where one can be.

use core::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    num::{NonZeroU8, NonZeroU128, NonZeroUsize},
    time::Duration,
};

use super::{Check, Side};
use vmffi::CrossesAs;

vmffi::ffi_interface! {
    /// Three kinds of padding: between fields, in an array of the struct, and at the end.
    #[derive(Clone, Debug, PartialEq)]
    #[size(32)]
    pub struct Padded { a: u8, b: u64, c: u16, d: u32, e: bool }

    #[derive(Clone, Debug, PartialEq)]
    pub struct Nested { tag: u8, inner: Padded, wide: u128, letter: char, maybe: Option<Padded> }

    #[derive(Clone, Copy, Debug, PartialEq)]
    #[size(0)]
    pub struct Empty {}

    #[derive(Clone, Debug, PartialEq)]
    #[size(8)]
    pub struct WithEmpty { a: Empty, value: u32, b: (), c: Option<Empty> }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Small: u8 { Zero, One, Last = 255 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Signed: i8 { Low = -128, Minus = -1, Zero, High = 127 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Medium: i32 { Low = i32::MIN, Minus = -2, High = i32::MAX }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Long: u64 { Zero, High = u64::MAX }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum SignedLong: i64 { Low = i64::MIN, Minus = -1 }

    /// An enum with only one value, which is not 0.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Single: u16 { Only = 300 }

    #[derive(Clone, Debug, PartialEq)]
    pub enum Shape: u8 {
        Nothing,
        Circle { radius: f64, filled: bool },
        Side(u32) = 7,
        Wide(u128),
        Of(Padded),
        Maybe { small: Option<Small>, signed: Signed },
        Empty {},
        Pair(u8, u64),
    }

    /// An enum with fields in a struct in an enum with fields.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Labelled { label: char, shape: Shape }

    #[derive(Clone, Debug, PartialEq)]
    pub enum Deep: i64 { Low(Labelled) = i64::MIN, Minus { shape: Shape } = -1 }
}

/// A number with a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub u8);

impl CrossesAs for Percent {
    type Wire = u8;
    fn to_wire(&self) -> u8 {
        self.0
    }
    fn from_wire(wire: u8) -> Option<Self> {
        (wire <= 100).then_some(Self(wire))
    }
}

/// A newtype of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked(pub Padded);

impl CrossesAs for Checked {
    type Wire = Padded;
    fn to_wire(&self) -> Padded {
        self.0.clone()
    }
    fn from_wire(wire: Padded) -> Option<Self> {
        wire.e.then_some(Self(wire))
    }
}

vmffi::crosses_as!(Percent, Checked);

pub fn padded() -> Padded {
    Padded { a: 1, b: u64::MAX, c: 2, d: 3, e: true }
}

pub fn nested(maybe: Option<Padded>) -> Nested {
    Nested { tag: 9, inner: padded(), wide: u128::MAX, letter: char::MAX, maybe }
}

/// Makes a module for each plain type: an interface that sends it in every position of a plain type,
/// its server, which returns it, and a check that sends all the values.
macro_rules! echoes {
    ($($module:ident: $t:ty = [$($value:expr),* $(,)?];)*) => {
        pub const CHECKS: &[Check] = &[$((stringify!($module), $module::check)),*];

        $( pub mod $module {
            #[allow(unused_imports, reason = "some types are the language's own")]
            use super::*;
            use vmffi::{CallError, Failure, Foreign, Peer, Shared};

            vmffi::ffi_interface! {
                #[derive(Clone, Debug, PartialEq)]
                pub struct Inside { before: u8, value: $t, maybe: Option<$t>, after: u8 }

                pub enum Choice: i16 { No, Tuple($t), Named { pad: bool, value: $t } }

                pub interface Echo {
                    fn alone(value: $t) -> $t;
                    fn among(before: u8, value: $t, after: u16) -> $t;
                    fn second(one: $t, two: $t) -> $t;
                    fn option(value: Option<$t>) -> Option<$t>;
                    fn options(nr: u8, value: Option<Option<$t>>) -> Option<Option<$t>>;
                    fn inside(value: Inside) -> Inside;
                    fn inside_among(before: bool, value: Inside, after: char) -> Inside;
                    fn choice(value: Choice) -> Choice;
                    fn foreign(value: Foreign<$t>) -> Foreign<$t>;
                    fn foreign_among(before: u8, value: Foreign<$t>, after: u8) -> Foreign<Inside>;
                    fn result(fail: bool, value: $t) -> Result<$t, $t>;
                }
            }

            impl<S: Side> Echo for S {
                fn alone(&self, _: &Peer, value: $t) -> Result<$t, CallError> {
                    Ok(value)
                }
                fn among(&self, _: &Peer, before: u8, value: $t, after: u16) -> Result<$t, CallError> {
                    assert_eq!((before, after), (0xa5, 0x5a5a));
                    Ok(value)
                }
                fn second(&self, _: &Peer, _: $t, two: $t) -> Result<$t, CallError> {
                    Ok(two)
                }
                fn option(&self, _: &Peer, value: Option<$t>) -> Result<Option<$t>, CallError> {
                    Ok(value)
                }
                fn options(
                    &self, _: &Peer, nr: u8, value: Option<Option<$t>>,
                ) -> Result<Option<Option<$t>>, CallError> {
                    assert_eq!(nr, match value { None => 0, Some(None) => 1, Some(Some(_)) => 2 });
                    Ok(value)
                }
                fn inside(&self, _: &Peer, value: Inside) -> Result<Inside, CallError> {
                    Ok(value)
                }
                fn inside_among(
                    &self, _: &Peer, before: bool, value: Inside, after: char,
                ) -> Result<Inside, CallError> {
                    assert_eq!((before, after), (true, 'é'));
                    Ok(value)
                }
                fn choice(&self, _: &Peer, value: Choice) -> Result<Choice, CallError> {
                    Ok(match value {
                        Choice::No => Choice::No,
                        Choice::Tuple(value) => Choice::Named { pad: true, value },
                        Choice::Named { value, .. } => Choice::Tuple(value),
                    })
                }
                fn foreign(&self, peer: &Peer, value: Foreign<$t>) -> Result<Shared<$t>, CallError> {
                    Shared::new(peer, value.read()?)
                }
                fn foreign_among(
                    &self, peer: &Peer, before: u8, value: Foreign<$t>, after: u8,
                ) -> Result<Shared<Inside>, CallError> {
                    Shared::new(peer, Inside { before, value: value.read()?, maybe: None, after })
                }
                fn result(&self, _: &Peer, fail: bool, value: $t) -> Result<$t, Failure<$t>> {
                    if fail { Err(value.into()) } else { Ok(value) }
                }
            }

            pub fn check(peer: &Peer) {
                let echo = EchoClient::from(peer);
                let values: &[$t] = &[$($value),*];
                for (value, other) in values.iter().zip(values.iter().rev()) {
                    let same = || value.clone();
                    let inside = Inside { before: 1, value: same(), maybe: Some(same()), after: 0xff };
                    let empty = Inside { maybe: None, ..inside.clone() };
                    assert_eq!(echo.alone(same()), Ok(same()));
                    assert_eq!(echo.among(0xa5, same(), 0x5a5a), Ok(same()));
                    assert_eq!(echo.second(other.clone(), same()), Ok(same()));
                    assert_eq!(echo.option(Some(same())), Ok(Some(same())));
                    assert_eq!(echo.option(None::<$t>), Ok(None));
                    assert_eq!(echo.options(0, None::<Option<$t>>), Ok(None));
                    assert_eq!(echo.options(1, Some(None::<$t>)), Ok(Some(None)));
                    assert_eq!(echo.options(2, Some(Some(same()))), Ok(Some(Some(same()))));
                    assert_eq!(echo.inside(&inside), Ok(inside.clone()));
                    assert_eq!(echo.inside(empty.clone()), Ok(empty.clone()));
                    assert_eq!(echo.inside_among(true, inside.clone(), 'é'), Ok(inside.clone()));
                    assert_eq!(echo.inside_among(true, &empty, 'é'), Ok(empty));
                    assert!(matches!(echo.choice(Choice::No), Ok(Choice::No)));
                    let Ok(Choice::Named { pad: true, value }) = echo.choice(Choice::Tuple(same())) else {
                    panic!()
                };
                    assert_eq!(value, same());
                    let Ok(Choice::Tuple(value)) = echo.choice(Choice::Named { pad: false, value }) else {
                    panic!()
                };
                    assert_eq!(value, same());
                    let shared = Shared::new(peer, same()).unwrap();
                    assert_eq!(echo.foreign(shared).unwrap().read(), Ok(same()));
                    let shared = Shared::new(peer, same()).unwrap();
                    let foreign = echo.foreign_among(1, shared, 0xff).unwrap();
                    assert_eq!(foreign.read(), Ok(Inside { maybe: None, ..inside }));
                    assert_eq!(foreign.read().unwrap().value, same(), "a handle can be read again");
                    assert_eq!(echo.result(false, same()), Ok(same()));
                    assert_eq!(echo.result(true, same()), Err(Failure::App(same())));
                }
            }
        } )*
    };
}

#[allow(
    clippy::unit_arg,
    clippy::unit_cmp,
    clippy::clone_on_copy,
    clippy::let_unit_value,
    reason = "the same is done with every type"
)]
mod all {
    use super::*;

    echoes! {
        units: () = [()];
        bools: bool = [false, true];
        chars: char = ['\0', 'a', 'é', '\u{d7ff}', '\u{e000}', char::MAX];
        u8s: u8 = [0, 1, 0x80, u8::MAX];
        u16s: u16 = [0, 1, 0x8000, u16::MAX];
        u32s: u32 = [0, 1, 0x8000_0000, u32::MAX];
        u64s: u64 = [0, 1, 1 << 63, u64::MAX];
        u128s: u128 = [0, 1, 1 << 64, u128::MAX, u128::from_le_bytes(*b"sixteen bytes...")];
        usizes: usize = [0, 1, usize::MAX];
        i8s: i8 = [0, 1, -1, i8::MIN, i8::MAX];
        i16s: i16 = [0, 1, -1, i16::MIN, i16::MAX];
        i32s: i32 = [0, 1, -1, i32::MIN, i32::MAX];
        i64s: i64 = [0, 1, -1, i64::MIN, i64::MAX];
        i128s: i128 = [0, 1, -1, i128::MIN, i128::MAX];
        isizes: isize = [0, 1, -1, isize::MIN, isize::MAX];
        f32s: f32 = [
            0.0, 1.5, f32::MIN, f32::MAX, f32::MIN_POSITIVE, f32::EPSILON, f32::INFINITY, f32::NEG_INFINITY,
        ];
        f64s: f64 = [
            0.0, 1.5, f64::MIN, f64::MAX, f64::MIN_POSITIVE, f64::EPSILON, f64::INFINITY, f64::NEG_INFINITY,
        ];
        padded_structs: Padded = [padded(), Padded { a: 0, b: 0, c: 0, d: 0, e: false }];
        nested_structs: Nested = [nested(None), nested(Some(padded()))];
        empties: Empty = [Empty {}];
        with_empties: WithEmpty = [
            WithEmpty { a: Empty {}, value: 5, b: (), c: None },
            WithEmpty { a: Empty {}, value: 6, b: (), c: Some(Empty {}) },
        ];
        smalls: Small = [Small::Zero, Small::One, Small::Last];
        signeds: Signed = [Signed::Low, Signed::Minus, Signed::Zero, Signed::High];
        mediums: Medium = [Medium::Low, Medium::Minus, Medium::High];
        longs: Long = [Long::Zero, Long::High];
        signed_longs: SignedLong = [SignedLong::Low, SignedLong::Minus];
        singles: Single = [Single::Only];
        shapes: Shape = [
            Shape::Nothing,
            Shape::Circle { radius: -0.5, filled: true },
            Shape::Side(u32::MAX),
            Shape::Pair(1, u64::MAX),
            Shape::Wide(u128::MAX),
            Shape::Of(padded()),
            Shape::Maybe { small: Some(Small::Last), signed: Signed::Low },
            Shape::Maybe { small: None, signed: Signed::High },
            Shape::Empty {},
        ];
        no_arrays: [u64; 0] = [[]];
        byte_arrays: [u8; 5] = [[0; 5], [1, 2, 3, 4, 255]];
        bool_arrays: [bool; 3] = [[true, false, true], [false; 3]];
        struct_arrays: [Padded; 2] = [[padded(), Padded { a: 0, b: 0, c: 0, d: 0, e: false }]];
        option_arrays: [Option<char>; 3] = [[None, Some('é'), None]];
        large_arrays: [u16; 1000] = [core::array::from_fn(|nr| nr as u16)];
        pairs: (u8, u64) = [(1, u64::MAX), (255, 0)];
        nested_tuples: (bool, (char, [Padded; 2]), ()) = [(true, ('é', [padded(), padded()]), ())];
        long_tuples: (u8, u16, u32, u64, u128, i8, Shape, Option<Small>) = [
            (1, 2, 3, 4, 5, -1, Shape::Of(padded()), Some(Small::Last)),
            (0, 0, 0, 0, 0, 0, Shape::Nothing, None),
        ];
        converted_arrays: [(Percent, Checked); 1] = [[(Percent(7), Checked(padded()))]];
        all_not_zero: (NonZeroU8, NonZeroU128, NonZeroUsize) = [
            (NonZeroU8::MIN, NonZeroU128::MAX, NonZeroUsize::MIN),
        ];
        durations: Duration = [Duration::ZERO, Duration::from_nanos(1_999_999_999), Duration::MAX];
        addresses: IpAddr = [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        sockets: SocketAddr = [
            SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::BROADCAST, 80)),
            SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 443, 7, u32::MAX)),
        ];
        networks: (Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6) = [(
            Ipv4Addr::new(1, 2, 3, 4),
            Ipv6Addr::new(1, 2, 3, 4, 5, 6, 7, 0xffff),
            SocketAddrV4::new(Ipv4Addr::LOCALHOST, 65535),
            SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, u32::MAX, 9),
        )];
        deeps: Deep = [
            Deep::Low(Labelled { label: 'x', shape: Shape::Side(1) }),
            Deep::Minus { shape: Shape::Nothing },
        ];
    }
}

pub use all::*;

/// The names of the modules, for a macro that serves all of them: `serve_plain!(callback! { … })` expands to
/// `callback! { … [names] }`.
macro_rules! with_plain {
    ($($callback:ident)::+ ! { $($tokens:tt)* }) => {
        $($callback)::+ ! { $($tokens)* [
            units bools chars u8s u16s u32s u64s u128s usizes i8s i16s i32s i64s i128s isizes f32s f64s
            padded_structs nested_structs empties with_empties smalls signeds mediums longs signed_longs
            singles shapes no_arrays byte_arrays bool_arrays struct_arrays option_arrays large_arrays pairs
            nested_tuples long_tuples converted_arrays all_not_zero durations addresses sockets networks deeps
        ] }
    };
}
pub(crate) use with_plain;
