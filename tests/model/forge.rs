//! Raw calls with forged words. `Everything::strict` has a parameter of every kind with invalid bit
//! patterns: its parameters are lent correctly, and then some words are changed.

use std::sync::Arc;

use proptest::prelude::*;
use vmffi::{
    CallError, ErrorKind, Foreign, ForeignBuf, ForeignSlice, ForeignStr, MAX_DEPTH, Outgoing,
    PAGE_SIZE, Peer, SendAs,
    abi::{Answer, Function, Side, Transport, pointer},
};

use crate::{
    calls::{Ended, Flight, Going},
    counts::count,
    interface::{self, KINDS, ParamsEverythingStrict, ParamsEverythingSwallow, Stat},
    model::{Place, Step, Thing},
    ops::{self, End, Fate, Op, Plan, Thread},
    value::{Cross, Value},
    world::{Error, Old, World},
};

vmffi::ffi_interface! {
    /// The parameters of `strict`, with words that take any bit pattern.
    pub struct Loose {
        flag: u8,
        letter: u32,
        colour: i16,
        nr: u8,
        on: u8,
        tag: u32,
        number: u32,
        body: u64,
        body_len: u64,
        text: u64,
        text_len: u64,
        stat: u64,
        more: u64,
        more_len: u64,
    }
}

/// The fields that can be changed: the parameters, or the innermost field of one.
const FIELDS: [&str; 9] =
    ["flag", "letter", "colour", "on", "number", "body", "text", "stat", "more"];
/// The first of the fields that are handles.
const BODY: usize = 5;

/// A call of `strict`.
#[derive(Clone, Debug)]
pub struct Forge {
    pub values: Vec<Value>,
    /// The fields that are changed, and how.
    pub bent: Vec<(usize, u8)>,
    /// How the pointer to the parameters is changed.
    pub pointer: Option<u8>,
    /// The caller takes nothing back, so that only releases by the callee end its loans.
    pub forget: bool,
    pub plan: Arc<Plan>,
}

pub fn forges(ops: BoxedStrategy<Vec<Op>>) -> impl Strategy<Value = Forge> {
    let strict = interface::entry(ParamsEverythingStrict::FUNCTION);
    let values: Vec<_> = strict.params.iter().map(|ty| (ty.any)()).collect();
    let bent = prop::collection::vec((0..FIELDS.len(), any::<u8>()), 0..4);
    let pointer = prop_oneof![4 => Just(None), 1 => (0_u8..7).prop_map(Some)];
    let plan = ops::plan(strict.params, strict.ok, strict.app, ops).prop_map(Arc::new);
    (values, bent, pointer, any::<bool>(), plan).prop_map(
        |(values, bent, pointer, forget, plan)| Forge { values, bent, pointer, forget, plan },
    )
}

/// A handle that was lent, and the words that are sent for it.
struct Lent {
    word: u64,
    len: u64,
    /// The size of its block in bytes; 0 if it has none.
    block: usize,
    /// Whether the callee releases it.
    comes_back: bool,
}

/// The parameters of a call of `strict`.
struct Words {
    scalars: (u8, u32, i16, [u8; 2], u32, u32),
    /// `body`, `text`, `stat` and `more`.
    handles: [Lent; 4],
    /// The number of the body's loan is wrong: its handle is accepted, and releases nothing.
    wrong_loan: bool,
}

/// Why a word is refused, with the offset and the length of a bad pointer.
type Refusal = (ErrorKind, u64, u64);

impl Words {
    fn lend(values: &[Value], out: &mut Outgoing<'_>) -> Result<Self, CallError> {
        fn lend<T: Cross>(value: &Value, out: &mut Outgoing<'_>) -> Result<Lent, CallError> {
            let Transport { primary: word, secondary: len } = T::lend_alone(value, out)?;
            let block = T::blocks(value).first().copied().unwrap_or_default();
            Ok(Lent { word, len, block, comes_back: true })
        }
        let (mark, number) = (values[3].list(), values[4].maybe());
        Ok(Self {
            scalars: (
                values[0].bits() as u8,
                values[1].bits() as u32,
                values[2].bits() as i16,
                [mark[0].bits() as u8, mark[1].bits() as u8],
                u32::from(number.is_some()),
                number.map_or(0, |number| number.bits() as u32),
            ),
            handles: [
                lend::<ForeignBuf>(&values[BODY], out)?,
                lend::<Option<ForeignStr>>(&values[BODY + 1], out)?,
                lend::<Foreign<Stat>>(&values[BODY + 2], out)?,
                lend::<ForeignSlice<u16>>(&values[BODY + 3], out)?,
            ],
            wrong_loan: false,
        })
    }

    fn loose(&self) -> Loose {
        let (flag, letter, colour, [nr, on], tag, number) = self.scalars;
        let [body, text, stat, more] = self.handles.each_ref().map(|lent| lent.word);
        let [body_len, text_len, _, more_len] = self.handles.each_ref().map(|lent| lent.len);
        Loose {
            flag,
            letter,
            colour,
            nr,
            on,
            tag,
            number,
            body,
            body_len,
            text,
            text_len,
            stat,
            more,
            more_len,
        }
    }

    /// Changes a field. Returns why it is refused, or `None` if the change must have no effect.
    fn bend(&mut self, field: usize, how: u8, places: &Places) -> Option<Refusal> {
        let nth = usize::from(how);
        match field {
            0 => self.scalars.0 = how.max(2),
            1 => self.scalars.1 = [0xd800, 0xdfff, 0x11_0000, u32::MAX][nth % 4],
            2 => self.scalars.2 = [1, -2, 299, i16::MIN][nth % 4],
            3 => self.scalars.3[1] = how.max(2),
            4 => self.scalars.4 = u32::from(how.max(2)),
            _ => return self.bend_handle(field - BODY, how, places),
        }
        Some((ErrorKind::BadValue, 0, 0))
    }

    fn bend_handle(&mut self, nth: usize, how: u8, places: &Places) -> Option<Refusal> {
        let lent = &mut self.handles[nth];
        let (good, some) = (lent.word, lent.block > 0);
        let (mut word, mut len) = (places.bad(how, good), lent.len.max(1));
        match nth {
            0 if how % 8 == 7 && some => {
                let loan = pointer::loan(good) % 255 + 1;
                lent.word = pointer::join(pointer::offset(good), loan);
                (lent.comes_back, self.wrong_loan) = (false, true);
                return None;
            }
            // More bytes than the arena has.
            0 if how % 8 == 6 => {
                word = pointer::join(places.ours.0, 1);
                len = [places.ours.1 + 1, u64::MAX][usize::from(how) / 8 % 2];
            }
            1 if how % 6 == 0 => {
                // A null pointer is an absent text, whose byte count must be 0.
                (lent.word, lent.len, lent.comes_back) = (0, len, false);
                return Some((ErrorKind::BadValue, 0, 0));
            }
            2 => {
                len = 16;
                if how % 7 == 6 {
                    word = good + 1;
                }
            }
            3 if how % 2 == 0 && some => {
                // The handle is valid, but its length is not a multiple of the element's: it is released.
                lent.len -= 1;
                return Some((ErrorKind::BadValue, 0, 0));
            }
            _ => {}
        }
        (lent.word, lent.len, lent.comes_back) = (word, len, false);
        Some((ErrorKind::BadPointer, pointer::offset(word), len))
    }
}

/// Offsets of the arenas, as this side sees them.
struct Places {
    ours: (u64, u64),
    theirs: u64,
}

impl Places {
    fn new(pages: [u64; 2], side: Side) -> Self {
        let [guest, host] = pages.map(|pages| pages * PAGE_SIZE);
        let layout = vmffi::RegionLayout::new(guest, host).expect("the case's own");
        Self { ours: layout.arena(side), theirs: layout.arena(side.other()).0 }
    }

    /// A pointer word that is refused for every type that is not empty.
    fn bad(&self, how: u8, good: u64) -> u64 {
        let (start, len) = self.ours;
        match how % 6 {
            0 => 0,
            1 => pointer::join(start, 0),
            2 => pointer::join(start + len, 1),
            3 => good | pointer::join(1 << 50, 1),
            4 => pointer::join(self.theirs, 1),
            _ => pointer::join(64, 1),
        }
    }
}

impl World {
    /// A call of `strict` with some forged words.
    pub fn forge(&self, peer: &Peer, forge: &Forge) {
        let (from, function) = (peer.side(), ParamsEverythingStrict::FUNCTION);
        let (to, places) = (from.other(), Places::new(self.with(|state| state.pages), from));
        let strict = interface::entry(function);
        assert_eq!(size_of::<<Loose as vmffi::FfiType>::Wire>(), strict.size);
        let blocks = strict.params.iter().zip(&forge.values).flat_map(|(ty, v)| (ty.blocks)(v));
        let steps: Vec<_> = blocks.chain([strict.size]).map(Step::Take).collect();
        let (outcomes, taken) = self
            .with(|state| (state.model.outcomes(from, &steps), state.model.taken[from as usize]));
        let mut out = peer.outgoing();
        let lent = Words::lend(&forge.values, &mut out).and_then(|mut words| {
            let body = (words.handles[0].word, words.handles[0].len);
            let mut refused = [None; FIELDS.len()];
            for (field, how) in &forge.bent {
                // Each field only once, so that its original value is known.
                if refused[*field].is_none() && !(*field == BODY && words.wrong_loan) {
                    refused[*field] = words.bend(*field, *how, &places);
                }
            }
            let transport = SendAs::<Loose>::into_transport(words.loose(), &mut out)?;
            Ok((transport, words, body, refused))
        });
        self.validate(from, &outcomes, None, lent.as_ref().map(drop));
        let Ok((mut transport, words, body, refused)) = lent else { return };
        match forge.pointer {
            None => {}
            Some(0) => transport.secondary = 1,
            Some(1) => transport.primary += 4,
            Some(how) => transport.primary = places.bad(how, transport.primary),
        }

        // What the handler receives, if it is reached.
        let mut going: Vec<_> = strict
            .params
            .iter()
            .zip(&forge.values)
            .map(|(ty, value)| {
                let blocks = (ty.blocks)(value);
                Going { ty: *ty, value: value.clone(), blocks, made: None, forged: false }
            })
            .collect();
        going[BODY].forged = words.wrong_loan;
        let depth = self.begin(Flight::new(strict, from, &forge.plan, going));
        let answer = if forge.forget {
            std::mem::forget(out);
            raw(peer, function.signature, transport)
        } else {
            raw_of(peer, out, function.signature, transport)
        };
        let flight = self.end(depth);

        if let Some(entered) = flight.entered {
            assert!(forge.pointer.is_none() && refused.iter().all(Option::is_none));
            self.raw_end(answer, flight.end.expect("an end"), to, function);
            if !words.wrong_loan && body.1 > 0 {
                self.remember(from, body, entered[BODY], taken);
            }
            return;
        }
        // No handler runs, and only blocks that are never released have changed.
        let too_deep = depth >= MAX_DEPTH as usize;
        let first = FIELDS.iter().zip(refused).find_map(|(field, why)| Some((*field, why?)));
        let told = match (forge.pointer, first) {
            _ if too_deep => None,
            (Some(0), _) => Some(Error::new(ErrorKind::BadValue, to)),
            (Some(_), _) => {
                let offset = pointer::offset(transport.primary);
                Some(Error::new(ErrorKind::BadPointer, to).at(offset, strict.size))
            }
            (None, Some((field, (why, offset, len)))) => {
                let error = Error::new(why, to).at(offset, len as usize);
                Some(Error { field: Some(field), ..error })
            }
            (None, None) => panic!("a good call did not arrive"),
        };
        let told = told.map(|told| told.in_function(function));
        let why = told.map_or(ErrorKind::TooDeep, |told| told.why);
        self.status(answer, why, false);
        self.told(to, told);
        let unpacked = !too_deep && forge.pointer.is_none();
        if !forge.forget {
            if body.1 > 0 {
                self.remember(from, body, None, taken);
            }
            return;
        }
        for lent in words.handles.iter().filter(|lent| !(unpacked && lent.comes_back)) {
            self.lose(from, lent.block);
        }
        if !unpacked {
            self.lose(from, strict.size);
        }
    }

    /// A block that is never released.
    fn lose(&self, side: Side, block: usize) {
        if block > 0 {
            let (place, ty, value, blocks) = (Place::Lost, KINDS[0], Value::Unknown, vec![block]);
            let thing = Thing { side, place, ty, value, blocks, grown: false, forged: false };
            self.with(|state| state.model.add(thing));
        }
    }

    fn remember(&self, side: Side, (word, len): (u64, u64), thing: Option<u32>, taken: usize) {
        self.with(|state| state.old[side as usize].push(Old { word, len, thing, taken }));
    }

    /// A raw call failed as it must.
    fn status(&self, answer: Answer, why: ErrorKind, reached: bool) {
        let error = CallError::from_status(answer.status);
        assert_eq!((error.kind(), error.reached()), (why, reached));
        assert_eq!(answer.transport, Transport::EMPTY);
        let reached = if reached { ", reached" } else { "" };
        count(|counts| counts.add(format!("error: {why:?}{reached}")));
    }

    /// The end of a raw call whose handler was reached.
    fn raw_end(&self, answer: Answer, end: Ended, to: Side, function: &Function) {
        match end {
            Ended::Value { app: false, value: Value::Bits(bits), .. } => {
                assert_eq!((answer.status, answer.transport), (0, Transport::word(bits as u64)));
                self.told(to, None);
            }
            Ended::Value { value, .. } => {
                assert_eq!(value, Value::List(Vec::new()));
                assert_eq!((answer.status, answer.transport), (0, Transport::EMPTY));
                self.told(to, None);
            }
            Ended::Failed(error) => {
                assert_eq!(error.function, Some(function.signature));
                self.status(answer, error.why, true);
                self.told(to, Some(error));
            }
            Ended::Panicked => {
                self.status(answer, ErrorKind::PeerPanicked, true);
                self.told(to, Some(Error::new(ErrorKind::PeerPanicked, to).reached()));
            }
        }
    }

    /// Sends the pointer of a loan that has ended: its receiver leaves a late mark, which ends
    /// no loan, whatever is in that place now.
    pub fn late(&self, peer: &Peer, nth: usize) -> bool {
        let (from, function) = (peer.side(), ParamsEverythingSwallow::FUNCTION);
        let old = self.with(|state| {
            let old = &mut state.old[from as usize];
            if old.is_empty() {
                return None;
            }
            let old = old.swap_remove(nth % old.len());
            let alive = old.thing.is_some_and(|id| state.model.things.contains_key(&id));
            // Not so late that the loan numbers repeat.
            let fresh = state.model.taken[from as usize] - old.taken < 250;
            (!alive && fresh).then_some(old)
        });
        let Some(Old { word, len, .. }) = old else { return false };
        // Marks that the owner has not collected could be overwritten.
        self.compare(peer);
        let plan = Arc::new(Plan {
            fates: vec![(Fate::Drop(Thread::This), false)],
            ops: Vec::new(),
            propagate: false,
            end: End::Value(Value::List(Vec::new())),
        });
        let (ty, value) = (KINDS[0], Value::Unknown);
        let going = Going { ty, value, blocks: Vec::new(), made: None, forged: false };
        let depth = self.begin(Flight::new(interface::entry(function), from, &plan, vec![going]));
        let answer = raw(peer, function.signature, Transport { primary: word, secondary: len });
        let flight = self.end(depth);
        match flight.end {
            Some(end) => self.raw_end(answer, end, from.other(), function),
            None => {
                assert!(depth >= MAX_DEPTH as usize);
                self.status(answer, ErrorKind::TooDeep, false);
                self.told(from.other(), None);
            }
        }
        true
    }

    /// Calls a function that no side has.
    pub fn unknown(&self, peer: &Peer, signature: u64, bytes: &[u8], forget: bool) {
        let from = peer.side();
        let value = Value::Bytes(bytes.to_vec());
        let blocks = ForeignBuf::blocks(&value);
        let steps: Vec<_> = blocks.iter().map(|bytes| Step::Take(*bytes)).collect();
        let outcomes = self.with(|state| state.model.outcomes(from, &steps));
        let mut out = peer.outgoing();
        let lent = ForeignBuf::lend_alone(&value, &mut out);
        self.validate(from, &outcomes, None, lent.as_ref().map(drop));
        let Ok(transport) = lent else { return };
        let too_deep = self.with(|state| state.flights.len()) >= MAX_DEPTH as usize;
        let answer = if forget {
            std::mem::forget(out);
            self.lose(from, bytes.len());
            raw(peer, signature, transport)
        } else {
            raw_of(peer, out, signature, transport)
        };
        let why = if too_deep { ErrorKind::TooDeep } else { ErrorKind::UnknownFunction };
        self.status(answer, why, false);
        self.told(from.other(), (!too_deep).then(|| Error::new(why, from.other())));
    }
}

/// A raw call with words that were lent for it, some of them forged.
fn raw_of(peer: &Peer, out: Outgoing<'_>, signature: u64, transport: Transport) -> Answer {
    // SAFETY: a forged word is refused, or refers to a block that this side has lent and does not use again.
    unsafe { peer.call_with(out, signature, transport) }
}

/// The same for a caller that takes nothing back.
fn raw(peer: &Peer, signature: u64, transport: Transport) -> Answer {
    // SAFETY: as above.
    unsafe { peer.call(signature, transport) }
}
