//! Copies a buffer that the peer has sent: at most a given number of bytes, with an allocation that may fail.

use alloc::vec::Vec;

use super::region::Memory;
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
