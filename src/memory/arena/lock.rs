//! The lock of an arena's lists.

use core::ops::{Deref, DerefMut};

use crate::memory::sync::{self, AtomicBool, Ordering, UnsafeCell};

/// A spin lock. It is held for tens of instructions, and a guest without an operating system cannot sleep.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is accessed only through a `Guard`, and `taken` permits one `Guard` at a time. It may be created on
// any thread, so `T` must be `Send`.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// The number of polls before a waiting thread sleeps; one in a model.
    const LOOKS: u32 = if cfg!(all(test, loom)) { 1 } else { 128 };

    pub(crate) fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        if !self.take() {
            self.wait();
        }
        Guard(self)
    }

    /// Tries once to take the lock. It may fail spuriously.
    #[inline]
    fn take(&self) -> bool {
        let taken = &self.taken;
        taken.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        let taken = &self.taken;
        let free = taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        free.ok().map(|_| Guard(self))
    }

    #[cold]
    fn wait(&self) {
        while !self.take() {
            for _ in 0..Self::LOOKS {
                if !self.taken.load(Ordering::Relaxed) {
                    break;
                }
                sync::spin_loop();
            }
            // The holder may be waiting for this processor. `yield` does not suffice: the scheduler would run a
            // real-time thread again before a holder of lower priority.
            #[cfg(feature = "std")]
            if self.taken.load(Ordering::Relaxed) {
                sync::nap();
            }
        }
    }
}

pub(crate) struct Guard<'a, T>(&'a Lock<T>);

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `self` is the only guard of the lock, so a mutable reference to the value can only come from a
        // mutable borrow of `self`, which does not exist.
        self.0.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: `self` is the only guard of the lock and is borrowed mutably, so no other reference to the value
        // exists.
        self.0.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
    }
}
