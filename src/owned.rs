//! Ownership with and without an allocator: boxed or counted where there is a heap, for ever where
//! something lies in a `static`.

use core::ops::Deref;
#[cfg(feature = "alloc")]
use core::ptr::NonNull;

use crate::memory::Memory;

/// A value that lives as long as its owner.
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

/// How handles hold on to the memory of their connection.
#[derive(Clone)]
pub(crate) enum MemoryRef {
    /// In a `static`.
    Static(&'static Memory),
    /// Counted.
    #[cfg(feature = "alloc")]
    Counted(alloc::sync::Arc<Memory>),
}

impl MemoryRef {
    /// A reference for a handle: none, where there are as many as may be. One that is not a handle's is the
    /// connection's own.
    #[inline]
    pub(crate) fn for_handle(&self) -> Option<Self> {
        match self {
            Self::Static(memory) => Some(Self::Static(memory)),
            #[cfg(feature = "alloc")]
            Self::Counted(memory) => {
                let counted = memory.clone();
                // This one and the connection's, among them, which may not overflow.
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

/// A value on the heap that others know by its address. A `Box` says, wherever it is moved, that nobody
/// does.
#[cfg(feature = "alloc")]
pub(crate) struct Fixed<T>(NonNull<T>);

// SAFETY: it owns its value, as a `Box` does.
#[cfg(feature = "alloc")]
unsafe impl<T: Send> Send for Fixed<T> {}
// SAFETY: as above.
#[cfg(feature = "alloc")]
unsafe impl<T: Sync> Sync for Fixed<T> {}

#[cfg(feature = "alloc")]
impl<T> Fixed<T> {
    /// A value that is made when its address is known; nothing is there before it is made.
    pub(crate) fn new(make: impl FnOnce(NonNull<T>) -> T) -> Self {
        let place = NonNull::from(alloc::boxed::Box::leak(alloc::boxed::Box::<T>::new_uninit()));
        let value = make(place.cast());
        // SAFETY: the place was allocated for a `T`, and nobody reads it before this.
        unsafe { place.cast().write(value) };
        Self(place.cast())
    }

    /// Where the value is, for as long as this lives.
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
        // SAFETY: `new` has made the value, and only `drop` ends it.
        unsafe { self.0.as_ref() }
    }
}

#[cfg(feature = "alloc")]
impl<T> Drop for Fixed<T> {
    fn drop(&mut self) {
        // SAFETY: it came out of a box of the same layout, and is used no more.
        drop(unsafe { alloc::boxed::Box::from_raw(self.0.as_ptr()) });
    }
}
