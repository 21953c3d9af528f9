//! Memory that changes while the host reads it.

use std::{
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    ErrorKind,
    abi::{Answer, Side, Transport, pointer, trap},
    host::{FaultCause, GuestExit},
};

use super::{
    Came, Case,
    connection::{Setup, Target},
    crimes::says,
    interface::*,
    liar::Random,
    list::{List, at, deed, region},
    native,
    ops::{Deed, Op},
    traps::{PARAMS, one_upcall},
};

pub fn cases() -> Vec<Case> {
    let two = |case: Case| case.with(|setup| setup.vcpus = 2);
    vec![
        two(Case::new("a_storm_over_everything_while_the_host_serves", |target| {
            storms(target, everything(target))
        })),
        two(Case::new("a_storm_over_the_release_maps_while_the_host_lends", |target| {
            let (arena, _) = target.layout.arena(Side::Guest);
            storms(target, (4096, arena - 4096))
        })),
        two(Case::new("a_storm_while_the_host_calls", storm_over_upcalls)),
        two(Case::new("a_length_that_changes_while_it_is_read", |target| {
            flips(target, 8, 60, u64::MAX, ErrorKind::BadPointer)
        })),
        two(Case::new("a_pointer_that_changes_while_it_is_read", |target| {
            flips(target, 0, target.lent(0x1000), u64::MAX, ErrorKind::BadPointer)
        })),
        two(Case::new("an_enum_that_changes_while_it_is_read", |target| {
            flips(target, 96, 1 << 32, 7 << 32, ErrorKind::BadValue)
        })),
        two(Case::new("a_fault_while_another_vcpu_is_served", |target| {
            fault_beside(target, &calls_for_ever())
        })),
        two(Case::new("a_fault_while_another_vcpu_never_traps", |target| {
            fault_beside(target, &deed(Deed::Spin, at(0), 0))
        })),
        two(Case::new("an_exit_while_another_vcpu_is_served", |target| {
            exit_beside(target, &calls_for_ever())
        })),
        two(Case::new("an_exit_while_another_vcpu_never_traps", |target| {
            exit_beside(target, &deed(Deed::Spin, at(0), 0))
        })),
        Case::new("storms_over_another_guests_memory", other_guest),
        Case::new("storms_between_traps", between),
        Case::new("storms_in_nested_calls", in_nested),
    ]
}

/// Both release maps and the guest's arena, except its end, where answers are saved.
fn everything(target: &Target) -> (u64, u64) {
    let (arena, len) = target.layout.arena(Side::Guest);
    (4096, arena + len - 64 - 4096)
}

/// A word outside of the storm.
pub fn until(target: &Target) -> u64 {
    let (arena, len) = target.layout.arena(Side::Guest);
    arena + len - 8
}

/// Stops a guest if the thread beside it panics, since the host would wait for the guest forever.
struct StopOnPanic<'t>(&'t Target);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.host.stopper().stop();
        }
    }
}

/// One vCPU executes a list until a word stops it, while this thread uses the other vCPU.
pub fn beside<R>(target: &Target, list: &List, run: impl FnOnce() -> R) -> R {
    target.does(&List::new().fill(region(until(target)), 8, 0));
    thread::scope(|scope| {
        let other = scope.spawn(|| target.told().does(list.bytes()));
        let _stop = StopOnPanic(target);
        let result = run();
        target.does(&List::new().fill(region(until(target)), 8, 1));
        assert_eq!(other.join().unwrap(), Ok(0), "{:?}", target.end());
        result
    })
}

fn storm(target: &Target, (at, len): (u64, u64), seed: u64, count: u64) -> Op<'static> {
    Op::Storm { at: region(at), len, seed, count, until: region(until(target)) }
}

/// Makes a call with words that are almost valid.
fn calls(target: &Target, random: &mut Random) -> Answer {
    let word = random.pick(&FUNCTIONS);
    let transport = random.transport(&target.layout, Side::Guest);
    let answer = target.call(&List::new(), word, transport);
    validate(answer);
    answer
}

/// ABI, Statuses S-2: the answer to a call that the host has served or refused.
fn validate(answer: Answer) {
    let known = matches!(answer.status & !64, 0..=5 | 14) && answer.status != 64;
    assert!(known, "status {}", answer.status);
    if answer.status > 1 {
        assert_eq!(answer.transport, Transport::EMPTY);
    }
}

pub const TIME: Duration = Duration::from_millis(60);

fn storms(target: &Target, place: (u64, u64)) -> Came {
    let list = List::new().op(storm(target, place, 99, 0));
    let mut random = Random(3);
    beside(target, &list, || {
        let began = Instant::now();
        for nr in 0_u64.. {
            calls(target, &mut random);
            // A call that reads nothing from memory succeeds.
            let word = Transport::word(nr & 0xffff);
            let plain = ParamsEverythingAloneU16::FUNCTION.signature;
            let answer = target.call(&List::new(), plain, word);
            assert_eq!(answer, Answer { status: 0, transport: word });
            target.assert_treasure();
            if began.elapsed() > TIME {
                break;
            }
        }
    });
    Came::Lives("each call is answered, or refused with a status".into())
}

/// Calls of the host while all marks are forged. The host never reads blocks of its own again, so its calls
/// arrive; their results may be anything.
fn storm_over_upcalls(target: &Target) -> Came {
    let list = List::new().op(storm(target, everything(target), 5, 0));
    beside(target, &list, || {
        let began = Instant::now();
        let all = Transport { primary: target.lent(0x100), secondary: 1000 };
        let list = List::new().returns(0, all);
        while began.elapsed() < TIME {
            let bytes = target.told().bytes(list.bytes()).unwrap();
            assert_eq!(bytes.read_vec().map(|bytes| bytes.len()), Ok(1000));
            if let Err(error) = target.told().text(list.bytes()).unwrap().read_string() {
                assert_eq!(error.kind(), ErrorKind::BadValue);
            }
            let flag = target.told().flag(List::new().returns(0, Transport::word(1)).bytes());
            assert_eq!(flag, Ok(true));
            target.assert_treasure();
        }
    });
    Came::Lives("each upcall arrives; what it gives is validated".into())
}

/// A word of the parameters of `Everything::maybe` that is valid and invalid in turn: both outcomes occur, and no other.
fn flips(target: &Target, at: u64, good: u64, bad: u64, why: ErrorKind) -> Came {
    // A buffer at 0; at 40 there is a parcel, with a body at 56 and a point at 88.
    let mut maybe = vec![0; size_of::<ParamsEverythingMaybe>()];
    for (at, word) in
        [(0, target.lent(0x1000)), (8, 60), (40, 1), (56, target.lent(0x1100)), (64, 5)]
    {
        maybe[at..at + 8].copy_from_slice(&u64::to_le_bytes(word));
    }
    maybe[100] = 1;
    target.does(&List::new().write(region(target.own(0x800)), &maybe));
    let place = region(target.own(0x800 + at));
    let flip = Op::Flip { at: place, one: good, two: bad, until: region(until(target)) };
    let word = ParamsEverythingMaybe::FUNCTION.signature;
    let seen = beside(target, &List::new().op(flip), || {
        let (began, mut seen) = (Instant::now(), [0_u32; 2]);
        while began.elapsed() < TIME || seen.contains(&0) && began.elapsed() < 1000 * TIME {
            match target.call(&List::new(), word, Transport::word(target.lent(0x800))) {
                Answer { status: 0, transport } => {
                    assert_eq!(transport, Transport::word(65));
                    seen[0] += 1;
                }
                answer => {
                    assert_eq!(answer, Answer::status(why as u64));
                    seen[1] += 1;
                }
            }
        }
        seen
    });
    assert!(!seen.contains(&0), "{seen:?}: the other vCPU was too slow for the test");
    Came::Lives(format!("answered, or `{why:?}`"))
}

/// One vCPU executes a list without end, and another one ends the guest meanwhile.
#[track_caller]
fn ends_beside(target: &Target, forever: &List, end: &List) -> GuestExit {
    let begun = List::new().write(region(until(target)), &[1]).repeat(0, forever);
    let end = List::new().op(Op::Wait { until: region(until(target)) }).and(end);
    target.does(&List::new().fill(region(until(target)), 8, 0));
    thread::scope(|scope| {
        let other = scope.spawn(|| target.told().does(begun.bytes()).unwrap_err());
        let _stop = StopOnPanic(target);
        let error = target.told().does(end.bytes()).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, true));
        let error = other.join().unwrap();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, true));
    });
    target.end().unwrap()
}

fn calls_for_ever() -> List {
    List::new().call(ParamsEverythingNothing::FUNCTION.signature, Transport::EMPTY)
}

fn fault_beside(target: &Target, forever: &List) -> Came {
    let end = ends_beside(target, forever, &deed(Deed::Undefined, at(0), 0));
    let GuestExit::Fault(fault) = &end else { panic!("{end:?}") };
    assert_eq!((fault.cause, fault.address), (FaultCause::Exception(native::UNDEFINED), None));
    Came::Ended(says(&end))
}

fn exit_beside(target: &Target, forever: &List) -> Came {
    let exit = List::new().trap(trap::EXIT, 4, Transport::EMPTY, &List::new());
    let end = ends_beside(target, forever, &exit);
    assert_eq!(end, GuestExit::Exited { status: 4, text: "".into() });
    Came::Ended(says(&end))
}

/// Two guests of the same program: neither sees writes of the other to its memory.
fn other_guest(target: &Target) -> Came {
    let other = Target::new(target.on, &Setup::PLAIN);
    let (arena, len) = other.layout.arena(Side::Guest);
    other.does(&List::new().fill(region(arena), len, 0x5a));
    for seed in 1..10 {
        let calm = Op::Storm {
            at: region(4096),
            len: arena + len - 8 - 4096,
            seed,
            count: 5000,
            until: region(arena + len - 8),
        };
        target.does(&List::new().op(calm));
    }
    let all = Transport { primary: pointer::join(arena, 1), secondary: len };
    let bytes = other.told().bytes(List::new().returns(0, all).bytes()).unwrap();
    assert!(bytes.read_vec().unwrap().iter().all(|byte| *byte == 0x5a));
    drop(bytes);
    other.assert_works();
    Came::Lives("the other guest's memory is as it was".into())
}

/// A guest with one vCPU can change only memory that the host keeps for longer than a call, or across an upcall.
fn between(target: &Target) -> Came {
    let mut random = Random(8);
    let mut good = 0;
    for round in 0..300 {
        target.does(&List::new().op(storm(target, everything(target), round + 1, 2000)));
        good += u32::from(calls(target, &mut random).status == 0);
        if round % 3 == 0 {
            // Handles that were kept from earlier calls are read again.
            let keep = Transport { primary: target.lent(64 * round), secondary: 100 };
            let answer = target.call(&List::new(), ParamsEverythingKeep::FUNCTION.signature, keep);
            validate(answer);
        }
        target.assert_treasure();
    }
    assert!(good > 0);
    Came::Lives("each call is answered, or refused with a status".into())
}

fn in_nested(target: &Target) -> Came {
    let place = everything(target);
    let mut random = Random(21);
    for round in 0..40 {
        // The host holds the parameters of a call while the guest overwrites them, and calls with the contents.
        let mut inside = List::new().op(storm(target, place, round + 1, 500));
        for _ in 0..3 {
            let transport = random.transport(&target.layout, Side::Guest);
            inside = inside.call(random.pick(&FUNCTIONS), transport);
        }
        let result = random.transport(&target.layout, Side::Guest);
        let inside = inside.returns(random.pick(&[0, 0, 1, 3, 69, 200]), result);
        let text = Transport { primary: pointer::join(target.own(0x3000), 1), secondary: 200 };
        let chat = List::new()
            .fill(region(target.own(0x3000)), 200, b'x')
            .write(region(target.own(0x2f00)), &params(text, 4))
            .call_with(
                ParamsEverythingChat::FUNCTION.signature,
                Transport::word(target.lent(0x2f00)),
                &inside,
            );
        // `chat` makes six upcalls, each of which executes `inside`.
        target.does(&chat.and(&one_upcall(target.own(PARAMS), &inside)));
        target.assert_treasure();
    }
    Came::Lives("each call is answered, or refused with a status".into())
}

/// The parameters of `Everything::chat`.
fn params(text: Transport, depth: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(text.primary.to_le_bytes());
    bytes.extend(text.secondary.to_le_bytes());
    bytes.extend(u64::from(depth).to_le_bytes());
    bytes
}
