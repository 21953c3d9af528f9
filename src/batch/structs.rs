//! The parameter structs of a batch's calls, many in a block.

use crate::{
    error::CallError,
    memory::{SideMemory, alloc},
};

/// The least size of a block, and of what is at its beginning: the offset of the block before it.
const BLOCK: usize = 2048;
const HEADER: usize = 16;

/// Blocks of this side's arena that hold parameter structs. They are not lent, and are freed when the batch has ended (ABI, A-5).
pub(super) struct Structs {
    /// The offset of the newest block, or 0.
    newest: u64,
    /// The unused part of that block.
    at: *mut u8,
    left: usize,
}

impl Structs {
    pub(super) const NONE: Self = Self { newest: 0, at: core::ptr::null_mut(), left: 0 };

    /// The place for a struct of `len` bytes, aligned to 16.
    #[inline]
    pub(super) fn place(&mut self, own: &SideMemory, len: usize) -> Result<*mut u8, CallError> {
        let len = len.next_multiple_of(HEADER);
        if len > self.left {
            self.grow(own, len)?;
        }
        let at = self.at;
        self.at = at.wrapping_add(len);
        self.left -= len;
        Ok(at)
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, own: &SideMemory, len: usize) -> Result<(), CallError> {
        let least = HEADER + len;
        let (block, size) = match alloc(own, least.max(BLOCK)) {
            Ok(block) => (block, least.max(BLOCK)),
            Err(_) => (alloc(own, least)?, least),
        };
        let at = own.memory.address(own.side, block);
        // SAFETY: the block is owned, has at least 16 bytes, and is aligned to a granule.
        unsafe { at.cast::<u64>().write(self.newest) };
        self.newest = own.memory.offset(own.side, block);
        (self.at, self.left) = (at.wrapping_add(HEADER), size - HEADER);
        Ok(())
    }

    /// Frees all blocks.
    pub(super) fn free(&mut self, own: &SideMemory) {
        while self.newest != 0 {
            let offset = self.newest;
            self.newest = own.memory.drop_linked(own.side, offset);
        }
        self.left = 0;
    }
}
