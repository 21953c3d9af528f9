//! Resets under loom (see `arena/models.rs`). The region itself is none of loom's: a byte of a block
//! stands beside it.

use loom::{model, sync::Arc, thread};

use super::*;

/// A handle is read while its connection is reset and what lies there is written anew: either the
/// reader gets what was lent to it, or it learns that it may not have.
#[test]
fn a_copy_from_after_a_reset_is_refused() {
    model(|| {
        let layout = Layout::new(PAGE, PAGE).unwrap();
        let base = ptr::without_provenance_mut(PAGE as usize);
        // SAFETY: without books, nothing in the region is touched.
        let memory =
            unsafe { Memory::new(base, layout.len(), layout, [None, None], Owned::Static(&())) };
        let memory = Arc::new(memory.unwrap());
        let byte = Arc::new(AtomicU8::new(1));
        let epoch = memory.epoch();
        let reader = {
            let (memory, byte) = (memory.clone(), byte.clone());
            thread::spawn(move || {
                // As in `foreign`: a copy, and a look behind it.
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
