//! Packed values: text, bytes and lists inside of one block (ABI, "Packed values").
//!
//! A packed value is a *fixed part*, whose size depends on the type alone, and the *data* of its texts, byte strings and
//! lists behind it, in the order of the declaration. There are no offsets, so nothing can overlap or lie twice.

mod borrowed;
mod list;
mod nested;

use core::mem::MaybeUninit;

use super::{FfiType, Local, Plain, descriptor::Shape, wire::Wire};
use crate::{
    error::{CallError, ErrorKind, FieldError},
    memory::Incoming,
};

pub use list::{List, ListIter};
pub(crate) use list::{list_count, write_list};

/// A type whose values can be packed into one block: what a [`ForeignPacked`](crate::ForeignPacked) holds.
///
/// These are `&str`, `&[u8]`, [`List`]s, structs and enums with a lifetime that are declared in
/// [`ffi_interface!`](crate::ffi_interface), types without handles ([`Plain`]), and an `Option`, an array or a tuple of
/// these; and `[T]`, which is packed as a `List<T>` is and has no lifetime to name. It is not meant to be implemented by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a packed value",
    label = "not a type that can be packed",
    note = "a packed value consists of `&'a str`, `&'a [u8]`, `List<'a, T>`, declared structs and enums with or without a lifetime, scalars, and an array, an `Option` or a tuple of these",
    note = "it has no handles: for `ForeignStr` and `String` write `&'a str`, for `ForeignBuf` and `Vec<u8>` `&'a [u8]`, for `ForeignSlice<T>` and `Vec<T>` `List<'a, T>`"
)]
///
/// # Safety
///
/// - [`pack`](Self::pack) writes exactly [`data_len`](Self::data_len) bytes of data.
/// - If [`check`](Self::check) accepts a fixed part and the data behind it, [`view`](Self::view) takes as many bytes of the
///   same data and is sound.
/// - `View<'v>` is `Self` with `'v` in place of its lifetime, in which it is covariant. Two types with equal `SHAPE`s have the
///   same packed form.
pub unsafe trait Packed {
    /// The wire twin of the fixed part.
    #[doc(hidden)]
    type Wire: Wire;
    /// The type itself, with the lifetime of the bytes from which it is read.
    type View<'v>: 'v;
    /// The type's name and layout, for signatures and contracts.
    #[doc(hidden)]
    const SHAPE: &'static Shape;
    /// Whether a value may have data behind its fixed part.
    #[doc(hidden)]
    const DATA: bool;
    /// Whether the type's own memory is its fixed part, any bytes are a value, and there is no data.
    #[doc(hidden)]
    const ANY_BITS: bool = false;

    /// The number of bytes of data behind the fixed part. If there are too many to count, `usize::MAX`.
    #[doc(hidden)]
    fn data_len(&self) -> usize;

    /// Writes the fixed part over zeros, and the data.
    #[doc(hidden)]
    fn pack(&self, fixed: &mut [u8], data: &mut Packer<'_>);

    /// Validates a fixed part and the data behind it, which it takes from `data`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadValue`].
    #[doc(hidden)]
    fn check(fixed: &[u8], data: &mut Unread<'_>) -> Result<(), CallError>;

    /// The value, with references to the data, which it takes from `data`.
    ///
    /// # Safety
    ///
    /// `check` has accepted the same bytes.
    #[doc(hidden)]
    unsafe fn view<'v>(fixed: &'v [u8], data: &mut Unread<'v>) -> Self::View<'v>;

    /// A copy of the value, with references to what it refers to.
    #[doc(hidden)]
    fn again(&self) -> Self::View<'_>;
}

/// The size of a packed value in bytes, or `usize::MAX` if it is larger than any memory.
#[inline]
pub(crate) fn packed_len<T: Packed + ?Sized>(value: &T) -> usize {
    size_of::<T::Wire>().saturating_add(value.data_len())
}

/// Packs a value into exactly the bytes of `out`; `false` if it has another size, and then some of them may be
/// uninitialised.
#[inline]
pub(crate) fn pack_into<T: Packed + ?Sized>(value: &T, out: &mut [MaybeUninit<u8>]) -> bool {
    let mut packer = Packer { rest: out, short: false };
    packer.value(value);
    !packer.short && packer.rest.is_empty()
}

/// Validates bytes as one packed value, which must end with them.
pub(crate) fn check_all<T: Packed + ?Sized>(bytes: &[u8]) -> Result<(), CallError> {
    let mut unread = Unread(bytes);
    let fixed = unread.take(size_of::<T::Wire>() as u64)?;
    T::check(fixed, &mut unread)?;
    if unread.0.is_empty() { Ok(()) } else { Err(bad_value()) }
}

/// Reads a packed value.
///
/// # Safety
///
/// [`check_all`] has accepted the bytes.
#[inline]
pub(crate) unsafe fn view_all<T: Packed + ?Sized>(bytes: &[u8]) -> T::View<'_> {
    let mut unread = Unread(bytes);
    let fixed = unread.part(size_of::<T::Wire>());
    // SAFETY: the caller promises that the bytes have been accepted.
    unsafe { T::view(fixed, &mut unread) }
}

#[cold]
fn bad_value() -> CallError {
    CallError::new(ErrorKind::BadValue)
}

/// Memory that is filled from its beginning.
#[doc(hidden)]
#[derive(Debug)]
pub struct Packer<'b> {
    rest: &'b mut [MaybeUninit<u8>],
    /// Whether the memory was too short.
    short: bool,
}

impl<'b> Packer<'b> {
    /// Packs a value: its fixed part, and the data behind it.
    #[inline]
    fn value<T: Packed + ?Sized>(&mut self, value: &T) {
        let size = size_of::<T::Wire>();
        if let Some(fixed) = self.part(size) {
            // SAFETY: the part has `size` bytes.
            unsafe { fixed.as_mut_ptr().write_bytes(0, size) };
            // SAFETY: the bytes are initialised above, and the part is borrowed mutably.
            let fixed = unsafe { &mut *(core::ptr::from_mut(fixed) as *mut [u8]) };
            value.pack(fixed, self);
        }
    }

    /// Appends bytes.
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        if let Some(part) = self.part(bytes.len()) {
            // SAFETY: the part has as many bytes, and is borrowed mutably, so `bytes` does not overlap it.
            unsafe {
                core::ptr::copy_nonoverlapping(
                    bytes.as_ptr(),
                    part.as_mut_ptr().cast(),
                    bytes.len(),
                );
            }
        }
    }

    #[inline]
    fn part(&mut self, len: usize) -> Option<&'b mut [MaybeUninit<u8>]> {
        let rest = core::mem::take(&mut self.rest);
        if let Some((part, rest)) = rest.split_at_mut_checked(len) {
            self.rest = rest;
            return Some(part);
        }
        self.short = true;
        None
    }
}

/// The bytes that are not read yet.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Unread<'v>(&'v [u8]);

impl<'v> Unread<'v> {
    /// Takes `len` bytes from the beginning.
    #[inline]
    fn take(&mut self, len: u64) -> Result<&'v [u8], CallError> {
        let len = usize::try_from(len).map_err(|_| bad_value())?;
        let (part, rest) = self.0.split_at_checked(len).ok_or_else(bad_value)?;
        self.0 = rest;
        Ok(part)
    }

    /// Takes `len` bytes of data that has been checked. If it were shorter, no bytes.
    #[inline]
    fn part(&mut self, len: usize) -> &'v [u8] {
        let (part, rest) = self.0.split_at_checked(len).unwrap_or_default();
        self.0 = rest;
        part
    }
}

/// Reads a length or a count out of a fixed part.
#[inline]
fn word(fixed: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    if let Some(word) = fixed.get(at..at + 8) {
        bytes.copy_from_slice(word);
    }
    u64::from_le_bytes(bytes)
}

/// Writes a length or a count to a fixed part.
#[inline]
fn put_word(fixed: &mut [u8], at: usize, value: usize) {
    if let Some(word) = fixed.get_mut(at..at + 8) {
        word.copy_from_slice(&(value as u64).to_le_bytes());
    }
}

/// The fixed part of the field at an offset of a fixed part.
#[inline]
fn part_of<T: Packed>(fixed: &[u8], at: usize) -> &[u8] {
    fixed.get(at..at + size_of::<T::Wire>()).unwrap_or_default()
}

/// Packs a field at an offset of a fixed part.
#[doc(hidden)]
#[inline]
pub fn pack_field<T: Packed>(value: &T, fixed: &mut [u8], at: usize, data: &mut Packer<'_>) {
    value.pack(fixed.get_mut(at..at + size_of::<T::Wire>()).unwrap_or_default(), data);
}

/// Validates the field at an offset of a fixed part.
#[doc(hidden)]
#[inline]
pub fn check_field<T: Packed>(
    fixed: &[u8],
    at: usize,
    name: &'static str,
    data: &mut Unread<'_>,
) -> Result<(), FieldError> {
    T::check(part_of::<T>(fixed, at), data).map_err(|error| error.of_field(name))
}

/// The number of an enum's variant, which its fixed part begins with.
#[doc(hidden)]
#[inline]
pub fn tag<R: Plain + Packed>(fixed: &[u8]) -> Result<R, CallError> {
    R::decode(part_of::<R>(fixed, 0), Incoming::PLAIN)
}

/// Reads the field at an offset of a fixed part.
///
/// # Safety
///
/// [`check_field`] has accepted the same bytes.
#[doc(hidden)]
#[inline]
pub unsafe fn view_field<'v, T: Packed>(
    fixed: &'v [u8],
    at: usize,
    data: &mut Unread<'v>,
) -> T::View<'v> {
    // SAFETY: the caller promises that the bytes have been accepted.
    unsafe { T::view(part_of::<T>(fixed, at), data) }
}

/// Validates the wire form of a plain value.
#[doc(hidden)]
#[inline]
pub fn check_plain<T: Plain>(fixed: &[u8]) -> Result<(), CallError> {
    if T::ANY_BITS {
        return Ok(());
    }
    T::decode(fixed, Incoming::PLAIN).map(|_| ())
}

/// Decodes the wire form of a plain value that has been validated.
///
/// # Panics
///
/// If a [`CrossesAs`](crate::CrossesAs) accepts a value once and not again.
#[doc(hidden)]
#[inline]
pub fn view_plain<T: Plain>(fixed: &[u8]) -> T {
    match T::decode(fixed, Incoming::PLAIN) {
        Ok(value) => value,
        Err(_) => panic!(
            "`CrossesAs::from_wire` refuses a value that it has accepted, or that `to_wire` has made"
        ),
    }
}

/// A copy of a plain value.
///
/// # Panics
///
/// If a [`CrossesAs::from_wire`](crate::CrossesAs::from_wire) refuses what its `to_wire` has made.
#[doc(hidden)]
#[inline]
pub fn again_plain<T: Plain>(value: &T) -> T {
    let mut local = Local::<T::Wire>::uninit();
    let wire = local.zeroed();
    FfiType::write(value, wire);
    view_plain(wire)
}

/// Implements [`Packed`] for a plain type: its fixed part is its wire form.
///
/// ```text
/// input  = type: TYPE where: [PREDICATE*]
/// output = an item
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __packed_plain {
    (type: $t:ty where: [$($predicate:tt)*]) => {
        // SAFETY: there is no data. `view` returns a value or panics.
        unsafe impl $crate::Packed for $t where $($predicate)* {
            type Wire = <$t as $crate::FfiType>::Wire;
            type View<'__v> = $t;
            const SHAPE: &'static $crate::__private::Shape = <$t as $crate::FfiType>::SHAPE;
            const DATA: $crate::__private::core::primitive::bool = false;
            const ANY_BITS: $crate::__private::core::primitive::bool = <$t as $crate::FfiType>::ANY_BITS;
            #[inline]
            fn data_len(&self) -> $crate::__private::core::primitive::usize { 0 }
            #[inline]
            fn pack(
                &self,
                __fixed: &mut [$crate::__private::core::primitive::u8],
                _: &mut $crate::__private::Packer<'_>,
            ) {
                <$t as $crate::FfiType>::write(self, __fixed);
            }
            #[inline]
            fn check(
                __fixed: &[$crate::__private::core::primitive::u8],
                _: &mut $crate::__private::Unread<'_>,
            ) -> $crate::__private::core::result::Result<(), $crate::CallError> {
                $crate::__private::check_plain::<$t>(__fixed)
            }
            #[inline]
            unsafe fn view<'__v>(
                __fixed: &'__v [$crate::__private::core::primitive::u8],
                _: &mut $crate::__private::Unread<'__v>,
            ) -> $t {
                $crate::__private::view_plain::<$t>(__fixed)
            }
            #[inline]
            fn again(&self) -> $t { $crate::__private::again_plain::<$t>(self) }
        }
    };
}
