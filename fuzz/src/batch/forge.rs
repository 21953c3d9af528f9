//! The batches that a hostile side makes, and its answers to batches: mostly valid, each part with a chance to be wrong.

use vmffi::abi::{Answer, Transport, pointer, signature};

use super::{
    super::{
        counts::count,
        model::{Ty, places},
        types::{FUNCTIONS, Fun},
        world::{World, find},
    },
    ENTRY, FIRST_FREE, Words, bytes, words,
};

fn entry(word: u64, t: Transport) -> Words {
    [word, t.primary, t.secondary]
}

/// Whether a result of one type is probably a value of another one.
fn fits(result: &Ty, parameter: &Ty) -> bool {
    let same = std::mem::discriminant(result) == std::mem::discriminant(parameter);
    same && result.layout() == parameter.layout()
}

impl World {
    fn any_function(&mut self) -> &'static Fun {
        match self.feed.below(2) {
            // Those of one scalar, whose results the others can take.
            0 => &FUNCTIONS[2 + self.feed.below(18)],
            _ => &FUNCTIONS[self.feed.below(FUNCTIONS.len())],
        }
    }

    /// A batch: a pointer word and a byte count.
    pub fn forge_batch(&mut self) -> Transport {
        let calls = if self.odds() < 0xf8 { self.feed.below(8) } else { self.feed.below(60) };
        let mut entries = Vec::new();
        while entries.len() < calls {
            self.forge_entries(&mut entries);
        }
        let len = entries.len() * ENTRY as usize;
        let at = self.place(len, 8);
        for (nr, entry) in (0..).zip(entries) {
            self.write(at + nr * ENTRY, &bytes(entry));
        }
        let word = if self.feed.rarely(4) { at } else { self.word(at) };
        let secondary = match self.odds() {
            0..0xf8 => len as u64,
            // What is behind them is served as well.
            0xf8..0xfc => len as u64 + self.feed.below(40) as u64 * ENTRY,
            _ => self.count(len),
        };
        Transport { primary: word, secondary }
    }

    /// An entry, or a call with the `TAKE`s before it.
    fn forge_entries(&mut self, entries: &mut Vec<Words>) {
        let calm = self.calm;
        match self.feed.below(16) {
            0..=4 => {
                let fun = self.any_function();
                let (signature, t) = self.forge_call_of(fun);
                entries.push(entry(signature, t));
            }
            5..=10 => self.forge_taking(entries),
            // The same loans and the same parameter struct again.
            11 if !entries.is_empty() => {
                let earlier = self.feed.pick(entries);
                entries.push(earlier);
            }
            12 => {
                let (signature, t) = self.forge_call();
                entries.push(entry(signature, t));
            }
            13 => {
                let called = self.feed.below(FIRST_FREE as usize) as u64;
                entries
                    .push(entry(called, Transport { primary: self.feed.scalar(), secondary: 0 }));
            }
            14 => {
                let called = FUNCTIONS[self.feed.below(FUNCTIONS.len())].function.signature;
                let (primary, secondary) = (self.feed.scalar(), self.feed.scalar());
                entries.push([called, primary, secondary]);
            }
            _ => {
                let earlier = self.feed.below(entries.len() + 1) as u64;
                (0..self.feed.below(20)).for_each(|_| entries.push([0, earlier, 0]));
                let fun = self.any_function();
                let (signature, t) = self.forge_call_of(fun);
                entries.push(entry(signature, t));
            }
        }
        self.calm = calm;
    }

    /// A call that takes results of earlier entries.
    fn forge_taking(&mut self, entries: &mut Vec<Words>) {
        let fun = self.any_function();
        let (mut takes, list) = (Vec::new(), fun.parameters);
        while !list.is_empty() && takes.len() < 17 {
            let (at, ty) = places(list, 0).nth(self.feed.below(list.len())).expect("one of them");
            let fitting: Vec<u64> = (0..)
                .zip(entries.iter())
                .filter(|(_, [word, ..])| find(*word).is_some_and(|fun| fits(&fun.ok, ty)))
                .map(|(nr, _)| nr)
                .collect();
            let index = match self.odds() {
                0..0xe0 if !fitting.is_empty() => self.feed.pick(&fitting),
                0..0xf0 => self.feed.below(entries.len() + 1) as u64,
                _ => self.feed.scalar(),
            };
            let place = at as u64 | (ty.layout().0 as u64) << 32;
            let place = match self.odds() {
                0..0xe8 if list.len() == 1 => 0,
                0..0xe8 => place,
                0xe8..0xf4 => self.feed.below(80) as u64 | 1 << (32 + self.feed.below(4)),
                _ => self.feed.scalar() | self.feed.scalar() << 32,
            };
            takes.push([0, index, place]);
            if !self.feed.rarely(3) {
                break;
            }
        }
        let (signature, t) = self.forge_call_of(fun);
        entries.extend(takes);
        entries.push(entry(signature, t));
    }

    /// Changes an entry of a batch that is being served.
    pub fn change_batch(&mut self) {
        let under_way = self.under_way();
        if under_way.is_empty() {
            return;
        }
        count("served: an entry is changed meanwhile");
        let (at, len) = self.feed.pick(&under_way);
        let mut entries: Vec<Words> = Vec::new();
        match self.feed.below(4) {
            0 => {
                let from = at + self.feed.below(len) as u64 * ENTRY;
                entries.push(words(self.view(self.victim.other()), from));
            }
            1 => self.forge_taking(&mut entries),
            _ => self.forge_entries(&mut entries),
        }
        let to = self.feed.below(len);
        for (nr, entry) in (to..len).zip(entries) {
            self.write(at + nr as u64 * ENTRY, &bytes(entry));
        }
    }

    /// The answer to a batch of the victim's with these entries: the functions of its calls, and `None` for what they take.
    pub fn forge_answers(&mut self, entries: &[Option<&'static Fun>]) -> Answer {
        self.calm = self.feed.rarely(2);
        let calm = self.calm;
        let status = match self.odds() {
            0..0xe8 => 0,
            0xe8..0xf8 => u64::from(self.feed.byte()) % 96,
            _ => self.feed.scalar(),
        };
        let mut answers = Vec::new();
        for fun in entries {
            answers.push(match (fun, self.feed.byte()) {
                // It is not written.
                (_, byte) if byte >= 0xf0 && !calm => None,
                (None, byte) if byte < 0x80 => Some([0; 3]),
                (None, _) => Some([self.feed.scalar(), self.feed.scalar(), self.feed.scalar()]),
                (Some(fun), _) => {
                    let Answer { status, transport } = self.forge_answer(fun);
                    self.calm = calm;
                    Some(entry(status, transport))
                }
            });
        }
        let len = answers.len() * ENTRY as usize;
        let at = self.place(len, 8);
        for (nr, answer) in (0..).zip(answers) {
            if let Some(answer) = answer {
                self.write(at + nr * ENTRY, &bytes(answer));
            }
        }
        let transport = Transport { primary: self.word(at), secondary: self.count(len) };
        Answer { status, transport }
    }

    /// A batch, as the attacker's next call.
    pub fn forge_batch_call(&mut self) -> (u64, Transport) {
        self.calm = self.feed.rarely(2);
        let mut t = self.forge_batch();
        if t.secondary == 0 && self.feed.rarely(2) {
            t.primary = pointer::EMPTY;
        }
        (signature::BATCH, t)
    }
}
