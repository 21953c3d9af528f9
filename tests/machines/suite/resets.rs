//! Guests that are reset to the state after their startup.

use std::{
    sync::{Arc, Mutex, OnceLock, Weak, mpsc},
    thread,
    time::Duration,
};

use vmffi::{
    ErrorKind, ForeignBuf, Peer,
    host::{FaultCause, GuestExit, ResetError, RunOutcome},
};

use super::{
    Case,
    connection::{self, Built, Connection, On, machine},
    host::Host,
    shared::{
        self,
        control::{BOTTOM_EXIT, BOTTOM_PANIC, ControlClient, Crime},
        handles::HandlesClient,
        native,
        nesting::NestingClient,
        state::StateClient,
    },
};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(On)| Case::new(name, On::is_machine, run);
    vec![
        case("a_reset_of_a_guest_that_waits", waits),
        case("a_reset_after_each_end", ends),
        case("a_reset_restores_memory", memory),
        case("a_reset_restores_registers", registers),
        case("handles_are_stale_after_a_reset", stale),
        case("loans_of_the_startup_are_there_after_a_reset", gift),
        case("a_reset_in_a_call_is_refused", in_a_call),
        case("a_reset_on_another_thread_during_a_call_is_refused", during_a_call),
        Case::new("a_reset_before_the_guest_runs_is_refused", On::is_new_machine, too_early),
        Case::new("a_reset_of_a_guest_that_never_waited_is_refused", On::is_new_machine, never),
        case("five_hundred_resets", many),
        Case::new("a_reset_of_three_vcpus", On::is_machine, three),
        Case::new("a_reset_on_another_thread", On::is_machine, moved),
    ]
}

fn started(on: On, host: Host) -> Built {
    let Connection::Machine(host) = Connection::new(on, host) else { panic!("a loopback") };
    host
}

fn count(host: &Built, more: u64) -> u64 {
    StateClient::from(host.guest()).count(more).unwrap()
}

/// The guest is in the state after its startup, and works.
#[track_caller]
fn fresh(host: &Built) {
    assert_eq!(host.guest_exit(), None);
    assert_eq!(host.guest().arena_stats().blocks, 0);
    let used = ControlClient::from(host.guest()).used().unwrap();
    assert_eq!(used.blocks, 1, "the answer itself");
    assert_eq!(count(host, 0), 3);
    assert_eq!(ControlClient::from(host.guest()).sum(4), Ok(10));
    assert_eq!(NestingClient::from(host.guest()).down(9, 0), Ok(10));
}

/// ABI, Arenas and loans.
fn waits(on: On) {
    let host = started(on, Host::default());
    assert_eq!(count(&host, 4), 7);
    for _ in 0..3 {
        assert_eq!(host.reset(), Ok(()));
        fresh(&host);
        assert_eq!(count(&host, 5), 8);
    }
}

/// Each end, with its error and its text.
fn ends(on: On) {
    let host = started(on, Host::default());
    let control = ControlClient::from(host.guest());
    let nesting = NestingClient::from(host.guest());
    type Does<'h> = &'h dyn Fn() -> Result<(), vmffi::CallError>;
    let crime = |crime, place| control.commit(crime, place);
    // If the guest does not trap by the doorbell, it has none.
    let _ = crime(Crime::Read, 0x200_0000_0010);
    let doorbell = match host.guest_exit().unwrap() {
        GuestExit::Protocol(_) => (ErrorKind::Protocol, "invalid access"),
        _ => (ErrorKind::PeerDied, "at address 0x200000000"),
    };
    assert!(on.is_kvm() || doorbell.0 == ErrorKind::PeerDied);
    assert_eq!(host.reset(), Ok(()));
    let fault = |number| FaultCause::Exception(number);
    let reads = format!("{} at address 0x10,", fault(native::READ_FAULT));
    let jumps =
        format!("{} at address 0x10, by the instruction at 0x10", fault(native::EXECUTE_FAULT));
    let all: [(Does<'_>, ErrorKind, &str); 11] = [
        (&|| crime(Crime::Read, 0x10), ErrorKind::PeerDied, &reads),
        (&|| crime(Crime::Jump, 0x10), ErrorKind::PeerDied, &jumps),
        (&|| crime(Crime::Undefined, 0), ErrorKind::PeerDied, "invalid instruction"),
        (&|| crime(Crime::Breakpoint, 0), ErrorKind::PeerDied, "breakpoint"),
        (&|| crime(Crime::Overflow, 0), ErrorKind::PeerDied, "stack overflow"),
        (&|| crime(Crime::SystemCall, 0), ErrorKind::PeerDied, "the guest crashed"),
        (&|| crime(Crime::Narrow, 0x200_0000_0000), doorbell.0, doorbell.1),
        (&|| crime(Crime::Read, 0x200_0000_0010), doorbell.0, doorbell.1),
        (&|| control.panics("it \x1b[31mpanics"), ErrorKind::PeerDied, "it \\u{1b}[31mpanics"),
        (&|| nesting.down(8, BOTTOM_PANIC).map(drop), ErrorKind::PeerDied, "at the bottom"),
        (&|| nesting.down(14, BOTTOM_EXIT).map(drop), ErrorKind::PeerDied, "from the bottom"),
    ];
    let divides: [(Does<'_>, ErrorKind, &str); 1] =
        [(&|| crime(Crime::Divide, 0), ErrorKind::PeerDied, "division error")];
    let divides = divides.into_iter().filter(|_| native::DIVIDE.is_some());
    for (does, why, text) in all.into_iter().chain(divides) {
        let error = does().unwrap_err();
        assert_eq!((error.kind(), error.reached()), (why, true), "{text}");
        let end = host.guest_exit().unwrap().to_string();
        assert!(end.contains(text), "{end}");
        assert_eq!(host.reset(), Ok(()), "{end}");
        fresh(&host);
    }
    // Stopped while it waits, while it runs, and after it was resumed.
    host.stopper().stop();
    assert_eq!(control.sum(1).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(host.reset(), Ok(()));
    fresh(&host);
    let stopper = host.stopper();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            stopper.stop();
        });
        assert_eq!(control.spin().unwrap_err().kind(), ErrorKind::Cancelled);
    });
    assert_eq!(host.guest_exit(), Some(GuestExit::Stopped));
    assert_eq!(host.reset(), Ok(()));
    fresh(&host);
    assert_eq!(host.run(), Ok(RunOutcome::Exited(0)));
    assert_eq!(host.reset(), Ok(()));
    fresh(&host);
}

fn memory(on: On) {
    let host = started(on, Host::default());
    let state = StateClient::from(host.guest());
    // More than a reset zeroes in place, and less.
    for len in [100, 1 << 16, 2 << 20] {
        for round in 0..5 {
            state.fill(len).unwrap();
            state.fill(1 << 20).unwrap();
            count(&host, round);
            assert_eq!(host.reset(), Ok(()), "its heap would be full otherwise");
            assert_eq!(count(&host, 0), 3);
        }
    }
    for check in shared::CHECKS.iter().copied().flatten() {
        shared::run(*check, host.guest());
        assert_eq!(host.reset(), Ok(()));
    }
    fresh(&host);
}

/// Registers that a trap preserves, by each trap method (ABI, Traps TR-11, TR-20 and TR-25).
fn registers(on: On) {
    let host = started(on, Host::default());
    let state = StateClient::from(host.guest());
    let before = state.registers(false).unwrap();
    assert!(native::is_initial(&before), "{before:?}");
    let changed = state.registers(true).unwrap();
    assert!(native::is_changed(&changed), "{changed:?}");
    assert_eq!(state.registers(false), Ok(changed), "they stay from call to call");
    assert_eq!(host.reset(), Ok(()));
    assert_eq!(state.registers(false), Ok(before));
}

fn stale(on: On) {
    let host = started(on, Host::default());
    let handles = HandlesClient::from(host.guest());
    let old: ForeignBuf = handles.buf(&[5; 1000]).unwrap();
    assert_eq!(old.read_vec().unwrap().len(), 1000);
    // The guest also keeps a block of the host.
    let control = ControlClient::from(host.guest());
    control.place(b"kept by the guest").unwrap();
    assert_eq!(host.guest().arena_stats().blocks, 1);
    assert_eq!(host.reset(), Ok(()));
    assert_eq!(host.guest().arena_stats().blocks, 0);
    let new: ForeignBuf = handles.buf(&[5; 1000]).unwrap();
    let first = new.read_vec().unwrap();
    assert_eq!(old.read_vec().unwrap_err().kind(), ErrorKind::Stale);
    assert_eq!(old.read_into(&mut [0; 10]).unwrap_err().kind(), ErrorKind::Stale);
    // Dropping the stale handle releases no loan of this life.
    drop(old);
    let more: ForeignBuf = handles.buf(&[5; 1000]).unwrap();
    assert_eq!(new.read_vec().unwrap(), first);
    drop((new, more));
    assert_eq!(control.used().unwrap().blocks, 1, "the answer itself");
}

/// ABI, Arenas and loans A-11: in each life the guest has the loans that it had after its startup, whatever it did with them, and
/// whatever was lent in between.
fn gift(on: On) {
    const GIFT: &[u8] = b"for the rest of your life";
    let host = started(on, Host::with_gift(GIFT));
    let state = StateClient::from(host.guest());
    let asks = || state.gift().unwrap().read_vec().unwrap();
    assert_eq!(asks(), GIFT);
    for _ in 0..5 {
        assert_eq!(host.guest().arena_stats().blocks, 1, "the gift");
        let control = ControlClient::from(host.guest());
        for _ in 0..20 {
            control.place(&[7; 25]).unwrap();
        }
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(asks(), GIFT);
    }
    // An end of the guest does not end the gift's loan for the next life.
    let control = ControlClient::from(host.guest());
    assert!(control.commit(Crime::Undefined, 0).is_err());
    assert_eq!(host.reset(), Ok(()));
    assert_eq!(asks(), GIFT);
}

fn in_a_call(on: On) {
    let place: Arc<OnceLock<Weak<Built>>> = Arc::default();
    let (tried, itself) = (Arc::new(Mutex::new(Vec::new())), place.clone());
    let tries = tried.clone();
    let server = Host::on_call(move |_: &Peer| {
        let host = itself.get().unwrap().upgrade().unwrap();
        tries.lock().unwrap().push(host.reset());
    });
    let host = Arc::new(started(on, server));
    place.set(Arc::downgrade(&host)).unwrap();
    assert_eq!(ControlClient::from(host.guest()).calls_back(), Ok(1000));
    assert_eq!(*tried.lock().unwrap(), [Err(ResetError::Busy)]);
    assert_eq!(host.reset(), Ok(()));
    fresh(&host);
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
    let host = started(on, server);
    thread::scope(|scope| {
        let host = &host;
        scope.spawn(move || {
            begins.recv().unwrap();
            assert_eq!(host.reset(), Err(ResetError::Busy));
            host.stopper().stop();
            assert_eq!(host.reset(), Err(ResetError::Busy), "its handler still runs");
            go.send(()).unwrap();
        });
        let error = ControlClient::from(host.guest()).calls_back().unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
    });
    assert_eq!(host.reset(), Ok(()));
    fresh(&host);
}

fn too_early(on: On) {
    let host = machine().build(on.backend(), Host::default()).unwrap();
    assert_eq!(host.reset(), Err(ResetError::NotStarted));
    assert_eq!(host.run(), Ok(RunOutcome::Ready));
    assert_eq!(host.reset(), Ok(()));
    fresh(&host);
}

fn never(on: On) {
    // The machine cannot be connected.
    let host = machine().arenas(4096, 1 << 20).build(on.backend(), Host::default()).unwrap();
    assert!(matches!(host.run(), Ok(RunOutcome::Exited(_))));
    assert_eq!(host.reset(), Err(ResetError::NotStarted));
    assert!(matches!(host.run(), Ok(RunOutcome::Exited(_))));
}

fn many(on: On) {
    let host = started(on, Host::default());
    for round in 0..500 {
        if round % 7 == 0 {
            assert!(ControlClient::from(host.guest()).commit(Crime::Undefined, 0).is_err());
        }
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(count(&host, 1), 4);
    }
    assert_eq!(host.reset(), Ok(()));
    fresh(&host);
}

fn three(on: On) {
    let host = connection::started(&machine().vcpus(3), on, Host::default());
    let control = ControlClient::from(host.guest());
    for round in 0..20 {
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert_eq!(control.together(3), Ok(())));
            }
        });
        if round % 2 == 0 {
            // One stop ends all calls.
            thread::scope(|scope| {
                let spins = || ControlClient::from(host.guest()).spin().unwrap_err().kind();
                let all = [scope.spawn(spins), scope.spawn(spins)];
                thread::sleep(Duration::from_millis(5));
                assert!(control.commit(Crime::Undefined, 0).is_err());
                for one in all {
                    assert_eq!(one.join().unwrap(), ErrorKind::PeerDied);
                }
            });
        }
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(count(&host, 0), 3);
    }
    fresh(&host);
}

fn moved(on: On) {
    let host = started(on, Host::default());
    for _ in 0..10 {
        thread::scope(|scope| {
            scope.spawn(|| {
                count(&host, 1);
                assert_eq!(host.reset(), Ok(()));
                fresh(&host);
            });
        });
    }
    fresh(&host);
}
