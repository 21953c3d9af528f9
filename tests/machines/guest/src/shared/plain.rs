//! Every plain type, in every place where one can stand.

use super::{Check, Side};

vmffi::ffi_interface! {
    /// Three kinds of padding.
    #[derive(Clone, Debug, PartialEq)]
    #[size(32)]
    pub struct Padded { a: u8, b: u64, c: u16, d: u32, e: bool }

    #[derive(Clone, Debug, PartialEq)]
    pub struct Nested { tag: u8, inner: Padded, wide: u128, letter: char, maybe: Option<Padded> }

    #[derive(Clone, Debug, PartialEq)]
    pub struct Empty {}

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Number: u8 { Zero, One, Last = 255 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Sign: i64 { Low = i64::MIN, Minus = -1, High = i64::MAX }

    #[derive(Clone, Debug, PartialEq)]
    pub enum Shape: u8 {
        Nothing,
        Circle { radius: f64, filled: bool },
        Side(u32) = 7,
        Wide(u128),
        Of(Padded),
        Maybe { number: Option<Number>, sign: Sign },
    }
}

const LOW: Padded = Padded { a: 0, b: 0, c: 0, d: 0, e: false };
const HIGH: Padded = Padded { a: u8::MAX, b: u64::MAX, c: u16::MAX, d: u32::MAX, e: true };

macro_rules! plain {
    ($($module:ident: $t:ty = [$($value:expr),* $(,)?];)*) => {
        pub const CHECKS: &[Check] = &[$((stringify!($module), $module::check)),*];

        $( pub mod $module {
            #[allow(unused_imports)]
            use super::*;
            use vmffi::{CallError, Failure, Foreign, Peer, Shared};

            vmffi::ffi_interface! {
                #[derive(Clone, Debug, PartialEq)]
                pub struct Inside { before: u8, value: $t, maybe: Option<$t>, after: u8 }

                #[derive(Clone, Debug, PartialEq)]
                pub enum Choice: i16 { No, Tuple($t), Named { pad: bool, value: $t } }

                pub interface Echo {
                    fn alone(value: $t) -> $t;
                    fn among(before: u8, value: $t, after: u16) -> $t;
                    fn option(value: Option<$t>) -> Option<$t>;
                    fn inside(value: Inside) -> Inside;
                    fn choice(value: Choice, among: bool) -> Choice;
                    fn foreign(value: Foreign<$t>) -> Foreign<$t>;
                    fn result(fail: bool, value: $t) -> Result<$t, $t>;
                }
            }

            impl<S: Side> Echo for S {
                fn alone(&self, _: &Peer, value: $t) -> Result<$t, CallError> {
                    Ok(value)
                }
                fn among(&self, _: &Peer, before: u8, value: $t, after: u16) -> Result<$t, CallError> {
                    if (before, after) == (0xa5, 0x5a5a) { Ok(value) } else { Err(CallError::refused()) }
                }
                fn option(&self, _: &Peer, value: Option<$t>) -> Result<Option<$t>, CallError> {
                    Ok(value)
                }
                fn inside(&self, _: &Peer, value: Inside) -> Result<Inside, CallError> {
                    Ok(value)
                }
                fn choice(&self, _: &Peer, value: Choice, _: bool) -> Result<Choice, CallError> {
                    Ok(match value {
                        Choice::No => Choice::No,
                        Choice::Tuple(value) => Choice::Named { pad: true, value },
                        Choice::Named { value, .. } => Choice::Tuple(value),
                    })
                }
                fn foreign(&self, peer: &Peer, value: Foreign<$t>) -> Result<Shared<$t>, CallError> {
                    Shared::new(peer, value.read()?)
                }
                fn result(&self, _: &Peer, fail: bool, value: $t) -> Result<$t, Failure<$t>> {
                    if fail { Err(value.into()) } else { Ok(value) }
                }
            }

            pub fn check(peer: &Peer) {
                let echo = EchoClient::from(peer);
                let values: &[$t] = &[$($value),*];
                for value in values {
                    let same = || value.clone();
                    assert_eq!(echo.alone(same()), Ok(same()));
                    assert_eq!(echo.among(0xa5, same(), 0x5a5a), Ok(same()));
                    assert_eq!(echo.option(Some(same())), Ok(Some(same())));
                    assert_eq!(echo.option(None::<$t>), Ok(None));
                    let inside = Inside { before: 1, value: same(), maybe: Some(same()), after: 0xff };
                    let empty = Inside { maybe: None, ..inside.clone() };
                    assert_eq!(echo.inside(&inside), Ok(inside));
                    assert_eq!(echo.inside(&empty), Ok(empty));
                    assert_eq!(echo.choice(Choice::No, true), Ok(Choice::No));
                    let named = Choice::Named { pad: true, value: same() };
                    assert_eq!(echo.choice(Choice::Tuple(same()), true), Ok(named.clone()));
                    assert_eq!(echo.choice(named, false), Ok(Choice::Tuple(same())));
                    let foreign = echo.foreign(Shared::new(peer, same()).unwrap()).unwrap();
                    assert_eq!(foreign.read(), Ok(same()));
                    assert_eq!(echo.result(false, same()), Ok(same()));
                    assert_eq!(echo.result(true, same()), Err(Failure::App(same())));
                }
            }
        } )*
    };
}

#[allow(clippy::unit_arg, clippy::unit_cmp, clippy::clone_on_copy, clippy::let_unit_value)]
mod all {
    use super::*;

    plain! {
        units: () = [()];
        bools: bool = [false, true];
        chars: char = ['\0', 'x', '\u{d7ff}', '\u{e000}', char::MAX];
        u8s: u8 = [0, 1, u8::MAX];
        u16s: u16 = [0, 1, u16::MAX];
        u32s: u32 = [0, 1, u32::MAX];
        u64s: u64 = [0, 1, u64::MAX];
        u128s: u128 = [0, 1 << 64, u128::MAX];
        usizes: usize = [0, 1, usize::MAX];
        i8s: i8 = [0, i8::MIN, -1, i8::MAX];
        i16s: i16 = [0, i16::MIN, -1, i16::MAX];
        i32s: i32 = [0, i32::MIN, -1, i32::MAX];
        i64s: i64 = [0, i64::MIN, -1, i64::MAX];
        i128s: i128 = [0, i128::MIN, -1, i128::MAX];
        isizes: isize = [0, isize::MIN, -1, isize::MAX];
        f32s: f32 = [0.0, -0.5, f32::MIN_POSITIVE, f32::MAX, f32::NEG_INFINITY];
        f64s: f64 = [0.0, -0.5, f64::MIN_POSITIVE, f64::MAX, f64::NEG_INFINITY];
        structs: Padded = [LOW, HIGH];
        nested: Nested = [
            Nested { tag: 9, inner: HIGH, wide: u128::MAX, letter: char::MAX, maybe: None },
            Nested { tag: 0, inner: LOW, wide: 1, letter: '\0', maybe: Some(HIGH) },
        ];
        empties: Empty = [Empty {}];
        numbers: Number = [Number::Zero, Number::One, Number::Last];
        signs: Sign = [Sign::Low, Sign::Minus, Sign::High];
        shapes: Shape = [
            Shape::Nothing,
            Shape::Circle { radius: -0.5, filled: true },
            Shape::Side(u32::MAX),
            Shape::Wide(u128::MAX),
            Shape::Of(HIGH),
            Shape::Maybe { number: Some(Number::Last), sign: Sign::Low },
            Shape::Maybe { number: None, sign: Sign::High },
        ];
    }
}

pub use all::*;
