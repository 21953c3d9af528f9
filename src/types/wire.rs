//! Wire twins, and helpers that decode and encode wire forms.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    abi::Transport,
    error::{CallError, ErrorKind, FieldError},
    memory::{Incoming, Memory, Outgoing, stale},
};

use super::{FfiType, SendAs};

/// A wire twin: a type with the layout of a wire form, for which every bit pattern is valid.
pub trait Wire: FromBytes + Immutable + Copy + 'static {}

impl<T: FromBytes + Immutable + Copy + 'static> Wire for T {}

macro_rules! words {
    ($($name:ident $size:literal $what:literal),*) => { $(
        #[doc = concat!(
            "The wire twin of ", $what, ": ", $size, " bytes, aligned to as many on every target."
        )]
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

/// The wire twin of a list in a packed value: the number of its elements, and of the bytes that they take.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WList {
    /// The number of elements.
    pub count: W64,
    /// The byte count.
    pub len: W64,
}

/// The wire twin of an `Option` of a type without a null pointer (ABI, TY-10): `{ tag: u32, value }`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tagged<W> {
    /// 0 for `None`, 1 for `Some`.
    pub tag: W32,
    /// The value, zeros for `None`.
    pub value: W,
}

/// The wire twin of a declared struct or enum: `N` bytes, aligned as `A` is. A private `repr(C)` type beside the
/// declaration computes both numbers and the offsets of the fields. So no derive of zerocopy's, which has to be told the
/// name of a crate, expands in the user's crate.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Block<A, const N: usize> {
    align: [A; 0],
    bytes: [u8; N],
}

/// The [`Block`] with the layout of a type of `SIZE` bytes that is aligned to `ALIGN`.
#[doc(hidden)]
pub type BlockOf<const ALIGN: usize, const SIZE: usize> =
    Block<<Align<ALIGN> as Aligned>::As, SIZE>;

/// An alignment in bytes.
#[doc(hidden)]
#[derive(Debug)]
pub struct Align<const A: usize>;

/// An alignment that a wire form can have.
#[doc(hidden)]
pub trait Aligned {
    /// A word with this alignment.
    type As: Wire;
}

macro_rules! aligned {
    ($($align:literal $word:ident),*) => { $(
        impl Aligned for Align<$align> {
            type As = $word;
        }
    )* };
}

aligned!(1 W8, 2 W16, 4 W32, 8 W64, 16 W128);

/// Copies the `W` to which `transport` points out of the peer's memory, releases its block, and calls `validate` with
/// the copy.
#[inline]
pub(crate) fn copied<W: Copy, R>(
    transport: Transport,
    from: Incoming<'_>,
    validate: impl FnOnce(&[u8]) -> Result<R, CallError>,
) -> Result<R, CallError> {
    no_secondary(transport)?;
    let mut local = Local::<W>::uninit();
    let local = local.zeroed();
    let size = local.len();
    if size == 0 {
        <()>::from_transport(transport, from)?;
    } else {
        let (memory, epoch) = from.source()?;
        let memory: &Memory = memory;
        let word = transport.primary;
        let offset = memory.check(from.side, word, size as u64, align_of::<W>() as u64)?;
        // SAFETY: `check` accepted the bytes of a `W` at `offset`, a multiple of its alignment, and `local` is the memory of
        // one.
        unsafe { memory.copy_out(offset, local.as_mut_ptr().cast::<W>(), 1) };
        memory.release(from.side, word, epoch);
        if !memory.is_still(epoch) {
            return Err(stale());
        }
    }
    validate(local)
}

/// Local memory for a wire form, with its size and alignment.
pub(crate) struct Local<W>(core::mem::MaybeUninit<W>);

impl<W: Copy> Local<W> {
    #[inline]
    pub(crate) const fn uninit() -> Self {
        Self(core::mem::MaybeUninit::uninit())
    }

    /// Zeroes the memory in place, and returns its bytes. The borrow keeps the `MaybeUninit<W>` from being moved while
    /// the bytes are in use: a move copies a `W`, whose padding would become uninitialised.
    #[inline]
    pub(crate) const fn zeroed(&mut self) -> &mut [u8] {
        let (at, len) = (self.0.as_mut_ptr().cast::<u8>(), size_of::<W>());
        // SAFETY: `at` points to `self`, which is borrowed mutably and has `len` bytes.
        unsafe { at.write_bytes(0, len) };
        // SAFETY: `at` points to `self`, whose `len` bytes are initialised on the line above. `self` is borrowed
        // mutably for as long as the slice lives, so it is neither moved nor accessed otherwise.
        unsafe { core::slice::from_raw_parts_mut(at, len) }
    }
}

#[inline]
pub(crate) fn no_secondary(transport: Transport) -> Result<(), CallError> {
    if transport.secondary == 0 { Ok(()) } else { Err(CallError::new(ErrorKind::BadValue)) }
}

/// Reads a little-endian word out of a wire form.
macro_rules! read {
    ($t:ty, $wire:expr) => {
        match <$t>::read_from_bytes($wire) {
            Ok(value) => value,
            Err(_) => return Err(CallError::new(ErrorKind::BadValue)),
        }
    };
}

pub(crate) use read;

/// Validates and decodes the field at an offset of a wire form, in bytes.
#[doc(hidden)]
#[inline]
pub fn field<T: FfiType>(
    wire: &[u8],
    at: usize,
    name: &'static str,
    from: Incoming<'_>,
) -> Result<T, FieldError> {
    let wire = wire.get(at..at + size_of::<T::Wire>()).unwrap_or_default();
    T::decode(wire, from).map_err(|error| error.of_field(name))
}

/// Writes a plain field at an offset of a wire form.
#[doc(hidden)]
#[inline]
pub fn write<T: FfiType>(value: &T, wire: &mut [u8], at: usize) {
    if let Some(wire) = wire.get_mut(at..at + size_of::<T::Wire>()) {
        value.write(wire);
    }
}

/// Encodes the value that is sent for a field at an offset of a wire form.
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

/// A type for the bound `for<'x> Flag<'x, HANDLES>: NoHandles`. Because of the lifetime, an unsatisfied bound is an
/// error only where it is used.
#[doc(hidden)]
#[derive(Debug)]
pub struct Flag<'x, const B: bool>(core::marker::PhantomData<&'x ()>);

#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "this struct holds handles, so it is not a plain value",
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

    /// Reads each byte, which const evaluation refuses if it is uninitialised.
    #[allow(dead_code, reason = "Rust 1.85 does not see what an unnamed constant uses")]
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

    // `-Zextra-const-ub-checks` has padding lose its bytes in a move, as the language allows (`.ci/sanitize
    // constants`).
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
