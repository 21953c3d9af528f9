//! One vCPU of a guest, from trap to trap.

use core::ptr::NonNull;

#[cfg(feature = "std")]
use super::CpuClock;
use super::{GuestExit, ProtocolViolation, Vcpu, rules::Owner};
use crate::{
    abi::{Registers, Transport, answer, signature, trap},
    call::{CallContext, Endpoint, NestedCalls, Peer},
    error::{CallError, ErrorKind},
    memory::{Passage, arena::Lock},
};

/// A vCPU and its state.
pub(super) struct Cpu<V> {
    pub(super) vcpu: V,
    /// Its place among the guest's vCPUs.
    #[cfg(feature = "std")]
    pub(super) number: usize,
    /// The clock of its processor time, if the guest's is limited and it has one.
    #[cfg(feature = "std")]
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

/// What follows a trap of the guest.
pub(super) enum Step {
    /// It is completed with these words.
    Answer(Registers),
    /// It is the awaited one, with this transport.
    Done(Transport),
}

pub(super) const PANICKED: &str = "a vCPU panicked";

/// Ends the guest when a vCPU of the embedder panics, since the state of the guest is unknown then.
struct EndOnPanic<'r, O: Owner> {
    owner: &'r O,
    endpoint: &'r Endpoint,
}

impl<O: Owner> Drop for EndOnPanic<'_, O> {
    fn drop(&mut self) {
        self.owner.end(self.endpoint, GuestExit::Lost(PANICKED.into()));
    }
}

impl<V> Cpu<V> {
    /// A vCPU that has not started.
    pub(super) fn new(vcpu: V) -> Self {
        Self {
            vcpu,
            #[cfg(feature = "std")]
            number: 0,
            #[cfg(feature = "std")]
            clock: None,
            parked: false,
            calls: 0,
            logged: 0,
        }
    }

    /// Begins an outermost call: nothing has been counted in it.
    pub(super) fn begin(&mut self) {
        (self.calls, self.logged) = (0, 0);
    }
}

impl<V: Vcpu> Cpu<V> {
    fn run(
        &mut self,
        owner: &impl Owner,
        endpoint: &Endpoint,
        answer: Option<Registers>,
    ) -> Result<Registers, ErrorKind> {
        if !owner.is_here() {
            return Err(ErrorKind::PeerDied);
        }
        if !owner.rules().runs() {
            // If the guest has exited in an upcall, the handler that made the upcall may have lent its result since
            // then.
            endpoint.own.memory.end_loans();
            return Err(owner.kind());
        }
        let on_panic = EndOnPanic { owner, endpoint };
        let ran = self.vcpu.run(answer);
        core::mem::forget(on_panic);
        ran.map_err(|exit| owner.end(endpoint, exit))
    }

    /// Completes a trap with `answer`, and serves hypercalls until the guest traps as `awaited`. `depth` is the number
    /// of nested calls in progress. Returns the transport of that trap, and writes its status.
    pub(super) fn run_until(
        &mut self,
        awaited: Awaited,
        owner: &impl Owner,
        endpoint: &Endpoint,
        depth: u32,
        mut answer: Option<Registers>,
        status: &mut u64,
    ) -> Result<Transport, ErrorKind> {
        loop {
            let trap = self.run(owner, endpoint, answer)?;
            match self.serve_trap(trap, awaited, owner, endpoint, depth, status)? {
                Step::Answer(registers) => answer = Some(registers),
                Step::Done(transport) => return Ok(transport),
            }
        }
    }

    /// Serves one trap of the guest, whose status it writes if the trap is the awaited one.
    #[inline]
    pub(super) fn serve_trap(
        &mut self,
        trap: Registers,
        awaited: Awaited,
        owner: &impl Owner,
        endpoint: &Endpoint,
        depth: u32,
        status: &mut u64,
    ) -> Result<Step, ErrorKind> {
        let Registers { kind, word, transport } = trap;
        let exit = match (kind, awaited) {
            (trap::CALL, _) if self.calls == owner.rules().limits.calls => GuestExit::TooManyCalls,
            (trap::CALL, _) => {
                self.calls += 1;
                let mut status = 0;
                let transport = self.serve(owner, endpoint, depth, word, transport, &mut status);
                return Ok(Step::Answer(Registers {
                    kind: answer::ANSWER,
                    word: status,
                    transport,
                }));
            }
            (trap::RETURN, Awaited::Return) | (trap::READY, Awaited::Ready) => {
                *status = word;
                return Ok(Step::Done(transport));
            }
            (trap::EXIT, _) => GuestExit::Exited {
                status: word,
                text: owner.rules().last_text(endpoint, transport),
            },
            (kind, _) => GuestExit::Protocol(ProtocolViolation::Order(kind)),
        };
        Err(owner.end(endpoint, exit))
    }

    /// Serves one hypercall. Returns the transport of its answer, and writes its status if that is not 0.
    fn serve(
        &mut self,
        owner: &impl Owner,
        endpoint: &Endpoint,
        depth: u32,
        word: u64,
        transport: Transport,
        status: &mut u64,
    ) -> Transport {
        let limits = &owner.rules().limits;
        if depth >= limits.depth {
            *status = endpoint.refuse(CallError::new(ErrorKind::TooDeep));
            return Transport::EMPTY;
        }
        if word == signature::LOG {
            self.logged = self.logged.saturating_add(transport.secondary);
            if self.logged > limits.log {
                *status = endpoint.refuse(CallError::refused());
                return Transport::EMPTY;
            }
        }
        let nested = Nested { owner, cpu: Lock::new(self) };
        let calls: *const (dyn NestedCalls + '_) = &raw const nested;
        // SAFETY: only the lifetime differs, so the pointers have the same layout. `Endpoint::serve` makes the peer
        // with this context, lends it to the handler as `&Peer`, and drops it before it returns; `nested` lives until
        // then. So `Peer::nested`, which uses the pointer by way of such a peer, does not use it later.
        let calls: *const (dyn NestedCalls + 'static) = unsafe { core::mem::transmute(calls) };
        let context =
            NonNull::new(calls.cast_mut()).map_or(CallContext::Outside, CallContext::Nested);
        endpoint.serve(word, transport, depth + 1, context, status)
    }

    /// Makes one upcall; `depth` includes it. Returns the transport of its answer, and writes its status.
    pub(super) fn upcall(
        &mut self,
        owner: &impl Owner,
        endpoint: &Endpoint,
        depth: u32,
        (signature, transport): (u64, Transport),
        status: &mut u64,
    ) -> Result<Transport, ErrorKind> {
        let call = Registers { kind: answer::UPCALL, word: signature, transport };
        self.run_until(Awaited::Return, owner, endpoint, depth, Some(call), status)
    }
}

/// The vCPU whose hypercall a handler serves: the handler's upcalls run on it.
struct Nested<'c, V, O> {
    owner: &'c O,
    cpu: Lock<&'c mut Cpu<V>>,
}

impl<V: Vcpu, O: Owner> NestedCalls for Nested<'_, V, O> {
    fn call(
        &self,
        peer: &Peer,
        signature: u64,
        transport: Transport,
        status: &mut u64,
    ) -> Result<Transport, CallError> {
        let depth = self.owner.rules().depth_of_call(peer)?;
        // Several threads of the handler may call at once, but the vCPU runs one call.
        let mut cpu = self.cpu.try_lock().ok_or(CallError::new(ErrorKind::Busy))?;
        let runs = self.owner.rules().runs();
        let done = cpu.upcall(self.owner, peer.endpoint(), depth, (signature, transport), status);
        done.map_err(|kind| failed(runs, kind))
    }

    fn admit(&self, entries: usize) -> usize {
        // No handler runs yet, so nothing else has the vCPU.
        let Some(mut cpu) = self.cpu.try_lock() else { return 0 };
        let admitted =
            (entries as u64).min(self.owner.rules().limits.calls.saturating_sub(cpu.calls));
        cpu.calls += admitted;
        admitted as usize
    }

    fn goes_on(&self) -> bool {
        self.owner.rules().runs()
    }

    fn exceeded(&self, peer: &Peer) {
        self.owner.end(peer.endpoint(), GuestExit::TooManyCalls);
    }
}

/// Answers a call with an error that was found on this side.
pub(super) fn failed_here(error: &CallError, passage: &mut Passage, status: &mut u64) -> Transport {
    passage.failed_here = true;
    *status = error.status();
    Transport::EMPTY
}

/// The error of a call whose vCPU returned `kind`. `ran` says whether the guest could run when the call began. If so,
/// it may have executed part of the call, whose loans have ended; if not, it has executed nothing.
pub(super) fn failed(ran: bool, kind: ErrorKind) -> CallError {
    let error = CallError::new(kind);
    if ran { error.reached_handler() } else { error }
}
