//! What an arena remembers of each granule, in memory that the peer cannot reach.

use crate::sync::{AtomicU32, Ordering};

/// "No slot".
pub(super) const NIL: u32 = u32::MAX;

/// Kinds of block, in the bits of [`Slot::state`] above the count of its loans.
pub(super) const FREE: u32 = 0;
pub(super) const OWNED: u32 = 1 << 30;
pub(super) const LENT: u32 = 2 << 30;
pub(super) const DONE: u32 = 3 << 30;
pub(super) const KIND: u32 = 3 << 30;

/// What the owner remembers of a block, at the place of the block's first granule.
///
/// While a block is owned, its `state` and its link are its owner's to write. All else is written
/// under the arena's lock.
#[derive(Debug, Default)]
pub struct Slot {
    /// Granules in this block. The slot of its last granule has the same number, for the next block.
    pub(super) len: AtomicU32,
    /// Neighbours in the list that the block is on: a free list, or that of the blocks in use.
    pub(super) next: AtomicU32,
    pub(super) prev: AtomicU32,
    /// A kind, and the serial number of the block's latest loan.
    pub(super) state: AtomicU32,
    /// The next loan of the same call: its place and its serial number.
    pub(super) link: AtomicU32,
    pub(super) link_serial: AtomicU32,
    /// The life in which the block was lent ([`Arena::life`](super::Arena::life)), plus [`DELIVERED`] once the peer has it; or [`KEPT`].
    pub(super) life: AtomicU32,
}

/// The peer has the loan.
pub(super) const DELIVERED: u32 = 1;
/// In [`Slot::life`]: the loan goes on through all lives. No life has this number.
pub(super) const KEPT: u32 = 0;

impl Slot {
    /// A slot of books that are not in use yet.
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
    /// So many slots of books that are not in use yet, or how many bytes there were none for. The system gives the memory as
    /// it is touched.
    #[cfg(all(feature = "alloc", not(all(test, loom))))]
    pub(crate) fn zeroed(count: usize) -> Result<crate::owned::Owned<[Self]>, u64> {
        use core::alloc::Layout;

        use alloc::{alloc::alloc_zeroed, boxed::Box};

        let layout = Layout::array::<Self>(count).map_err(|_| u64::MAX)?;
        if layout.size() == 0 {
            return Ok(Box::<[Self]>::default().into());
        }
        // SAFETY: the layout has bytes.
        let at = unsafe { alloc_zeroed(layout) }.cast::<Self>();
        if at.is_null() {
            return Err(layout.size() as u64);
        }
        let slots = core::ptr::slice_from_raw_parts_mut(at, count);
        // SAFETY: it was allocated with the layout of as many slots, and zeros are values of their atomics.
        Ok(unsafe { Box::from_raw(slots) }.into())
    }

    /// The same for a model, whose atomics are not integers.
    #[cfg(all(test, loom))]
    pub(crate) fn zeroed(count: usize) -> Result<crate::owned::Owned<[Self]>, u64> {
        let slots: alloc::boxed::Box<[Self]> = (0..count).map(|_| Self::default()).collect();
        Ok(slots.into())
    }

    /// The owner is done with the block that begins here, and which it has not lent. It becomes free at a
    /// later allocation.
    #[inline]
    pub(crate) fn drop_owned(&self) {
        self.state.store(self.state.load(Ordering::Relaxed) | DONE, Ordering::Release);
    }
}
