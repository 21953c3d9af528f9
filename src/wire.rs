//! What may cross, and as which bytes (ABI, "Types").
//!
//! A value crosses in one of two forms: in a [`Transport`], or as a *wire form*, the bytes of its
//! *wire twin* at some place in memory. Bytes of the peer are copied into local memory before they
//! come here; every bit pattern is judged here.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    abi::Transport,
    error::{CallError, Why},
    memory::{Memory, stale},
    peer::{Incoming, Outgoing},
    shape::Shape,
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
/// not meant to be implemented by hand. A *wire form* is the bytes of a value as they lie in memory; a
/// *wire twin* is a type with its size and alignment that any bytes are a value of.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot cross between guest and host",
    label = "not a type that `ffi_interface!` can send",
    note = "what crosses is a scalar, a `struct` or `enum` that is declared in `ffi_interface!`, `Foreign<T>`, `ForeignBuf`, `ForeignStr`, `ForeignSlice<T>`, or an `Option` of one",
    note = "for `&str` and `String` write `ForeignStr`, for `&[u8]` and `Vec<u8>` `ForeignBuf`, for other slices and vectors `ForeignSlice<T>`, for `&T` and `Box<T>` `Foreign<T>`; a `Result` can only be returned, and a sender's `Shared..` is declared as `Foreign..`"
)]
///
/// # Safety
///
/// In a loopback both sides are one program, so a forged pointer word is a second reference to memory that is written.
/// Therefore:
///
/// - [`decode`](Self::decode) and [`from_transport`](Self::from_transport) make handles out of the pointer words of
///   the `wire` or the `transport` that they are given, of each word at most once, and use `from` for nothing else.
/// - Two types with equal `SHAPE`s have the same wire form, with pointer words at the same places.
pub unsafe trait FfiType: Sized + 'static {
    /// The wire twin.
    type Wire: Wire;
    /// The wire twin of `Option<Self>`.
    type OptionWire: Wire;
    /// What a sender gives for it where the type must be named: in a handler's result, or in a field.
    type Shared: SendAs<Self>;
    /// The type's name and layout, for signatures and contracts.
    #[doc(hidden)]
    const SHAPE: &'static Shape;
    /// The hash of the type's name and layout (ABI, "Signatures").
    const HASH: u64 = Self::SHAPE.hash;
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
///
/// Scalars, `()`, declared enums, declared structs of such types, and `Option`s of all of these.
#[diagnostic::on_unimplemented(
    message = "`{Self}` holds handles, or cannot cross between guest and host at all",
    label = "not a plain type",
    note = "`Foreign<T>` and `ForeignSlice<T>` take scalars, and structs and enums of scalars; pass a struct with handle fields by itself"
)]
///
/// # Safety
///
/// The wire form holds no pointer words: [`FfiType::decode`] and `read_all` do not use their `from`.
pub unsafe trait Plain: FfiType {
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

/// What may be given where a declaration says `T`: what [`FfiType::Shared`] names, and what is borrowed
/// and copied, as `&str` is for a `ForeignStr`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent where the declaration says `{T}`",
    label = "not what the declaration says"
)]
///
/// # Safety
///
/// Each pointer word that [`encode`](Self::encode) writes, or that [`into_transport`](Self::into_transport) returns, was
/// lent through the `out` of that call, is handed over once, and stands where the wire form of `T` has one.
pub unsafe trait SendAs<T: FfiType>: Sized {
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
/// The type is `#[repr(C)]`, and any bytes are a value of it. [`unpack`](Self::unpack) keeps what [`FfiType`] asks of
/// `decode`.
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

/// Calls `judge` with a local copy of a `W` that lies in the peer's memory.
#[inline]
pub(crate) fn copied<W: Copy, R>(
    transport: Transport,
    from: Incoming<'_>,
    judge: impl FnOnce(&[u8]) -> Result<R, CallError>,
) -> Result<R, CallError> {
    no_secondary(transport)?;
    let mut local = Local::<W>::uninit();
    let local = local.zeroed();
    let size = local.len();
    if size == 0 {
        <()>::from_transport(transport, from)?;
    } else {
        let memory: &Memory = from.memory;
        let word = transport.primary;
        let offset = memory.check(from.side, word, size as u64, align_of::<W>() as u64)?;
        // SAFETY: checked on the line above.
        unsafe { memory.copy_out(offset, local.as_mut_ptr(), size) };
        memory.give_back(from.side, word, from.epoch);
        if !memory.is_still(from.epoch) {
            return Err(stale());
        }
    }
    judge(local)
}

/// Local memory for a wire form, with its size and alignment.
pub(crate) struct Local<W>(core::mem::MaybeUninit<W>);

impl<W: Copy> Local<W> {
    #[inline]
    pub(crate) const fn uninit() -> Self {
        Self(core::mem::MaybeUninit::uninit())
    }

    /// Zeroes the memory where it is, and gives its bytes. A move of the `MaybeUninit` would copy a `W`, whose padding
    /// is not copied with it and so would hold no bytes: therefore the bytes are borrowed for as long as they are used.
    #[inline]
    pub(crate) const fn zeroed(&mut self) -> &mut [u8] {
        let (at, len) = (self.0.as_mut_ptr().cast::<u8>(), size_of::<W>());
        // SAFETY: the memory is this value's, and has `len` bytes.
        unsafe { at.write_bytes(0, len) };
        // SAFETY: as above, and the line above has initialised all of them. While they are borrowed, nobody moves them.
        unsafe { core::slice::from_raw_parts_mut(at, len) }
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

pub(crate) use read;

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Padding behind the first field and behind the last.
    #[allow(dead_code, reason = "Rust 1.85 does not see what an unnamed constant uses")]
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Padded {
        _first: u8,
        _second: u64,
        _third: u16,
    }

    /// Looks at each byte, which const evaluation refuses where one is not initialised.
    #[allow(dead_code, reason = "as above")]
    const fn check<W: Copy>() {
        let mut local = Local::<W>::uninit();
        let bytes = local.zeroed();
        assert!(bytes.len() == size_of::<W>());
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at] == 0);
            bytes[at] = 0xff;
            at += 1;
        }
        let again = local.zeroed();
        while at > 0 {
            at -= 1;
            assert!(again[at] == 0);
        }
    }

    // `-Zextra-const-ub-checks` has padding lose its bytes in a move, as the language allows (`.ci/sanitize constants`).
    const _: () = {
        check::<()>();
        check::<W128>();
        check::<WBuf>();
        check::<Padded>();
        check::<[Padded; 3]>();
        check::<Tagged<W64>>();
        check::<Tagged<Tagged<W8>>>();
    };
}
