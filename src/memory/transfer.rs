//! The blocks that a call lends to the peer, and the origin of the words that it receives.

use core::{fmt, mem::ManuallyDrop};

use super::{
    arena::{self, Allocated, Arena, Slot},
    region::{Epoch, Memory, stale},
    storage::{MemoryRef, Owned},
};
use crate::{
    abi::{Side, Transport, pointer},
    error::{CallError, Detail, ErrorKind},
};

/// The origin of received bytes and pointer words: the memory of one connection, as one side sees it.
///
/// Only raw calls need it: [`Outgoing::incoming`] returns one for the result.
#[derive(Clone, Copy)]
pub struct Incoming<'p> {
    /// `None` where there are no pointer words.
    memory: Option<&'p MemoryRef>,
    pub(crate) side: Side,
    /// The life of the peer in which the words were sent; `None` while it cannot end: a call is in progress, or this side is
    /// a guest. A scalar has no use for it, and a load that is not made costs nothing.
    pub(crate) epoch: Option<Epoch>,
}

impl<'p> Incoming<'p> {
    /// The origin of the wire forms of plain types, which have no pointer words.
    pub(crate) const PLAIN: Self = Self { memory: None, side: Side::Host, epoch: None };

    #[inline]
    pub(crate) fn new(memory: &'p MemoryRef, side: Side, epoch: Option<Epoch>) -> Self {
        Self { memory: Some(memory), side, epoch }
    }

    /// The memory that pointer words point to, and the life of the peer in which they were sent. A reader asks before it copies
    /// bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadPointer`] if there can be no pointer words.
    #[inline]
    pub(crate) fn source(&self) -> Result<(&'p MemoryRef, Epoch), CallError> {
        let Some(memory) = self.memory else { return Err(no_pointers()) };
        Ok((memory, self.epoch.unwrap_or_else(|| memory.epoch())))
    }

    /// Copies a wire form that the peer has sent over all of `out`, and releases its block (ABI, TY-2).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadPointer`](crate::ErrorKind::BadPointer), and [`ErrorKind::Stale`](crate::ErrorKind::Stale) if there
    /// was a reset meanwhile.
    pub(crate) fn copy_form(
        &self,
        word: u64,
        align: usize,
        out: &mut [u8],
    ) -> Result<(), CallError> {
        let (memory, epoch) = self.source()?;
        let memory: &Memory = memory;
        let at = memory.check(self.side, word, out.len() as u64, align as u64)?;
        // SAFETY: `check` found `out.len()` bytes at `at` in the peer's arena, which `out`, a mutable slice, does not overlap.
        unsafe { memory.copy_out(at, out.as_mut_ptr(), out.len()) };
        memory.release(self.side, word, epoch);
        if memory.is_still(epoch) { Ok(()) } else { Err(stale()) }
    }

    /// The same origin, whose words are used after the call.
    pub(crate) fn kept(self) -> Self {
        let epoch = self.epoch.or_else(|| self.memory.map(|memory| memory.epoch()));
        Self { epoch, ..self }
    }
}

#[cold]
fn no_pointers() -> CallError {
    CallError::new(ErrorKind::BadPointer)
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("side", &self.side).finish_non_exhaustive()
    }
}

/// The blocks that one call or one answer lends, until the peer has them. If it is dropped before, their loans end.
///
/// Only raw calls need it: [`Peer::outgoing`](crate::Peer::outgoing) returns one, [`SendAs`](crate::SendAs) lends
/// through it, and [`Peer::call_with`](crate::Peer::call_with) makes the call.
pub struct Outgoing<'p> {
    own: &'p SideMemory,
    /// The depth of the caller. Above 0, a handler lends: its loans are delivered with its answer or its call, or are taken
    /// back before it returns.
    depth: u32,
    /// The latest loan, and how many there are.
    latest: Allocated,
    count: u32,
    /// The slot of the block with the parameters, which is not lent.
    params: Option<&'p Slot>,
    /// The life of the peer in which the first block was lent, or in which the call ran; `None` before.
    epoch: Option<Epoch>,
    /// The batch to which the call is added, if it is not made alone.
    batch: Option<&'p dyn AddsCalls>,
    /// Whether it is that of a declared call, made alone, whose parameters this side keeps until the call has ended.
    keeps_parameters: bool,
}

/// A batch, to which a call is added.
pub(crate) trait AddsCalls {
    /// The place for the parameter struct of the call, of `len` bytes, in this side's arena and owned by the batch.
    fn place(&self, len: usize) -> Result<*mut u8, CallError>;

    /// Records that a value of `len` bytes, at `to` or, if that is `None`, alone in the transport, is the result of an
    /// earlier call of the batch with the number `batch`.
    fn take(
        &self,
        batch: u64,
        call: usize,
        to: Option<*const u8>,
        len: usize,
    ) -> Result<(), CallError>;
}

/// Blocks that are lent: the latest, and how many there are.
pub(crate) struct Loans {
    pub(crate) latest: Allocated,
    pub(crate) count: u32,
}

/// The loans and the life of a call, which its link needs and updates.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "std"), allow(dead_code, reason = "only a host's link reads the loans"))]
pub(crate) struct Passage {
    /// The latest loan, and how many there are.
    pub(crate) latest: Allocated,
    pub(crate) count: u32,
    /// The life of the peer in which they were lent, if there are any; after the call, the life in which it ran, if the
    /// link knows it.
    pub(crate) epoch: Option<Epoch>,
    /// Whether this side set the status of the answer, because the call or its answer was not delivered.
    pub(crate) failed_here: bool,
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("loans", &self.count).finish_non_exhaustive()
    }
}

impl<'p> Outgoing<'p> {
    #[inline]
    pub(crate) fn new(own: &'p SideMemory, depth: u32) -> Self {
        let latest = Allocated::NONE;
        let count = 0;
        Self {
            own,
            depth,
            latest,
            count,
            params: None,
            epoch: None,
            batch: None,
            keeps_parameters: false,
        }
    }

    /// Makes it that of a declared call that is made alone: a wire form alone in the transport is in a block that is not lent, as
    /// a struct with several parameters is (ABI, A-5). In a batch it is lent, so that no result is taken within it (BT-6).
    #[inline(always)]
    pub(crate) fn for_call(self) -> Self {
        Self { keeps_parameters: true, ..self }
    }

    /// Makes it that of a call of a batch. Its loans follow those of the calls before it, the last of which is `latest`; all
    /// of them are lent in one life of the peer.
    pub(crate) fn in_batch(
        mut self,
        latest: Allocated,
        epoch: Epoch,
        batch: Option<&'p dyn AddsCalls>,
    ) -> Self {
        (self.latest, self.epoch, self.batch) = (latest, Some(epoch), batch);
        self
    }

    /// The batch to which the call is added.
    pub(crate) fn batch(&self) -> Option<&'p dyn AddsCalls> {
        self.batch
    }

    /// Leaves the loans to the caller.
    pub(crate) fn take_loans(&mut self) -> Loans {
        Loans { latest: self.latest, count: self.depart() }
    }

    /// Takes over loans that were made in one life of the peer.
    pub(crate) fn with_loans(mut self, loans: Loans, epoch: Epoch) -> Self {
        (self.latest, self.count, self.epoch) = (loans.latest, loans.count, Some(epoch));
        self
    }

    #[inline(always)]
    pub(crate) fn passage(&self) -> Passage {
        let Self { latest, count, epoch, .. } = *self;
        Passage { latest, count, epoch, failed_here: false }
    }

    /// Records the life of the peer in which the call ran.
    #[inline(always)]
    pub(crate) fn ran_in(&mut self, epoch: Option<Epoch>) {
        self.epoch = epoch;
    }

    /// The origin of the answer to this call.
    #[inline(always)]
    pub(crate) fn received(&self) -> Incoming<'p> {
        Incoming::new(&self.own.memory, self.own.side, self.epoch)
    }

    /// Lends an initialised block.
    #[inline(always)]
    fn add(&mut self, arena: &Arena<Owned<[Slot]>>, block: Allocated) {
        if self.epoch.is_none() {
            // Before the block is lent: if a reset comes between, the loan counts as one of the life before, and the call
            // is not made.
            self.epoch = Some(self.own.memory.epoch());
        }
        arena.lend(block, self.latest, self.depth > 0);
        self.latest = block;
        self.count += 1;
    }

    /// Whether it lends from this side's arena of this connection.
    #[inline]
    pub(crate) fn is_of(&self, own: &SideMemory) -> bool {
        core::ptr::eq::<Memory>(&*self.own.memory, &*own.memory) && self.own.side == own.side
    }

    /// Lends a block of this side's arena; returns its pointer word.
    #[inline(always)]
    pub(crate) fn lend(&mut self, block: Allocated) -> Result<u64, CallError> {
        let SideMemory { memory, side } = self.own;
        self.add(memory.arena(*side)?, block);
        Ok(pointer::join(memory.offset(*side, block), block.loan()))
    }

    /// Allocates a block of `len` bytes, initialises it with `fill` and lends it. Returns its pointer word.
    #[inline]
    fn lend_filled(
        &mut self,
        len: usize,
        fill: impl FnOnce(*mut u8, &mut Self) -> Result<(), CallError>,
    ) -> Result<u64, CallError> {
        let SideMemory { ref memory, side } = *self.own;
        let arena = memory.arena(side)?;
        let block = Owner { arena, block: alloc(self.own, len)? };
        fill(memory.address(side, block.block), self)?;
        let block = block.into_block();
        self.add(arena, block);
        Ok(pointer::join(memory.offset(side, block), block.loan()))
    }

    /// Makes a block with a wire form, which is alone in a transport and which `fill` writes in place over zeros. It is lent,
    /// unless it is a parameter.
    #[doc(hidden)]
    #[inline(always)]
    pub fn send_form<W>(
        &mut self,
        fill: impl FnOnce(&mut [u8], &mut Self) -> Result<(), CallError>,
    ) -> Result<Transport, CallError> {
        if self.keeps_parameters {
            return self.place::<W>(fill);
        }
        let len = const { size_of::<W>() };
        if len == 0 {
            return fill(&mut [], self).map(|()| Transport::EMPTY);
        }
        let filled = self.lend_filled(len, |block, out| {
            // SAFETY: `lend_filled` allocated `len` bytes at `block` in this side's arena and owns them. A block begins at a
            // granule, which no wire form's alignment exceeds.
            fill(unsafe { zeroed(block, len, align_of::<W>()) }, out)
        });
        filled.map(Transport::word)
    }

    /// Lends a new block with a wire form of `len` bytes, which is not 0, as `send_form` does.
    pub(crate) fn lend_form(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8], &mut Self) -> Result<(), CallError>,
    ) -> Result<u64, CallError> {
        self.lend_filled(len, |block, out| {
            // SAFETY: `lend_filled` allocated `len` bytes at `block` in this side's arena and owns them.
            fill(unsafe { zeroed(block, len, 1) }, out)
        })
    }

    /// Allocates a block for parameters, which `fill` writes in place over zeros. The block is not lent; this side
    /// drops it when the call has ended (ABI, A-5).
    #[doc(hidden)]
    #[inline(always)]
    pub fn place<P>(
        &mut self,
        fill: impl FnOnce(&mut [u8], &mut Self) -> Result<(), CallError>,
    ) -> Result<Transport, CallError> {
        let len = const { size_of::<P>() };
        // What `fill` sends lies in it, or behind a pointer word of it, and not alone in the transport.
        self.keeps_parameters = false;
        if len == 0 {
            return fill(&mut [], self).map(|()| Transport::EMPTY);
        }
        let block = match self.batch {
            None => {
                let granules = const { arena::granules(size_of::<P>()) };
                let (block, slot) = try_place(self.own, granules);
                if slot.is_none() {
                    return Err(out_of_memory(self.own, len));
                }
                self.params = slot;
                block
            }
            Some(batch) => batch.place(len)?,
        };
        let word = self.own.memory.offset_of(block);
        // SAFETY: `try_place` allocated granules for `len` bytes at `block` in this side's arena, and `self.params`
        // owns them; or the batch has `len` bytes there for this call, and owns them. No wire form is aligned to more than
        // 16 bytes, to which both are.
        fill(unsafe { zeroed(block, len, align_of::<P>()) }, self)?;
        Ok(Transport::word(word))
    }

    /// Lends a new block with a copy of some bytes.
    #[inline]
    pub(crate) fn lend_bytes(&mut self, bytes: &[u8]) -> Result<Transport, CallError> {
        if bytes.is_empty() {
            return Ok(Transport::EMPTY);
        }
        let filled = self.lend_filled(bytes.len(), |block, _| {
            // SAFETY: `lend_filled` allocated `bytes.len()` bytes at `block` and owns them. `bytes` does not overlap a
            // block that was free when it was borrowed.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), block, bytes.len()) };
            Ok(())
        });
        filled.map(|primary| Transport { primary, secondary: bytes.len() as u64 })
    }

    /// The origin of the answer, for [`FfiType::from_transport`](crate::FfiType::from_transport) after the raw
    /// [`Peer::call_with`](crate::Peer::call_with).
    ///
    /// # Safety
    ///
    /// In a loopback, where both sides are one program: only the words of the answer to this call are decoded with the
    /// result, each at most once, and as the type that the function returns.
    ///
    /// Between a guest and its host, decoding other words is safe by itself, but a handle made of them may end a loan
    /// of the peer early. The caller makes sure that no borrow by
    /// [`ForeignBuf::as_slice`](crate::ForeignBuf::as_slice) relies on that loan.
    #[must_use]
    #[inline]
    pub unsafe fn incoming(&self) -> Incoming<'p> {
        // The caller may keep it for longer than the life of the peer lasts.
        self.received().kept()
    }

    /// Hands the loans over to the peer, so that dropping `self`, also in a panic, does not take them back. Returns
    /// their number, for [`come_back`](Self::come_back).
    #[inline]
    pub(crate) fn depart(&mut self) -> u32 {
        core::mem::take(&mut self.count)
    }

    /// Drops the block with the parameters, when the call has ended.
    #[inline(always)]
    pub(crate) fn drop_params(&mut self) {
        if let Some(slot) = self.params.take() {
            slot.drop_owned();
        }
    }

    /// Takes over the loans again, because the call did not reach its function (ABI, S-4).
    #[inline]
    pub(crate) fn come_back(&mut self, loans: u32) {
        self.count = loans;
    }
}

/// Owns a new block until it is lent, and drops it if initialising it fails or panics.
struct Owner<'a> {
    arena: &'a Arena<Owned<[Slot]>>,
    block: Allocated,
}

impl Owner<'_> {
    fn into_block(self) -> Allocated {
        ManuallyDrop::new(self).block
    }
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        self.arena.drop_owned(self.block);
    }
}

/// Ends the loans that were not delivered, and drops the block with the parameters.
impl Drop for Outgoing<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.count != 0 || self.params.is_some() {
            end(self.own, self.params, self.latest, self.count);
        }
    }
}

/// Ends loans that were not delivered, and drops the block with the parameters. A finished call has neither, and this is
/// small where a panic calls it. The values are by themselves, since a reference to the whole would keep it in memory.
#[cold]
#[inline(never)]
fn end(own: &SideMemory, params: Option<&Slot>, latest: Allocated, count: u32) {
    if let Some(slot) = params {
        slot.drop_owned();
    }
    if count != 0 {
        if let Ok(arena) = own.memory.arena(own.side) {
            arena.take_back(latest, count);
        }
    }
}

/// Zeroes the `len` bytes at `block` and returns them. Some processors write byte by byte where the compiler does not know
/// the alignment.
///
/// # Safety
///
/// `block` points to at least `len` bytes of one block in this side's arena, which the caller owns for `'b`. It is a multiple
/// of `align`.
#[inline(always)]
unsafe fn zeroed<'b>(block: *mut u8, len: usize, align: usize) -> &'b mut [u8] {
    // SAFETY: the caller promises it.
    unsafe { core::hint::assert_unchecked(block.addr() % align == 0) };
    // SAFETY: the caller owns the `len` bytes at `block`.
    unsafe { block.write_bytes(0, len) };
    // SAFETY: the bytes are initialised above, and the caller owns them for `'b`. The page tables keep a guest from
    // writing to its host's arena, and a guest trusts its host not to write to an owned block (ABI, O-5).
    unsafe { core::slice::from_raw_parts_mut(block, len) }
}

/// Allocates in the arena of its side: a [`Peer`](crate::Peer) or an [`Outgoing`]. The trait is sealed.
pub trait Lender: sealed::Sealed {
    /// The memory and the side from whose arena it lends.
    #[doc(hidden)]
    fn own(&self) -> &SideMemory;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// The memory of one connection, and the side on which this code runs.
#[doc(hidden)]
#[derive(Clone)]
pub struct SideMemory {
    pub(crate) memory: MemoryRef,
    pub(crate) side: Side,
}

impl fmt::Debug for SideMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideMemory").field("side", &self.side).finish_non_exhaustive()
    }
}

impl sealed::Sealed for Outgoing<'_> {}

impl Lender for Outgoing<'_> {
    #[inline]
    fn own(&self) -> &SideMemory {
        self.own
    }
}

/// Allocates a block of `len` bytes in this side's arena.
///
/// # Errors
///
/// [`ErrorKind::OutOfMemory`].
#[inline]
pub(crate) fn alloc(own: &SideMemory, len: usize) -> Result<Allocated, CallError> {
    match try_alloc(own, len) {
        0 => Err(out_of_memory(own, len)),
        packed => Ok(Allocated { index: packed as u32, serial: (packed >> 32) as u32 }),
    }
}

/// Allocates a block in this side's arena; returns its address and slot, which fit into two registers.
#[inline(never)]
fn try_place(own: &SideMemory, granules: u32) -> (*mut u8, Option<&Slot>) {
    let SideMemory { memory, side } = own;
    let Ok(arena) = memory.arena(*side) else { return (core::ptr::null_mut(), None) };
    match arena.alloc_granules(granules) {
        Some(block) => (memory.address(*side, block), Some(arena.slot(block.index))),
        None => (core::ptr::null_mut(), None),
    }
}

/// Allocates a block; returns its index and serial number packed into one register, or 0, which no block has, since
/// serial numbers are not 0. It is not generic, so that it is compiled once.
#[inline(never)]
fn try_alloc(own: &SideMemory, len: usize) -> u64 {
    let block = own.memory.arena(own.side).ok().and_then(|arena| arena.alloc(len));
    block.map_or(0, |block| u64::from(block.index) | u64::from(block.serial) << 32)
}

#[inline]
fn out_of_memory(own: &SideMemory, len: usize) -> CallError {
    let (detail, size) = shortage(own, len);
    CallError::new(ErrorKind::OutOfMemory).at(size, len as u64).because_of(detail).on(own.side)
}

/// Returns two small values in registers. If it returned the error, the compiler would place the result of a successful call
/// in memory as well.
#[cold]
#[inline(never)]
fn shortage(own: &SideMemory, len: usize) -> (Detail, u64) {
    own.memory.arena(own.side).map_or((Detail::None, 0), |arena| arena.shortage(len))
}
