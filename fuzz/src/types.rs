//! An interface with every kind of type, generators of values, and what a receiver sees of them.

use std::{
    array,
    num::{NonZeroU16, NonZeroU128},
    time::Duration,
};

use vmffi::{
    Batch, CallError, ErrorKind, Failure, FfiReturn, FfiType, Foreign, ForeignBuf, ForeignPacked,
    ForeignSlice, ForeignStr, Peer, Plain,
    abi::{Function, signature},
};

use super::{
    batch::made::{Adding, batch_out},
    model::Ty,
    packed::Note,
    world::{self, Handle, Outcome},
};

mod handles;

/// A type of the interface, as the crate shows it. `look` uses every reader that the
/// crate has, and produces the same bytes as [`Validator::seen`](super::model::Validator::seen).
pub trait Look: FfiType + 'static {
    const TY: Ty;
    fn look(&self, seen: &mut Vec<u8>);
    /// Takes the handles out, in the order of their fields.
    fn handles(self, all: &mut Vec<Handle>);
    /// A value to send, and the bytes that its receiver must see.
    fn make(peer: &Peer, seen: &mut Vec<u8>) -> Result<Self::Shared, CallError>;
}

/// A type without handles.
pub trait Value: Look + Plain {
    fn value() -> Self;
}

macro_rules! values {
    ($($t:ty: $ty:expr, $value:expr, |$me:ident, $seen:ident| $look:expr;)*) => { $(
        impl Value for $t {
            fn value() -> Self { $value }
        }
        impl Look for $t {
            const TY: Ty = $ty;
            fn look(&self, $seen: &mut Vec<u8>) { let $me = self; $look }
            fn handles(self, _: &mut Vec<Handle>) {}
            fn make(_: &Peer, seen: &mut Vec<u8>) -> Result<Self, CallError> {
                let value = Self::value();
                value.look(seen);
                Ok(value)
            }
        }
    )* };
}

macro_rules! numbers {
    ($($t:ident $signed:literal)*) => { values! { $(
        $t: Ty::Number { size: size_of::<$t>(), signed: $signed },
            world::scalar() as $t,
            |me, seen| seen.extend(me.to_le_bytes());
    )* } };
}

numbers! { u8 false u16 false u32 false u64 false usize false u128 false }
numbers! { i8 true i16 true i32 true i64 true isize true i128 true }

values! {
    f32: Ty::Number { size: 4, signed: false },
        f32::from_bits(world::scalar() as u32),
        |me, seen| seen.extend(me.to_bits().to_le_bytes());
    f64: Ty::Number { size: 8, signed: false },
        f64::from_bits(world::scalar()),
        |me, seen| seen.extend(me.to_bits().to_le_bytes());
    bool: Ty::Bool, world::scalar() % 2 == 1, |me, seen| {
        // Through its bits, since the compiler assumes that a `bool` is valid.
        // SAFETY: a `bool` is one byte.
        seen.push(unsafe { std::ptr::from_ref(me).cast::<u8>().read_volatile() });
    };
    char: Ty::Char, char::from_u32(world::scalar() as u32).unwrap_or('字'), |me, seen| {
        // SAFETY: a `char` is four bytes.
        let bits = unsafe { std::ptr::from_ref(me).cast::<u32>().read_volatile() };
        assert!(char::from_u32(bits).is_some(), "a char of {bits:#x}");
        seen.extend(bits.to_le_bytes());
    };
    (): Ty::Struct(&[]), (), |_me, _seen| ();
}

/// Declares a struct; with `plain`, one without handles.
macro_rules! shared_struct {
    ($(struct $name:ident { $($f:ident: $t:ty),* })*) => { $(
        vmffi::ffi_interface! { pub struct $name { $($f: $t),* } }
        impl Look for $name {
            const TY: Ty = Ty::Struct(&[$(<$t as Look>::TY),*]);
            fn look(&self, _seen: &mut Vec<u8>) { $( self.$f.look(_seen); )* }
            fn handles(self, _all: &mut Vec<Handle>) { $( self.$f.handles(_all); )* }
            shared_struct! { @make $name { $($f: $t),* } }
        }
    )* };
    ($(plain struct $name:ident { $($f:ident: $t:ty),* })*) => { $(
        vmffi::ffi_interface! { #[derive(Clone)] pub struct $name { $($f: $t),* } }
        values! { $name: Ty::Struct(&[$(<$t as Look>::TY),*]),
            Self { $( $f: <$t>::value() ),* },
            |me, _seen| { $( me.$f.look(_seen); )* let $name { .. } = me; }; }
    )* };
    (@make $name:ident { $($f:ident: $t:ty),* }) => { vmffi::__private::paste::paste! {
        fn make(peer: &Peer, seen: &mut Vec<u8>) -> Result<Self::Shared, CallError> {
            Ok([<Shared $name>] { $( $f: <$t as Look>::make(peer, seen)? ),* })
        }
    } };
}

/// Declares an enum without fields.
macro_rules! shared_enum {
    ($(enum $name:ident: $repr:ident $signed:literal { $($v:ident = $n:literal),* })*) => { $(
        vmffi::ffi_interface! { #[derive(Clone, Copy, Debug)] pub enum $name: $repr { $($v = $n),* } }
        values! { $name: Ty::Enum { size: size_of::<$repr>(), signed: $signed, numbers: &[$($n),*] },
            world::pick(&[$(Self::$v),*]),
            |me, seen| {
                // SAFETY: `$repr` is the representation of the enum.
                let bits = unsafe { std::ptr::from_ref(me).cast::<$repr>().read_volatile() };
                assert!([$($n),*].contains(&bits), "an enum of {bits:#x}");
                seen.extend(bits.to_le_bytes());
            }; }
    )* };
}

shared_enum! {
    enum Colour: u8 false { Red = 1, Green = 2, Blue = 200 }
    enum Level: i16 true { Low = -3, Middle = 0, High = 300 }
    enum Fault: i32 true { Empty = -1, Odd = 5 }
    enum Wide: u64 false { Zero = 0, Much = 0x1_0000_0000 }
}

vmffi::ffi_interface! {
    #[derive(Clone)]
    pub enum Shape: u16 {
        Dot,
        Circle { radius: f64, filled: bool } = 7,
        Letter(char) = 9,
        At { point: Point, colour: Option<Colour> },
    }
}

values! {
    Shape: Ty::Data { size: 2, variants: &[
            (0, &[]),
            (7, &[<f64 as Look>::TY, <bool as Look>::TY]),
            (9, &[<char as Look>::TY]),
            (10, &[<Point as Look>::TY, <Option<Colour> as Look>::TY]),
        ] },
        match world::scalar() % 4 {
            0 => Self::Dot,
            1 => Self::Circle { radius: f64::value(), filled: bool::value() },
            2 => Self::Letter(char::value()),
            _ => Self::At { point: Point::value(), colour: Option::value() },
        },
        |me, seen| match me {
            Self::Dot => seen.extend([0, 0]),
            Self::Circle { radius, filled } => {
                seen.extend([7, 0]);
                radius.look(seen);
                filled.look(seen);
            }
            Self::Letter(letter) => {
                seen.extend([9, 0]);
                letter.look(seen);
            }
            Self::At { point, colour } => {
                seen.extend([10, 0]);
                point.look(seen);
                colour.look(seen);
            }
        };
}

shared_struct! {
    plain struct Nothing {}
    plain struct Point { on: bool, x: i16, glyph: char, y: f32, colour: Colour, far: u64 }
    plain struct Deep { a: u8, wide: u128, at: Point, maybe: Option<Option<u16>>, level: Level, shape: Shape }
    plain struct Quad { a: Deep, b: Deep, c: Deep, d: Deep }
    // Larger than the buffer through which the crate reads slices.
    plain struct Big { a: Quad, none: Nothing, b: Quad, c: Quad, small: u8 }
}

shared_struct! {
    struct Parcel { id: u32, body: ForeignBuf, label: Option<ForeignStr>, at: Point }
    struct Cargo {
        left: Parcel,
        right: Option<Parcel>,
        numbers: ForeignSlice<u32>,
        shape: Option<Shape>,
        spot: Foreign<Point>,
        spots: ForeignSlice<Point>,
        flag: Option<bool>,
        wide: i128,
        again: Option<Option<ForeignBuf>>
    }
}

impl<T: Look> Look for Option<T> {
    const TY: Ty = Ty::Option(&T::TY);
    fn look(&self, seen: &mut Vec<u8>) {
        seen.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.look(seen);
        }
    }
    fn handles(self, all: &mut Vec<Handle>) {
        if let Some(value) = self {
            value.handles(all);
        }
    }
    fn make(peer: &Peer, seen: &mut Vec<u8>) -> Result<Self::Shared, CallError> {
        let some = world::scalar() % 4 != 0;
        seen.push(u8::from(some));
        some.then(|| T::make(peer, seen)).transpose()
    }
}

impl<T: Value> Value for Option<T> {
    fn value() -> Self {
        (world::scalar() % 4 != 0).then(T::value)
    }
}

impl<T: Look, const N: usize> Look for [T; N] {
    const TY: Ty = Ty::Array(&T::TY, N);
    fn look(&self, seen: &mut Vec<u8>) {
        self.iter().for_each(|value| value.look(seen));
    }
    fn handles(self, all: &mut Vec<Handle>) {
        self.into_iter().for_each(|value| value.handles(all));
    }
    fn make(peer: &Peer, seen: &mut Vec<u8>) -> Result<Self::Shared, CallError> {
        let made: Vec<_> = (0..N).map(|_| T::make(peer, seen)).collect::<Result<_, _>>()?;
        Ok(made.try_into().unwrap_or_else(|_| unreachable!("there are as many")))
    }
}

impl<T: Value, const N: usize> Value for [T; N] {
    fn value() -> Self {
        array::from_fn(|_| T::value())
    }
}

macro_rules! tuples {
    ($(($($t:ident $nr:tt),*))*) => { $(
        impl<$($t: Look),*> Look for ($($t,)*) {
            const TY: Ty = Ty::Struct(&[$($t::TY),*]);
            fn look(&self, seen: &mut Vec<u8>) { $( self.$nr.look(seen); )* }
            fn handles(self, all: &mut Vec<Handle>) { $( self.$nr.handles(all); )* }
            fn make(peer: &Peer, seen: &mut Vec<u8>) -> Result<Self::Shared, CallError> {
                Ok(($( $t::make(peer, seen)?, )*))
            }
        }
        impl<$($t: Value),*> Value for ($($t,)*) {
            fn value() -> Self { ($($t::value(),)*) }
        }
    )* };
}

tuples! { (A 0) (A 0, B 1) (A 0, B 1, C 2) }

values! {
    Duration: Ty::Converted(&<(u64, u32) as Look>::TY, |seen| {
            seen[8..].try_into().is_ok_and(|nanos| u32::from_le_bytes(nanos) < 1_000_000_000)
        }),
        Self::new(world::scalar() >> 1, world::scalar() as u32),
        |me, seen| {
            me.as_secs().look(seen);
            me.subsec_nanos().look(seen);
        };
    NonZeroU16: Ty::Converted(&u16::TY, |seen| seen != [0; 2]),
        Self::new(world::scalar() as u16).unwrap_or(Self::MIN),
        |me, seen| me.get().look(seen);
    NonZeroU128: Ty::Converted(&u128::TY, |seen| seen != [0; 16]),
        Self::new(world::scalar().into()).unwrap_or(Self::MAX),
        |me, seen| me.get().look(seen);
}

/// A length of at most some hundred, mostly less.
fn len(most: usize) -> usize {
    world::scalar() as usize % (most + 1)
}

fn show<T: Look>(value: Result<T, CallError>, seen: &mut Vec<u8>) -> bool {
    let good = value.is_ok();
    match value {
        Ok(value) => value.look(seen),
        Err(error) => seen.extend([0xee, error.kind() as u8]),
    }
    good
}

/// The return type of a function.
pub trait Returned: FfiReturn + 'static {
    const OK: Ty;
    const ERR: Option<Ty>;
    /// The result of a handler, and what its caller must see.
    fn reply(peer: &Peer) -> (Self::Handled, Outcome);
    /// The result that a caller has, and the handles in it.
    fn got(received: Self::Received) -> (Result<Outcome, CallError>, Vec<Handle>);
}

/// Makes a value, or fails: for want of memory, or as the input decides.
fn make<T: Look>(
    peer: &Peer,
    as_outcome: fn(Vec<u8>) -> Outcome,
) -> (Result<T::Shared, CallError>, Outcome) {
    let mut seen = Vec::new();
    let made = match world::rarely(16) {
        true => Err(CallError::new(world::pick(&super::world::WHYS))),
        false => T::make(peer, &mut seen),
    };
    let outcome = match &made {
        Ok(_) => as_outcome(seen),
        Err(error) => Outcome::Failed(error.kind(), true),
    };
    (made, outcome)
}

fn take<T: Look>(
    value: T,
    as_outcome: fn(Vec<u8>) -> Outcome,
) -> (Result<Outcome, CallError>, Vec<Handle>) {
    let (mut seen, mut handles) = (Vec::new(), Vec::new());
    value.look(&mut seen);
    value.handles(&mut handles);
    (Ok(as_outcome(seen)), handles)
}

impl<T: Look> Returned for T {
    const OK: Ty = T::TY;
    const ERR: Option<Ty> = None;
    fn reply(peer: &Peer) -> (Self::Handled, Outcome) {
        make::<T>(peer, Outcome::Value)
    }
    fn got(received: Self::Received) -> (Result<Outcome, CallError>, Vec<Handle>) {
        match received {
            Ok(value) => take(value, Outcome::Value),
            Err(error) => (Err(error), Vec::new()),
        }
    }
}

impl<T: Look, E: Look> Returned for Result<T, E> {
    const OK: Ty = T::TY;
    const ERR: Option<Ty> = Some(E::TY);
    fn reply(peer: &Peer) -> (Self::Handled, Outcome) {
        if world::scalar() % 3 == 2 {
            let (made, outcome) = make::<E>(peer, Outcome::App);
            (Err(made.map_or_else(Failure::Call, Failure::App)), outcome)
        } else {
            let (made, outcome) = make::<T>(peer, Outcome::Value);
            (made.map_err(Failure::Call), outcome)
        }
    }
    fn got(received: Self::Received) -> (Result<Outcome, CallError>, Vec<Handle>) {
        match received {
            Ok(value) => take(value, Outcome::Value),
            Err(Failure::App(value)) => take(value, Outcome::App),
            Err(Failure::Call(error)) => (Err(error), Vec::new()),
        }
    }
}

/// A function of the interface, for both directions, or one of the ABI's own.
pub struct Fun {
    pub function: &'static Function,
    pub parameters: &'static [Ty],
    pub ok: Ty,
    pub err: Option<Ty>,
    /// Calls the other side with values that the input decides.
    pub call: fn(&Peer),
    /// Adds such a call to a batch.
    pub add: fn(&Peer, &Batch<'_>, &mut Adding),
}

/// Serves the interface on either side.
pub struct Server;

macro_rules! interface {
    ($(fn $f:ident($($a:ident: $t:ty),*) -> $r:ty;)*) => {
        vmffi::ffi_interface! { pub interface Every { $( fn $f($($a: $t),*) -> $r; )* } }

        impl Every for Server { $(
            fn $f(&self, peer: &Peer, $($a: $t),*) -> <$r as FfiReturn>::Handled {
                let (mut _seen, mut _handles) = (Vec::new(), Vec::new());
                $( $a.look(&mut _seen); )*
                $( $a.handles(&mut _handles); )*
                world::entered(stringify!($f), _seen, _handles, peer);
                if world::rarely(64) {
                    world::left(Outcome::Failed(ErrorKind::PeerPanicked, true));
                    // Panics without the hook, which would end the fuzzer.
                    std::panic::resume_unwind(Box::new("a handler's panic"));
                }
                let (handled, outcome) = <$r as Returned>::reply(peer);
                world::left(outcome);
                handled
            }
        )* }

        vmffi::__private::paste::paste! {
            pub static FUNCTIONS: &[Fun] = &[$( Fun {
                function: [<Params Every $f:camel>]::FUNCTION,
                parameters: &[$(<$t as Look>::TY),*],
                ok: <$r as Returned>::OK,
                err: <$r as Returned>::ERR,
                call: |peer| {
                    let fun = world::find([<Params Every $f:camel>]::FUNCTION.signature);
                    let fun = fun.expect("in the list");
                    let mut _sent = Vec::new();
                    // If there is no memory for the parameters, no call is made.
                    $( let Ok($a) = <$t as Look>::make(peer, &mut _sent) else { return }; )*
                    world::calls(fun, _sent);
                    let received = EveryClient::from(peer).$f($($a),*);
                    let (outcome, handles) = <$r as Returned>::got(received);
                    world::called(outcome, handles);
                },
                add: |_peer, batch, adding| {
                    let fun = world::find([<Params Every $f:camel>]::FUNCTION.signature);
                    let fun = fun.expect("in the list");
                    let mut _nr = 0..;
                    $(
                        let nr = _nr.next().expect("without an end");
                        let Ok($a) = adding.argument::<$t>(_peer, nr) else { return };
                    )*
                    adding.end::<$r>(fun, EveryClient::from(batch).$f($($a),*));
                },
            } ),*];
        }
    };
}

interface! {
    fn nothing() -> ();
    fn unit(a: ()) -> Nothing;
    fn a_u8(a: u8) -> u8;
    fn a_u16(a: u16) -> u16;
    fn a_u32(a: u32) -> u32;
    fn a_u64(a: u64) -> u64;
    fn a_usize(a: usize) -> usize;
    fn a_u128(a: u128) -> u128;
    fn a_i8(a: i8) -> i8;
    fn a_i16(a: i16) -> i16;
    fn a_i32(a: i32) -> i32;
    fn a_i64(a: i64) -> i64;
    fn a_isize(a: isize) -> isize;
    fn a_i128(a: i128) -> i128;
    fn a_f32(a: f32) -> f32;
    fn a_f64(a: f64) -> f64;
    fn a_bool(a: bool) -> bool;
    fn a_char(a: char) -> char;
    fn scalars(a: u8, b: i16, c: u32, d: i64, e: usize, f: isize, g: f32, h: f64, i: bool, j: char) -> u64;
    fn wide(a: u128, b: i8, c: i128, d: i32, e: u16) -> ();
    fn colour(a: Colour) -> Level;
    fn level(a: Level) -> Wide;
    fn far(a: Wide) -> Colour;
    fn shape(a: Shape) -> Shape;
    fn empty(a: Nothing) -> Option<Nothing>;
    fn empties(a: Nothing, b: ()) -> Option<()>;
    fn point(a: Point) -> Point;
    fn deep(a: Deep) -> Deep;
    fn big(a: Big) -> Big;
    fn option(a: Option<u32>) -> Option<i128>;
    fn options(a: Option<Option<u16>>) -> Option<Option<Option<char>>>;
    fn small(a: Colour, b: Option<Colour>, c: bool, d: char, e: Shape) -> Option<Shape>;
    fn buf(a: ForeignBuf) -> ForeignBuf;
    fn text(a: ForeignStr) -> ForeignStr;
    fn bytes(a: ForeignSlice<u8>) -> ForeignSlice<i8>;
    fn numbers(a: ForeignSlice<u64>) -> ForeignSlice<f32>;
    fn wides(a: ForeignSlice<u128>) -> ForeignSlice<usize>;
    fn flags(a: ForeignSlice<bool>) -> ForeignSlice<char>;
    fn levels(a: ForeignSlice<Level>) -> ForeignSlice<Option<u16>>;
    fn points(a: ForeignSlice<Point>) -> ForeignSlice<Shape>;
    fn bigs(a: ForeignSlice<Big>) -> ForeignSlice<Deep>;
    fn spot(a: Foreign<Point>) -> Foreign<Shape>;
    fn word(a: Foreign<u64>) -> Foreign<bool>;
    fn place(a: Foreign<()>) -> Foreign<Nothing>;
    fn maybe_buf(a: Option<ForeignBuf>) -> Option<ForeignStr>;
    fn maybe_spot(a: Option<Foreign<Point>>) -> Option<Foreign<Deep>>;
    fn maybe_slice(a: Option<ForeignSlice<char>>) -> Option<ForeignSlice<u16>>;
    fn twice(a: Option<Option<ForeignBuf>>) -> Option<Option<ForeignBuf>>;
    fn parcel(a: Parcel) -> Parcel;
    fn maybe_parcel(a: Option<Parcel>) -> Option<Parcel>;
    fn cargo(a: Cargo) -> Cargo;
    fn many(a: Option<ForeignBuf>, b: Option<Foreign<Point>>, c: Option<u64>, d: Option<Parcel>, e: Option<ForeignSlice<char>>, f: ForeignStr) -> u64;
    fn bufs(a: ForeignBuf, b: ForeignBuf, c: u8) -> Result<ForeignBuf, Fault>;
    fn fails(a: ForeignStr, b: u32) -> Result<u64, Shape>;
    fn tries(a: Foreign<Deep>) -> Result<(), u64>;
    fn either(a: u8) -> Result<Parcel, ForeignStr>;
    fn neither() -> Result<Option<ForeignSlice<Deep>>, Cargo>;
    // The functions that `OLD` does not count.
    fn arrays(a: [u16; 3], b: [bool; 3], c: Option<[Point; 2]>) -> [Point; 2];
    fn array(a: [Option<char>; 2]) -> [u8; 5];
    fn none(a: [ForeignStr; 0]) -> [[(); 3]; 2];
    fn texts(a: [ForeignStr; 2]) -> [(u8, ForeignBuf); 2];
    fn tuple(a: (bool, (char, [Level; 2]), ())) -> (u8, u64);
    fn tuples(a: (u16, Option<ForeignBuf>), b: ForeignSlice<(bool, u32)>, c: Foreign<(Shape,)>) -> ForeignSlice<[bool; 3]>;
    fn parcels(a: [Parcel; 2]) -> Option<[Option<ForeignStr>; 2]>;
    fn times(a: Duration, b: ForeignSlice<NonZeroU16>, c: [NonZeroU128; 2]) -> Result<Duration, (u8, ForeignStr)>;
    fn not_zero(a: NonZeroU16) -> Option<NonZeroU128>;
    fn wait(a: Duration) -> [NonZeroU16; 1];
    fn note(a: ForeignPacked<Note<'static>>) -> ForeignPacked<Note<'static>>;
    fn notes(a: u8, b: Option<ForeignPacked<Note<'static>>>, c: [ForeignPacked<Note<'static>>; 2]) -> Result<(u16, ForeignPacked<Note<'static>>), Fault>;
}

/// The number of functions when most of the kept inputs were found. A choice keeps the numbers of these, so that the
/// inputs keep their meaning; the others have numbers that were unused.
pub const OLD: usize = FUNCTIONS.len() - 12;

vmffi::serve!(Server: Every; calls Every);

/// Asks whether the peer serves a function (ABI, "Signatures" SG-7).
pub static HAS: Fun = Fun {
    function: &Function::new(signature::HAS, "ABI", "has"),
    parameters: &[<u64 as Look>::TY],
    ok: Ty::Bool,
    err: None,
    call: |peer| {
        let asked = &FUNCTIONS[world::with(|w| w.feed.below(OLD))];
        world::calls(&HAS, asked.function.signature.to_le_bytes().to_vec());
        let has = peer.has(asked.function);
        world::called(has.map(|has| Outcome::Value(vec![u8::from(has)])), Vec::new());
    },
    add: |_, _, _| {},
};

/// Makes a batch (ABI, "Batches" BT-1).
pub static BATCH: Fun = Fun {
    function: &Function::new(signature::BATCH, "ABI", "batch"),
    parameters: &[<ForeignBuf as Look>::TY],
    ok: <ForeignBuf as Look>::TY,
    err: None,
    call: batch_out,
    add: |_, _, _| {},
};

/// Asks for a contract (ABI, "Contracts" CT-11).
pub static CONTRACT: Fun = Fun {
    function: &Function::new(signature::CONTRACT, "ABI", "contract"),
    parameters: &[],
    ok: <ForeignBuf as Look>::TY,
    err: None,
    call: |_| {},
    add: |_, _, _| {},
};

/// Sends a guest's contract (ABI, "Contracts" CT-2).
pub static HANDSHAKE: Fun = Fun {
    function: &Function::new(signature::HANDSHAKE, "ABI", "handshake"),
    parameters: &[<ForeignBuf as Look>::TY],
    ok: Ty::Struct(&[]),
    err: None,
    call: |_| {},
    add: |_, _, _| {},
};
