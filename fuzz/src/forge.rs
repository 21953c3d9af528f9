//! What a hostile side sends: wire forms that are mostly valid, each part with a chance to be wrong.

use vmffi::{
    GRANULE_SIZE, Serve,
    abi::{Answer, Side, Transport, pointer, signature},
};

use super::{
    model::{Ty, places},
    types::{FUNCTIONS, Fun, OLD, Server},
    world::World,
};

const TEXTS: [&[u8]; 6] =
    [b"", b"plain", "grüße, 字".as_bytes(), b"\xff", b"cut \xe5\xad", b"\xed\xa0\x80"];

impl World {
    fn attacker(&self) -> Side {
        self.victim.other()
    }

    /// A byte that decides whether a part is valid; it is for small values.
    pub fn odds(&mut self) -> u8 {
        if self.calm { 0 } else { self.feed.byte() }
    }

    /// An offset in the attacker's arena, mostly at a granule and with room for `len` bytes.
    pub fn place(&mut self, len: usize, align: usize) -> u64 {
        let (start, size) = self.layout.arena(self.attacker());
        let granule = self.feed.below(size as usize / GRANULE_SIZE) as u64;
        let at = start + granule * GRANULE_SIZE as u64;
        let end = start + size;
        match self.odds() {
            0..0xe0 => {
                at.min(end.saturating_sub(len as u64) / GRANULE_SIZE as u64 * GRANULE_SIZE as u64)
            }
            0xe0..0xf0 => end - (len as u64).next_multiple_of(align as u64).min(size),
            byte => at + u64::from(byte & 0xf) * align as u64,
        }
    }

    /// A pointer word for an offset, mostly a valid one.
    pub fn word(&mut self, at: u64) -> u64 {
        let byte = self.odds();
        let loan = match byte {
            0..0xe0 => 1 + byte % 3,
            0xe0..0xf0 => 0,
            _ => u8::MAX - (byte & 1),
        };
        if byte != 0xff {
            return pointer::join(at, loan);
        }
        let (start, len) = self.layout.arena(self.attacker());
        let (other, _) = self.layout.arena(self.victim);
        let (end, map) = (start + len, self.layout.release_map(self.victim));
        let odd =
            [0, 1, start - 1, start - 64, end, end - 1, end - 64, other, map, 1 << 48 | start];
        match self.feed.below(16) {
            nth if nth < odd.len() => pointer::join(odd[nth], loan),
            10 => pointer::join(1 << 55 | start, loan),
            11 => u64::MAX,
            12 => at + 1,
            _ => self.feed.number(8),
        }
    }

    /// A byte count, mostly `right`.
    pub fn count(&mut self, right: usize) -> u64 {
        let (start, len) = self.layout.arena(self.attacker());
        match self.odds() {
            0..0xf0 => right as u64,
            0xf0 => len,
            0xf1 => len + 1,
            0xf2 => u64::MAX - 63,
            0xf3 => u64::MAX - start + 1,
            0xf4 => 1 << 63 | right as u64,
            0xf5 => 1 << 32 | right as u64,
            0xf6 => self.feed.number(8),
            0xf7 => right as u64 + 1,
            _ => self.feed.below(len as usize) as u64,
        }
    }

    /// A pointer word and a byte count of a handle; writes the content that they refer to.
    fn forge_handle(&mut self, ty: &'static Ty) -> Transport {
        let (at, count) = match *ty {
            Ty::Foreign(inner) => {
                let (size, align) = inner.layout();
                let at = self.place(size.max(1), align);
                self.forge(inner, at);
                (at, 0)
            }
            Ty::Slice(inner) => {
                let (size, align) = inner.layout();
                let many = self.feed.below(5);
                let at = self.place(many * size, align);
                (0..many).for_each(|nth| self.forge(inner, at + (nth * size) as u64));
                (at, self.count(many * size))
            }
            Ty::Buffer { text: true } => {
                let text = self.feed.pick(&TEXTS);
                let at = self.place(text.len(), 1);
                self.write(at, text);
                (at, self.count(text.len()))
            }
            Ty::Packed(_) => {
                let note = self.forge_note();
                let at = self.place(note.len(), 1);
                self.write(at, &note);
                (at, self.count(note.len()))
            }
            _ => {
                let len = self.feed.byte().into();
                (self.place(len, 1), self.count(len))
            }
        };
        Transport { primary: self.word(at), secondary: count }
    }

    /// The bytes of a packed [`Note`](super::packed::Note): the fixed part, then the data of its text and of its flags. Mostly
    /// they are one.
    fn forge_note(&mut self) -> Vec<u8> {
        let text = self.feed.pick(&TEXTS);
        let flags: Vec<u8> = (0..self.feed.below(5)).map(|_| self.feed.byte() & 1).collect();
        let words = [text.len(), flags.len(), flags.len()].map(|len| self.count(len));
        // With the padding behind it.
        let nr = self.feed.number(2).to_le_bytes();
        let mut note: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        note.extend(nr);
        note.extend(text);
        note.extend(flags);
        if self.odds() > 0xf0 {
            let at = self.feed.below(note.len());
            note[at] = self.feed.byte();
        }
        note
    }

    /// Writes a wire form. Parts that do not fit into the arena are omitted.
    fn forge(&mut self, ty: &'static Ty, at: u64) {
        match *ty {
            Ty::Number { size, .. } => {
                let low = self.forge_scalar(ty);
                let high = if size > 8 && low >> 63 == 1 { u64::MAX } else { 0 };
                let both = u128::from(low) | u128::from(high) << 64;
                self.write(at, &both.to_le_bytes()[..size]);
            }
            Ty::Bool | Ty::Char | Ty::Enum { .. } => {
                let bits = self.forge_scalar(ty);
                self.write(at, &bits.to_le_bytes()[..ty.layout().0]);
            }
            Ty::Data { size, variants } => {
                let (number, fields) = self.feed.pick(variants);
                let odd = self.odds() > 0xf0;
                let tag = if odd { self.feed.scalar() } else { number as u64 };
                self.write(at, &tag.to_le_bytes()[..size]);
                places(fields, size).for_each(|(within, ty)| self.forge(ty, at + within as u64));
            }
            Ty::Struct(fields) => {
                places(fields, 0).for_each(|(within, ty)| self.forge(ty, at + within as u64));
            }
            Ty::Array(of, len) => {
                let size = of.layout().0;
                (0..len).for_each(|nth| self.forge(of, at + (nth * size) as u64));
            }
            Ty::Converted(as_ty, _) => self.forge(as_ty, at),
            Ty::Foreign(_) | Ty::Buffer { .. } | Ty::Slice(_) | Ty::Packed(_) => {
                let t = self.forge_handle(ty);
                self.write(at, &t.primary.to_le_bytes());
                if !matches!(ty, Ty::Foreign(_)) {
                    self.write(at + 8, &t.secondary.to_le_bytes());
                }
            }
            Ty::Option(inner) if inner.nullable() => match self.feed.byte() % 8 {
                0..5 => self.forge(inner, at),
                5 => self.write(
                    at,
                    &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..inner.layout().0],
                ),
                6 => self.write(at, &[0; 8]),
                _ => self.write(at, &[0; 16][..inner.layout().0]),
            },
            Ty::Option(inner) => {
                let (_, align) = inner.layout();
                let tag = match self.feed.byte() {
                    byte if byte % 4 == 0 => 0,
                    byte if self.calm || byte < 0xf0 => 1,
                    _ => self.feed.scalar() as u32,
                };
                self.write(at, &tag.to_le_bytes());
                if tag != 0 {
                    self.forge(inner, at + 4_usize.next_multiple_of(align) as u64);
                }
            }
        }
    }

    /// The bits of a scalar, mostly extended correctly.
    fn forge_scalar(&mut self, ty: &'static Ty) -> u64 {
        let bits = self.feed.scalar();
        match *ty {
            Ty::Bool if bits < 0x80 => bits & 1,
            Ty::Enum { numbers, .. } if bits < 0x80 => {
                numbers[bits as usize % numbers.len()] as u64
            }
            Ty::Number { size, signed } if size < 8 && bits % 16 != 7 => {
                let shift = 64 - 8 * size as u32;
                match signed {
                    true => ((bits << shift) as i64 >> shift) as u64,
                    false => bits << shift >> shift,
                }
            }
            _ => bits,
        }
    }

    /// A wire form in a block of its own.
    fn forge_block(&mut self, list: &'static [Ty], ty: &Ty) -> Transport {
        let (size, align) = ty.layout();
        let at = self.place(size, align);
        places(list, 0).for_each(|(within, ty)| self.forge(ty, at + within as u64));
        // Only here the block need not be a loan.
        let word = match size {
            0 if self.odds() < 0xf0 => 0,
            _ if self.feed.rarely(4) => at,
            _ => self.word(at),
        };
        Transport::word(word)
    }

    fn forge_transport(&mut self, ty: &'static Ty) -> Transport {
        let mut t = match *ty {
            Ty::Number { size, .. } if size > 8 => self.forge_block(std::slice::from_ref(ty), ty),
            Ty::Number { .. } | Ty::Bool | Ty::Char | Ty::Enum { .. } => {
                Transport::word(self.forge_scalar(ty))
            }
            Ty::Foreign(_) | Ty::Buffer { .. } | Ty::Slice(_) | Ty::Packed(_) => {
                self.forge_handle(ty)
            }
            Ty::Option(inner) if inner.nullable() => match self.feed.byte() % 8 {
                0..6 => self.forge_handle(inner),
                6 => Transport::word(pointer::EMPTY),
                _ => Transport::EMPTY,
            },
            Ty::Converted(as_ty, _) => return self.forge_transport(as_ty),
            Ty::Data { .. } | Ty::Struct(_) | Ty::Array(..) | Ty::Option(_) => {
                self.forge_block(std::slice::from_ref(ty), ty)
            }
        };
        if self.odds() > 0xfb {
            t.secondary ^= self.feed.scalar();
        }
        t
    }

    pub fn forge_call(&mut self) -> (u64, Transport) {
        self.calm = self.feed.rarely(2);
        let nth = self.feed.below(OLD + 8);
        if nth < OLD {
            return self.forge_call_of(&FUNCTIONS[nth]);
        }
        let known = FUNCTIONS[self.feed.below(OLD)].function.signature;
        match nth - OLD {
            0 => (signature::HAS, Transport::word(known)),
            1 => (signature::HAS, self.forge_transport(&Ty::Buffer { text: false })),
            // A valid transport for one function, with the signature of another.
            2 => (known, self.forge_call().1),
            3 => {
                (known, Transport { primary: self.feed.number(8), secondary: self.feed.number(8) })
            }
            4 if self.feed.rarely(2) => {
                (signature::LOG, self.forge_transport(&Ty::Buffer { text: true }))
            }
            4 => (self.feed.below(32) as u64, Transport::EMPTY),
            5 => match self.feed.number(8) {
                nth if nth < (FUNCTIONS.len() - OLD) as u64 => {
                    self.forge_call_of(&FUNCTIONS[OLD + nth as usize])
                }
                signature => (signature, Transport::EMPTY),
            },
            6 => (signature::HANDSHAKE, self.forge_contract()),
            _ => self.forge_batch_call(),
        }
    }

    pub fn forge_call_of(&mut self, fun: &'static Fun) -> (u64, Transport) {
        let transport = match fun.parameters {
            [] if self.odds() > 0xe0 => Transport::word(self.feed.scalar()),
            [] => Transport::EMPTY,
            [one] => self.forge_transport(one),
            list => self.forge_block(list, &Ty::Struct(list)),
        };
        (fun.function.signature, transport)
    }

    /// A guest's contract: valid but for a few bytes, or random bytes.
    fn forge_contract(&mut self) -> Transport {
        if self.feed.rarely(8) {
            return self.forge_transport(&Ty::Buffer { text: false });
        }
        let mut bytes = Server::CONTRACT.to_vec();
        while self.feed.rarely(3) {
            let at = self.feed.number(2) as usize % bytes.len();
            bytes[at] = self.feed.byte();
        }
        let (at, _) = self.layout.arena(self.attacker());
        self.write(at, &bytes);
        let word = if self.feed.rarely(4) { at } else { self.word(at) };
        Transport { primary: word, secondary: self.count(bytes.len()) }
    }

    pub fn forge_answer(&mut self, fun: &'static Fun) -> Answer {
        self.calm = self.feed.rarely(2);
        let status = match self.feed.byte() {
            byte if byte < 0x90 => 0,
            byte if byte < 0xe0 => 1,
            byte if byte < 0xf8 => u64::from(self.feed.byte()) % 96,
            _ => self.feed.scalar(),
        };
        let ty = match (fun, status) {
            (Fun { err: Some(err), .. }, 1) => err,
            (fun, _) => &fun.ok,
        };
        let carries = status <= 1 || self.feed.rarely(8);
        let transport = if carries { self.forge_transport(ty) } else { Transport::EMPTY };
        Answer { status, transport }
    }
}
