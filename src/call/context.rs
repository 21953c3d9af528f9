//! The context of a call: outside of any handler, or nested in a hypercall.

use core::ptr::NonNull;
#[cfg(feature = "std")]
use core::time::Duration;

use super::{Peer, batch::Taken};
use crate::{abi::Transport, error::CallError};

/// The context in which a call is made. The host's link uses it.
#[derive(Clone, Copy)]
pub(crate) enum CallContext {
    /// Outside of any handler, with the guest's limit as the deadline. Handlers of connections without vCPUs use it, too.
    /// Each call of a handler sets it, and a variant without fields is one store.
    Outside,
    /// Outside of any handler, with this time for the call and all calls nested in it.
    #[cfg(feature = "std")]
    WithDeadline(Duration),
    /// In a handler, whose calls run on the vCPU whose hypercall it serves. The pointer is valid until the handler
    /// returns.
    Nested(NonNull<dyn NestedCalls>),
    /// In the handler of a call of a batch that takes earlier results. The pointer, to these and to the context of the
    /// batch, is valid until the handler returns.
    Taking(NonNull<Taken>),
}

/// Runs calls that are nested in a hypercall, on the vCPU that made it.
pub(crate) trait NestedCalls: Sync {
    /// Runs one call to its answer: returns the transport, and writes the status if that is not 0. An `Err` was
    /// detected on this side, and is not an answer of the peer.
    fn call(
        &self,
        peer: &Peer,
        signature: u64,
        transport: Transport,
        status: &mut u64,
    ) -> Result<Transport, CallError>;

    /// Counts the entries of a batch as calls. Returns how many of them may be served within the guest's limits.
    fn admit(&self, entries: usize) -> usize;

    /// Whether the guest has not exited, so that a batch is served on.
    fn goes_on(&self) -> bool;

    /// Ends the guest, since it has sent more entries than were admitted.
    fn exceeded(&self, peer: &Peer);
}
