//! The allocator against a simple model, and against a peer that writes arbitrary release marks.

use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use super::*;

mod model;

/// An arena with its release map.
struct World {
    arena: Arena<Box<[Slot]>>,
    marks: Box<[AtomicU8]>,
}

impl World {
    fn new(granules: usize) -> Self {
        let metadata: Box<[Slot]> = (0..granules).map(|_| Slot::default()).collect();
        let marks: Box<[AtomicU8]> = (0..granules).map(|_| AtomicU8::new(0)).collect();
        // SAFETY: `marks` has as many bytes as `metadata` has slots, is on the heap, and is stored beside the arena.
        let arena = unsafe { Arena::new(metadata, marks.as_ptr()) };
        Self { arena, marks }
    }

    /// A block of some granules.
    fn alloc(&self, granules: usize) -> Option<Allocated> {
        self.arena.alloc(granules * GRANULE_SIZE)
    }

    /// The peer releases a block.
    fn mark(&self, block: Allocated) {
        self.mark_as(block.index, block.loan());
    }

    fn mark_as(&self, index: u32, loan: u8) {
        self.marks[index as usize].store(loan, Ordering::Release);
    }

    /// Granules and blocks in use.
    fn in_use(&self) -> (usize, usize) {
        let stats = self.arena.stats();
        assert_eq!(stats.capacity, self.marks.len() * GRANULE_SIZE);
        (stats.used / GRANULE_SIZE, stats.blocks)
    }

    /// Asserts that no block is in use and that all memory is one free block.
    fn assert_whole(&self) {
        assert_eq!(self.in_use(), (0, 0));
        let all = self.alloc(self.marks.len()).expect("all memory as one block");
        assert_eq!(all.index, 0);
        assert!(self.arena.alloc(1).is_none());
        self.arena.drop_owned(all);
        assert_eq!(self.in_use(), (0, 0));
    }
}

/// Lends blocks as one call does, and returns the latest loan.
fn lend_all(world: &World, blocks: &[Allocated]) -> Allocated {
    blocks.iter().fold(Allocated::NONE, |latest, block| {
        world.arena.lend(*block, latest, true);
        *block
    })
}

/// ABI, Arenas and loans A-4, Release map M-3: the number of a loan goes from 255 to 1, and a mark
/// with any other number is ignored.
#[test]
fn a_mark_names_the_loan() {
    let world = World::new(8);
    let mut before = None;
    let mut seen = [0_u32; 256];
    for _ in 0..1000 {
        let block = world.alloc(8).expect("the only block, released");
        seen[usize::from(block.loan())] += 1;
        if let Some(loan) = before.map(Allocated::loan) {
            let next = if loan == u8::MAX { 1 } else { loan + 1 };
            assert_eq!(block.loan(), next);
            // A late mark, while the block is owned; and again below, when it is lent.
            world.mark_as(0, loan);
            assert!(world.alloc(8).is_none());
        }
        // The right number has no effect while the block is owned.
        world.mark(block);
        assert!(world.alloc(8).is_none());
        world.mark_as(0, 0);
        world.arena.lend(block, Allocated::NONE, true);
        for wrong in (0..=u8::MAX).filter(|loan| *loan != block.loan()) {
            world.mark_as(0, wrong);
            assert_eq!(world.in_use(), (8, 1), "loan {} by mark {wrong}", block.loan());
        }
        world.mark(block);
        before = Some(block);
    }
    assert_eq!(seen[0], 0);
    assert!(seen[1..].iter().all(|times| *times >= 3), "{seen:?}");
    world.assert_whole();
}

/// ABI, M-4: a mark that is not overwritten does not end the next loan with the same number.
#[test]
fn a_mark_does_not_outlive_its_loan() {
    let world = World::new(1);
    let first = world.alloc(1).expect("room");
    world.arena.lend(first, Allocated::NONE, true);
    world.mark(first);
    // None of these blocks is lent, so the first mark is not overwritten.
    for _ in 1..255 {
        world.arena.drop_owned(world.alloc(1).expect("room"));
    }
    let again = world.alloc(1).expect("room");
    assert_eq!(again.loan(), first.loan());
    world.arena.lend(again, Allocated::NONE, true);
    assert_eq!(world.in_use(), (1, 1));
    world.mark(again);
    world.assert_whole();
}

/// A callee may have released the loans of a call before the call fails, and their blocks may belong to another call by
/// then. That call's loans last.
#[test]
fn take_back_leaves_the_loans_of_others() {
    let world = World::new(64);
    let [a, b] = [(); 2].map(|()| world.alloc(1).expect("room"));
    let latest = lend_all(&world, &[a, b]);
    // The callee decodes the parameters, finds one bad, and releases both.
    world.mark(a);
    world.mark(b);
    // Before its answer is seen, another thread makes a call.
    let [c, d] = [(); 2].map(|()| world.alloc(1).expect("room"));
    assert!([a, b].iter().all(|old| old.index == c.index || old.index == d.index));
    lend_all(&world, &[c, d]);
    world.arena.take_back(latest, 2);
    assert_eq!(world.in_use(), (2, 2), "the other call's loans have ended");
    world.mark(c);
    world.mark(d);
    world.assert_whole();
}

/// As above, but the caller's thread was delayed until the numbers of the loans repeat: for both blocks, and for the
/// one after the latest alone.
#[test]
fn take_back_after_255_other_loans() {
    for of_latest in [1, 2] {
        let world = World::new(4);
        let first = world.alloc(1).expect("room");
        let latest = world.alloc(of_latest).expect("room");
        lend_all(&world, &[first, latest]);
        world.mark(first);
        world.mark(latest);
        for _ in 1..255 {
            for block in [(); 2].map(|()| world.alloc(1).expect("room")) {
                world.arena.lend(block, Allocated::NONE, true);
                world.mark(block);
            }
        }
        let [c, d] = [(); 2].map(|()| world.alloc(1).expect("room"));
        let again = if c.index == first.index { c } else { d };
        assert_eq!((again.index, again.loan()), (first.index, first.loan()));
        lend_all(&world, &[c, d]);
        world.arena.take_back(latest, 2);
        assert_eq!(world.in_use(), (2, 2), "the other call's loans have ended");
        world.mark(c);
        world.mark(d);
        world.assert_whole();
    }
}

/// The blocks of a list were lent again in another order: taking it back ends after at most `count` steps, and touches
/// only slots of this arena.
#[test]
fn take_back_with_a_broken_list() {
    let world = World::new(16);
    let blocks: Vec<_> = (0..16).map(|_| world.alloc(1).expect("room")).collect();
    let latest = lend_all(&world, &blocks);
    for block in &blocks {
        world.mark(*block);
    }
    let again: Vec<_> = (0..16).map(|_| world.alloc(1).expect("room")).collect();
    for pair in again.windows(2) {
        world.arena.lend(pair[0], pair[1], true);
    }
    world.arena.lend(again[15], again[0], true);
    world.arena.take_back(latest, u32::MAX);
    world.arena.take_back(Allocated::NONE, u32::MAX);
    assert_eq!(world.in_use(), (16, 16));
    world.arena.take_back(again[15], u32::MAX);
    world.assert_whole();
}

/// A wipe clears exactly the free granules that were in use since the last wipe.
#[test]
fn a_wipe_clears_free_granules() {
    let world = World::new(100);
    let wiped = || {
        let mut ranges = Vec::new();
        world.arena.wipe(|first, granules| ranges.push((first, granules)));
        ranges
    };
    assert_eq!(wiped(), []);
    let blocks = [3, 1, 5, 2].map(|granules| world.alloc(granules).unwrap());
    assert_eq!(wiped(), []);
    world.arena.drop_owned(blocks[0]);
    world.arena.lend(blocks[1], Allocated::NONE, true);
    world.arena.drop_owned(blocks[2]);
    assert_eq!(wiped(), [(0, 3), (4, 5)], "the last one is its owner's");
    world.mark(blocks[1]);
    world.arena.drop_owned(blocks[3]);
    assert_eq!(wiped(), [(0, 11)]);
    assert_eq!(wiped(), []);
    world.assert_whole();
    assert_eq!(wiped(), [(0, 100)]);
}

/// Blocks and bytes in use are limited, and finished blocks do not count.
#[test]
fn limits_of_what_is_in_use() {
    let mut world = World::new(100);
    world.arena.limit(3, 10 * GRANULE_SIZE as u64 + 63);
    let [one, two, three] = [4, 4, 2].map(|granules| world.alloc(granules).unwrap());
    assert!(world.alloc(1).is_none(), "too many");
    world.arena.drop_owned(three);
    assert!(world.alloc(3).is_none(), "too much");
    let three = world.alloc(1).unwrap();
    world.arena.lend(one, Allocated::NONE, true);
    assert!(world.alloc(5).is_none());
    world.mark(one);
    let four = world.alloc(5).unwrap();
    assert!(world.alloc(1).is_none());
    for block in [two, three, four] {
        world.arena.drop_owned(block);
    }
    assert_eq!(world.in_use(), (0, 0));
    assert!(world.alloc(11).is_none());
    world.arena.limit(0, u64::MAX);
    assert!(world.alloc(1).is_none());
}

/// A kept loan lasts through all lives, whatever release marks are written for it.
#[test]
fn loans_that_are_kept() {
    let world = World::new(100);
    let [kept, back] = [(); 2].map(|()| world.alloc(2).unwrap());
    world.arena.lend(kept, Allocated::NONE, true);
    world.arena.lend(back, Allocated::NONE, true);
    world.mark(back);
    world.arena.keep_loans();
    assert_eq!(world.in_use(), (2, 1), "a loan that was released before is not kept");
    world.mark(kept);
    world.arena.end_loans();
    assert_eq!(world.in_use(), (2, 1));
}

/// A failed allocation changes neither the blocks in use nor the memory that is available.
#[test]
fn exhaustion_leaves_all_as_it_was() {
    let world = World::new(1000);
    let held: Vec<_> = (0..10).map(|_| world.alloc(90).expect("room")).collect();
    for bytes in
        [101 * GRANULE_SIZE, 1 << 20, usize::MAX, usize::MAX - 63, (u32::MAX as usize) << 6]
    {
        for _ in 0..3 {
            assert!(world.arena.alloc(bytes).is_none(), "{bytes}");
        }
        assert_eq!(world.in_use(), (900, 10));
    }
    let rest = world.alloc(100).expect("the rest, whole");
    assert!(world.arena.alloc(0).is_none());
    for block in held.into_iter().chain([rest]) {
        world.arena.drop_owned(block);
    }
    world.assert_whole();
}

/// A deterministic random number generator (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Granules: mostly few, sometimes many.
    fn size(&mut self) -> usize {
        let most = [2, 8, 64, 256][self.below(4)];
        1 + self.below(most)
    }
}

/// At 70 % fill, after 200,000 allocations and releases of mixed sizes, the largest requests of the mix still succeed.
#[test]
fn fragmentation_at_70_percent() {
    const GRANULES: usize = 1 << 16;
    let world = World::new(GRANULES);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut live, mut used, mut refused, mut asked) = (Vec::new(), 0, 0, 0);
    for _ in 0..200_000 {
        if used < GRANULES * 7 / 10 {
            let size = random.size();
            asked += 1;
            match world.alloc(size) {
                Some(block) => {
                    live.push((block, size));
                    used += size;
                }
                None => refused += 1,
            }
        } else {
            let (block, size) = live.swap_remove(random.below(live.len()));
            used -= size;
            world.arena.lend(block, Allocated::NONE, true);
            world.mark(block);
        }
    }
    let blocks = live.len();
    assert_eq!(world.in_use(), (used, blocks));
    let (mut low, mut high) = (0, GRANULES);
    while low < high {
        let middle = (low + high).div_ceil(2);
        match world.alloc(middle) {
            Some(block) => {
                world.arena.drop_owned(block);
                low = middle;
            }
            None => high = middle - 1,
        }
    }
    println!(
        "{asked} requests of 1 to 256 granules at {used} of {GRANULES} in {blocks} blocks: \
         {refused} refused; largest free block {low} granules, {:.1} % of what is free",
        100.0 * low as f64 / (GRANULES - used) as f64
    );
    assert_eq!(refused, 0);
    assert!(low >= 256);
    for (block, _) in live {
        world.arena.drop_owned(block);
    }
    world.assert_whole();
}

/// Several threads allocate, lend and release concurrently: no granule belongs to two blocks.
#[test]
fn threads_never_share_a_block() {
    const GRANULES: usize = 300;
    let world = World::new(GRANULES);
    let owners: Vec<AtomicU32> = (0..GRANULES).map(|_| AtomicU32::new(0)).collect();
    let claim = |block: Allocated, size: usize, from: u32, to: u32| {
        for granule in &owners[block.index as usize..][..size] {
            assert_eq!(granule.swap(to, Ordering::AcqRel), from, "in use by two");
        }
    };
    let refused = AtomicU32::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A peer that concurrently writes wrong marks: no loan has the number 0.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                world.marks.iter().for_each(|mark| mark.store(0, Ordering::Relaxed));
                std::thread::yield_now();
            }
        });
        let workers: Vec<_> = (1..=4_u32)
            .map(|me| {
                let (world, refused) = (&world, &refused);
                scope.spawn(move || {
                    let mut random = Random(u64::from(me) * 0x1234_5678_9abc);
                    let mut held = Vec::new();
                    for _ in 0..30_000 {
                        if held.len() < 12 && random.below(2) == 0 {
                            let size = 1 + random.below(20);
                            match world.alloc(size) {
                                Some(block) => {
                                    claim(block, size, 0, me);
                                    held.push((block, size));
                                }
                                None => _ = refused.fetch_add(1, Ordering::Relaxed),
                            }
                        } else if !held.is_empty() {
                            let (block, size) = held.swap_remove(random.below(held.len()));
                            claim(block, size, me, 0);
                            if random.below(2) == 0 {
                                world.arena.drop_owned(block);
                            } else {
                                world.arena.lend(block, Allocated::NONE, true);
                                // A release mark could be overwritten by the thread above.
                                world.arena.take_back(block, 1);
                            }
                        }
                    }
                    for (block, size) in held {
                        claim(block, size, me, 0);
                        world.arena.drop_owned(block);
                    }
                })
            })
            .collect();
        let ends: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok), "a worker panicked");
    });
    println!("4 threads, 120,000 steps, {} refused", refused.load(Ordering::Relaxed));
    world.assert_whole();
}

/// An allocation costs the same whether 10 or 10,000 other blocks are in use.
#[test]
fn cost_does_not_grow_with_the_blocks_in_use() {
    fn cost(live: usize) -> Duration {
        let world = World::new(1 << 17);
        let mut random = Random(42);
        let held: Vec<_> = (0..live).map(|_| world.alloc(random.size() % 8 + 1)).collect();
        assert!(held.iter().all(Option::is_some));
        for block in held.iter().flatten() {
            world.arena.lend(*block, Allocated::NONE, true);
        }
        let round = || {
            let start = Instant::now();
            for _ in 0..2000 {
                let blocks = [1, 3, 70].map(|size| world.alloc(size).expect("room"));
                let latest = lend_all(&world, &blocks);
                world.mark(latest);
                world.arena.take_back(latest, 3);
            }
            start.elapsed()
        };
        let best = (0..15).map(|_| round()).min().expect("some rounds");
        // A failed allocation examines more blocks.
        let start = Instant::now();
        assert!(world.alloc(1 << 17).is_none());
        println!("a refusal with {live} blocks in use: {:?}", start.elapsed());
        best
    }
    let (few, many) = (cost(10), cost(10_000));
    println!("6,000 blocks allocated and released: {few:?} with 10 in use, {many:?} with 10,000");
    assert!(many < few * 8, "{few:?} with 10 blocks in use, {many:?} with 10,000");
}
