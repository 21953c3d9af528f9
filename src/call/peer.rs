//! The peer: the other side of a connection, through which calls are made.

use core::{fmt, ptr::NonNull};

use super::{CallContext, Endpoint, Link, NestedCalls, batch::Taken, client, trap_loop};
use crate::{
    abi::{Answer, Function, MAX_DEPTH, Registers, Side, Transport, answer, signature, trap},
    arch::InlineTrap,
    error::{CallError, ErrorKind},
    memory::{
        ArenaStats, Epoch, Incoming, Lender, MemoryRef, Outgoing, Passage, SideMemory, sealed,
    },
    types::FfiType,
};

/// The other side of a connection.
///
/// Clients are made from a peer, handlers receive one with each call, and buffers that are sent are allocated through
/// it, in the sender's own arena. Code gets a `&Peer`, borrowed from the owner of the connection; several threads may
/// use it at once. A handler must make its calls through the peer that it received, which records the nesting depth of
/// the call and the vCPU that made it.
pub struct Peer {
    endpoint: NonNull<Endpoint>,
    /// The number of calls in progress, including that of the handler that received this peer.
    depth: u32,
    /// The inline trap instruction; none at the greatest depth, where calls must fail.
    inline: InlineTrap,
    context: CallContext,
}

// SAFETY: a `&Peer` gives access to a `&Endpoint`, which is `Sync`, to the `dyn NestedCalls` of its context, which is `Sync`
// by its supertrait, or to a `Taken`, which nothing writes to while a peer has it. All outlive the peer: `new` and `top` say
// who keeps them.
unsafe impl Sync for Peer {}
// SAFETY: all that a peer owns are shared pointers to these values, which any thread may use.
unsafe impl Send for Peer {}

impl Peer {
    /// The peer for the handler of a call; or for calls outside of handlers, if the connection is never dropped.
    ///
    /// # Safety
    ///
    /// The peer is dropped before `endpoint`, and before what `context` points to.
    #[inline(always)]
    pub(crate) unsafe fn new(endpoint: &Endpoint, depth: u32, context: CallContext) -> Self {
        let inline = if depth < MAX_DEPTH { endpoint.inline.kind() } else { InlineTrap::None };
        Self { endpoint: NonNull::from(endpoint), depth, inline, context }
    }

    /// The peer for calls outside of handlers.
    ///
    /// # Safety
    ///
    /// `endpoint` is valid until the peer is dropped.
    #[cfg(feature = "alloc")]
    pub(crate) unsafe fn top(endpoint: NonNull<Endpoint>, context: CallContext) -> Self {
        Self { endpoint, depth: 0, inline: InlineTrap::None, context }
    }

    #[inline]
    pub(crate) fn endpoint(&self) -> &Endpoint {
        // SAFETY: the callers of `new` and `top` have promised that the endpoint outlives the peer.
        unsafe { self.endpoint.as_ref() }
    }

    #[inline]
    pub(crate) fn memory(&self) -> &MemoryRef {
        &self.endpoint().own.memory
    }

    #[inline]
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    /// The context of the call that is served with this peer.
    #[inline]
    pub(super) fn context(&self) -> CallContext {
        self.context
    }

    /// The vCPU on which calls through this peer run, if it is that of a handler whose guest called.
    #[inline]
    pub(crate) fn nested(&self) -> Option<&dyn NestedCalls> {
        match self.outer_context() {
            // SAFETY: `Cpu::serve` made the context from a value that outlives the handler, and a handler borrows its peer
            // only until it returns. So the value is alive while `self` is borrowed.
            CallContext::Nested(calls) => Some(unsafe { calls.as_ref() }),
            _ => None,
        }
    }

    /// The context of calls through this peer.
    #[inline]
    pub(crate) fn outer_context(&self) -> CallContext {
        self.taken().map_or(self.context, Taken::context)
    }

    /// The results that the call takes which is served with this peer.
    #[inline]
    pub(super) fn taken(&self) -> Option<&Taken> {
        match self.context {
            // SAFETY: `Endpoint::serve_entry` made the pointer from a reference that outlives the handler, and a handler
            // borrows its peer only until it returns.
            CallContext::Taking(taken) => Some(unsafe { taken.as_ref() }),
            _ => None,
        }
    }

    /// The side on which this code runs; the peer is the other one.
    #[must_use]
    #[inline]
    pub fn side(&self) -> Side {
        self.endpoint().own.side
    }

    /// Statistics of this side's arena, after freeing the blocks that the peer has released. Takes time in proportion
    /// to the number of blocks in use.
    #[must_use]
    pub fn arena_stats(&self) -> ArenaStats {
        match self.memory().arena(self.side()) {
            Ok(arena) => arena.stats(),
            Err(_) => ArenaStats::NONE,
        }
    }

    /// The source of the words of a call that is served, while it is served. Raw calls use [`Outgoing::incoming`].
    #[inline]
    pub(crate) fn incoming(&self) -> Incoming<'_> {
        Incoming::new(self.memory(), self.side(), None)
    }

    /// The source of the words of an answer to a call that ran in this life of the peer.
    #[inline(always)]
    pub(crate) fn received(&self, epoch: Option<Epoch>) -> Incoming<'_> {
        Incoming::new(self.memory(), self.side(), epoch)
    }

    /// Begins a raw call: [`SendAs::into_transport`](crate::SendAs::into_transport) lends memory through the result,
    /// which [`call_with`](Self::call_with) takes. Dropping it ends the loans.
    #[must_use]
    #[inline]
    pub fn outgoing(&self) -> Outgoing<'_> {
        Outgoing::new(&self.endpoint().own, self.depth)
    }

    /// Makes a raw call, by signature and transport: for proxies, fuzzers, and peers whose interface is not declared in
    /// this program. [`call_with`](Self::call_with) also lends memory. [`CallError::from_status`] reads the status of
    /// the answer, and [`FfiType::from_transport`](crate::FfiType::from_transport), with [`Outgoing::incoming`], its
    /// transport.
    ///
    /// A failure is a status word of the answer (ABI, "Statuses").
    ///
    /// # Safety
    ///
    /// Between a guest and its host, any words are safe to send, since the peer validates all of them. A forged pointer
    /// word can only refer to a block that this side has lent to the peer: it may end that loan early, so that the
    /// holder reads other contents. A host makes sure that its guest does not borrow them meanwhile
    /// ([`ForeignBuf::as_slice`](crate::ForeignBuf::as_slice)).
    ///
    /// In a loopback, where both sides are one program, a forged word could make one side read what the other is
    /// writing. There, for each pointer word of `transport`, and of the wire forms behind it, one of these holds:
    ///
    /// - the peer refuses it, or
    /// - it refers to a block that this side has lent, of the type that the function declares; the peer has no other
    ///   handle to the block; and this side does not use the block before the peer has released it.
    pub unsafe fn call(&self, signature: u64, transport: Transport) -> Answer {
        // SAFETY: the caller has promised that `transport` has only words that are refused, or that refer to blocks
        // which this side has lent. `call_with` allows both; the empty `outgoing` adds no loans.
        unsafe { self.call_with(self.outgoing(), signature, transport) }
    }

    /// Makes a raw call whose transport was made through `out`, from [`outgoing`](Self::outgoing) of the same
    /// connection. If the handler was not reached, the loans of `out` end and this side owns their blocks again;
    /// otherwise the peer releases them. With an `out` of another connection no call is made, and the answer has the
    /// status of [`ErrorKind::BadPointer`].
    ///
    /// # Safety
    ///
    /// Between a guest and its host, any words are safe to send, since the peer validates all of them.
    ///
    /// In a loopback, where both sides are one program, each pointer word of `transport`, and of the wire forms behind
    /// it, was lent through `out`, is used once, and refers to a block of the type that the function with this
    /// `signature` declares; or it satisfies the conditions of [`call`](Self::call).
    #[must_use]
    pub unsafe fn call_with(
        &self,
        mut out: Outgoing<'_>,
        signature: u64,
        transport: Transport,
    ) -> Answer {
        if !out.is_of(self.own()) {
            return Answer::status(CallError::new(ErrorKind::BadPointer).status());
        }
        let (mut passage, mut status) = (out.passage(), 0);
        let loans = out.depart();
        let transport = self.exchange(true, signature, transport, &mut passage, &mut status);
        if status > 1 && !CallError::from_status(status).reached() {
            out.come_back(loans);
        }
        Answer { status, transport }
    }

    /// Calls a reserved function (ABI, SG-6), with the loans of `out`.
    pub(crate) fn ask<T: FfiType>(
        &self,
        mut out: Outgoing<'_>,
        signature: u64,
        transport: Transport,
    ) -> Result<T, CallError> {
        let answer = self.ask_any(&mut out, signature, transport)?;
        if answer.status != 0 {
            // No reserved function has an error of its own.
            return Err(CallError::from_status(answer.status).on(self.side().other()));
        }
        let value = T::from_transport(answer.transport, out.received());
        value.map_err(|error| error.reached_handler().on(self.side()))
    }

    /// Makes a call with the loans of `out`, which has the life of the answer afterwards. The answer's status is 0 or 1.
    pub(crate) fn ask_any(
        &self,
        out: &mut Outgoing<'_>,
        signature: u64,
        transport: Transport,
    ) -> Result<Answer, CallError> {
        let (mut passage, mut status) = (out.passage(), 0);
        let loans = out.depart();
        let transport = self.exchange(true, signature, transport, &mut passage, &mut status);
        out.ran_in(passage.epoch);
        if status <= 1 {
            return Ok(Answer { status, transport });
        }
        let error = CallError::from_status(status);
        if !error.reached() {
            out.come_back(loans);
        }
        Err(client::found(self, error, passage.epoch, passage.failed_here))
    }

    /// Makes one call: returns the transport of its answer, in registers, and writes the status if that is not 0, and
    /// the life of the peer in which the call ran. `wide` says whether the secondary word of a good answer may be other than
    /// 0, and is a constant.
    #[inline(always)]
    pub(crate) fn exchange(
        &self,
        wide: bool,
        signature: u64,
        transport: Transport,
        passage: &mut Passage,
        status: &mut u64,
    ) -> Transport {
        if !self.inline.is_some() {
            // Local variables, so that the compiler can keep those of the caller in registers.
            let (mut link, mut word) = (*passage, 0);
            let transport = self.exchange_by_link(signature, transport, &mut link, &mut word);
            (passage.epoch, passage.failed_here) = (link.epoch, link.failed_here);
            *status = word;
            return transport;
        }
        let out = Registers { kind: trap::CALL, word: signature, transport };
        // SAFETY: `is_some` has returned true, and `Peer::new` made `self.inline` from the instruction of this
        // endpoint.
        let back = unsafe { self.inline.trap(self.endpoint().inline, out) };
        // One branch tests for an answer with status 0, and for the secondary word if that must be 0.
        let differs = back.kind ^ answer::ANSWER;
        let Transport { primary, secondary } = back.transport;
        let (expected, other) = if wide { (secondary, 0) } else { (0, secondary) };
        if differs | back.word | other == 0 {
            return Transport { primary, secondary: expected };
        }
        // A local variable, so that the compiler can keep the caller's `status` in a register on the path above.
        let mut word = 0;
        let transport = self.serve_upcalls(differs, back.word, back.transport, &mut word);
        *status = word;
        transport
    }

    /// Handles the other results of an inline trap: an upcall, a failure, or an answer whose secondary word is not 0.
    /// `differs` is the kind, exclusive or that of an answer, which the caller has in a register. The registers are separate
    /// parameters, since as one value they would be passed in memory, also by calls that succeed.
    #[cold]
    #[inline(never)]
    fn serve_upcalls(
        &self,
        differs: u64,
        word: u64,
        transport: Transport,
        status: &mut u64,
    ) -> Transport {
        let back = Registers { kind: differs ^ answer::ANSWER, word, transport };
        let endpoint = self.endpoint();
        match endpoint.inline.trap() {
            Some(trap) => trap_loop::serve_upcalls(&trap, endpoint, self.depth + 1, back, status),
            None => {
                *status = CallError::new(ErrorKind::Unsupported).status();
                Transport::EMPTY
            }
        }
    }

    /// Makes a call that does not trap inline: the usual call of a host, and in a guest that of a doorbell.
    #[cfg_attr(feature = "std", inline)]
    #[cfg_attr(not(feature = "std"), cold, inline(never))]
    fn exchange_by_link(
        &self,
        signature: u64,
        transport: Transport,
        passage: &mut Passage,
        status: &mut u64,
    ) -> Transport {
        if self.depth >= MAX_DEPTH {
            *status = ErrorKind::TooDeep as u64;
            passage.failed_here = true;
            return Transport::EMPTY;
        }
        match &self.endpoint().link {
            Link::Local(other) => {
                // SAFETY: whoever makes a `Link::Local`, which is the loopback, keeps both endpoints alive until
                // neither is used any more, and this endpoint is in use.
                let other = unsafe { other.as_ref() };
                other.serve_local(signature, transport, self.depth + 1, status)
            }
            Link::Remote(link) => {
                // A copy, so that the one above need not be in memory for a local call.
                let mut own = *passage;
                let answer = link.call(self, signature, transport, &mut own, status);
                *passage = own;
                answer
            }
        }
    }

    /// Whether the peer serves a function, such as `ParamsFilesOpen::FUNCTION`. It makes one call (ABI, "Signatures").
    ///
    /// # Errors
    ///
    /// Those of any call, for example [`ErrorKind::PeerDied`].
    pub fn has(&self, function: &'static Function) -> Result<bool, CallError> {
        let asked = Transport::word(function.signature);
        self.ask(self.outgoing(), signature::HAS, asked)
            .map_err(|error| error.in_function(function))
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.side();
        f.debug_struct("Peer").field("side", &us.other()).field("depth", &self.depth).finish()
    }
}

impl sealed::Sealed for Peer {}

impl Lender for Peer {
    #[inline]
    fn own(&self) -> &SideMemory {
        &self.endpoint().own
    }
}
