//! All forms of an interface, as one table: each function with its types, how it is
//! called, and a handler that calls [`World::serve`].

use std::{fmt, sync::Arc};

use proptest::prelude::*;
use vmffi::{
    Batch, CallError, Failure, FfiReturn, Foreign, ForeignBuf, ForeignPacked, ForeignSlice,
    ForeignStr, Lender, Outgoing, Peer, SendAs, SharedPacked,
    abi::{self, Transport},
};

use crate::{
    batch::Added,
    value::{Arg, Cross, Kept, Made, Sent, Type, Value, unpack},
    world::World,
};

/// The answer of a handler.
pub enum Reply {
    Ok(Made),
    App(Made),
    Fail(CallError),
}

/// The result that a client gets.
pub enum Got {
    Ok(Box<dyn Kept>),
    App(Box<dyn Kept>),
    Fail(CallError),
}

/// A type that a function returns.
pub trait Returned: FfiReturn {
    const OK: Type;
    const APP: Option<Type>;
    fn hand(reply: Reply) -> Self::Handled;
    fn got(received: Self::Received) -> Got;
}

impl<T: Cross> Returned for T {
    const OK: Type = Type::of::<T>();
    const APP: Option<Type> = None;
    fn hand(reply: Reply) -> Self::Handled {
        match reply {
            Reply::Ok(made) => Ok(unpack::<T>(made)),
            Reply::App(_) => panic!("the function declares no error"),
            Reply::Fail(error) => Err(error),
        }
    }
    fn got(received: Self::Received) -> Got {
        match received {
            Ok(value) => Got::Ok(Box::new(value)),
            Err(error) => Got::Fail(error),
        }
    }
}

impl<T: Cross, E: Cross> Returned for Result<T, E> {
    const OK: Type = Type::of::<T>();
    const APP: Option<Type> = Some(Type::of::<E>());
    fn hand(reply: Reply) -> Self::Handled {
        match reply {
            Reply::Ok(made) => Ok(unpack::<T>(made)),
            Reply::App(made) => Err(Failure::App(unpack::<E>(made))),
            Reply::Fail(error) => Err(Failure::Call(error)),
        }
    }
    fn got(received: Self::Received) -> Got {
        match received {
            Ok(value) => Got::Ok(Box::new(value)),
            Err(Failure::App(value)) => Got::App(Box::new(value)),
            Err(Failure::Call(error)) => Got::Fail(error),
        }
    }
}

/// A function of the table.
pub struct Entry {
    pub function: &'static abi::Function,
    /// Whether each side serves it, by [`Side`].
    pub served: [bool; 2],
    pub params: &'static [Type],
    /// The size of the parameter struct in bytes.
    pub size: usize,
    pub ok: Type,
    pub app: Option<Type>,
    pub call: fn(&Peer, Vec<Sent>) -> Got,
    pub add: fn(&Batch<'_>, Vec<Sent>) -> Result<Added, CallError>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.function.signature == other.function.signature
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.function)
    }
}

/// One server type for each side, since they serve different functions.
pub struct Server<const HOST: bool>(pub Arc<World>);

vmffi::serve!(Server<true>: Everything, Spare);
vmffi::serve!(Server<false>: Everything);

macro_rules! functions {
    ($( $interface:ident $served:tt {
        $( $(#[$($m:tt)*])* fn $f:ident($($a:ident : $t:ty),*) -> $r:ty; )*
    } )*) => {
        vmffi::ffi_interface! { $(
            #[allow(clippy::too_many_arguments, reason = "a parameter struct with all scalars")]
            pub interface $interface { $( $(#[$($m)*])* fn $f($($a: $t),*) -> $r; )* }
        )* }
        $(
            impl<const HOST: bool> $interface for Server<HOST> { $(
                fn $f(&self, peer: &Peer, $($a: $t),*) -> <$r as FfiReturn>::Handled {
                    let args: Vec<Box<dyn Kept>> = vec![$(Box::new($a)),*];
                    paste::paste! { let function = [<Params $interface $f:camel>]::FUNCTION; }
                    <$r as Returned>::hand(self.0.serve(peer, function, args))
                }
            )* }
        )*
        pub static FUNCTIONS: &[Entry] = &paste::paste! { [$( $( Entry {
            function: [<Params $interface $f:camel>]::FUNCTION,
            served: $served,
            params: &[$(Type::of::<$t>()),*],
            size: size_of::<[<Params $interface $f:camel>]>(),
            ok: <$r as Returned>::OK,
            app: <$r as Returned>::APP,
            call: |peer, sent| {
                #[allow(unused_mut, unused_variables, reason = "there may be no parameters")]
                let mut sent = sent.into_iter();
                let client = [<$interface Client>]::from(peer);
                <$r as Returned>::got(client.$f($(Arg::<$t>::new(sent.next())),*))
            },
            add: |batch, sent| {
                #[allow(unused_mut, unused_variables, reason = "as above")]
                let mut sent = sent.into_iter();
                let client = [<$interface Client>]::from(batch);
                client.$f($(Arg::<$t>::new(sent.next())),*).map(Added::new::<$r>)
            },
        } ),* ),*] };
    };
}

functions! {
    Everything [true, true] {
        fn nothing() -> ();
        fn swallow(value: ForeignBuf) -> ();
        fn alone_u8(value: u8) -> u8;
        fn alone_u16(value: u16) -> u16;
        fn alone_u32(value: u32) -> u32;
        fn alone_u64(value: u64) -> u64;
        fn alone_u128(value: u128) -> u128;
        fn alone_usize(value: usize) -> usize;
        fn alone_i8(value: i8) -> i8;
        fn alone_i16(value: i16) -> i16;
        fn alone_i32(value: i32) -> i32;
        fn alone_i64(value: i64) -> i64;
        fn alone_i128(value: i128) -> i128;
        fn alone_isize(value: isize) -> isize;
        fn alone_f32(value: f32) -> f32;
        fn alone_f64(value: f64) -> f64;
        fn alone_bool(value: bool) -> bool;
        fn alone_char(value: char) -> char;
        fn alone_unit(value: ()) -> ();
        fn alone_empty(value: Empty) -> Empty;
        fn alone_colour(value: Colour) -> Colour;
        fn alone_event(value: Event) -> Event;
        fn alone_stat(value: Stat) -> Stat;
        fn scalars(a: u8, b: u16, c: u32, d: u64, e: u128, f: usize, g: i8, h: i16, i: i32, j: i64, k: i128, l: isize, m: f32, n: f64, o: bool, p: char, q: ()) -> Scalars;
        fn same(one: u32, two: u32, three: u32) -> u32;
        fn plain(event: Event, stat: Stat, colour: Option<Colour>, empty: Empty) -> Option<Event>;
        fn maybe_number(value: Option<u32>) -> Option<u32>;
        fn maybe_wide(value: Option<i128>) -> Option<u128>;
        fn maybe_unit(value: Option<()>) -> Option<()>;
        fn maybe_twice(value: Option<Option<bool>>) -> Option<Option<bool>>;
        fn maybe_stat(value: Option<Stat>) -> Option<Stat>;
        fn buf(value: ForeignBuf) -> ForeignBuf;
        fn text(value: ForeignStr) -> ForeignStr;
        fn stats(value: ForeignSlice<Stat>) -> ForeignSlice<Stat>;
        fn words(value: ForeignSlice<u16>) -> ForeignSlice<u16>;
        fn one(value: Foreign<Stat>) -> Foreign<Stat>;
        fn wide(value: Foreign<u128>) -> Foreign<Event>;
        fn bufs(one: ForeignBuf, two: ForeignBuf) -> ForeignBuf;
        fn texts(one: ForeignStr, two: ForeignStr, nr: u8) -> ForeignStr;
        fn maybe_buf(value: Option<ForeignBuf>) -> Option<ForeignBuf>;
        fn maybe_text(value: Option<ForeignStr>) -> Option<ForeignStr>;
        fn maybe_stats(value: Option<ForeignSlice<Stat>>) -> Option<ForeignSlice<u16>>;
        fn maybe_one(value: Option<Foreign<Stat>>) -> Option<Foreign<Stat>>;
        fn maybe_buf_twice(value: Option<Option<ForeignBuf>>) -> Option<Option<ForeignBuf>>;
        fn maybe_parcel(value: Option<Parcel>) -> Option<Parcel>;
        fn parcel(value: Parcel) -> Parcel;
        fn load(value: Load) -> Load;
        fn many(nr: u8, body: ForeignBuf, name: ForeignStr, parcel: Option<Parcel>, stats: Option<ForeignSlice<Stat>>, one: Foreign<u64>, last: bool) -> Parcel;
        fn pair(value: (ForeignStr, Option<ForeignBuf>)) -> (Parcel, u8);
        fn array(value: [ForeignBuf; 3]) -> [Option<(u8, ForeignStr)>; 2];
        fn rows(value: ForeignSlice<[u16; 3]>, pairs: [(Event, i64); 2]) -> Result<(u8, u128), [Colour; 3]>;
        fn note(value: ForeignPacked<Note<'static>>) -> ForeignPacked<Note<'static>>;
        fn notes(nr: u8, one: ForeignPacked<Note<'static>>, two: Option<ForeignPacked<Note<'static>>>) -> Result<(ForeignPacked<Note<'static>>, u8), Event>;
        fn try_parcel(value: Parcel) -> Result<Parcel, Event>;
        fn try_text(nr: u16, wide: u128) -> Result<ForeignStr, ForeignBuf>;
        fn try_unit(name: ForeignStr) -> Result<(), Parcel>;
        fn try_number(value: Option<i64>) -> Result<u64, Colour>;
        fn strict(flag: bool, letter: char, colour: Colour, mark: Mark, number: Option<u32>, body: ForeignBuf, text: Option<ForeignStr>, stat: Foreign<Stat>, more: ForeignSlice<u16>) -> u64;
    }

    Spare [false, true] {
        #[optional]
        fn spare(value: Option<Parcel>) -> ForeignBuf;
    }

    Nowhere [false, false] {
        fn nowhere(nr: u8, body: ForeignBuf, parcel: Parcel) -> Parcel;
    }
}

pub fn entry(function: &abi::Function) -> &'static Entry {
    let this = |entry: &&Entry| entry.function.signature == function.signature;
    FUNCTIONS.iter().find(this).expect("a function of the table")
}

/// The types of which things are made in advance and kept.
pub static KINDS: [Type; 5] = [
    Type::of::<ForeignBuf>(),
    Type::of::<ForeignStr>(),
    Type::of::<ForeignSlice<Stat>>(),
    Type::of::<Foreign<Stat>>(),
    Type::of::<Parcel>(),
];

macro_rules! structs {
    ($( $name:ident as $made:ident { $($f:ident : $t:ty),* } )*) => { $(
        impl Cross for $name {
            const ALONE: usize = size_of::<<Self as vmffi::FfiType>::Wire>();
            fn any() -> BoxedStrategy<Value> {
                let fields: Vec<BoxedStrategy<Value>> = vec![$(<$t as Cross>::any()),*];
                Strategy::prop_map(fields, Value::List).boxed()
            }
            #[allow(unused_mut, unused_variables, unused_assignments, reason = "there may be no fields")]
            fn blocks(value: &Value) -> Vec<usize> {
                let (mut blocks, mut nr) = (Vec::new(), 0);
                $( blocks.extend(<$t as Cross>::blocks(&value.list()[nr])); nr += 1; )*
                blocks
            }
            #[allow(unused_mut, unused_variables, unused_assignments, reason = "as above")]
            fn make(peer: &impl Lender, value: &Value) -> Result<Self::Shared, CallError> {
                let mut fields = value.list().iter();
                Ok($made { $( $f: <$t as Cross>::make(peer, fields.next().expect("as many"))? ),* })
            }
            fn value(&self) -> Result<Value, CallError> {
                Ok(Value::List(vec![$( Cross::value(&self.$f)? ),*]))
            }
        }
    )* };
}

vmffi::ffi_interface! {
    #[derive(Clone, Copy)]
    pub struct Empty {}

    #[derive(Clone, Copy)]
    pub enum Colour: i16 { Red = -1, Green = 0, Blue = 300 }

    #[derive(Clone, Copy)]
    pub enum Event: u16 { Quit, Key { code: u32, down: bool } = 5, Moved(u64), Wide(u128) }

    #[derive(Clone, Copy)]
    pub struct Stat { size: u64, mode: u32, links: u32 }

    #[derive(Clone, Copy)]
    pub struct Mark { nr: u8, on: bool }

    /// All scalars, each with its own alignment, and with padding between them.
    #[derive(Clone, Copy)]
    pub struct Scalars {
        a: u8,
        b: u128,
        c: i16,
        d: f64,
        e: bool,
        f: char,
        g: i8,
        h: usize,
        i: f32,
        j: i128,
        k: u16,
        l: i64,
        m: u32,
        n: isize,
        o: i32,
        p: u64,
        q: (),
    }

    pub struct Parcel {
        id: u16,
        body: ForeignBuf,
        label: Option<ForeignStr>,
        colour: Colour,
        words: ForeignSlice<u16>,
        stat: Option<Foreign<Stat>>,
        event: Option<Event>,
    }

    /// A packed value.
    #[derive(Debug, PartialEq)]
    pub struct Note<'a> { name: &'a str, nr: u32 }

    pub struct Load { before: u8, left: Parcel, right: Option<Parcel>, stat: Stat, after: u16 }
}

structs! {
    Empty as Empty {}
    Stat as Stat { size: u64, mode: u32, links: u32 }
    Mark as Mark { nr: u8, on: bool }
    Scalars as Scalars {
        a: u8, b: u128, c: i16, d: f64, e: bool, f: char, g: i8, h: usize, i: f32, j: i128, k: u16,
        l: i64, m: u32, n: isize, o: i32, p: u64, q: ()
    }
    Parcel as SharedParcel {
        id: u16, body: ForeignBuf, label: Option<ForeignStr>, colour: Colour,
        words: ForeignSlice<u16>, stat: Option<Foreign<Stat>>, event: Option<Event>
    }
    Load as SharedLoad {
        before: u8, left: Parcel, right: Option<Parcel>, stat: Stat, after: u16
    }
}

impl Cross for Colour {
    fn any() -> BoxedStrategy<Value> {
        let bits = |colour: Colour| Value::Bits(colour as i128 as u128);
        prop::sample::select(vec![bits(Self::Green), bits(Self::Red), bits(Self::Blue)]).boxed()
    }
    fn make(_: &impl Lender, value: &Value) -> Result<Self, CallError> {
        Ok(match value.bits() as i128 {
            -1 => Self::Red,
            0 => Self::Green,
            _ => Self::Blue,
        })
    }
    fn lend_alone(value: &Value, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        Self::make(out, value)?.into_transport(out)
    }
    fn value(&self) -> Result<Value, CallError> {
        Ok(Value::Bits(*self as i128 as u128))
    }
}

impl Cross for Event {
    const ALONE: usize = size_of::<<Self as vmffi::FfiType>::Wire>();

    fn any() -> BoxedStrategy<Value> {
        let variant = |nr, fields: Vec<BoxedStrategy<Value>>| {
            fields.prop_map(move |fields| Value::Variant(nr, fields))
        };
        prop_oneof![
            variant(0, vec![]),
            variant(1, vec![u32::any(), bool::any()]),
            variant(2, vec![u64::any()]),
            variant(3, vec![u128::any()]),
        ]
        .boxed()
    }
    fn make(peer: &impl Lender, value: &Value) -> Result<Self, CallError> {
        let Value::Variant(nr, fields) = value else { panic!("{value:?} is not a variant") };
        Ok(match (nr, &fields[..]) {
            (0, []) => Self::Quit,
            (1, [code, down]) => {
                Self::Key { code: u32::make(peer, code)?, down: bool::make(peer, down)? }
            }
            (2, [by]) => Self::Moved(u64::make(peer, by)?),
            (_, [wide]) => Self::Wide(u128::make(peer, wide)?),
            _ => panic!("{value:?} is not an event"),
        })
    }
    fn value(&self) -> Result<Value, CallError> {
        Ok(match self {
            Self::Quit => Value::Variant(0, vec![]),
            Self::Key { code, down } => {
                Value::Variant(1, vec![Cross::value(code)?, Cross::value(down)?])
            }
            Self::Moved(by) => Value::Variant(2, vec![Cross::value(by)?]),
            Self::Wide(wide) => Value::Variant(3, vec![Cross::value(wide)?]),
        })
    }
}

/// The note that a value stands for.
fn note(value: &Value) -> Note<'_> {
    let [name, nr] = value.list() else { panic!("{value:?} is not a note") };
    Note { name: name.text(), nr: nr.bits() as u32 }
}

impl Cross for ForeignPacked<Note<'static>> {
    fn any() -> BoxedStrategy<Value> {
        vec![ForeignStr::any(), u32::any()].prop_map(Value::List).boxed()
    }
    /// One block: the length of the name, the number, padding, and the name.
    fn blocks(value: &Value) -> Vec<usize> {
        vec![16 + note(value).name.len()]
    }
    fn make(peer: &impl Lender, value: &Value) -> Result<SharedPacked<Note<'static>>, CallError> {
        SharedPacked::copy_from(peer, &note(value))
    }
    fn lend(value: &Value, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        SendAs::<Self>::encode(&note(value), wire, out)
    }
    fn lend_alone(value: &Value, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        SendAs::<Self>::into_transport(&note(value), out)
    }
    fn value(&self) -> Result<Value, CallError> {
        let mut local = vec![0; self.byte_len()];
        let read = self.read_into(&mut local)?;
        assert_eq!(self.read().as_ref(), Ok(&read), "both readers agree");
        let fields = vec![Value::Text(read.name.into()), Value::Bits(read.nr.into())];
        Ok(Value::List(fields))
    }
}
