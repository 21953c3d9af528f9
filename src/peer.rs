//! The other side of a connection: calls go out through it, and its calls come in here.

use core::{fmt, ptr::NonNull};

#[cfg(all(feature = "guest", target_arch = "x86_64"))]
use crate::abi::{Registers, answer, trap};
use crate::{
    abi::{Answer, Function, Side, Transport, pointer, signature},
    arena::{self, Allocated, ArenaStats, Slot},
    dispatch::{Serve, Table},
    error::{CallError, Why},
    memory::Memory,
    owned::{MemoryRef, Owned},
    wire::FfiType,
};

/// How deep calls may be nested, counted over both sides: a hypercall, an upcall in its handler, a
/// hypercall in that one's handler, and so on (ABI, "Nesting").
pub const MAX_DEPTH: u32 = 16;

/// How calls leave for the other side.
pub(crate) enum Link {
    /// As a function call: the other side is in this process, and lives as long as this one.
    #[cfg_attr(not(feature = "alloc"), expect(dead_code, reason = "for the loopback"))]
    Near(NonNull<Core>),
    /// By a trap, or as the completion of one.
    Far(Owned<dyn Far>),
}

// SAFETY: a core is `Sync`, and so is what is far.
unsafe impl Send for Link {}
// SAFETY: as above.
unsafe impl Sync for Link {}

/// A way to the other side of a real boundary.
pub(crate) trait Far: Send + Sync {
    /// Carries one call over and brings its answer back. Errors of the connection itself are status
    /// words, as the peer's are.
    fn call(&self, peer: &Peer, signature: u64, transport: Transport) -> Answer;
}

/// Is told of each call that this side refused or failed, with the function and the bad field.
pub(crate) type Observer = dyn Fn(&CallError) + Send + Sync;

/// Stands for a server whose type is forgotten.
#[repr(C)]
struct Opaque([u8; 0]);

/// A server and its table, whatever its type.
pub(crate) struct Server {
    server: NonNull<Opaque>,
    table: &'static Table<Opaque>,
    pub(crate) contract: &'static [u8],
    /// Frees the server, where it is on the heap.
    drop: Option<unsafe fn(NonNull<Opaque>)>,
}

// SAFETY: made from a `Serve`, which is `Send + Sync`.
unsafe impl Send for Server {}
// SAFETY: as above.
unsafe impl Sync for Server {}

impl Server {
    pub(crate) fn new<S: Serve>(server: Owned<S>) -> Self {
        let (server, drop) = match server {
            Owned::Static(server) => (NonNull::from(server).cast(), None),
            #[cfg(feature = "alloc")]
            Owned::Boxed(server) => {
                let drop: unsafe fn(NonNull<Opaque>) = |server| {
                    // SAFETY: called once, with the pointer that was leaked below.
                    drop(unsafe { alloc::boxed::Box::from_raw(server.cast::<S>().as_ptr()) });
                };
                (NonNull::from(alloc::boxed::Box::leak(server)).cast(), Some(drop))
            }
        };
        let table: *const Table<S> = S::TABLE;
        // SAFETY: `Table` and `Entry` are `repr(C)` and hold `S` only behind the reference that
        // their functions take; `&S` and `&Opaque` are both thin, and compatible in every ABI.
        let table = unsafe { &*table.cast::<Table<Opaque>>() };
        Self { server, table, contract: S::CONTRACT, drop }
    }

    #[inline]
    fn get(&self) -> &Opaque {
        // SAFETY: points to the server that `new` took, which lives until `drop`.
        unsafe { self.server.as_ref() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: `server` is what `new` leaked, and nothing can use it after this.
            unsafe { drop(self.server) }
        }
    }
}

/// One side of a connection: its memory, what it serves, and how it reaches the other side.
pub(crate) struct Core {
    pub(crate) memory: MemoryRef,
    pub(crate) side: Side,
    pub(crate) server: Server,
    pub(crate) link: Link,
    /// How calls leave where that is one instruction: the short way, which `link` knows too.
    #[cfg(all(feature = "guest", target_arch = "x86_64"))]
    pub(crate) trap: Option<crate::arch::x86_64::Agreed>,
    pub(crate) observer: Option<Owned<Observer>>,
}

impl Core {
    /// Serves one call of the peer's: the host-side code behind a `CALL`, the guest-side code behind
    /// an `UPCALL`. `depth` counts this call, `lane` is where nested calls go.
    pub(crate) fn serve(
        &self,
        signature: u64,
        transport: Transport,
        depth: u32,
        lane: Lane,
    ) -> Answer {
        if depth > MAX_DEPTH {
            return self.refuse(CallError::new(Why::TooDeep));
        }
        let mut status = 0;
        let transport = self.dispatch(signature, transport, depth, lane, &mut status);
        Answer { status, transport }
    }

    /// The same for a call from this process, whose depth its caller has checked. Writes a status
    /// that is not 0; a transport then comes back in registers.
    #[inline(never)]
    fn serve_near(
        &self,
        signature: u64,
        transport: Transport,
        depth: u32,
        status: &mut u64,
    ) -> Transport {
        self.dispatch(signature, transport, depth, Lane::NONE, status)
    }

    #[inline(always)]
    fn dispatch(
        &self,
        signature: u64,
        transport: Transport,
        depth: u32,
        lane: Lane,
        status: &mut u64,
    ) -> Transport {
        let peer = Peer::new(self, depth, lane);
        let server = &self.server;
        match catch(|| server.table.call(server.get(), &peer, signature, transport, status)) {
            Ok(Some(transport)) => transport,
            Ok(None) => self.unserved(signature, transport, status),
            Err(Panicked) => self.panicked(status),
        }
    }

    /// A signature that is not in the table: one of the ABI's own, or nobody's.
    #[cold]
    #[inline(never)]
    fn unserved(&self, signature: u64, transport: Transport, status: &mut u64) -> Transport {
        let error = match signature {
            signature::HAS => {
                let from = Incoming { memory: &self.memory, side: self.side };
                match u64::from_transport(transport, from) {
                    Ok(asked) => return Transport::word(u64::from(self.server.table.has(asked))),
                    Err(error) => error,
                }
            }
            #[cfg(feature = "alloc")]
            signature::MEET if self.side == Side::Host => match self.meet(transport) {
                Ok(()) => return Transport::EMPTY,
                Err(error) => crate::meet::refusal(error),
            },
            #[cfg(feature = "std")]
            signature::LOG if self.side == Side::Host => match self.log(transport) {
                Ok(()) => return Transport::EMPTY,
                Err(error) => error,
            },
            _ => CallError::new(Why::UnknownFunction),
        };
        *status = self.refuse(error).status;
        Transport::EMPTY
    }

    #[cold]
    #[inline(never)]
    fn panicked(&self, status: &mut u64) -> Transport {
        *status = self.refuse(CallError::new(Why::PeerPanicked).reached_handler()).status;
        Transport::EMPTY
    }

    /// Turns an error into an answer, and lets the observer know.
    #[cold]
    pub(crate) fn refuse(&self, error: CallError) -> Answer {
        let error = error.on(self.side);
        if let Some(observer) = &self.observer {
            // A panic in it is no matter of the call, nor of whoever runs the guest.
            let _ = catch(|| observer(&error));
        }
        Answer::status(error.status())
    }
}

struct Panicked;

#[cfg(feature = "std")]
#[inline]
fn catch<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    // A server is shared by all calls anyway, so whatever a panic leaves half done, the type itself
    // must stand (a poisoned mutex, say); nothing of ours is left half done.
    std::panic::catch_unwind(core::panic::AssertUnwindSafe(call)).map_err(forget)
}

#[cfg(feature = "std")]
#[cold]
#[inline(never)]
fn forget(mut panic: alloc::boxed::Box<dyn core::any::Any + Send>) -> Panicked {
    // What a panic carries may panic again when it is dropped, and what that one carries too.
    for _ in 0..4 {
        match std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| drop(panic))) {
            Ok(()) => return Panicked,
            Err(next) => panic = next,
        }
    }
    core::mem::forget(panic);
    Panicked
}

#[cfg(not(feature = "std"))]
#[inline]
fn catch<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    Ok(call())
}

/// What a link must know of the call in whose handler a nested call is made: null outside of any.
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

    /// The peer of a whole connection, outside of any call.
    ///
    /// # Safety
    ///
    /// `core` is valid for as long as references to the peer are handed out.
    #[cfg(feature = "alloc")]
    pub(crate) unsafe fn top(core: NonNull<Core>) -> Self {
        Self {
            core,
            depth: 0,
            #[cfg(all(feature = "guest", target_arch = "x86_64"))]
            short: Short::No,
            lane: Lane::NONE,
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

    /// For [`FfiType::from_transport`], after a raw call.
    #[must_use]
    #[inline]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { memory: self.memory(), side: self.side() }
    }

    /// For [`SendAs::into_transport`](crate::SendAs::into_transport), before a raw call with
    /// [`Outgoing::call`].
    #[must_use]
    #[inline]
    pub fn outgoing(&self) -> Outgoing<'_> {
        Outgoing { peer: self, latest: Allocated::NONE, count: 0, params: None }
    }

    /// The raw call, by signature and transport: for proxies, fuzzers and peers whose declaration is
    /// not at hand. Memory goes along through [`outgoing`](Self::outgoing) and [`Outgoing::call`].
    /// [`CallError::from_status`] judges the answer's status, and
    /// [`FfiType::from_transport`] its transport.
    ///
    /// The peer judges every word. What a forged one can reach is what this side has lent to the peer:
    /// it may end such a loan early, so that its holder reads something else. In a loopback, forge
    /// words only in tests of that.
    ///
    /// # Errors
    ///
    /// None of its own: what fails, fails with a status word (ABI, "Statuses").
    pub fn call(&self, signature: u64, transport: Transport) -> Answer {
        let mut status = 0;
        let transport = self.exchange(signature, transport, &mut status);
        Answer { status, transport }
    }

    /// One call. Writes a status that is not 0; a transport then comes back in registers.
    #[inline(always)]
    pub(crate) fn exchange(
        &self,
        signature: u64,
        transport: Transport,
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
        self.exchange_by_link(signature, transport, status)
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
        status: &mut u64,
    ) -> Transport {
        if self.depth >= MAX_DEPTH {
            *status = const { CallError::new(Why::TooDeep).status() };
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
                let answer = link.call(self, signature, transport);
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
        let answer = self.call(signature::HAS, Transport::word(function.signature));
        self.returned(answer).map_err(|error| error.in_function(function))
    }

    /// What one of the ABI's own functions has returned.
    pub(crate) fn returned<T: FfiType>(&self, answer: Answer) -> Result<T, CallError> {
        match answer.status {
            0 => T::from_transport(answer.transport, self.incoming())
                .map_err(|error| error.reached_handler().on(self.side())),
            status => Err(CallError::from_status(status).on(self.side().other())),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.side();
        f.debug_struct("Peer").field("side", &us.other()).field("depth", &self.depth).finish()
    }
}

/// Where bytes and pointer words come from: the memory of one connection, as one side sees it.
///
/// Only raw calls need it: [`Peer::incoming`] makes one for what came back.
#[derive(Clone, Copy)]
pub struct Incoming<'p> {
    pub(crate) memory: &'p MemoryRef,
    pub(crate) side: Side,
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("side", &self.side).finish_non_exhaustive()
    }
}

/// What is on its way to the peer: the loans of one call or of one answer, until it is certain that
/// the peer has them. What was lent through one that is dropped before is this side's again.
///
/// Only raw calls need it: [`Peer::outgoing`] makes one, [`SendAs`](crate::SendAs) lends through it, and
/// [`call`](Self::call) sends it off.
pub struct Outgoing<'p> {
    peer: &'p Peer,
    /// The latest loan, and how many there are.
    latest: Allocated,
    count: u32,
    /// The block with the parameters, which stays this side's.
    params: Option<&'p Slot>,
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("loans", &self.count).finish_non_exhaustive()
    }
}

impl<'p> Outgoing<'p> {
    /// The peer that all this goes to.
    #[must_use]
    #[inline]
    pub fn peer(&self) -> &'p Peer {
        self.peer
    }

    /// Lends a block of this side's arena; returns its pointer word.
    #[inline(always)]
    pub(crate) fn lend(&mut self, block: Allocated) -> Result<u64, CallError> {
        let memory: &Memory = self.peer.memory();
        let side = self.peer.side();
        memory.arena(side)?.lend(block, self.latest);
        self.latest = block;
        self.count += 1;
        Ok(pointer::join(memory.offset(side, block), block.loan()))
    }

    /// A new block of `len` bytes, filled by `fill` and lent; returns its pointer word.
    #[inline]
    fn lend_filled(
        &mut self,
        len: usize,
        fill: impl FnOnce(*mut u8, &mut Self) -> Result<(), CallError>,
    ) -> Result<u64, CallError> {
        let core = self.peer.core();
        let memory: &Memory = &core.memory;
        let arena = memory.arena(core.side)?;
        let block = alloc(self.peer, len)?;
        match fill(memory.address(core.side, block), self) {
            Ok(()) => {
                arena.lend(block, self.latest);
                self.latest = block;
                self.count += 1;
                Ok(pointer::join(memory.offset(core.side, block), block.loan()))
            }
            Err(error) => {
                arena.drop_owned(block);
                Err(error)
            }
        }
    }

    /// Lends a new block with a wire form, which `fill` writes over zeros where it lies.
    #[doc(hidden)]
    #[inline(always)]
    pub fn lend_wire<W>(
        &mut self,
        fill: impl FnOnce(&mut [u8], &mut Self) -> Result<(), CallError>,
    ) -> Result<Transport, CallError> {
        let len = const { size_of::<W>() };
        if len == 0 {
            return fill(&mut [], self).map(|()| Transport::EMPTY);
        }
        let filled = self.lend_filled(len, |block, out| {
            // SAFETY: the block has room for as many bytes, and nobody else has it.
            unsafe { block.write_bytes(0, len) };
            // SAFETY: as above, and they are initialised. The peer cannot write to this side's arena,
            // or else this side trusts it.
            fill(unsafe { core::slice::from_raw_parts_mut(block, len) }, out)
        });
        filled.map(Transport::word)
    }

    /// Puts parameters into a new block, which `fill` writes over zeros where they lie. It is no loan, but
    /// this side's, and free again when the call is over (ABI, A-5).
    #[doc(hidden)]
    #[inline(always)]
    pub fn place<P>(
        &mut self,
        fill: impl FnOnce(&mut [u8], &mut Self) -> Result<(), CallError>,
    ) -> Result<Transport, CallError> {
        let len = const { size_of::<P>() };
        if len == 0 {
            return fill(&mut [], self).map(|()| Transport::EMPTY);
        }
        let core = self.peer.core();
        let (block, slot) = try_place(core, const { arena::granules(size_of::<P>()) });
        if slot.is_none() {
            return Err(out_of_memory(core.side, len));
        }
        self.params = slot;
        let word = core.memory.offset_of(block);
        // SAFETY: the block has room for as many bytes, and nobody else has it.
        unsafe { block.write_bytes(0, len) };
        // SAFETY: as above, and they are initialised. The peer cannot write to this side's arena, or
        // else this side trusts it.
        fill(unsafe { core::slice::from_raw_parts_mut(block, len) }, self)?;
        Ok(Transport::word(word))
    }

    /// Lends a new block with a copy of some bytes.
    #[inline]
    pub(crate) fn lend_bytes(&mut self, bytes: &[u8]) -> Result<Transport, CallError> {
        if bytes.is_empty() {
            return Ok(Transport::EMPTY);
        }
        let filled = self.lend_filled(bytes.len(), |block, _| {
            // SAFETY: the block has room for as many bytes, and nobody else has it.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), block, bytes.len()) };
            Ok(())
        });
        filled.map(|primary| Transport { primary, secondary: bytes.len() as u64 })
    }

    /// The raw call ([`Peer::call`]) for a transport that was made through this: where the peer's
    /// function was not reached, everything lent comes back.
    #[must_use]
    pub fn call(mut self, signature: u64, transport: Transport) -> Answer {
        let answer = self.peer.call(signature, transport);
        if answer.status <= 1 || CallError::from_status(answer.status).reached() {
            self.arrived();
        }
        answer
    }

    /// The peer has what was lent.
    #[inline]
    pub(crate) fn arrived(&mut self) {
        self.count = 0;
    }
}

/// What was lent and did not arrive is this side's again.
impl Drop for Outgoing<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = self.params {
            slot.drop_owned();
        }
        if self.count != 0 {
            self.take_back();
        }
    }
}

impl Outgoing<'_> {
    #[cold]
    fn take_back(&self) {
        if let Ok(arena) = self.peer.memory().arena(self.peer.side()) {
            arena.take_back(self.latest, self.count);
        }
    }
}

/// A block of this side's arena.
#[inline]
pub(crate) fn alloc(peer: &Peer, len: usize) -> Result<Allocated, CallError> {
    match try_alloc(peer.core(), len) {
        0 => Err(out_of_memory(peer.side(), len)),
        packed => Ok(Allocated { index: packed as u32, serial: (packed >> 32) as u32 }),
    }
}

/// A block of this side's arena and its first slot, in two registers.
#[inline(never)]
fn try_place(core: &Core, granules: u32) -> (*mut u8, Option<&Slot>) {
    let Ok(arena) = core.memory.arena(core.side) else { return (core::ptr::null_mut(), None) };
    match arena.alloc_granules(granules) {
        Some(block) => (core.memory.address(core.side, block), Some(arena.slot(block.index))),
        None => (core::ptr::null_mut(), None),
    }
}

/// An index and a serial number that fit into one register, or 0: no loan has the number 0. Compiled
/// once, here, and not for each caller.
#[inline(never)]
fn try_alloc(core: &Core, len: usize) -> u64 {
    let block = core.memory.arena(core.side).ok().and_then(|arena| arena.alloc(len));
    block.map_or(0, |block| u64::from(block.index) | u64::from(block.serial) << 32)
}

#[cold]
fn out_of_memory(side: Side, len: usize) -> CallError {
    CallError::new(Why::OutOfMemory).at(0, len as u64).on(side)
}
