//! Attacks on the gate that act late, or in the next life: exceptions, stops, numbers of traps, and storms
//! of another vCPU over all memory that the gate writes.

use std::{
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    ErrorKind,
    abi::{Transport, trap},
    host::{FaultCause, GuestExit, ProtocolViolation, ResetError, RunOutcome},
};

use super::{
    super::{
        Came, Case,
        connection::{On, REGION, Setup, Target, ToldClient},
        crimes::{Dies, UNDEFINED, dies, says},
        interface::*,
        list::{List, at, deed, region},
        native::{self, GENERAL, PLAIN, SINGLE_STEP, SYSCALL, UNHEARD, trap_by_jump},
        ops::{At, Base, Deed, Op},
    },
    CONTROL, Counts, GATE, SCRATCH, SLOT, SLOT_LEN, STACK, STACK_LEN, assert_anew, watched,
};

/// Offsets in the guest's program: an endless loop, and one that uses the stack.
const LOOP: At = At(Base::Code, 16);
const PUSHES: At = At(Base::Code, 32);

pub(super) fn cases() -> Vec<Case> {
    let two = |case: Case| case.with(|setup| setup.vcpus = 2);
    let mut cases = vec![
        Case::new("a_reset_after_a_trap_without_room_for_a_signal", |target| {
            no_room(target, SINGLE_STEP, assert_anew)
        }),
        two(Case::new("a_reset_after_a_stop_without_room_for_a_signal", |target| {
            no_room(target, 0, assert_both_anew)
        })),
        Case::new("a_number_of_a_trap_of_the_last_life", number_of_last_life),
        two(Case::new("a_process_that_is_replaced_under_two_vcpus", replaced)),
        Case::new("a_counter_of_traps_that_stands_still", still_counter),
        two(Case::new("a_counter_of_traps_that_another_vcpu_holds", held_counter)),
        two(Case::new("a_storm_over_the_signal_stacks", storm)),
        two(Case::new("faults_with_stacks_everywhere", stacks)),
        two(Case::new("a_storm_of_stops_and_resets", stops)),
        two(Case::new("the_gates_memory_after_a_reset", left)),
        Case::new("a_late_stop_before_a_reset", left_by_stops),
    ];
    if SINGLE_STEP != 0 {
        cases.extend([
            Case::new("a_reset_after_a_trap_in_single_steps", single_steps),
            Case::other("a_snapshot_in_single_steps", snapshot_in_single_steps),
        ]);
    }
    cases
}

/// The memory that the guest reads from an address on.
fn read(target: &Target, from: u64, len: u64) -> Vec<u8> {
    let copy = Op::Copy { to: region(target.own(0)), from: at(from), len };
    let words = Transport { primary: target.lent(0), secondary: len };
    let bytes = target.told().bytes(List::new().op(copy).returns(0, words).bytes());
    bytes.and_then(|bytes| bytes.read_vec()).unwrap()
}

/// A stop that arrives while the guest waits is delivered when the next life begins, and the kernel writes the registers of
/// the last life into the signal stack.
fn left_by_stops(target: &Target) -> Came {
    const SECRET: u64 = 0x5a5a_5a5a_5a5a_5a5a;
    for _ in 0..5 {
        target.does(&deed(Deed::Vectors, at(0), SECRET));
        target.host.stopper().stop();
        assert_anew(target);
        let stack = read(target, STACK, STACK_LEN);
        assert!(!stack.windows(16).any(|bytes| *bytes == [SECRET as u8; 16]));
    }
    Came::Lives("nothing is found".into())
}

/// The next life finds neither what the guest has written into the signal stacks, nor the host's answer to a vCPU that has
/// not run since.
fn left(target: &Target) -> Came {
    const SECRET: u8 = 0x5a;
    for _ in 0..3 {
        assert_both_anew(target);
        // After the counter.
        let list = List::new().fill(at(SCRATCH + 8), STACK - SCRATCH - 8 + 2 * STACK_LEN, SECRET);
        target.does(&list);
        assert_eq!(read(target, STACK, STACK_LEN), [SECRET; STACK_LEN as usize]);
        assert_eq!(target.host.reset(), Ok(()));
        for from in [SCRATCH, STACK, STACK + STACK_LEN] {
            let len = if from == SCRATCH { STACK - SCRATCH } else { STACK_LEN };
            assert!(!read(target, from, len).contains(&SECRET), "{from:x}");
        }
        let words = [SLOT, SLOT + SLOT_LEN].map(|slot| read(target, slot, 32));
        assert!(words.iter().any(|words| *words == [0; 32]), "{words:x?}");
    }
    Came::Lives("nothing is found".into())
}

/// A reset of a guest with two vCPUs, and then calls of both at once, which wait for each other.
#[track_caller]
fn assert_both_anew(target: &Target) {
    assert_eq!(target.host.reset(), Ok(()));
    let word = |nr: u64| region(target.own(0x200 + 8 * nr));
    let list = |own, other| List::new().write(word(own), &[1]).op(Op::Wait { until: word(other) });
    let (one, two) = (list(0, 1), list(1, 0));
    watched(|| {
        thread::scope(|scope| {
            let other = scope.spawn(|| target.told().does(two.bytes()));
            assert_eq!(target.told().does(one.bytes()), Ok(0), "{:?}", target.end());
            assert_eq!(other.join().unwrap(), Ok(0), "{:?}", target.end());
        });
    });
    assert_eq!(target.end(), None);
}

/// The guest traps in single steps, so that an exception is pending after the trap. The next life must not get it.
fn single_steps(target: &Target) -> Came {
    let list = List::new().jump(
        at(SYSCALL),
        trap_by_jump(7, 1 << 60),
        PLAIN | SINGLE_STEP,
        At(Base::Boot, 0),
    );
    let mut came = None;
    for _ in 0..3 {
        came = Some(dies(target, &list, &[Dies::Order(7)]));
        assert_anew(target);
    }
    dies(target, &list, &[Dies::Order(7)]);
    came.unwrap()
}

/// The same, with a signal stack that is too small for a signal.
fn no_room(target: &Target, flags: u64, assert_anew: fn(&Target)) -> Came {
    for room in [0, 8, 64, 1024] {
        let list = List::new().jump(
            at(SYSCALL),
            trap_by_jump(7, 1 << 60),
            PLAIN | flags,
            at(STACK + room),
        );
        dies(target, &list, &[Dies::Order(7)]);
        assert_anew(target);
    }
    let list =
        List::new().jump(at(SYSCALL), trap_by_jump(7, 1 << 60), PLAIN | flags, at(STACK + 64));
    dies(target, &list, &[Dies::Order(7)])
}

/// The first trap of the next life has the number of the last trap of this life, if the guest can choose it.
fn number_of_last_life(target: &Target) -> Came {
    let last = |number: u64| {
        let list = List::new().write(at(SCRATCH), &number.to_le_bytes());
        list.jump(at(SYSCALL), trap_by_jump(7, number), PLAIN, At(Base::Boot, 0))
    };
    let lives = (0..12).map(|life| (life + 1) << 32).chain([0, 1, 2, 3, 77, 1 << 60, u64::MAX]);
    for number in lives {
        // With the number of the previous trap, the guest gets that trap's answer, and returns to an invalid address.
        dies(target, &last(number), &[Dies::Order(7), native::RETURNS_NOWHERE]);
        assert_anew(target);
    }
    dies(target, &last(1000), &[Dies::Order(7)])
}

/// A reset replaces the process of a guest that has forged a number, in each order of restoring the vCPUs.
fn replaced(target: &Target) -> Came {
    let word = |nr: u64| region(target.own(0x400 + 8 * nr));
    let set = |nr| List::new().write(word(nr), &[1]);
    let wait = |nr| List::new().op(Op::Wait { until: word(nr) });
    let does =
        |list: List| assert_eq!(target.told().does(list.bytes()), Ok(0), "{:?}", target.end());
    let forged = List::new().jump(at(SYSCALL), trap_by_jump(7, 1 << 60), PLAIN, At(Base::Boot, 0));
    for _ in 0..4 {
        // The vCPU that is taken first is returned first, while the other one waits.
        watched(|| {
            thread::scope(|scope| {
                let one = scope.spawn(|| does(set(0).and(&wait(1))));
                let two = scope.spawn(|| does(wait(0).and(&set(1)).and(&wait(2))));
                one.join().unwrap();
                does(set(2));
                two.join().unwrap();
            });
        });
        dies(target, &forged, &[Dies::Order(7)]);
        assert_both_anew(target);
        // Again, from the other vCPU.
        dies(target, &forged, &[Dies::Order(7)]);
        assert_eq!(target.host.reset(), Ok(()));
    }
    dies(target, &forged, &[Dies::Order(7)])
}

/// An exception interrupts the snapshot: it fails, and the guest has ended.
fn snapshot_in_single_steps(on: On) -> String {
    let ready = trap_by_jump(trap::READY, 1 << 60);
    let flags = PLAIN | SINGLE_STEP;
    let script = List::new().jump(at(SYSCALL), ready, flags, At(Base::Boot, 0));
    let target = Target::new(on, &Setup { script: Some(script), ..Setup::PLAIN });
    assert_eq!(target.host.run(), Ok(RunOutcome::Ready));
    for reached in [true, false] {
        let error = watched(|| target.told().does(List::new().bytes()).unwrap_err());
        assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, reached));
        let Some(GuestExit::Fault(fault)) = target.end() else { panic!("{:?}", target.end()) };
        assert_eq!(fault.cause, FaultCause::Exception(1));
        assert!(matches!(target.host.reset(), Err(ResetError::Failed(_))));
    }
    target.assert_ended();
    says(&target.end().unwrap())
}

/// Executes a list and stops the guest from another thread meanwhile, then resets it. Returns how long that took.
#[track_caller]
fn stops_it(target: &Target, list: &List) -> Duration {
    let stopper = target.host.stopper();
    let mut took = Duration::ZERO;
    watched(|| {
        thread::scope(|scope| {
            let other = scope.spawn(|| target.told().does(list.bytes()).unwrap_err());
            thread::sleep(Duration::from_millis(3));
            let began = Instant::now();
            stopper.stop();
            let error = other.join().unwrap();
            took = began.elapsed();
            assert_eq!(error.kind(), ErrorKind::Cancelled);
        });
    });
    assert_eq!(target.end(), Some(GuestExit::Stopped));
    took
}

fn nothing() -> List {
    List::new().call(ParamsEverythingNothing::FUNCTION.signature, Transport::EMPTY)
}

/// Every trap has the same number, so the host takes each for the previous one, restarted.
fn still_counter(target: &Target) -> Came {
    // Far from the trap numbers that the host has seen in this process.
    let still = List::new().write(at(SCRATCH), &(5_u64 << 40).to_le_bytes());
    for _ in 0..5 {
        stops_it(target, &List::new().repeat(0, &still.clone().and(&nothing())));
        assert_anew(target);
        // A fault is reported.
        let list = still.clone().and(&nothing()).and(&still).and(&deed(Deed::Undefined, at(0), 0));
        dies(target, &list, &[UNDEFINED]);
        assert_anew(target);
        // Other kinds of traps get the answer of the previous one.
        let trap = List::new().trap(7, 0, Transport::EMPTY, &List::new());
        let list = still.clone().and(&nothing()).and(&still).and(&trap);
        assert_eq!(target.told().does(list.bytes()), Ok(0));
        assert_anew(target);
    }
    stops_it(target, &List::new().repeat(0, &still.and(&nothing())));
    Came::Ended(says(&target.end().unwrap()))
}

/// One vCPU executes a list without end while this thread executes another list, which ends the guest.
#[track_caller]
fn beside<R>(target: &Target, forever: &List, run: impl FnOnce() -> R) -> R {
    let begun = region(target.own(0x300));
    let list = List::new().write(begun, &[1]).and(forever);
    let wait = List::new().op(Op::Wait { until: begun });
    watched(|| {
        thread::scope(|scope| {
            let other = scope.spawn(|| target.told().does(list.bytes()));
            // This list may not return, or may end the guest.
            let within = target.host.with_deadline(Duration::from_millis(10));
            let _ = ToldClient::from(within.guest()).does(wait.bytes());
            let result = run();
            target.host.stopper().stop();
            assert!(other.join().unwrap().is_err());
            result
        })
    })
}

/// A word that is never written.
fn never(target: &Target) -> At {
    region(target.own(0x308))
}

/// Lists of one vCPU while the other one disturbs the gate: calls, a fault, a stop. Each outcome is reported in time.
#[track_caller]
fn disturbed(target: &Target, forever: &List, counts: &mut Counts) {
    let endless = List::new().repeat(0, &nothing());
    let lists = [
        ("faults", deed(Deed::Undefined, at(0), 0)),
        ("traps", List::new().trap(7, 0, Transport::EMPTY, &List::new())),
        ("endless calls", endless),
        ("loops", deed(Deed::Spin, at(0), 0)),
        ("calls", List::new().repeat(20, &nothing())),
    ];
    for (what, list) in lists {
        beside(target, forever, || {
            let began = Instant::now();
            let within = target.host.with_deadline(Duration::from_millis(10));
            let done = ToldClient::from(within.guest()).does(list.bytes());
            assert!(began.elapsed() < Duration::from_secs(60), "{what}: {:?}", began.elapsed());
            let ended = target.end();
            match (what, &done) {
                ("calls", Ok(0)) => assert_eq!(ended, None),
                (_, Ok(result)) => assert!(what == "traps" && *result == 0, "{what}: {done:?}"),
                _ => {
                    let ended = ended.unwrap();
                    // The description of a fault is in memory that the other vCPU writes.
                    let known = match ended {
                        GuestExit::Deadline => true,
                        // The answer to another vCPU's trap may be taken for this one's.
                        GuestExit::Fault(_) | GuestExit::Exited { .. } => true,
                        GuestExit::Protocol(ProtocolViolation::Order(_)) => true,
                        _ => false,
                    };
                    assert!(known, "{what}: {ended:?}");
                }
            }
            counts.add(match target.end() {
                None => "answered",
                Some(GuestExit::Deadline) => "stopped",
                Some(GuestExit::Fault(_)) => "faults",
                Some(_) => "unknown traps",
            });
        });
        assert_both_anew(target);
        target.assert_treasure();
    }
}

/// Another vCPU writes the counter without pause.
fn held_counter(target: &Target) -> Came {
    let mut counts = Counts::default();
    for _ in 0..4 {
        for (one, two) in [(5, 5), (0, 0), (3, 4), (u64::MAX, 0), (1 << 32, 2 << 32)] {
            let flip = Op::Flip { at: at(SCRATCH), one, two, until: never(target) };
            disturbed(target, &List::new().op(flip), &mut counts);
        }
    }
    Came::Lives(counts.text())
}

/// Another vCPU writes over the counter and over both signal stacks, its own included.
fn storm(target: &Target) -> Came {
    let mut counts = Counts::default();
    for seed in 1..8 {
        // The frames of the other vCPU, which are at the upper end, or the whole stack.
        let (place, len) = [
            (SCRATCH, 0x1000 + 2 * STACK_LEN),
            (STACK + STACK_LEN - 0x3000, 0x3000),
            (STACK + 2 * STACK_LEN - 0x3000, 0x3000),
            (STACK, 0x1000),
        ][seed as usize % 4];
        let storm = Op::Storm { at: at(place), len, seed, count: 0, until: never(target) };
        disturbed(target, &List::new().op(storm), &mut counts);
    }
    Came::Lives(counts.text())
}

/// A fault, a trap and a stop are reported wherever RSP points.
fn stacks(target: &Target) -> Came {
    let mut counts = Counts::default();
    let top = STACK + STACK_LEN;
    let places = [
        0,
        8,
        u64::MAX,
        1 << 63,
        SCRATCH,
        STACK,
        STACK + 8,
        STACK + 64,
        STACK + 0x800,
        STACK + 0x1000,
        STACK + 0x4000,
        top - 8,
        top,
        top + 64,
        top + STACK_LEN,
        GATE,
        UNHEARD,
        CONTROL,
        SLOT + 0x80,
        SLOT + SLOT_LEN,
        REGION,
        REGION + target.own(0x2000),
    ];
    for place in places {
        let list = List::new().jump(at(UNHEARD), [0; GENERAL], PLAIN, at(place));
        dies(target, &list, &[UNDEFINED]);
        counts.add("faults");
        assert_both_anew(target);
        let list =
            List::new().jump(at(SYSCALL), trap_by_jump(7, 1 << 60), PLAIN | SINGLE_STEP, at(place));
        dies(target, &list, &[Dies::Order(7)]);
        counts.add("unknown traps");
        assert_both_anew(target);
        let list = List::new().jump(LOOP, [0; GENERAL], PLAIN | native::OTHERS, at(place));
        stops_it(target, &list);
        counts.add("stops");
        assert_both_anew(target);
    }
    // If the stack is writable, it is written while the signal arrives.
    for place in [STACK + 8, STACK + 0x1000, top, top + 64, REGION + target.own(0x2000)] {
        stops_it(target, &List::new().jump(PUSHES, [7; GENERAL], PLAIN, at(place)));
        counts.add("stops");
        assert_both_anew(target);
    }
    Came::Lives(counts.text())
}

/// Stops at any moment, during calls and resets.
fn stops(target: &Target) -> Came {
    let (began, mut counts) = (Instant::now(), Counts::default());
    let long = &List::new().repeat(300, &nothing()).returns(0, Transport::word(77));
    let short = List::new().returns(0, Transport::word(77));
    let stopper = target.host.stopper();
    let call = |list: &List| target.told().does(list.bytes());
    watched(|| {
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut pause = 1;
                while began.elapsed() < Duration::from_millis(600) {
                    stopper.stop();
                    thread::sleep(Duration::from_micros(pause));
                    pause = pause * 5 % 701;
                }
            });
            while began.elapsed() < Duration::from_millis(650) {
                let other = scope.spawn(|| call(long));
                for result in [call(&short), call(long), other.join().unwrap()] {
                    counts.add(match result {
                        Ok(77) => "answered",
                        Err(error) if error.kind() == ErrorKind::Cancelled => "stopped",
                        result => panic!("{result:?}: {:?}", target.end()),
                    });
                }
                assert!(
                    matches!(target.end(), None | Some(GuestExit::Stopped)),
                    "{:?}",
                    target.end()
                );
                assert_eq!(target.host.reset(), Ok(()));
            }
        });
    });
    assert_both_anew(target);
    Came::Lives(counts.text())
}
