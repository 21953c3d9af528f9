//! Batches that the victim makes: what the attacker must be sent, and what the victim must make of the answers.

use std::{
    any::{Any, TypeId},
    rc::Rc,
};

use vmffi::{
    CallError, ErrorKind, FfiType, MAX_DEPTH, Outgoing, Peer, Pending, Results, SendAs,
    abi::{Answer, Transport, pointer},
};

use super::{
    super::{
        counts::count,
        model::{Validator, places},
        types::{Colour, FUNCTIONS, Fault, Fun, Level, Look, Shape, Wide},
        world::{self, Call, Handle, Outcome, World, with},
    },
    ENTRY, Words, words,
};

/// Sends a pending result as a parameter.
type Take = Rc<dyn Fn(Option<&mut [u8]>, &mut Outgoing<'_>) -> Result<Transport, CallError>>;
/// Reads the result of a call.
type Reader = Box<dyn FnOnce(&mut Results<'_>) -> (Result<Outcome, CallError>, Vec<Handle>)>;

/// A parameter: a value, or a result of an earlier call of the same batch.
pub enum Arg<T: Look> {
    Value(T::Shared),
    Taken(Take),
}

// SAFETY: a value is sent as its type does it, and a result that is pending has no pointer words.
unsafe impl<T: Look> SendAs<T> for Arg<T> {
    fn encode(self, wire: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), CallError> {
        match self {
            Self::Value(value) => value.encode(wire, out),
            Self::Taken(take) => take(Some(wire), out).map(drop),
        }
    }
    fn into_transport(self, out: &mut Outgoing<'_>) -> Result<Transport, CallError>
    where
        T: FfiType,
    {
        match self {
            Self::Value(value) => value.into_transport(out),
            Self::Taken(take) => take(None, out),
        }
    }
}

/// A result that a call takes.
struct Takes {
    parameter: usize,
    /// The call.
    from: usize,
    /// The bytes of some value of the type.
    sample: Vec<u8>,
}

/// A call of a batch of the victim's.
struct Added {
    fun: &'static Fun,
    /// What the callee sees, with the samples for what is taken.
    sent: Vec<u8>,
    takes: Vec<Takes>,
    /// The index of its entry, and the pointer words that it lends.
    entry: usize,
    words: Vec<u64>,
}

/// A batch of the victim's.
#[derive(Default)]
pub struct Asked {
    calls: Vec<Added>,
    arrived: bool,
    /// The pointer word of the entries.
    word: u64,
    /// The answers, or why there are none, and whether calls may have been made.
    pub result: Option<Result<Vec<Answer>, (ErrorKind, bool)>>,
}

impl Asked {
    /// The functions of its calls in the places of their entries, and `None` for what they take.
    pub fn entries(&self) -> Vec<Option<&'static Fun>> {
        let entries = |call: &Added| {
            let mut entries = vec![None; call.takes.len()];
            entries.push(Some(call.fun));
            entries
        };
        self.calls.iter().flat_map(entries).collect()
    }
}

/// The calls that are being added to a batch.
#[derive(Default)]
pub struct Adding {
    calls: Vec<Added>,
    readers: Vec<(usize, Reader)>,
    /// The results that a parameter of a type can take.
    pool: Vec<(usize, TypeId, Take)>,
    sent: Vec<u8>,
    takes: Vec<Takes>,
}

macro_rules! pool {
    ($($result:ty => $parameter:ty;)*) => {
        /// How a result is taken, if it can be, and for parameters of which type.
        fn pooled<R: 'static>(pending: &Rc<Pending<R>>) -> Option<(TypeId, Take)> {
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
    };
}

pool! {
    u8 => u8; u16 => u16; u32 => u32; u64 => u64; usize => usize;
    i8 => i8; i16 => i16; i32 => i32; i64 => i64; isize => isize;
    f32 => f32; f64 => f64; bool => bool; char => char;
    Colour => Colour; Level => Level; Wide => Wide; Fault => Fault;
    Result<u64, Shape> => u64;
}

impl Adding {
    /// The next call begins.
    pub fn begin(&mut self) {
        self.sent.clear();
        self.takes.clear();
    }

    /// An argument of it.
    pub fn argument<T: Look>(
        &mut self,
        peer: &Peer,
        parameter: usize,
    ) -> Result<Arg<T>, CallError> {
        let all: Vec<_> =
            self.pool.iter().filter(|(_, of, _)| *of == TypeId::of::<T>()).cloned().collect();
        let begins = self.sent.len();
        let value = T::make(peer, &mut self.sent)?;
        if all.is_empty() || world::scalar() % 4 == 3 {
            return Ok(Arg::Value(value));
        }
        let (from, _, take) = &all[world::scalar() as usize % all.len()];
        let sample = self.sent[begins..].to_vec();
        self.takes.push(Takes { parameter, from: *from, sample });
        Ok(Arg::Taken(take.clone()))
    }

    /// The call was added, or there is no memory for it.
    pub fn end<R: super::super::types::Returned>(
        &mut self,
        fun: &'static Fun,
        pending: Result<Pending<R>, CallError>,
    ) {
        let pending = match pending {
            Ok(pending) => Rc::new(pending),
            Err(error) => return assert_eq!(error.kind(), ErrorKind::OutOfMemory),
        };
        let nr = self.calls.len();
        self.pool.extend(pooled(&pending).map(|(of, take)| (nr, of, take)));
        let (sent, takes) = (std::mem::take(&mut self.sent), std::mem::take(&mut self.takes));
        let before = self.calls.last().map_or(0, |call| call.entry + 1);
        let entry = before + takes.len();
        self.calls.push(Added { fun, sent, takes, entry, words: Vec::new() });
        let reader = move |results: &mut Results<'_>| {
            let pending = Rc::into_inner(pending).expect("the pool is gone");
            R::got(results.get(pending))
        };
        self.readers.push((nr, Box::new(reader)));
    }
}

/// The victim makes a batch of calls that the input chooses.
pub fn batch_out(peer: &Peer) {
    let Ok(batch) = peer.batch() else { return };
    let mut adding = Adding::default();
    for _ in 0..=with(|w| w.feed.below(6)) {
        let fun = with(|w| match w.feed.below(2) {
            // Those with scalars.
            0 => &FUNCTIONS[2 + w.feed.below(22)],
            _ => &FUNCTIONS[w.feed.below(FUNCTIONS.len())],
        });
        adding.begin();
        (fun.add)(peer, &batch, &mut adding);
    }
    let Adding { calls, mut readers, pool, .. } = adding;
    drop(pool);
    assert_eq!(batch.len(), calls.len());
    if world::rarely(8) {
        count("made: a batch that is not sent");
        return;
    }
    if calls.is_empty() {
        assert!(batch.send().is_ok_and(|results| results.is_empty()));
        return;
    }
    let functions: Vec<_> = calls.iter().map(|call| (call.fun, call.entry)).collect();
    with(|w| w.calls.push(Call::Asked(Box::new(Asked { calls, ..Asked::default() }))));
    let sent = batch.send();
    let answers = with(|w| w.asked_for(sent.as_ref().err()));
    let (Ok(mut results), Some(answers)) = (sent, answers) else { return };
    let of = |nr: usize| {
        let (fun, entry): (&'static Fun, usize) = functions[nr];
        (fun, answers[entry])
    };
    while !readers.is_empty() && !world::rarely(8) {
        let (nr, reader) = readers.remove(with(|w| w.feed.below(readers.len())));
        let (fun, answer) = of(nr);
        let (right, lent) = with(|w| w.result_of(fun, answer));
        let (outcome, handles) = reader(&mut results);
        let outcome =
            outcome.unwrap_or_else(|error| Outcome::Failed(error.kind(), error.reached()));
        assert_eq!(outcome, right, "{}", fun.function.name);
        with(|w| {
            w.keep(handles, lent);
            w.juggle();
        });
        if world::rarely(8) {
            world::call_out(peer);
        }
    }
    with(|w| {
        w.sync();
        for (nr, _) in &readers {
            count("made: a result that is not read");
            let (fun, answer) = of(*nr);
            let (_, validator) = w.returns(fun, answer);
            w.owe(&validator.blocks());
        }
    });
    drop(results);
    with(World::sync);
}

impl World {
    fn asked_batch(&mut self) -> Option<&mut Asked> {
        match self.calls.last_mut() {
            Some(Call::Asked(asked)) => Some(asked),
            _ => None,
        }
    }

    /// The attacker is sent a batch.
    pub fn on_batch(&mut self, t: Transport) {
        count("made: a batch");
        let view = self.view(self.victim);
        let depth = self.calls.len();
        let mut calls = {
            let asked = self.asked_batch().expect("a batch is pending");
            assert!(!std::mem::replace(&mut asked.arrived, true));
            asked.word = t.primary;
            std::mem::take(&mut asked.calls)
        };
        assert!(depth <= MAX_DEPTH as usize);
        let len: usize = calls.iter().map(|call| call.takes.len() + 1).sum();
        assert_eq!(t.secondary, len as u64 * ENTRY);
        assert!(view.check(t.primary, t.secondary, 8).is_ok());
        let at = pointer::offset(t.primary);
        let entry = |nr: usize| words(view, at + nr as u64 * ENTRY);
        let mut blocks = vec![(t.primary, t.secondary as usize)];
        let entries: Vec<_> = calls.iter().map(|call| call.entry).collect();
        for call in &mut calls {
            let mut validator = Validator::new(view);
            validator.strict = true;
            let [signature, primary, secondary] = entry(call.entry);
            assert_eq!(signature, call.fun.function.signature);
            let mut t = Transport { primary, secondary };
            for (nr, takes) in call.takes.iter().enumerate() {
                let list = call.fun.parameters;
                let (offset, ty) = places(list, 0).nth(takes.parameter).expect("a parameter");
                let mut place = 0;
                if list.len() == 1 {
                    let size = takes.sample.len();
                    let signed = matches!(
                        ty,
                        super::Ty::Number { signed: true, .. }
                            | super::Ty::Enum { signed: true, .. }
                    );
                    let negative = signed && takes.sample[size - 1] >> 7 == 1;
                    let mut bytes = [if negative { u8::MAX } else { 0 }; 8];
                    bytes[..size].copy_from_slice(&takes.sample);
                    t.primary = u64::from_le_bytes(bytes);
                } else {
                    place = offset as u64 | (ty.layout().0 as u64) << 32;
                    validator.taken.push((offset, takes.sample.clone()));
                }
                let from = entries[takes.from] as u64;
                let taken: Vec<Words> =
                    (call.entry - call.takes.len()..call.entry).map(entry).collect();
                assert_eq!(taken[nr], [0, from, place], "{}", call.fun.function);
                count("made: a call that takes results");
            }
            let validated = validator.parameters(call.fun.parameters, t);
            assert_eq!(validated, Ok(()), "{}", call.fun.function);
            assert_eq!(validator.seen, call.sent, "{}", call.fun.function);
            let lent = validator.blocks();
            call.words = lent.iter().map(|(word, _)| *word).collect();
            blocks.extend(lent);
        }
        self.learn(&blocks);
        self.asked_batch().expect("a batch is pending").calls = calls;
    }

    /// The attacker answers the batch with these words: what does the victim get?
    pub fn expect_answers(&mut self, answer: Answer) {
        let view = self.view(self.victim.other());
        let Some(asked) = self.asked_batch() else { return };
        let len = asked.entries().len();
        let (status, Transport { primary, secondary }) = (answer.status, answer.transport);
        let reached = |why| Err((why, true));
        let result = match status {
            0 if secondary != len as u64 * ENTRY => reached(ErrorKind::BadValue),
            0 => match view.check(primary, secondary, 8) {
                Err(why) => reached(why),
                Ok(_) if pointer::loan(primary) == 0 => reached(ErrorKind::BadPointer),
                Ok(at) => Ok((0..len)
                    .map(|nr| super::answer(words(view, at + nr as u64 * ENTRY)))
                    .collect()),
            },
            2..=15 | 66..=79 => Err((world::WHYS[(status as usize & 63) - 2], status >= 64)),
            _ => reached(ErrorKind::Protocol),
        };
        let good = result.is_ok();
        asked.result = Some(result);
        count(if good { "made: a batch with answers" } else { "made: a batch without answers" });
        if good {
            self.gives(&[(primary, secondary as usize)]);
        }
    }

    /// The victim's batch has ended. Returns the answers to its entries.
    fn asked_for(&mut self, error: Option<&CallError>) -> Option<Vec<Answer>> {
        let depth = self.calls.len() as u32;
        let Some(Call::Asked(asked)) = self.calls.pop() else { panic!("no batch was made") };
        let error = error.map(|error| (error.kind(), error.reached()));
        // The loans of calls that were not reached have ended, and a word without a loan's number never lent anything.
        let mut back = Vec::new();
        for call in &asked.calls {
            let reached = match &asked.result {
                Some(Ok(answers)) => !matches!(answers[call.entry].status, 2..=15),
                Some(Err((_, reached))) => *reached,
                None => false,
            };
            let ended = |word: &&u64| !reached || pointer::loan(**word) == 0;
            back.extend(call.words.iter().filter(ended));
        }
        back.push(asked.word);
        self.loans.retain(|(word, _)| !back.contains(word));
        match asked.result {
            Some(Ok(answers)) => {
                assert_eq!(error, None);
                return Some(answers);
            }
            Some(Err(why)) => assert_eq!(error, Some(why)),
            None => {
                assert!(!asked.arrived);
                let fine = match error {
                    Some((ErrorKind::TooDeep, false)) => depth > MAX_DEPTH,
                    Some((why, false)) => Some(why) == self.gone,
                    _ => false,
                };
                assert!(fine, "{error:?}");
            }
        }
        None
    }

    /// What the victim reads as the result of a call of its batch.
    fn result_of(
        &mut self,
        fun: &'static Fun,
        answer: Answer,
    ) -> (Outcome, Vec<super::super::model::Lent>) {
        count(match answer.status {
            0 => "made: a result",
            1 => "made: an error of the function",
            _ => "made: a failed call in a batch",
        });
        let (outcome, validator) = self.returns(fun, answer);
        self.gives(&validator.given);
        (outcome, validator.lent)
    }
}
