//! Forged calls, one at a time: a check names the status that the caller gets and the field that the served side names, and
//! that the served side releases all handles that it had accepted. `tests/hostile/forged.rs` sends the calls in one process,
//! and `tests/attacks` over real boundaries.

use std::sync::{Arc, Mutex};

use vmffi::{
    CallError, ErrorKind, Peer, SendAs, Shared,
    abi::{Answer, Function, Side, Transport, pointer, signature},
    loopback::Loopback,
};

use crate::{
    interface::*,
    liar::{Liar, raw},
    panics,
    region::{self, Attacker},
};

// The same bytes as in `interface`, as integers that take any bit pattern.
vmffi::ffi_interface! {
    #[derive(Clone, Copy)]
    pub struct FalseBuf { word: u64, len: u64 }

    #[derive(Clone, Copy)]
    pub struct FalsePoint { on: u8, x: i16, glyph: u32, y: f32, colour: u8, far: u64 }

    #[derive(Clone, Copy)]
    pub struct FalseParcel { id: u32, body: FalseBuf, label: FalseBuf, at: FalsePoint }

    #[derive(Clone, Copy)]
    pub struct FalseShape { tag: u16, glyph: u32, radius: f64, filled: u8 }

    #[derive(Clone, Copy)]
    pub struct FalseCircle { tag: u16, radius: f64, filled: u8 }

    #[derive(Clone, Copy)]
    pub struct FalseOption { tag: u32, value: u32 }

    #[derive(Clone, Copy)]
    pub struct FalseSmall { colour: u8, other: FalseByte, flag: u8, glyph: u32, shape: FalseCircle }

    #[derive(Clone, Copy)]
    pub struct FalseByte { tag: u32, value: u8 }

    #[derive(Clone, Copy)]
    pub struct FalseMaybe {
        bytes: FalseBuf, spot: u64, number: FalseWide, parcel: FalseSome, chars: FalseBuf
    }

    #[derive(Clone, Copy)]
    pub struct FalseWide { tag: u32, value: u64 }

    #[derive(Clone, Copy)]
    pub struct FalseEntry { colour: u8, text: FalseBuf }

    #[derive(Clone, Copy)]
    pub struct FalseBundle {
        first: FalseEntry, second: FalseEntry, wait: FalseTime, flags: FalseFlags
    }

    #[derive(Clone, Copy)]
    pub struct FalseTime { seconds: u64, nanos: u32 }

    #[derive(Clone, Copy)]
    pub struct FalseFlags { a: u8, b: u8, c: u8 }

    #[derive(Clone, Copy)]
    pub struct FalseMark { tag: u8, a: u8, b: u8, c: u32, d: FalseByte }

    #[derive(Clone, Copy)]
    pub struct FalseBeside { mark: FalseMark, bytes: FalseBuf }

    #[derive(Clone, Copy)]
    pub struct FalseDraw { mark: FalseMark, name: FalseBuf, beside: FalseBeside }

    #[derive(Clone, Copy)]
    pub struct FalseSome { tag: u32, value: FalseParcel }
}

pub const POINT: FalsePoint =
    FalsePoint { on: 1, x: -1, glyph: 'x' as u32, y: 0.5, colour: 2, far: 9 };

/// A served side behind a real boundary.
pub trait Behind {
    /// Copies the attacker's arena there, and makes the call; returns the answer, and copies the marks back.
    fn call(&self, attacker: &Attacker, signature: u64, transport: Transport) -> Answer;
    /// The errors of calls that it has refused since the last call of this method.
    fn refused(&self) -> Vec<CallError>;
    /// The number of its own blocks in use.
    fn blocks(&self) -> usize;
}

/// A served side, the peer that calls it, and the errors of refused calls.
pub struct Case<'b> {
    pub pair: Loopback,
    pub attacker: Attacker,
    refused: Arc<Mutex<Vec<CallError>>>,
    /// The attacker's next answer, if it is set.
    pub script: Arc<Mutex<Option<Answer>>>,
    /// If it is set, the pair is only the place in which forgeries are made.
    behind: Option<&'b dyn Behind>,
}

/// The sizes of the arenas of guest and host.
pub const ARENAS: (u64, u64) = (16 << 10, 16 << 10);

impl<'b> Case<'b> {
    pub fn new(victim: Side, behind: Option<&'b dyn Behind>) -> Self {
        panics::count_here();
        let arenas = ARENAS;
        let layout = vmffi::RegionLayout::new(arenas.0, arenas.1).expect("sizes");
        let liar = Liar::new(layout, victim.other(), 0);
        let script = liar.script.clone();
        let refused: Arc<Mutex<Vec<CallError>>> = Arc::default();
        let seen = refused.clone();
        let observe = move |error: &CallError| seen.lock().expect("no panics").push(error.clone());
        let (pair, attacker) = match victim {
            Side::Host => region::pair(victim, arenas, observe, liar, Server::default()),
            Side::Guest => region::pair(victim, arenas, observe, Server::default(), liar),
        };
        Self { pair, attacker, refused, script, behind }
    }

    pub fn to_victim(&self) -> &Peer {
        self.attacker.to_victim(&self.pair)
    }

    pub fn to_attacker(&self) -> &Peer {
        self.attacker.to_attacker(&self.pair)
    }

    fn call(&self, signature: u64, transport: Transport) -> Answer {
        match self.behind {
            None => raw(self.to_victim(), signature, transport),
            Some(behind) => behind.call(&self.attacker, signature, transport),
        }
    }

    fn refused(&self) -> Vec<CallError> {
        match self.behind {
            None => std::mem::take(&mut *self.refused.lock().expect("no panics")),
            Some(behind) => behind.refused(),
        }
    }

    /// The victim's and the attacker's blocks in use.
    pub fn blocks(&self) -> (usize, usize) {
        let of_pair = || self.to_attacker().arena_stats().blocks;
        let victims = self.behind.map_or_else(of_pair, Behind::blocks);
        (victims, self.to_victim().arena_stats().blocks)
    }

    /// The call is refused for a reason, with the field named, before the handler is reached. All but `left` of the
    /// attacker's loans are released, and the victim has no block in use.
    fn refuses(
        &self,
        f: &'static Function,
        t: Transport,
        why: ErrorKind,
        field: &str,
        left: usize,
    ) {
        let name = format!("{f} with {t:x?} on the {}", self.attacker.victim);
        let answer = self.call(f.signature, t);
        assert_eq!(answer, Answer::status(why as u64), "{name}");
        let refused = self.refused();
        let [error] = &refused[..] else { panic!("{name}: reported {refused:?}") };
        assert_eq!((error.kind(), error.field().unwrap_or("")), (why, field), "{name}");
        assert_eq!(error.function().map(|f| f.name), Some(f.name), "{name}");
        assert_eq!(error.side(), Some(self.attacker.victim), "{name}");
        assert!(!error.reached(), "{name}");
        let (victims, attackers) = self.blocks();
        assert_eq!((victims, attackers), (0, left), "{name}: blocks in use");
        panics::assert_none_here();
        // For the next forgery.
        self.attacker.release_all(&self.pair, self.attacker.victim.other());
    }

    /// Lends a wire form.
    pub fn lend<T: vmffi::FfiType>(&self, value: impl SendAs<T>) -> Transport {
        let mut out = self.to_victim().outgoing();
        let transport = value.into_transport(&mut out).expect("room");
        // This peer collects no marks by itself.
        std::mem::forget(out);
        transport
    }

    pub fn lend_bytes(&self, bytes: &[u8]) -> FalseBuf {
        let t = self.lend::<vmffi::ForeignBuf>(bytes);
        FalseBuf { word: t.primary, len: t.secondary }
    }
}

pub fn words(primary: u64, secondary: u64) -> Transport {
    Transport { primary, secondary }
}

pub fn pointers_outside(case: &Case<'_>) {
    let layout = case.attacker.layout;
    let (start, len) = layout.arena(case.attacker.victim.other());
    let (own, _) = layout.arena(case.attacker.victim);
    let (maps, end) = (layout.release_map(Side::Host), start + len);
    let forged = [
        (0, 1),
        (0, u64::MAX),
        (start - 1, 1),
        (start - 1, 2),
        (end, 1),
        (end - 1, 2),
        (end - 8, 9),
        (start, len + 1),
        (start + 64, len),
        (start + 64, u64::MAX - 63),
        (start + 64, u64::MAX - start - 63),
        (start, u64::MAX),
        (start, 1 << 63),
        (start, 1 << 32 | 1),
        (own, 64),
        (maps, 64),
        (8, 8),
        (layout.len(), 1),
        (pointer::OFFSET, 1),
        (u64::MAX >> 8, 1),
        (u64::MAX >> 8, u64::MAX),
        (start | 1 << 48, 1),
        (start | 1 << 55, 1),
    ];
    for (offset, len) in forged {
        let t = words(pointer::join(offset, 1), len);
        case.refuses(ParamsEverythingBytes::FUNCTION, t, ErrorKind::BadPointer, "value", 0);
        case.refuses(ParamsEverythingText::FUNCTION, t, ErrorKind::BadPointer, "value", 0);
        case.refuses(ParamsEverythingMaybeText::FUNCTION, t, ErrorKind::BadPointer, "value", 0);
        // The same in a parameter struct; the handles beside it are released.
        let (body, label) = (FalseBuf { word: t.primary, len }, case.lend_bytes(b"label"));
        let parcel = case.lend::<FalseParcel>(FalseParcel { id: 1, body, label, at: POINT });
        case.refuses(ParamsEverythingParcel::FUNCTION, parcel, ErrorKind::BadPointer, "body", 0);
    }
    // The last byte, and the whole arena, are valid.
    for (offset, len) in [(end - 1, 1), (start, len)] {
        let t = words(pointer::join(offset, 1), len);
        let answer = case.call(ParamsEverythingKeep::FUNCTION.signature, t);
        assert_eq!(answer.status, 0);
    }
}

pub fn pointers_without_a_loan(case: &Case<'_>) {
    let buf = case.lend_bytes(b"0123456789abcdef0123456789abcdef");
    let offset = pointer::offset(buf.word);
    let f = ParamsEverythingBytes::FUNCTION;
    case.refuses(f, words(offset, buf.len), ErrorKind::BadPointer, "value", 1);
    let f = ParamsEverythingSpot::FUNCTION;
    case.refuses(f, words(offset, 0), ErrorKind::BadPointer, "value", 0);
}

pub fn pointers_misaligned(case: &Case<'_>) {
    let (start, _) = case.attacker.layout.arena(case.attacker.victim.other());
    for off in [1, 2, 4, 7] {
        let t = words(pointer::join(start + off, 1), 0);
        case.refuses(ParamsEverythingSpot::FUNCTION, t, ErrorKind::BadPointer, "value", 0);
        case.refuses(ParamsEverythingAlonePoint::FUNCTION, t, ErrorKind::BadPointer, "value", 0);
        case.refuses(ParamsEverythingMaybe::FUNCTION, t, ErrorKind::BadPointer, "", 0);
        let t = words(t.primary, 16);
        case.refuses(ParamsEverythingNumbers::FUNCTION, t, ErrorKind::BadPointer, "value", 0);
    }
    let t = words(pointer::join(start + 8, 1), 0);
    case.refuses(ParamsEverythingAloneU128::FUNCTION, t, ErrorKind::BadPointer, "value", 0);
}

pub fn parameter_structs_outside(case: &Case<'_>) {
    let layout = case.attacker.layout;
    let (start, len) = layout.arena(case.attacker.victim.other());
    let size = size_of::<ParamsEverythingMaybe>() as u64;
    for offset in [0, start - 8, start + len - size + 8, start + len, u64::MAX >> 8, 1 << 52] {
        for loan in [0, 1] {
            let t = words(pointer::join(offset, loan), 0);
            case.refuses(ParamsEverythingMaybe::FUNCTION, t, ErrorKind::BadPointer, "", 0);
            case.refuses(ParamsEverythingCargo::FUNCTION, t, ErrorKind::BadPointer, "value", 0);
        }
    }
}

pub fn secondaries(case: &Case<'_>) {
    for junk in [1, 1 << 32, 1 << 63, u64::MAX] {
        let at = |t: Transport| words(t.primary, junk);
        let bad = ErrorKind::BadValue;
        case.refuses(ParamsEverythingNothing::FUNCTION, words(0, junk), bad, "", 0);
        case.refuses(ParamsEverythingAloneU16::FUNCTION, words(7, junk), bad, "value", 0);
        case.refuses(ParamsEverythingAloneColour::FUNCTION, words(1, junk), bad, "value", 0);
        case.refuses(ParamsEverythingAloneChar::FUNCTION, words(65, junk), bad, "value", 0);
        let spot = at(case.lend(Shared::new(case.to_victim(), ZERO).expect("room")));
        case.refuses(ParamsEverythingSpot::FUNCTION, spot, bad, "value", 1);
        let point = at(case.lend::<Point>(ZERO));
        case.refuses(ParamsEverythingAlonePoint::FUNCTION, point, bad, "value", 1);
    }
    case.refuses(ParamsEverythingNothing::FUNCTION, words(1, 0), ErrorKind::BadValue, "", 0);
}

pub fn scalars(case: &Case<'_>) {
    let refuse = |f: &'static Function, words: &[u64]| {
        for word in words {
            case.refuses(f, Transport::word(*word), ErrorKind::BadValue, "value", 0);
        }
    };
    refuse(ParamsEverythingAloneBool::FUNCTION, &[2, 255, 256, 257, 1 << 63, u64::MAX]);
    refuse(
        ParamsEverythingAloneChar::FUNCTION,
        &[0xd800, 0xdfff, 0x11_0000, u64::from(u32::MAX), 1 << 32 | 65, u64::MAX],
    );
    refuse(
        ParamsEverythingAloneI8::FUNCTION,
        &[0x80, 0xff, 0xff80, 0xffff_ff80, 0x7fff_ffff_ffff_ff80, u64::MAX << 8],
    );
    refuse(ParamsEverythingAloneU16::FUNCTION, &[1 << 16, 1 << 63, u64::MAX, 0xffff_0001]);
    refuse(ParamsEverythingAloneF32::FUNCTION, &[1 << 32, u64::MAX]);
    refuse(ParamsEverythingAloneColour::FUNCTION, &[0, 3, 199, 201, 255, 256 | 1, u64::MAX]);
    let echo = |f: &'static Function, word: u64| {
        let t = Transport::word(word);
        assert_eq!(case.call(f.signature, t), Answer { status: 0, transport: t });
    };
    echo(ParamsEverythingAloneI8::FUNCTION, u64::MAX << 7);
    echo(ParamsEverythingAloneU16::FUNCTION, 0xffff);
    echo(ParamsEverythingAloneF32::FUNCTION, 0xffff_ffff);
    echo(ParamsEverythingAloneChar::FUNCTION, 0x10_ffff);
}

pub fn fields(case: &Case<'_>) {
    let points = [
        ("on", FalsePoint { on: 2, ..POINT }),
        ("glyph", FalsePoint { glyph: 0xdc00, ..POINT }),
        ("glyph", FalsePoint { glyph: 0x11_0000, ..POINT }),
        ("colour", FalsePoint { colour: 0, ..POINT }),
        ("on", FalsePoint { on: 128, colour: 9, ..POINT }),
    ];
    for (field, at) in points {
        let t = case.lend::<FalsePoint>(at);
        case.refuses(ParamsEverythingAlonePoint::FUNCTION, t, ErrorKind::BadValue, field, 0);
        // Nested more deeply, after two valid handles.
        let (body, label) = (case.lend_bytes(&[1; 200]), case.lend_bytes(b"label"));
        let t = case.lend::<FalseParcel>(FalseParcel { id: 1, body, label, at });
        case.refuses(ParamsEverythingParcel::FUNCTION, t, ErrorKind::BadValue, field, 0);
    }
    let good = FalseCircle { tag: 7, radius: 1.5, filled: 1 };
    let small = FalseSmall {
        colour: 1,
        other: FalseByte { tag: 0, value: 77 },
        flag: 1,
        glyph: 65,
        shape: good,
    };
    let smalls = [
        ("colour", FalseSmall { colour: 4, ..small }),
        ("other", FalseSmall { other: FalseByte { tag: 2, value: 1 }, ..small }),
        ("other", FalseSmall { other: FalseByte { tag: 1, value: 77 }, ..small }),
        ("other", FalseSmall { other: FalseByte { tag: 1 << 31, value: 1 }, ..small }),
        ("flag", FalseSmall { flag: 3, ..small }),
        ("glyph", FalseSmall { glyph: u32::MAX, ..small }),
        ("shape", FalseSmall { shape: FalseCircle { tag: 8, ..good }, ..small }),
        ("filled", FalseSmall { shape: FalseCircle { filled: 2, ..good }, ..small }),
    ];
    assert_eq!(size_of::<FalseSmall>(), size_of::<ParamsEverythingSmall>());
    for (field, small) in smalls {
        let t = case.lend::<FalseSmall>(small);
        case.refuses(ParamsEverythingSmall::FUNCTION, t, ErrorKind::BadValue, field, 0);
    }
    let letter = FalseShape { tag: 9, glyph: 0xd800, radius: 0.0, filled: 0 };
    let t = case.lend::<FalseShape>(letter);
    case.refuses(ParamsEverythingAloneShape::FUNCTION, t, ErrorKind::BadValue, "value", 0);
}

pub fn options(case: &Case<'_>) {
    for tag in [2, 256, 1 << 16, u32::MAX] {
        let t = case.lend::<FalseOption>(FalseOption { tag, value: 5 });
        case.refuses(ParamsEverythingAloneMaybe::FUNCTION, t, ErrorKind::BadValue, "value", 0);
    }
    let f = ParamsEverythingMaybeText::FUNCTION;
    case.refuses(f, words(0, 5), ErrorKind::BadValue, "value", 0);
    let label = FalseBuf { word: 0, len: 5 };
    let parcel = FalseParcel { id: 1, body: case.lend_bytes(b"body"), label, at: POINT };
    let t = case.lend::<FalseParcel>(parcel);
    case.refuses(ParamsEverythingParcel::FUNCTION, t, ErrorKind::BadValue, "label", 0);
    // The last of five is invalid: the four before it are released.
    let maybe = FalseMaybe {
        bytes: case.lend_bytes(&[5; 100]),
        spot: case.lend(Shared::new(case.to_victim(), ZERO).expect("room")).primary,
        number: FalseWide { tag: 1, value: 5 },
        parcel: FalseSome {
            tag: 1,
            value: FalseParcel {
                id: 0,
                body: case.lend_bytes(&[6; 70]),
                label: case.lend_bytes(b"seven"),
                at: POINT,
            },
        },
        chars: FalseBuf { word: 0, len: 8 },
    };
    assert_eq!(size_of::<FalseMaybe>(), size_of::<ParamsEverythingMaybe>());
    let t = case.lend::<FalseMaybe>(maybe);
    case.refuses(ParamsEverythingMaybe::FUNCTION, t, ErrorKind::BadValue, "chars", 0);
}

pub fn compounds(case: &Case<'_>) {
    let f = ParamsEverythingBundle::FUNCTION;
    assert_eq!(size_of::<FalseBundle>(), size_of::<ParamsEverythingBundle>());
    let good = || FalseBundle {
        first: FalseEntry { colour: 1, text: case.lend_bytes(&[b'a'; 70]) },
        second: FalseEntry { colour: 200, text: case.lend_bytes(b"other") },
        wait: FalseTime { seconds: u64::MAX, nanos: 999_999_999 },
        flags: FalseFlags { a: 0, b: 1, c: 0 },
    };
    let answer = case.call(f.signature, case.lend::<FalseBundle>(good()));
    assert_eq!(answer, Answer { status: 0, transport: Transport::word(75) });
    assert_eq!(case.blocks(), (0, 0));
    let refuses = |why, field, change: &dyn Fn(&mut FalseBundle)| {
        let mut bundle = good();
        change(&mut bundle);
        // A text with an invalid handle is not released.
        case.refuses(f, case.lend::<FalseBundle>(bundle), why, field, 0);
    };
    // All elements and fields beside the invalid one are released, before it and after it.
    refuses(ErrorKind::BadValue, "0", &|bundle| bundle.first.colour = 3);
    refuses(ErrorKind::BadValue, "0", &|bundle| bundle.second.colour = 0);
    for nanos in [1_000_000_000, u32::MAX] {
        refuses(ErrorKind::BadValue, "wait", &|bundle| bundle.wait.nanos = nanos);
    }
    refuses(ErrorKind::BadValue, "flags", &|bundle| bundle.flags.c = 2);
    refuses(ErrorKind::BadValue, "flags", &|bundle| bundle.flags.a = 255);
    // Of several errors, the first is reported.
    refuses(ErrorKind::BadValue, "0", &|bundle| {
        (bundle.second.colour, bundle.wait.nanos, bundle.flags.b) = (9, u32::MAX, 9);
    });
    let mut bundle = good();
    let word = std::mem::replace(&mut bundle.second.text.word, pointer::OFFSET);
    case.refuses(f, case.lend::<FalseBundle>(bundle), ErrorKind::BadPointer, "1", 1);
    assert_ne!(pointer::loan(word), 0);
}

pub fn variants(case: &Case<'_>) {
    let f = ParamsDrawingDraw::FUNCTION;
    assert_eq!(size_of::<FalseDraw>(), size_of::<ParamsDrawingDraw>());
    let none = FalseByte { tag: 0, value: 0 };
    let spot = FalseMark { tag: 3, a: 255, b: 1, c: 'x' as u32, d: none };
    let line = FalseMark { tag: 9, a: 200, b: 9, c: u32::MAX, d: FalseByte { tag: 1, value: 255 } };
    let good = || FalseDraw {
        mark: spot,
        name: case.lend_bytes(&[b'a'; 70]),
        beside: FalseBeside { mark: line, bytes: case.lend_bytes(b"other") },
    };
    let accepts = |change: &dyn Fn(&mut FalseDraw)| {
        let mut draw = good();
        change(&mut draw);
        let answer = case.call(f.signature, case.lend::<FalseDraw>(draw));
        assert_eq!(answer, Answer { status: 0, transport: Transport::word(75) });
        assert_eq!(case.blocks(), (0, 0));
    };
    accepts(&|_| {});
    // The bytes of other variants are not looked at.
    accepts(&|draw| draw.mark = FalseMark { tag: 0, a: 3, b: 2, c: u32::MAX, d: none });
    accepts(&|draw| draw.mark.d.tag = 2);
    let refuses = |field, change: &dyn Fn(&mut FalseDraw)| {
        let mut draw = good();
        change(&mut draw);
        // Both handles are released.
        case.refuses(f, case.lend::<FalseDraw>(draw), ErrorKind::BadValue, field, 0);
    };
    for tag in [1, 2, 4, 8, 10, 255] {
        refuses("mark", &|draw| draw.mark.tag = tag);
        refuses("0", &|draw| draw.beside.mark.tag = tag);
    }
    refuses("mark", &|draw| draw.mark.b = 2);
    refuses("mark", &|draw| draw.mark.c = 0xd800);
    refuses("mark", &|draw| (draw.mark.tag, draw.mark.a) = (9, 3));
    refuses("0", &|draw| draw.beside.mark.a = 0);
    refuses("0", &|draw| draw.beside.mark.d.tag = 2);
    // Of several, the first is told.
    refuses("mark", &|draw| (draw.mark.b, draw.mark.c, draw.beside.mark.tag) = (7, u32::MAX, 7));
}

pub fn slices(case: &Case<'_>) {
    for len in [1, 7, 9, 12, 15] {
        let buf = case.lend_bytes(&[0; 16]);
        let t = words(buf.word, len);
        case.refuses(ParamsEverythingNumbers::FUNCTION, t, ErrorKind::BadValue, "value", 0);
    }
}

pub fn texts(case: &Case<'_>) {
    let texts: [&[u8]; 6] = [
        b"\xff",
        b"ok\x80",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
        b"cut off \xe5\xad",
    ];
    for text in texts {
        let f = ParamsEverythingText::FUNCTION;
        let buf = case.lend_bytes(text);
        let answer = case.call(f.signature, words(buf.word, buf.len));
        assert_eq!(answer, Answer::status(ErrorKind::BadValue as u64 | 64));
        let refused = case.refused();
        assert!(
            matches!(&refused[..], [error] if error.reached() && error.kind() == ErrorKind::BadValue)
        );
        assert_eq!(case.blocks(), (0, 0));
    }
}

pub fn functions(case: &Case<'_>) {
    for word in [0, 6, 15, 16, u64::MAX, ParamsEverythingText::FUNCTION.signature ^ 1] {
        let answer = case.call(word, words(word, word));
        assert_eq!(answer, Answer::status(ErrorKind::UnknownFunction as u64));
    }
    for odd in [Transport::word(1), words(0, 1), words(u64::MAX, u64::MAX)] {
        let answer = case.call(signature::CONTRACT, odd);
        assert_eq!(answer, Answer::status(ErrorKind::BadValue as u64));
    }
    for word in [0, 1, u64::MAX] {
        let answer = case.call(signature::HAS, Transport::word(word));
        assert_eq!(answer, Answer { status: 0, transport: Transport::EMPTY });
        // The parameter of `HAS` is a scalar, so it has no byte count.
        let answer = case.call(signature::HAS, words(word, 1));
        assert_eq!(answer, Answer::status(ErrorKind::BadValue as u64));
    }
}
