//! Atomics, cells and ways to wait: the machine's own, or those of a model checker.
//!
//! Arenas and their memory are written with the types of this file. A unit test with `--cfg loom` gets
//! loom's, with which `arena/models.rs` runs the arena through every order of steps that the memory
//! model allows.

#[cfg(all(test, loom))]
pub(crate) use ::loom::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering, fence},
    thread::yield_now as nap,
};
#[cfg(not(all(test, loom)))]
pub(crate) use {
    core::{
        hint::spin_loop,
        sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering, fence},
    },
    machine::UnsafeCell,
};

/// Lets other threads run, of whatever priority.
#[cfg(all(feature = "std", not(all(test, loom))))]
pub(crate) fn nap() {
    std::thread::sleep(core::time::Duration::from_micros(50));
}

#[cfg(not(all(test, loom)))]
mod machine {
    /// A cell with the interface of loom's, which sees when its value is used.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        /// Gives the value to `f`, to be read.
        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        /// Gives the value to `f`, to be written.
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}
