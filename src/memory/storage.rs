//! Ownership with and without a heap: a box or an `Arc`, or a reference to a `static`.

#[cfg(feature = "alloc")]
use core::ptr::NonNull;
use core::{cell::UnsafeCell, mem::MaybeUninit, ops::Deref};

use super::region::Memory;

/// A value that lives at least as long as its owner.
#[derive(Debug)]
pub(crate) enum Owned<T: ?Sized + 'static> {
    /// In a `static`.
    Static(&'static T),
    /// On the heap.
    #[cfg(feature = "alloc")]
    Boxed(alloc::boxed::Box<T>),
}

impl<T: ?Sized> Deref for Owned<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match self {
            Self::Static(value) => value,
            #[cfg(feature = "alloc")]
            Self::Boxed(value) => value,
        }
    }
}

#[cfg(feature = "alloc")]
impl<T: ?Sized> From<alloc::boxed::Box<T>> for Owned<T> {
    fn from(value: alloc::boxed::Box<T>) -> Self {
        Self::Boxed(value)
    }
}

/// Fills a cell of a `static`, which is never emptied.
///
/// # Safety
///
/// No other reference to the cell's content is alive, and the cell is filled once.
pub(crate) unsafe fn put<V>(cell: &'static UnsafeCell<MaybeUninit<V>>, value: V) -> &'static V {
    // SAFETY: the caller promises that no other reference to the content of the cell is alive.
    let cell = unsafe { &mut *cell.get() };
    cell.write(value)
}

/// A reference with which a handle keeps the memory of its connection alive.
#[derive(Clone)]
pub(crate) enum MemoryRef {
    /// In a `static`.
    Static(&'static Memory),
    /// On the heap, reference-counted.
    #[cfg(feature = "alloc")]
    Counted(alloc::sync::Arc<Memory>),
}

impl MemoryRef {
    /// A reference for a new handle, or `None` if the maximum number of handles exists. The connection itself owns one
    /// reference, which is not a handle's.
    #[inline]
    pub(crate) fn for_handle(&self) -> Option<Self> {
        match self {
            Self::Static(memory) => Some(Self::Static(memory)),
            #[cfg(feature = "alloc")]
            Self::Counted(memory) => {
                let counted = memory.clone();
                // The count includes the new reference and the connection's own, so it is at most `handles + 1`.
                let most = memory.handles().saturating_add(1);
                (alloc::sync::Arc::strong_count(memory) <= most).then_some(Self::Counted(counted))
            }
        }
    }
}

impl Deref for MemoryRef {
    type Target = Memory;

    #[inline]
    fn deref(&self) -> &Memory {
        match self {
            Self::Static(memory) => memory,
            #[cfg(feature = "alloc")]
            Self::Counted(memory) => memory,
        }
    }
}

/// A value on the heap to which raw pointers exist. A `Box` would assert unique access whenever it is moved, and so
/// invalidate them.
#[cfg(feature = "alloc")]
pub(crate) struct Fixed<T>(NonNull<T>);

// SAFETY: it owns its `T` exclusively, like `Box<T>`, so sending it sends the `T`.
#[cfg(feature = "alloc")]
unsafe impl<T: Send> Send for Fixed<T> {}
// SAFETY: a shared reference to it gives only `&T`, like one to `Box<T>`.
#[cfg(feature = "alloc")]
unsafe impl<T: Sync> Sync for Fixed<T> {}

#[cfg(feature = "alloc")]
impl<T> Fixed<T> {
    /// A value that `make` returns, given its future address. The memory is uninitialised until `make` returns.
    pub(crate) fn new(make: impl FnOnce(NonNull<T>) -> T) -> Self {
        let place = NonNull::from(alloc::boxed::Box::leak(alloc::boxed::Box::<T>::new_uninit()));
        let value = make(place.cast());
        // SAFETY: `place` is a leaked box of a `MaybeUninit<T>`, so it is valid for writes of a `T`.
        unsafe { place.cast().write(value) };
        Self(place.cast())
    }

    /// The address of the value, valid as long as `self` lives.
    #[cfg(feature = "std")]
    pub(crate) fn address(&self) -> NonNull<T> {
        self.0
    }
}

#[cfg(feature = "alloc")]
impl<T> Deref for Fixed<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `new` initialised the value, it is only dropped with `self`, and no method gives `&mut T`.
        unsafe { self.0.as_ref() }
    }
}

#[cfg(feature = "alloc")]
impl<T> Drop for Fixed<T> {
    fn drop(&mut self) {
        // SAFETY: `new` leaked it from a box with the layout of `T` and initialised it, and `drop` runs once.
        drop(unsafe { alloc::boxed::Box::from_raw(self.0.as_ptr()) });
    }
}
