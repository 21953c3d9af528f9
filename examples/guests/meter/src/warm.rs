//! A guest with much memory, for benchmarks of resets and snapshots.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use vmffi::{CallError, Peer};

mod warmth;

use warmth::Warmth;

const PAGE_SIZE: usize = 4096;
static MEMORY: [AtomicU8; 64 << 20] = [const { AtomicU8::new(0) }; 64 << 20];

struct Guest;

/// One byte of each page of a range.
fn pages(from: usize, bytes: u64) -> impl Iterator<Item = &'static AtomicU8> {
    MEMORY.iter().skip(from).take(bytes as usize).step_by(PAGE_SIZE)
}

impl Warmth for Guest {
    fn echo(&self, _: &Peer, x: u64) -> Result<u64, CallError> {
        Ok(x)
    }

    fn warm(&self, _: &Peer, bytes: u64) -> Result<(), CallError> {
        pages(0, bytes).for_each(|at| at.store(1, Relaxed));
        Ok(())
    }

    fn dirty(&self, _: &Peer, bytes: u64) -> Result<(), CallError> {
        let read: u64 =
            pages(1 << 20, 16 * PAGE_SIZE as u64).map(|at| u64::from(at.load(Relaxed))).sum();
        let value = 2 + (read & 1) as u8;
        pages(16 << 20, bytes).for_each(|at| at.store(value, Relaxed));
        Ok(())
    }

    fn read(&self, _: &Peer, bytes: u64) -> Result<u64, CallError> {
        Ok(pages(0, bytes).map(|at| u64::from(at.load(Relaxed))).sum())
    }

    fn spin(&self, _: &Peer) -> Result<(), CallError> {
        loop {
            core::hint::spin_loop();
        }
    }
}

vmffi::serve!(Guest: Warmth);
vmffi::entry! { server: Guest = Guest, arena: 64 << 10 }
vmffi::panic_handler!();
vmffi::memory_functions!();
