//! What goes to the peer, and what comes from it: memory that is lent, and where words belong.

use core::{fmt, mem::ManuallyDrop};

use crate::{
    abi::{Answer, Side, Transport, pointer},
    arena::{self, Allocated, Arena, Slot},
    error::{CallError, Why},
    memory::{Epoch, Memory},
    owned::{MemoryRef, Owned},
    wire::FfiType,
};

use super::{Core, Peer};

/// Where bytes and pointer words come from: the memory of one connection, as one side sees it.
///
/// Only raw calls need it: [`Outgoing::incoming`] makes one for what comes back.
#[derive(Clone, Copy)]
pub struct Incoming<'p> {
    pub(crate) memory: &'p MemoryRef,
    pub(crate) side: Side,
    /// The life of the peer in which the words were sent.
    pub(crate) epoch: Epoch,
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
    /// The life of the peer in which the first of them was lent, or the call was made.
    epoch: Epoch,
}

/// What the way to the peer must know of a call, and says of it.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "std"), expect(dead_code, reason = "only a host's link reads all of it"))]
pub(crate) struct Passage {
    /// The latest loan, and how many there are.
    pub(crate) latest: Allocated,
    pub(crate) count: u32,
    /// The life of the peer in which they were lent; behind the call, the life that it ran in.
    pub(crate) epoch: Epoch,
    /// The status of the answer is one that this side has found: the call did not get to the peer, or not back.
    pub(crate) failed_here: bool,
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("loans", &self.count).finish_non_exhaustive()
    }
}

impl<'p> Outgoing<'p> {
    #[inline]
    pub(super) fn new(peer: &'p Peer) -> Self {
        let epoch = peer.memory().epoch();
        Self { peer, latest: Allocated::NONE, count: 0, params: None, epoch }
    }

    #[inline(always)]
    pub(crate) fn passage(&self) -> Passage {
        let Self { latest, count, epoch, .. } = *self;
        Passage { latest, count, epoch, failed_here: false }
    }

    /// The call has come back, and ran in this life of the peer.
    #[inline(always)]
    pub(crate) fn ran_in(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// What the peer has sent for this call.
    #[inline(always)]
    pub(crate) fn received(&self) -> Incoming<'p> {
        Incoming { memory: self.peer.memory(), side: self.peer.side(), epoch: self.epoch }
    }

    /// Lends a block that is filled.
    #[inline(always)]
    fn add(&mut self, arena: &Arena<Owned<[Slot]>>, block: Allocated) {
        // What a handler lends is delivered with its answer or its call, or comes back before it returns.
        arena.lend(block, self.latest, self.peer.depth() > 0);
        self.latest = block;
        self.count += 1;
    }

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
        self.add(memory.arena(side)?, block);
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
        let block = Owner { arena, block: alloc(self.peer, len)? };
        fill(memory.address(core.side, block.block), self)?;
        let block = block.release();
        self.add(arena, block);
        Ok(pointer::join(memory.offset(core.side, block), block.loan()))
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
            fill(unsafe { zeroed(block, len) }, out)
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
        fill(unsafe { zeroed(block, len) }, self)?;
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

    /// For [`FfiType::from_transport`](crate::FfiType::from_transport), after the raw [`call`](Self::call), which
    /// consumes this.
    ///
    /// # Safety
    ///
    /// Between two programs, a guest and its host, any words are safe to judge: the worst is a handle that ends a loan of
    /// the peer's early. Then nobody may rely on that loan, as who calls
    /// [`ForeignBuf::as_slice`](crate::ForeignBuf::as_slice) does.
    ///
    /// Where both sides are one program, in a loopback, the words that are judged with the result
    /// are those of the answer to this call, each is judged once, and the type is the one that the function returns.
    #[must_use]
    #[inline]
    pub unsafe fn incoming(&self) -> Incoming<'p> {
        self.received()
    }

    /// The raw call ([`Peer::call`]) for a transport that was made through this: where the peer's
    /// function was not reached, everything lent comes back.
    ///
    /// # Safety
    ///
    /// Between two programs, a guest and its host, any words are safe to send: the peer judges all of them.
    ///
    /// Where both sides are one program, in a loopback, every pointer word of `transport`, and of the
    /// wire forms behind it, was lent through this and is used once, and the function with this `signature` is declared
    /// with what was lent. Other words are held to what [`Peer::call`] asks for.
    #[must_use]
    pub unsafe fn call(mut self, signature: u64, transport: Transport) -> Answer {
        let mut passage = self.passage();
        let loans = self.depart();
        let answer = self.peer.send(signature, transport, &mut passage);
        if answer.status > 1 && !CallError::from_status(answer.status).reached() {
            self.come_back(loans);
        }
        answer
    }

    /// Calls one of the ABI's own functions, with what was lent through this.
    pub(crate) fn ask<T: FfiType>(
        mut self,
        signature: u64,
        transport: Transport,
    ) -> Result<T, CallError> {
        let mut passage = self.passage();
        let loans = self.depart();
        let answer = self.peer.send(signature, transport, &mut passage);
        self.ran_in(passage.epoch);
        if answer.status == 0 {
            let value = T::from_transport(answer.transport, self.received());
            return value.map_err(|error| error.reached_handler().on(self.peer.side()));
        }
        let error = CallError::from_status(answer.status);
        if !error.reached() {
            self.come_back(loans);
        }
        Err(crate::call::found(self.peer, error, &passage))
    }

    /// From now on the peer may have what was lent, so that it is not taken back, also where a panic ends the call.
    /// Returns the number of loans, for [`come_back`](Self::come_back).
    #[inline]
    pub(crate) fn depart(&mut self) -> u32 {
        core::mem::take(&mut self.count)
    }

    /// The peer does not have what was lent: its function was not reached.
    #[inline]
    pub(crate) fn come_back(&mut self, loans: u32) {
        self.count = loans;
    }
}

/// A new block until it is lent: what fills it may fail, or panic.
struct Owner<'a> {
    arena: &'a Arena<Owned<[Slot]>>,
    block: Allocated,
}

impl Owner<'_> {
    fn release(self) -> Allocated {
        ManuallyDrop::new(self).block
    }
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        self.arena.drop_owned(self.block);
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

/// The bytes of a block, all of them 0.
///
/// # Safety
///
/// The block is of this side's arena, has room for `len` bytes, and nobody else has it.
#[inline(always)]
unsafe fn zeroed<'b>(block: *mut u8, len: usize) -> &'b mut [u8] {
    // SAFETY: the caller's promise.
    unsafe { block.write_bytes(0, len) };
    // SAFETY: as above, and they are initialised. The peer cannot write to this side's arena, or else
    // this side trusts it.
    unsafe { core::slice::from_raw_parts_mut(block, len) }
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
