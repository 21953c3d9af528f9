//! Resets under loom (see `arena/models.rs`). loom does not model the region, so an atomic stands for one byte of a
//! block.

use loom::{model, sync::Arc, thread};

use super::*;
use crate::abi::PAGE_SIZE;

/// A handle is read while its connection is reset and its block is overwritten: either the reader gets the lent byte,
/// or `is_still` tells it that the handle is stale.
#[test]
fn a_copy_from_after_a_reset_is_refused() {
    model(|| {
        let layout = RegionLayout::new(PAGE_SIZE, PAGE_SIZE).unwrap();
        let base = ptr::without_provenance_mut(PAGE_SIZE as usize);
        // SAFETY: without metadata there are no arenas, so `base` is never accessed.
        let region = unsafe { RegionMemory::permanent(base, layout.len()) };
        let memory = Arc::new(Memory::new(region, layout, [None, None]).unwrap());
        let byte = Arc::new(AtomicU8::new(1));
        let epoch = memory.epoch();
        let reader = {
            let (memory, byte) = (memory.clone(), byte.clone());
            thread::spawn(move || {
                // As in `copy_lent`: a copy, then the check of the epoch.
                let copy = byte.load(Ordering::Relaxed);
                if memory.is_still(epoch) {
                    assert_eq!(copy, 1);
                }
            })
        };
        memory.begin_reset();
        memory.end_reset();
        byte.store(2, Ordering::Relaxed);
        reader.join().unwrap();
        assert!(!memory.is_still(epoch));
    });
}
