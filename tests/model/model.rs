//! The model: the things that exist on each side, with their values and the memory that they use. It consists of plain
//! collections, and does not know how an arena works.

use std::collections::BTreeMap;

use vmffi::{GRANULE_SIZE, PAGE_SIZE, abi::Side};

use crate::value::{Type, Value};

pub type Id = u32;

/// The state of a thing for the side that has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// Made, and not sent: it uses memory of its own side.
    Made,
    /// Received: it uses memory of the other side.
    Held,
    /// Received before a reset: it uses no memory, and cannot be read.
    Stale,
    /// Sent with forged words, so that it is never released: memory of its own side.
    Lost,
}

/// A thing that exists.
#[derive(Clone, Debug)]
pub struct Thing {
    pub side: Side,
    pub place: Place,
    pub ty: Type,
    pub value: Value,
    /// The size of each of its blocks in bytes.
    pub blocks: Vec<usize>,
    /// It has grown, so its block is shortened to its value when it is sent.
    pub grown: bool,
    /// Received with the wrong number of a loan: dropping it releases nothing.
    pub forged: bool,
}

impl Thing {
    /// The side whose arena it is in.
    fn owner(&self) -> Option<Side> {
        match self.place {
            Place::Made | Place::Lost => Some(self.side),
            Place::Held => Some(self.side.other()),
            Place::Stale => None,
        }
    }
}

/// The possible outcomes of a sequence of allocations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes {
    pub ok: bool,
    /// The failures that are possible.
    pub failures: Vec<Failed>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failed {
    /// No room for this many bytes.
    NoRoom(usize),
    /// The block belongs to another connection or side.
    NotOurs,
}

/// A change of an arena while values are sent.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Take(usize),
    /// A block of so many bytes is shortened to so many.
    Shorten(usize, usize),
    Free(usize),
    /// A block of another connection or side is passed.
    Meet,
}

/// Blocks, and granules in them.
pub type Usage = (usize, usize);

fn granules(bytes: usize) -> usize {
    bytes.div_ceil(GRANULE_SIZE).max(1)
}

#[derive(Debug)]
pub struct Model {
    /// By [`Side`], in granules.
    capacity: [usize; 2],
    pub things: BTreeMap<Id, Thing>,
    next: Id,
    /// The parameters of calls in progress: the side, and the size in bytes.
    pub open: Vec<(Side, usize)>,
    /// By [`Side`]: an upper limit of the number of blocks that were ever allocated.
    pub taken: [usize; 2],
}

impl Model {
    pub fn new(pages: [u64; 2]) -> Self {
        let capacity = pages.map(|pages| (pages * PAGE_SIZE) as usize / GRANULE_SIZE);
        Self { capacity, things: BTreeMap::new(), next: 0, open: Vec::new(), taken: [0; 2] }
    }

    pub fn add(&mut self, thing: Thing) -> Id {
        self.next += 1;
        self.things.insert(self.next, thing);
        self.next
    }

    pub fn take(&mut self, id: Id) -> Thing {
        self.things.remove(&id).expect("alive")
    }

    /// The nth of the things of a side that a predicate accepts.
    pub fn nth(&self, nth: usize, side: Side, will_do: impl Fn(Id, &Thing) -> bool) -> Option<Id> {
        let here = |(id, thing): &(&Id, &Thing)| thing.side == side && will_do(**id, thing);
        let all: Vec<_> = self.things.iter().filter(here).collect();
        if all.is_empty() { None } else { Some(*all[nth % all.len()].0) }
    }

    /// The blocks and granules in use in a side's arena.
    pub fn in_use(&self, side: Side) -> Usage {
        let all = self.things.values().filter(|thing| thing.owner() == Some(side));
        let open = self.open.iter().filter(|(owner, _)| *owner == side).map(|(_, bytes)| bytes);
        all.flat_map(|thing| &thing.blocks)
            .chain(open)
            .fold((0, 0), |(blocks, used), bytes| (blocks + 1, used + granules(*bytes)))
    }

    /// The possible outcomes of some steps in a side's arena. The model does not know the places of the blocks, so
    /// where the total is enough but one contiguous range may not be, both outcomes are possible.
    pub fn outcomes(&mut self, side: Side, steps: &[Step]) -> Outcomes {
        let (mut blocks, mut used) = self.in_use(side);
        let mut outcomes = Outcomes::default();
        for step in steps {
            match *step {
                Step::Take(bytes) => {
                    let (wanted, free) = (granules(bytes), self.capacity[side as usize] - used);
                    // Between this many blocks there is at most one gap more than blocks.
                    if free <= (blocks + 1) * (wanted - 1) || free < wanted {
                        outcomes.failures.push(Failed::NoRoom(bytes));
                    }
                    if free < wanted {
                        return outcomes;
                    }
                    (blocks, used) = (blocks + 1, used + wanted);
                    self.taken[side as usize] += 1;
                }
                Step::Shorten(from, to) => used -= granules(from) - granules(to),
                Step::Free(bytes) => (blocks, used) = (blocks - 1, used - granules(bytes)),
                Step::Meet => {
                    outcomes.failures.push(Failed::NotOurs);
                    return outcomes;
                }
            }
        }
        outcomes.ok = true;
        outcomes
    }

    /// All loans end.
    pub fn reset(&mut self) {
        self.things.retain(|_, thing| thing.place != Place::Lost);
        for thing in self.things.values_mut().filter(|thing| thing.place == Place::Held) {
            thing.place = Place::Stale;
        }
    }
}
