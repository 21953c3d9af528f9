//! Memory is short: what an allocation then costs, and what it still finds.

use std::time::{Duration, Instant};

use super::*;

/// An arena with its release map, and its blocks.
type Full = (Arena<Box<[Slot]>>, Box<[AtomicU8]>, Vec<Allocated>);

/// An arena of so many granules, each of which is lent.
fn full(granules: usize) -> Full {
    let books: Box<[Slot]> = (0..granules).map(|_| Slot::default()).collect();
    let marks: Box<[AtomicU8]> = (0..granules).map(|_| AtomicU8::new(0)).collect();
    // SAFETY: the marks are on the heap, as many as the books have slots, and go with the arena.
    let arena = unsafe { Arena::new(books, marks.as_ptr()) };
    let blocks: Vec<_> = (0..granules).map(|_| arena.alloc(1).expect("room")).collect();
    blocks.iter().for_each(|block| arena.lend(*block, Allocated::NONE, true));
    (arena, marks, blocks)
}

/// The worst of some refusals, but for a few that the machine has delayed.
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

/// 1 MiB and 128 MiB: a refusal costs the same, whether a little is asked for or much.
#[test]
fn a_refusal_does_not_depend_on_the_arena() {
    for len in [1, 8 * GRANULE, 100 * GRANULE] {
        let (small, large) = (refusal(1 << 14, len), refusal(1 << 21, len));
        println!(
            "a refusal of {len} bytes: {small:?} with 16,384 blocks, {large:?} with 2,097,152"
        );
        // 128 times as many blocks; what differs is how well the processor's caches know them.
        assert!(large < small * 16, "{small:?} {large:?}");
    }
    let start = Instant::now();
    let (arena, _marks, _blocks) = full(1 << 14);
    assert!(arena.alloc((1 << 14) * GRANULE + 1).is_none(), "more than there is");
    println!("{:?}", start.elapsed());
}

/// Nothing that was given back stays out of reach: each refusal looks further.
#[test]
fn what_was_given_back_is_found_in_the_end() {
    let (arena, marks, blocks) = full(1 << 15);
    // The last that the sweep comes to, wherever it stands: one block, of 32,768.
    for block in [blocks[77], blocks[20_000], blocks[32_767]] {
        marks[block.index as usize].store(block.loan(), Ordering::Release);
        let tries = (1..).find(|_| arena.alloc(1).is_some()).unwrap();
        assert!(tries <= (1 << 15) / IN_VAIN + 1, "{tries} tries");
    }
}

/// All of it was given back at once: it is free for one large block at the first try, up to what one try may free.
#[test]
fn all_that_was_given_back_is_one_block() {
    let granules = FREED as usize;
    let (arena, marks, blocks) = full(granules);
    for block in &blocks {
        marks[block.index as usize].store(block.loan(), Ordering::Release);
    }
    assert!(arena.alloc(granules * GRANULE).is_some());
    let (arena, marks, blocks) = full(5 * granules);
    for block in &blocks {
        marks[block.index as usize].store(block.loan(), Ordering::Release);
    }
    let tries = (1..).find(|_| arena.alloc(5 * granules * GRANULE).is_some()).unwrap();
    assert!(tries <= 6, "{tries}");
}

/// Free blocks of the request's own class that are too small by a little: there may be any number of them.
#[test]
fn many_free_blocks_that_are_too_small() {
    let time = |granules: usize| {
        let books: Box<[Slot]> = (0..granules).map(|_| Slot::default()).collect();
        let marks: Box<[AtomicU8]> = (0..granules).map(|_| AtomicU8::new(0)).collect();
        // SAFETY: as above.
        let arena = unsafe { Arena::new(books, marks.as_ptr()) };
        // 33 granules are asked for, and the list is for 32 and 33.
        let alloc = |len: usize| arena.alloc(len * GRANULE);
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

/// The end of a life ends all loans at once, and no loan of the next one; what is kept goes on.
#[test]
fn loans_end_with_a_life() {
    let (arena, marks, blocks) = full(1 << 12);
    let kept = blocks[5];
    // Only this one was not given back before the rest is kept.
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
    // Those of a call that was stale end nothing of others, though they are in its list.
    arena.take_back(early.1, 1);
    arena.take_back(early.0, 1);
    assert_eq!(arena.stats().blocks, 2);
    marks[late.index as usize].store(late.loan(), Ordering::Release);
    marks[kept.index as usize].store(kept.loan(), Ordering::Release);
    assert_eq!(arena.stats().blocks, 1, "the peer will have it again");
    // A call that lent before the peer was kept, and was not delivered, is not kept.
    let waits = lend(false);
    arena.keep_loans();
    arena.deliver(waits, 1);
    arena.end_loans();
    assert_eq!(arena.stats().blocks, 1);
}
