//! The shared region: its layout, and every access to it.
//!
//! Nothing outside this file turns an offset into an address. What the peer can write is copied out
//! through raw pointers, once, and never seen as a Rust reference.

use core::{ptr, sync::atomic::compiler_fence};

#[cfg(feature = "alloc")]
use crate::arena::Lock;
#[cfg(feature = "std")]
use crate::host::fork::ProcessId;
use crate::{
    abi::{ABI_VERSION, Side, pointer},
    arena::{self, Allocated, Arena, GRANULE, Slot},
    error::{CallError, RegionError, Why},
    owned::Owned,
    sync::{AtomicU8, AtomicUsize, Ordering, fence},
};

/// The unit of protection: a region, and each of its parts, begins and ends at a multiple of it.
pub const PAGE: u64 = 4096;

/// `"VMFFI\0\0\0"`, the first eight bytes of a region.
pub const MAGIC: u64 = u64::from_le_bytes(*b"VMFFI\0\0\0");

/// Where the parts of a region lie: offsets and lengths in bytes (ABI, "Region header").
///
/// In this order: the header page, the release map for the host's arena, that for the guest's arena,
/// the guest's arena, the host's arena. The guest may write all but the first and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    len: u64,
    /// By [`Side`]: the arena's offset and length.
    arenas: [(u64, u64); 2],
    /// By [`Side`]: the offset of the release map for that side's arena.
    maps: [u64; 2],
}

impl Layout {
    /// The layout of a region with arenas of these sizes in bytes, rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// [`RegionError::TooSmall`] for an arena of 0 bytes, [`RegionError::TooLarge`] for one of
    /// 128 GiB or more.
    pub const fn new(guest_arena: u64, host_arena: u64) -> Result<Self, RegionError> {
        const MOST: u64 = 1 << 37;
        if guest_arena == 0 || host_arena == 0 {
            return Err(RegionError::TooSmall { len: 0, needed: PAGE });
        }
        if guest_arena >= MOST || host_arena >= MOST {
            return Err(RegionError::TooLarge {
                len: if guest_arena > host_arena { guest_arena } else { host_arena },
            });
        }
        let guest = guest_arena.next_multiple_of(PAGE);
        let host = host_arena.next_multiple_of(PAGE);
        let host_map = PAGE;
        let guest_map = host_map + (host / GRANULE as u64).next_multiple_of(PAGE);
        let guest_at = guest_map + (guest / GRANULE as u64).next_multiple_of(PAGE);
        let host_at = guest_at + guest;
        Ok(Self {
            len: host_at + host,
            arenas: [(guest_at, guest), (host_at, host)],
            maps: [guest_map, host_map],
        })
    }

    /// The length of the region in bytes, a multiple of [`PAGE`].
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// The offset and the length of a side's arena, in bytes.
    #[must_use]
    pub const fn arena(&self, side: Side) -> (u64, u64) {
        self.arenas[side as usize]
    }

    /// The offset of the release map for a side's arena: one byte for every 64 of the arena.
    #[must_use]
    pub const fn release_map(&self, side: Side) -> u64 {
        self.maps[side as usize]
    }

    /// The number of granules in a side's arena, and so of bytes in its release map and of slots in
    /// its books.
    #[must_use]
    pub const fn granules(&self, side: Side) -> usize {
        (self.arenas[side as usize].1 / GRANULE as u64) as usize
    }

    /// The header's words behind magic and version (ABI, "Region header").
    const fn words(&self) -> [(&'static str, u64); 7] {
        let [guest, host] = self.arenas;
        [
            ("region_len", self.len),
            ("guest_arena", guest.0),
            ("guest_arena_len", guest.1),
            ("host_arena", host.0),
            ("host_arena_len", host.1),
            ("guest_release_map", self.maps[0]),
            ("host_release_map", self.maps[1]),
        ]
    }

    /// Writes the header into fresh memory.
    ///
    /// # Safety
    ///
    /// `base` is valid for writes of a page.
    #[cfg(feature = "alloc")]
    pub(crate) unsafe fn write_header(&self, base: *mut u8) {
        // SAFETY: the caller gave a page.
        unsafe { base.write_bytes(0, PAGE as usize) };
        let put = |at: usize, value: u64| {
            // SAFETY: `at` is within the first page, which the caller gave.
            unsafe { base.add(at).cast::<u64>().write_unaligned(value) }
        };
        put(0, MAGIC);
        put(8, u64::from(ABI_VERSION));
        for (i, (_, value)) in self.words().into_iter().enumerate() {
            put(16 + 8 * i, value);
        }
    }

    /// Reads the header of a region of `len` bytes that the host has laid out, each field once:
    /// [`Guest::connect`](crate::guest::Guest::connect) begins with it.
    ///
    /// # Safety
    ///
    /// `base` is valid for reads of `len` bytes.
    ///
    /// # Errors
    ///
    /// The first field that is wrong.
    pub unsafe fn read_header(base: *const u8, len: u64) -> Result<Self, RegionError> {
        check_place(base, len, PAGE)?;
        let take = |at: usize| {
            // SAFETY: `at` is within the first page, which is there.
            unsafe { base.add(at).cast::<u64>().read_volatile() }
        };
        let found = take(0);
        if found != MAGIC {
            return Err(RegionError::NotARegion { found });
        }
        let found = take(8) as u32;
        if found != ABI_VERSION {
            return Err(RegionError::Version { found, expected: ABI_VERSION });
        }
        let words: [u64; 7] = core::array::from_fn(|i| take(16 + 8 * i));
        if words[0] > len {
            return Err(RegionError::TooSmall { len, needed: words[0] });
        }
        // A region has one layout for its two arena sizes, so nothing else in it can be right.
        let layout = Self::new(words[2], words[4])?;
        for ((field, right), found) in layout.words().into_iter().zip(words) {
            if right != found {
                return Err(RegionError::BadHeader { field, value: found });
            }
        }
        Ok(layout)
    }
}

/// Whether memory can hold a region at all.
fn check_place(base: *const u8, len: u64, needed: u64) -> Result<(), RegionError> {
    if base.addr() as u64 % PAGE != 0 {
        return Err(RegionError::Misaligned { address: base.addr() as u64 });
    }
    if len < needed {
        return Err(RegionError::TooSmall { len, needed });
    }
    Ok(())
}

/// A life of the peer: from one reset to the next. A call, what it lends and what it brings back belong to one. While a
/// reset is under way, the number is one that no call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(usize);

#[cfg(all(test, loom))]
impl Epoch {
    pub(crate) fn number(self) -> usize {
        self.0
    }

    /// It is not the time between two.
    pub(crate) fn is_a_life(self) -> bool {
        self.0 % 2 == 0
    }
}

/// A region that one process (or guest) can reach, with the books of the arenas that it owns there.
pub(crate) struct Memory {
    base: *mut u8,
    layout: Layout,
    arenas: [Option<Arena<Owned<[Slot]>>>; 2],
    epoch: AtomicUsize,
    /// Held while a mark is left, and while the epoch moves on: a mark is of its own life or is not left.
    #[cfg(feature = "alloc")]
    marking: Lock<()>,
    /// How many handles are being read, where both sides are one program.
    #[cfg(feature = "alloc")]
    readers: AtomicUsize,
    /// How many handles may live at once.
    #[cfg(feature = "alloc")]
    handles: usize,
    /// The process that the region belongs to. One that is forked from it does not have it.
    #[cfg(feature = "std")]
    home: Option<ProcessId>,
    /// Keeps the region mapped.
    _keep: Owned<dyn Send + Sync>,
}

// SAFETY: `base` is memory that any thread may use (the contract of `new`); it is written only where
// a block's owner says so, or through atomics.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// A region that is laid out as `layout` says, with books for the sides that live here.
    ///
    /// # Safety
    ///
    /// `base` points to `layout.len()` bytes, mapped for as long as `keep` lives, that no Rust
    /// reference covers. Books have no more slots than their arena has granules, and nobody else keeps
    /// books for the same arena.
    ///
    /// # Errors
    ///
    /// [`RegionError::Misaligned`], and [`RegionError::TooSmall`] where `len` is less than the layout
    /// needs.
    pub(crate) unsafe fn new(
        base: *mut u8,
        len: u64,
        layout: Layout,
        books: [Option<Owned<[Slot]>>; 2],
        keep: Owned<dyn Send + Sync>,
    ) -> Result<Self, RegionError> {
        check_place(base, len, layout.len)?;
        let arena = |books: Option<Owned<[Slot]>>, side: Side| {
            books.map(|books| {
                // SAFETY: the release map is within the region, which the caller gave.
                let marks = unsafe { base.add(layout.release_map(side) as usize) };
                // SAFETY: the map has a byte for every granule, and the books no more slots.
                unsafe { Arena::new(books, marks.cast::<AtomicU8>()) }
            })
        };
        let [guest, host] = books;
        let arenas = [arena(guest, Side::Guest), arena(host, Side::Host)];
        Ok(Self {
            base,
            layout,
            arenas,
            epoch: AtomicUsize::new(0),
            #[cfg(feature = "alloc")]
            marking: Lock::new(()),
            #[cfg(feature = "alloc")]
            readers: AtomicUsize::new(0),
            #[cfg(feature = "alloc")]
            handles: usize::MAX,
            #[cfg(feature = "std")]
            home: None,
            _keep: keep,
        })
    }

    /// Limits what may be in use of a side's arena that lives here, and how many handles may live.
    #[cfg(feature = "std")]
    pub(crate) fn limit(&mut self, side: Side, blocks: u32, bytes: u64, handles: usize) {
        if let Some(arena) = &mut self.arenas[side as usize] {
            arena.limit(blocks, bytes);
        }
        self.handles = handles;
    }

    /// The region is shared with another program, and so no copy of it is in a process that is forked from this one:
    /// there, handles are stale and arenas are not to be had.
    #[cfg(feature = "std")]
    pub(crate) fn belongs_here(&mut self) {
        self.home = Some(ProcessId::current());
    }

    /// Whether this process has the region, and is not forked from the one that has it.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        #[cfg(feature = "std")]
        return self.home.is_none_or(|home| home == ProcessId::current());
        #[cfg(not(feature = "std"))]
        true
    }

    /// How many handles may live at once.
    #[cfg(feature = "alloc")]
    #[inline]
    pub(crate) fn handles(&self) -> usize {
        self.handles
    }

    /// Books for a side's arena.
    #[cfg(feature = "alloc")]
    pub(crate) fn new_books(layout: &Layout, side: Side) -> Result<Owned<[Slot]>, RegionError> {
        Slot::zeroed(layout.granules(side)).map_err(|len| RegionError::OutOfMemory { len })
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    #[inline]
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Whether `epoch` is still the current one, behind a copy of bytes that were lent in it: if not,
    /// the bytes may be another loan's by now.
    #[inline]
    pub(crate) fn is_still(&self, epoch: Epoch) -> bool {
        // If the copy has met a byte that was written after a reset, the next load meets that reset.
        fence(Ordering::Acquire);
        self.epoch.load(Ordering::Relaxed) == epoch.0
    }

    /// Begins a reset: handles are stale, marks for the peer's loans are no longer left, and the loans of the arenas that
    /// live here have ended. Returns the number of the time until [`end_reset`](Self::end_reset).
    ///
    /// No call is under way, and no borrow of lent bytes lives. On other threads handles may be read and dropped
    /// meanwhile: who reads asks [`is_still`](Self::is_still) afterwards.
    #[cfg(feature = "alloc")]
    pub(crate) fn begin_reset(&self) -> Epoch {
        let epoch = {
            let _marking = self.marking.lock();
            Epoch(self.epoch.fetch_add(1, Ordering::SeqCst).wrapping_add(1))
        };
        // Before any byte of a new loan is written.
        fence(Ordering::SeqCst);
        // In one program, a handle must not be read while the bytes are written: who reads now has met the old epoch.
        while self.readers.load(Ordering::Acquire) != 0 {
            #[cfg(feature = "std")]
            crate::sync::nap();
            #[cfg(not(feature = "std"))]
            crate::sync::spin_loop();
        }
        self.end_loans();
        epoch
    }

    /// Begins the next life, once the region is as it should be then.
    #[cfg(feature = "alloc")]
    pub(crate) fn end_reset(&self) -> Epoch {
        // What was lent meanwhile was not lent to it.
        self.end_loans();
        Epoch(self.epoch.fetch_add(1, Ordering::Release).wrapping_add(1))
    }

    /// Ends the loans of the arenas that live here: the peer gives nothing back any more.
    #[cfg(feature = "alloc")]
    pub(crate) fn end_loans(&self) {
        self.arenas.iter().flatten().for_each(Arena::end_loans);
    }

    /// Zeroes what is free of a side's arena that lives here: what one life was lent is not for the next one to
    /// read. The peer is no part of this program.
    #[cfg(feature = "std")]
    pub(crate) fn wipe(&self, side: Side) {
        let Some(arena) = &self.arenas[side as usize] else { return };
        let (start, _) = self.layout.arenas[side as usize];
        arena.wipe(|first, granules| {
            let at = start as usize + first as usize * GRANULE;
            // SAFETY: the granules are in the arena.
            let at = unsafe { self.base.add(at) };
            // SAFETY: as above; they are free, and stay so while the arena calls this.
            unsafe { at.write_bytes(0, granules as usize * GRANULE) };
        });
    }

    /// The arena of a side that lives here.
    #[inline]
    pub(crate) fn arena(&self, side: Side) -> Result<&Arena<Owned<[Slot]>>, CallError> {
        if !self.is_here() {
            return Err(CallError::new(Why::PeerDied));
        }
        self.arenas[side as usize].as_ref().ok_or_else(|| CallError::new(Why::Protocol))
    }

    /// The offset in the region of a block in a side's own arena.
    #[inline]
    pub(crate) fn offset(&self, side: Side, block: Allocated) -> u64 {
        self.layout.arenas[side as usize].0 + u64::from(block.index) * GRANULE as u64
    }

    /// The address of a block in a side's own arena.
    #[inline]
    pub(crate) fn address(&self, side: Side, block: Allocated) -> *mut u8 {
        // SAFETY: the arena gave the block, so its offset is within the region.
        unsafe { self.base.add(self.offset(side, block) as usize) }
    }

    /// The offset of an address that is in the region.
    #[inline]
    pub(crate) fn offset_of(&self, address: *const u8) -> u64 {
        (address.addr() - self.base.addr()) as u64
    }

    /// Checks a pointer word that the peer of `side` has sent: `len` bytes in the peer's arena, at a
    /// multiple of `align`. Returns the offset.
    #[inline]
    pub(crate) fn check(
        &self,
        side: Side,
        word: u64,
        len: u64,
        align: u64,
    ) -> Result<u64, CallError> {
        let (start, size) = self.layout.arenas[side.other() as usize];
        let offset = pointer::offset(word);
        let within = offset.wrapping_sub(start);
        if within <= size && len <= size - within && offset % align == 0 {
            Ok(offset)
        } else {
            Err(CallError::new(Why::BadPointer).at(offset, len))
        }
    }

    /// Copies bytes out of the region, once: whatever the peer writes afterwards, the copy stays.
    ///
    /// # Safety
    ///
    /// `offset` and `out.len()` were checked with [`check`](Self::check).
    #[inline]
    pub(crate) unsafe fn copy_out(&self, offset: u64, out: *mut u8, len: usize) {
        // SAFETY: the caller checked that the range is in the region.
        let from = unsafe { self.base.add(offset as usize) };
        // SAFETY: as above; `out` is the caller's own memory, so the two do not overlap.
        unsafe { ptr::copy_nonoverlapping(from, out, len) };
        // The compiler must not read the source again in place of the copy.
        compiler_fence(Ordering::SeqCst);
    }

    /// The same for a handle that was made in `epoch`.
    ///
    /// # Errors
    ///
    /// [`Why::Stale`] where there was a reset since, also during the copy: then nobody may use what was copied.
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
        let _reading = self.reading();
        if epoch != self.epoch() || !self.is_here() {
            return Err(stale());
        }
        // SAFETY: the caller's promise.
        unsafe { self.copy_out(offset, out, len) };
        if self.is_still(epoch) { Ok(()) } else { Err(stale()) }
    }

    /// Keeps a reset waiting, where the peer's arena is written by this program.
    #[inline]
    fn reading(&self) -> Reading<'_> {
        #[cfg(feature = "alloc")]
        if self.arenas.iter().all(Option::is_some) {
            // Before the look at the epoch, which a reset moves before it looks here.
            self.readers.fetch_add(1, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            return Reading(Some(&self.readers));
        }
        Reading(None)
    }

    /// The address of bytes that were checked.
    ///
    /// # Safety
    ///
    /// `offset` was checked with [`check`](Self::check).
    #[inline]
    pub(crate) unsafe fn peer_address(&self, offset: u64) -> *const u8 {
        // SAFETY: the caller checked that the offset is in the region.
        unsafe { self.base.add(offset as usize) }
    }

    /// Leaves a mark: the peer's block, which was lent in `epoch`, is given back, unless that is over. `word` must have
    /// passed [`check`](Self::check).
    #[inline]
    pub(crate) fn give_back(&self, side: Side, word: u64, epoch: Epoch) {
        let loan = pointer::loan(word);
        let (start, size) = self.layout.arenas[side.other() as usize];
        let within = pointer::offset(word).wrapping_sub(start);
        if loan == 0 || within >= size || !self.is_here() {
            return;
        }
        let at = self.layout.maps[side.other() as usize] + within / GRANULE as u64;
        // SAFETY: the map has a byte for every granule of the arena, and `within` is in the arena.
        let mark = unsafe { self.base.add(at as usize) };
        // SAFETY: a byte of a release map is only ever used as an atomic.
        let mark = unsafe { &*mark.cast::<AtomicU8>() };
        // A guest does not reset its host.
        #[cfg(feature = "alloc")]
        let _marking = self.arenas[Side::Host as usize].as_ref().map(|_| self.marking.lock());
        if epoch == self.epoch() {
            arena::give_back(mark, loan);
        }
    }
}

/// A handle that is being read.
struct Reading<'m>(Option<&'m AtomicUsize>);

impl Drop for Reading<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(readers) = self.0 {
            readers.fetch_sub(1, Ordering::Release);
        }
    }
}

#[cold]
pub(crate) fn stale() -> CallError {
    CallError::new(Why::Stale)
}

#[cfg(all(test, loom))]
mod models;

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    fn aligned(len: usize) -> (Vec<u8>, *mut u8) {
        let mut memory = vec![0_u8; len + PAGE as usize];
        let skip = memory.as_ptr().align_offset(PAGE as usize);
        let base = memory[skip..].as_mut_ptr();
        (memory, base)
    }

    /// ABI, Region header, Versioning V-1: what is written is what is read, and every
    /// field is checked.
    #[test]
    fn header_round_trip_and_refusals() {
        let layout = Layout::new(8192, 4096).unwrap();
        let len = layout.len() as usize;
        let (_memory, base) = aligned(len);
        // SAFETY: `base` has a page and more.
        unsafe { layout.write_header(base) };
        let read = |base: *const u8, len: usize| {
            // SAFETY: no test below gives more than there is.
            unsafe { Layout::read_header(base, len as u64) }
        };
        assert_eq!(read(base, len), Ok(layout));
        assert!(matches!(read(base, 100), Err(RegionError::TooSmall { len: 100, .. })));
        assert!(matches!(read(base, len - 1), Err(RegionError::TooSmall { .. })));
        assert!(matches!(read(base.wrapping_add(8), len), Err(RegionError::Misaligned { .. })));
        for word in 0..9 {
            // SAFETY: within the page.
            let at = unsafe { base.add(8 * word).cast::<u64>() };
            // SAFETY: within the page.
            let old = unsafe { at.read() };
            for bad in [0, 1, old ^ 1, old + 4096, u64::MAX] {
                // SAFETY: within the page.
                unsafe { at.write(bad) };
                let found = read(base, len);
                match word {
                    _ if bad == old => assert_eq!(found, Ok(layout)),
                    0 => assert_eq!(found, Err(RegionError::NotARegion { found: bad })),
                    1 if bad as u32 == ABI_VERSION => assert_eq!(found, Ok(layout)),
                    1 => assert!(matches!(found, Err(RegionError::Version { .. }))),
                    _ => assert!(found.is_err(), "word {word} = {bad:#x}"),
                }
            }
            // SAFETY: within the page.
            unsafe { at.write(old) };
        }
        assert_eq!(read(base, len), Ok(layout));
    }

    #[test]
    fn sizes_that_cannot_be() {
        assert!(matches!(Layout::new(0, 4096), Err(RegionError::TooSmall { .. })));
        assert!(matches!(Layout::new(4096, u64::MAX), Err(RegionError::TooLarge { .. })));
    }
}
