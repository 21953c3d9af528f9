//! Packed values that are to be sent: copied from a value at once, or a list that grows.

use core::{fmt, marker::PhantomData, mem::MaybeUninit, slice};

use super::SharedBuf;
use crate::{
    error::{CallError, ErrorKind},
    memory::Lender,
    types::{
        Packed,
        packed::{pack_into, packed_len},
    },
};

/// A packed value to send as a [`ForeignPacked<T>`](crate::ForeignPacked). Its ownership is that of a [`SharedBuf`].
///
/// `T` is written with the lifetime `'static`, as in the declaration. The values that are packed may have any lifetime.
pub struct SharedPacked<T> {
    pub(crate) bytes: SharedBuf,
    value: PhantomData<fn(T)>,
}

/// Packs a value into a new buffer of its exact size.
#[inline]
pub(crate) fn packed_value<S: Packed>(
    value: &S,
    lender: &impl Lender,
) -> Result<SharedBuf, CallError> {
    let mut bytes = SharedBuf::with_capacity(lender, packed_len(value))?;
    bytes.append_packed(value)?;
    Ok(bytes)
}

impl SharedBuf {
    /// Appends a packed value; on an error the buffer is unchanged.
    #[inline]
    fn append_packed<S: Packed>(&mut self, value: &S) -> Result<(), CallError> {
        let len = packed_len(value);
        self.reserve(len)?;
        if len == 0 {
            return Ok(());
        }
        // SAFETY: `reserve` has made room for `len` bytes behind the length, in a block that this buffer owns.
        let room = unsafe { self.block.address().add(self.len) }.cast::<MaybeUninit<u8>>();
        // SAFETY: the same `len` bytes are valid for reads and writes, and need not be initialised. The block is owned and
        // `self` is borrowed mutably, so no other reference to them exists.
        let room = unsafe { slice::from_raw_parts_mut(room, len) };
        if !pack_into(value, room) {
            // Unreachable: `Packed::pack` writes what `data_len` counts.
            return Err(CallError::new(ErrorKind::BadValue));
        }
        self.len += len;
        Ok(())
    }
}

impl<T: Packed<View<'static> = T>> SharedPacked<T> {
    /// Packs a value into a new block of its exact size.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if this side's arena has no free block of this size.
    pub fn copy_from<S: Packed<View<'static> = T>>(
        peer: &impl Lender,
        value: &S,
    ) -> Result<Self, CallError> {
        Ok(Self { bytes: packed_value(value, peer)?, value: PhantomData })
    }
}

impl<T> SharedPacked<T> {
    /// The size of the packed value in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len
    }
}

impl<T> fmt::Debug for SharedPacked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPacked").field("byte_len", &self.byte_len()).finish_non_exhaustive()
    }
}
