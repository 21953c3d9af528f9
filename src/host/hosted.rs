//! A host on an operating system: threads wait for vCPUs, deadlines stop them, resets restore checkpoints.

#[cfg(feature = "machine")]
use std::vec::Vec;
use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "machine")]
use super::pool::HostCheckpoint;
use super::{
    CheckpointError, DeadlineThread, GuestExit, ResetError, RunOutcome, Stopper, Vcpu,
    pool::VcpuPool,
};
#[cfg(feature = "machine")]
use crate::{abi::Side, memory::KeptBlock};
use crate::{
    call::{CallContext, Endpoint, Peer},
    handshake::ConnectError,
    memory::storage::Fixed,
};

/// Why a process that was forked from a guest's cannot use it.
pub(super) const ELSEWHERE: &str = "the guest belongs to the process that this one was forked from";

/// A host's end of a connection with the vCPUs of one guest.
pub struct Host<V> {
    pub(super) peer: Peer,
    pub(super) endpoint: Fixed<Endpoint>,
    pub(super) pool: Arc<VcpuPool<V>>,
}

impl<V: Vcpu + 'static> Host<V> {
    /// Starts the guest, or resumes a parked one, and serves its hypercalls on this thread, until the guest waits for upcalls
    /// or exits. It returns when the guest does either. With several vCPUs it does so for one after the other, in their order.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Contract`] if the contracts of guest and host do not fit, and [`ConnectError::Exited`] if the guest
    /// exited otherwise, now or before; it is not resumed then. [`ErrorKind::Busy`](crate::ErrorKind::Busy) in a handler of
    /// this guest.
    pub fn run(&self) -> Result<RunOutcome, ConnectError> {
        self.run_until(None)
    }

    /// Uses this thread for the guest's deadlines. It has no effect after the first deadline.
    #[cfg_attr(not(feature = "machine"), expect(dead_code, reason = "for machines"))]
    pub(crate) fn share_deadlines(&self, thread: &Arc<DeadlineThread>) {
        self.pool.share_deadlines(thread.clone());
    }

    fn run_until(&self, limit: Option<Duration>) -> Result<RunOutcome, ConnectError> {
        RunOutcome::of(self.pool.run(&self.endpoint, limit), || self.guest_exit())
    }

    /// The guest: calls through it are upcalls, on a parked vCPU. A call waits while other threads use all vCPUs, in
    /// [`run`](Self::run) or in a call. It fails with [`ErrorKind::Busy`](crate::ErrorKind::Busy) before the first `run`, and
    /// in a handler of this guest, whose thread uses a vCPU itself: a handler calls through the [`Peer`] that it is given.
    #[must_use]
    pub fn guest(&self) -> &Peer {
        &self.peer
    }

    /// The guest with a deadline. `limit` is the maximum time of each call through the result that is made outside of handlers,
    /// and of each [`run`](WithDeadline::run), with all that is nested in it and the time that it waits for a vCPU. A call that
    /// gets no vCPU in that time fails with [`ErrorKind::Busy`](crate::ErrorKind::Busy). If the guest takes longer, the call
    /// fails with [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), and the guest exits with [`GuestExit::Deadline`]. A
    /// handler is not stopped, but its guest is not resumed after it.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use vmffi::{CallError, host::{Host, Vcpu}};
    /// # vmffi::ffi_interface! { pub interface Codec { fn frames() -> u32; } }
    /// # fn get<V: Vcpu + 'static>(host: &Host<V>) -> Result<u32, CallError> {
    /// let guest = host.with_deadline(Duration::from_millis(20));
    /// let frames = CodecClient::from(guest.guest()).frames()?;
    /// # Ok(frames)
    /// # }
    /// ```
    #[must_use]
    pub fn with_deadline(&self, limit: Duration) -> WithDeadline<'_, V> {
        let context = CallContext::WithDeadline(limit);
        // SAFETY: the endpoint stays in its place for as long as the host, which is borrowed.
        let peer = unsafe { Peer::top(self.endpoint.address(), context) };
        WithDeadline { host: self, peer, limit }
    }

    /// Restores the guest to its [`checkpoint`](Self::checkpoint): its memory, both arenas and release maps, all registers. It
    /// also restores a guest that has crashed or was stopped.
    ///
    /// All loans since then end, in both directions, and those that the guest had made by then: a handle to one reads as
    /// [`ErrorKind::Stale`](crate::ErrorKind::Stale), and dropping it does nothing. The guest holds again the loans that it had
    /// received by then; the host does not reuse those blocks. The rest of the free memory of the host's
    /// arena is zeroed. Blocks that the host has made and not handed over stay as they are, and so does the server.
    ///
    /// A reset takes time in proportion to the memory that the guest has written since the last one, or up to eight before, not
    /// to its size: `cargo bench --bench lives` has figures.
    ///
    /// # Errors
    ///
    /// [`ResetError`]: in a handler of this guest, while another thread runs it, before it has started up, and if its first
    /// checkpoint could not be made: the guest is unchanged then. If the checkpoint cannot be restored, the guest exits.
    pub fn reset(&self) -> Result<(), ResetError> {
        self.pool.reset(&self.endpoint).map(|_| ())
    }

    /// [`reset`](Self::reset), which returns how the guest had exited, if it had.
    #[cfg_attr(not(feature = "machine"), expect(dead_code, reason = "for machines"))]
    pub(crate) fn next_life(&self) -> Result<Option<Arc<GuestExit>>, ResetError> {
        self.pool.reset(&self.endpoint)
    }

    /// Makes the present state of the guest its checkpoint, which [`reset`](Self::reset) restores: for example after upcalls
    /// that have configured it. Without one, that is the state when all of its vCPUs waited for upcalls for the first time.
    ///
    /// The guest holds the loans that it has received by now in all later lives, and the host does not reuse those blocks, until
    /// a later checkpoint finds them released. It takes time in proportion to the memory that the guest has written in its whole
    /// life, and [`MachineBuilder::memory`](crate::machine::MachineBuilder::memory) limits it.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: in a handler of this guest or during a call, before the guest has waited for upcalls on all vCPUs,
    /// after it has exited, or if its state cannot be copied.
    pub fn checkpoint(&self) -> Result<(), CheckpointError> {
        self.pool.checkpoint(&self.endpoint, |_, _| ())
    }

    /// Makes a checkpoint, unless no vCPU has run since the last one, and calls `then` with its vCPUs, which do not run
    /// meanwhile.
    #[cfg(feature = "machine")]
    pub(crate) fn checkpoint_with<R>(
        &self,
        then: impl FnOnce(HostCheckpoint, &mut dyn Iterator<Item = &mut V>) -> R,
    ) -> Result<R, CheckpointError> {
        self.pool.checkpoint(&self.endpoint, then)
    }

    /// How many checkpoints of the guest this has made.
    #[cfg(feature = "machine")]
    pub(crate) fn checkpoints(&self) -> usize {
        self.pool.checkpoints()
    }

    /// The blocks of the host's arena that the guest holds at its checkpoint, while no other one is made; `None` if there is no
    /// memory for them.
    #[cfg(feature = "machine")]
    pub(crate) fn kept_blocks(&self) -> Option<Vec<KeptBlock>> {
        self.endpoint.own.memory.kept_blocks(Side::Host)
    }

    /// Whether the guest has exited. It takes no lock.
    #[cfg_attr(not(feature = "machine"), expect(dead_code, reason = "for machines"))]
    pub(crate) fn has_exited(&self) -> bool {
        self.pool.has_exited()
    }

    /// How the guest exited; `None` while it lives, and after a [`reset`](Self::reset).
    #[must_use]
    pub fn guest_exit(&self) -> Option<GuestExit> {
        self.pool.ended()
    }

    /// Stops all vCPUs of this guest, from any thread: the call that is under way and all later calls fail with
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled). It stops guest code only: a handler runs to its end.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        let stop = self.pool.stops_with();
        Stopper::new(move || stop(GuestExit::Stopped))
    }

    /// Stops all vCPUs of this guest as a [`stopper`](Self::stopper) does, but with this exit.
    #[cfg_attr(not(feature = "machine"), expect(dead_code, reason = "for machines"))]
    pub(crate) fn stops_with(&self) -> impl Fn(GuestExit) + Send + Sync + use<V> {
        self.pool.stops_with()
    }
}

/// A guest whose calls have a deadline: [`Host::with_deadline`].
pub struct WithDeadline<'h, V> {
    host: &'h Host<V>,
    peer: Peer,
    limit: Duration,
}

impl<V: Vcpu + 'static> WithDeadline<'_, V> {
    /// [`Host::run`], with that deadline.
    ///
    /// # Errors
    ///
    /// Those of [`Host::run`].
    pub fn run(&self) -> Result<RunOutcome, ConnectError> {
        self.host.run_until(Some(self.limit))
    }

    /// The guest: each call through it that is made outside of handlers has that deadline.
    #[must_use]
    pub fn guest(&self) -> &Peer {
        &self.peer
    }
}

impl<V> fmt::Debug for WithDeadline<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithDeadline").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for Host<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("peer", &self.peer).finish_non_exhaustive()
    }
}
