//! Loans: blocks that overlap, are released twice or never, and marks for memory that was not lent.

use vmffi::{
    ErrorKind,
    abi::{Answer, Side, Transport, pointer},
    host::RunOutcome,
};

use super::{
    Came, Case,
    connection::{Target, handle},
    forged::words,
    interface::*,
    list::{List, region},
    ops::Op,
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("two_handles_to_one_block", twice),
        Case::new("blocks_that_overlap", overlap),
        Case::new("a_block_that_was_released", freed),
        Case::new("a_parameter_struct_that_holds_itself", itself),
        Case::new("the_same_block_released_twice", marks_twice),
        Case::new("marks_for_memory_that_was_never_lent", marks),
        Case::new("all_marks_at_once", all_marks),
        Case::new("marks_that_are_overwritten", wiped),
        Case::new("nothing_is_released", nothing_back),
        Case::new("the_guest_ends_with_all_of_the_hosts_memory", takes_all),
        Case::new("more_handles_than_the_host_keeps", many_handles),
        Case::new("a_buffer_of_the_whole_arena", whole_arena),
    ]
}

/// `Parcel` in memory: `id`, `body`, `label`, `at`.
fn parcel(body: (u64, u64), label: (u64, u64)) -> Vec<u8> {
    let mut bytes = vec![0; size_of::<WireParcel>()];
    for (at, word) in [(8, body.0), (16, body.1), (24, label.0), (32, label.1)] {
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    // A valid `Point`, whose colour may not be 0.
    bytes[40 + 12] = 1;
    bytes
}

/// A struct of the size of `Parcel` on the wire.
struct WireParcel(#[allow(dead_code, reason = "for its size")] [u64; 8]);

const PARCEL: fn() -> u64 = || ParamsEverythingParcel::FUNCTION.signature;

/// Sends a parcel whose body and label have these pointers and lengths.
fn sends(target: &Target, body: (u64, u64), label: (u64, u64)) -> Answer {
    let before = List::new()
        .fill(region(target.own(0x1000)), 0x200, b'a')
        .write(region(target.own(0x800)), &parcel(body, label));
    target.call(&before, PARCEL(), words(target.lent(0x800), 0))
}

fn twice(target: &Target) -> Came {
    let one = (target.lent(0x1000), 100);
    let answer = sends(target, one, one);
    assert_eq!(answer.status, 0, "overlapping handles are valid");
    Came::Lives("answered: both are read".into())
}

fn overlap(target: &Target) -> Came {
    // The last one overlaps the struct itself.
    for (body, label) in [
        ((target.lent(0x1000), 0x100), (target.lent(0x1080), 0x100)),
        ((target.lent(0x1001), 0x1ff), (target.lent(0x11ff), 1)),
        ((target.lent(0x800), 0x200), (target.lent(0x1000), 8)),
    ] {
        assert_eq!(sends(target, body, label).status, 0);
    }
    Came::Lives("answered: both are read".into())
}

/// A handle that the host keeps, to memory that the guest has reused since.
fn freed(target: &Target) -> Came {
    let keep = ParamsEverythingKeep::FUNCTION.signature;
    for nr in 0..20 {
        let before = List::new().fill(region(target.own(0x1000)), 64, nr);
        let answer = target.call(&before, keep, words(target.lent(0x1000), 64));
        let kept = u64::from(nr + 1).min(8);
        assert_eq!(answer, Answer { status: 0, transport: Transport::word(64 * kept) });
    }
    Came::Lives("answered: what is there now is read".into())
}

/// The body of a parcel is the parcel itself, and so is its label, which is not valid text.
fn itself(target: &Target) -> Came {
    let place = (target.lent(0x800), 64);
    let answer = sends(target, place, place);
    // The high bytes of the pointers are loan numbers, which are ASCII; a colour of 0x80 or more is not.
    assert_eq!(answer.status, 0);
    let bad = List::new()
        .write(region(target.own(0x800)), &parcel(place, (target.lent(0x1000), 3)))
        .write(region(target.own(0x1000)), b"\xff\xfe\xfd");
    let answer = target.call(&bad, PARCEL(), words(target.lent(0x800), 0));
    assert_eq!(answer, Answer::status(ErrorKind::BadValue as u64 | 64));
    Came::Lives("answered, or `BadValue` by the handler".into())
}

/// Makes the host lend a copy of `len` bytes, and returns its words.
fn borrows(target: &Target, len: u64) -> Transport {
    let before = List::new().fill(region(target.own(0x1000)), len, 5);
    let bytes = ParamsEverythingBytes::FUNCTION.signature;
    let answer = target.call(&before, bytes, words(target.lent(0x1000), len));
    assert_eq!((answer.status, answer.transport.secondary), (0, len));
    answer.transport
}

/// The offset of the mark for a block of the host.
fn mark_of(target: &Target, word: u64) -> u64 {
    let (arena, _) = target.layout.arena(Side::Host);
    target.layout.release_map(Side::Host) + (pointer::offset(word) - arena) / 64
}

fn marks_twice(target: &Target) -> Came {
    let first = borrows(target, 64);
    assert_eq!(target.lost(), 1);
    let mark = |word: u64| List::new().write(region(mark_of(target, word)), &[pointer::loan(word)]);
    target.does(&mark(first.primary));
    assert_eq!(target.lost(), 0);
    // The next loan of that place has another number, so the old mark does not end it.
    let mut next = borrows(target, 64);
    for _ in 0..20 {
        if pointer::offset(next.primary) == pointer::offset(first.primary) {
            break;
        }
        next = borrows(target, 64);
    }
    let before = target.lost();
    assert_eq!(pointer::offset(next.primary), pointer::offset(first.primary));
    for _ in 0..3 {
        target.does(&mark(first.primary));
        assert_eq!(target.lost(), before, "an old mark has ended a new loan");
    }
    target.does(&mark(next.primary));
    assert_eq!(target.lost(), before - 1);
    Came::Lives("the second mark frees nothing".into())
}

/// Marks for the host's own blocks at the beginning of its arena, and for free memory.
fn marks(target: &Target) -> Came {
    let (map, granules) =
        (target.layout.release_map(Side::Host), target.layout.granules(Side::Host));
    for loan in 0..=u8::MAX {
        target.does(&List::new().fill(region(map), granules as u64, loan));
        target.assert_treasure();
        assert_eq!(target.lost(), 0);
    }
    // Memory after the map belongs to the next map: nothing after the maps may be written.
    let bytes = [7; 64];
    target.does(&List::new().write(region(map + granules as u64), &bytes));
    Came::Lives("they free nothing".into())
}

/// Marks for all loans at once, repeatedly.
fn all_marks(target: &Target) -> Came {
    let map = target.layout.release_map(Side::Host);
    let granules = target.layout.granules(Side::Host) as u64;
    for _ in 0..3 {
        for _ in 0..50 {
            borrows(target, 200);
        }
        let before = target.lost();
        assert_eq!(before, 50);
        for loan in 1..=u8::MAX {
            target.does(&List::new().fill(region(map), granules, loan));
            // A mark counts when the host collects it, as it does now.
            assert!(target.lost() <= before);
            target.assert_treasure();
        }
        assert_eq!(target.lost(), 0);
    }
    Came::Lives("each loan ends, and once".into())
}

/// A mark that is overwritten is lost: the loan lasts until the guest ends.
fn wiped(target: &Target) -> Came {
    let map = target.layout.release_map(Side::Host);
    let granules = target.layout.granules(Side::Host) as u64;
    for nr in 1..=10 {
        // The mark of the list itself is written first and then erased, by a list that is held.
        let list = List::new().fill(region(map), granules, 0).hold();
        target.does(&list);
        assert_eq!(target.lost(), nr);
    }
    assert_eq!(target.host.run(), Ok(RunOutcome::Exited(0)));
    Came::Ended("the loans last until the guest ends; then none is left".into())
}

/// Takes blocks from the host until it has no memory left.
fn exhausts(target: &Target) -> usize {
    let bytes = ParamsEverythingBytes::FUNCTION.signature;
    let call = List::new().call(bytes, words(target.lent(0x1000), 16 << 10));
    let (mut taken, mut status) = (0, 0);
    while status == 0 {
        status = target.answer(&call).status;
        taken += 1;
        assert!(taken < 100, "the host never ran out of memory");
    }
    assert_eq!(status, ErrorKind::OutOfMemory as u64 | 64);
    let refused: Vec<_> =
        target.refused().iter().map(|error| (error.kind(), error.reached())).collect();
    assert_eq!(refused, [(ErrorKind::OutOfMemory, true)]);
    taken - 1
}

fn nothing_back(target: &Target) -> Came {
    let taken = exhausts(target);
    // All blocks but the host's own.
    assert!((14..16).contains(&taken), "{taken}");
    // The host has too little memory to call, and reports that; after the guest releases blocks, it calls again.
    let long = vec![0; 17 << 10];
    assert_eq!(handle(target.told().bytes(&long)), Err((ErrorKind::OutOfMemory, false)));
    target.settle();
    assert_eq!(exhausts(target), taken, "as many blocks can be lent again");
    Came::Lives(format!(
        "`OutOfMemory` after {taken} blocks of 16 KiB; all loans end when they are released"
    ))
}

fn takes_all(target: &Target) -> Came {
    let taken = exhausts(target);
    assert!(target.lost() >= taken);
    assert_eq!(target.host.run(), Ok(RunOutcome::Exited(0)));
    assert_eq!(target.lost(), 0);
    Came::Ended("`OutOfMemory`; all loans end when the guest ends".into())
}

/// Handles to the guest's memory that the host keeps, up to a limit of the handler.
fn many_handles(target: &Target) -> Came {
    let keep = ParamsEverythingKeep::FUNCTION.signature;
    let call = List::new().call(keep, words(target.lent(0x1000), 1));
    target.does(&List::new().repeat(2000, &call));
    assert_eq!(target.refused(), []);
    Came::Lives("the handler keeps 8 of 2,000".into())
}

fn whole_arena(target: &Target) -> Came {
    let (arena, len) = target.layout.arena(Side::Guest);
    let all = words(pointer::join(arena, 1), len);
    // A copy of the whole arena does not fit beside what the host has allocated.
    let bytes = ParamsEverythingBytes::FUNCTION.signature;
    let answer = target.call(&List::new(), bytes, all);
    assert_eq!(answer, Answer::status(ErrorKind::OutOfMemory as u64 | 64));
    let keep = ParamsEverythingKeep::FUNCTION.signature;
    let answer = target.call(&List::new(), keep, all);
    assert_eq!(answer, Answer { status: 0, transport: Transport::word(len) });
    // In the other direction: a result that is the whole arena.
    let list = List::new().returns(0, all);
    assert_eq!(handle(target.told().bytes(list.bytes())), Ok(len as usize));
    let list = List::new().op(Op::Return { status: 0, primary: all.primary, secondary: len + 1 });
    assert_eq!(handle(target.told().bytes(list.bytes())), Err((ErrorKind::BadPointer, true)));
    Came::Lives("read, or `OutOfMemory` for its copy; one byte more is `BadPointer`".into())
}
