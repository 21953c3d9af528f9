//! One forged call at a time, against the host and against the guest, in one process.

use support::{forged::*, interface::*, liar::raw};
use vmffi::{
    CallError, ErrorKind, Failure, SharedBuf, SharedSlice, SharedStr,
    abi::{Answer, Side, Transport, pointer},
};

fn on_both_sides(test: impl Fn(&Case<'_>)) {
    for victim in [Side::Host, Side::Guest] {
        test(&Case::new(victim, None));
    }
}

/// ABI, Pointers P-1, P-2 and P-4, Checks C-3: a range lies entirely in the sender's arena, in 64
/// bits, without overflow.
#[test]
fn pointer_outside() {
    on_both_sides(pointers_outside);
}

/// ABI, Arenas and loans A-5, Checks C-5: a handle has a loan's number, since it could not be
/// released without one.
#[test]
fn pointer_without_a_loan() {
    on_both_sides(pointers_without_a_loan);
}

/// ABI, Pointers P-5, Checks C-4: a pointer has the alignment of the wire form behind it.
#[test]
fn pointer_misaligned() {
    on_both_sides(pointers_misaligned);
}

/// ABI, Parameter structs PS-3 and PS-6: the pointer of a parameter struct is validated like any other.
#[test]
fn parameter_struct_outside() {
    on_both_sides(parameter_structs_outside);
}

/// ABI, Transport T-3, Checks C-2: the secondary is a byte count, and 0 for all types without one.
#[test]
fn a_secondary_of_a_value_without_one() {
    on_both_sides(secondaries);
}

/// ABI, Types TY-3, TY-4 and TY-8, Checks C-6: a register holds a zero- or sign-extended scalar with a
/// valid bit pattern of its type.
#[test]
fn invalid_scalars() {
    on_both_sides(scalars);
}

/// ABI, Types TY-4, TY-8, TY-9 and TY-11, Parameter structs PS-5: the same in memory, where the error
/// names the field.
#[test]
fn invalid_fields() {
    on_both_sides(fields);
}

/// ABI, Types TY-10 and TY-11, Parameter structs PS-5: the tag of an `Option` is 0 or 1, and a null
/// pointer of a buffer has no byte count.
#[test]
fn invalid_options() {
    on_both_sides(options);
}

/// ABI, Types TY-14 to TY-16, Parameter structs PS-5: each element of an array and each field of a tuple is
/// validated separately, and a value that a converted type does not have is refused.
#[test]
fn invalid_elements() {
    on_both_sides(compounds);
}

/// ABI, Types TY-9, Parameter structs PS-5: a variant has a number that is declared, and each of its values is one; the
/// handles beside it are released.
#[test]
fn variants_that_are_none() {
    on_both_sides(variants);
}

/// ABI, Types TY-5, Checks C-7: a slice's byte count is a whole number of values.
#[test]
fn slice_of_a_value_and_a_half() {
    on_both_sides(slices);
}

/// ABI, Types TY-6, Checks C-7, Statuses S-3: text is validated when it is read, so the handler fails,
/// and the caller gets its error.
#[test]
fn invalid_text() {
    on_both_sides(texts);
}

/// ABI, Signatures SG-6 and SG-7, Checks C-1: functions that are not served are refused, reserved ones too.
#[test]
fn unknown_functions() {
    on_both_sides(functions);
}

/// ABI, Checks C-11, Release map M-5: a pointer cannot make the served side access its own memory, or release
/// the caller's memory twice.
#[test]
fn one_block_lent_twice() {
    on_both_sides(|case| {
        let own = SharedBuf::copy_from(case.to_attacker(), b"mine").expect("room");
        let both = case.lend_bytes(b"both");
        let parcel = FalseParcel { id: 1, body: both, label: both, at: POINT };
        let t = case.lend::<FalseParcel>(parcel);
        let answer = raw(case.to_victim(), ParamsEverythingParcel::FUNCTION.signature, t);
        assert_eq!(answer.status, 0);
        case.attacker.release_all(&case.pair, case.attacker.victim.other());
        assert_eq!(own.as_slice(), b"mine");
        drop(own);
        case.attacker.release_all(&case.pair, case.attacker.victim);
        assert_eq!(case.blocks(), (0, 0));
    });
}

/// ABI, Release map M-3: marks of every number from a peer that was lent nothing end
/// no loan.
#[test]
fn marks_for_memory_that_was_not_lent() {
    on_both_sides(|case| {
        let peer = case.to_attacker();
        let mut own: Vec<_> =
            (0..60_u8).map(|i| SharedBuf::copy_from(peer, &[i; 100]).expect("room")).collect();
        for loan in 0..=u8::MAX {
            case.attacker.fill_marks(case.attacker.victim, loan);
            let more = SharedBuf::copy_from(peer, &[0xee; 100]).expect("room");
            for (i, buf) in own.iter().enumerate() {
                assert_eq!(buf.as_slice(), [i as u8; 100], "after marks of {loan}");
                assert_ne!(buf.as_slice().as_ptr(), more.as_slice().as_ptr());
            }
            // The new block may reuse the place of another one.
            own[usize::from(loan) % 60] =
                SharedBuf::copy_from(peer, &[loan % 60; 100]).expect("room");
        }
        assert_eq!(peer.arena_stats().blocks, 60);
        own.clear();
        assert_eq!(case.blocks(), (0, 0));
    });
}

/// ABI, Statuses S-1 and S-3 to S-5, Checks C-10: results are validated like parameters.
#[test]
fn forged_answers() {
    on_both_sides(|case| {
        let guest = CallbackClient::from(case.to_attacker());
        let (attacker, victim) = (case.attacker.victim.other(), case.attacker.victim);
        let (start, len) = case.attacker.layout.arena(attacker);
        let say = |status: u64, transport: Transport| {
            *case.script.lock().expect("no panics") = Some(Answer { status, transport });
        };
        let check = |error: CallError, why: ErrorKind, side: Side, reached: bool| {
            assert_eq!((error.kind(), error.side(), error.reached()), (why, Some(side), reached));
            case.attacker.release_all(&case.pair, victim);
            assert_eq!(case.blocks(), (0, 0));
        };
        for word in [0xd800, 0x11_0000, 1 << 40] {
            say(0, Transport::word(word));
            let error = guest.glyph('a').expect_err("no char");
            check(error, ErrorKind::BadValue, victim, true);
        }
        for (offset, len) in [(0, 1), (start - 1, 1), (start + len, 1), (start, u64::MAX)] {
            say(0, words(pointer::join(offset, 9), len));
            let error = guest.fetch(1).expect_err("a bad pointer");
            check(error, ErrorKind::BadPointer, victim, true);
        }
        // An application error where none is declared, and one with an invalid number.
        say(1, Transport::word(5));
        check(guest.fetch(1).expect_err("no such"), ErrorKind::Protocol, victim, true);
        let parcel = || SharedParcel {
            id: 1,
            body: SharedBuf::copy_from(case.to_attacker(), b"body").expect("room"),
            label: None,
            at: ZERO,
        };
        say(1, Transport::word(6));
        match guest.judge(parcel()) {
            Err(Failure::Call(error)) => check(error, ErrorKind::BadValue, victim, true),
            other => panic!("{:?}", other.is_ok()),
        }
        for status in [64, 65, 16, 999, u64::MAX, 1 << 32] {
            say(status, Transport::EMPTY);
            check(guest.fetch(1).expect_err("no status"), ErrorKind::Protocol, attacker, true);
        }
        // "Not reached", though the peer keeps the loans: they end for the caller, without a mark.
        say(ErrorKind::BadPointer as u64, Transport::EMPTY);
        match guest.judge(parcel()) {
            Err(Failure::Call(error)) => {
                assert_eq!(case.blocks(), (0, 0));
                check(error, ErrorKind::BadPointer, attacker, false);
            }
            other => panic!("{:?}", other.is_ok()),
        }
        // "Reached": the loans are consumed, and the peer has to release them.
        say(ErrorKind::Refused as u64 | 64, Transport::EMPTY);
        assert!(guest.note("text", 1).is_err());
        assert_eq!(case.blocks().0, 1);
        let values = SharedSlice::copy_from(case.to_attacker(), &[1_u64]).expect("room");
        drop(values);
        let text = SharedStr::copy_from(case.to_attacker(), "x").expect("room");
        drop(text);
        assert_eq!(case.blocks().0, 1);
        case.attacker.release_all(&case.pair, victim);
        assert_eq!(case.blocks(), (0, 0));
    });
}
