//! The attacker: what it sends, what it receives, and which outcome of each the model expects.

use vmffi::{
    ErrorKind, GRANULE_SIZE, MAX_DEPTH,
    abi::{Answer, Side, Transport, answer, pointer, signature, trap},
};

use super::{
    contract,
    model::Validator,
    types::{CONTRACT, Fun, Server},
    world::{Call, Expect, Outcome, Returned, WHYS, World, find},
};

/// The errors of calls to a guest that ended without notice.
const ENDS: [ErrorKind; 3] = [ErrorKind::PeerDied, ErrorKind::Cancelled, ErrorKind::Protocol];

/// What the attacker does when it is its turn.
#[derive(Clone, Copy, Debug)]
pub enum Move {
    /// Calls the victim.
    Call(u64, Transport),
    /// Answers the victim's call, or resumes the victim if there is no call.
    Answer(Answer),
    /// A guest waits for upcalls.
    Ready,
    /// A guest ends.
    Exit(u64),
    /// A kind of trap or answer that is invalid here.
    Odd(u64),
    /// A vCPU cannot be run.
    Fail(ErrorKind),
}

impl World {
    /// Whether the victim has called, and waits for an answer.
    pub fn asked(&self) -> bool {
        matches!(self.calls.last(), Some(Call::Made { .. } | Call::Asked(_)))
    }

    /// Whether the attacker has called, and waits for an answer.
    pub fn serves(&self) -> bool {
        matches!(self.calls.last(), Some(Call::Served { .. }))
    }

    /// The attacker is called.
    pub fn on_call(&mut self, signature: u64, t: Transport) {
        self.sync();
        let view = self.view(self.victim);
        let depth = self.calls.len();
        if let Some(Call::Asked(_)) = self.calls.last() {
            assert_eq!(signature, signature::BATCH);
            return self.on_batch(t);
        }
        let Some(Call::Made { fun, sent, arrived, .. }) = self.calls.last_mut() else {
            panic!("no call is pending");
        };
        assert!(!std::mem::replace(arrived, true));
        assert!(depth <= MAX_DEPTH as usize);
        assert_eq!(signature, fun.function.signature);
        let mut validator = Validator::new(view);
        validator.strict = true;
        assert_eq!(validator.parameters(fun.parameters, t), Ok(()), "{}", fun.function);
        assert_eq!(validator.seen, *sent, "{}", fun.function);
        let blocks = validator.blocks();
        self.learn(&blocks);
        if let Some(Call::Made { words, .. }) = self.calls.last_mut() {
            words.extend(blocks.into_iter().map(|(word, _)| word));
        }
    }

    /// Records what the victim has lent: no other loan covers it.
    pub fn learn(&mut self, all: &[(u64, usize)]) {
        let view = self.view(self.victim);
        // A loan has its granules to itself; what has no number may share one with others of its kind (ABI, A-2).
        let granule = GRANULE_SIZE as u64;
        let places = |word: u64, len: usize| {
            let (start, end) = (pointer::offset(word), pointer::offset(word) + len as u64);
            let loan = pointer::loan(word) != 0;
            start..if loan { end.next_multiple_of(granule) } else { end }
        };
        for (nr, (word, len)) in all.iter().enumerate() {
            let place = places(*word, *len);
            let lent = self.loans.iter().map(|(word, bytes)| places(*word, bytes.len()));
            let others = all[..nr].iter().map(|(word, len)| places(*word, *len));
            for other in lent.chain(others) {
                let apart = place.end <= other.start || other.end <= place.start;
                assert!(apart, "{word:#x} is lent, and is already in use");
            }
        }
        for (word, len) in all {
            self.known.push(*word);
            self.loans.push((*word, view.read(pointer::offset(*word), *len)));
        }
    }

    /// The attacker is answered.
    pub fn on_answer(&mut self, answer: Answer) {
        if self.no_room(answer) {
            return;
        }
        self.sync();
        let Some(Call::Served { fun, expect }) = self.calls.pop() else {
            panic!("no call is pending");
        };
        let name = fun.map_or("no function", |fun| fun.function.name);
        match (expect, fun) {
            (Expect::Answer(right), _) => assert_eq!(answer, right, "{name}"),
            (Expect::Batch(batch), _) => self.on_answers(&batch, answer),
            (Expect::Done(outcome), Some(fun)) => {
                let mut validator = Validator::new(self.view(self.victim));
                let is_right = self.is_right(&mut validator, fun, &outcome, answer);
                assert_eq!(is_right, Ok(()), "{name}");
                self.learn(&validator.blocks());
            }
            _ => panic!("{name} should have been reached"),
        }
    }

    /// Whether a call whose handler has ended with this outcome may be answered so.
    pub fn is_right(
        &self,
        validator: &mut Validator,
        fun: &'static Fun,
        outcome: &Outcome,
        answer: Answer,
    ) -> Result<(), String> {
        let (ty, right, status) = match (outcome, fun) {
            (Outcome::Value(right), _) => (&fun.ok, right, 0),
            (Outcome::App(right), Fun { err: Some(err), .. }) => (err, right, 1),
            (Outcome::Failed(why, true), _) if answer == Answer::status(*why as u64 | 64) => {
                return Ok(());
            }
            _ => return Err(format!("{outcome:?}, and the answer is {answer:?}")),
        };
        if answer == Answer::status(64 | ErrorKind::OutOfMemory as u64) {
            // For the wire form of the result, or for a buffer in it.
            return Ok(());
        }
        if answer.status != status {
            return Err(format!("{outcome:?}, and the answer is {answer:?}"));
        }
        validator.strict = true;
        let validated = validator.transport(ty, answer.transport);
        if validated != Ok(()) || validator.seen != *right {
            return Err(format!("{validated:?}, {:?} is seen, not {right:?}", validator.seen));
        }
        Ok(())
    }

    /// The attacker calls with these words: which outcome is expected?
    fn expect_call(&mut self, signature: u64, t: Transport) {
        let refused = |why: ErrorKind| Expect::Answer(Answer::status(why as u64));
        let fun = if signature == signature::CONTRACT { Some(&CONTRACT) } else { find(signature) };
        let expect = match fun {
            _ if self.calls.len() >= MAX_DEPTH as usize => refused(ErrorKind::TooDeep),
            _ if signature == signature::HAS => match t.secondary {
                0 => {
                    let has = u64::from(find(t.primary).is_some());
                    Expect::Answer(Answer { status: 0, transport: Transport::word(has) })
                }
                _ => refused(ErrorKind::BadValue),
            },
            _ if signature == signature::CONTRACT => match t {
                Transport::EMPTY => {
                    let contract = <Server as vmffi::Serve>::CONTRACT;
                    let seen = [contract, &contract.len().to_le_bytes()].concat();
                    Expect::Done(Outcome::Value(seen))
                }
                _ => refused(ErrorKind::BadValue),
            },
            _ if signature == signature::BATCH => self.expect_batch(t),
            // A second contract is refused without a look at its content.
            _ if signature == signature::HANDSHAKE && self.matched => refused(ErrorKind::Refused),
            _ if signature == signature::HANDSHAKE && self.victim == Side::Host => {
                let view = self.view(Side::Guest);
                let bytes = match t.secondary {
                    0 => Ok(Vec::new()),
                    len => view.check(t.primary, len, 1).map(|at| view.read(at, len as usize)),
                };
                if bytes.is_ok() && t.secondary != 0 {
                    self.gives(&[(t.primary, t.secondary as usize)]);
                }
                match bytes {
                    Err(why) => refused(why),
                    Ok(bytes) if contract::fits(&bytes) => {
                        self.matched = true;
                        Expect::Answer(Answer::status(0))
                    }
                    Ok(_) => {
                        // The attacker gets no answer, and is not resumed.
                        self.misfit = true;
                        self.lose(ErrorKind::VersionMismatch);
                        return;
                    }
                }
            }
            _ if signature == signature::LOG && self.victim == Side::Host => {
                let view = self.view(Side::Guest);
                let bytes = match t.secondary {
                    0 => Err(ErrorKind::BadValue),
                    len => view.check(t.primary, len, 1).map(|at| {
                        let len = len.min(1024) as usize;
                        view.read(at, len)
                    }),
                };
                if bytes.is_ok() {
                    self.gives(&[(t.primary, t.secondary as usize)]);
                }
                match bytes.as_deref() {
                    Err(why) => refused(*why),
                    Ok([1..=5, target, rest @ ..]) if rest.len() >= usize::from(*target) => {
                        Expect::Answer(Answer::status(0))
                    }
                    Ok(_) => refused(ErrorKind::BadValue),
                }
            }
            None => refused(ErrorKind::UnknownFunction),
            Some(fun) => {
                let mut validator = Validator::new(self.view(self.victim.other()));
                let validated = validator.parameters(fun.parameters, t);
                self.gives(&validator.given);
                match validated {
                    Ok(()) => Expect::Reached(validator.seen, validator.lent),
                    Err(why) => refused(why),
                }
            }
        };
        self.calls.push(Call::Served { fun, expect });
    }

    /// The attacker answers with these words: what does the victim get?
    fn expect_answer(&mut self, answer: Answer) {
        if let Some(Call::Asked(_)) = self.calls.last() {
            return self.expect_answers(answer);
        }
        let Some(Call::Made { fun, .. }) = self.calls.last() else { return };
        let (outcome, validator) = self.returns(fun, answer);
        if let Some(Call::Made { result, .. }) = self.calls.last_mut() {
            *result = Some(Returned { outcome, lent: validator.lent });
        }
        self.gives(&validator.given);
    }

    /// What a caller gets of an answer to its call.
    pub fn returns(&self, fun: &'static Fun, answer: Answer) -> (Outcome, Validator) {
        let mut validator = Validator::new(self.view(self.victim.other()));
        let (status, t) = (answer.status, answer.transport);
        let mut validated =
            |ty, as_outcome: fn(Vec<u8>) -> Outcome| match validator.transport(ty, t) {
                Ok(()) => as_outcome(validator.seen.clone()),
                Err(why) => Outcome::Failed(why, true),
            };
        let outcome = match (status, fun) {
            (0, fun) => validated(&fun.ok, Outcome::Value),
            (1, Fun { err: Some(err), .. }) => validated(err, Outcome::App),
            (2..=15 | 66..=79, _) => {
                Outcome::Failed(WHYS[(status as usize & 63) - 2], status >= 64)
            }
            _ => Outcome::Failed(ErrorKind::Protocol, true),
        };
        (outcome, validator)
    }

    /// Calls in progress end with this error, and no others follow.
    pub fn lose(&mut self, why: ErrorKind) {
        self.gone = Some(why);
        self.loans.clear();
        for call in &mut self.calls {
            call.fails(why, true);
        }
    }

    /// No host claims the trap of a guest's call.
    pub fn unclaimed(&mut self) {
        if let Some(call) = self.calls.last_mut() {
            call.fails(ErrorKind::Unsupported, false);
        }
    }

    /// The attacker's turn.
    pub fn play(&mut self) -> Move {
        self.sync();
        let step = self.choose();
        match step {
            Move::Call(signature, t) => self.expect_call(signature, t),
            Move::Answer(answer) => self.expect_answer(answer),
            // Which of these are valid depends on the attacker's side.
            Move::Ready | Move::Exit(_) | Move::Odd(_) | Move::Fail(_) => {}
        }
        step
    }

    fn choose(&mut self) -> Move {
        let guest = self.victim == Side::Host;
        if std::mem::take(&mut self.friendly) {
            return Move::Answer(Answer::status(0));
        }
        while !self.feed.is_empty() {
            match self.feed.below(16) {
                0 => {
                    let (at, len) = (self.place(1, 1), self.feed.below(24));
                    let bytes = (0..len).map(|_| self.feed.byte()).collect::<Vec<_>>();
                    self.write(at, &bytes);
                }
                1 if !self.known.is_empty() => {
                    let nth = self.feed.below(self.known.len().min(256));
                    let word = self.known[self.known.len() - 1 - nth];
                    self.mark(self.granule(self.victim, word), pointer::loan(word));
                }
                2 => {
                    let granule = self.feed.below(self.layout.granules(self.victim)) as u64;
                    let loan = self.feed.byte();
                    self.mark(granule, loan);
                }
                3 => match self.feed.below(16) {
                    0 if guest => return Move::Exit(self.feed.scalar()),
                    1 if guest => return Move::Ready,
                    2 => return Move::Odd(self.feed.number(8)),
                    3 => return Move::Odd(self.feed.pick(&if guest { ANSWERS } else { TRAPS })),
                    4 if guest => return Move::Fail(self.feed.pick(&ENDS)),
                    5 => return Move::Answer(Answer { status: self.feed.scalar(), ..self.any() }),
                    6..=8 => self.change_batch(),
                    9..=13 => {
                        let (signature, transport) = self.forge_batch_call();
                        return Move::Call(signature, transport);
                    }
                    _ => {}
                },
                4..=9 => {
                    let (signature, transport) = self.forge_call();
                    return Move::Call(signature, transport);
                }
                10..=14 => match self.calls.last() {
                    Some(Call::Made { fun, .. }) => {
                        let fun = *fun;
                        return Move::Answer(self.forge_answer(fun));
                    }
                    Some(Call::Asked(asked)) => {
                        let entries = asked.entries();
                        return Move::Answer(self.forge_answers(&entries));
                    }
                    _ => {}
                },
                15 if !self.asked() => break,
                _ => {}
            }
        }
        match () {
            () if self.asked() || !guest => Move::Answer(Answer::status(0)),
            () if self.closing => Move::Exit(0),
            () => Move::Ready,
        }
    }

    fn any(&mut self) -> Answer {
        let transport = Transport { primary: self.feed.number(8), secondary: self.feed.number(8) };
        Answer { status: 0, transport }
    }
}

/// Answers that are invalid as traps, and traps that are invalid as answers.
const ANSWERS: [u64; 4] = [answer::ANSWER, answer::UPCALL, 0, trap::CALL | 1 << 32];
const TRAPS: [u64; 4] = [trap::CALL, trap::RETURN, trap::READY, trap::EXIT];
