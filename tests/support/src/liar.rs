//! A peer that answers calls with arbitrary words, and a generator of such words.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use vmffi::{
    __private::descriptor::Declared,
    __private::dispatch::{
        Call, Entry, Index, Interface, Table, buckets, join_entries, join_functions, slots, total,
    },
    Peer, RegionLayout, Serve,
    abi::{Answer, Function, Side, Transport, pointer},
};

use crate::interface::{Callback, FUNCTIONS, ParamsCallbackGlyph};

/// The number of answers of liars, over all tests.
pub static LIES: AtomicUsize = AtomicUsize::new(0);

/// A raw call with arbitrary words.
pub fn raw(peer: &Peer, signature: u64, transport: Transport) -> Answer {
    // SAFETY: the region is mapped twice, and no reference covers memory that an attacker's words may name: the victim
    // copies, and the attacker writes through the other mapping.
    unsafe { peer.call(signature, transport) }
}

/// A random number generator with a small seed, which proptest can supply.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A pointer word: mostly into the arena of `side`, at its limits, next to them, or anywhere else.
    pub fn pointer(&mut self, layout: &RegionLayout, side: Side) -> u64 {
        let (start, len) = layout.arena(side);
        let loan = self.pick(&[1, 1, 1, 1, 2, 77, 255, 0]);
        let offset = match self.below(16) {
            0..=7 => start + self.below(len / 64) * 64,
            8 => start + self.below(len),
            9 => start + len - self.below(200),
            10 => (start + len + self.below(3)).wrapping_sub(1),
            11 => (start + self.below(3)).wrapping_sub(1),
            12 => self.below(layout.len() + 4096),
            13 => {
                self.pick(&[0, 1, 2, 63, u64::MAX >> 8, pointer::OFFSET, 1 << 48, start | 1 << 50])
            }
            14 => layout.arena(side.other()).0 + self.below(len / 64) * 64,
            _ => return self.number(),
        };
        pointer::join(offset & (u64::MAX >> 8), loan)
    }

    /// A byte count: mostly small, up to the end of the arena, or slightly beyond it.
    pub fn length(&mut self, layout: &RegionLayout, side: Side) -> u64 {
        let (_, len) = layout.arena(side);
        match self.below(12) {
            0..=4 => self.below(300),
            5 | 6 => self.below(40) * 8,
            7 => len - self.below(200),
            8 => len + self.below(3),
            9 => self.pick(&[
                u64::MAX,
                u64::MAX - 63,
                1 << 63,
                1 << 32,
                u64::from(u32::MAX),
                1 << 48,
            ]),
            10 => 0,
            _ => self.below(len),
        }
    }

    /// A scalar: small, at the limits of a type, sign-extended correctly and incorrectly.
    pub fn scalar(&mut self) -> u64 {
        match self.below(6) {
            0..=2 => self.below(10),
            3 => self.pick(&[
                0x7f, 0x80, 0xff, 0x100, 0xd7ff, 0xd800, 0xdfff, 0x10_ffff, 0x11_0000, 200,
            ]),
            4 => self.pick(&[
                u64::MAX,
                u64::MAX << 7,
                0xffff_ff80,
                u64::from(u32::MAX),
                1 << 32,
                (1 << 32) | 1,
                i64::MIN as u64,
                f64::NAN.to_bits(),
            ]),
            _ => self.number(),
        }
    }

    pub fn transport(&mut self, layout: &RegionLayout, side: Side) -> Transport {
        match self.below(8) {
            0 => Transport { primary: self.scalar(), secondary: self.pick(&[0, 0, 0, 1, 1 << 63]) },
            1..=3 => Transport::word(self.pointer(layout, side)),
            4..=6 => Transport {
                primary: self.pointer(layout, side),
                secondary: self.length(layout, side),
            },
            _ => Transport { primary: self.number(), secondary: self.number() },
        }
    }

    /// A word of a parameter struct.
    pub fn word(&mut self, layout: &RegionLayout, side: Side) -> u64 {
        match self.below(8) {
            0..=2 => self.pointer(layout, side),
            3 | 4 => self.length(layout, side),
            5 => self.scalar(),
            // Two halves that are often valid tags, bools or chars.
            _ => {
                self.below(3) | self.below(3) << 16 | self.below(0x120) << 32 | self.below(2) << 48
            }
        }
    }

    pub fn signature(&mut self) -> u64 {
        match self.below(20) {
            0 => self.below(20),
            1 => self.number(),
            _ => self.pick(&FUNCTIONS),
        }
    }
}

/// Serves `Callback` with random answers; sometimes it makes a call first.
pub struct Liar {
    pub layout: RegionLayout,
    /// The side that it is on.
    pub side: Side,
    random: Mutex<Random>,
    /// Its next answer, if a test has set it.
    pub script: Arc<Mutex<Option<Answer>>>,
}

impl Liar {
    pub fn new(layout: RegionLayout, side: Side, seed: u64) -> Self {
        Self { layout, side, random: Mutex::new(Random(seed)), script: Arc::default() }
    }

    /// Writes a status, and returns a transport.
    fn answer(&self, peer: &Peer, function: &Function, out: &mut u64) -> Transport {
        LIES.fetch_add(1, Ordering::Relaxed);
        if let Some(answer) = *self.script.lock().expect("no panics") {
            *out = answer.status;
            return answer.transport;
        }
        let mut random = self.random.lock().expect("no panics");
        if random.below(12) == 0 {
            let (signature, transport) =
                (random.signature(), random.transport(&self.layout, self.side));
            drop(random);
            raw(peer, signature, transport);
            random = self.random.lock().expect("no panics");
        }
        *out = match random.below(10) {
            0 => 1,
            1 => random.below(200),
            2 => random.number(),
            _ => 0,
        };
        if function.signature == ParamsCallbackGlyph::FUNCTION.signature {
            Transport::word(random.scalar())
        } else {
            random.transport(&self.layout, self.side)
        }
    }
}

const LISTS: &[&[Declared]] = &[<dyn Callback as Interface>::FUNCTIONS];
const COUNT: usize = total(LISTS);

static INDEX: Index<{ buckets(COUNT) }, { slots(COUNT) }> =
    Index::build::<COUNT>(&join_functions(LISTS));

const fn lie(nr: usize) -> &'static Function {
    &LISTS[0][nr].function
}

const fn entry(function: &'static Function, call: Call<Liar>) -> Entry<Liar> {
    // SAFETY: see `raw`. No Rust reference covers memory that a forged word names.
    unsafe { Entry::new(function, call) }
}

const ENTRIES: &[Entry<Liar>] = &[
    entry(lie(0), |liar, peer, _, status| liar.answer(peer, lie(0), status)),
    entry(lie(1), |liar, peer, _, status| liar.answer(peer, lie(1), status)),
    entry(lie(2), |liar, peer, _, status| liar.answer(peer, lie(2), status)),
    entry(lie(3), |liar, peer, _, status| liar.answer(peer, lie(3), status)),
    entry(lie(4), |liar, peer, _, status| liar.answer(peer, lie(4), status)),
    entry(lie(5), |liar, peer, _, status| liar.answer(peer, lie(5), status)),
];

impl Serve for Liar {
    const TABLE: &'static Table<Self> = {
        static SLOTS: [Entry<Liar>; slots(COUNT)] = join_entries(&[ENTRIES], &INDEX);
        static TABLE: Table<Liar> = Table::new(&SLOTS, &INDEX);
        &TABLE
    };
    // It has no contract.
    const CONTRACT: &'static [u8] = <() as Serve>::CONTRACT;
}
