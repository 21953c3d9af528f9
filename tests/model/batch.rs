//! A batch: calls of one side that are made together, and what the model knows of them until their results are dropped.

use std::{
    any::{Any, TypeId},
    rc::Rc,
    sync::Arc,
};

use vmffi::{
    Batch, CallError, ErrorKind, GRANULE_SIZE, MAX_DEPTH, Peer, Pending, Results, SendAs,
    abi::{Side, Transport},
};

use crate::{
    calls::{Ended, Flight, Going},
    counts::count,
    interface::{Colour, Entry, Got, Returned},
    model::{Failed, Model, Place, Step, Thing},
    ops::{self, Call, Plan},
    value::{Sent, Take, Type, Value},
    world::{Error, World},
};

/// The bytes of an entry, and of an answer.
const ENTRY: usize = 24;

/// A call that was added: how its result is taken by a later one, if that is possible, and how it is read.
pub struct Added {
    take: Option<(TypeId, Take)>,
    read: Box<dyn FnOnce(&mut Results<'_>) -> Got>,
}

impl Added {
    pub fn new<R: Returned + 'static>(pending: Pending<R>) -> Self {
        let pending = Rc::new(pending);
        let take = taken(&pending);
        let read = move |results: &mut Results<'_>| {
            R::got(results.get(Rc::into_inner(pending).expect("nothing takes it any more")))
        };
        Self { take, read: Box::new(read) }
    }
}

macro_rules! takes {
    ($($result:ty => $parameter:ty;)*) => {
        fn taken<R: 'static>(pending: &Rc<Pending<R>>) -> Option<(TypeId, Take)> {
            let pending: Rc<dyn Any> = pending.clone();
            $( if let Ok(pending) = pending.clone().downcast::<Pending<$result>>() {
                let take: Take = Rc::new(move |wire, out| match wire {
                    Some(wire) => SendAs::<$parameter>::encode(&*pending, wire, out)
                        .map(|()| Transport::EMPTY),
                    None => SendAs::<$parameter>::into_transport(&*pending, out),
                });
                return Some((TypeId::of::<$parameter>(), take));
            } )*
            None
        }

        /// Whether a result may be taken for parameters of the type.
        pub fn may_be_taken(ty: &Type) -> bool {
            [$(TypeId::of::<$parameter>()),*].contains(&(ty.id)())
        }
    };
}

takes! {
    u8 => u8; u16 => u16; u32 => u32; u64 => u64; usize => usize;
    i8 => i8; i16 => i16; i32 => i32; i64 => i64; isize => isize;
    f32 => f32; f64 => f64; bool => bool; char => char; Colour => Colour;
    Result<u64, Colour> => u64;
}

/// What has become of a call of a batch.
enum Fate {
    /// It was not made yet, or runs.
    Waits,
    /// It was not reached; or its handler has failed.
    Failed(Error),
    /// It has a result, which was not read yet.
    Value {
        app: bool,
        ty: Type,
        value: Value,
        blocks: Vec<usize>,
    },
    Read,
}

struct Grouped {
    entry: &'static Entry,
    plan: Arc<Plan>,
    going: Vec<Going>,
    /// The blocks of its arguments, which are in use until it is reached, or the batch has ended.
    blocks: Vec<usize>,
    /// Parameters, and the calls whose results they take.
    takes: Vec<(usize, usize)>,
    fate: Fate,
}

/// The calls of a batch.
pub struct Group {
    from: Side,
    calls: Vec<Grouped>,
    /// The call that is made next, or runs.
    next: usize,
    /// The length of [`Model::open`] without the batch.
    base: usize,
    /// The blocks and granules that hold entries and parameter structs, as measured: how many there are is the crate's choice.
    own: (usize, usize),
    /// How many calls there were, with those that could not be added: each may have taken a block for parameter structs.
    tries: usize,
    /// Whether it is served, so that there is a block for the answers.
    served: bool,
    /// Whether it has ended, so that arguments of calls that were not made are dropped.
    ended: bool,
}

impl Group {
    fn entries(&self) -> usize {
        self.calls.iter().map(|call| call.takes.len() + 1).sum()
    }

    /// The blocks that the batch takes on each side.
    fn open(&self) -> Vec<(Side, usize)> {
        let (from, to) = (self.from, self.from.other());
        let (blocks, granules) = self.own;
        let mut open = Vec::new();
        if blocks > 0 {
            open.push((from, (granules + 1 - blocks) * GRANULE_SIZE));
            open.extend(vec![(from, 1); blocks - 1]);
        }
        if self.served {
            open.push((to, self.entries() * ENTRY));
        }
        for call in &self.calls {
            if !self.ended {
                open.extend(call.blocks.iter().map(|bytes| (from, *bytes)));
            }
            if let Fate::Value { ty, blocks, .. } = &call.fate {
                let alone = Some(ty.alone).filter(|bytes| *bytes > 0);
                open.extend(alone.iter().chain(blocks).map(|bytes| (to, *bytes)));
            }
        }
        open
    }

    /// The blocks of the batch have changed.
    pub fn reopen(&self, model: &mut Model) {
        model.open.truncate(self.base);
        model.open.extend(self.open());
    }

    /// The calls up to the next one whose handler is reached, if there is one. `ended` is how the handler before it has ended,
    /// and `told` what the callee's observer was told since it has begun.
    pub fn advance(
        &mut self,
        ended: Option<Ended>,
        told: &mut Vec<(Side, Error)>,
    ) -> Option<(&'static Entry, Arc<Plan>, Vec<Going>)> {
        let to = self.from.other();
        let tells = |told: &mut Vec<(Side, Error)>, error: Error| {
            assert_eq!(told.first(), Some(&(to, error)), "what an observer is told of a batch");
            told.remove(0);
            Fate::Failed(error)
        };
        if let Some(ended) = ended {
            let function = self.calls[self.next].entry.function;
            self.calls[self.next].fate = match ended {
                Ended::Failed(error) => tells(told, error),
                Ended::Panicked => tells(told, Error::new(ErrorKind::PeerPanicked, to).reached()),
                Ended::Value { app, ty, value, blocks, outcomes } => {
                    let local = |failed: &Failed| {
                        (to, Error::local(*failed, to).reached().in_function(function))
                    };
                    match told.first() {
                        Some(first) if outcomes.failures.iter().any(|f| local(f) == *first) => {
                            let (_, error) = *first;
                            tells(told, error)
                        }
                        _ => {
                            assert!(outcomes.ok, "there is no room: {outcomes:?}");
                            Fate::Value { app, ty, value, blocks }
                        }
                    }
                }
            };
            self.next += 1;
        }
        while self.next < self.calls.len() {
            let result = |call: usize| match &self.calls[call].fate {
                Fate::Value { app: false, value, .. } => Some(value.clone()),
                _ => None,
            };
            let call = &self.calls[self.next];
            let taken: Vec<_> =
                call.takes.iter().map(|(parameter, from)| (*parameter, result(*from))).collect();
            let failed = taken.iter().filter(|(_, value)| value.is_none()).count();
            let (served, call) = (call.entry.served[to as usize], &mut self.calls[self.next]);
            if failed == 0 && served {
                call.blocks.clear();
                let mut going = std::mem::take(&mut call.going);
                for (parameter, value) in taken {
                    going[parameter].value = value.expect("none has failed");
                }
                return Some((call.entry, call.plan.clone(), going));
            }
            // Each of them, and the call.
            let cancelled = Error::new(ErrorKind::Cancelled, to);
            (0..failed).for_each(|_| _ = tells(told, cancelled));
            let unknown = Error::new(ErrorKind::UnknownFunction, to);
            call.fate = tells(told, if failed > 0 { cancelled } else { unknown });
            self.next += 1;
        }
        None
    }
}

impl World {
    /// A batch, from its first call to its results. Returns what was done, and the failure of a call.
    pub fn batch(&self, peer: &Peer, op: &ops::Batch) -> (&'static str, Option<CallError>) {
        let from = peer.side();
        let mut error = None;
        let any = self.with(|state| state.model.outcomes(from, &[Step::Take(1)]));
        let batch = match peer.batch() {
            Ok(batch) => batch,
            Err(error) => {
                assert!(!any.ok && error.kind() == ErrorKind::OutOfMemory, "{error:?}");
                return ("a batch without memory", None);
            }
        };
        let base = self.with(|state| state.model.open.len());
        let (calls, own) = (Vec::new(), (0, 0));
        let mut group =
            Group { from, calls, next: 0, base, own, tries: 0, served: false, ended: false };
        let (mut added, mut reads): (Vec<Added>, Vec<_>) = (Vec::new(), Vec::new());
        self.measure(peer, &mut group);
        let mut between = op.between.iter();
        for (call, takes) in &op.calls {
            if let Some(op) = between.next() {
                error = self.act(peer, op).or(error);
            }
            if let Some(one) = self.add(peer, &batch, &mut group, &added, call, takes) {
                reads.push((added.len(), call.fate));
                added.push(one);
            }
            self.measure(peer, &mut group);
        }
        assert_eq!((batch.len(), group.calls.len()), (added.len(), added.len()));
        // Nothing takes them any more.
        let mut readers: Vec<_> = added.into_iter().map(|added| Some(added.read)).collect();
        let finish = |done| {
            self.with(|state| state.model.open.truncate(base));
            self.compare(peer);
            done
        };
        if !op.sent {
            drop(batch);
            return (finish("a batch that is not sent"), error);
        }
        if readers.is_empty() {
            assert!(batch.send().is_ok_and(|results| results.is_empty()));
            return (finish("a batch without calls"), error);
        }
        let (mut group, Some(mut results)) = self.send(peer, batch, group) else {
            return (finish("a batch that fails"), error);
        };
        self.compare(peer);
        for nth in &op.order {
            if reads.is_empty() {
                break;
            }
            let (nr, fate) = reads.remove(nth % reads.len());
            let read = readers[nr].take().expect("not read yet");
            let got = read(&mut results);
            error = self.got(&mut group, nr, got, fate).or(error);
            if let Some(op) = between.next() {
                error = self.act(peer, op).or(error);
            }
        }
        if !reads.is_empty() {
            count(|counts| counts.add("batch: results that are not read"));
        }
        drop(results);
        (finish("a batch"), error)
    }

    /// Measures what the batch needs for itself, beside the arguments.
    fn measure(&self, peer: &Peer, group: &mut Group) {
        let stats = peer.arena_stats();
        self.with(|state| {
            group.own = (0, 0);
            group.reopen(&mut state.model);
            let (blocks, granules) = state.model.in_use(group.from);
            let used = stats.used / GRANULE_SIZE;
            assert!(stats.blocks >= blocks && used >= granules, "arguments of a batch are lost");
            group.own = (stats.blocks - blocks, used - granules);
            assert!(
                group.own.0 <= 1 + group.tries,
                "{:?} for {} calls; in use: {:?}, {blocks} blocks of the model, {:?}",
                group.own,
                group.tries,
                stats,
                state.model.open,
            );
            group.reopen(&mut state.model);
        });
    }

    /// Adds a call to the batch, if its arguments can be made, and the arena has room for them.
    fn add(
        &self,
        peer: &Peer,
        batch: &Batch<'_>,
        group: &mut Group,
        added: &[Added],
        call: &Call,
        takes: &[Option<usize>],
    ) -> Option<Added> {
        let (from, entry) = (peer.side(), call.entry);
        let (mut steps, mut sent, mut going) = (Vec::new(), Vec::new(), Vec::new());
        let (mut blocks, mut taken) = (Vec::new(), Vec::new());
        for (nr, (ty, (value, source))) in entry.params.iter().zip(&call.args).enumerate() {
            let of = |added: &&(usize, &(TypeId, Take))| added.1.0 == (ty.id)();
            let all: Vec<_> = (0..)
                .zip(added)
                .filter_map(|(nr, added)| Some((nr, added.take.as_ref()?)))
                .filter(|added| of(&added))
                .collect();
            if let Some(nth) = takes[nr].filter(|_| !all.is_empty()) {
                let (from, (_, take)) = all[nth % all.len()];
                taken.push((nr, from));
                sent.push(Sent::Taken(take.clone()));
                let value = Value::Unknown;
                going.push(Going { ty: *ty, value, blocks: Vec::new(), made: None, forged: false });
                continue;
            }
            if entry.params.len() == 1 && ty.alone > 0 {
                steps.push(Step::Take(ty.alone));
                blocks.push(ty.alone);
            }
            match self.prepare(peer, ty, value, *source, &mut steps) {
                Ok((one, on_its_way)) => {
                    sent.push(one);
                    going.push(on_its_way);
                }
                Err(_) => {
                    // Prepared arguments are dropped.
                    drop(sent);
                    self.forget(&going);
                    return None;
                }
            }
        }
        group.tries += 1;
        let entries = group.entries() + taken.len() + 1;
        let (outcomes, worst) = self.with(|state| {
            // The block of the entries grows to at most twice as much, and that of the parameter structs has 2048 bytes or more.
            let own = [Step::Take(2 * entries * ENTRY), Step::Take(entry.size.max(2048) + 32)];
            let worst = state.model.outcomes(from, &[&own[..], &steps[..]].concat());
            (state.model.outcomes(from, &steps), worst)
        });
        match (entry.add)(batch, sent) {
            Ok(added) => {
                self.validate(from, &outcomes, None, Ok(()));
                self.forget(&going);
                going.iter_mut().for_each(|going| going.made = None);
                blocks.extend(going.iter().flat_map(|going| &going.blocks));
                if !taken.is_empty() {
                    count(|counts| counts.add("batch: a call that takes results"));
                }
                let (plan, takes, fate) = (call.plan.clone(), taken, Fate::Waits);
                group.calls.push(Grouped { entry, plan, going, blocks, takes, fate });
                Some(added)
            }
            Err(error) => {
                self.forget(&going);
                let failed = match error.kind() {
                    ErrorKind::OutOfMemory => {
                        worst.failures.iter().any(|failed| matches!(failed, Failed::NoRoom(_)))
                    }
                    ErrorKind::BadPointer => steps.iter().any(|step| matches!(step, Step::Meet)),
                    _ => false,
                };
                assert!(failed, "{error:?} is not among {worst:?}");
                assert_eq!((error.side(), error.reached()), (Some(from), false));
                assert_eq!(error.function(), Some(entry.function));
                count(|counts| counts.add("batch: a call that is not added"));
                None
            }
        }
    }

    /// Sends the batch. Returns no results if none of its calls was made.
    fn send<'p>(
        &self,
        peer: &'p Peer,
        batch: Batch<'p>,
        mut group: Group,
    ) -> (Group, Option<Results<'p>>) {
        let from = peer.side();
        let to = from.other();
        let len = group.entries() * ENTRY;
        let outcomes = self.with(|state| {
            let outcomes = state.model.outcomes(to, &[Step::Take(len)]);
            group.served = true;
            group.reopen(&mut state.model);
            outcomes
        });
        let first = &group.calls[0];
        let mut flight = Flight::new(first.entry, from, &first.plan.clone(), Vec::new());
        flight.batch = Some(group);
        let depth = self.begin(flight);
        let results = batch.send();
        let Flight { end, entered, batch, .. } = self.end(depth);
        let mut group = batch.expect("set above");
        let results = match results {
            Err(error) => {
                count(|counts| counts.add("batch: none of its calls is made"));
                assert!(group.next == 0 && entered.is_none(), "calls were made: {error:?}");
                let mut none = outcomes.failures.iter().map(|failed| Error::local(*failed, to));
                if depth >= MAX_DEPTH as usize {
                    self.fails(&error, Error::new(ErrorKind::TooDeep, from));
                    self.told(to, None);
                } else {
                    self.fails(&error, Error::new(ErrorKind::OutOfMemory, to));
                    let told = none.next_back().expect("there is room for the answers");
                    self.told(to, Some(told));
                }
                None
            }
            Ok(results) => {
                assert!(depth < MAX_DEPTH as usize);
                self.validate(to, &outcomes, None, Ok(()));
                assert_eq!(end.is_some(), entered.is_some(), "a handler has not ended");
                let next = self.with(|state| group.advance(end, &mut state.told));
                assert!(next.is_none(), "calls were not made");
                self.told(to, None);
                assert_eq!(results.len(), group.calls.len());
                Some(results)
            }
        };
        (group.served, group.ended) = (false, true);
        self.with(|state| group.reopen(&mut state.model));
        (group, results)
    }

    /// The result of a call. Returns its failure.
    fn got(&self, group: &mut Group, nr: usize, got: Got, then: ops::Fate) -> Option<CallError> {
        let (from, to) = (group.from, group.from.other());
        let call = &mut group.calls[nr];
        let function = call.entry.function;
        match (std::mem::replace(&mut call.fate, Fate::Read), got) {
            (Fate::Failed(error), Got::Fail(got)) => {
                self.fails(&got, error.across(to, function));
                Some(got)
            }
            (Fate::Value { app, ty, value, blocks }, got) => {
                let got = match got {
                    Got::Ok(got) if !app => got,
                    Got::App(got) if app => got,
                    Got::Fail(error) => panic!("a result of a batch is lost: {error:?}"),
                    _ => panic!("an error for a value, or a value for an error"),
                };
                self.arrived(&got.value(), &value);
                let (place, grown) = (Place::Held, false);
                let thing = Thing { side: from, place, ty, value, blocks, grown, forged: false };
                let id = self.with(|state| {
                    group.reopen(&mut state.model);
                    ty.handles.then(|| state.model.add(thing))
                });
                self.meet(then, got, id);
                None
            }
            _ => panic!("the handler has failed, and its caller has a result"),
        }
    }
}
