//! Traps of unknown kinds, traps at the wrong time, and accesses that are not traps.

use vmffi::{
    ConnectError, ErrorKind,
    abi::{Answer, Side, Transport, answer, pointer, signature, trap},
    host::{GuestExit, ProtocolViolation, RunOutcome},
};

use super::{
    Came, Case,
    connection::{DOORBELL, NOWHERE, REGION, Setup, Target, own},
    crimes::{Dies, dies, page, says},
    interface::*,
    list::{List, at, deed, region},
    native,
    ops::{Deed, Op},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("unknown_kinds_of_trap", kinds),
        Case::new("a_trap_with_a_kind_of_answer", answers),
        Case::new("ready_in_an_upcall", ready_inside),
        Case::new("ready_in_a_nested_upcall", ready_nested),
        Case::new("ready_twice", ready_twice).with(|setup| setup.script = Some(List::new())),
        Case::new("return_with_nothing_open", return_at_start).with(|setup| {
            setup.script = Some(List::new().trap(trap::RETURN, 0, Transport::EMPTY, &List::new()))
        }),
        Case::new("a_return_instead_of_ready_after_a_resume", return_let_go),
        Case::new("return_twice", return_twice),
        Case::new("return_from_the_wrong_depth", wrong_depth),
        Case::new("calls_deeper_than_the_limit", too_deep),
        Case::new("a_call_of_a_guest_that_ignores_the_depth", deep).with(|setup| {
            let nothing = ParamsEverythingNothing::FUNCTION.signature;
            setup.script = Some(deep_script(nothing, Transport::EMPTY));
        }),
        Case::new("a_handshake_deeper_than_the_limit", deep).with(|setup| {
            setup.script = Some(deep_script(signature::HANDSHAKE, Transport::EMPTY));
        }),
        Case::new("the_doorbell_with_one_byte", |target| rings(target, Deed::Store1, 0)),
        Case::new("the_doorbell_with_two_bytes", |target| rings(target, Deed::Store2, 0)),
        Case::new("the_doorbell_with_four_bytes", |target| rings(target, Deed::Store4, 0)),
        Case::new("the_doorbell_by_another_instruction", other_instruction),
        Case::new("the_traps_instruction_beside_the_doorbell", |target| {
            dies_at_the_doorbell(target, &deed(Deed::Flagged, at(DOORBELL + 8), 0), 8, &[])
        }),
        Case::new("the_traps_instruction_to_unmapped_memory", |target| {
            dies(target, &deed(Deed::Flagged, at(NOWHERE & !7), 0), &[page(NOWHERE & !7)])
        }),
        Case::new("the_traps_instruction_to_the_hosts_arena", |target| {
            let (place, _) = target.layout.arena(Side::Host);
            let place = REGION + place;
            dies(target, &deed(Deed::Flagged, at(place), 0), &[page(place)])
        }),
        Case::new("the_doorbell_with_a_vector", vector),
        Case::new("a_call_with_a_vector", vector_call),
        Case::new("the_doorbell_by_a_locked_instruction", |target| rings(target, Deed::Add, 0)),
        Case::new("beside_the_doorbell", |target| rings(target, Deed::Store8, 8)),
        Case::new("the_end_of_the_doorbells_page", |target| rings(target, Deed::Store8, 4088)),
        Case::new("off_the_doorbells_boundary", |target| rings(target, Deed::Store8, 4)),
        Case::new("a_read_of_the_doorbell", |target| {
            let list = List::new().op(Op::Read { at: at(DOORBELL) });
            dies_at_the_doorbell(target, &list, 0, &[])
        }),
        Case::new("after_the_doorbells_page", |target| {
            dies(target, &deed(Deed::Store8, at(DOORBELL + 4096), 1), &[page(DOORBELL + 4096)])
        }),
        Case::new("calls_with_flags_that_are_odd", flags),
    ]
}

/// Kinds next to the valid ones, and others.
fn kinds(target: &Target) -> Came {
    // One guest each: the other kinds have cases of their own.
    let on = target.on;
    for kind in [
        0,
        1,
        trap::CALL - 1,
        trap::EXIT + 1,
        trap::CALL & 0xffff_ffff,
        trap::CALL | 1 << 63,
        u64::MAX >> 1,
    ] {
        let other = Target::new(on, &Setup::PLAIN);
        let list = List::new().trap(kind, 0, Transport::EMPTY, &List::new());
        dies(&other, &list, &[Dies::Order(kind)]);
        other.assert_ended();
    }
    let text = "the guest violated the protocol: unexpected trap of kind 0xffffffffffffffff";
    let list = List::new().trap(u64::MAX, 0, Transport::EMPTY, &List::new());
    let came = dies(target, &list, &[Dies::Order(u64::MAX)]);
    assert_eq!(target.end().unwrap().to_string(), text);
    came
}

fn answers(target: &Target) -> Came {
    let other = Target::new(target.on, &Setup::PLAIN);
    let list = |kind| List::new().trap(kind, 0, Transport::EMPTY, &List::new());
    dies(&other, &list(answer::ANSWER), &[Dies::Order(answer::ANSWER)]);
    dies(target, &list(answer::UPCALL), &[Dies::Order(answer::UPCALL)])
}

/// ABI, Traps TR-17, TR-18.
fn ready_inside(target: &Target) -> Came {
    let list = List::new().trap(trap::READY, 0, Transport::EMPTY, &List::new());
    dies(target, &list, &[Dies::Order(trap::READY)])
}

/// The offset at which most nested calls write the parameters of the next one.
pub const PARAMS: u64 = 0x400;

/// A call whose handler in the host makes one upcall, without a list. The parameters are written at `params_at`.
pub fn one_upcall(params_at: u64, inside: &List) -> List {
    let mut params = vec![0; 24];
    // An empty text, and the number of calls that are left.
    params[0..8].copy_from_slice(&1_u64.to_le_bytes());
    params[16..20].copy_from_slice(&1_u32.to_le_bytes());
    List::new().write(region(params_at), &params).call_with(
        ParamsCallbackNote::FUNCTION.signature,
        Transport::word(pointer::join(params_at, 1)),
        inside,
    )
}

fn ready_nested(target: &Target) -> Came {
    let ready = List::new().trap(trap::READY, 0, Transport::EMPTY, &List::new());
    dies(target, &one_upcall(target.own(PARAMS), &ready), &[Dies::Order(trap::READY)])
}

/// The resumed guest reports once more that it is ready, which it may, any number of times.
fn ready_twice(target: &Target) -> Came {
    assert_eq!(target.host.run(), Ok(RunOutcome::Ready));
    target.assert_works();
    // The `READY` that it was resumed from has been answered, and this guest exits after it.
    assert_eq!(target.host.run(), Ok(RunOutcome::Exited(0)));
    Came::Ended(says(&target.end().unwrap()))
}

/// Running the guest has ended with this violation.
#[track_caller]
fn runs_into(target: &Target, broken: ProtocolViolation) -> Came {
    let end = GuestExit::Protocol(broken);
    assert_eq!(target.host.run(), Err(ConnectError::Exited(end.clone())));
    assert_eq!(target.end(), Some(end.clone()));
    Came::Ended(says(&end))
}

fn return_at_start(target: &Target) -> Came {
    runs_into(target, ProtocolViolation::Order(trap::RETURN))
}

/// An upcall that has returned by a trap of its own is over. When the guest is resumed, no upcall is in
/// progress: it may be ready, but cannot return.
fn return_let_go(target: &Target) -> Came {
    let list = List::new().trap(trap::RETURN, 0, Transport::word(5), &List::new());
    assert_eq!(target.told().does(list.bytes()), Ok(5));
    runs_into(target, ProtocolViolation::Order(trap::RETURN))
}

/// The second `RETURN` has no upcall in progress, and is taken as the answer to the next call.
fn return_twice(target: &Target) -> Came {
    // After the first one the guest is parked within its list; the host's next call continues there.
    let twice = List::new().trap(trap::RETURN, 0, Transport::word(5), &List::new()).trap(
        trap::RETURN,
        0,
        Transport::word(6),
        &List::new(),
    );
    assert_eq!(target.told().does(twice.bytes()), Ok(5));
    for nr in 0..5 {
        assert_eq!(target.told().does(List::new().returns(0, Transport::word(nr)).bytes()), Ok(nr));
    }
    Came::Lives("the guest is parked; calls work as before".into())
}

/// In an upcall in a call in an upcall, the guest returns from the inner one, and then from the outer one while its own
/// call is in progress: the host does not accept that.
fn wrong_depth(target: &Target) -> Came {
    let inside = List::new().trap(trap::RETURN, 0, Transport::word(3), &List::new()).trap(
        trap::RETURN,
        0,
        Transport::word(4),
        &List::new(),
    );
    let list = one_upcall(target.own(PARAMS), &inside).returns(0, Transport::word(9));
    assert_eq!(target.told().does(list.bytes()), Ok(4));
    assert_eq!(target.end(), None);
    target.assert_works();
    runs_into(target, ProtocolViolation::Order(trap::RETURN))
}

/// An upcall in a call in an upcall, and so on, `depth` times.
pub fn nested(params_at: u64, levels: u32, bottom: &List) -> List {
    (0..levels).fold(bottom.clone(), |inside, _| one_upcall(params_at, &inside))
}

const SAVED: u64 = 0x2000;

/// ABI, Nesting N-2: the host's own call has depth 1, the guest's call in it depth 2, and so on.
fn too_deep(target: &Target) -> Came {
    let save = region(target.own(SAVED));
    let nothing = ParamsEverythingNothing::FUNCTION.signature;
    let bottom = List::new().call(nothing, Transport::EMPTY).save(save);
    // The last of these has depth 16.
    target.does(&nested(target.own(PARAMS), 7, &bottom));
    assert_eq!((target.refused(), target.saved(SAVED)), (vec![], Answer::status(0)));
    // The host's handler at depth 16 cannot call back, and reports that: the innermost list is not executed.
    let refused = one_upcall(target.own(PARAMS), &List::new()).save(save);
    target.does(&nested(target.own(PARAMS), 7, &refused));
    assert_eq!(target.saved(SAVED), Answer::status(0), "its call was refused");
    for levels in [8, 9, 100] {
        target.does(&List::new().fill(save, 32, 0).and(&nested(
            target.own(PARAMS),
            levels,
            &bottom,
        )));
        let read = Transport { primary: target.lent(SAVED), secondary: 32 };
        let read = target.told().bytes(List::new().returns(0, read).bytes());
        assert_eq!(read.unwrap().read_vec().unwrap(), [0; 32], "{levels} levels");
    }
    assert_eq!(target.refused(), []);
    Came::Lives("`TooDeep` for the host's own call at depth 17".into())
}

/// Before the guest is ready its own call has depth 1, as if there were no upcall around it.
fn deep_script(word: u64, transport: Transport) -> List {
    let bottom = List::new().call(word, transport).save(region(own(SAVED)));
    nested(own(PARAMS), 8, &bottom)
}

#[track_caller]
fn deep(target: &Target) -> Came {
    assert_eq!(target.host.run(), Ok(RunOutcome::Ready));
    assert_eq!(target.saved(SAVED), Answer::status(ErrorKind::TooDeep as u64));
    let refused: Vec<_> =
        target.refused().iter().map(|error| (error.kind(), error.reached())).collect();
    assert_eq!(refused, [(ErrorKind::TooDeep, false)]);
    Came::Lives("`TooDeep`".into())
}

/// Executes an access to the doorbell that is not a trap. If the guest traps by the doorbell, the access is reported as such,
/// or ends the guest in one of `others`; if it traps by a port or a gate, the page is not mapped.
#[track_caller]
pub fn dies_at_the_doorbell(target: &Target, list: &List, offset: u64, others: &[Dies]) -> Came {
    if target.way() != DOORBELL {
        return dies(target, list, &[page(DOORBELL + offset)]);
    }
    let mut ends = vec![Dies::Access(DOORBELL + offset)];
    ends.extend(others);
    dies(target, list, &ends)
}

/// An invalid access to the page of the doorbell.
#[track_caller]
fn rings(target: &Target, how: Deed, offset: u64) -> Came {
    let list = deed(how, at(DOORBELL + offset), trap::READY);
    dies_at_the_doorbell(target, &list, offset, native::UNDECODED)
}

/// In a virtual machine that uses the doorbell, this is an access like any other, with the right width
/// and address.
fn other_instruction(target: &Target) -> Came {
    dies_at_the_doorbell(
        target,
        &deed(Deed::Store8, at(DOORBELL), 0x1234),
        0,
        &[native::RINGS_WITH_1234],
    )
}

/// ABI, Traps TR-9: 16 bytes, of which the first eight may arrive as a trap, with the words in the registers.
fn vector(target: &Target) -> Came {
    let list = deed(Deed::Store16, at(DOORBELL), 0x1234);
    dies_at_the_doorbell(target, &list, 0, &[native::RINGS_WITH_1234])
}

/// ABI, Traps TR-9: if they do, and the trap is a call, the host answers it, and the rest of the store is an access beside the
/// doorbell.
fn vector_call(target: &Target) -> Came {
    let list = deed(Deed::Store16, at(DOORBELL), trap::CALL);
    let came = dies_at_the_doorbell(target, &list, 0, &[Dies::Access(DOORBELL + 8)]);
    // The call is one of an unknown function.
    assert!(target.refused().iter().all(|error| error.kind() == ErrorKind::UnknownFunction));
    came
}

/// Flags that have no effect on a call.
fn flags(target: &Target) -> Came {
    for flags in native::HARMLESS_FLAGS {
        target.does(&deed(Deed::Flagged, at(target.way()), flags));
        let refused: Vec<_> = target.refused().iter().map(|error| error.kind()).collect();
        assert_eq!(refused, [ErrorKind::UnknownFunction], "{flags:#x}");
        target.assert_works();
    }
    Came::Lives("served as any call".into())
}
