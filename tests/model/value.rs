//! Values of every type in the model: how a value is generated, sent and read, and how much
//! memory it uses.

use std::{
    any::{Any, TypeId, type_name},
    fmt,
    io::Read,
    marker::PhantomData,
    rc::Rc,
};

use proptest::prelude::*;
use vmffi::{
    CallError, ErrorKind, FfiType, Foreign, ForeignBuf, ForeignSlice, ForeignStr, Lender, Outgoing,
    Peer, Plain, SendAs, Shared, SharedBuf, SharedSlice, SharedStr, abi::Transport,
};

/// A value of any type that crosses.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// A scalar, or an enum without fields: its bits, sign-extended.
    Bits(u128),
    Bytes(Vec<u8>),
    Text(String),
    Maybe(Option<Box<Value>>),
    /// The fields of a struct, or the elements of a slice.
    List(Vec<Value>),
    /// An enum's variant, and its fields.
    Variant(u8, Vec<Value>),
    /// The content behind a forged handle.
    Unknown,
}

impl Value {
    pub fn bits(&self) -> u128 {
        let Self::Bits(bits) = self else { panic!("{self:?} is not a scalar") };
        *bits
    }

    pub fn bytes(&self) -> &[u8] {
        let Self::Bytes(bytes) = self else { panic!("{self:?} is not a buffer") };
        bytes
    }

    pub fn text(&self) -> &str {
        let Self::Text(text) = self else { panic!("{self:?} is not a text") };
        text
    }

    pub fn maybe(&self) -> Option<&Self> {
        let Self::Maybe(value) = self else { panic!("{self:?} is not a option") };
        value.as_deref()
    }

    pub fn list(&self) -> &[Self] {
        let Self::List(values) = self else { panic!("{self:?} is not a list") };
        values
    }

    /// Whether it is an empty buffer or text, which is sent without a block.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Text(text) => text.is_empty(),
            _ => false,
        }
    }
}

/// Short enough for the list of operations of a failure.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bits(bits) if *bits > u128::from(u64::MAX) => write!(f, "{bits:#x}"),
            Self::Bits(bits) => write!(f, "{bits}"),
            Self::Bytes(bytes) => write!(f, "{} bytes {:?}", bytes.len(), bytes.first()),
            Self::Text(text) => write!(f, "{} bytes {:?}", text.len(), text.chars().next()),
            Self::Maybe(value) => value.fmt(f),
            Self::List(values) => values.fmt(f),
            Self::Variant(nr, values) => write!(f, "{nr}{values:?}"),
            Self::Unknown => write!(f, "?"),
        }
    }
}

/// Something that a sender has made or sends: a `T::Shared`.
pub type Made = Box<dyn Any + Send>;

/// A type that crosses.
pub trait Cross: FfiType<Shared: Send + 'static> + Send {
    /// The size of its block when it is sent alone; 0 if it needs none.
    const ALONE: usize = 0;

    fn any() -> BoxedStrategy<Value>;

    /// The size of each block that [`make`](Self::make) allocates, in its order.
    fn blocks(_: &Value) -> Vec<usize> {
        Vec::new()
    }

    /// Makes what a sender sends, in advance.
    fn make(peer: &impl Lender, value: &Value) -> Result<Self::Shared, CallError>;

    /// Sends a value of which nothing was made in advance: borrowed if possible.
    fn lend(value: &Value, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        Self::make(out, value)?.encode(wire, out)
    }

    /// The same for a value alone in a transport.
    fn lend_alone(value: &Value, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        out.send_form::<Self::Wire>(|wire, out| Self::lend(value, wire, out))
    }

    /// What a receiver reads.
    fn value(&self) -> Result<Value, CallError>;
}

/// A received value, whatever its type.
pub trait Kept: Send {
    fn value(&self) -> Result<Value, CallError>;
}

impl<T: Cross> Kept for T {
    fn value(&self) -> Result<Value, CallError> {
        Cross::value(self)
    }
}

/// A [`Cross`] type, erased.
#[derive(Clone, Copy)]
pub struct Type {
    pub id: fn() -> TypeId,
    pub name: fn() -> &'static str,
    pub handles: bool,
    pub alone: usize,
    pub any: fn() -> BoxedStrategy<Value>,
    pub blocks: fn(&Value) -> Vec<usize>,
    pub make: fn(&Peer, &Value) -> Result<Made, CallError>,
}

impl Type {
    pub const fn of<T: Cross>() -> Self {
        fn make<T: Cross>(peer: &impl Lender, value: &Value) -> Result<Made, CallError> {
            T::make(peer, value).map(|made| -> Made { Box::new(made) })
        }
        Self {
            id: TypeId::of::<T>,
            name: type_name::<T>,
            handles: T::HANDLES,
            alone: T::ALONE,
            any: T::any,
            blocks: T::blocks,
            make: make::<T>,
        }
    }

    pub fn is(&self, other: &Self) -> bool {
        (self.id)() == (other.id)()
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str((self.name)())
    }
}

/// What a client passes for one parameter.
pub enum Sent {
    Made(Made),
    Value(Value),
    /// The result of an earlier call of the same batch.
    Taken(Take),
}

/// Sends a pending result: in a parameter struct, or alone in a transport.
pub type Take = Rc<dyn Fn(Option<&mut [u8]>, &mut Outgoing<'_>) -> Result<Transport, CallError>>;

/// The same, with its type.
pub struct Arg<T>(Sent, PhantomData<T>);

impl<T> Arg<T> {
    pub fn new(sent: Option<Sent>) -> Self {
        Self(sent.expect("an argument for each parameter"), PhantomData)
    }
}

/// The `T::Shared` of a thing that was made.
pub fn unpack<T: Cross>(made: Made) -> T::Shared {
    *made.downcast().unwrap_or_else(|_| panic!("made for another type"))
}

// SAFETY: the words are those that the crate's implementations lend for `T`, through `out`.
unsafe impl<T: Cross> SendAs<T> for Arg<T> {
    fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        match self.0 {
            Sent::Made(made) => unpack::<T>(made).encode(wire, out),
            Sent::Value(value) => T::lend(&value, wire, out),
            Sent::Taken(take) => take(Some(wire), out).map(drop),
        }
    }

    fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        match self.0 {
            Sent::Made(made) => unpack::<T>(made).into_transport(out),
            Sent::Value(value) => T::lend_alone(&value, out),
            Sent::Taken(take) => take(None, out),
        }
    }
}

macro_rules! scalars {
    ($($t:ty, $alone:expr, [$($edge:expr),*], $from:expr, $to:expr;)*) => { $(
        impl Cross for $t {
            const ALONE: usize = $alone;
            fn any() -> BoxedStrategy<Value> {
                let to: fn($t) -> u128 = $to;
                let edges = prop::sample::select(vec![$(Value::Bits(to($edge))),*]);
                prop_oneof![edges, any::<$t>().prop_map(move |value| Value::Bits(to(value)))].boxed()
            }
            fn make(_: &impl Lender, value: &Value) -> Result<Self, CallError> {
                let from: fn(u128) -> $t = $from;
                Ok(from(value.bits()))
            }
            fn lend_alone(value: &Value, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
                Self::make(out, value)?.into_transport(out)
            }
            fn value(&self) -> Result<Value, CallError> {
                let to: fn($t) -> u128 = $to;
                Ok(Value::Bits(to(*self)))
            }
        }
    )* };
}

macro_rules! integers {
    ($($t:ty, $alone:expr;)*) => { scalars! { $(
        $t, $alone, [0, 1, <$t>::MAX, <$t>::MIN, <$t>::MAX / 2 + 1],
            |bits| bits as $t, |value| value as i128 as u128;
    )* } };
}

integers! {
    u8, 0; u16, 0; u32, 0; u64, 0; usize, 0; u128, 16;
    i8, 0; i16, 0; i32, 0; i64, 0; isize, 0; i128, 16;
}

scalars! {
    bool, 0, [false, true], |bits| bits == 1, u128::from;
    char, 0, ['\0', 'ä', '\u{d7ff}', '\u{e000}', char::MAX],
        |bits| char::from_u32(bits as u32).expect("a char"), |value| u32::from(value).into();
    f32, 0, [0.0, -0.0, f32::MIN, f32::INFINITY, f32::NAN, f32::from_bits(0xff80_0001)],
        |bits| f32::from_bits(bits as u32), |value| value.to_bits().into();
    f64, 0, [0.0, -0.0, f64::MIN, f64::INFINITY, f64::NAN, f64::from_bits(u64::MAX >> 12 | 1 << 63)],
        |bits| f64::from_bits(bits as u64), |value| value.to_bits().into();
}

impl Cross for () {
    fn any() -> BoxedStrategy<Value> {
        Just(Value::List(Vec::new())).boxed()
    }
    fn make(_: &impl Lender, _: &Value) -> Result<(), CallError> {
        Ok(())
    }
    fn value(&self) -> Result<Value, CallError> {
        Ok(Value::List(Vec::new()))
    }
}

impl<T: Cross> Cross for Option<T> {
    const ALONE: usize = if T::NULLABLE { 0 } else { size_of::<Self::Wire>() };

    fn any() -> BoxedStrategy<Value> {
        let some = T::any().prop_map(|value| Value::Maybe(Some(Box::new(value))));
        prop_oneof![1 => Just(Value::Maybe(None)), 2 => some].boxed()
    }
    fn blocks(value: &Value) -> Vec<usize> {
        value.maybe().map_or_else(Vec::new, T::blocks)
    }
    fn make(peer: &impl Lender, value: &Value) -> Result<Self::Shared, CallError> {
        value.maybe().map(|value| T::make(peer, value)).transpose()
    }
    fn lend(value: &Value, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        value.maybe().map(borrowed::<T>).encode(wire, out)
    }
    fn lend_alone(value: &Value, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        value.maybe().map(borrowed::<T>).into_transport(out)
    }
    fn value(&self) -> Result<Value, CallError> {
        let value = self.as_ref().map(Cross::value).transpose()?;
        Ok(Value::Maybe(value.map(Box::new)))
    }
}

fn borrowed<T: Cross>(value: &Value) -> Arg<T> {
    Arg(Sent::Value(value.clone()), PhantomData)
}

impl<T: Cross, const N: usize> Cross for [T; N] {
    const ALONE: usize = size_of::<Self::Wire>();

    fn any() -> BoxedStrategy<Value> {
        prop::collection::vec(T::any(), N).prop_map(Value::List).boxed()
    }
    fn blocks(value: &Value) -> Vec<usize> {
        value.list().iter().flat_map(T::blocks).collect()
    }
    fn make(peer: &impl Lender, value: &Value) -> Result<Self::Shared, CallError> {
        let all: Result<Vec<_>, _> =
            value.list().iter().map(|value| T::make(peer, value)).collect();
        Ok(all?.try_into().unwrap_or_else(|_| panic!("{value:?} has {N} elements")))
    }
    fn lend(value: &Value, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        std::array::from_fn::<_, N, _>(|nr| borrowed::<T>(&value.list()[nr])).encode(wire, out)
    }
    fn value(&self) -> Result<Value, CallError> {
        self.iter().map(Cross::value).collect::<Result<_, _>>().map(Value::List)
    }
}

impl<A: Cross, B: Cross> Cross for (A, B) {
    const ALONE: usize = size_of::<Self::Wire>();

    fn any() -> BoxedStrategy<Value> {
        (A::any(), B::any()).prop_map(|(a, b)| Value::List(vec![a, b])).boxed()
    }
    fn blocks(value: &Value) -> Vec<usize> {
        [A::blocks(&value.list()[0]), B::blocks(&value.list()[1])].concat()
    }
    fn make(peer: &impl Lender, value: &Value) -> Result<Self::Shared, CallError> {
        Ok((A::make(peer, &value.list()[0])?, B::make(peer, &value.list()[1])?))
    }
    fn lend(value: &Value, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        (borrowed::<A>(&value.list()[0]), borrowed::<B>(&value.list()[1])).encode(wire, out)
    }
    fn value(&self) -> Result<Value, CallError> {
        Ok(Value::List(vec![self.0.value()?, self.1.value()?]))
    }
}

/// A plain type, which is sent as itself.
pub trait Simple: Cross + Plain + FfiType<Shared = Self> {}

impl<T: Cross + Plain + FfiType<Shared = T>> Simple for T {}

impl<T: Simple> Cross for Foreign<T> {
    fn any() -> BoxedStrategy<Value> {
        T::any()
    }
    fn blocks(_: &Value) -> Vec<usize> {
        vec![size_of::<T::Wire>()]
    }
    fn make(peer: &impl Lender, value: &Value) -> Result<Shared<T>, CallError> {
        Shared::new(peer, T::make(peer, value)?)
    }
    fn lend_alone(value: &Value, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        Self::make(out, value)?.into_transport(out)
    }
    fn value(&self) -> Result<Value, CallError> {
        let first = self.read()?.value();
        assert_eq!(first, self.read()?.value(), "a handle can be read again");
        first
    }
}

/// Bytes of many lengths: short ones, around granules, some KiB, and more than the smallest arena has.
pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let edge = vec![63_usize, 64, 65, 127, 128, 129, 1024, 4032, 4095, 4096, 4097, 5000];
    let len = prop_oneof![
        2 => Just(0),
        8 => 1_usize..=64,
        3 => 65_usize..=300,
        1 => 301_usize..=3000,
        1 => prop::sample::select(edge),
    ];
    (len, any::<u8>()).prop_map(|(len, first)| {
        (0..len).map(|nr| first.wrapping_add((nr * 7 + nr / 256) as u8)).collect()
    })
}

impl Cross for ForeignBuf {
    fn any() -> BoxedStrategy<Value> {
        bytes().prop_map(Value::Bytes).boxed()
    }
    fn blocks(value: &Value) -> Vec<usize> {
        Some(value.bytes().len()).filter(|len| *len > 0).into_iter().collect()
    }
    fn make(peer: &impl Lender, value: &Value) -> Result<SharedBuf, CallError> {
        SharedBuf::copy_from(peer, value.bytes())
    }
    fn lend(value: &Value, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        SendAs::<Self>::encode(value.bytes(), wire, out)
    }
    fn lend_alone(value: &Value, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        SendAs::<Self>::into_transport(value.bytes(), out)
    }
    /// All readers agree.
    fn value(&self) -> Result<Value, CallError> {
        let all = self.read_vec();
        let len = self.len();
        let part = |from: usize, to: usize| all.clone().map(|all| all[from..to].to_vec());

        let mut out = [0; 70];
        let most = len.min(70);
        assert_eq!(self.read_into(&mut out).map(|out| out.to_vec()), part(0, most));
        let from = len / 3;
        let mut out = vec![0; len - from];
        assert_eq!(self.read_at(from, &mut out).map(|()| out), part(from, len));
        let outside = self.read_at(len, &mut [0]).expect_err("a byte too many");
        assert_eq!(outside.kind(), ErrorKind::BadPointer);
        let mut more = vec![9];
        assert_eq!(self.append_to(&mut more).map(|()| more.split_off(1)), all);
        assert_eq!(more, [9]);
        let mut read = Vec::new();
        assert_eq!(self.reader().read_to_end(&mut read).is_ok(), all.is_ok());
        // SAFETY: the peer is honest, and there is no reset before the end of the statement.
        assert_eq!(unsafe { self.as_slice_unchecked() }.map(<[u8]>::to_vec), all);
        if let Ok(all) = &all {
            assert_eq!(read, *all);
        }
        all.map(Value::Bytes)
    }
}

/// Some characters, of one to four bytes each, possibly repeated.
pub fn text() -> impl Strategy<Value = String> {
    let short = prop::collection::vec(any::<char>(), 0..8).prop_map(String::from_iter);
    let times = prop_oneof![8 => Just(1), 1 => 2_usize..60];
    (short, times).prop_map(|(text, times)| text.repeat(times))
}

impl Cross for ForeignStr {
    fn any() -> BoxedStrategy<Value> {
        text().prop_map(Value::Text).boxed()
    }
    fn blocks(value: &Value) -> Vec<usize> {
        Some(value.text().len()).filter(|len| *len > 0).into_iter().collect()
    }
    fn make(peer: &impl Lender, value: &Value) -> Result<SharedStr, CallError> {
        SharedStr::copy_from(peer, value.text())
    }
    fn lend(value: &Value, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        SendAs::<Self>::encode(value.text(), wire, out)
    }
    fn lend_alone(value: &Value, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        SendAs::<Self>::into_transport(value.text(), out)
    }
    fn value(&self) -> Result<Value, CallError> {
        let all = self.read_string();
        let mut out = vec![0; self.len()];
        assert_eq!(self.read_into(&mut out).map(str::to_owned), all);
        // SAFETY: the peer is honest, and there is no reset before the end of the statement.
        assert_eq!(unsafe { self.as_str_unchecked() }.map(str::to_owned), all);
        all.map(Value::Text)
    }
}

impl<T: Simple + Clone> Cross for ForeignSlice<T> {
    fn any() -> BoxedStrategy<Value> {
        let values = prop_oneof![
            4 => prop::collection::vec(T::any(), 0..6),
            1 => prop::collection::vec(T::any(), 6..90),
        ];
        values.prop_map(Value::List).boxed()
    }
    fn blocks(value: &Value) -> Vec<usize> {
        let len = value.list().len() * size_of::<T::Wire>();
        Some(len).filter(|len| *len > 0).into_iter().collect()
    }
    fn make(peer: &impl Lender, value: &Value) -> Result<SharedSlice<T>, CallError> {
        SharedSlice::copy_from(peer, &values::<T>(peer, value)?)
    }
    fn lend(value: &Value, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        SendAs::<Self>::encode(&values::<T>(out, value)?[..], wire, out)
    }
    fn lend_alone(value: &Value, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        SendAs::<Self>::into_transport(&values::<T>(out, value)?[..], out)
    }
    fn value(&self) -> Result<Value, CallError> {
        let of = |values: &[T]| values.iter().map(Cross::value).collect::<Result<Vec<_>, _>>();
        let all = self.read_vec().and_then(|all| of(&all));
        let one_by_one: Result<Vec<T>, _> = self.iter().collect();
        assert_eq!(one_by_one.and_then(|all| of(&all)), all);
        assert!(matches!(self.get(self.len()), Ok(None)));
        if let Ok(Some(first)) = self.get(0) {
            let mut out = vec![first; self.len() + 1];
            assert_eq!(self.read_into(&mut out).and_then(|all| of(all)), all);
        }
        all.map(Value::List)
    }
}

fn values<T: Simple>(peer: &impl Lender, value: &Value) -> Result<Vec<T>, CallError> {
    value.list().iter().map(|value| T::make(peer, value)).collect()
}
