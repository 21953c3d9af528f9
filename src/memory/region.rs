//! All accesses to the shared region.
//!
//! Only this file turns an offset into an address. Bytes that the peer can write are copied out once, through raw
//! pointers, and no Rust reference covers them.

use core::{ptr, sync::atomic::compiler_fence};

#[cfg(feature = "std")]
use super::{arena::KeptBlock, process_id::ProcessId};
use super::{
    arena::{self, Allocated, Arena, GRANULE_SIZE, Lock, Slot},
    layout::{RegionLayout, check_place},
    region_memory::RegionMemory,
    storage::Owned,
    sync::{AtomicU8, AtomicUsize, Ordering, fence},
};
use crate::{
    abi::{Side, pointer},
    error::{CallError, ErrorKind, RegionError},
};

/// The number of a life of the peer, which lasts from one reset to the next. A call, its loans and the handles that it
/// returns belong to one life. Lives have even numbers; the number is odd while a reset is in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(usize);

impl Epoch {
    #[cfg(feature = "std")]
    pub(crate) fn number(self) -> usize {
        self.0
    }

    /// Whether the number is that of a life, and not of a reset in progress.
    #[cfg(all(test, loom))]
    pub(crate) fn is_a_life(self) -> bool {
        self.0 % 2 == 0
    }
}

/// The region of one connection, with the allocator metadata of the arenas that this program owns: one in a guest and
/// in its host, both in a loopback.
pub(crate) struct Memory {
    base: *mut u8,
    layout: RegionLayout,
    arenas: [Option<Arena<Owned<[Slot]>>>; 2],
    epoch: AtomicUsize,
    /// Held while the epoch changes, while a release mark is written, and while a handle is read if both sides are one
    /// program. So a mark is written in the life of its loan or not at all, and a loopback writes to no block that is read.
    epoch_lock: Lock<()>,
    /// The maximum number of live handles.
    #[cfg(feature = "alloc")]
    handles: usize,
    /// The process that owns the region, if its forked children do not inherit the mapping.
    #[cfg(feature = "std")]
    home: Option<ProcessId>,
    /// Keeps the region mapped.
    _keep: Owned<dyn Send + Sync>,
}

// SAFETY: `base` is the only field that is not `Send`. The caller of `new` promised that it stays mapped for as long as
// `_keep` lives, which moves with it, and a mapping is valid in every thread.
unsafe impl Send for Memory {}
// SAFETY: release maps are accessed as atomics; a block of an own arena is accessed only by the owner of its
// `Allocated`; bytes of the peer are only copied out, and `epoch_lock` delays the resets of a loopback, whose peer is
// this program.
unsafe impl Sync for Memory {}

impl Memory {
    /// A region that is laid out as `layout` says, with allocator metadata for the arenas of the sides that live here. The
    /// metadata of an arena may have fewer slots than the arena has granules: the remainder is unused then.
    ///
    /// # Errors
    ///
    /// [`RegionError::Misaligned`], and [`RegionError::TooSmall`] if the memory is shorter than the layout.
    pub(crate) fn new(
        memory: RegionMemory,
        layout: RegionLayout,
        metadata: [Option<Owned<[Slot]>>; 2],
    ) -> Result<Self, RegionError> {
        let RegionMemory { base, len, keep } = memory;
        check_place(base, len, layout.len())?;
        let arena = |metadata: Option<Owned<[Slot]>>, side: Side| {
            metadata.map(|metadata| {
                assert!(metadata.len() <= layout.granules(side), "more slots than granules");
                // SAFETY: `check_place` has found all of the layout in the memory, and the map is in the layout.
                let map = unsafe { base.add(layout.release_map(side) as usize) };
                // SAFETY: the map has a byte for each granule, and there are no more slots than granules. `RegionMemory` was
                // promised to be readable and writable there for as long as `keep` lives, which `Memory` owns.
                unsafe { Arena::new(metadata, map.cast::<AtomicU8>()) }
            })
        };
        let [guest, host] = metadata;
        let arenas = [arena(guest, Side::Guest), arena(host, Side::Host)];
        Ok(Self {
            base,
            layout,
            arenas,
            epoch: AtomicUsize::new(0),
            epoch_lock: Lock::new(()),
            #[cfg(feature = "alloc")]
            handles: usize::MAX,
            #[cfg(feature = "std")]
            home: None,
            _keep: keep,
        })
    }

    /// Sets the maximum number of blocks and bytes in use in a side's arena, if this program owns it.
    pub(crate) fn limit(&mut self, side: Side, blocks: u32, bytes: u64) {
        if let Some(arena) = &mut self.arenas[side as usize] {
            arena.limit(blocks, bytes);
        }
    }

    /// Sets the maximum number of live handles.
    #[cfg(feature = "std")]
    pub(crate) fn limit_handles(&mut self, handles: usize) {
        self.handles = handles;
    }

    /// Binds the region to this process, whose forked children do not inherit the mapping: in them, handles are stale
    /// and [`arena`](Self::arena) fails.
    #[cfg(feature = "std")]
    pub(crate) fn belongs_here(&mut self) {
        self.home = Some(ProcessId::current());
    }

    /// Whether the region is mapped in this process, which may be a fork of the one that owns it.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        #[cfg(feature = "std")]
        return self.home.is_none_or(|home| home == ProcessId::current());
        #[cfg(not(feature = "std"))]
        true
    }

    /// The maximum number of live handles.
    #[cfg(feature = "alloc")]
    #[inline]
    pub(crate) fn handles(&self) -> usize {
        self.handles
    }

    /// Allocates the metadata for a side's arena.
    ///
    /// # Errors
    ///
    /// [`RegionError::OutOfMemory`] if the heap has no memory for it.
    #[cfg(feature = "alloc")]
    pub(crate) fn new_metadata(
        layout: &RegionLayout,
        side: Side,
    ) -> Result<Owned<[Slot]>, RegionError> {
        Slot::zeroed(layout.granules(side)).map_err(|len| RegionError::OutOfMemory { len })
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn layout(&self) -> &RegionLayout {
        &self.layout
    }

    #[inline]
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Whether `epoch` is the current one. A reader asks after it has copied bytes that were lent in `epoch`: if the
    /// answer is no, the copy may contain bytes of another loan.
    #[inline]
    pub(crate) fn is_still(&self, epoch: Epoch) -> bool {
        // If the copy read a byte that was written after a reset, the load reads the epoch of that reset or a later
        // one.
        fence(Ordering::Acquire);
        self.epoch.load(Ordering::Relaxed) == epoch.0
    }

    /// Begins a reset: makes all handles stale, stops release marks for the peer's loans, and ends the loans of the
    /// arenas that this program owns. Returns the epoch that lasts until [`end_reset`](Self::end_reset).
    ///
    /// The caller makes sure that no call is in progress and that no borrow of lent bytes lives. Other threads may read
    /// and drop handles meanwhile: a reader asks [`is_still`](Self::is_still) after its copy.
    pub(crate) fn begin_reset(&self) -> Epoch {
        let epoch = {
            let _guard = self.epoch_lock.lock();
            Epoch(self.epoch.fetch_add(1, Ordering::SeqCst).wrapping_add(1))
        };
        // Orders the new epoch before all bytes of later loans.
        fence(Ordering::SeqCst);
        self.end_loans();
        epoch
    }

    /// Ends a reset and begins the next life of the peer, after the caller has initialised the region for it.
    pub(crate) fn end_reset(&self) -> Epoch {
        // Loans that were made during the reset were not made to this life.
        self.end_loans();
        Epoch(self.epoch.fetch_add(1, Ordering::Release).wrapping_add(1))
    }

    /// Ends all loans of the arenas that this program owns, since the peer will not release them any more.
    pub(crate) fn end_loans(&self) {
        self.arenas.iter().flatten().for_each(Arena::end_loans);
    }

    /// Zeroes the free granules of a side's arena, if this program owns it, so that the peer's next life cannot read
    /// bytes that were lent to an earlier one. The peer is another program.
    pub(crate) fn wipe(&self, side: Side) {
        let Some(arena) = &self.arenas[side as usize] else { return };
        let (start, _) = self.layout.arena(side);
        arena.wipe(|first, granules| {
            let at = start as usize + first as usize * GRANULE_SIZE;
            // SAFETY: `wipe` passes granules of this arena, which lies within the region.
            let at = unsafe { self.base.add(at) };
            // SAFETY: the range is in the arena. Its granules are free, and the arena's lock, which is held during this
            // call, keeps them free, so nothing else accesses them.
            unsafe { at.write_bytes(0, granules as usize * GRANULE_SIZE) };
        });
    }

    /// The blocks of a side's arena, which this program owns, that the peer holds at its checkpoint; `None` if there is no
    /// memory for them. Nothing else keeps or releases blocks meanwhile.
    #[cfg(feature = "std")]
    #[cfg_attr(not(feature = "machine"), expect(dead_code, reason = "for machines"))]
    pub(crate) fn kept_blocks(&self, side: Side) -> Option<alloc::vec::Vec<KeptBlock>> {
        let Some(arena) = &self.arenas[side as usize] else { return Some(alloc::vec::Vec::new()) };
        arena.kept(|first, granules| {
            let len = granules as usize * GRANULE_SIZE;
            let mut bytes = alloc::vec::Vec::new();
            bytes.try_reserve_exact(len).ok()?;
            let at = self.layout.arena(side).0 as usize + first as usize * GRANULE_SIZE;
            // SAFETY: `kept` passes blocks of this arena, which lies within the region.
            let from = unsafe { self.base.add(at) };
            // SAFETY: the block is `len` bytes of this program's arena, which only this program writes, and it does not write
            // to a block that is lent. `bytes` has room for as many.
            unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len) };
            // SAFETY: the line above has initialised `len` bytes.
            unsafe { bytes.set_len(len) };
            Some(bytes.into_boxed_slice())
        })
    }

    /// Makes blocks, sorted by index, kept loans of a side's arena, in which nothing was allocated before.
    #[cfg(feature = "std")]
    pub(crate) fn adopt(&self, side: Side, kept: &[KeptBlock]) {
        let Some(arena) = &self.arenas[side as usize] else { return };
        arena.adopt(kept);
        for block in kept {
            let at = self.layout.arena(side).0 as usize + block.index as usize * GRANULE_SIZE;
            // SAFETY: `adopt` has checked that the block is in the arena, which lies within the region.
            let to = unsafe { self.base.add(at) };
            // SAFETY: `bytes` has as many bytes as the block has, and lies on the heap. Nothing else accesses the block, since
            // the peer does not run yet.
            unsafe { ptr::copy_nonoverlapping(block.bytes.as_ptr(), to, block.bytes.len()) };
        }
    }

    /// The arena of a side.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PeerDied`] in a forked child without the region, [`ErrorKind::Protocol`] if another program owns
    /// the arena.
    #[inline]
    pub(crate) fn arena(&self, side: Side) -> Result<&Arena<Owned<[Slot]>>, CallError> {
        if !self.is_here() {
            return Err(CallError::new(ErrorKind::PeerDied));
        }
        self.arenas[side as usize].as_ref().ok_or_else(|| CallError::new(ErrorKind::Protocol))
    }

    /// The offset in the region, in bytes, of a block of a side's arena.
    #[inline]
    pub(crate) fn offset(&self, side: Side, block: Allocated) -> u64 {
        self.layout.arena(side).0 + u64::from(block.index) * GRANULE_SIZE as u64
    }

    /// The address of a block of a side's arena.
    #[inline]
    pub(crate) fn address(&self, side: Side, block: Allocated) -> *mut u8 {
        // SAFETY: the arena of `side` allocated the block, so its index is less than the arena's number of granules,
        // and the offset is within the region.
        unsafe { self.base.add(self.offset(side, block) as usize) }
    }

    /// The offset in bytes of an address in the region. For another address, the result is not in the region.
    #[inline]
    pub(crate) fn offset_of(&self, address: *const u8) -> u64 {
        address.addr().wrapping_sub(self.base.addr()) as u64
    }

    /// Drops an owned block of a side's arena, which begins at `offset`, and returns the word at its beginning.
    pub(crate) fn drop_linked(&self, side: Side, offset: u64) -> u64 {
        let within = offset.wrapping_sub(self.layout.arena(side).0);
        let Ok(arena) = self.arena(side) else { return 0 };
        let slot = arena.slot((within / GRANULE_SIZE as u64) as u32);
        // SAFETY: `slot` has not panicked, so the block is in the arena, and its first granule has 64 bytes, aligned as many.
        let at = unsafe { self.base.add(offset as usize) };
        // SAFETY: as above. This side owns the block, and has written the word.
        let next = unsafe { at.cast::<u64>().read() };
        slot.drop_owned();
        next
    }

    /// Validates a pointer word that the peer of `side` has sent: it must point to `len` bytes in the peer's arena, at
    /// an offset that is a multiple of `align`. Returns the offset.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadPointer`].
    #[inline]
    pub(crate) fn check(
        &self,
        side: Side,
        word: u64,
        len: u64,
        align: u64,
    ) -> Result<u64, CallError> {
        let (start, size) = self.layout.arena(side.other());
        let offset = pointer::offset(word);
        let within = offset.wrapping_sub(start);
        if within <= size && len <= size - within && offset % align == 0 {
            Ok(offset)
        } else {
            Err(CallError::new(ErrorKind::BadPointer).at(offset, len))
        }
    }

    /// Copies `count` values out of the region. Each byte is read once, so later writes of the peer do not affect the
    /// copy. The type tells the compiler the alignment, without which some processors copy byte by byte.
    ///
    /// # Safety
    ///
    /// [`check`](Self::check) accepted a range that includes the `count` values at `offset`, which is a multiple of their
    /// alignment. `out` is valid for writes of as many, which do not overlap the range. Any bytes are a value.
    #[inline]
    pub(crate) unsafe fn copy_out<W>(&self, offset: u64, out: *mut W, count: usize) {
        // SAFETY: the caller promises that `check` accepted the range, so it is in the region, which `_keep` keeps
        // mapped.
        let from = unsafe { self.base.add(offset as usize) }.cast::<W>();
        // SAFETY: the source is in the region for `count` values, at a multiple of their alignment, since the region begins
        // at a page. The caller promises that `out` is valid for writes of as many and does not overlap the source.
        unsafe { ptr::copy_nonoverlapping(from, out, count) };
        // Keeps the compiler from reading the source again instead of the copy.
        compiler_fence(Ordering::SeqCst);
    }

    /// Copies like [`copy_out`](Self::copy_out), for a handle that was made in `epoch`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] if there was a reset since `epoch`, or one began during the copy. The bytes at `out` are
    /// then unspecified, and the caller must not use them.
    ///
    /// # Safety
    ///
    /// As for [`copy_out`](Self::copy_out).
    #[inline]
    pub(crate) unsafe fn copy_lent(
        &self,
        epoch: Epoch,
        offset: u64,
        out: *mut u8,
        len: usize,
    ) -> Result<(), CallError> {
        // In a forked child, another thread of the parent may have held the lock.
        if !self.is_here() {
            return Err(stale());
        }
        // In a loopback, a copy and a write of the next life to the same bytes would be a data race.
        #[cfg(feature = "alloc")]
        let _guard = self.is_loopback().then(|| self.epoch_lock.lock());
        if epoch != self.epoch() {
            return Err(stale());
        }
        // SAFETY: the caller promises what `copy_out` requires of `offset`, `out` and `len`.
        unsafe { self.copy_out(offset, out, len) };
        if self.is_still(epoch) { Ok(()) } else { Err(stale()) }
    }

    /// Whether both sides are this program.
    #[inline]
    pub(crate) fn is_loopback(&self) -> bool {
        self.arenas.iter().all(Option::is_some)
    }

    /// The address of bytes in the peer's arena.
    ///
    /// # Safety
    ///
    /// [`check`](Self::check) accepted `offset`.
    #[inline]
    pub(crate) unsafe fn peer_address(&self, offset: u64) -> *const u8 {
        // SAFETY: the caller promises that `check` accepted `offset`, so it is in the region.
        unsafe { self.base.add(offset as usize) }
    }

    /// Releases a block that the peer lent in `epoch`: writes its release mark (ABI, M-2), if `epoch` is still the
    /// current one. A word with loan 0, or outside of the peer's arena, is ignored.
    #[inline]
    pub(crate) fn release(&self, side: Side, word: u64, epoch: Epoch) {
        let loan = pointer::loan(word);
        let (start, size) = self.layout.arena(side.other());
        let within = pointer::offset(word).wrapping_sub(start);
        if loan == 0 || within >= size || !self.is_here() {
            return;
        }
        let at = self.layout.release_map(side.other()) + within / GRANULE_SIZE as u64;
        // SAFETY: `within` is less than the arena's size, and the release map, which is in the region, has a byte for
        // each granule of the arena.
        let mark = unsafe { self.base.add(at as usize) };
        // SAFETY: the byte is mapped as long as `self` lives, and this crate accesses release maps only as atomics. A
        // peer in another program is bound by the ABI (M-2), not by the memory model of this one.
        let mark = unsafe { &*mark.cast::<AtomicU8>() };
        // Only a host and a loopback reset connections, so a guest needs no lock.
        let _guard = self.arenas[Side::Host as usize].as_ref().map(|_| self.epoch_lock.lock());
        if epoch == self.epoch() {
            arena::release(mark, loan);
        }
    }
}

/// The error for a handle from before a reset.
#[cold]
pub(crate) fn stale() -> CallError {
    CallError::new(ErrorKind::Stale)
}

#[cfg(all(test, loom))]
mod models;
