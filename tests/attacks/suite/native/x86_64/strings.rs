//! Guests that are interrupted within a string instruction: nothing of it reaches their next life.
//!
//! After the instruction is a `RETURN` with a forged value. Where such an instruction meets the doorbell or the port, KVM
//! executes it piece by piece, with one exit of the vCPU for each: the rest of it would continue in the next life, in the
//! next call.

use std::{thread, time::Duration};

use vmffi::{
    abi::Transport,
    host::{GuestExit, ProtocolViolation},
};

use super::{
    super::{
        Came, Case,
        connection::{DOORBELL, NOWHERE, On, REGION, Target, ToldClient},
        list::{List, at, region},
        ops::{At, Op},
    },
    PORT,
};

pub fn cases() -> Vec<Case> {
    let on = |name, from: Place, to: Place| {
        Case::new(name, move |target| everything(target, from, to)).with(|setup| setup.vcpus = 2)
    };
    vec![
        on("strings_to_the_doorbell", Place::Own, Place::Doorbell),
        on("strings_from_the_doorbell", Place::Doorbell, Place::Own),
        on("strings_from_doorbell_to_doorbell", Place::Doorbell, Place::Doorbell),
        on("strings_to_read_only_memory", Place::Own, Place::Header),
        on("strings_to_unmapped_memory", Place::Own, Place::Nowhere),
        on("strings_on_ones_own_memory_and_the_port", Place::Own, Place::Own),
        Case::new("a_stop_within_a_long_string", long).with(|setup| setup.vcpus = 2),
        Case::new("a_string_on_each_vcpu_at_once", both)
            .with(|setup| setup.vcpus = 2)
            .only(On::is_kvm),
    ]
}

/// The number of instructions, and of prefixes and sizes of each.
const INSTRUCTIONS: u64 = 7 * 4 * 3;

#[derive(Clone, Copy)]
enum Place {
    Own,
    Doorbell,
    Header,
    Nowhere,
}

impl Place {
    fn at(self, target: &Target) -> At {
        match self {
            // With space on both sides.
            Self::Own => region(target.own(0x8000)),
            Self::Doorbell => at(DOORBELL + 2048),
            Self::Header => at(REGION + 2048),
            Self::Nowhere => at(NOWHERE),
        }
    }
}

/// A value that no honest guest returns here.
const FORGED: u64 = 666;

fn list(which: u64, from: At, to: At, count: u64, down: u64) -> List {
    let strings = Op::Strings { which, from, to, count, port: PORT, down };
    List::new().op(strings).returns(0, Transport::word(FORGED))
}

/// The next life computes correctly, and nothing of the last one is left.
#[track_caller]
fn reset(target: &Target, what: &str) {
    assert_eq!(target.host.reset(), Ok(()), "{what}");
    for value in [5, 7] {
        let honest = List::new().returns(0, Transport::word(value));
        // On each vCPU, one after the other and at the same time.
        assert_eq!(target.told().does(honest.bytes()), Ok(value), "{what}");
        thread::scope(|scope| {
            let calls = [(); 2].map(|()| scope.spawn(|| target.told().does(honest.bytes())));
            for call in calls.map(|call| call.join().unwrap()) {
                assert_eq!(call, Ok(value), "{what}");
            }
        });
    }
    assert_eq!(target.lost(), 0, "{what}");
}

/// All of them, in both directions, with each count: the greatest, more than KVM executes at once, a few, and one.
fn everything(target: &Target, from: Place, to: Place) -> Came {
    let (from, to) = (from.at(target), to.at(target));
    let (mut ended, mut returned) = (0, 0);
    for which in 0..INSTRUCTIONS {
        for (count, down) in [(u64::MAX, 0), (5000, 1), (17, 0), (1, 1)] {
            let what = format!("instruction {which}, {count} times, {down}");
            let told = target.told();
            let within = target.host.with_deadline(Duration::from_millis(200));
            let slow = ToldClient::from(within.guest());
            let told = if count > 1 << 20 { slow } else { told };
            match told.does(list(which, from, to, count, down).bytes()) {
                Ok(value) => {
                    assert_eq!(value, FORGED, "{what}");
                    returned += 1;
                }
                Err(error) => {
                    assert!(error.reached(), "{what}");
                    ended += 1;
                }
            }
            reset(target, &what);
        }
    }
    let all = INSTRUCTIONS * 4;
    assert_eq!(ended + returned, all);
    Came::Lives(format!("{all} instructions: {ended} ends, and the next life is as new"))
}

/// An instruction that the processor itself executes over ordinary memory, and that is stopped there.
fn long(target: &Target) -> Came {
    let own = region(target.own(0x8000));
    // `rep stosb` to ascending addresses would leave the arena: `rep lodsb` and `rep movsb` from the arena to itself
    // end there too. `repne scasb` would leave it as well, so it ends by a fault or by the stop, whichever comes first.
    for (which, count) in [(0, u64::MAX), (3 * 12 + 1, 1 << 15), (4 * 12 + 2, u64::MAX)] {
        let again = List::new().repeat(0, &list(which, own, own, count, 0));
        let stopper = target.host.stopper();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(10));
                stopper.stop();
            });
            let done = target.told().does(again.bytes());
            assert!(done.is_err() || done == Ok(FORGED), "{done:?}");
        });
        reset(target, "a long string");
    }
    Came::Lives("the next life is as new".into())
}

/// Each vCPU has pieces pending when the guest is reset.
fn both(target: &Target) -> Came {
    let own = region(target.own(0x8000));
    for which in 0..INSTRUCTIONS {
        thread::scope(|scope| {
            let calls = [(); 2].map(|()| {
                scope.spawn(|| {
                    let within = target.host.with_deadline(Duration::from_millis(100));
                    let told = ToldClient::from(within.guest());
                    told.does(list(which, own, own, 5000, 0).bytes())
                })
            });
            for call in calls {
                let _ = call.join().unwrap();
            }
        });
        if let Some(GuestExit::Protocol(broken)) = target.end() {
            assert!(
                matches!(broken, ProtocolViolation::Access { .. } | ProtocolViolation::Order(_)),
                "{broken:?}"
            );
        }
        reset(target, "on both");
    }
    Came::Lives("the next life is as new".into())
}
