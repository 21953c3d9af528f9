//! One vCPU of a guest, from trap to trap.

use core::ptr::NonNull;

use super::VcpuPool;
use crate::{
    abi::{Registers, Transport, answer, signature, trap},
    call::{CallContext, Endpoint, NestedCalls, Peer},
    error::{CallError, ErrorKind},
    host::{CpuClock, GuestExit, ProtocolViolation, Vcpu},
    memory::sync::threads::{Mutex, Ordering},
};

/// A vCPU and its state.
pub(super) struct Cpu<V> {
    pub(super) vcpu: V,
    pub(super) number: usize,
    /// The clock of its processor time, if the guest's is limited and it has one.
    pub(super) clock: Option<CpuClock>,
    /// Whether its pending trap is `READY`, or the `RETURN` of the last upcall.
    pub(super) parked: bool,
    /// Hypercalls that the guest has made on it during the current outermost call.
    pub(super) calls: u64,
    /// Bytes of log that the guest has sent on it during the current outermost call.
    pub(super) logged: u64,
}

/// The trap for which the host runs a vCPU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    Ready,
    Return,
}

pub(super) const PANICKED: &str = "a vCPU panicked";

/// Ends the guest when a vCPU of the embedder panics, since the state of the guest is unknown then.
struct EndOnPanic<'r, V> {
    pool: &'r VcpuPool<V>,
    endpoint: &'r Endpoint,
}

impl<V> Drop for EndOnPanic<'_, V> {
    fn drop(&mut self) {
        self.pool.end(self.endpoint, GuestExit::Lost(PANICKED.into()));
    }
}

impl<V: Vcpu> Cpu<V> {
    fn run(
        &mut self,
        pool: &VcpuPool<V>,
        endpoint: &Endpoint,
        answer: Option<Registers>,
    ) -> Result<Registers, ErrorKind> {
        if !pool.is_here() {
            return Err(ErrorKind::PeerDied);
        }
        if pool.exited.load(Ordering::Acquire) {
            // If the guest has exited in an upcall, the handler that made the upcall may have lent its result since
            // then.
            endpoint.own.memory.end_loans();
            return Err(pool.kind());
        }
        let on_panic = EndOnPanic { pool, endpoint };
        let ran = self.vcpu.run(answer);
        core::mem::forget(on_panic);
        ran.map_err(|exit| pool.end(endpoint, exit))
    }

    /// Completes a trap with `answer`, and serves hypercalls until the guest traps as `awaited`. `depth` is the number
    /// of nested calls in progress. Returns the transport of that trap, and writes its status.
    pub(super) fn run_until(
        &mut self,
        awaited: Awaited,
        pool: &VcpuPool<V>,
        endpoint: &Endpoint,
        depth: u32,
        mut answer: Option<Registers>,
        status: &mut u64,
    ) -> Result<Transport, ErrorKind> {
        loop {
            let Registers { kind, word, transport } = self.run(pool, endpoint, answer)?;
            let exit = match (kind, awaited) {
                (trap::CALL, _) if self.calls == pool.limits.calls => GuestExit::TooManyCalls,
                (trap::CALL, _) => {
                    self.calls += 1;
                    let mut status = 0;
                    let transport = self.serve(pool, endpoint, depth, word, transport, &mut status);
                    answer = Some(Registers { kind: answer::ANSWER, word: status, transport });
                    continue;
                }
                (trap::RETURN, Awaited::Return) | (trap::READY, Awaited::Ready) => {
                    *status = word;
                    return Ok(transport);
                }
                (trap::EXIT, _) => {
                    GuestExit::Exited { status: word, text: pool.last_text(endpoint, transport) }
                }
                (kind, _) => GuestExit::Protocol(ProtocolViolation::Order(kind)),
            };
            return Err(pool.end(endpoint, exit));
        }
    }

    /// Serves one hypercall. Returns the transport of its answer, and writes its status if that is not 0.
    fn serve(
        &mut self,
        pool: &VcpuPool<V>,
        endpoint: &Endpoint,
        depth: u32,
        word: u64,
        transport: Transport,
        status: &mut u64,
    ) -> Transport {
        if depth >= pool.limits.depth {
            *status = endpoint.refuse(CallError::new(ErrorKind::TooDeep));
            return Transport::EMPTY;
        }
        if word == signature::LOG {
            self.logged = self.logged.saturating_add(transport.secondary);
            if self.logged > pool.limits.log {
                *status = endpoint.refuse(CallError::refused());
                return Transport::EMPTY;
            }
        }
        let nested = Nested { pool, cpu: Mutex::new(self) };
        let calls: *const (dyn NestedCalls + '_) = &raw const nested;
        // SAFETY: only the lifetime differs, so the pointers have the same layout. `Endpoint::serve` makes the peer
        // with this context, lends it to the handler as `&Peer`, and drops it before it returns; `nested` lives until
        // then. So `RemoteLink::call`, which uses the pointer by way of such a peer, does not use it later.
        let calls: *const (dyn NestedCalls + 'static) = unsafe { core::mem::transmute(calls) };
        let context =
            NonNull::new(calls.cast_mut()).map_or(CallContext::Outside, CallContext::Nested);
        endpoint.serve(word, transport, depth + 1, context, status)
    }

    /// Makes one upcall; `depth` includes it. Returns the transport of its answer, and writes its status.
    pub(super) fn upcall(
        &mut self,
        pool: &VcpuPool<V>,
        endpoint: &Endpoint,
        depth: u32,
        (signature, transport): (u64, Transport),
        status: &mut u64,
    ) -> Result<Transport, ErrorKind> {
        let call = Registers { kind: answer::UPCALL, word: signature, transport };
        self.run_until(Awaited::Return, pool, endpoint, depth, Some(call), status)
    }
}

/// The vCPU whose hypercall a handler serves: the handler's upcalls run on it.
struct Nested<'c, V> {
    pool: &'c VcpuPool<V>,
    cpu: Mutex<&'c mut Cpu<V>>,
}

impl<V: Vcpu> NestedCalls for Nested<'_, V> {
    fn call(
        &self,
        peer: &Peer,
        signature: u64,
        transport: Transport,
        status: &mut u64,
    ) -> Result<Transport, CallError> {
        let depth = self.pool.depth_of_call(peer)?;
        // Several threads of the handler may call at once, but the vCPU runs one call.
        let mut cpu = self.cpu.try_lock().map_err(|_| CallError::new(ErrorKind::Busy))?;
        let runs = self.pool.runs();
        let done = cpu.upcall(self.pool, peer.endpoint(), depth, (signature, transport), status);
        done.map_err(|kind| failed(runs, kind))
    }

    fn admit(&self, entries: usize) -> usize {
        // No handler runs yet, so nothing else has the vCPU.
        let Ok(mut cpu) = self.cpu.try_lock() else { return 0 };
        let admitted = (entries as u64).min(self.pool.limits.calls.saturating_sub(cpu.calls));
        cpu.calls += admitted;
        admitted as usize
    }

    fn goes_on(&self) -> bool {
        self.pool.runs()
    }

    fn exceeded(&self, peer: &Peer) {
        self.pool.end(peer.endpoint(), GuestExit::TooManyCalls);
    }
}

/// The error of a call whose vCPU returned `kind`. `ran` says whether the guest could run when the call began. If so,
/// it may have executed part of the call, whose loans have ended; if not, it has executed nothing.
pub(super) fn failed(ran: bool, kind: ErrorKind) -> CallError {
    let error = CallError::new(kind);
    if ran { error.reached_handler() } else { error }
}
