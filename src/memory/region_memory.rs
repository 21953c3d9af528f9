//! The memory that a region lies in, with the promise that whoever brings it makes.

use core::fmt;

use super::storage::Owned;

/// Memory for one region, and what keeps it mapped: what a side brings that is connected by hand.
///
/// Its constructors are where the promise is made that the rest of the crate relies on; what takes one is safe.
pub struct RegionMemory {
    pub(crate) base: *mut u8,
    pub(crate) len: u64,
    pub(crate) keep: Owned<dyn Send + Sync>,
}

// SAFETY: whoever has made it has promised that any thread may use the memory.
unsafe impl Send for RegionMemory {}
// SAFETY: a shared reference to it reaches none of the memory.
unsafe impl Sync for RegionMemory {}

impl RegionMemory {
    /// `len` bytes from `base` on, which stay mapped until `keep` is dropped. `keep` is dropped with the last of the
    /// connection and its handles: a handler may keep handles for longer than its connection lives.
    ///
    /// `base` is to be a multiple of [`PAGE_SIZE`](crate::PAGE_SIZE), and `len` at least
    /// [`RegionLayout::len`](crate::RegionLayout::len): what is connected checks both.
    ///
    /// # Safety
    ///
    /// Until `keep` is dropped:
    ///
    /// - `base` is valid for reads of `len` bytes from any thread, and for writes of what this side may write (ABI, "Region
    ///   header", R-4): a host, and a loopback, may write all of it.
    /// - No Rust reference covers these bytes, and in this program only the connection that is made of them uses them. A peer
    ///   uses them from another program, or through another mapping.
    /// - In a host, its guest cannot write to the header and the host's arena.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub unsafe fn new(base: *mut u8, len: u64, keep: alloc::boxed::Box<dyn Send + Sync>) -> Self {
        Self { base, len, keep: Owned::Boxed(keep) }
    }

    /// The same for memory that stays mapped for as long as the program runs, as a guest's does.
    ///
    /// # Safety
    ///
    /// What `new` asks for, without an end.
    #[must_use]
    pub const unsafe fn permanent(base: *mut u8, len: u64) -> Self {
        Self { base, len, keep: Owned::Static(&()) }
    }
}

impl fmt::Debug for RegionMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, len, .. } = self;
        f.debug_struct("RegionMemory").field("base", base).field("len", len).finish_non_exhaustive()
    }
}
