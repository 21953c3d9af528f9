//! Atomics, cells and waiting: those of the platform, or those of loom.
//!
//! The memory module uses only the types of this file. A unit test with `--cfg loom` gets loom's types, with which
//! `arena/models.rs` explores the interleavings that the memory model allows.

#[cfg(all(test, loom))]
pub(crate) use ::loom::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering, fence},
    thread::yield_now as nap,
};
#[cfg(not(all(test, loom)))]
pub(crate) use {
    core::{
        hint::spin_loop,
        sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering, fence},
    },
    machine::UnsafeCell,
};

/// Sleeps briefly, so that threads of any priority can run.
#[cfg(all(feature = "std", not(all(test, loom))))]
pub(crate) fn nap() {
    std::thread::sleep(core::time::Duration::from_micros(50));
}

/// The synchronisation of a host's vCPU pool, whose threads sleep.
#[cfg(all(feature = "std", not(all(test, loom))))]
pub(crate) mod threads {
    pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
    use std::time::Duration;

    /// A number that is unique among the threads that run at the same time.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) struct ThreadId(usize);

    impl ThreadId {
        pub(crate) fn here() -> Self {
            std::thread_local!(static HERE: u8 = const { 0 });
            Self(HERE.with(|here| (&raw const *here).addr()))
        }
    }

    /// Waits for a notification, for at most `left`.
    pub(crate) fn wait_timeout<'p, T>(
        condvar: &Condvar,
        guard: MutexGuard<'p, T>,
        left: Duration,
    ) -> MutexGuard<'p, T> {
        condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The synchronisation in a loom model, which does not model time.
#[cfg(all(feature = "std", test, loom))]
pub(crate) mod threads {
    pub(crate) use std::sync::{Arc, OnceLock, PoisonError};
    use std::time::Duration;

    pub(crate) use ::loom::sync::{Condvar, Mutex, MutexGuard};

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) struct ThreadId(::loom::thread::ThreadId);

    impl ThreadId {
        pub(crate) fn here() -> Self {
            Self(::loom::thread::current().id())
        }
    }

    pub(crate) fn wait_timeout<'p, T>(
        condvar: &Condvar,
        guard: MutexGuard<'p, T>,
        _: Duration,
    ) -> MutexGuard<'p, T> {
        condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(not(all(test, loom)))]
mod machine {
    /// A cell with the interface of `loom::cell::UnsafeCell`.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        /// Calls `f` with a pointer to the value, for reads.
        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        /// Calls `f` with a pointer to the value, for writes.
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}
