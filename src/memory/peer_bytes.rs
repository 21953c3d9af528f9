//! Copies the beginning of a buffer that the peer has sent.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use super::region::Memory;
use crate::{
    abi::{Side, Transport},
    error::CallError,
};

/// The maximum length in bytes of a text that is copied where there is no heap.
#[cfg(not(feature = "alloc"))]
const MAX_TEXT: usize = 256;

impl Memory {
    /// Copies the first bytes of a buffer that the peer of `side` has sent, as many as `out` has. The block stays lent. Returns
    /// how many were copied.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadPointer`](crate::ErrorKind::BadPointer) if the buffer is not in the peer's arena.
    pub(crate) fn copy_into(
        &self,
        side: Side,
        buffer: Transport,
        out: &mut [u8],
    ) -> Result<usize, CallError> {
        let Transport { primary, secondary } = buffer;
        let len = secondary.min(out.len() as u64) as usize;
        if len != 0 {
            let at = self.check(side, primary, secondary, 1)?;
            // SAFETY: `check` found all `secondary` bytes in the peer's arena. `len` is at most that, and at most as many bytes
            // as `out` has, which is this program's own memory.
            unsafe { self.copy_out(at, out.as_mut_ptr(), len) };
        }
        Ok(len)
    }

    /// Copies the first `most` bytes of a buffer that the peer of `side` has sent. The block stays lent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadPointer`](crate::ErrorKind::BadPointer) if the buffer is not in the peer's arena, [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if the copy
    /// cannot be allocated.
    #[cfg(feature = "alloc")]
    pub(crate) fn copy_buffer(
        &self,
        side: Side,
        buffer: Transport,
        most: usize,
    ) -> Result<Vec<u8>, CallError> {
        let Transport { primary, secondary } = buffer;
        let mut bytes = Vec::new();
        if secondary != 0 {
            // Before anything is allocated.
            self.check(side, primary, secondary, 1)?;
            let len = secondary.min(most as u64) as usize;
            bytes.try_reserve_exact(len).map_err(|_| CallError::no_heap(len))?;
            bytes.resize(len, 0);
            self.copy_into(side, buffer, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// Calls `with` with the first `most` bytes of a text that the peer of `side` has sent, without a heap at most 256 of them.
    ///
    /// # Errors
    ///
    /// Those of `copy_buffer`.
    pub(crate) fn with_text<R>(
        &self,
        side: Side,
        text: Transport,
        most: usize,
        with: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, CallError> {
        #[cfg(feature = "alloc")]
        return self.copy_buffer(side, text, most).map(|bytes| with(&bytes));
        #[cfg(not(feature = "alloc"))]
        {
            let mut bytes = [0; MAX_TEXT];
            let len = self.copy_into(side, text, &mut bytes[..most.min(MAX_TEXT)])?;
            Ok(with(&bytes[..len]))
        }
    }
}
