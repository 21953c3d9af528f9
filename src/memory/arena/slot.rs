//! The allocator metadata of one granule, in memory that the peer cannot access.

use crate::memory::sync::{AtomicU32, Ordering};

/// The index of no slot: the end of a list.
pub(super) const NIL: u32 = u32::MAX;

/// The states of a block, in the two high bits of [`Slot::state`]; the other bits are a serial number.
pub(super) const FREE: u32 = 0;
pub(super) const OWNED: u32 = 1 << 30;
pub(super) const LENT: u32 = 2 << 30;
pub(super) const DONE: u32 = 3 << 30;
pub(super) const KIND: u32 = 3 << 30;

/// The metadata of a block, in the slot of the block's first granule.
///
/// While a block is owned, its owner writes `state`, `link`, `link_serial` and `life`. All other writes happen under
/// the arena's lock.
#[derive(Debug, Default)]
pub struct Slot {
    /// The number of granules. The slot of the last granule holds it too, so that the next block can find this one.
    pub(super) len: AtomicU32,
    /// The neighbours in a free list or in the list of used blocks.
    pub(super) next: AtomicU32,
    pub(super) prev: AtomicU32,
    /// The state, and the serial number of the block's latest loan.
    pub(super) state: AtomicU32,
    /// The next loan of the same call: its index and its serial number.
    pub(super) link: AtomicU32,
    pub(super) link_serial: AtomicU32,
    /// The life in which the block was lent ([`Arena::life`](super::Arena::life)), plus [`DELIVERED`] once the peer has
    /// it; or [`KEPT`].
    pub(super) life: AtomicU32,
}

/// Added to [`Slot::life`]: the loan was delivered to the peer.
pub(super) const DELIVERED: u32 = 1;
/// In [`Slot::life`]: resets do not end the loan. No life has this number.
pub(super) const KEPT: u32 = 0;

impl Slot {
    /// The slot of an arena that is not initialised yet.
    #[cfg(not(all(test, loom)))]
    pub(crate) const fn new() -> Self {
        const fn zero() -> AtomicU32 {
            AtomicU32::new(0)
        }
        Self {
            len: zero(),
            next: zero(),
            prev: zero(),
            state: zero(),
            link: zero(),
            link_serial: zero(),
            life: zero(),
        }
    }
}

impl Slot {
    /// Allocates `count` slots of an arena that is not initialised yet. The system backs the memory on first access.
    ///
    /// # Errors
    ///
    /// The number of bytes that could not be allocated.
    #[cfg(all(feature = "alloc", not(all(test, loom))))]
    pub(crate) fn zeroed(count: usize) -> Result<crate::memory::storage::Owned<[Self]>, u64> {
        use core::alloc::Layout;

        use alloc::{alloc::alloc_zeroed, boxed::Box};

        let layout = Layout::array::<Self>(count).map_err(|_| u64::MAX)?;
        if layout.size() == 0 {
            return Ok(Box::<[Self]>::default().into());
        }
        // SAFETY: the size of `layout` is not 0, as checked above.
        let at = unsafe { alloc_zeroed(layout) }.cast::<Self>();
        if at.is_null() {
            return Err(layout.size() as u64);
        }
        let slots = core::ptr::slice_from_raw_parts_mut(at, count);
        // SAFETY: `at` was allocated by the global allocator with the layout of `count` slots, and zero bytes are a
        // valid `Slot`, which consists of `AtomicU32`s.
        Ok(unsafe { Box::from_raw(slots) }.into())
    }

    /// Allocates slots under loom, whose atomics cannot be made of zero bytes.
    #[cfg(all(test, loom))]
    pub(crate) fn zeroed(count: usize) -> Result<crate::memory::storage::Owned<[Self]>, u64> {
        let slots: alloc::boxed::Box<[Self]> = (0..count).map(|_| Self::default()).collect();
        Ok(slots.into())
    }

    /// Drops the owned block that begins here. A later allocation reuses or frees it.
    #[inline]
    pub(crate) fn drop_owned(&self) {
        self.state.store(self.state.load(Ordering::Relaxed) | DONE, Ordering::Release);
    }
}
