//! What may cross, and as which bytes (ABI, "Types").
//!
//! A value crosses in one of two forms: in a [`Transport`], or as a *wire form*, the bytes of its
//! *wire twin* at some place in memory. Bytes of the peer are copied into local memory before they
//! come here; every bit pattern is judged here.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    abi::{Answer, Function, Hasher, Transport, pointer},
    error::{CallError, Failure, Why},
    memory::Memory,
    peer::{Incoming, Outgoing, Peer},
};

/// A wire twin: a type that has the layout of a wire form, and that any bytes are a value of.
pub trait Wire: FromBytes + Immutable + Copy + 'static {}

impl<T: FromBytes + Immutable + Copy + 'static> Wire for T {}

macro_rules! words {
    ($($name:ident $size:literal $what:literal),*) => { $(
        #[doc = concat!("The wire twin of ", $what, ": ", $size, " bytes, aligned to as many on every target.")]
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C, align($size))]
        pub struct $name([u8; $size]);
    )* };
}

words! {
    W8 1 "`u8`, `i8` and `bool`",
    W16 2 "`u16` and `i16`",
    W32 4 "`u32`, `i32`, `f32` and `char`",
    W64 8 "`u64`, `i64`, `usize`, `isize`, `f64` and a pointer word",
    W128 16 "`u128` and `i128`"
}

/// The wire twin of a buffer, string or slice: a pointer word and a byte count.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WBuf {
    /// The pointer word.
    pub word: W64,
    /// The byte count.
    pub len: W64,
}

/// The wire twin of an `Option` that has no null pointer to say `None` with: `{ tag: u32, value }`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tagged<W> {
    /// 0 for `None`, 1 for `Some`.
    pub tag: W32,
    /// The value, zeros for `None`.
    pub value: W,
}

/// A type that an interface may name: as its receiver sees it.
///
/// Declared structs and enums implement it through [`ffi_interface!`](crate::ffi_interface); it is
/// not meant to be implemented by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot cross between guest and host",
    label = "not a type that `ffi_interface!` can send",
    note = "use a scalar, a `struct` or `enum` declared in `ffi_interface!`, `Foreign<T>`, `ForeignBuf`, `ForeignStr`, `ForeignSlice<T>`, or an `Option` of one"
)]
pub trait FfiType: Sized + 'static {
    /// The wire twin.
    type Wire: Wire;
    /// The wire twin of `Option<Self>`.
    type OptionWire: Wire;
    /// What a sender gives for it where the type must be named: in a handler's result, or in a field.
    type Shared: SendAs<Self>;
    /// The hash of the type's name and layout (ABI, "Signatures").
    const HASH: u64;
    /// Whether it owns memory of the peer.
    const HANDLES: bool;
    /// Whether a null pointer word says `None`.
    const NULLABLE: bool = false;

    /// Judges a copy of the wire form, `size_of::<Self::Wire>()` bytes long.
    ///
    /// # Errors
    ///
    /// [`Why::BadValue`] and [`Why::BadPointer`]; what it owned is given back.
    fn decode(wire: &[u8], from: Incoming<'_>) -> Result<Self, CallError>;

    /// Judges the value where it is alone in a transport. By default the primary is the pointer of a
    /// wire form, which is copied and given back.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    fn from_transport(transport: Transport, from: Incoming<'_>) -> Result<Self, CallError> {
        copied::<Self::Wire, _>(transport, from, |wire| Self::decode(wire, from))
    }

    /// Writes a plain value's wire form over zeros. Only called for [`Plain`] types; handles, which
    /// are not, write nothing.
    #[doc(hidden)]
    fn write(&self, wire: &mut [u8]);
}

/// A type without handles: it can be written any number of times, and crosses as it is.
#[diagnostic::on_unimplemented(
    message = "`{Self}` holds handles, or cannot cross between guest and host at all",
    label = "not a plain type",
    note = "`Foreign<T>` and `ForeignSlice<T>` take scalars, and structs and enums of scalars; pass a struct with handle fields by itself"
)]
pub trait Plain: FfiType {
    /// Writes wire forms one behind the other, over zeros.
    #[doc(hidden)]
    fn write_all(values: &[Self], wire: &mut [u8]) {
        let size = size_of::<Self::Wire>();
        for (value, wire) in values.iter().zip(wire.chunks_exact_mut(size)) {
            value.write(wire);
        }
    }

    /// Judges wire forms that lie one behind the other.
    #[doc(hidden)]
    fn read_all(wire: &[u8], values: &mut [Self], from: Incoming<'_>) -> Result<(), CallError> {
        let size = size_of::<Self::Wire>();
        for (value, wire) in values.iter_mut().zip(wire.chunks_exact(size)) {
            *value = Self::decode(wire, from)?;
        }
        Ok(())
    }
}

/// What may be given where a declaration says `T`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent where the declaration says `{T}`",
    label = "not what the declaration says"
)]
pub trait SendAs<T: FfiType>: Sized {
    /// Writes the wire form over zeros, and lends what it owns.
    ///
    /// # Errors
    ///
    /// [`Why::OutOfMemory`], or [`Why::BadPointer`] for a handle of another connection.
    fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError>;

    /// The value where it is alone in a transport. By default a wire form in a block of its own.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        out.lend_wire::<T::Wire>(|wire, out| self.encode(wire, out))
    }
}

/// A function's parameters as they lie in memory: generated for each function, `#[repr(C)]`, named
/// `Params` + interface + function, with the wire twin of each parameter as a field.
///
/// # Safety
///
/// The type is `#[repr(C)]`, and any bytes are a value of it.
pub unsafe trait Unpackable: Copy + 'static {
    /// The owned values.
    type Output;

    /// Makes owned values from a copy of the struct, `size_of::<Self>()` bytes long. Every field is
    /// judged before the first bad one is reported, and then the others are dropped, that is, given
    /// back.
    ///
    /// # Errors
    ///
    /// The first bad field.
    fn unpack(wire: &[u8], from: Incoming<'_>) -> Result<Self::Output, CallError>;
}

/// Takes the parameters of a call out of the caller's memory: copies the struct once, gives its
/// memory back, and unpacks the copy.
#[doc(hidden)]
#[inline]
pub fn receive<P: Unpackable>(
    transport: Transport,
    from: Incoming<'_>,
) -> Result<P::Output, CallError> {
    copied::<P, _>(transport, from, |wire| P::unpack(wire, from))
}

/// Calls `judge` with a local copy of a `W` that lies in the peer's memory.
#[inline]
fn copied<W: Copy, R>(
    transport: Transport,
    from: Incoming<'_>,
    judge: impl FnOnce(&[u8]) -> Result<R, CallError>,
) -> Result<R, CallError> {
    no_secondary(transport)?;
    let mut local = Local::<W>::zeroed();
    let size = size_of::<W>();
    if size == 0 {
        <()>::from_transport(transport, from)?;
    } else {
        let memory: &Memory = from.memory;
        let word = transport.primary;
        let offset = memory.check(from.side, word, size as u64, align_of::<W>() as u64)?;
        // SAFETY: checked on the line above.
        unsafe { memory.copy_out(offset, local.bytes_mut().as_mut_ptr(), size) };
        memory.give_back(from.side, word);
    }
    judge(local.bytes())
}

/// Local memory for a wire form.
pub(crate) struct Local<W>(core::mem::MaybeUninit<W>);

impl<W: Copy> Local<W> {
    #[inline]
    pub(crate) fn zeroed() -> Self {
        Self(core::mem::MaybeUninit::zeroed())
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: every byte was zeroed, and only bytes were written since: all are initialised.
        unsafe { core::slice::from_raw_parts(self.0.as_ptr().cast(), size_of::<W>()) }
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; the value is only ever seen as bytes.
        unsafe { core::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), size_of::<W>()) }
    }
}

#[inline]
pub(crate) fn no_secondary(transport: Transport) -> Result<(), CallError> {
    if transport.secondary == 0 { Ok(()) } else { Err(CallError::new(Why::BadValue)) }
}

/// Reads a little-endian word out of a wire form.
macro_rules! read {
    ($t:ty, $wire:expr) => {
        match <$t>::read_from_bytes($wire) {
            Ok(value) => value,
            Err(_) => return Err(CallError::new(Why::BadValue)),
        }
    };
}

/// What every type of the table has that is neither a handle nor declared by a user.
macro_rules! plain {
    ($($t:ty),*) => { $(
        impl SendAs<$t> for $t {
            #[inline]
            fn encode(self, wire: &mut [u8], _: &mut Outgoing<'_>) -> Result<(), CallError> {
                self.write(wire);
                Ok(())
            }
            #[inline]
            fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
                InTransport::put(self, out)
            }
        }
        impl From<$t> for Failure<$t> {
            fn from(error: $t) -> Self {
                Self::App(error)
            }
        }
    )* };
}

/// How a scalar travels when it is alone.
trait InTransport: Sized {
    fn put(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError>;
}

/// Integers and floats: `$bits` is the integer with the same bits, `$wide` what fills a register.
macro_rules! numbers {
    ($($t:ident $w:ident $bits:ident $wide:ident)*) => { $(
        impl FfiType for $t {
            type Wire = $w;
            type OptionWire = Tagged<$w>;
            type Shared = Self;
            const HASH: u64 = Hasher::new(stringify!($t)).finish();
            const HANDLES: bool = false;
            #[inline]
            fn decode(wire: &[u8], _: Incoming<'_>) -> Result<Self, CallError> {
                Ok(read!($t, wire))
            }
            #[inline]
            fn from_transport(transport: Transport, _: Incoming<'_>) -> Result<Self, CallError> {
                let bits = transport.primary as $bits;
                no_secondary(transport)?;
                if bits as $wide as u64 == transport.primary {
                    Ok(bytemuck::cast(bits))
                } else {
                    Err(CallError::new(Why::BadValue))
                }
            }
            #[inline]
            fn write(&self, wire: &mut [u8]) {
                wire.copy_from_slice(bytemuck::bytes_of(self));
            }
        }
        impl Plain for $t {
            fn write_all(values: &[Self], wire: &mut [u8]) {
                wire.copy_from_slice(bytemuck::cast_slice(values));
            }
            fn read_all(wire: &[u8], values: &mut [Self], _: Incoming<'_>) -> Result<(), CallError> {
                bytemuck::cast_slice_mut(values).copy_from_slice(wire);
                Ok(())
            }
        }
        impl InTransport for $t {
            #[inline]
            fn put(self, _: &mut Outgoing<'_>) -> Result<Transport, CallError> {
                Ok(Transport::word(bytemuck::cast::<$t, $bits>(self) as $wide as u64))
            }
        }
        plain!($t);
    )* };
}

numbers! {
    u8 W8 u8 u64
    u16 W16 u16 u64
    u32 W32 u32 u64
    u64 W64 u64 u64
    i8 W8 i8 i64
    i16 W16 i16 i64
    i32 W32 i32 i64
    i64 W64 i64 i64
    f32 W32 u32 u64
    f64 W64 u64 u64
}

/// Types that cross as another one: `$to` always works, `$from` judges.
macro_rules! through {
    ($($t:ident as $as:ident: $to:expr, $from:expr;)*) => { $(
        impl FfiType for $t {
            type Wire = <$as as FfiType>::Wire;
            type OptionWire = Tagged<Self::Wire>;
            type Shared = Self;
            const HASH: u64 = Hasher::new(stringify!($t)).finish();
            const HANDLES: bool = false;
            #[inline]
            fn decode(wire: &[u8], _: Incoming<'_>) -> Result<Self, CallError> {
                $from(read!($as, wire)).ok_or(CallError::new(Why::BadValue))
            }
            #[inline]
            fn from_transport(transport: Transport, from: Incoming<'_>) -> Result<Self, CallError> {
                $from($as::from_transport(transport, from)?).ok_or(CallError::new(Why::BadValue))
            }
            #[inline]
            fn write(&self, wire: &mut [u8]) {
                $as::write(&$to(*self), wire);
            }
        }
        impl Plain for $t {}
        impl InTransport for $t {
            #[inline]
            fn put(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
                $to(self).put(out)
            }
        }
        plain!($t);
    )* };
}

through! {
    usize as u64: |value| value as u64, |value: u64| usize::try_from(value).ok();
    isize as i64: |value| value as i64, |value: i64| isize::try_from(value).ok();
    bool as u8: u8::from, |value: u8| match value { 0 => Some(false), 1 => Some(true), _ => None };
    char as u32: u32::from, char::from_u32;
}

/// 16 bytes fit no register: alone, they cross as a wire form.
macro_rules! wide {
    ($($t:ident)*) => { $(
        impl FfiType for $t {
            type Wire = W128;
            type OptionWire = Tagged<W128>;
            type Shared = Self;
            const HASH: u64 = Hasher::new(stringify!($t)).finish();
            const HANDLES: bool = false;
            #[inline]
            fn decode(wire: &[u8], _: Incoming<'_>) -> Result<Self, CallError> {
                Ok(read!($t, wire))
            }
            #[inline]
            fn write(&self, wire: &mut [u8]) {
                wire.copy_from_slice(bytemuck::bytes_of(self));
            }
        }
        impl Plain for $t {}
        impl InTransport for $t {
            fn put(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
                out.lend_wire::<Self>(|wire, _| {
                    self.write(wire);
                    Ok(())
                })
            }
        }
        plain!($t);
    )* };
}

wide!(u128 i128);

impl FfiType for () {
    type Wire = ();
    type OptionWire = Tagged<()>;
    type Shared = Self;
    const HASH: u64 = Hasher::new("()").finish();
    const HANDLES: bool = false;
    #[inline]
    fn decode(_: &[u8], _: Incoming<'_>) -> Result<Self, CallError> {
        Ok(())
    }
    #[inline]
    fn from_transport(transport: Transport, _: Incoming<'_>) -> Result<Self, CallError> {
        if transport == Transport::EMPTY { Ok(()) } else { Err(CallError::new(Why::BadValue)) }
    }
    fn write(&self, _: &mut [u8]) {}
}

impl Plain for () {}

impl InTransport for () {
    #[inline]
    fn put(self, _: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        Ok(Transport::EMPTY)
    }
}

plain!(());

/// Where the value of a [`Tagged`] lies.
const fn tagged<W>() -> (usize, usize) {
    let start = memoffset::offset_of!(Tagged<W>, value);
    (start, start + size_of::<W>())
}

impl<T: FfiType> FfiType for Option<T> {
    type Wire = T::OptionWire;
    type OptionWire = Tagged<T::OptionWire>;
    type Shared = Option<T::Shared>;
    const HASH: u64 = Hasher::new("Option").u64(T::HASH).finish();
    const HANDLES: bool = T::HANDLES;

    fn decode(wire: &[u8], from: Incoming<'_>) -> Result<Self, CallError> {
        if T::NULLABLE {
            let word = read!(u64, wire.get(..8).unwrap_or_default());
            return if word == 0 { none_is_empty(wire) } else { T::decode(wire, from).map(Some) };
        }
        let (start, end) = tagged::<T::Wire>();
        let value = wire.get(start..end).unwrap_or_default();
        match read!(u32, wire.get(..4).unwrap_or_default()) {
            0 => Ok(None),
            1 => T::decode(value, from).map(Some),
            _ => Err(CallError::new(Why::BadValue)),
        }
    }

    fn from_transport(transport: Transport, from: Incoming<'_>) -> Result<Self, CallError> {
        if !T::NULLABLE {
            return copied::<Self::Wire, _>(transport, from, |wire| Self::decode(wire, from));
        }
        if transport.primary != 0 {
            return T::from_transport(transport, from).map(Some);
        }
        no_secondary(transport).map(|()| None)
    }

    fn write(&self, wire: &mut [u8]) {
        // Handles write nothing, and the others are tagged.
        if let (Some(value), false) = (self, T::NULLABLE) {
            let (start, end) = tagged::<T::Wire>();
            if let Some(tag) = wire.get_mut(..4) {
                1_u32.write(tag);
            }
            if let Some(wire) = wire.get_mut(start..end) {
                value.write(wire);
            }
        }
    }
}

/// `None` of a buffer has no byte count either.
fn none_is_empty<T>(wire: &[u8]) -> Result<Option<T>, CallError> {
    if wire.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(CallError::new(Why::BadValue)) }
}

impl<T: Plain> Plain for Option<T> {}

impl<T: FfiType, S: SendAs<T>> SendAs<Option<T>> for Option<S> {
    fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        let Some(value) = self else { return Ok(()) };
        if T::NULLABLE {
            value.encode(wire, out)?;
            if let Some(word) = wire.get_mut(..8) {
                if word.iter().all(|byte| *byte == 0) {
                    pointer::EMPTY.write(word);
                }
            }
            return Ok(());
        }
        let (start, end) = tagged::<T::Wire>();
        if let Some(tag) = wire.get_mut(..4) {
            1_u32.write(tag);
        }
        value.encode(wire.get_mut(start..end).unwrap_or_default(), out)
    }

    fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError> {
        if !T::NULLABLE {
            return out.lend_wire::<T::OptionWire>(|wire, out| self.encode(wire, out));
        }
        let Some(value) = self else { return Ok(Transport::EMPTY) };
        let mut transport = value.into_transport(out)?;
        if transport.primary == 0 {
            transport.primary = pointer::EMPTY;
        }
        Ok(transport)
    }
}

/// What a function may return: an [`FfiType`], or a `Result` of two.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned between guest and host",
    note = "return a type that can be a parameter, or a `Result` of two of them"
)]
pub trait FfiReturn: Sized {
    /// What the handler returns: what the sender of a value gives, or a failure.
    type Handled;
    /// What the client returns: the value, or the same failure.
    type Received;
    /// The hash of the type (ABI, "Signatures").
    const HASH: u64;

    /// Turns a handler's result into an answer.
    ///
    /// # Errors
    ///
    /// Those of the handler, and those of sending its value.
    #[doc(hidden)]
    fn answer(handled: Self::Handled, out: &mut Outgoing<'_>) -> Result<Answer, CallError>;

    /// Turns an answer into a client's result.
    #[doc(hidden)]
    fn receive(answer: Answer, from: Incoming<'_>) -> Result<Self, CallError>;

    /// Puts the failure of the call beside the declared one.
    #[doc(hidden)]
    fn received(result: Result<Self, CallError>) -> Self::Received;
}

impl<T: FfiType> FfiReturn for T {
    type Handled = Result<T::Shared, CallError>;
    type Received = Result<T, CallError>;
    const HASH: u64 = T::HASH;

    #[inline]
    fn answer(handled: Self::Handled, out: &mut Outgoing<'_>) -> Result<Answer, CallError> {
        Ok(Answer { status: 0, transport: handled?.into_transport(out)? })
    }

    #[inline]
    fn receive(answer: Answer, from: Incoming<'_>) -> Result<Self, CallError> {
        let Answer { status, transport } = answer;
        match status {
            0 => T::from_transport(transport, from),
            // This function declares no error of its own.
            _ => Err(CallError::new(Why::Protocol)),
        }
    }

    #[inline]
    fn received(result: Result<Self, CallError>) -> Self::Received {
        result
    }
}

impl<T: FfiType, E: FfiType> FfiReturn for Result<T, E> {
    type Handled = Result<T::Shared, Failure<E::Shared>>;
    type Received = Result<T, Failure<E>>;
    const HASH: u64 = Hasher::new("Result").u64(T::HASH).u64(E::HASH).finish();

    #[inline]
    fn answer(handled: Self::Handled, out: &mut Outgoing<'_>) -> Result<Answer, CallError> {
        match handled {
            Ok(value) => Ok(Answer { status: 0, transport: value.into_transport(out)? }),
            Err(Failure::App(error)) => {
                Ok(Answer { status: 1, transport: error.into_transport(out)? })
            }
            Err(Failure::Call(error)) => Err(error),
        }
    }

    #[inline]
    fn receive(answer: Answer, from: Incoming<'_>) -> Result<Self, CallError> {
        let Answer { status, transport } = answer;
        match status {
            0 => T::from_transport(transport, from).map(Ok),
            _ => E::from_transport(transport, from).map(Err),
        }
    }

    #[inline]
    fn received(result: Result<Self, CallError>) -> Self::Received {
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Failure::App(error)),
            Err(error) => Err(Failure::Call(error)),
        }
    }
}

/// The rule that a wire form's layout follows (ABI, "Layout"): each field at the next multiple of its
/// alignment, the whole a multiple of the largest. Checks that the compiler has done the same.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    size: usize,
    align: usize,
}

#[doc(hidden)]
impl Rule {
    #[allow(clippy::new_without_default, reason = "a default cannot be made in a constant")]
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, align: 1 }
    }

    #[must_use]
    pub const fn field<T: FfiType>(self, offset: usize) -> Self {
        let align = align_of::<T::Wire>();
        let at = self.size.next_multiple_of(align);
        assert!(at == offset, "a field does not lie where the ABI says");
        Self {
            size: at + size_of::<T::Wire>(),
            align: if align > self.align { align } else { self.align },
        }
    }

    pub const fn check<W>(self) {
        assert!(align_of::<W>() == self.align, "a wire form is not aligned as the ABI says");
        let size = self.size.next_multiple_of(self.align);
        assert!(size_of::<W>() == size, "a wire form is not as long as the ABI says");
    }
}

/// Begins the hash of a declared type.
#[doc(hidden)]
#[must_use]
pub const fn hash_of<W>(kind: &str, name: &str) -> Hasher {
    Hasher::new(kind).name(name).u64(size_of::<W>() as u64).u64(align_of::<W>() as u64)
}

/// The signature of a function (ABI, "Signatures").
#[doc(hidden)]
#[must_use]
pub const fn signature(interface: &str, name: &str, parameters: &[u64], returned: u64) -> u64 {
    let mut hash = Hasher::new("fn").name(interface).name(name).u64(parameters.len() as u64);
    let mut i = 0;
    while i < parameters.len() {
        hash = hash.u64(parameters[i]);
        i += 1;
    }
    hash.u64(returned).finish()
}

/// Judges the field at an offset of a wire form.
#[doc(hidden)]
#[inline]
pub fn field<T: FfiType>(
    wire: &[u8],
    at: usize,
    name: &'static str,
    from: Incoming<'_>,
) -> Result<T, CallError> {
    let wire = wire.get(at..at + size_of::<T::Wire>()).unwrap_or_default();
    T::decode(wire, from).map_err(|error| error.in_field(name))
}

/// Writes a plain field at an offset of a wire form.
#[doc(hidden)]
#[inline]
pub fn write<T: FfiType>(value: &T, wire: &mut [u8], at: usize) {
    if let Some(wire) = wire.get_mut(at..at + size_of::<T::Wire>()) {
        value.write(wire);
    }
}

/// Writes what is sent for a field at an offset of a wire form.
#[doc(hidden)]
#[inline]
pub fn put<T: FfiType, S: SendAs<T>>(
    value: S,
    wire: &mut [u8],
    at: usize,
    out: &mut Outgoing<'_>,
) -> Result<(), CallError> {
    value.encode(wire.get_mut(at..at + size_of::<T::Wire>()).unwrap_or_default(), out)
}

/// What a call without parameters sends.
#[doc(hidden)]
#[inline]
pub fn nothing() -> Result<Transport, CallError> {
    Ok(Transport::EMPTY)
}

/// Judges the only parameter of a call.
#[doc(hidden)]
#[inline]
pub fn alone<T: FfiType>(
    transport: Transport,
    from: Incoming<'_>,
    name: &'static str,
) -> Result<(T,), CallError> {
    match T::from_transport(transport, from) {
        Ok(value) => Ok((value,)),
        Err(error) => Err(error.in_field(name)),
    }
}

/// `A` or `B`, by a constant.
#[doc(hidden)]
#[derive(Debug)]
pub struct Bool<const B: bool>;

#[doc(hidden)]
pub trait Pick<A, B> {
    type Out;
}

impl<A, B> Pick<A, B> for Bool<false> {
    type Out = A;
}

impl<A, B> Pick<A, B> for Bool<true> {
    type Out = B;
}

/// `for<'x> Flag<'x, HANDLES>: NoHandles` is a bound that may be false where it stands without being
/// an error there, because it has a lifetime in it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Flag<'x, const B: bool>(core::marker::PhantomData<&'x ()>);

#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "this struct holds handles, so it is no plain value",
    label = "holds handles",
    note = "its sender gives the twin whose name begins with `Shared`; `Foreign<T>` and `ForeignSlice<T>` take plain types only"
)]
pub trait NoHandles {}

impl NoHandles for Flag<'_, false> {}

/// The client's half of a call. What is not for a call that succeeds is kept out of it, so that the
/// rest is small enough for every caller: no result passes through memory.
#[doc(hidden)]
#[inline(always)]
pub fn finish<R: FfiReturn>(
    out: &mut Outgoing<'_>,
    function: &'static Function,
    transport: Result<Transport, CallError>,
) -> R::Received {
    let transport = match transport {
        Ok(transport) => transport,
        Err(error) => return R::received(Err(unsent(out, function, error))),
    };
    let peer = out.peer();
    let mut status = 0;
    let transport = peer.exchange(function.signature, transport, &mut status);
    if status > 1 {
        return R::received(Err(failed(out, function, status)));
    }
    out.arrived();
    match R::receive(Answer { status, transport }, peer.incoming()) {
        Ok(received) => R::received(Ok(received)),
        Err(error) => R::received(Err(bad_answer(peer, function, error))),
    }
}

/// The call was never made: everything lent comes back when `out` is dropped.
#[cold]
#[inline(never)]
fn unsent(out: &mut Outgoing<'_>, function: &'static Function, error: CallError) -> CallError {
    error.on(out.peer().side()).in_function(function)
}

/// The peer, or the way to it, says that the call failed. Where its function was not reached,
/// everything lent comes back when `out` is dropped.
#[cold]
#[inline(never)]
fn failed(out: &mut Outgoing<'_>, function: &'static Function, status: u64) -> CallError {
    let error = CallError::from_status(status).on(out.peer().side().other());
    if error.reached() {
        out.arrived();
    }
    error.in_function(function)
}

/// The answer is none of this function's.
#[cold]
#[inline(never)]
fn bad_answer(peer: &Peer, function: &'static Function, error: CallError) -> CallError {
    error.reached_handler().on(peer.side()).in_function(function)
}

/// The server's half of a call, behind its handler.
#[doc(hidden)]
#[inline]
pub fn answer<R: FfiReturn>(
    peer: &Peer,
    function: &'static Function,
    handled: R::Handled,
    status: &mut u64,
) -> Transport {
    let mut out = peer.outgoing();
    match R::answer(handled, &mut out) {
        Ok(answer) => {
            if answer.status != 0 {
                *status = answer.status;
            }
            out.arrived();
            answer.transport
        }
        Err(error) => refuse(error.reached_handler(), peer, function, status),
    }
}

/// The end of a call that this side refuses or fails.
#[doc(hidden)]
#[cold]
#[inline(never)]
pub fn refuse(
    error: CallError,
    peer: &Peer,
    function: &'static Function,
    status: &mut u64,
) -> Transport {
    let answer = peer.core().refuse(error.in_function(function));
    *status = answer.status;
    answer.transport
}
