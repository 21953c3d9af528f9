//! What a batch knows of its calls: on the heap or, in a guest without one, in this side's arena.

use crate::{
    abi::Answer,
    memory::{Incoming, arena::Allocated},
};
#[cfg(feature = "alloc")]
use crate::{call::Peer, error::CallError};

/// Decodes a result that nobody has read, and drops it.
pub(super) type Release = fn(Answer, Incoming<'_>);

/// A call of a batch.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) signature: u64,
    /// Releases the result, until it is read. `None` if there is nothing to release.
    pub(super) release: Option<Release>,
    /// Its latest loan, and how many there are.
    pub(super) latest: Allocated,
    pub(super) loans: u32,
    /// The index of its entry.
    pub(super) entry: u32,
}

/// The calls of a batch, in their order. They are not in a host's arena, since a guest can read that, and would learn where
/// the host's functions are.
#[cfg(feature = "alloc")]
pub(super) struct Calls<'p>(alloc::vec::Vec<Call>, core::marker::PhantomData<&'p ()>);

#[cfg(not(feature = "alloc"))]
pub(super) type Calls<'p> = super::in_arena::InArena<'p, Call>;

#[cfg(feature = "alloc")]
impl<'p> Calls<'p> {
    pub(super) fn new(_: &'p Peer) -> Self {
        Self(alloc::vec::Vec::new(), core::marker::PhantomData)
    }

    /// Makes room for another call.
    #[inline]
    pub(super) fn reserve(&mut self) -> Result<(), CallError> {
        if self.0.len() < self.0.capacity() { Ok(()) } else { self.grow() }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> Result<(), CallError> {
        let more = self.0.len().max(64);
        self.0.try_reserve_exact(more).map_err(|_| CallError::no_heap(more * size_of::<Call>()))
    }

    /// Appends a call, for which [`reserve`](Self::reserve) has made room.
    #[inline]
    pub(super) fn push(&mut self, call: Call) {
        self.0.push(call);
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn get(&self, nr: usize) -> Option<Call> {
        self.0.get(nr).copied()
    }

    pub(super) fn set(&mut self, nr: usize, call: Call) {
        if let Some(place) = self.0.get_mut(nr) {
            *place = call;
        }
    }
}
