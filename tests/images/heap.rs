//! Counts what each thread has on the heap, and refuses it more than it may have.

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

/// Counts, and says whether there may be so much more.
fn more(bytes: isize) -> bool {
    let now = NOW.get() + bytes;
    if bytes > 0 && now > MOST.get() {
        return false;
    }
    NOW.set(now);
    PEAK.set(PEAK.get().max(now));
    true
}

// SAFETY: the system's allocator does all of it, and what is counted is in thread locals without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !more(layout.size() as isize) {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        more(-(layout.size() as isize));
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(at, layout) }
    }
}

/// The most bytes that a function has on the heap at a time, beside what was there before.
pub fn peak<R>(run: impl FnOnce() -> R) -> (R, u64) {
    let before = NOW.get();
    PEAK.set(before);
    let result = run();
    (result, (PEAK.get() - before) as u64)
}

/// Runs a function that may have so many bytes more on the heap; further ones are refused.
pub fn within<R>(bytes: u64, run: impl FnOnce() -> R) -> R {
    MOST.set(NOW.get() + bytes as isize);
    let result = run();
    MOST.set(isize::MAX);
    result
}
