//! The cost and the success of allocations when memory is short.

use std::time::{Duration, Instant};

use super::*;

/// An arena with its release map, and its blocks.
type Full = (Arena<Box<[Slot]>>, Box<[AtomicU8]>, Vec<Allocated>);

/// An arena in which each granule is a lent block.
fn full(granules: usize) -> Full {
    let metadata: Box<[Slot]> = (0..granules).map(|_| Slot::default()).collect();
    let marks: Box<[AtomicU8]> = (0..granules).map(|_| AtomicU8::new(0)).collect();
    // SAFETY: `marks` has as many bytes as `metadata` has slots. The caller gets both and drops them together.
    let arena = unsafe { Arena::new(metadata, marks.as_ptr()) };
    let blocks: Vec<_> = (0..granules).map(|_| arena.alloc(1).expect("room")).collect();
    blocks.iter().for_each(|block| arena.lend(*block, Allocated::NONE, true));
    (arena, marks, blocks)
}

/// The 90th percentile of the times of 50 failed allocations.
fn refusal(granules: usize, len: usize) -> Duration {
    let (arena, _marks, _blocks) = full(granules);
    let mut times: Vec<_> = (0..50)
        .map(|_| {
            let start = Instant::now();
            assert!(arena.alloc(len).is_none());
            start.elapsed()
        })
        .collect();
    times.sort();
    times[45]
}

/// A failed allocation costs the same in arenas of 1 MiB and 128 MiB, for small and large requests.
#[test]
fn a_refusal_does_not_depend_on_the_arena() {
    for len in [1, 8 * GRANULE_SIZE, 100 * GRANULE_SIZE] {
        let (small, large) = (refusal(1 << 14, len), refusal(1 << 21, len));
        println!(
            "a refusal of {len} bytes: {small:?} with 16,384 blocks, {large:?} with 2,097,152"
        );
        // The larger arena has 128 times as many blocks; cache misses explain a moderate difference.
        assert!(large < small * 16, "{small:?} {large:?}");
    }
    let start = Instant::now();
    let (arena, _marks, _blocks) = full(1 << 14);
    assert!(arena.alloc((1 << 14) * GRANULE_SIZE + 1).is_none(), "more than there is");
    println!("{:?}", start.elapsed());
}

/// Every released block is found eventually, since each failed allocation continues the search of the one before.
#[test]
fn a_released_block_is_found_eventually() {
    let (arena, marks, blocks) = full(1 << 15);
    // One released block among 32,768, wherever the search begins.
    for block in [blocks[77], blocks[20_000], blocks[32_767]] {
        marks[block.index as usize].store(block.loan(), Ordering::Release);
        let tries = (1..).find(|_| arena.alloc(1).is_some()).unwrap();
        assert!(tries <= (1 << 15) / IN_VAIN + 1, "{tries} tries");
    }
}

/// If all blocks are released, one allocation frees up to `FREED` of them and can take all of these as one block.
#[test]
fn all_released_blocks_merge_into_one() {
    let granules = FREED as usize;
    let (arena, marks, blocks) = full(granules);
    for block in &blocks {
        marks[block.index as usize].store(block.loan(), Ordering::Release);
    }
    assert!(arena.alloc(granules * GRANULE_SIZE).is_some());
    let (arena, marks, blocks) = full(5 * granules);
    for block in &blocks {
        marks[block.index as usize].store(block.loan(), Ordering::Release);
    }
    let tries = (1..).find(|_| arena.alloc(5 * granules * GRANULE_SIZE).is_some()).unwrap();
    assert!(tries <= 6, "{tries}");
}

/// The cost does not depend on the number of free blocks in the request's own class that are slightly too small.
#[test]
fn many_free_blocks_that_are_too_small() {
    let time = |granules: usize| {
        let metadata: Box<[Slot]> = (0..granules).map(|_| Slot::default()).collect();
        let marks: Box<[AtomicU8]> = (0..granules).map(|_| AtomicU8::new(0)).collect();
        // SAFETY: `marks` has as many bytes as `metadata` has slots, and outlives the arena: locals are dropped in
        // reverse order of declaration.
        let arena = unsafe { Arena::new(metadata, marks.as_ptr()) };
        // A request of 33 granules, whose list holds blocks of 32 and 33.
        let alloc = |len: usize| arena.alloc(len * GRANULE_SIZE);
        let blocks: Vec<_> = core::iter::from_fn(|| alloc(32).zip(alloc(1))).collect();
        while alloc(1).is_some() {}
        blocks.iter().for_each(|(block, _)| arena.drop_owned(*block));
        arena.stats();
        let times = (0..20).map(|_| {
            let start = Instant::now();
            assert!(alloc(33).is_none());
            start.elapsed()
        });
        times.min().unwrap()
    };
    let (small, large) = (time(1 << 18), time(1 << 21));
    println!(
        "a refusal among free blocks that are too small: {small:?}, {large:?} with 8 times as many"
    );
    assert!(large < small * 16, "{small:?} {large:?}");
}

/// The end of a life ends all of its loans but the kept ones, and no loan of the next life.
#[test]
fn loans_end_with_a_life() {
    let (arena, marks, blocks) = full(1 << 12);
    let kept = blocks[5];
    // All other loans are released before the peer's loans are kept.
    for block in blocks.iter().filter(|block| block.index != kept.index) {
        marks[block.index as usize].store(block.loan(), Ordering::Release);
    }
    arena.keep_loans();
    assert_eq!(arena.stats().blocks, 1);
    let lend = |delivered| {
        let block = arena.alloc(1).expect("room");
        arena.lend(block, Allocated::NONE, delivered);
        block
    };
    let early = (lend(false), lend(true));
    assert_eq!(arena.stats().blocks, 3);
    arena.end_loans();
    let late = lend(true);
    assert_eq!(arena.stats().blocks, 2, "the kept one and the new one");
    // Taking back the loans of a stale call ends no loan of another call.
    arena.take_back(early.1, 1);
    arena.take_back(early.0, 1);
    assert_eq!(arena.stats().blocks, 2);
    marks[late.index as usize].store(late.loan(), Ordering::Release);
    marks[kept.index as usize].store(kept.loan(), Ordering::Release);
    assert_eq!(arena.stats().blocks, 1, "the kept loan has not ended");
    // The next checkpoint does not hold it, since it was released; nor does it hold a loan that was not delivered.
    let (waits, held) = (lend(false), lend(true));
    arena.keep_loans();
    assert_eq!(arena.stats().blocks, 2);
    arena.deliver(waits, 1);
    arena.end_loans();
    assert_eq!(arena.stats().blocks, 1);
    // One that is not released is held by the next checkpoint as well.
    arena.keep_loans();
    marks[held.index as usize].store(held.loan(), Ordering::Release);
    arena.end_loans();
    assert_eq!(arena.stats().blocks, 1);
}
