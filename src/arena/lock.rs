//! The lock of an arena's lists.

use core::ops::{Deref, DerefMut};

use crate::sync::{self, AtomicBool, Ordering, UnsafeCell};

/// A spin lock: it is held for some tens of instructions, and the core has no operating system to
/// sleep with.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a `Guard`, and there is one at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// How often a waiting thread looks before it lets others run. A model needs one look.
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

    /// One attempt, which may fail for no reason where that is cheaper.
    #[inline]
    fn take(&self) -> bool {
        let taken = &self.taken;
        taken.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
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
            // The holder may be waiting for this processor. To yield is not enough: a thread of a
            // real-time class is run again at once, before a holder of lower priority.
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
        // SAFETY: this guard holds the lock, so there is no other reference to the value.
        self.0.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard itself is borrowed mutably.
        self.0.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
    }
}
