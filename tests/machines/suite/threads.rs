//! Calls from several threads, and guests with several vCPUs.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use vmffi::{ErrorKind, machine::MachineError};

use super::{
    Case,
    connection::{self, Built, Connection, On, machine},
    host::Host,
    shared::{self, control::ControlClient, handles::HandlesClient, nesting::NestingClient},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("the_thread_that_made_it_is_gone", On::is_machine, orphan),
        Case::new("any_thread_may_call", On::is_machine, any_thread),
        Case::new("threads_wait_for_the_one_vcpu", On::is_machine, queue),
        Case::new("vcpus_run_at_the_same_time", On::is_machine, together),
        Case::new("checks_on_all_vcpus_at_once", On::is_machine, all_at_once),
        Case::new("a_fault_of_one_vcpu_ends_all", On::is_machine, one_for_all),
        Case::new("a_stop_stops_all_vcpus", On::is_machine, stop_all),
        Case::new("invalid_numbers_of_vcpus", On::is_machine, numbers),
        Case::new("moved_to_another_thread", On::is_machine, moved),
        Case::new("a_handlers_peer_on_another_thread", On::is_machine, helper),
        Case::new("handles_dropped_on_another_thread", On::is_any, dropped),
        Case::new("signals_that_stop", On::is_kvm, signals),
    ]
}

fn built(on: On, vcpus: u32) -> Built {
    connection::started(&machine().vcpus(vcpus), on, Host::default())
}

/// A guest belongs to its host, not to the thread that made it.
fn orphan(on: On) {
    let host = thread::scope(|scope| scope.spawn(|| built(on, 1)).join().unwrap());
    assert_eq!(ControlClient::from(host.guest()).sum(3), Ok(6));
    assert_eq!(host.reset(), Ok(()));
    assert_eq!(ControlClient::from(host.guest()).sum(4), Ok(10));
    host.stopper().stop();
    let error = ControlClient::from(host.guest()).sum(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

fn any_thread(on: On) {
    let host = built(on, 1);
    for nr in 0..10 {
        thread::scope(|scope| {
            let call = || NestingClient::from(host.guest()).down(nr, 0);
            assert_eq!(scope.spawn(call).join().unwrap(), Ok(nr + 1));
        });
    }
}

fn moved(on: On) {
    let host = thread::scope(|scope| scope.spawn(|| built(on, 2)).join().unwrap());
    assert_eq!(ControlClient::from(host.guest()).sum(3), Ok(6));
    thread::scope(|scope| scope.spawn(move || drop(host)).join().unwrap());
}

fn queue(on: On) {
    let host = built(on, 1);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for count in 0..50 {
                    let sum = ControlClient::from(host.guest()).sum(count);
                    assert_eq!(sum, Ok(count * (count + 1) / 2));
                }
            });
        }
    });
}

/// The other vCPUs find the guest connected, since the first one was entered before them (ABI, Boot block B-3).
fn together(on: On) {
    for vcpus in [2, 4, 7] {
        let host = built(on, vcpus);
        // Each call waits in the guest until all are there.
        thread::scope(|scope| {
            for _ in 0..vcpus {
                let call = || ControlClient::from(host.guest()).together(vcpus);
                scope.spawn(move || assert_eq!(call(), Ok(())));
            }
        });
    }
}

fn all_at_once(on: On) {
    let host = built(on, 3);
    let before = ControlClient::from(host.guest()).used().unwrap();
    // Checks that compare or fill a whole arena are for one thread at a time.
    let group = shared::plain::CHECKS;
    thread::scope(|scope| {
        for thread in 0..3 {
            let host = &host;
            scope.spawn(move || {
                for nr in 0..group.len() {
                    group[(nr + thread * 7) % group.len()].1(host.guest());
                    assert_eq!(NestingClient::from(host.guest()).down(15, 0), Ok(16));
                }
            });
        }
    });
    assert_eq!(host.guest().arena_stats().blocks, 0);
    assert_eq!(ControlClient::from(host.guest()).used(), Ok(before));
}

/// One of two vCPUs waits for the other one, forever.
fn waits(on: On, end: impl FnOnce(&Built), why: ErrorKind) {
    let host = built(on, 2);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| ControlClient::from(host.guest()).together(2));
        thread::sleep(Duration::from_millis(20));
        end(&host);
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), why);
    });
    let error = ControlClient::from(host.guest()).sum(1).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (why, false));
}

fn one_for_all(on: On) {
    let panics = |host: &Built| {
        let error = ControlClient::from(host.guest()).panics("one for all").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerDied);
        let end = host.guest_exit().unwrap().to_string();
        assert!(end.contains("one for all"), "{end}");
    };
    waits(on, panics, ErrorKind::PeerDied);
}

fn stop_all(on: On) {
    waits(on, |host| host.stopper().stop(), ErrorKind::Cancelled);
}

fn numbers(on: On) {
    for vcpus in [0, 65, u32::MAX] {
        let error = machine().vcpus(vcpus).build(on.backend(), ()).unwrap_err();
        assert!(matches!(error, MachineError::Config(_)), "{error:?}");
    }
    drop(Connection::new(on, Host::default()));
}

/// While a handler waits, another thread calls back, on the handler's own vCPU.
fn helper(on: On) {
    let why = Arc::new(Mutex::new(None));
    let seen = why.clone();
    let host = Host::on_call(move |guest| {
        let call = || ControlClient::from(guest).says("a").map_err(|error| error.kind());
        let said = thread::scope(|scope| scope.spawn(call).join().unwrap());
        assert_eq!(said, Ok(97));
        *seen.lock().unwrap() = Some(call());
    });
    let guest = Connection::new(on, host);
    assert_eq!(guest.control().calls_back(), Ok(1000));
    assert_eq!(*why.lock().unwrap(), Some(Ok(97)));
}

fn dropped(on: On) {
    let guest = Connection::new(on, Host::default());
    let before = guest.blocks();
    let call = HandlesClient::from(guest.guest());
    for _ in 0..20 {
        let held: Vec<_> = (1..50).map(|nr| call.buf(&[nr; 100]).unwrap()).collect();
        let inside = guest.blocks();
        assert_eq!(inside.1, before.1 + 49);
        thread::scope(|scope| scope.spawn(move || drop(held)).join().unwrap());
        assert_eq!(guest.blocks(), before);
    }
}

fn signals(on: On) {
    assert!(matches!(machine().signal(0), Err(MachineError::Config(_))));
    assert!(matches!(machine().signal(1000), Err(MachineError::Config(_))));
    let machine = machine().vcpus(2).signal(libc::SIGWINCH).unwrap();
    let host = connection::started(&machine, on, Host::default());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| ControlClient::from(host.guest()).together(3));
        thread::sleep(Duration::from_millis(20));
        host.stopper().stop();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    });
}
