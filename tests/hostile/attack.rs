//! The steps of an attacker before calls and in them, as proptest generates them, and what must hold
//! afterwards.

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use proptest::prelude::*;
use support::{
    interface::*,
    liar::{Liar, Random, raw},
    panics,
    region::{self, Attacker},
};
use vmffi::{
    Foreign, ForeignBuf, ForeignList, ForeignSlice, ForeignStr, Incoming, List, Peer, SendAs,
    Shared, SharedBuf, SharedSlice, SharedStr,
    abi::{Answer, Side, Transport, pointer},
    loopback::Loopback,
};

/// The number of raw calls, over all tests.
pub static CALLS: AtomicUsize = AtomicUsize::new(0);
/// The number of raw calls that succeeded.
pub static GOOD: AtomicUsize = AtomicUsize::new(0);

/// Ends an attacker's thread, also if its opponent panics.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs the real server on the side under attack, and a [`Liar`] on the other.
pub struct Field {
    pub pair: Loopback,
    pub attacker: Attacker,
    kept: Kept,
    /// Blocks of the victim that it has not lent, with the byte that fills each.
    treasure: Mutex<Vec<(SharedBuf, u8)>>,
}

/// A list with every type that can be packed.
pub static ROWS: [Row<'_>; 3] = [
    Row {
        name: "first ✓",
        colour: Colour::Green,
        tags: List::new(&[Some(b"tag"), None, Some(b"")]),
        cell: Cell::Text("text"),
    },
    Row { name: "", colour: Colour::Red, tags: List::new(&[]), cell: Cell::Null },
    Row {
        name: "last",
        colour: Colour::Blue,
        tags: List::new(&[None]),
        cell: Cell::Flags(true, List::new(&['a', '字'])),
    },
];

impl Field {
    pub fn new(victim: Side, arenas: (u64, u64), seed: u64) -> Self {
        panics::count_here();
        let server = Server::default();
        let kept = server.kept.clone();
        let layout = vmffi::RegionLayout::new(arenas.0, arenas.1).expect("sizes");
        let liar = Liar::new(layout, victim.other(), seed);
        let (pair, attacker) = match victim {
            Side::Host => region::pair(victim, arenas, |_| {}, liar, server),
            Side::Guest => region::pair(victim, arenas, |_| {}, server, liar),
        };
        Self { pair, attacker, kept, treasure: Mutex::new(Vec::new()) }
    }

    /// The peer through which the attacker calls.
    pub fn to_victim(&self) -> &Peer {
        self.attacker.to_victim(&self.pair)
    }

    /// The peer through which the victim allocates.
    pub fn to_attacker(&self) -> &Peer {
        self.attacker.to_attacker(&self.pair)
    }

    pub fn call(&self, signature: u64, transport: Transport) -> Answer {
        CALLS.fetch_add(1, Ordering::Relaxed);
        let answer = raw(self.to_victim(), signature, transport);
        GOOD.fetch_add(usize::from(answer.status == 0), Ordering::Relaxed);
        let known =
            matches!(answer.status & !64, 0..=15) && answer.status != 64 && answer.status != 65;
        assert!(known, "status {}", answer.status);
        panics::assert_none_here();
        answer
    }

    /// The victim allocates a block that it keeps.
    pub fn hoard(&self, len: usize, fill: u8) {
        let mut treasure = self.treasure.lock().expect("no panics");
        if let Ok(mut buf) = SharedBuf::zeroed(self.to_attacker(), len) {
            buf.as_mut_slice().fill(fill);
            treasure.push((buf, fill));
        }
        if treasure.len() > 12 {
            treasure.swap_remove(usize::from(fill) % 12);
        }
    }

    /// The victim's own blocks are unchanged, and no two overlap.
    pub fn assert_treasure(&self) {
        let treasure = self.treasure.lock().expect("no panics");
        let mut places: Vec<Range<*const u8>> = Vec::new();
        for (buf, fill) in treasure.iter() {
            assert!(buf.as_slice().iter().all(|byte| byte == fill), "the block was overwritten");
            let place = buf.as_slice().as_ptr_range();
            for other in &places {
                assert!(place.end <= other.start || other.end <= place.start, "allocated twice");
            }
            places.push(place);
        }
    }

    /// After the attack: all loans are released, honest calls succeed, and no block is missing.
    pub fn assert_restored(&self) {
        self.assert_treasure();
        self.treasure.lock().expect("no panics").clear();
        self.kept.lock().expect("no panics").clear();
        for side in [Side::Guest, Side::Host] {
            self.attacker.release_all(&self.pair, side);
        }
        self.honest();
        let (victim, attacker) = (self.to_attacker().arena_stats(), self.to_victim().arena_stats());
        assert_eq!((victim.used, victim.blocks), (0, 0), "the victim has lost blocks");
        assert_eq!((attacker.used, attacker.blocks), (0, 0), "the attacker has lost blocks");
        for peer in [self.to_attacker(), self.to_victim()] {
            let all = peer.arena_stats().capacity;
            drop(SharedBuf::with_capacity(peer, all).expect("all memory as one block"));
        }
        panics::assert_none_here();
    }

    /// Honest calls with correct answers.
    fn honest(&self) {
        let victim = EverythingClient::from(self.to_victim());
        let bytes = victim.bytes(&[1, 2, 3, 250]).expect("an honest call");
        assert_eq!(bytes.read_vec().expect("bytes"), [1, 2, 3, 250]);
        let point = Point { on: true, glyph: '字', colour: Colour::Blue, ..ZERO };
        assert_eq!(victim.alone_point(point), Ok(point));
        let spot = victim.spot(Shared::new(self.to_victim(), point).expect("room"));
        assert_eq!(spot.and_then(|spot| spot.read()), Ok(point));
        let shape = Shape::Circle { radius: 2.5, filled: true };
        assert_eq!(victim.small(Colour::Red, None::<Colour>, true, 'é', shape), Ok(Some(shape)));
        let rows = victim.rows(&ROWS[..]).expect("an honest call");
        assert_eq!(rows.read(), Ok(List::new(&ROWS)));
        let text = victim.maybe_text(Some("grüße")).expect("an honest call");
        assert_eq!(text.map(|text| text.read_string()), Some(Ok("grüße".into())));
    }

    /// A valid parameter, lent, for one of five functions with large ones: its signature and transport.
    pub fn template(&self, nth: u8) -> Option<(u64, Transport)> {
        let peer = self.to_victim();
        let mut out = peer.outgoing();
        let parcel = || -> Option<SharedParcel> {
            Some(SharedParcel {
                id: 4,
                body: SharedBuf::copy_from(peer, &[3; 130]).ok()?,
                label: Some(SharedStr::copy_from(peer, "a label ✓").ok()?),
                at: Point { on: true, ..ZERO },
            })
        };
        let spot = || Shared::new(peer, ZERO).ok();
        let template = match nth % 5 {
            0 => {
                let parcel: SharedParcel = parcel()?;
                let transport = parcel.into_transport(&mut out).ok()?;
                (ParamsEverythingParcel::FUNCTION.signature, transport)
            }
            1 => {
                let cargo = SharedCargo {
                    left: parcel()?,
                    right: Some(parcel()?),
                    numbers: SharedSlice::copy_from(peer, &[5, 6, 7]).ok()?,
                    shape: Some(Shape::Letter('q')),
                    spot: spot()?,
                    spots: SharedSlice::copy_from(peer, &[ZERO; 5]).ok()?,
                    flag: Some(true),
                    wide: 8,
                };
                let transport = cargo.into_transport(&mut out).ok()?;
                (ParamsEverythingCargo::FUNCTION.signature, transport)
            }
            2 => {
                let chat = SharedChat {
                    value: SharedStr::copy_from(peer, "hello").ok()?,
                    depth: u32::from(nth / 5),
                };
                let transport = chat.into_transport(&mut out).ok()?;
                (ParamsEverythingChat::FUNCTION.signature, transport)
            }
            3 => {
                let transport = SendAs::<ForeignList<Row<'_>>>::into_transport(&ROWS[..], &mut out);
                (ParamsEverythingRows::FUNCTION.signature, transport.ok()?)
            }
            _ => {
                let maybe = SharedMaybe {
                    bytes: Some(SharedBuf::copy_from(peer, &[9; 9]).ok()?),
                    spot: Some(spot()?),
                    number: Some(1),
                    parcel: Some(parcel()?),
                    chars: Some(SharedSlice::copy_from(peer, &['a', '字']).ok()?),
                };
                let transport = maybe.into_transport(&mut out).ok()?;
                (ParamsEverythingMaybe::FUNCTION.signature, transport)
            }
        };
        // The attacker never frees it, since it collects no marks by itself.
        std::mem::forget(out);
        Some(template)
    }

    /// Decodes an answer as an honest caller does, and releases it.
    pub fn take(&self, signature: u64, answer: Answer) {
        use vmffi::FfiType;
        let (t, from) = (answer.transport, incoming(self.to_victim()));
        if answer.status != 0 {
            return;
        }
        match signature {
            _ if signature == ParamsEverythingBytes::FUNCTION.signature => {
                ForeignBuf::from_transport(t, from).expect("a right answer");
            }
            _ if signature == ParamsEverythingText::FUNCTION.signature => {
                let text = ForeignStr::from_transport(t, from).expect("a right answer");
                text.read_string().expect("an honest victim");
            }
            _ if signature == ParamsEverythingNumbers::FUNCTION.signature => {
                ForeignSlice::<u64>::from_transport(t, from).expect("a right answer");
            }
            _ if signature == ParamsEverythingRows::FUNCTION.signature => {
                let rows = ForeignList::<Row<'_>>::from_transport(t, from).expect("a right answer");
                let rows = rows.read().expect("the victim's memory is its own");
                rows.iter().for_each(|row| row.sane());
            }
            _ if signature == ParamsEverythingSpot::FUNCTION.signature => {
                let spot = Foreign::<Point>::from_transport(t, from).expect("a right answer");
                spot.read().expect("an honest victim");
            }
            _ if signature == ParamsEverythingParcel::FUNCTION.signature
                || signature == ParamsEverythingCargo::FUNCTION.signature =>
            {
                let parcel = Parcel::from_transport(t, from).expect("a right answer");
                parcel.body.read_vec().expect("an honest victim");
            }
            _ if signature == ParamsEverythingAloneChar::FUNCTION.signature => {
                char::from_transport(t, from).expect("a right answer");
            }
            _ if signature == ParamsEverythingAlonePoint::FUNCTION.signature => {
                Point::from_transport(t, from).expect("a right answer");
            }
            _ if signature == ParamsEverythingAloneShape::FUNCTION.signature => {
                Shape::from_transport(t, from).expect("a right answer");
            }
            _ => {}
        }
    }

    /// One step of an attack.
    pub fn step(&self, op: &Op) {
        let layout = self.attacker.layout;
        let side = self.attacker.victim.other();
        match op {
            Op::Write { place, at, bytes } => {
                let (start, len) = self.attacker.places()[*place];
                self.attacker.write(start + at % len, bytes);
            }
            Op::Marks { own, loan } => {
                let victim = self.attacker.victim;
                self.attacker.fill_marks(if *own { side } else { victim }, *loan);
            }
            Op::Hoard { len, fill } => self.hoard(*len, *fill),
            Op::Call { seed, take } => {
                let mut random = Random(*seed);
                let (signature, t) = (random.signature(), random.transport(&layout, side));
                let answer = self.call(signature, t);
                if *take {
                    self.take(signature, answer);
                }
            }
            Op::Plant { seed, words, take } => {
                let mut random = Random(*seed);
                let (start, len) = layout.arena(side);
                let at = start + random.below(len / 64) * 64;
                for i in 0..*words {
                    let word = random.word(&layout, side);
                    self.attacker.write(at + 8 * i, &word.to_le_bytes());
                }
                let signature = random.signature();
                let answer = self.call(signature, Transport::word(pointer::join(at, 1)));
                if *take {
                    self.take(signature, answer);
                }
            }
            Op::Twist { nth, changes, seed, take } => {
                let Some((signature, transport)) = self.template(*nth) else { return };
                let mut random = Random(*seed);
                let at = pointer::offset(transport.primary);
                for change in changes {
                    let word = random.word(&layout, side);
                    let (at, len) = (at + u64::from(*change), 1 + random.below(8) as usize);
                    self.attacker.write(at, &word.to_le_bytes()[..len]);
                }
                let answer = self.call(signature, transport);
                assert!(!changes.is_empty() || matches!(answer.status, 0 | 69 | 1), "{answer:?}");
                if *take {
                    self.take(signature, answer);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
pub enum Op {
    /// Arbitrary bytes at an arbitrary offset that the attacker can write.
    Write { place: usize, at: u64, bytes: Vec<u8> },
    /// The same mark for all granules of the attacker's arena or of the victim's.
    Marks { own: bool, loan: u8 },
    /// The victim allocates a block.
    Hoard { len: usize, fill: u8 },
    /// A call with an arbitrary transport.
    Call { seed: u64, take: bool },
    /// A call with a parameter struct of arbitrary words.
    Plant { seed: u64, words: u64, take: bool },
    /// A call with a valid parameter struct in which some bytes were changed.
    Twist { nth: u8, changes: Vec<u8>, seed: u64, take: bool },
}

pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..64),
        (any::<u8>(), 1_usize..4096).prop_map(|(byte, len)| vec![byte; len]),
    ];
    let op = prop_oneof![
        3 => (0_usize..4, any::<u64>(), bytes)
            .prop_map(|(place, at, bytes)| Op::Write { place, at, bytes }),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(own, loan)| Op::Marks { own, loan }),
        1 => (1_usize..3000, any::<u8>()).prop_map(|(len, fill)| Op::Hoard { len, fill }),
        6 => (any::<u64>(), any::<bool>()).prop_map(|(seed, take)| Op::Call { seed, take }),
        4 => (any::<u64>(), 1_u64..40, any::<bool>())
            .prop_map(|(seed, words, take)| Op::Plant { seed, words, take }),
        5 => (any::<u8>(), prop::collection::vec(0_u8..250, 0..4), any::<u64>(), any::<bool>())
            .prop_map(|(nth, changes, seed, take)| Op::Twist { nth, changes, seed, take }),
    ];
    prop::collection::vec(op, 1..120)
}

/// The peer's view of an answer, as an honest caller has it.
fn incoming(peer: &Peer) -> Incoming<'_> {
    // SAFETY: each answer is decoded once; for forged ones, see `raw`.
    unsafe { peer.outgoing().incoming() }
}
