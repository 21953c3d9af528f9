//! Copies a buffer that the peer has sent: at most a given number of bytes, with an allocation that may fail.

use alloc::vec::Vec;

use super::{
    region::{Memory, stale},
    transfer::Incoming,
};
use crate::{
    abi::{Side, Transport},
    error::CallError,
};

impl Memory {
    /// Copies the first `most` bytes of a buffer that the peer of `side` has sent. The block stays lent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadPointer`](crate::ErrorKind::BadPointer) if the buffer is not in the peer's arena, [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if the copy
    /// cannot be allocated.
    pub(crate) fn copy_buffer(
        &self,
        side: Side,
        buffer: Transport,
        most: usize,
    ) -> Result<Vec<u8>, CallError> {
        let Transport { primary, secondary } = buffer;
        let mut bytes = Vec::new();
        if secondary != 0 {
            let at = self.check(side, primary, secondary, 1)?;
            let len = secondary.min(most as u64) as usize;
            bytes.try_reserve_exact(len).map_err(|_| CallError::no_heap(len))?;
            bytes.resize(len, 0);
            // SAFETY: `check` found all `secondary` bytes in the peer's arena, `len` is at most that, and `bytes` was
            // resized to `len` bytes.
            unsafe { self.copy_out(at, bytes.as_mut_ptr(), len) };
        }
        Ok(bytes)
    }
}

impl Incoming<'_> {
    /// Copies a wire form that the peer has sent over all of `out`, and releases its block (ABI, TY-2).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadPointer`](crate::ErrorKind::BadPointer), and [`ErrorKind::Stale`](crate::ErrorKind::Stale) if there
    /// was a reset meanwhile.
    pub(crate) fn copy_form(
        &self,
        word: u64,
        align: usize,
        out: &mut [u8],
    ) -> Result<(), CallError> {
        let (memory, epoch) = self.source()?;
        let memory: &Memory = memory;
        let at = memory.check(self.side, word, out.len() as u64, align as u64)?;
        // SAFETY: `check` found `out.len()` bytes at `at` in the peer's arena, which `out`, a mutable slice, does not overlap.
        unsafe { memory.copy_out(at, out.as_mut_ptr(), out.len()) };
        memory.release(self.side, word, epoch);
        if memory.is_still(epoch) { Ok(()) } else { Err(stale()) }
    }
}
