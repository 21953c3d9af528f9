//! The lives of a machine's guest: each has a number and a seed, in the region's header (ABI, R-9).

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::{errno::Errno, libc};

use crate::memory::RegionLayout;

/// Memory of a machine that holds its region.
pub(super) trait HoldsRegion: Send + Sync {
    /// The address of the region in this process, valid for as long as `self` lives. Only the host writes its header.
    fn region(&self) -> *mut u8;
}

/// The number of a machine's current life; 0 before the first.
pub(super) struct Lives(AtomicU64);

impl Lives {
    /// Those of a machine that continues the life with this number; 0 for a new guest.
    pub(super) fn after(generation: u64) -> Self {
        Self(AtomicU64::new(generation))
    }

    /// The number of the current life.
    pub(super) fn generation(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Begins a life: writes the next number and a new seed. No vCPU runs, and the rest of the header has been written.
    pub(super) fn begin(&self, memory: &dyn HoldsRegion) -> io::Result<()> {
        let mut seed = [0; 32];
        fill_random(&mut seed)?;
        let generation = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        // SAFETY: the region begins at a multiple of a page, with its header. No vCPU runs, see the callers, and in this
        // program only `RegionLayout::write_header` accesses the header, before the first life.
        unsafe { RegionLayout::write_life(memory.region(), generation, &seed) };
        Ok(())
    }
}

/// Fills `bytes` from the random number generator of the operating system (getrandom(2)).
fn fill_random(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: getrandom(2) writes at most as many bytes as it is told, to memory that is borrowed for the call.
        let drawn = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        match Errno::result(drawn) {
            Ok(drawn) => bytes = &mut bytes[drawn as usize..],
            // A signal came before the generator of the system was ready.
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
