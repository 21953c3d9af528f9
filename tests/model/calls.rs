//! A call on both of its sides: what the caller sends and receives, and what the handler does.

use std::{panic::resume_unwind, sync::Arc};

use vmffi::{CallError, ErrorKind, MAX_DEPTH, Peer, abi, abi::Side};

use crate::{
    batch::Group,
    counts::count,
    interface::{self, Entry, Got, Reply},
    model::{Failed, Id, Outcomes, Place, Step, Thing},
    ops::{Call, End, Fate, Plan, Source, Thread},
    value::{Kept, Sent, Type, Value},
    world::{Error, State, World},
};

/// A value that is sent to a handler.
pub struct Going {
    pub ty: Type,
    pub value: Value,
    /// The value that the handler will have.
    pub blocks: Vec<usize>,
    /// The thing that the caller had made of it.
    pub made: Option<Id>,
    pub forged: bool,
}

/// A call in progress.
pub struct Flight {
    pub entry: &'static Entry,
    pub from: Side,
    pub plan: Arc<Plan>,
    pub going: Vec<Going>,
    /// Set by the handler: the things that its arguments have become.
    pub entered: Option<Vec<Option<Id>>>,
    /// Set by the handler: its outcome.
    pub end: Option<Ended>,
    /// If it is a batch, its calls. The rest is that of the latest one that was reached.
    pub batch: Option<Group>,
}

impl Flight {
    pub fn new(entry: &'static Entry, from: Side, plan: &Arc<Plan>, going: Vec<Going>) -> Self {
        Self { entry, from, plan: plan.clone(), going, entered: None, end: None, batch: None }
    }
}

pub enum Ended {
    Value { app: bool, ty: Type, value: Value, blocks: Vec<usize>, outcomes: Outcomes },
    Failed(Error),
    Panicked,
}

/// The message of a deliberate panic of a handler.
struct Wanted;

/// A value that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new(Wanted));
    }
}

impl World {
    /// Prepares an argument.
    pub fn prepare(
        &self,
        peer: &Peer,
        ty: &Type,
        value: &Value,
        source: Source,
        steps: &mut Vec<Step>,
    ) -> Result<(Sent, Going), CallError> {
        let (from, ty) = (peer.side(), *ty);
        let (nth, owner) = match source {
            Source::Kept(nth) => (nth, from),
            Source::Theirs(nth) => (nth, from.other()),
            Source::Made => {
                let (made, id, blocks) = self.make(peer, &ty, value)?;
                let (value, made_of) = (value.clone(), Some(id));
                let going = Going { ty, value, blocks, made: made_of, forged: false };
                return Ok((Sent::Made(made), going));
            }
            Source::Value => (0, from),
        };
        if source != Source::Value {
            if let Some((made, id, thing)) = self.made(nth, owner, |thing| thing.ty.is(&ty)) {
                let Thing { value, mut blocks, grown, .. } = thing;
                if value.is_empty() {
                    // An empty value is not lent: its block is freed at once.
                    let freed = blocks.drain(..).map(Step::Free);
                    steps.extend(freed.filter(|_| owner == from));
                } else if owner != from && !blocks.is_empty() {
                    steps.push(Step::Meet);
                } else if grown {
                    let sent = (ty.blocks)(&value);
                    steps.push(Step::Shorten(blocks[0], sent[0]));
                    blocks = sent;
                }
                let going = Going { ty, value, blocks, made: Some(id), forged: false };
                return Ok((Sent::Made(made), going));
            }
        }
        let blocks = (ty.blocks)(value);
        steps.extend(blocks.iter().map(|bytes| Step::Take(*bytes)));
        let going = Going { ty, value: value.clone(), blocks, made: None, forged: false };
        Ok((Sent::Value(value.clone()), going))
    }

    /// A call by the client, from its arguments to its result. Returns the failure of the call.
    pub fn call(&self, peer: &Peer, call: &Call) -> Option<CallError> {
        let (from, entry) = (peer.side(), call.entry);
        let (to, function) = (from.other(), entry.function);
        let (mut steps, mut sent, mut going) = (Vec::new(), Vec::new(), Vec::new());
        if entry.params.len() > 1 {
            steps.push(Step::Take(entry.size));
        }
        for (ty, (value, source)) in entry.params.iter().zip(&call.args) {
            if entry.params.len() == 1 && ty.alone > 0 {
                steps.push(Step::Take(ty.alone));
            }
            match self.prepare(peer, ty, value, *source, &mut steps) {
                Ok((one, on_its_way)) => {
                    sent.push(one);
                    going.push(on_its_way);
                }
                Err(error) => {
                    // Prepared arguments are dropped.
                    drop(sent);
                    self.forget(&going);
                    return Some(error);
                }
            }
        }
        let outcomes = self.with(|state| state.model.outcomes(from, &steps));
        let depth = self.begin(Flight::new(entry, from, &call.plan, going));
        // The parameters stay the caller's, and take memory until the call ends.
        let open = self.with(|state| state.model.open.len());
        match entry.params {
            [one] if one.alone > 0 => self.with(|state| state.model.open.push((from, one.alone))),
            [_, _, ..] => self.with(|state| state.model.open.push((from, entry.size))),
            _ => {}
        }
        let got = (entry.call)(peer, sent);
        self.with(|state| state.model.open.truncate(open));
        let flight = self.end(depth);

        let Some(end) = flight.end else {
            assert!(flight.entered.is_none(), "the handler has not ended");
            // The handler did not run, and all arguments are gone.
            self.forget(&flight.going);
            let Got::Fail(error) = got else { panic!("a result without a handler") };
            // The caller's side finds that calls are nested too deeply, before it sends anything.
            if !outcomes.ok || error.side() == Some(from) && error.kind() != ErrorKind::TooDeep {
                self.validate(from, &outcomes, Some(function), Err(&error));
                self.told(to, None);
            } else {
                let told = self.not_reached(depth, entry, to);
                let (why, found) = told.map_or((ErrorKind::TooDeep, from), |told| (told.why, to));
                self.fails(&error, Error::new(why, found).in_function(function));
                self.told(to, told);
            }
            return Some(error);
        };
        self.validate(from, &outcomes, None, Ok(()));
        assert!(depth < MAX_DEPTH as usize && entry.served[to as usize]);
        match (end, got) {
            (Ended::Failed(error), Got::Fail(got)) => {
                self.fails(&got, error.across(to, function));
                self.told(to, Some(error));
                Some(got)
            }
            (Ended::Panicked, Got::Fail(got)) => {
                let error = Error::new(ErrorKind::PeerPanicked, to).reached();
                self.fails(&got, error.in_function(function));
                self.told(to, Some(error));
                Some(got)
            }
            (Ended::Value { outcomes, .. }, Got::Fail(got)) => {
                // There is no room for the answer: only the side that made it knows the details.
                let [(side, told)] = self.with(|state| std::mem::take(&mut state.told))[..] else {
                    panic!("{got:?}, and no observer was notified")
                };
                let local =
                    |f: &Failed| Error::local(*f, to).reached().in_function(function) == told;
                assert!(side == to && outcomes.failures.iter().any(local), "{told:?} {outcomes:?}");
                self.fails(&got, told.across(to, function));
                Some(got)
            }
            (Ended::Value { app, ty, value, blocks, outcomes }, got) => {
                self.validate(to, &outcomes, None, Ok(()));
                let got = match got {
                    Got::Ok(got) if !app => got,
                    Got::App(got) if app => got,
                    _ => panic!("an error for a value, or a value for an error"),
                };
                if app {
                    count(|counts| counts.add("error: declared by the function"));
                }
                self.arrived(&got.value(), &value);
                self.told(to, None);
                let thing = Thing {
                    side: from,
                    place: Place::Held,
                    ty,
                    value,
                    blocks,
                    grown: false,
                    forged: false,
                };
                let id = ty.handles.then(|| self.with(|state| state.model.add(thing)));
                self.meet(call.fate, got, id);
                None
            }
            _ => panic!("the handler has failed, and its caller has a result"),
        }
    }

    /// A call begins; returns the number of calls in progress before it.
    pub fn begin(&self, flight: Flight) -> usize {
        self.with(|state| {
            state.flights.push(flight);
            let depth = state.flights.len() - 1;
            count(|counts| {
                counts.calls += 1;
                counts.deepest = counts.deepest.max(depth + 1);
            });
            depth
        })
    }

    /// The call has ended.
    pub fn end(&self, depth: usize) -> Flight {
        self.with(|state| {
            assert_eq!(state.flights.len(), depth + 1);
            state.flights.pop().expect("a call under way")
        })
    }

    /// Why a valid call does not reach its handler: the error that the other side reports, or `None` if
    /// the call is too deep.
    pub fn not_reached(&self, depth: usize, entry: &Entry, to: Side) -> Option<Error> {
        if depth >= MAX_DEPTH as usize {
            return None;
        }
        assert!(!entry.served[to as usize], "a good call did not arrive");
        Some(Error::new(ErrorKind::UnknownFunction, to))
    }

    /// Things that were made for the call no longer exist.
    pub fn forget(&self, going: &[Going]) {
        self.with(|state| {
            for id in going.iter().filter_map(|going| going.made) {
                state.model.take(id);
            }
        });
    }

    /// The code of every handler.
    pub fn serve(&self, peer: &Peer, function: &abi::Function, args: Vec<Box<dyn Kept>>) -> Reply {
        let to = peer.side();
        let entry = interface::entry(function);
        let (plan, going, ids) = self.with(|state| state.enter(entry, to));
        count(|counts| counts.add(format!("to the {to}: {}", function.name)));
        for (arg, going) in args.iter().zip(&going) {
            self.arrived(&arg.value(), &going.value);
        }
        let mut args: Vec<_> = args.into_iter().map(Some).collect();
        let panics = matches!(plan.end, End::Panic | End::Bomb);
        let mut error = None;
        for last in [false, true] {
            for (nr, (fate, late)) in plan.fates.iter().enumerate() {
                if *late != last {
                    continue;
                }
                if panics && last && *fate != Fate::Keep {
                    // Dropped while the handler unwinds.
                    self.with(|state| ids[nr].map(|id| state.dropped(id)));
                } else if let Some(arg) = args[nr].take() {
                    self.meet(*fate, arg, ids[nr]);
                }
            }
            if !last {
                for op in &plan.ops {
                    error = self.act(peer, op).or(error);
                }
            }
        }
        self.reply(peer, entry, &plan, error.filter(|_| plan.propagate && !panics))
    }

    /// How a handler ends.
    fn reply(&self, peer: &Peer, entry: &Entry, plan: &Plan, error: Option<CallError>) -> Reply {
        let to = peer.side();
        let set = |end: Ended| {
            self.with(|state| state.flights.last_mut().expect("this one").end = Some(end));
        };
        let fail = |error: CallError| {
            // The handler's side and function, unless the error names others.
            let told = Error::of(&error).reached().in_function(entry.function);
            set(Ended::Failed(Error { side: told.side.or(Some(to)), ..told }));
            Reply::Fail(error)
        };
        if let Some(error) = error {
            return fail(error);
        }
        let app = matches!(plan.end, End::App(_));
        let ty = if app { entry.app.expect("a declared error") } else { entry.ok };
        let made = match &plan.end {
            End::Value(value) | End::App(value) => self.make(peer, &ty, value),
            End::Kept(nth, value) => match self.made(*nth, to, |thing| thing.ty.is(&ty)) {
                Some((made, id, thing)) if thing.grown => Ok((made, id, (ty.blocks)(&thing.value))),
                Some((made, id, thing)) => Ok((made, id, thing.blocks)),
                None => self.make(peer, &ty, value),
            },
            End::Copy(nth, value) => match self.read(*nth, to, Some(&ty), Thread::This) {
                Some(Ok(value)) => self.make(peer, &ty, &value),
                Some(Err(error)) => Err(error),
                None => self.make(peer, &ty, value),
            },
            End::Fail(why) => Err(CallError::new(*why)),
            End::Panic => {
                set(Ended::Panicked);
                resume_unwind(Box::new(Wanted))
            }
            End::Bomb => {
                set(Ended::Panicked);
                resume_unwind(Box::new(Bomb))
            }
        };
        let (made, id, mut blocks) = match made {
            Ok(made) => made,
            Err(error) => return fail(error),
        };
        let value = self.with(|state| state.model.things[&id].value.clone());
        let mut steps: Vec<_> =
            Some(ty.alone).filter(|len| *len > 0).map(Step::Take).into_iter().collect();
        if value.is_empty() {
            steps.extend(blocks.drain(..).map(Step::Free));
        }
        let outcomes = self.with(|state| {
            let outcomes = state.model.outcomes(to, &steps);
            state.model.take(id);
            outcomes
        });
        set(Ended::Value { app, ty, value, blocks, outcomes });
        if app { Reply::App(made) } else { Reply::Ok(made) }
    }
}

impl State {
    /// A handler has begun, and has its arguments.
    fn enter(&mut self, entry: &Entry, to: Side) -> (Arc<Plan>, Vec<Going>, Vec<Option<Id>>) {
        let Self { flights, told, model, .. } = self;
        let flight = flights.last_mut().expect("a call under way");
        if let Some(batch) = &mut flight.batch {
            assert_eq!(flight.end.is_some(), flight.entered.take().is_some());
            let next = batch.advance(flight.end.take(), told);
            (flight.entry, flight.plan, flight.going) = next.expect("a call that is reached");
            batch.reopen(model);
        }
        assert!(flight.entered.is_none(), "called twice");
        assert_eq!((flight.entry, flight.from), (entry, to.other()));
        let going = std::mem::take(&mut flight.going);
        let mut ids = Vec::new();
        for going in &going {
            if let Some(id) = going.made {
                model.take(id);
            }
            let Going { ty, value, blocks, forged, .. } = going;
            let (value, blocks) = (value.clone(), blocks.clone());
            let place = Place::Held;
            let thing =
                Thing { side: to, place, ty: *ty, value, blocks, grown: false, forged: *forged };
            ids.push(ty.handles.then(|| model.add(thing)));
        }
        flight.entered = Some(ids.clone());
        (flight.plan.clone(), going, ids)
    }
}
