//! Counts panics. The handlers under test must not panic, but the crate catches their panics, so a test checks the count.

use std::{
    cell::Cell,
    panic,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
};

thread_local! {
    /// The number of panics on this thread.
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// The number of panics on all threads.
static EVERYWHERE: AtomicUsize = AtomicUsize::new(0);

/// Installs the hook that counts, once in a process.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let old = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            HERE.set(HERE.get() + 1);
            EVERYWHERE.fetch_add(1, Ordering::Relaxed);
            old(info);
        }));
    });
}

/// Sets this thread's count to 0. The count for all threads stays: tests on other threads may rely on it.
pub fn count_here() {
    install();
    HERE.set(0);
}

/// Fails if this thread has panicked since [`count_here`]. A handler of the loopback runs on its caller's thread.
#[track_caller]
pub fn assert_none_here() {
    assert_eq!(HERE.get(), 0, "a handler panicked");
}

/// Sets the count for all threads to 0. Only a program that runs one test at a time may do this.
pub fn count_everywhere() {
    install();
    EVERYWHERE.store(0, Ordering::Relaxed);
}

/// Fails if any thread has panicked since [`count_everywhere`].
#[track_caller]
pub fn assert_none_anywhere() {
    assert_eq!(EVERYWHERE.load(Ordering::Relaxed), 0, "a handler panicked");
}
