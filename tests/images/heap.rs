//! Counts the bytes of each thread on the heap, and refuses allocations above a limit.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(isize::MAX) };
}

struct Counting;

#[global_allocator]
static HEAP: Counting = Counting;

/// Counts an allocation, and returns whether it is within the limit.
fn more(bytes: isize) -> bool {
    let now = NOW.get() + bytes;
    if bytes > 0 && now > MOST.get() {
        return false;
    }
    NOW.set(now);
    PEAK.set(PEAK.get().max(now));
    true
}

// SAFETY: all calls go to the system's allocator; the counters are thread locals without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !more(layout.size() as isize) {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        more(-(layout.size() as isize));
        // SAFETY: the caller's promise is that of `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

/// The most bytes that a function has on the heap at a time, beyond those before it.
pub fn peak<R>(run: impl FnOnce() -> R) -> (R, u64) {
    let before = NOW.get();
    PEAK.set(before);
    let result = run();
    (result, (PEAK.get() - before) as u64)
}

/// Runs a function that may allocate this many more bytes; further allocations are refused.
pub fn within<R>(bytes: u64, run: impl FnOnce() -> R) -> R {
    MOST.set(NOW.get() + bytes as isize);
    let result = run();
    MOST.set(isize::MAX);
    result
}
