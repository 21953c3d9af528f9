//! The memory of a region, as its owner provides it.

use core::fmt;

use super::storage::Owned;

/// The memory of one region, and the value that keeps it mapped. [`Guest::connect`](crate::guest::Guest::connect) takes
/// it, and so do the builders of hosts and of loopbacks.
///
/// Its constructors are unsafe, because their caller guarantees that the memory is valid. The functions that take one are
/// safe.
pub struct RegionMemory {
    pub(crate) base: *mut u8,
    pub(crate) len: u64,
    pub(crate) keep: Owned<dyn Send + Sync>,
}

// SAFETY: the caller of the constructor has promised that any thread may access the memory, and `keep` is `Send`.
unsafe impl Send for RegionMemory {}
// SAFETY: a shared reference gives no access to the memory, and `keep` is `Sync`.
unsafe impl Sync for RegionMemory {}

impl RegionMemory {
    /// The `len` bytes from `base` on. `keep` owns the mapping: it is dropped when the connection and all handles to the
    /// region have been dropped. Handlers may keep handles for longer than the connection lives.
    ///
    /// `base` must be a multiple of [`PAGE_SIZE`](crate::PAGE_SIZE), and `len` at least
    /// [`RegionLayout::len`](crate::RegionLayout::len); whoever takes the memory checks both.
    ///
    /// # Safety
    ///
    /// Until `keep` is dropped:
    ///
    /// - `base` is valid for reads of `len` bytes from any thread. It is valid for writes of the parts that this side may
    ///   write (ABI, R-4); for a host and a loopback these are all.
    /// - No Rust reference but this connection's covers these bytes, and in this program only the connection accesses them.
    ///   Other programs access them as the peer, or a test does through another mapping.
    /// - The guest of a host cannot write to the header and the host's arena.
    /// - If a guest is connected with it, nothing but the host writes to the host's arena, and the host does not write to a
    ///   block while it is lent (ABI, A-3): the guest may borrow it.
    /// - If the host of such a guest resets the connection, the guest does not run on, unless it is restored as the ABI
    ///   says.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub unsafe fn new(base: *mut u8, len: u64, keep: alloc::boxed::Box<dyn Send + Sync>) -> Self {
        Self { base, len, keep: Owned::Boxed(keep) }
    }

    /// The `len` bytes from `base` on, which stay mapped as long as the program runs, as those of a guest do.
    ///
    /// # Safety
    ///
    /// The conditions of `new` hold as long as the program runs.
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
