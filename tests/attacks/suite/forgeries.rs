//! Calls that no honest guest makes: those of `support/src/forged.rs` over a real boundary, and
//! unknown signatures.

use vmffi::{
    CallError, ErrorKind,
    abi::{Answer, Side, Transport, signature},
};

use super::{
    Came, Case,
    connection::{Setup, Target, Told},
    forged::{self, ARENAS, Behind},
    interface::*,
    list::{List, region},
    region::Attacker,
};

/// A name, and the forged calls.
type Forgery = (&'static str, fn(&forged::Case<'_>));

/// Forgeries that need only a call and its answer.
const FORGERIES: &[Forgery] = &[
    ("pointers_outside", forged::pointers_outside),
    ("pointers_without_a_loan", forged::pointers_without_a_loan),
    ("pointers_misaligned", forged::pointers_misaligned),
    ("parameter_structs_outside", forged::parameter_structs_outside),
    ("secondaries_of_values_without_one", forged::secondaries),
    ("invalid_scalars", forged::scalars),
    ("invalid_fields", forged::fields),
    ("invalid_options", forged::options),
    ("invalid_elements", forged::compounds),
    ("invalid_variants", forged::variants),
    ("slices_of_a_value_and_a_half", forged::slices),
    ("invalid_texts", forged::texts),
    ("unknown_functions", forged::functions),
];

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = FORGERIES
        .iter()
        .map(|(name, forge)| {
            // The guest's arena has the size that it has there, so all offsets are the same.
            Case::new(name, move |target| over(target, *forge))
                .with(|setup| setup.arenas = (ARENAS.0, Setup::PLAIN.arenas.1))
        })
        .collect();
    cases.extend([
        Case::new("unknown_and_reserved_signatures", signatures),
        Case::new("the_contract_is_asked_for", contract),
        Case::new("signatures_of_another_interface", foreign),
        Case::new("forged_parameters_of_has", has),
        Case::new("an_invalid_second_handshake", second_handshake),
        Case::new("invalid_log_lines", logs),
    ]);
    cases
}

/// The guest of a real machine, as an attacker of `forged.rs`.
struct Real<'t>(&'t Target);

impl Behind for Real<'_> {
    fn call(&self, attacker: &Attacker, signature: u64, transport: Transport) -> Answer {
        let target = self.0;
        let (arena, len) = target.layout.arena(Side::Guest);
        assert_eq!((arena, len), attacker.layout.arena(Side::Guest));
        let (map, granules) = (target.layout.release_map(Side::Guest), len / 64);
        let bytes = |at: u64, len: u64| -> Vec<u8> {
            (at..at + len)
                .map(|at| attacker.byte(at).load(std::sync::atomic::Ordering::Acquire))
                .collect()
        };
        let before = List::new()
            .write(region(arena), &bytes(arena, len))
            .write(region(map), &bytes(map, granules));
        let answer = target.call(&before, signature, transport);
        // Copies the release map of the host's loans, so that the attacker sees what the host has released.
        let copy = List::new()
            .op(super::ops::Op::Copy { to: region(arena), from: region(map), len: granules })
            .returns(0, Transport { primary: target.lent(0), secondary: granules });
        let marks = target.told().bytes(copy.bytes()).unwrap().read_vec().unwrap();
        attacker.write(map, &marks);
        answer
    }

    fn refused(&self) -> Vec<CallError> {
        self.0.refused()
    }

    fn blocks(&self) -> usize {
        self.0.lost()
    }
}

fn over(target: &Target, forge: fn(&forged::Case<'_>)) -> Came {
    let real = Real(target);
    forge(&forged::Case::new(Side::Host, Some(&real)));
    Came::Lives("each is refused for its reason, with the field named".into())
}

/// A call that is refused with this error.
#[track_caller]
fn refused(target: &Target, before: &List, word: u64, transport: Transport, why: ErrorKind) {
    let answer = target.call(before, word, transport);
    assert_eq!(answer, Answer::status(why as u64), "signature {word:#x} with {transport:x?}");
    let told: Vec<_> =
        target.refused().iter().map(|error| (error.kind(), error.reached())).collect();
    assert_eq!(told, [(why, false)]);
}

fn signatures(target: &Target) -> Came {
    let known = ParamsEverythingText::FUNCTION.signature;
    let reserved = [0].into_iter().chain(6..=15);
    let none = [16, u64::MAX, known ^ 1, known ^ 1 << 63, known << 1, known.swap_bytes()];
    for word in reserved.chain(none) {
        for transport in [Transport::EMPTY, Transport { primary: word, secondary: u64::MAX }] {
            refused(target, &List::new(), word, transport, ErrorKind::UnknownFunction);
        }
    }
    Came::Lives("`UnknownFunction`".into())
}

/// Each answer takes memory of the host's arena, until the guest releases it or is reset.
fn contract(target: &Target) -> Came {
    for word in [1, u64::MAX] {
        for odd in [Transport::word(word), Transport { primary: 0, secondary: word }] {
            refused(target, &List::new(), signature::CONTRACT, odd, ErrorKind::BadValue);
        }
    }
    let mut given = 0;
    loop {
        let answer = target.call(&List::new(), signature::CONTRACT, Transport::EMPTY);
        if answer.status != 0 {
            break;
        }
        assert!(answer.transport.primary != 0 && answer.transport.secondary != 0);
        given += 1;
    }
    assert!(given != 0);
    Came::Lives(format!("{given} answers, then `OutOfMemory`"))
}

/// Functions that the host calls but does not serve.
fn foreign(target: &Target) -> Came {
    use vmffi::__private::dispatch::Interface;
    for declared in <dyn Told as Interface>::FUNCTIONS {
        let word = declared.function.signature;
        let transport = Transport { primary: target.lent(0), secondary: 8 };
        refused(target, &List::new(), word, transport, ErrorKind::UnknownFunction);
    }
    Came::Lives("`UnknownFunction`".into())
}

fn has(target: &Target) -> Came {
    let known = ParamsEverythingText::FUNCTION.signature;
    for (word, known) in
        [(known, 1), (known ^ 1, 0), (signature::HAS, 0), (signature::LOG, 0), (0, 0)]
    {
        let answer = target.call(&List::new(), signature::HAS, Transport::word(word));
        assert_eq!(answer, Answer { status: 0, transport: Transport::word(known) });
        let odd = Transport { primary: word, secondary: 1 };
        refused(target, &List::new(), signature::HAS, odd, ErrorKind::BadValue);
    }
    Came::Lives("answered, or `BadValue`".into())
}

/// Pointers to a buffer that is not, or not entirely, in the guest's arena.
pub fn outside(target: &Target) -> Vec<Transport> {
    let (start, len) = target.layout.arena(Side::Guest);
    let (host, _) = target.layout.arena(Side::Host);
    let outside = [
        (0, 4),
        (1, 4),
        (start - 1, 4),
        (start + len - 3, 4),
        (start + len, 1),
        (host, 4),
        (start, len + 1),
        (start, u64::MAX),
        (start + 8, u64::MAX - 7),
        (u64::MAX, 4),
        (1 << 63, 1),
        (target.layout.len(), 1),
    ];
    outside.map(|(primary, secondary)| Transport { primary, secondary }).into()
}

/// The handshake is over before the guest is ready: later contracts are ignored.
fn second_handshake(target: &Target) -> Came {
    for transport in outside(target) {
        refused(target, &List::new(), signature::HANDSHAKE, transport, ErrorKind::Refused);
    }
    let contract = Transport { primary: target.own(0), secondary: 2 };
    let before = List::new().write(region(target.own(0)), &[0, 0]);
    refused(target, &before, signature::HANDSHAKE, contract, ErrorKind::Refused);
    Came::Lives("`Refused`".into())
}

fn logs(target: &Target) -> Came {
    for transport in outside(target) {
        refused(target, &List::new(), signature::LOG, transport, ErrorKind::BadPointer);
    }
    let line = |bytes: &[u8]| {
        let before = List::new().write(region(target.own(0)), bytes);
        (before, Transport { primary: target.lent(0), secondary: bytes.len() as u64 })
    };
    for bytes in [
        &b""[..],
        b"\x01",
        b"\x00\x00text",
        b"\x06\x00text",
        b"\xff\x00",
        b"\x01\x03ab",
        b"\x01\xffname",
    ] {
        let (before, transport) = line(bytes);
        refused(target, &before, signature::LOG, transport, ErrorKind::BadValue);
    }
    // As long as the arena, and of any content.
    let (_, len) = target.layout.arena(Side::Guest);
    for byte in [1, 3, 5] {
        let before = List::new().fill(region(target.own(0)), len, byte);
        let all = Transport { primary: target.lent(0), secondary: len };
        assert_eq!(target.call(&before, signature::LOG, all), Answer::status(0));
    }
    Came::Lives("`BadPointer`, `BadValue`; one as long as the arena is cut".into())
}
