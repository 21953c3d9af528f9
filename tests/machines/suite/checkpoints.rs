//! Checkpoints that a host makes: the state that a reset restores, and when none can be made.

use std::{
    hint,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    Peer,
    host::{CheckpointError, GuestExit, ResetError, RunOutcome},
    machine::Snapshot,
};

use super::{
    Case,
    connection::{self, Built, On, machine},
    host::Host,
    shared::{
        self,
        control::{ControlClient, Crime},
        failures::FailingClient,
        handles::HandlesClient,
        nesting::NestingClient,
        state::StateClient,
    },
    timed,
};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(On)| Case::new(name, On::is_machine, run);
    let new = |name: &str, run: fn(On)| Case::new(name, On::is_new_machine, run);
    vec![
        case("a_reset_restores_the_checkpoint", checkpoints),
        case("checkpoints_of_two_and_four_vcpus", of_vcpus),
        case("a_checkpoint_after_stops_and_resets", after_stops),
        case("a_checkpoint_after_a_reset_without_a_call", without_a_call),
        case("registers_are_in_the_checkpoint", registers),
        new("a_checkpoint_before_the_guest_waits_is_refused", too_early),
        new("a_checkpoint_of_a_guest_that_never_waits_is_refused", never),
        case("a_checkpoint_during_a_call_is_refused", during_a_call),
        case("a_checkpoint_in_a_handler_is_refused", in_a_handler),
        case("a_checkpoint_of_a_guest_that_has_ended_is_refused", ended),
        case("a_checkpoint_that_does_not_fit", too_large),
        case("stops_while_checkpoints_are_made", stopped),
        case("loans_are_in_the_checkpoint", loans),
    ]
}

pub fn started(on: On, vcpus: u32) -> Built {
    connection::started(&machine().vcpus(vcpus), on, Host::default())
}

pub fn count(host: &Built, more: u64) -> u64 {
    StateClient::from(host.guest()).count(more).unwrap()
}

pub fn keep(host: &Built, bytes: &[u8]) {
    FailingClient::from(host.guest()).keep(bytes).unwrap();
}

/// The sum of all bytes that the guest keeps.
pub fn kept(host: &Built) -> u64 {
    FailingClient::from(host.guest()).kept().unwrap()
}

pub fn clone(snapshot: &Snapshot) -> Built {
    snapshot.build(Host::default()).unwrap()
}

/// The guest works, and no block is lost.
#[track_caller]
pub fn works(host: &Built) {
    let blocks = host.guest().arena_stats().blocks;
    assert_eq!(ControlClient::from(host.guest()).sum(4), Ok(10), "{:?}", host.guest_exit());
    assert_eq!(NestingClient::from(host.guest()).down(9, 0), Ok(10));
    assert_eq!(host.guest().arena_stats().blocks, blocks);
    assert_eq!(host.guest_exit(), None);
}

fn checkpoints(on: On) {
    let host = started(on, 1);
    let state = StateClient::from(host.guest());
    assert_eq!(count(&host, 4), 7);
    assert_eq!(host.checkpoint(), Ok(()));
    let mut now = 7;
    for round in 1..20 {
        // Otherwise its heap would soon be full.
        state.fill(1 << 20).unwrap();
        state.fill(1 << 20).unwrap();
        assert_eq!(count(&host, 100), now + 100);
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(count(&host, round), now + round);
        now += round;
        match round % 4 {
            0 => assert_eq!(NestingClient::from(host.guest()).down(9, 0), Ok(10)),
            1 => shared::run(shared::CHECKS[0][0], host.guest()),
            2 => assert_eq!(ControlClient::from(host.guest()).sum(100), Ok(5050)),
            _ => {}
        }
        assert_eq!(host.checkpoint(), Ok(()));
        if round % 3 == 0 {
            assert_eq!(host.checkpoint(), Ok(()), "again, at once");
        }
        assert_eq!(count(&host, 1), now + 1, "the guest continues");
        if round % 5 == 0 {
            assert!(ControlClient::from(host.guest()).commit(Crime::Undefined, 0).is_err());
        }
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(count(&host, 0), now);
    }
    works(&host);
}

fn of_vcpus(on: On) {
    for vcpus in [2, 4] {
        let host = started(on, vcpus);
        let (mut now, together) = (3, |of: u32| {
            let control = ControlClient::from(host.guest());
            thread::scope(|scope| {
                (0..of).for_each(|_| drop(scope.spawn(|| control.together(of).unwrap())));
            });
        });
        for round in 1..=12 {
            // All vCPUs have run since the last reset, two, or one.
            match round % 3 {
                0 => together(vcpus),
                1 => together(2),
                _ => {}
            }
            now = count(&host, round % 2 + 1);
            assert_eq!(host.checkpoint(), Ok(()), "{round}");
            for _ in 0..2 {
                assert_eq!(count(&host, 50), now + 50);
                assert_eq!(host.reset(), Ok(()));
                // The counter of calls in progress is memory as well.
                assert_eq!(count(&host, 0), now);
            }
        }
        assert!(now > 3);
        works(&host);
        let snapshot = host.snapshot().unwrap();
        drop(host);
        let host = clone(&snapshot);
        assert_eq!(count(&host, 0), now);
        works(&host);
    }
}

/// A stop reaches a waiting vCPU when it runs next, which may be for a checkpoint of a later life.
fn after_stops(on: On) {
    for vcpus in [1, 2, 3] {
        let host = started(on, vcpus);
        let mut now = 3;
        for round in 0..20 {
            // The second reset changes no memory.
            assert_eq!(host.reset(), Ok(()));
            host.stopper().stop();
            assert_eq!(host.reset(), Ok(()), "{vcpus} {round}");
            // One vCPU runs, the others do not.
            now = count(&host, 1);
            assert_eq!(host.checkpoint(), Ok(()), "{vcpus} {round}: {:?}", host.guest_exit());
            assert_eq!(count(&host, 7), now + 7);
            if round % 2 == 0 {
                host.stopper().stop();
            }
            assert_eq!(host.reset(), Ok(()));
            assert_eq!(count(&host, 0), now);
            let control = ControlClient::from(host.guest());
            thread::scope(|scope| {
                (0..vcpus).for_each(|_| drop(scope.spawn(|| control.sum(10).unwrap())));
            });
            assert_eq!(host.guest_exit(), None);
        }
        assert_eq!(now, 23);
    }
}

fn without_a_call(on: On) {
    for vcpus in [1, 2] {
        let host = started(on, vcpus);
        for round in 0..5 {
            assert_eq!(host.checkpoint(), Ok(()));
            assert_eq!(host.reset(), Ok(()));
            assert_eq!(host.checkpoint(), Ok(()));
            assert_eq!(host.checkpoint(), Ok(()));
            assert_eq!(host.reset(), Ok(()));
            assert_eq!(host.reset(), Ok(()));
            assert_eq!(count(&host, 1), 4 + round);
            assert_eq!(host.checkpoint(), Ok(()));
        }
        let snapshot = host.snapshot().unwrap();
        assert_eq!(host.reset(), Ok(()));
        assert_eq!((count(&host, 0), count(&clone(&snapshot), 0)), (8, 8));
        works(&host);
    }
}

fn registers(on: On) {
    let host = started(on, 1);
    let state = StateClient::from(host.guest());
    let before = state.registers(false).unwrap();
    let changed = state.registers(true).unwrap();
    assert_ne!(changed, before);
    for _ in 0..3 {
        assert_eq!(host.checkpoint(), Ok(()));
        assert_eq!(state.registers(false), Ok(changed), "the guest continues");
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(state.registers(false), Ok(changed));
    }
}

fn too_early(on: On) {
    let host = machine().vcpus(2).build(on.backend(), Host::default()).unwrap();
    assert_eq!(host.checkpoint(), Err(CheckpointError::NotStarted));
    let error = host.snapshot().unwrap_err();
    assert_eq!(error, CheckpointError::NotStarted);
    assert!(error.to_string().contains("run it first"), "{error}");
    assert_eq!(host.run(), Ok(RunOutcome::Ready));
    assert_eq!(host.checkpoint(), Ok(()));
}

fn never(on: On) {
    // The machine cannot be connected.
    let host = machine().arenas(4096, 1 << 20).build(on.backend(), Host::default()).unwrap();
    assert!(matches!(host.run(), Ok(RunOutcome::Exited(_))));
    let (made, exit) = (host.checkpoint(), host.guest_exit().unwrap());
    assert_eq!(made, Err(CheckpointError::Exited(exit)));
    assert_eq!(host.reset(), Err(ResetError::NotStarted));
}

fn during_a_call(on: On) {
    let (begun, begins) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let both = Mutex::new((begun, goes));
    let server = Host::on_call(move |_| {
        let both = both.lock().unwrap();
        both.0.send(()).unwrap();
        both.1.recv().unwrap();
    });
    // One vCPU is free.
    let host = connection::started(&machine().vcpus(2), on, server);
    count(&host, 1);
    thread::scope(|scope| {
        let host = &host;
        scope.spawn(move || {
            begins.recv().unwrap();
            assert_eq!(host.checkpoint(), Err(CheckpointError::Busy));
            let error = host.snapshot().unwrap_err();
            assert_eq!(error, CheckpointError::Busy);
            assert!(error.to_string().contains("during a call"), "{error}");
            go.send(()).unwrap();
        });
        assert_eq!(ControlClient::from(host.guest()).calls_back(), Ok(1000));
    });
    assert_eq!(host.reset(), Ok(()));
    assert_eq!(count(&host, 0), 3, "the earlier checkpoint");
    assert_eq!(host.checkpoint(), Ok(()));
    works(&host);
}

fn in_a_handler(on: On) {
    let place: Arc<OnceLock<Weak<Built>>> = Arc::default();
    let (tried, itself) = (Arc::new(Mutex::new(Vec::new())), place.clone());
    let tries = tried.clone();
    let server = Host::on_call(move |_: &Peer| {
        let host = itself.get().unwrap().upgrade().unwrap();
        tries.lock().unwrap().extend([host.checkpoint(), host.snapshot().map(drop)]);
    });
    let host = Arc::new(connection::started(&machine(), on, server));
    place.set(Arc::downgrade(&host)).unwrap();
    assert_eq!(ControlClient::from(host.guest()).calls_back(), Ok(1000));
    let busy = Err(CheckpointError::Busy);
    assert_eq!(*tried.lock().unwrap(), [busy.clone(), busy]);
    assert_eq!(host.checkpoint(), Ok(()));
    works(&host);
}

/// However the guest has ended, the earlier checkpoint remains.
fn ended(on: On) {
    let host = started(on, 1);
    assert_eq!(count(&host, 2), 5);
    assert_eq!(host.checkpoint(), Ok(()));
    let control = ControlClient::from(host.guest());
    let soon = host.with_deadline(Duration::from_millis(5));
    type Ends<'h> = &'h dyn Fn();
    let ends: [(Ends<'_>, &str); 6] = [
        (&|| drop(control.commit(Crime::Undefined, 0)), "invalid instruction"),
        (&|| drop(control.commit(Crime::Overflow, 0)), "stack overflow"),
        (&|| drop(control.panics("of its own")), "of its own"),
        (&|| host.stopper().stop(), "stopped"),
        (&|| drop(ControlClient::from(soon.guest()).sum(u64::MAX)), "deadline"),
        (&|| assert_eq!(host.run(), Ok(RunOutcome::Exited(0))), "the guest exited"),
    ];
    for (end, text) in ends {
        count(&host, 100);
        end();
        let exit = host.guest_exit().unwrap();
        assert_eq!(host.checkpoint(), Err(CheckpointError::Exited(exit.clone())));
        let error = host.snapshot().unwrap_err();
        assert_eq!(error, CheckpointError::Exited(exit));
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(count(&host, 0), 5);
        works(&host);
    }
}

/// More than the machine's memory limit: the guest continues, and the earlier checkpoint remains.
fn too_large(on: On) {
    let least = (1..1024)
        .find(|mib| machine().memory(mib << 20).build(on.backend(), Host::default()).is_ok())
        .unwrap();
    let machine = machine().memory((least + 1) << 20);
    let host = connection::started(&machine, on, Host::default());
    assert_eq!(count(&host, 4), 7);
    assert_eq!(host.checkpoint(), Ok(()));
    for _ in 0..3 {
        assert_eq!(count(&host, 1), 8);
        StateClient::from(host.guest()).fill(3 << 20).unwrap();
        for error in [host.checkpoint(), host.snapshot().map(drop)] {
            let Err(CheckpointError::Failed(text)) = error else { panic!("{error:?}") };
            assert!(text.contains("raise `MachineBuilder::memory`"), "{text}");
            assert_eq!(count(&host, 0), 8, "the guest continues");
            works(&host);
        }
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(count(&host, 0), 7);
        works(&host);
    }
    // Pages that the guest has written stay private for some resets, and must not be in another checkpoint.
    assert_eq!(host.reset(), Ok(()));
    let snapshot = host.snapshot().unwrap();
    assert_eq!(count(&clone(&snapshot), 0), 7);
}

/// A stop arrives at any moment while a checkpoint is made. After a reset the guest has one of the two states, completely.
fn stopped(on: On) {
    for vcpus in [1, 2] {
        let host = started(on, vcpus);
        let (mut made, mut cancelled) = (0, 0);
        StateClient::from(host.guest()).fill(200_000).unwrap();
        let both = |host: &Built| (count(host, 0), kept(host));
        // How long a checkpoint takes that nothing stops. On an emulated processor, it may take a hundred times as long.
        let whole = (0..3).map(|_| {
            keep(&host, &[1; 100]);
            timed(|| assert_eq!(host.checkpoint(), Ok(())))
        });
        let latest = whole.max().unwrap().mul_f64(1.5).max(Duration::from_micros(600));
        let mut old = both(&host);
        for round in 0..3000_u64 {
            // More rounds than wanted, until both have come.
            if round >= 300 && made > 0 && cancelled > 0 {
                break;
            }
            keep(&host, &[1; 100]);
            count(&host, 1);
            let new = both(&host);
            assert_eq!(new, (old.0 + 1, old.1 + 100), "{round}");
            let stopper = host.stopper();
            let begins = AtomicBool::new(false);
            let done = thread::scope(|scope| {
                scope.spawn(|| {
                    begins.store(true, Ordering::Release);
                    // From before its beginning to after its end.
                    let began = Instant::now();
                    while began.elapsed() < latest * (round % 60) as u32 / 60 {
                        hint::spin_loop();
                    }
                    stopper.stop();
                });
                while !begins.load(Ordering::Acquire) {
                    hint::spin_loop();
                }
                host.checkpoint()
            });
            match &done {
                Ok(()) => made += 1,
                Err(CheckpointError::Exited(GuestExit::Stopped)) => cancelled += 1,
                Err(error) => panic!("{error}"),
            }
            assert_eq!(host.guest_exit(), Some(GuestExit::Stopped));
            assert_eq!(host.reset(), Ok(()), "{round}: {done:?}");
            let now = both(&host);
            assert_eq!(now, if done.is_ok() { new } else { old }, "{round}: {done:?}");
            assert_eq!(host.guest().arena_stats().blocks as u64, now.1 / 100, "its loans");
            old = now;
        }
        works(&host);
        println!("{made} made, {cancelled} cancelled");
        assert!(made > 0 && cancelled > 0);
    }
}

fn loans(on: On) {
    let host = started(on, 1);
    keep(&host, &[1; 5000]);
    assert_eq!(host.checkpoint(), Ok(()));
    let used = |host: &Built| host.guest().arena_stats().blocks;
    assert_eq!((kept(&host), used(&host)), (5000, 1));
    for round in 0..5 {
        // The guest releases it, and gets other memory; the checkpoint has it still.
        assert_eq!(FailingClient::from(host.guest()).forget(), Ok(1));
        for nr in 0..50 {
            keep(&host, &[nr; 5000]);
        }
        assert_eq!(host.reset(), Ok(()), "{round}");
        assert_eq!((kept(&host), used(&host)), (5000, 1), "{round}");
        keep(&host, &[2; 3000]);
        assert_eq!(host.reset(), Ok(()));
        assert_eq!((kept(&host), used(&host)), (5000, 1), "{round}");
    }
    // After the guest has released it, the next checkpoint does not contain it.
    assert_eq!(FailingClient::from(host.guest()).forget(), Ok(1));
    keep(&host, &[3; 100]);
    assert_eq!(host.checkpoint(), Ok(()));
    assert_eq!((kept(&host), used(&host)), (300, 1));
    let all = host.guest().arena_stats().capacity;
    assert!(HandlesClient::from(host.guest()).buf(&vec![1; all - 10_000]).is_ok());
    assert_eq!(host.reset(), Ok(()));
    assert_eq!((kept(&host), used(&host)), (300, 1));
    let snapshot = host.snapshot().unwrap();
    let other = clone(&snapshot);
    assert_eq!((kept(&other), used(&other)), (300, 1));
}
