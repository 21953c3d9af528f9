//! Guests that never return by themselves, and are stopped.

use std::{
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    CallError, ConnectError, ErrorKind,
    abi::{Transport, signature},
    host::{GuestExit, Limits},
};

use super::{
    Came, Case,
    connection::{Target, ToldClient},
    interface::*,
    list::{List, at, region},
    ops::{At, Base, Deed, Op},
    traps::{PARAMS, nested, one_upcall},
};

pub fn cases() -> Vec<Case> {
    let spin = || List::new().deed(Deed::Spin, at(0), 0);
    vec![
        Case::new("an_endless_loop", move |target| stops(target, &spin())),
        Case::new("an_endless_loop_seven_levels_down", move |target| {
            stops(target, &nested(target.own(PARAMS), 7, &spin()))
        }),
        Case::new("an_endless_loop_before_the_guest_is_ready", |target| {
            let error = stopped(target, 1, || target.host.run().map(|_| ()).unwrap_err());
            assert_eq!(error, ConnectError::Exited(GuestExit::Stopped));
            Came::Ended("`Cancelled`: the guest was stopped".into())
        })
        .with(|setup| setup.script = Some(begins().deed(Deed::Spin, at(0), 0))),
        Case::new("an_endless_storm", |target| {
            let (arena, len) = target.layout.arena(vmffi::abi::Side::Guest);
            let until = region(arena + len - 8);
            let storm = Op::Storm {
                at: region(4096),
                len: arena + len - 4096 - 64,
                seed: 7,
                count: 0,
                until,
            };
            stops(target, &List::new().op(storm))
        }),
        Case::new("an_endless_stream_of_calls", |target| {
            let nothing = ParamsEverythingNothing::FUNCTION.signature;
            stream(target, &List::new().call(nothing, Transport::EMPTY))
        }),
        Case::new("an_endless_stream_of_calls_that_are_refused", |target| {
            stream(target, &List::new().call(0, Transport::EMPTY))
        }),
        Case::new("an_endless_stream_of_log_lines", |target| {
            let line = Transport { primary: target.lent(0x100), secondary: 4 };
            let list = List::new().write(region(target.own(0x100)), b"\x01\0ab");
            stream(target, &list.call(signature::LOG, line))
        }),
        Case::new("an_endless_stream_of_handshakes", |target| {
            let contract = Transport { primary: target.own(0), secondary: 2 };
            let list = List::new().write(region(target.own(0)), &[0, 0]);
            stream(target, &list.call(signature::HANDSHAKE, contract))
        }),
        Case::new("an_endless_stream_of_upcalls", |target| {
            stream(target, &one_upcall(target.own(PARAMS), &List::new()))
        }),
        Case::new("an_endless_stream_that_takes_all_memory", |target| {
            let list = List::new().fill(region(target.own(0x1000)), 64, 1).call(
                ParamsEverythingBytes::FUNCTION.signature,
                Transport { primary: target.lent(0x1000), secondary: 64 },
            );
            let came = stream(target, &list);
            let begins = |error: &CallError| error.kind() == ErrorKind::UnknownFunction;
            let refused = target.refused();
            assert!(
                refused.iter().all(|error| begins(error) || error.kind() == ErrorKind::OutOfMemory)
            );
            assert_eq!(refused.iter().filter(|error| begins(error)).count(), 2);
            came
        }),
        Case::new("more_calls_than_the_limit", calls).with(|setup| setup.limits = LIMITS),
        Case::new("a_guest_that_waits_for_ever_on_two_vcpus", two_vcpus)
            .with(|setup| setup.vcpus = 2),
    ]
}

/// The first operation of a guest that never returns: a call that is refused, which its host observes.
fn begins() -> List {
    List::new().call(0, Transport::EMPTY)
}

/// Runs the guest, and stops it from another thread when it has begun `often` times.
fn stopped<R>(target: &Target, often: usize, run: impl FnOnce() -> R) -> R {
    let stopper = target.host.stopper();
    let began = Instant::now();
    let result = thread::scope(|scope| {
        scope.spawn(move || {
            while target.refusals() < often && began.elapsed() < Duration::from_secs(60) {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(2));
            stopper.stop();
        });
        run()
    });
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(target.end(), Some(GuestExit::Stopped));
    result
}

#[track_caller]
fn cancelled(error: CallError) -> Came {
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
    Came::Ended("`Cancelled`: the guest was stopped".into())
}

/// Stops the guest from another thread, and after a reset by a deadline.
#[track_caller]
fn stops(target: &Target, list: &List) -> Came {
    let list = begins().and(list);
    cancelled(stopped(target, 1, || target.told().does(list.bytes()).unwrap_err()));
    assert_eq!(target.host.reset(), Ok(()));
    let within = target.host.with_deadline(Duration::from_millis(20));
    let began = Instant::now();
    let error = ToldClient::from(within.guest()).does(list.bytes()).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
    assert_eq!(target.end(), Some(GuestExit::Deadline));
    Came::Ended("`Cancelled`: the guest was stopped; after a reset, by a deadline".into())
}

/// As many calls as the limit permits, and one more.
fn calls(target: &Target) -> Came {
    let nothing = ParamsEverythingNothing::FUNCTION.signature;
    let most = List::new().repeat(CALLS, &List::new().call(nothing, Transport::EMPTY));
    assert_eq!(target.told().does(most.bytes()), Ok(0));
    // Refused calls and the ABI's own functions count as well.
    for signature in [nothing, 0, signature::HAS, signature::LOG] {
        let more = List::new().repeat(0, &List::new().call(signature, Transport::EMPTY));
        let error = target.told().does(more.bytes()).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
        assert_eq!(target.end(), Some(GuestExit::TooManyCalls));
        assert_eq!(target.host.reset(), Ok(()));
    }
    let more = most.call(nothing, Transport::EMPTY);
    let error = target.told().does(more.bytes()).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
    Came::Ended(format!("`Cancelled`: {}", target.end().unwrap()))
}

const CALLS: u64 = 500;
const LIMITS: Limits = Limits::new().calls(CALLS);

/// Executes the same list forever.
#[track_caller]
fn stream(target: &Target, list: &List) -> Came {
    stops(target, &List::new().repeat(0, list))
}

/// One vCPU waits for a word that the other one never writes.
fn two_vcpus(target: &Target) -> Came {
    let wait = List::new().op(Op::Wait { until: At(Base::Region, target.own(0x100)) });
    let wait = begins().fill(region(target.own(0x100)), 8, 0).and(&wait);
    let call = || target.told().does(wait.bytes()).unwrap_err();
    let (one, two) = stopped(target, 2, || {
        thread::scope(|scope| {
            let other = scope.spawn(call);
            (call(), other.join().unwrap())
        })
    });
    cancelled(one);
    cancelled(two)
}
