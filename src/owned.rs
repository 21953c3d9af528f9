//! Ownership with and without an allocator: boxed or counted where there is a heap, for ever where
//! something lies in a `static`.

use core::ops::Deref;

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
