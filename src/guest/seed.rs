//! The seed of a life: fresh random bytes that the host gives to its guest (ABI, R-9).

use core::{
    fmt, ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use crate::memory::RegionLayout;

/// Which life of a guest this is, with random bytes for it: [`seed`] returns it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seed {
    /// The number of the life, at least 1. It is greater than that of the life before, and than that of the snapshot
    /// from which the guest was restored or made.
    pub generation: u64,
    /// Bytes from the random number generator of the host's operating system, new in each life, and the same for all of
    /// it.
    pub bytes: [u8; 32],
}

impl fmt::Debug for Seed {
    /// Shows the generation only: the bytes may be the key of a random number generator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seed").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// The page of the region's header; null before [`set_header`].
static HEADER: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Lets [`seed`] read the header at `base`, if there is one.
///
/// # Safety
///
/// `len` bytes are mapped at `base` as long as the program runs. If they have the header of a region, only the host
/// writes to its page.
pub(super) unsafe fn set_header(base: *mut u8, len: u64) {
    // SAFETY: the caller promises that `base` is valid for reads of `len` bytes.
    if unsafe { RegionLayout::read_header(base, len) }.is_ok() {
        HEADER.store(base, Ordering::Release);
    }
}

/// The seed of the guest's current life: random bytes for it, and its number. It reads the region's header, which takes
/// a few nanoseconds and no trap.
///
/// A reset restores the memory of a guest, with the state of each random number generator in it. So a guest that is
/// reset draws the numbers of its last life again, unless it makes such a generator anew. It must do so when
/// [`generation`](Seed::generation) is not the one with which the generator was made, which can be so whenever the
/// guest has waited for an upcall. What is made in the `start` function of [`entry!`](crate::entry) belongs to the
/// snapshot, and is of an earlier generation in all lives but the first.
///
/// The [`bytes`](Seed::bytes) are the same at each call in one life, for all of the guest's code: use them as the key
/// of a cryptographic random number generator, of which the guest has one, and let all code draw from that. The
/// [guide], "Random numbers", shows a source for the crate `getrandom`, on which `rand`, `uuid` and many others are
/// based.
///
/// [guide]: https://docs.rs/vmffi/latest/vmffi/guide/machines
///
/// `None` if the host does not tell lives apart, as hosts other than those of `vmffi::machine` may not, and if the
/// entry point of the guest is not that of [`entry!`](crate::entry).
#[must_use]
pub fn seed() -> Option<Seed> {
    let header = HEADER.load(Ordering::Acquire);
    if header.is_null() {
        return None;
    }
    // SAFETY: `set_header` has found a header at this address, so that it is page-aligned and valid for a page; its
    // caller promised that it stays mapped and that only the host writes there.
    let (generation, bytes) = unsafe { RegionLayout::read_life(header) }?;
    Some(Seed { generation, bytes })
}
