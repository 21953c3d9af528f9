//! Both sides of a case, in the crate and in the model: each step is taken in both, and the crate's
//! results are compared with the model's.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use vmffi::{CallError, ErrorKind, Peer, SharedBuf, SharedStr, abi, abi::Side};

use crate::{
    calls::Flight,
    counts::count,
    model::{Failed, Id, Model, Outcomes, Place, Step, Thing},
    ops::{Fate, Thread},
    value::{Kept, Made, Type, Value},
};

/// All that a call's failure tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Error {
    pub why: ErrorKind,
    pub reached: bool,
    pub side: Option<Side>,
    pub function: Option<u64>,
    pub field: Option<&'static str>,
    pub offset: u64,
    pub len: u64,
}

impl Error {
    pub fn new(why: ErrorKind, side: Side) -> Self {
        let side = Some(side);
        Self { why, reached: false, side, function: None, field: None, offset: 0, len: 0 }
    }

    pub fn of(error: &CallError) -> Self {
        Self {
            why: error.kind(),
            reached: error.reached(),
            side: error.side(),
            function: error.function().map(|function| function.signature),
            field: error.field(),
            offset: error.offset(),
            len: error.bytes(),
        }
    }

    pub fn reached(self) -> Self {
        Self { reached: true, ..self }
    }

    pub fn at(self, offset: u64, len: usize) -> Self {
        Self { offset, len: len as u64, ..self }
    }

    pub fn in_function(self, function: &abi::Function) -> Self {
        Self { function: Some(function.signature), ..self }
    }

    /// The error on the side that allocates, where it was found.
    pub fn local(failed: Failed, side: Side) -> Self {
        match failed {
            Failed::NoRoom(len) => Self::new(ErrorKind::OutOfMemory, side).at(0, len),
            Failed::NotOurs => Self::new(ErrorKind::BadPointer, side),
        }
    }

    /// The error that the caller gets from the other side.
    pub fn across(self, side: Side, function: &abi::Function) -> Self {
        Self { reached: self.reached, ..Self::new(self.why, side) }.in_function(function)
    }
}

/// A thing in the crate.
pub enum Real {
    Made(Made),
    Held(Box<dyn Kept>),
}

/// A pointer word that was lent earlier, with the byte count.
pub struct Old {
    pub word: u64,
    pub len: u64,
    /// The thing that it has become.
    pub thing: Option<Id>,
    /// The number of blocks that its owner had allocated at that time.
    pub taken: usize,
}

pub struct State {
    /// The sizes of the arenas.
    pub pages: [u64; 2],
    pub model: Model,
    pub reals: BTreeMap<Id, Real>,
    pub flights: Vec<Flight>,
    /// By [`Side`].
    pub old: [Vec<Old>; 2],
    /// The errors that observers got since the last check, and the side of each.
    pub told: Vec<(Side, Error)>,
    pub ops: usize,
}

pub struct World(Mutex<State>);

/// Runs a function on this thread or on another one.
pub fn on<R: Send + 'static>(thread: Thread, run: impl FnOnce() -> R + Send + 'static) -> R {
    match thread {
        Thread::This => run(),
        Thread::Other => std::thread::spawn(run).join().expect("no panic on the other thread"),
    }
}

impl World {
    pub fn new(pages: [u64; 2]) -> Self {
        Self(Mutex::new(State {
            pages,
            model: Model::new(pages),
            reals: BTreeMap::new(),
            flights: Vec::new(),
            old: [Vec::new(), Vec::new()],
            told: Vec::new(),
            ops: 0,
        }))
    }

    /// It must not be locked during a call of the crate, which calls back.
    pub fn with<R>(&self, with: impl FnOnce(&mut State) -> R) -> R {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Compares a side's arena with the model.
    pub fn compare(&self, peer: &Peer) {
        let stats = peer.arena_stats();
        let side = peer.side();
        let (blocks, granules) = self.with(|state| state.model.in_use(side));
        count(|counts| counts.arenas += 1);
        assert_eq!(
            (stats.blocks, stats.used),
            (blocks, granules * vmffi::GRANULE_SIZE),
            "blocks and bytes in use in the {side}'s arena, in the crate and in the model"
        );
    }

    /// Compares a value that was read with the one that must have arrived.
    pub fn arrived(&self, read: &Result<Value, CallError>, value: &Value) {
        count(|counts| counts.values += 1);
        match (read, value) {
            (Ok(_), Value::Unknown) => {}
            (read, value) => assert_eq!(read.as_ref(), Ok(value)),
        }
    }

    /// Observers were notified of this error, and of no other.
    pub fn told(&self, side: Side, expected: Option<Error>) {
        let told = self.with(|state| std::mem::take(&mut state.told));
        let expected: Vec<_> = expected.into_iter().map(|error| (side, error)).collect();
        assert_eq!(told, expected, "the errors of the observers, and the model's");
    }

    /// Checks the outcome of a sequence of allocations.
    pub fn validate(
        &self,
        side: Side,
        outcomes: &Outcomes,
        function: Option<&abi::Function>,
        result: Result<(), &CallError>,
    ) {
        count(|counts| {
            counts.allocations.0 += 1;
            counts.allocations.1 += usize::from(outcomes.ok && !outcomes.failures.is_empty());
        });
        match result {
            Ok(()) => assert!(outcomes.ok, "there is no room: {outcomes:?}"),
            Err(error) => {
                let error = Error::of(error);
                failed(&error);
                let found = outcomes.failures.iter().any(|failed| {
                    let local = Error::local(*failed, side);
                    function.map_or(local, |function| local.in_function(function)) == error
                });
                assert!(found, "{error:?} is not among {outcomes:?}");
            }
        }
    }

    /// Makes a thing to be sent.
    pub fn make(
        &self,
        peer: &Peer,
        ty: &Type,
        value: &Value,
    ) -> Result<(Made, Id, Vec<usize>), CallError> {
        let blocks = (ty.blocks)(value);
        self.make_in(peer, ty, value, &blocks, || (ty.make)(peer, value))
            .map(|(made, id)| (made, id, blocks))
    }

    /// The same, by `make`, which allocates these blocks.
    pub fn make_in(
        &self,
        peer: &Peer,
        ty: &Type,
        value: &Value,
        blocks: &[usize],
        make: impl FnOnce() -> Result<Made, CallError>,
    ) -> Result<(Made, Id), CallError> {
        let side = peer.side();
        let steps: Vec<_> = blocks.iter().map(|bytes| Step::Take(*bytes)).collect();
        let outcomes = self.with(|state| state.model.outcomes(side, &steps));
        let made = make();
        self.validate(side, &outcomes, None, made.as_ref().map(drop));
        let (value, blocks) = (value.clone(), blocks.to_vec());
        let thing =
            Thing { side, place: Place::Made, ty: *ty, value, blocks, grown: false, forged: false };
        made.map(|made| (made, self.with(|state| state.model.add(thing))))
    }

    /// Takes out a thing that a side has made.
    pub fn made(
        &self,
        nth: usize,
        side: Side,
        will_do: impl Fn(&Thing) -> bool,
    ) -> Option<(Made, Id, Thing)> {
        self.with(|state| {
            let id = state.made_id(nth, side, will_do)?;
            match state.reals.remove(&id) {
                Some(Real::Made(made)) => Some((made, id, state.model.things[&id].clone())),
                _ => panic!("not made"),
            }
        })
    }

    /// A call has failed as the model predicts.
    pub fn fails(&self, error: &CallError, expected: Error) {
        let error = Error::of(error);
        failed(&error);
        assert_eq!(error, expected, "the caller's error, and the model's");
    }

    /// Does with a received thing what the plan says.
    pub fn meet(&self, fate: Fate, real: Box<dyn Kept>, id: Option<Id>) {
        match (fate, id) {
            (Fate::Keep, Some(id)) => {
                self.with(|state| state.reals.insert(id, Real::Held(real)));
            }
            (Fate::Keep, None) => drop(real),
            (Fate::Drop(thread), id) => {
                on(thread, move || drop(real));
                self.with(|state| id.map(|id| state.dropped(id)));
            }
        }
    }

    /// Reads the nth thing of a type that a side has received.
    pub fn read(
        &self,
        nth: usize,
        side: Side,
        ty: Option<&Type>,
        thread: Thread,
    ) -> Option<Result<Value, CallError>> {
        let (id, real, thing) = self.with(|state| state.held(nth, side, ty))?;
        let (read, real) = on(thread, move || (real.value(), real));
        self.with(|state| state.reals.insert(id, Real::Held(real)));
        self.check(&read, &thing);
        Some(read.map(|_| thing.value))
    }

    /// Reads and drops a thing of either side.
    pub fn drop_any(&self, id: Id) {
        let (real, thing) =
            self.with(|state| (state.reals.remove(&id), state.model.things[&id].clone()));
        match real.expect("alive") {
            Real::Held(real) => self.check(&real.value(), &thing),
            Real::Made(made) => {
                if let Some(made) = made.downcast_ref::<SharedBuf>() {
                    assert_eq!(made.as_slice(), thing.value.bytes());
                }
                if let Some(made) = made.downcast_ref::<SharedStr>() {
                    assert_eq!(made.as_str(), thing.value.text());
                }
            }
        }
        self.with(|state| state.dropped(id));
    }

    /// Compares what was read of a received thing with the model.
    fn check(&self, read: &Result<Value, CallError>, thing: &Thing) {
        if thing.place == Place::Stale && !thing.blocks.is_empty() {
            count(|counts| counts.values += 1);
            let error = read.as_ref().expect_err("the handle is stale");
            self.fails(error, Error { side: None, ..Error::new(ErrorKind::Stale, thing.side) });
        } else {
            self.arrived(read, &thing.value);
        }
    }

    /// Drops the nth thing that a side has received.
    pub fn drop_held(&self, nth: usize, side: Side, thread: Thread) -> bool {
        let Some((id, real, _)) = self.with(|state| state.held(nth, side, None)) else {
            return false;
        };
        on(thread, move || drop(real));
        self.with(|state| state.dropped(id));
        true
    }
}

fn failed(error: &Error) {
    let reached = if error.reached { ", reached" } else { "" };
    count(|counts| counts.add(format!("error: {:?}{reached}", error.why)));
}

impl State {
    /// A thing was dropped.
    pub fn dropped(&mut self, id: Id) {
        let thing = self.model.take(id);
        if thing.forged && thing.place == Place::Held {
            self.model.add(Thing { side: thing.side.other(), place: Place::Lost, ..thing });
        }
    }

    /// The nth thing that a side has made and kept.
    pub fn made_id(&self, nth: usize, side: Side, will_do: impl Fn(&Thing) -> bool) -> Option<Id> {
        self.model.nth(nth, side, |id, thing| {
            thing.place == Place::Made && self.reals.contains_key(&id) && will_do(thing)
        })
    }

    /// Takes out the nth thing of a type that a side has received.
    fn held(
        &mut self,
        nth: usize,
        side: Side,
        ty: Option<&Type>,
    ) -> Option<(Id, Box<dyn Kept>, Thing)> {
        let id = self.model.nth(nth, side, |id, thing| {
            matches!(thing.place, Place::Held | Place::Stale)
                && self.reals.contains_key(&id)
                && ty.is_none_or(|ty| thing.ty.is(ty))
        })?;
        match self.reals.remove(&id) {
            Some(Real::Held(real)) => Some((id, real, self.model.things[&id].clone())),
            _ => panic!("not received"),
        }
    }
}
