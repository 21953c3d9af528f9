//! The other side of a connection, as one side's code sees it: calls go out through it.

use core::{fmt, ptr::NonNull};

#[cfg(all(feature = "guest", target_arch = "x86_64"))]
use crate::abi::{Registers, answer, trap};
use crate::{
    abi::{Answer, Function, Side, Transport, signature},
    arena::ArenaStats,
    error::{CallError, Why},
    owned::MemoryRef,
};

mod side;
mod transfer;

#[cfg(feature = "alloc")]
pub(crate) use side::Observer;
pub(crate) use side::{Core, Far, Link, Server};
pub use transfer::{Incoming, Outgoing};
pub(crate) use transfer::{Passage, alloc};

/// How deep calls may be nested, counted over both sides: a hypercall, an upcall in its handler, a
/// hypercall in that one's handler, and so on (ABI, "Nesting").
pub const MAX_DEPTH: u32 = 16;

/// What a link must know of the call in whose handler a nested call is made; outside of any, null or what the link itself
/// has put there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane(
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "only a host's link reads it"))]
    pub(crate) *const (),
);

impl Lane {
    pub(crate) const NONE: Self = Self(core::ptr::null());
}

/// The other side of a connection, as one side's code sees it.
///
/// Clients are made from it, handlers get it with each call, and memory that is to be handed over is
/// allocated through it: in the caller's own arena. It is always met as `&Peer`, borrowed from what
/// owns the connection, and may be used by several threads at once. In a handler, calls back go through
/// the one that it got: it knows how deep the call is nested, and which vCPU is in it.
pub struct Peer {
    core: NonNull<Core>,
    /// Calls that are under way, this one's handler included.
    depth: u32,
    #[cfg(all(feature = "guest", target_arch = "x86_64"))]
    short: Short,
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "only a host's link reads it"))]
    pub(crate) lane: Lane,
}

// SAFETY: `core` is `Sync` and outlives the peer, which is only ever handed out by reference; a link
// that looks at `lane` guards what it leads to.
unsafe impl Sync for Peer {}
// SAFETY: as above.
unsafe impl Send for Peer {}

/// Whether a call may leave by an instruction in its own place: what must be looked at before, in one
/// byte.
#[cfg(all(feature = "guest", target_arch = "x86_64"))]
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Short {
    /// It is too deep, or goes another way.
    No,
    Doorbell,
    Out,
}

impl Peer {
    /// The peer of a call, or, of a connection that is there for ever, of none.
    #[inline(always)]
    pub(crate) fn new(core: &Core, depth: u32, lane: Lane) -> Self {
        #[cfg(all(feature = "guest", target_arch = "x86_64"))]
        let short = match core.trap {
            Some(trap) if depth < MAX_DEPTH => {
                if trap.is_doorbell() {
                    Short::Doorbell
                } else {
                    Short::Out
                }
            }
            _ => Short::No,
        };
        Self {
            core: NonNull::from(core),
            depth,
            #[cfg(all(feature = "guest", target_arch = "x86_64"))]
            short,
            lane,
        }
    }

    /// The peer of a whole connection, outside of any call; a link looks at `lane` for what it has put there.
    ///
    /// # Safety
    ///
    /// `core` is valid for as long as references to the peer are handed out.
    #[cfg(feature = "alloc")]
    pub(crate) unsafe fn top(core: NonNull<Core>, lane: Lane) -> Self {
        Self {
            core,
            depth: 0,
            #[cfg(all(feature = "guest", target_arch = "x86_64"))]
            short: Short::No,
            lane,
        }
    }

    #[inline]
    pub(crate) fn core(&self) -> &Core {
        // SAFETY: the contract of `top`; a handler's peer is made from a `&Core` that outlives it.
        unsafe { self.core.as_ref() }
    }

    #[inline]
    pub(crate) fn memory(&self) -> &MemoryRef {
        &self.core().memory
    }

    #[inline]
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    /// The side that this code runs on; the peer is the other one.
    #[must_use]
    #[inline]
    pub fn side(&self) -> Side {
        self.core().side
    }

    /// How much of this side's arena is in use, after freeing what the peer has given back. Looks at
    /// every block in use.
    #[must_use]
    pub fn arena_stats(&self) -> ArenaStats {
        match self.memory().arena(self.side()) {
            Ok(arena) => arena.stats(),
            Err(_) => ArenaStats::NONE,
        }
    }

    /// Where the words come from that a call has brought along. Raw calls use [`Outgoing::incoming`].
    #[inline]
    pub(crate) fn incoming(&self) -> Incoming<'_> {
        Incoming { memory: self.memory(), side: self.side(), epoch: self.memory().epoch() }
    }

    /// For [`SendAs::into_transport`](crate::SendAs::into_transport), before a raw call with
    /// [`Outgoing::call`].
    #[must_use]
    #[inline]
    pub fn outgoing(&self) -> Outgoing<'_> {
        Outgoing::new(self)
    }

    /// The raw call, by signature and transport: for proxies, fuzzers and peers whose declaration is
    /// not at hand. Memory goes along through [`outgoing`](Self::outgoing) and [`Outgoing::call`].
    /// [`CallError::from_status`] judges the answer's status, and
    /// [`FfiType::from_transport`](crate::FfiType::from_transport), with [`Outgoing::incoming`], its transport.
    ///
    /// # Safety
    ///
    /// Between two programs, a guest and its host, any words are safe to send: the peer judges all of them. What a forged
    /// one can reach is what this side has lent to the peer: it may end such a loan early, so that its holder reads
    /// something else.
    ///
    /// Where both sides are one program, in a loopback, a forged word makes one side read what the
    /// other is writing. There, each pointer word of `transport`, and of the wire forms behind it, is one that the peer
    /// refuses, or leads to a block that this side has lent, to which the peer has no other handle, and which this side
    /// does not use again before the peer has released it; and the function is declared with what the words lead to.
    ///
    /// # Errors
    ///
    /// None of its own: what fails, fails with a status word (ABI, "Statuses").
    pub unsafe fn call(&self, signature: u64, transport: Transport) -> Answer {
        // SAFETY: the caller's promise is the same.
        unsafe { self.outgoing().call(signature, transport) }
    }

    /// Sends words that were lent through an [`Outgoing`], or that the ABI's own functions take.
    pub(crate) fn send(
        &self,
        signature: u64,
        transport: Transport,
        passage: &mut Passage,
    ) -> Answer {
        let mut status = 0;
        let transport = self.exchange(signature, transport, passage, &mut status);
        Answer { status, transport }
    }

    /// One call. Writes a status that is not 0, and the life that the call ran in; a transport then comes back in
    /// registers.
    #[inline(always)]
    pub(crate) fn exchange(
        &self,
        signature: u64,
        transport: Transport,
        passage: &mut Passage,
        status: &mut u64,
    ) -> Transport {
        #[cfg(all(feature = "guest", target_arch = "x86_64"))]
        if self.short != Short::No {
            // SAFETY: there is a short way only where there is such a trap.
            let trap = unsafe { self.core().trap.unwrap_unchecked() };
            let out = Registers { kind: trap::CALL, word: signature, transport };
            let Registers { kind, word, transport } = match self.short {
                // SAFETY: the trap is one by a store.
                Short::Doorbell => unsafe { trap.ring(out) },
                // SAFETY: the trap is one by port.
                _ => unsafe { trap.put_out(out) },
            };
            // One look at both: an answer, and success.
            if (kind ^ answer::ANSWER) | word == 0 {
                return transport;
            }
            let answer = self.go_on(kind, word, transport);
            *status = answer.status;
            return answer.transport;
        }
        self.exchange_by_link(signature, transport, passage, status)
    }

    /// What else may come back from a trap: an upcall first, or a failure.
    #[cfg(all(feature = "guest", target_arch = "x86_64"))]
    #[cold]
    #[inline(never)]
    fn go_on(&self, kind: u64, word: u64, transport: Transport) -> Answer {
        let core = self.core();
        match core.trap {
            Some(trap) => {
                let back = Registers { kind, word, transport };
                crate::guest::go_on(&trap, core, self.depth + 1, back)
            }
            None => Answer::status(CallError::new(Why::Unsupported).status()),
        }
    }

    #[inline]
    fn exchange_by_link(
        &self,
        signature: u64,
        transport: Transport,
        passage: &mut Passage,
        status: &mut u64,
    ) -> Transport {
        if self.depth >= MAX_DEPTH {
            *status = Why::TooDeep as u64;
            passage.failed_here = true;
            return Transport::EMPTY;
        }
        match &self.core().link {
            Link::Near(other) => {
                // SAFETY: the other side lives as long as this one.
                let other = unsafe { other.as_ref() };
                // Its own place in memory: a status that nobody points to stays in a register.
                let mut near = 0;
                let transport = other.serve_near(signature, transport, self.depth + 1, &mut near);
                *status = near;
                transport
            }
            Link::Far(link) => {
                let mut far = *passage;
                let answer = link.call(self, signature, transport, &mut far);
                (passage.epoch, passage.failed_here) = (far.epoch, far.failed_here);
                *status = answer.status;
                answer.transport
            }
        }
    }

    /// Whether the peer serves a function, such as `ParamsFilesOpen::FUNCTION`: one call.
    ///
    /// # Errors
    ///
    /// Those of any call.
    pub fn has(&self, function: &'static Function) -> Result<bool, CallError> {
        let asked = Transport::word(function.signature);
        self.outgoing().ask(signature::HAS, asked).map_err(|error| error.in_function(function))
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.side();
        f.debug_struct("Peer").field("side", &us.other()).field("depth", &self.depth).finish()
    }
}
