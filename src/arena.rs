//! One side's arena: a two-level segregated-fit allocator whose books are private to its owner.
//!
//! The arena itself holds nothing but blocks. Everything that the allocator must remember is in the
//! books, one [`Slot`] for every [`GRANULE`] bytes, in memory that the peer cannot reach. The peer
//! gives a block back with a mark in the release map (ABI, "Release map"): the owner looks at marks
//! only for blocks that it has lent, when it allocates.

use core::ops::Deref;

use crate::sync::{AtomicU8, AtomicU32, Ordering};

mod lock;
mod slot;

pub(crate) use lock::Lock;
pub use slot::Slot;
use slot::{DELIVERED, DONE, FREE, KEPT, KIND, LENT, NIL, OWNED};

/// The unit of allocation, in bytes: one cache line. Every block begins at a multiple of it.
pub const GRANULE: usize = 64;

#[inline]
fn get(field: &AtomicU32) -> u32 {
    field.load(Ordering::Relaxed)
}

#[inline]
fn set(field: &AtomicU32, value: u32) {
    field.store(value, Ordering::Relaxed);
}

/// More granules than an arena can have.
const TOO_MANY: u32 = u32::MAX;

/// How many granules as many bytes take.
pub(crate) const fn granules(len: usize) -> u32 {
    let granules = len.div_ceil(GRANULE);
    match granules {
        0 => 1,
        _ if granules < TOO_MANY as usize => granules as u32,
        _ => TOO_MANY,
    }
}

/// Sizes up to this many granules have a list each; above, 16 lists for each power of two.
const LINEAR: u32 = 16;
const LEVELS: usize = 29;

/// What one allocation does at most when memory is short, so that its cost does not depend on how large the arena is,
/// nor on how many blocks the peer holds: so many blocks that are in use are looked at in vain, and so many are freed.
/// The next allocation goes on behind them.
const IN_VAIN: u32 = 4096;
/// See [`IN_VAIN`].
const FREED: u32 = 16 * 1024;
/// The most free blocks of a request's own class that are compared with it. They differ from it by a sixteenth at
/// most.
const IN_CLASS: u32 = 256;

/// The list for free blocks of `len` granules.
fn class(len: u32) -> (usize, usize) {
    if len < LINEAR {
        (0, len as usize)
    } else {
        let log = len.ilog2();
        ((log - 3) as usize, ((len >> (log - 4)) & 15) as usize)
    }
}

/// The least length of which every block in the list of the result is at least `len` granules long.
fn round_up(len: u32) -> Option<u32> {
    if len < LINEAR { Some(len) } else { len.checked_add((1 << (len.ilog2() - 4)) - 1) }
}

/// How much of an arena is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArenaStats {
    /// The arena's size in bytes.
    pub capacity: usize,
    /// Bytes in blocks that are in use on either side, in whole granules of 64.
    pub used: usize,
    /// The number of those blocks.
    pub blocks: usize,
}

impl ArenaStats {
    pub(crate) const NONE: Self = Self { capacity: 0, used: 0, blocks: 0 };
}

/// What the lock guards.
#[derive(Debug)]
struct Lists {
    levels: u32,
    classes: [u16; LEVELS],
    heads: [[u32; 16]; LEVELS],
    /// The blocks in use, the newest first.
    used: u32,
    /// Where the next look for finished blocks goes on.
    rover: u32,
    blocks: u32,
    granules: u32,
    /// Behind all granules that were in use since the arena was wiped.
    used_end: u32,
}

/// An arena. `B` is where its books are kept.
#[derive(Debug)]
pub(crate) struct Arena<B> {
    books: B,
    lists: Lock<Lists>,
    marks: *const AtomicU8,
    /// The current life of the peer, an even number. What was lent in an earlier one is finished, whatever its mark says,
    /// so that all loans end at once, without a look at any of them.
    life: AtomicU32,
    /// The most blocks and granules that may be in use.
    most: (u32, u32),
}

// SAFETY: `marks` points to atomics that live as long as the arena (the contract of `new`); all else
// is `Send` by itself.
unsafe impl<B: Send> Send for Arena<B> {}
// SAFETY: as above, and the lists are behind a lock.
unsafe impl<B: Sync> Sync for Arena<B> {}

/// A block that has just been allocated: the place of its first granule, and the loan it will be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocated {
    pub(crate) index: u32,
    /// Counts the loans of the place, in 30 bits. The low 8 are the loan's number and never 0; the
    /// owner alone knows the rest, so that a thread that is held up while others lend the place 255
    /// times does not take their loan for its own.
    pub(crate) serial: u32,
}

impl Allocated {
    /// Ends a list of loans.
    pub(crate) const NONE: Self = Self { index: NIL, serial: 0 };

    /// The number of the loan, as the peer knows it (ABI, A-3).
    #[inline]
    pub(crate) fn loan(self) -> u8 {
        self.serial as u8
    }
}

impl<B: Deref<Target = [Slot]>> Arena<B> {
    /// An arena with a granule for each slot of `books`, all of them free.
    ///
    /// # Safety
    ///
    /// `marks` points to as many bytes as `books` has slots, valid as atomics for as long as the
    /// arena lives.
    pub(crate) unsafe fn new(books: B, marks: *const AtomicU8) -> Self {
        let len = books.len() as u32;
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
        let arena = Self { books, lists, marks, life, most };
        if len > 0 {
            arena.measure(0, len);
            arena.put(&mut arena.lists.lock(), 0);
        }
        arena
    }

    /// Sets how many blocks, and bytes in whole granules, may be in use.
    #[cfg(feature = "std")]
    pub(crate) fn limit(&mut self, blocks: u32, bytes: u64) {
        let granules = u32::try_from(bytes / GRANULE as u64).unwrap_or(u32::MAX);
        self.most = (blocks, granules);
    }

    #[inline]
    pub(crate) fn slot(&self, index: u32) -> &Slot {
        &self.books[index as usize]
    }

    #[inline]
    fn mark(&self, index: u32) -> &AtomicU8 {
        assert!((index as usize) < self.books.len());
        // SAFETY: `index` is within the books, and `new` was promised as many marks.
        unsafe { &*self.marks.add(index as usize) }
    }

    /// Whether a block in use is so no more: dropped by its owner, given back by the peer, or lent in a life that is
    /// over.
    #[inline]
    fn finished(&self, index: u32) -> bool {
        let slot = self.slot(index);
        let state = slot.state.load(Ordering::Acquire);
        match state & KIND {
            DONE => true,
            LENT => match get(&slot.life) {
                KEPT => false,
                life if life & !DELIVERED != get(&self.life) => true,
                _ => self.mark(index).load(Ordering::Acquire) == state as u8,
            },
            _ => false,
        }
    }

    /// Makes a block in use its owner's again, as the next loan.
    #[inline]
    fn issue(&self, index: u32) -> Allocated {
        let slot = self.slot(index);
        let next = get(&slot.state).wrapping_add(1);
        let serial = (if next as u8 == 0 { next.wrapping_add(1) } else { next }) & !KIND;
        self.mark(index).store(0, Ordering::Relaxed);
        slot.state.store(OWNED | serial, Ordering::Relaxed);
        Allocated { index, serial }
    }

    /// Takes a block of at least `len` bytes (at least one granule), or leaves all as it was.
    #[inline]
    pub(crate) fn alloc(&self, len: usize) -> Option<Allocated> {
        match granules(len) {
            TOO_MANY => None,
            granules => self.alloc_granules(granules),
        }
    }

    /// The same for a number of granules, at least one.
    #[inline(always)]
    pub(crate) fn alloc_granules(&self, len: u32) -> Option<Allocated> {
        let mut lists = self.lists.lock();
        // The loans of the call that has just finished are the newest.
        let newest = lists.used;
        let index = match self.books.get(newest as usize) {
            Some(slot) if get(&slot.len) == len && self.finished(newest) => newest,
            _ => self.alloc_elsewhere(&mut lists, len)?,
        };
        Some(self.issue(index))
    }

    /// Takes a block of `len` granules that is not the newest.
    #[inline(never)]
    fn alloc_elsewhere(&self, lists: &mut Lists, len: u32) -> Option<u32> {
        match self.again(lists, len) {
            Some(index) => Some(index),
            None => self.alloc_new(lists, len),
        }
    }

    /// Takes one of the next newest as it is.
    #[inline]
    fn again(&self, lists: &Lists, len: u32) -> Option<u32> {
        let newest = self.books.get(lists.used as usize)?;
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

    /// Takes a free block of `len` granules.
    #[inline(never)]
    fn alloc_new(&self, lists: &mut Lists, len: u32) -> Option<u32> {
        if len as usize > self.books.len() {
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

    /// Looks at blocks in use, from where the last look ended, and frees those that are finished: until it has seen all
    /// of them, has freed `freed`, or has looked at `vain` that are not finished.
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

    /// Frees all that is finished.
    fn reap_all(&self, lists: &mut Lists) {
        lists.rover = lists.used;
        self.reap(lists, u32::MAX, u32::MAX);
    }

    /// Makes a block in use free.
    fn retire(&self, lists: &mut Lists, index: u32) {
        self.unlink(&mut lists.used, index);
        lists.blocks -= 1;
        lists.granules -= get(&self.slot(index).len);
        self.free(lists, index);
    }

    /// Puts a block at the front of a list.
    fn push(&self, head: &mut u32, index: u32, next: u32) {
        let slot = self.slot(index);
        set(&slot.next, next);
        set(&slot.prev, NIL);
        if next != NIL {
            set(&self.slot(next).prev, index);
        }
        *head = index;
    }

    /// Takes a block out of the list that begins at `head`.
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

    /// Puts a free block on its list.
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

    /// Takes a free block off its list.
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

    /// A free block of at least `len` granules: from the first list all of whose blocks are long
    /// enough, or else the first of its own list that is.
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

    /// Takes a free block and cuts off what it has too much.
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

    /// Says how long a block is, at both of its ends.
    fn measure(&self, index: u32, len: u32) {
        set(&self.slot(index).len, len);
        set(&self.slot(index + len - 1).len, len);
    }

    /// Makes a block free, and one with the free blocks beside it.
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
        if (next as usize) < self.books.len() && is_free(next) {
            len += get(&self.slot(next).len);
            self.pull(lists, next);
        }
        self.measure(first, len);
        self.put(lists, first);
    }

    /// Lends a block to the peer, as the first of the list of loans that goes on at `link`. `delivered` says that the
    /// peer gets it with the call that is under way; else [`deliver`](Self::deliver) says so later.
    #[inline]
    pub(crate) fn lend(&self, block: Allocated, link: Allocated, delivered: bool) {
        let slot = self.slot(block.index);
        set(&slot.link, link.index);
        set(&slot.link_serial, link.serial);
        set(&slot.life, get(&self.life) | u32::from(delivered));
        slot.state.store(LENT | block.serial, Ordering::Release);
    }

    /// Notes that the peer gets the `count` loans of a call, the last of which is `latest`.
    #[cfg(feature = "std")]
    pub(crate) fn deliver(&self, mut latest: Allocated, count: u32) {
        for _ in 0..count {
            let Some(slot) = self.books.get(latest.index as usize) else { return };
            set(&slot.life, get(&slot.life) | DELIVERED);
            latest = Allocated { index: get(&slot.link), serial: get(&slot.link_serial) };
        }
    }

    /// The owner is done with a block that it has not lent. It becomes free at a later allocation.
    #[inline]
    pub(crate) fn drop_owned(&self, block: Allocated) {
        self.slot(block.index).state.store(DONE | block.serial, Ordering::Release);
    }

    /// Takes back `count` loans, the last of which is `latest`: those of a call that never arrived.
    pub(crate) fn take_back(&self, mut latest: Allocated, count: u32) {
        // Nobody else allocates meanwhile, so a loan that is this call's stays that until it ends.
        let _lists = self.lists.lock();
        for _ in 0..count {
            let Some(slot) = self.books.get(latest.index as usize) else { return };
            // A peer that took its loans before it failed the call has marked them, and another call
            // may have them by now: then the list ends here, and what is behind is marked as well. The same
            // goes for loans of a life that is over: those behind are not younger.
            if get(&slot.state) != LENT | latest.serial {
                return;
            }
            slot.state.store(DONE | latest.serial, Ordering::Release);
            latest = Allocated { index: get(&slot.link), serial: get(&slot.link_serial) };
        }
    }

    /// Ends every loan but those that are kept: the peer is gone, or begins a new life, and will give nothing back.
    /// Blocks that were never lent stay their owner's.
    #[cfg(feature = "alloc")]
    pub(crate) fn end_loans(&self) {
        let next = |life: u32| Some(life.wrapping_add(2).max(2));
        // What owners wrote into the blocks comes before what the next ones write: `finished` acquires each state.
        let _ = self.life.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Frees all that is finished, and calls with each range of granules, as first and number, that is free and was
    /// not always. Nobody has them meanwhile.
    #[cfg(feature = "std")]
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

    /// Keeps every loan that the peer has now through all lives to come: it has them again in each.
    #[cfg(feature = "std")]
    pub(crate) fn keep_loans(&self) {
        let lists = self.lists.lock();
        let delivered = get(&self.life) | DELIVERED;
        let mut at = lists.used;
        while at != NIL {
            let slot = self.slot(at);
            let lent = get(&slot.state) & KIND == LENT && get(&slot.life) == delivered;
            if lent && !self.finished(at) {
                set(&slot.life, KEPT);
            }
            at = get(&slot.next);
        }
    }

    /// Frees all that is finished, and counts the rest.
    pub(crate) fn stats(&self) -> ArenaStats {
        let mut lists = self.lists.lock();
        self.reap_all(&mut lists);
        ArenaStats {
            capacity: self.books.len() * GRANULE,
            used: lists.granules as usize * GRANULE,
            blocks: lists.blocks as usize,
        }
    }
}

/// What a receiver does with a mark to give a block back. It has read all that it wants to read.
#[inline]
pub(crate) fn give_back(mark: &AtomicU8, loan: u8) {
    mark.store(loan, Ordering::Release);
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, feature = "std", not(loom)))]
mod short;
#[cfg(all(test, feature = "std", not(loom)))]
mod tests;
