//! What a batch knows of its calls: on the heap or, in a guest without one, in this side's arena.

use crate::{
    abi::Answer,
    memory::{Incoming, arena::Allocated},
};
#[cfg(feature = "alloc")]
use crate::{call::Peer, error::CallError};

#[cfg(any(not(feature = "alloc"), test))]
mod in_arena;

/// Decodes a result that nobody has read, and drops it.
pub(super) type Release = fn(Answer, Incoming<'_>);

/// A call of a batch.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Call {
    pub(super) signature: u64,
    /// The offset of its parameter struct, which is not lent, or 0.
    pub(super) params: u64,
    /// Releases the result, until it is read.
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
pub(super) struct Calls(alloc::vec::Vec<Call>);

#[cfg(not(feature = "alloc"))]
pub(super) use in_arena::Calls;

#[cfg(feature = "alloc")]
impl Calls {
    pub(super) fn new(_: &Peer) -> Self {
        Self(alloc::vec::Vec::new())
    }

    /// Makes room for another call.
    pub(super) fn reserve(&mut self) -> Result<(), CallError> {
        self.0.try_reserve(1).map_err(|_| CallError::no_heap(size_of::<Call>()))
    }

    /// Appends a call, for which [`reserve`](Self::reserve) has made room.
    #[expect(clippy::unnecessary_wraps, reason = "the other one may fail")]
    pub(super) fn push(&mut self, call: Call) -> Result<(), CallError> {
        self.0.push(call);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, nr: usize) -> Option<Call> {
        self.0.get(nr).copied()
    }

    /// Records that the result of a call is read.
    pub(super) fn set_read(&mut self, nr: usize) {
        if let Some(call) = self.0.get_mut(nr) {
            call.release = None;
        }
    }
}
