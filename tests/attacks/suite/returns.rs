//! Forged results of upcalls: values of other types, invalid statuses, handles to invalid addresses.

use vmffi::{
    CallError, ErrorKind, Failure,
    abi::{Side, Transport, pointer},
};

use super::{
    Came, Case,
    connection::Target,
    forged::words,
    forgeries::outside,
    list::{List, region},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a_result_of_a_function_without_one", nothing),
        Case::new("invalid_scalars_as_results", scalars),
        Case::new("handles_as_results_outside_of_the_arena", handles),
        Case::new("handles_as_results_without_a_loan", without_loan),
        Case::new("an_invalid_text_as_result", text),
        Case::new("an_invalid_struct_as_result", structs),
        Case::new("invalid_statuses", statuses),
        Case::new("every_status", every_status),
        Case::new("an_invalid_application_error", app_error),
        Case::new("a_result_for_a_call_that_was_not_reached", unreached),
        Case::new("a_result_that_changes_while_it_is_read", changes),
    ]
}

fn back(primary: u64, secondary: u64) -> List {
    List::new().returns(0, words(primary, secondary))
}

/// The call has failed on the host's side, after the guest has served it.
#[track_caller]
fn refused<T>(result: Result<T, CallError>, why: ErrorKind) {
    let Err(error) = result else { panic!("the result was accepted") };
    assert_eq!((error.kind(), error.reached(), error.side()), (why, true, Some(Side::Host)));
}

fn nothing(target: &Target) -> Came {
    for (primary, secondary) in [(1, 0), (0, 1), (target.lent(0), 8), (u64::MAX, u64::MAX)] {
        refused(target.told().nothing(back(primary, secondary).bytes()), ErrorKind::BadValue);
    }
    Came::Lives("`BadValue`".into())
}

fn scalars(target: &Target) -> Came {
    let told = target.told();
    for word in [2, 256, 1 << 63, u64::MAX] {
        refused(told.flag(back(word, 0).bytes()), ErrorKind::BadValue);
    }
    for word in [0xd800, 0xdfff, 0x11_0000, 1 << 32 | 65, u64::MAX] {
        refused(told.glyph(back(word, 0).bytes()), ErrorKind::BadValue);
    }
    for word in [0x80, 0xff, 0xff80, 0xffff_ff80, u64::MAX << 8] {
        refused(told.narrow(back(word, 0).bytes()), ErrorKind::BadValue);
    }
    for word in [0, 3, 201, 257, u64::MAX] {
        refused(told.colour(back(word, 0).bytes()), ErrorKind::BadValue);
    }
    // A byte count in a result that has none.
    for secondary in [1, 1 << 32, u64::MAX] {
        refused(told.does(back(1, secondary).bytes()), ErrorKind::BadValue);
        refused(told.flag(back(1, secondary).bytes()), ErrorKind::BadValue);
    }
    assert_eq!(told.narrow(back(u64::MAX, 0).bytes()), Ok(-1));
    Came::Lives("`BadValue`".into())
}

fn handles(target: &Target) -> Came {
    let told = target.told();
    for transport in outside(target) {
        let list = List::new().returns(0, words(transport.primary | 1 << 56, transport.secondary));
        refused(told.bytes(list.bytes()), ErrorKind::BadPointer);
        refused(told.text(list.bytes()), ErrorKind::BadPointer);
        refused(told.maybe(list.bytes()), ErrorKind::BadPointer);
        let (start, len) = target.layout.arena(Side::Guest);
        if !(start..start + len - 24).contains(&transport.primary) {
            refused(told.point(back(transport.primary, 0).bytes()), ErrorKind::BadPointer);
        }
    }
    refused(told.maybe(back(0, 1).bytes()), ErrorKind::BadValue);
    for len in [1, 7, 9, 4095] {
        refused(told.numbers(back(target.lent(0), len).bytes()), ErrorKind::BadValue);
    }
    refused(told.numbers(back(target.lent(4), 8).bytes()), ErrorKind::BadPointer);
    Came::Lives("`BadPointer`, `BadValue`".into())
}

fn without_loan(target: &Target) -> Came {
    refused(target.told().bytes(back(target.own(0), 8).bytes()), ErrorKind::BadPointer);
    refused(target.told().text(back(target.own(64), 1).bytes()), ErrorKind::BadPointer);
    Came::Lives("`BadPointer`".into())
}

fn text(target: &Target) -> Came {
    for bytes in [&b"\xff"[..], b"ok\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"] {
        let list = List::new()
            .write(region(target.own(0)), bytes)
            .returns(0, words(target.lent(0), bytes.len() as u64));
        let text = target.told().text(list.bytes()).unwrap();
        assert_eq!(text.read_string().unwrap_err().kind(), ErrorKind::BadValue);
    }
    Came::Lives("`BadValue` when it is read".into())
}

/// A `Point`: `on` at 0, `x` at 2, `glyph` at 4, `y` at 8, `colour` at 12, `far` at 16.
fn structs(target: &Target) -> Came {
    let point = |change: &[(usize, &[u8])]| {
        let mut bytes = vec![0; 24];
        bytes[12] = 2;
        for (at, with) in change {
            bytes[*at..at + with.len()].copy_from_slice(with);
        }
        List::new().write(region(target.own(0)), &bytes).returns(0, words(target.lent(0), 0))
    };
    let good = target.told().point(point(&[(0, &[1]), (4, b"x")]).bytes()).unwrap();
    assert_eq!((good.on, good.glyph), (true, 'x'));
    for change in [(0, &[2_u8][..]), (4, &[0, 0xd8]), (4, &[0xff; 4]), (12, &[0]), (12, &[7])] {
        refused(target.told().point(point(&[change]).bytes()), ErrorKind::BadValue);
    }
    // Pointers to a block across the end of the arena, and to one that is not aligned.
    let (start, len) = target.layout.arena(Side::Guest);
    for offset in [start + len - 16, start + len - 8, start + 1, start + 4] {
        let list = back(pointer::join(offset, 1), 0);
        refused(target.told().point(list.bytes()), ErrorKind::BadPointer);
    }
    Came::Lives("`BadValue`, `BadPointer`".into())
}

/// ABI, Statuses S-5.
fn statuses(target: &Target) -> Came {
    for status in [16, 63, 64, 65, 80, 127, 128, 128 + 3, 1 << 32, 1 << 63, u64::MAX] {
        let list = List::new().returns(status, words(5, 5));
        let error = target.told().does(list.bytes()).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::Protocol, true), "{status:#x}");
        assert_eq!(error.side(), Some(Side::Guest));
    }
    Came::Lives("`Protocol` for that call; the guest continues".into())
}

/// A guest may claim that it has died, was stopped, or was not reached: only that call fails.
fn every_status(target: &Target) -> Came {
    for status in 2..=15 {
        for reached in [false, true] {
            let list = List::new().returns(status | u64::from(reached) << 6, words(5, u64::MAX));
            let error = target.told().does(list.bytes()).unwrap_err();
            assert_eq!((error.kind() as u64, error.reached()), (status, reached));
            assert_eq!(target.end(), None);
        }
    }
    Came::Lives("that status for that call; the guest continues".into())
}

/// ABI, Statuses S-1: status 1 is for functions that declare an error.
fn app_error(target: &Target) -> Came {
    let fails = |word: u64| {
        let list = List::new().returns(1, Transport::word(word));
        target.told().fails(list.bytes()).unwrap_err()
    };
    for word in [0, 1, 6, 0xffff_ffff, 1 << 32 | 5, 1 << 63] {
        let Failure::Call(error) = fails(word) else { panic!("an undeclared error") };
        assert_eq!((error.kind(), error.reached()), (ErrorKind::BadValue, true), "{word:#x}");
    }
    assert!(matches!(fails(5), Failure::App(_)) && matches!(fails(u64::MAX), Failure::App(_)));
    let error = target.told().does(List::new().returns(1, Transport::word(5)).bytes()).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Protocol, true));
    Came::Lives("`BadValue`, or `Protocol` where no error is declared".into())
}

/// The guest claims that it was not reached, but keeps the loan, and marks it later: by then another
/// loan is there.
fn unreached(target: &Target) -> Came {
    for _ in 0..50 {
        let list = List::new().hold().returns(ErrorKind::Busy as u64, Transport::EMPTY);
        let error = target.told().does(list.bytes()).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::Busy, false));
        assert_eq!(target.lost(), 0, "the loan has ended");
    }
    Came::Lives("`Busy`; what was lent is the host's again at once".into())
}

/// The guest returns a buffer, and changes it in its next call, while the host still has the handle.
fn changes(target: &Target) -> Came {
    let list =
        List::new().write(region(target.own(0)), b"first").returns(0, words(target.lent(0), 5));
    let text = target.told().text(list.bytes()).unwrap();
    assert_eq!(text.read_string().as_deref(), Ok("first"));
    let copy = text.read_string().unwrap();
    target.does(&List::new().write(region(target.own(0)), b"\xff\xfe\xfd"));
    assert_eq!(
        text.read_string().unwrap_err().kind(),
        ErrorKind::BadValue,
        "each reading is validated"
    );
    assert_eq!(copy, "first");
    Came::Lives("each reading is validated: `BadValue`".into())
}
