//! Random sequences of operations, compared with a plain model of the blocks in use.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// The owner allocates a block of this many bytes.
    Alloc(usize),
    /// The owner extends the nth block that it owns by this many granules.
    Extend(usize, usize),
    /// The owner shortens the nth block that it owns to this many granules.
    Shorten(usize, usize),
    /// The owner drops the nth block that it owns.
    Drop(usize),
    /// The owner lends blocks in one call, from the nth on and up to this number.
    Lend(usize, usize),
    /// The peer releases a loan of the nth call.
    Mark(usize),
    /// The peer writes a wrong release mark anywhere.
    Forge(usize, u8),
    /// The nth call did not reach its function.
    TakeBack(usize),
    /// The peer has exited.
    TakeBackAll,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => prop_oneof![0_usize..200, 0_usize..5000, 0_usize..70_000].prop_map(Op::Alloc),
        3 => (any::<usize>(), prop_oneof![0_usize..3, 0_usize..100])
            .prop_map(|(nth, more)| Op::Extend(nth, more)),
        2 => (any::<usize>(), prop_oneof![1_usize..3, 1_usize..100])
            .prop_map(|(nth, len)| Op::Shorten(nth, len)),
        3 => any::<usize>().prop_map(Op::Drop),
        4 => (any::<usize>(), 1_usize..5).prop_map(|(nth, most)| Op::Lend(nth, most)),
        4 => any::<usize>().prop_map(Op::Mark),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(at, loan)| Op::Forge(at, loan)),
        1 => any::<usize>().prop_map(Op::TakeBack),
        1 => (0_u8..10).prop_map(|_| Op::TakeBackAll),
    ];
    prop::collection::vec(op, 1..400)
}

/// A block that the model considers in use.
#[derive(Clone, Copy)]
struct Live {
    block: Allocated,
    granules: usize,
}

#[derive(Default)]
struct Model {
    owned: Vec<Live>,
    /// Loans by call.
    lent: Vec<Vec<Live>>,
    /// Blocks whose marks the owner may not have read yet: a peer that overwrites such a mark keeps the loan.
    marked: HashSet<u32>,
}

impl Model {
    fn live(&self) -> impl Iterator<Item = &Live> {
        self.owned.iter().chain(self.lent.iter().flatten())
    }

    /// The largest piece of memory that no block in use covers.
    fn gap(&self, granules: usize) -> usize {
        let mut taken: Vec<_> =
            self.live().map(|live| (live.block.index as usize, live.granules)).collect();
        taken.sort_unstable();
        let (mut end, mut gap) = (0, 0);
        for (start, len) in taken.into_iter().chain([(granules, 0)]) {
            gap = gap.max(start - end);
            end = start + len;
        }
        gap
    }
}

fn run(world: &World, granules: usize, ops: &[Op]) {
    let mut model = Model::default();
    for op in ops {
        match *op {
            Op::Alloc(bytes) => {
                let wanted = bytes.div_ceil(GRANULE_SIZE).max(1);
                let Some(block) = world.arena.alloc(bytes) else {
                    // An allocation fails only for lack of memory, and a failed one changes nothing.
                    assert!(model.gap(granules) < wanted, "refused {wanted} granules");
                    let used = model.live().map(|live| live.granules).sum();
                    assert_eq!(world.in_use(), (used, model.live().count()));
                    continue;
                };
                let (start, end) = (block.index as usize, block.index as usize + wanted);
                assert!(end <= granules, "outside");
                assert_ne!(block.loan(), 0);
                for other in model.live() {
                    let at = other.block.index as usize;
                    assert!(end <= at || at + other.granules <= start, "two blocks overlap");
                }
                model.marked.remove(&block.index);
                model.owned.push(Live { block, granules: wanted });
            }
            Op::Extend(nth, more) if !model.owned.is_empty() => {
                let nth = nth % model.owned.len();
                let Live { block, granules: old } = model.owned[nth];
                let end = block.index as usize + old;
                let next = model.live().map(|live| live.block.index as usize);
                let room = next.filter(|at| *at >= end).min().unwrap_or(granules) - end;
                // The memory after it may be several blocks that are finished, of which one is taken. This frees all
                // of them, so that they are one block.
                let merged = more % 2 == 0;
                if merged {
                    world.in_use();
                }
                let extended = world.arena.extend(block, (old + more) as u32);
                assert!(if extended { more <= room } else { more > 0 });
                assert!(extended || more > room || !merged, "{more} of {room} granules refused");
                model.owned[nth].granules += if extended { more } else { 0 };
            }
            Op::Shorten(nth, len) if !model.owned.is_empty() => {
                let nth = nth % model.owned.len();
                let live = &mut model.owned[nth];
                world.arena.shorten(live.block, len as u32);
                live.granules = live.granules.min(len);
            }
            Op::Drop(nth) if !model.owned.is_empty() => {
                let nth = nth % model.owned.len();
                world.arena.drop_owned(model.owned.swap_remove(nth).block);
            }
            Op::Lend(nth, most) if !model.owned.is_empty() => {
                let nth = nth % model.owned.len();
                let most = most.min(model.owned.len() - nth);
                let call: Vec<Live> = model.owned.drain(nth..nth + most).collect();
                let blocks: Vec<_> = call.iter().map(|live| live.block).collect();
                lend_all(world, &blocks);
                model.lent.push(call);
            }
            Op::Mark(nth) if !model.lent.is_empty() => {
                let call = nth % model.lent.len();
                let loan = nth / 7 % model.lent[call].len();
                let block = model.lent[call].swap_remove(loan).block;
                world.mark(block);
                model.marked.insert(block.index);
                if model.lent[call].is_empty() {
                    model.lent.swap_remove(call);
                }
            }
            Op::Forge(at, loan) => {
                let index = (at % granules) as u32;
                let right = |live: &Live| live.block.index == index && live.block.loan() == loan;
                // Also excludes the number that an owned block will have when it is lent.
                if !model.marked.contains(&index) && !model.live().any(right) {
                    world.mark_as(index, loan);
                }
            }
            Op::TakeBack(nth) if !model.lent.is_empty() => {
                // All loans of a call that did not reach its function still last, so its list is complete.
                let nth = nth % model.lent.len();
                let call = model.lent.swap_remove(nth);
                let latest = lend_all(world, &call.iter().map(|l| l.block).collect::<Vec<_>>());
                world.arena.take_back(latest, call.len() as u32);
            }
            Op::TakeBackAll => {
                world.arena.end_loans();
                model.lent.clear();
            }
            _ => {}
        }
    }
    for live in model.owned.drain(..) {
        world.arena.drop_owned(live.block);
    }
    for live in model.lent.drain(..).flatten() {
        world.mark(live.block);
    }
    world.assert_whole();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// No two blocks in use overlap, every block is in the arena, an allocation succeeds if a free range is large
    /// enough, wrong marks have no effect, and all memory becomes one free block again.
    #[test]
    fn the_arena_agrees_with_the_model(granules in prop_oneof![1_usize..40, 40_usize..3000], ops in ops()) {
        let world = World::new(granules);
        run(&world, granules, &ops);
    }
}
