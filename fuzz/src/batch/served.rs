//! Batches that the attacker makes: what the victim must do with each entry.

use vmffi::{
    ErrorKind,
    abi::{Answer, Transport, pointer},
};

use super::{
    super::{
        counts::count,
        model::{Ty, Validator},
        types::Fun,
        world::{Call, Expect, Outcome, World, find},
    },
    ENTRY, FIRST_FREE, Found, MOST_TAKEN, found, refused, words,
};

/// A batch of the attacker's that the victim serves.
#[derive(Default)]
pub struct Batch {
    /// Its pointer word, and its number of entries.
    word: u64,
    len: usize,
    /// The answers that are expected to the entries that have had their turn.
    answers: Vec<Expected>,
    /// The handler that is about to run, or runs.
    current: Option<(&'static Fun, Expect)>,
    /// Whether a handler was reached.
    reached: bool,
    /// The marks that the attacker has left since the batch began: they end loans that it does not know yet.
    early: Vec<(u64, u8)>,
}

/// The answer that is expected to an entry.
enum Expected {
    Answer(Answer),
    /// A status of 3 or 4.
    Refused,
    /// The handler has ended with this outcome.
    Done(&'static Fun, Outcome),
    /// What this answer has, if that is a result of one word.
    Takes(usize),
    /// A call that is refused for this reason if all these answers have results of one word.
    Taking(Vec<usize>, ErrorKind),
}

/// What the next call takes.
#[derive(Default)]
struct Taken {
    /// The index of the first `TAKE`, and how many there are.
    first: usize,
    count: usize,
    primary: Option<Found>,
    fields: Vec<(usize, usize, Found)>,
    /// The answers that are not known yet, on which the status depends.
    later: Vec<usize>,
    failed: Option<ErrorKind>,
}

/// What comes of the entry of a call.
enum Fate {
    Refused(ErrorKind),
    /// With status 3 or 4.
    Either,
    Reached(&'static Fun, Validator),
    /// That depends on a word which is not known yet.
    Unknown,
}

impl World {
    /// The attacker makes a batch with these words.
    pub fn expect_batch(&mut self, t: Transport) -> Expect {
        count("served: a batch");
        let checked = match t.secondary {
            len if len % ENTRY != 0 => Err(ErrorKind::BadValue),
            0 => return Expect::Answer(Answer::status(0)),
            len => self.view(self.victim.other()).check(t.primary, len, 8),
        };
        match checked {
            Err(why) => Expect::Answer(refused(why)),
            Ok(_) => {
                let len = (t.secondary / ENTRY) as usize;
                let mut batch = Batch { word: t.primary, len, ..Batch::default() };
                self.go_on(&mut batch);
                Expect::Batch(Box::new(batch))
            }
        }
    }

    /// A handler is reached: the innermost call, and what its handler sees.
    pub fn served(&mut self) -> Option<(&'static Fun, &mut Expect)> {
        match self.calls.last_mut() {
            Some(Call::Served { expect: Expect::Batch(batch), .. }) => {
                batch.reached = true;
                batch.current.as_mut().map(|(fun, expect)| (*fun, expect))
            }
            Some(Call::Served { fun: Some(fun), expect }) => Some((fun, expect)),
            _ => None,
        }
    }

    /// The handler of an entry has ended. The next entries have their turn, unless the guest has.
    pub fn entry_left(&mut self, outcome: Outcome) {
        let Some(Call::Served { expect: Expect::Batch(batch), .. }) = self.calls.last_mut() else {
            panic!("no batch is served");
        };
        let mut batch = std::mem::take(batch);
        let (fun, _) = batch.current.take().expect("a handler has ended");
        if self.gone.is_some() {
            count("served: a batch whose guest has ended");
            self.owe(&[(batch.word, 0)]);
            self.calls.pop();
            return;
        }
        batch.answers.push(Expected::Done(fun, outcome));
        self.go_on(&mut batch);
        if let Some(Call::Served { expect, .. }) = self.calls.last_mut() {
            *expect = Expect::Batch(batch);
        }
    }

    /// The entries up to the next one whose handler is reached. The victim has not read them yet, and the attacker has no turn
    /// before it does.
    fn go_on(&mut self, batch: &mut Batch) {
        let (from, at) = (batch.answers.len(), pointer::offset(batch.word));
        let mut taken = Taken { first: from, ..Taken::default() };
        let mut owed = Vec::new();
        while batch.answers.len() < batch.len {
            let nr = batch.answers.len();
            let entry = words(self.view(self.victim.other()), at + nr as u64 * ENTRY);
            if entry[0] == 0 {
                let answer = self.take(batch, &mut taken, entry);
                batch.answers.push(answer);
                continue;
            }
            let (fate, given) = self.call_of(&taken, entry);
            owed.extend(given);
            match fate {
                Fate::Refused(why) if taken.later.is_empty() => {
                    batch.answers.push(Expected::Answer(refused(why)));
                }
                Fate::Refused(why) => {
                    count("served: a pointer word of the victim's is taken");
                    batch.answers.push(Expected::Taking(std::mem::take(&mut taken.later), why));
                }
                Fate::Either => batch.answers.push(Expected::Refused),
                Fate::Reached(fun, validator) => {
                    count(match taken.count {
                        0 => "served: a handler in a batch",
                        _ => "served: a handler that takes results",
                    });
                    let expect = Expect::Reached(validator.seen, validator.lent);
                    batch.current = Some((fun, expect));
                    break;
                }
                Fate::Unknown => {
                    // In time, the attacker changes what is taken. That may have been an argument of a call before.
                    for nr in taken.first..nr {
                        self.write(at + nr as u64 * ENTRY + 8, &u64::MAX.to_le_bytes());
                    }
                    batch.answers.truncate(from);
                    owed.clear();
                }
            }
            taken = Taken { first: batch.answers.len(), ..Taken::default() };
        }
        if batch.current.is_none() {
            owed.push((batch.word, 0));
        }
        self.owe(&owed);
    }

    /// A `TAKE` (ABI, "Batches" BT-6 and BT-7).
    fn take(&self, batch: &Batch, taken: &mut Taken, [_, index, place]: [u64; 3]) -> Expected {
        taken.count += 1;
        let (offset, size) = (place as u32 as usize, (place >> 32) as usize);
        let earlier = usize::try_from(index).ok().filter(|index| *index < batch.answers.len());
        let good = taken.count <= MOST_TAKEN && (place == 0 || [1, 2, 4, 8].contains(&size));
        let result = match earlier.filter(|_| good) {
            None => Err(ErrorKind::BadValue),
            Some(index) => match &batch.answers[index] {
                Expected::Answer(Answer { status: 0, transport }) if transport.secondary == 0 => {
                    Ok(Found::Word(transport.primary))
                }
                Expected::Takes(index) => Ok(Found::Later(*index)),
                Expected::Done(fun, outcome) => match found(fun, outcome, index) {
                    Found::Nothing => Err(ErrorKind::Cancelled),
                    found => Ok(found),
                },
                _ => Err(ErrorKind::Cancelled),
            },
        };
        let result = match result {
            Ok(result) => result,
            Err(why) => {
                count(match why {
                    ErrorKind::Cancelled => "served: a result that there is not is taken",
                    _ => "served: a bad TAKE",
                });
                taken.failed = taken.failed.or(Some(why));
                return Expected::Answer(refused(why));
            }
        };
        match place {
            0 => taken.primary = Some(result),
            _ => taken.fields.push((offset, size, result)),
        }
        match result {
            Found::Later(index) => {
                if taken.failed.is_none() {
                    taken.later.push(index);
                }
                Expected::Takes(index)
            }
            Found::Word(primary) => {
                Expected::Answer(Answer { status: 0, transport: Transport::word(primary) })
            }
            Found::Nothing => unreachable!("refused above"),
        }
    }

    /// What comes of the entry of a call, and the loans that are released before its handler runs.
    fn call_of(
        &self,
        taken: &Taken,
        [called, primary, secondary]: [u64; 3],
    ) -> (Fate, Vec<(u64, usize)>) {
        let refuse = |why| (Fate::Refused(why), Vec::new());
        let mut t = Transport { primary, secondary };
        // The beginning of the victim's arena stands for any block of it.
        let own = pointer::join(self.layout.arena(self.victim).0, 1);
        let mut fields = Vec::new();
        let mut later = false;
        if called < FIRST_FREE {
            count("served: a reserved signature in a batch");
            return refuse(ErrorKind::UnknownFunction);
        }
        if let Some(why) = taken.failed {
            return refuse(why);
        }
        match taken.primary {
            Some(Found::Word(word)) => t.primary = word,
            Some(_) => (t.primary, later) = (own, true),
            None => {}
        }
        for (offset, size, found) in &taken.fields {
            let Found::Word(word) = found else { return (Fate::Unknown, Vec::new()) };
            fields.push((*offset, word.to_le_bytes()[..*size].to_vec()));
        }
        if !fields.is_empty() && secondary != 0 {
            return refuse(ErrorKind::BadValue);
        }
        let Some(fun) = find(called) else { return refuse(ErrorKind::UnknownFunction) };
        if !fields.is_empty() && fun.parameters.len() < 2 {
            count("served: a result without a place");
            return if later { (Fate::Unknown, Vec::new()) } else { (Fate::Either, Vec::new()) };
        }
        let mut validator = Validator::new(self.view(self.victim.other()));
        validator.taken = fields;
        let validated = validator.parameters(fun.parameters, t);
        if later && (validated.is_ok() || !validator.given.is_empty()) {
            return (Fate::Unknown, Vec::new());
        }
        let given = std::mem::take(&mut validator.given);
        match validated {
            Ok(()) => (Fate::Reached(fun, validator), given),
            Err(why) => (Fate::Refused(why), given),
        }
    }

    /// The attacker's batch is answered without a call of it: there is no memory for the answers.
    pub fn no_room(&mut self, answer: Answer) -> bool {
        let none = answer == refused(ErrorKind::OutOfMemory);
        match self.calls.last() {
            Some(Call::Served { expect: Expect::Batch(batch), .. }) if none => {
                assert!(!batch.reached, "a call of the batch was made");
                count("served: a batch without room for its answers");
                // Nothing was released.
                self.due.clear();
                self.calls.pop();
                self.sync();
                true
            }
            _ => false,
        }
    }

    /// The attacker's batch is answered.
    pub fn on_answers(&mut self, batch: &Batch, answer: Answer) {
        let view = self.view(self.victim);
        assert!(batch.current.is_none() && batch.answers.len() == batch.len);
        assert_eq!((answer.status, answer.transport.secondary), (0, batch.len as u64 * ENTRY));
        let mut validator = Validator::new(view);
        let validated = validator.transport(&Ty::Buffer { text: false }, answer.transport);
        assert_eq!(validated, Ok(()), "the answers to a batch");
        let at = pointer::offset(answer.transport.primary);
        assert_eq!(at % 8, 0);
        let answers: Vec<_> =
            (0..batch.len).map(|nr| super::answer(words(view, at + nr as u64 * ENTRY))).collect();
        // The attacker has marked this block before it knew of it: it may be used for something else by now.
        let freed = |word: &u64| {
            let marked = (self.granule(self.victim, *word), pointer::loan(*word));
            *word != 0 && batch.early.contains(&marked)
        };
        let mut blocks = validator.blocks();
        let one_word = |nr: usize| {
            let Answer { status, transport } = answers[nr];
            (status == 0 && transport.secondary == 0).then_some(transport.primary)
        };
        for (nr, expected) in batch.answers.iter().enumerate() {
            let is = answers[nr];
            match expected {
                Expected::Answer(right) => assert_eq!(is, *right, "entry {nr}"),
                Expected::Refused => assert!(
                    is == refused(ErrorKind::BadPointer) || is == refused(ErrorKind::BadValue),
                    "entry {nr}: {is:?}"
                ),
                Expected::Takes(from) => {
                    let cancelled = refused(ErrorKind::Cancelled);
                    let result =
                        |primary| Answer { status: 0, transport: Transport::word(primary) };
                    assert_eq!(is, one_word(*from).map_or(cancelled, result), "entry {nr}");
                }
                Expected::Taking(from, why) => {
                    let made = from.iter().all(|from| one_word(*from).is_some());
                    let why = if made { *why } else { ErrorKind::Cancelled };
                    assert_eq!(is, refused(why), "entry {nr}");
                }
                Expected::Done(fun, outcome) => {
                    let in_arena = view.check(is.transport.primary, 1, 1).is_ok();
                    if in_arena && freed(&is.transport.primary) {
                        continue;
                    }
                    let mut validator = Validator::new(view);
                    let is_right = self.is_right(&mut validator, fun, outcome, is);
                    let lent = validator.blocks();
                    let excused = lent.iter().any(|(word, _)| freed(word));
                    assert!(is_right.is_ok() || excused, "entry {nr}: {is_right:?}");
                    blocks.extend(lent);
                }
            }
        }
        blocks.retain(|(word, _)| !freed(word));
        self.learn(&blocks);
    }

    /// The attacker leaves a mark, while batches of its are served.
    pub fn marked(&mut self, granule: u64, loan: u8) {
        for call in &mut self.calls {
            if let Call::Served { expect: Expect::Batch(batch), .. } = call {
                batch.early.push((granule, loan));
            }
        }
    }

    /// The entries of the batches that are served: the offset of the first one, and how many there are.
    pub(super) fn under_way(&self) -> Vec<(u64, usize)> {
        let batch = |call: &Call| match call {
            Call::Served { expect: Expect::Batch(batch), .. } => {
                Some((pointer::offset(batch.word), batch.len))
            }
            _ => None,
        };
        self.calls.iter().filter_map(batch).collect()
    }
}
