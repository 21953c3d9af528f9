//! One side's arena: a two-level segregated-fit allocator whose metadata is private to its owner.
//!
//! The arena holds only blocks. The metadata, one [`Slot`] for each granule of [`GRANULE_SIZE`] bytes, is in memory
//! that the peer cannot access. The peer releases a block with a release mark (ABI, "Release map"). The owner reads the
//! marks of blocks that it has lent, when it allocates.
//!
//! A block is in one of four states: *free*; *owned* by this side; *lent* to the peer; or *done*, when its owner has
//! dropped it. A done block, and a lent one with its release mark, is *finished*: a later allocation reuses or frees
//! it.
//!
//! A *life* of the peer lasts from one reset of the connection to the next. A reset ends all loans of the life before.

use core::ops::Deref;

use crate::memory::sync::{AtomicU8, AtomicU32, Ordering};

mod grow;
mod kept;
mod lock;
mod slot;

#[cfg(feature = "std")]
pub(crate) use kept::KeptBlock;

pub(crate) use lock::{Guard as LockGuard, Lock};
pub use slot::Slot;
use slot::{DELIVERED, DONE, FREE, KEPT, KIND, LENT, NIL, OWNED};

/// The unit of allocation in bytes (ABI, A-2): every block begins at a multiple of it.
pub const GRANULE_SIZE: usize = 64;

#[inline]
fn get(field: &AtomicU32) -> u32 {
    field.load(Ordering::Relaxed)
}

#[inline]
fn set(field: &AtomicU32, value: u32) {
    field.store(value, Ordering::Relaxed);
}

/// A number of granules that exceeds every arena.
const TOO_MANY: u32 = u32::MAX;

/// The number of granules for `len` bytes, at least 1; [`TOO_MANY`] if no arena has as many.
pub(crate) const fn granules(len: usize) -> u32 {
    let granules = len.div_ceil(GRANULE_SIZE);
    match granules {
        0 => 1,
        _ if granules < TOO_MANY as usize => granules as u32,
        _ => TOO_MANY,
    }
}

/// Blocks of fewer granules have a list for each size; larger ones have 16 lists for each power of two.
const LINEAR: u32 = 16;
const LEVELS: usize = 29;

/// The maximum number of unfinished blocks that one allocation examines when memory is short, so that its cost is
/// bounded whatever the size of the arena and the number of loans. The next allocation continues after them.
const IN_VAIN: u32 = 4096;
/// The maximum number of finished blocks that one allocation frees, for the same reason as [`IN_VAIN`].
const FREED: u32 = 16 * 1024;
/// The maximum number of free blocks in the request's own class that are compared with it. Their sizes differ from the
/// request by at most a sixteenth.
const IN_CLASS: u32 = 256;

/// The list of free blocks of `len` granules, by level and index in the level.
fn class(len: u32) -> (usize, usize) {
    if len < LINEAR {
        (0, len as usize)
    } else {
        let log = len.ilog2();
        ((log - 3) as usize, ((len >> (log - 4)) & 15) as usize)
    }
}

/// The least length, at least `len`, whose list contains only blocks of `len` granules or more.
fn round_up(len: u32) -> Option<u32> {
    if len < LINEAR { Some(len) } else { len.checked_add((1 << (len.ilog2() - 4)) - 1) }
}

/// The use of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArenaStats {
    /// The arena's size in bytes.
    pub capacity: usize,
    /// The bytes in blocks that are owned or lent, rounded up to granules of 64.
    pub used: usize,
    /// The number of those blocks.
    pub blocks: usize,
}

impl ArenaStats {
    pub(crate) const NONE: Self = Self { capacity: 0, used: 0, blocks: 0 };
}

/// The lists of blocks, which the lock protects.
#[derive(Debug)]
struct Lists {
    levels: u32,
    classes: [u16; LEVELS],
    heads: [[u32; 16]; LEVELS],
    /// The head of the list of blocks that are not free, the newest first.
    used: u32,
    /// The block at which the next search for finished blocks begins.
    rover: u32,
    blocks: u32,
    granules: u32,
    /// The end of the granules that were in use since the last wipe.
    used_end: u32,
}

/// An arena. `B` owns its metadata.
#[derive(Debug)]
pub(crate) struct Arena<B> {
    metadata: B,
    lists: Lock<Lists>,
    release_map: *const AtomicU8,
    /// The number of the peer's current life, which is even. A loan of an earlier life is finished whatever its release
    /// mark, so that a reset ends all loans at once, in constant time.
    life: AtomicU32,
    /// The maximum number of blocks and of granules in use.
    most: (u32, u32),
}

// SAFETY: `release_map` is the only field that is not `Send` whenever `B` is. The caller of `new` promised that it
// points to atomics that live as long as the arena.
unsafe impl<B: Send> Send for Arena<B> {}
// SAFETY: `release_map` points to atomics (the contract of `new`), slots consist of atomics, and `lists` is in a lock.
unsafe impl<B: Sync> Sync for Arena<B> {}

/// An allocated block: the index of its first granule, and the serial number that its loan will have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocated {
    pub(crate) index: u32,
    /// Counts the loans that begin at this granule, in 30 bits. The low 8 bits are the number of the loan and never 0.
    /// The higher bits are private to the owner; they let a delayed thread distinguish its loan from one that has the
    /// same number because other threads have lent the granule 255 times since.
    pub(crate) serial: u32,
}

impl Allocated {
    /// The end of a list of loans.
    pub(crate) const NONE: Self = Self { index: NIL, serial: 0 };

    /// The number of the loan in pointer words and release marks (ABI, A-3).
    #[inline]
    pub(crate) fn loan(self) -> u8 {
        self.serial as u8
    }
}

impl<B: Deref<Target = [Slot]>> Arena<B> {
    /// An arena with a granule for each slot of `metadata`, all of them free.
    ///
    /// # Safety
    ///
    /// `release_map` points to at least as many bytes as `metadata` has slots. They are valid, and accessed only as
    /// atomics, for as long as the arena lives.
    pub(crate) unsafe fn new(metadata: B, release_map: *const AtomicU8) -> Self {
        let len = metadata.len() as u32;
        let lists = Lists {
            levels: 0,
            classes: [0; LEVELS],
            heads: [[NIL; 16]; LEVELS],
            used: NIL,
            rover: NIL,
            blocks: 0,
            granules: 0,
            used_end: 0,
        };
        let most = (u32::MAX, u32::MAX);
        let (lists, life) = (Lock::new(lists), AtomicU32::new(2));
        let arena = Self { metadata, lists, release_map, life, most };
        if len > 0 {
            arena.measure(0, len);
            arena.put(&mut arena.lists.lock(), 0);
        }
        arena
    }

    /// Sets the maximum number of blocks and of bytes in use. The bytes are rounded down to granules.
    pub(crate) fn limit(&mut self, blocks: u32, bytes: u64) {
        let granules = u32::try_from(bytes / GRANULE_SIZE as u64).unwrap_or(u32::MAX);
        self.most = (blocks, granules);
    }

    #[inline]
    pub(crate) fn slot(&self, index: u32) -> &Slot {
        &self.metadata[index as usize]
    }

    #[inline]
    fn release_mark(&self, index: u32) -> &AtomicU8 {
        assert!((index as usize) < self.metadata.len());
        // SAFETY: `index` is less than the number of slots, and the caller of `new` promised as many bytes, valid as
        // atomics for as long as the arena lives.
        unsafe { &*self.release_map.add(index as usize) }
    }

    /// Whether a block that is not free may be reused: its owner has dropped it, the peer has released it, or its loan
    /// is from an earlier life.
    #[inline]
    fn finished(&self, index: u32) -> bool {
        let slot = self.slot(index);
        let state = slot.state.load(Ordering::Acquire);
        match state & KIND {
            DONE => true,
            LENT => match get(&slot.life) {
                KEPT => false,
                life if life & !DELIVERED != get(&self.life) => true,
                _ => self.release_mark(index).load(Ordering::Acquire) == state as u8,
            },
            _ => false,
        }
    }

    /// Makes a finished or new block owned, with the next serial number, and clears its release mark (ABI, M-4).
    #[inline]
    fn issue(&self, index: u32) -> Allocated {
        let slot = self.slot(index);
        let next = get(&slot.state).wrapping_add(1);
        let serial = (if next as u8 == 0 { next.wrapping_add(1) } else { next }) & !KIND;
        self.release_mark(index).store(0, Ordering::Relaxed);
        slot.state.store(OWNED | serial, Ordering::Relaxed);
        Allocated { index, serial }
    }

    /// Allocates a block of `len` bytes, rounded up to granules and at least one. If it returns `None`, no block that
    /// is in use has changed.
    #[inline]
    pub(crate) fn alloc(&self, len: usize) -> Option<Allocated> {
        match granules(len) {
            TOO_MANY => None,
            granules => self.alloc_granules(granules),
        }
    }

    /// Allocates a block of `len` granules, at least one.
    #[inline(always)]
    pub(crate) fn alloc_granules(&self, len: u32) -> Option<Allocated> {
        let mut lists = self.lists.lock();
        // The loans of the previous call are the newest blocks, and often finished and of the same size.
        let newest = lists.used;
        let index = match self.metadata.get(newest as usize) {
            Some(slot) if get(&slot.len) == len && self.finished(newest) => newest,
            _ => self.alloc_elsewhere(&mut lists, len)?,
        };
        Some(self.issue(index))
    }

    /// Allocates a block of `len` granules other than the newest one.
    #[inline(never)]
    fn alloc_elsewhere(&self, lists: &mut Lists, len: u32) -> Option<u32> {
        match self.again(lists, len) {
            Some(index) => Some(index),
            None => self.alloc_new(lists, len),
        }
    }

    /// Reuses one of the next newest blocks if it is finished and has `len` granules.
    #[inline]
    fn again(&self, lists: &Lists, len: u32) -> Option<u32> {
        let newest = self.metadata.get(lists.used as usize)?;
        let mut at = get(&newest.next);
        for _ in 0..3 {
            if at == NIL {
                break;
            }
            if get(&self.slot(at).len) == len && self.finished(at) {
                return Some(at);
            }
            at = get(&self.slot(at).next);
        }
        None
    }

    /// Allocates from the free lists, and frees finished blocks if that is necessary.
    #[inline(never)]
    fn alloc_new(&self, lists: &mut Lists, len: u32) -> Option<u32> {
        if len as usize > self.metadata.len() {
            return None;
        }
        self.reap(lists, 4, 4);
        let fits = |lists: &Lists| {
            let (blocks, granules) = self.most;
            lists.blocks < blocks && len <= granules.saturating_sub(lists.granules)
        };
        let taken = if fits(lists) { self.take(lists, len) } else { None };
        let index = match taken {
            Some(index) => index,
            None => {
                self.reap(lists, IN_VAIN, FREED);
                if !fits(lists) {
                    return None;
                }
                self.take(lists, len)?
            }
        };
        let head = lists.used;
        self.push(&mut lists.used, index, head);
        lists.blocks += 1;
        let len = get(&self.slot(index).len);
        lists.granules += len;
        lists.used_end = lists.used_end.max(index + len);
        Some(index)
    }

    /// Examines blocks that are not free, from `rover` on, and frees the finished ones. Stops after all of them, after
    /// it has freed `freed` blocks, or after it has examined `vain` unfinished ones.
    fn reap(&self, lists: &mut Lists, mut vain: u32, mut freed: u32) {
        for _ in 0..lists.blocks {
            if lists.rover == NIL {
                lists.rover = lists.used;
            }
            let at = lists.rover;
            if at == NIL || vain == 0 || freed == 0 {
                return;
            }
            lists.rover = get(&self.slot(at).next);
            if self.finished(at) {
                self.retire(lists, at);
                freed -= 1;
            } else {
                vain -= 1;
            }
        }
    }

    /// Frees all finished blocks.
    fn reap_all(&self, lists: &mut Lists) {
        lists.rover = lists.used;
        self.reap(lists, u32::MAX, u32::MAX);
    }

    /// Frees a block that is in the list of used blocks.
    fn retire(&self, lists: &mut Lists, index: u32) {
        self.unlink(&mut lists.used, index);
        lists.blocks -= 1;
        lists.granules -= get(&self.slot(index).len);
        self.free(lists, index);
    }

    /// Inserts a block at the head of a list whose first block is `next`.
    fn push(&self, head: &mut u32, index: u32, next: u32) {
        let slot = self.slot(index);
        set(&slot.next, next);
        set(&slot.prev, NIL);
        if next != NIL {
            set(&self.slot(next).prev, index);
        }
        *head = index;
    }

    /// Removes a block from the list with this head.
    fn unlink(&self, head: &mut u32, index: u32) {
        let slot = self.slot(index);
        let (next, prev) = (get(&slot.next), get(&slot.prev));
        if next != NIL {
            set(&self.slot(next).prev, prev);
        }
        if prev == NIL {
            *head = next;
        } else {
            set(&self.slot(prev).next, next);
        }
    }

    /// Marks a block free and inserts it into the list of its size.
    fn put(&self, lists: &mut Lists, index: u32) {
        let slot = self.slot(index);
        let serial = get(&slot.state) & !KIND;
        slot.state.store(FREE | serial, Ordering::Relaxed);
        let (level, sub) = class(get(&slot.len));
        let head = lists.heads[level][sub];
        self.push(&mut lists.heads[level][sub], index, head);
        lists.classes[level] |= 1 << sub;
        lists.levels |= 1 << level;
    }

    /// Removes a free block from the list of its size.
    fn pull(&self, lists: &mut Lists, index: u32) {
        let (level, sub) = class(get(&self.slot(index).len));
        self.unlink(&mut lists.heads[level][sub], index);
        if lists.heads[level][sub] == NIL {
            lists.classes[level] &= !(1 << sub);
            if lists.classes[level] == 0 {
                lists.levels &= !(1 << level);
            }
        }
    }

    /// Finds a free block of at least `len` granules: the head of the first non-empty list whose blocks are all large
    /// enough, or else the first large enough block among [`IN_CLASS`] in the list of `len`.
    fn find(&self, lists: &Lists, len: u32) -> Option<u32> {
        let above = round_up(len).map(class).filter(|(level, _)| *level < LEVELS);
        if let Some((level, sub)) = above {
            let here = lists.classes[level] & (u16::MAX << sub);
            if here != 0 {
                return Some(lists.heads[level][here.trailing_zeros() as usize]);
            }
            let higher = lists.levels & (u32::MAX << level << 1);
            if higher != 0 {
                let level = higher.trailing_zeros() as usize;
                let sub = lists.classes[level].trailing_zeros() as usize;
                return Some(lists.heads[level][sub]);
            }
        }
        let (level, sub) = class(len);
        let mut at = lists.heads[level][sub];
        for _ in 0..IN_CLASS {
            if at == NIL {
                break;
            }
            if get(&self.slot(at).len) >= len {
                return Some(at);
            }
            at = get(&self.slot(at).next);
        }
        None
    }

    /// Removes a free block of at least `len` granules from its list and splits off the excess.
    fn take(&self, lists: &mut Lists, len: u32) -> Option<u32> {
        let index = self.find(lists, len)?;
        self.pull(lists, index);
        let whole = get(&self.slot(index).len);
        if whole > len {
            self.measure(index, len);
            let rest = index + len;
            self.measure(rest, whole - len);
            self.put(lists, rest);
        }
        Some(index)
    }

    /// Stores the length of a block in the slots of its first and last granules.
    fn measure(&self, index: u32, len: u32) {
        set(&self.slot(index).len, len);
        set(&self.slot(index + len - 1).len, len);
    }

    /// Frees a block and merges it with adjacent free blocks.
    fn free(&self, lists: &mut Lists, index: u32) {
        let is_free = |index: u32| get(&self.slot(index).state) & KIND == FREE;
        let mut first = index;
        let mut len = get(&self.slot(index).len);
        let next = index + len;
        if index > 0 {
            let before = get(&self.slot(index - 1).len);
            if is_free(index - before) {
                first = index - before;
                len += before;
                self.pull(lists, first);
            }
        }
        if (next as usize) < self.metadata.len() && is_free(next) {
            len += get(&self.slot(next).len);
            self.pull(lists, next);
        }
        self.measure(first, len);
        self.put(lists, first);
    }

    /// Lends an owned block to the peer and prepends it to the list of loans that begins at `link`. `delivered` states
    /// that the call in progress delivers it to the peer; otherwise [`deliver`](Self::deliver) records that later.
    #[inline]
    pub(crate) fn lend(&self, block: Allocated, link: Allocated, delivered: bool) {
        let slot = self.slot(block.index);
        set(&slot.link, link.index);
        set(&slot.link_serial, link.serial);
        set(&slot.life, get(&self.life) | u32::from(delivered));
        slot.state.store(LENT | block.serial, Ordering::Release);
    }

    /// Records that the peer gets the `count` loans of a call, the last of which is `latest`.
    pub(crate) fn deliver(&self, mut latest: Allocated, count: u32) {
        for _ in 0..count {
            let Some(slot) = self.metadata.get(latest.index as usize) else { return };
            set(&slot.life, get(&slot.life) | DELIVERED);
            latest = Allocated { index: get(&slot.link), serial: get(&slot.link_serial) };
        }
    }

    /// Drops an owned block. A later allocation reuses or frees it.
    #[inline]
    pub(crate) fn drop_owned(&self, block: Allocated) {
        self.slot(block.index).state.store(DONE | block.serial, Ordering::Release);
    }

    /// Ends the `count` loans of a call that did not reach its function (ABI, S-4). `latest` is the last of them.
    pub(crate) fn take_back(&self, mut latest: Allocated, count: u32) {
        // While the lock is held no block is allocated, so a loan of this call cannot become another call's.
        let _lists = self.lists.lock();
        for _ in 0..count {
            let Some(slot) = self.metadata.get(latest.index as usize) else { return };
            // A peer that released the loans before it failed the call has marked all of them, and this block may
            // belong to another call by now: then the rest of the list is released as well. The same holds for a loan
            // of an earlier life, since the loans after it in the list are not newer.
            if get(&slot.state) != LENT | latest.serial {
                return;
            }
            slot.state.store(DONE | latest.serial, Ordering::Release);
            latest = Allocated { index: get(&slot.link), serial: get(&slot.link_serial) };
        }
    }

    /// Ends all loans except kept ones, because the peer has exited or begins a new life and will not release them.
    /// Owned blocks do not change.
    pub(crate) fn end_loans(&self) {
        let next = |life: u32| Some(life.wrapping_add(2).max(2));
        // Relaxed suffices: `finished` acquires the state of each block, which orders the writes of its previous owner
        // before those of the next.
        let _ = self.life.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Frees all finished blocks, and calls `clear` with the index of the first granule and the number of granules of
    /// each free range that was in use since the last wipe. The lock keeps the ranges free during the calls.
    pub(crate) fn wipe(&self, mut clear: impl FnMut(u32, u32)) {
        let mut lists = self.lists.lock();
        self.reap_all(&mut lists);
        let (mut at, mut used_end) = (0, 0);
        while at < lists.used_end {
            let slot = self.slot(at);
            let end = at + get(&slot.len);
            if get(&slot.state) & KIND == FREE {
                clear(at, end.min(lists.used_end) - at);
            } else {
                used_end = end;
            }
            at = end;
        }
        lists.used_end = used_end;
    }

    /// Frees all finished blocks, and returns the use of the arena.
    pub(crate) fn stats(&self) -> ArenaStats {
        let mut lists = self.lists.lock();
        self.reap_all(&mut lists);
        ArenaStats {
            capacity: self.metadata.len() * GRANULE_SIZE,
            used: lists.granules as usize * GRANULE_SIZE,
            blocks: lists.blocks as usize,
        }
    }
}

/// Writes a release mark (ABI, M-2), after the receiver's last read of the block.
#[inline]
pub(crate) fn release(mark: &AtomicU8, loan: u8) {
    mark.store(loan, Ordering::Release);
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, feature = "std", not(loom)))]
mod short;
#[cfg(all(test, feature = "std", not(loom)))]
mod tests;
