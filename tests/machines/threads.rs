//! Calls from several threads, and guests with several vCPUs.

use std::thread;

use vmffi::{ConnectError, Why, host::Ran, machine::MachineError};

use crate::{
    Case,
    connection::{Built, Connection, On, machine},
    host::Host,
    shared::{self, control::ControlClient, nesting::NestingClient},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("other_threads_are_busy", On::is_process, busy),
        Case::new("the_thread_that_made_it_is_gone", On::is_process, orphan),
        Case::new("any_thread_may_call", On::is_kvm, any_thread),
        Case::new("threads_wait_for_the_one_vcpu", On::is_kvm, queue),
        Case::new("vcpus_run_at_the_same_time", On::is_kvm, together),
        Case::new("checks_on_all_vcpus_at_once", On::is_kvm, all_at_once),
        Case::new("a_fault_of_one_vcpu_ends_all", On::is_kvm, one_for_all),
        Case::new("a_stop_stops_all_vcpus", On::is_kvm, stop_all),
        Case::new("numbers_of_vcpus_that_are_none", On::is_machine, numbers),
        Case::new("moved_to_another_thread", On::is_kvm, moved),
    ]
}

fn built(on: On, vcpus: u32) -> Built {
    let host = machine().vcpus(vcpus).build(on.backend(), Host::default()).unwrap();
    assert_eq!(host.run(), Ok(Ran::Ready), "{:?}", host.end());
    host
}

fn busy(on: On) {
    let host = built(on, 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            let error = ControlClient::from(host.guest()).sum(1).unwrap_err();
            assert_eq!((error.why(), error.reached()), (Why::Busy, false));
            let Err(ConnectError::Call(error)) = host.run() else { panic!("it runs") };
            assert_eq!(error.why(), Why::Busy);
        });
    });
    assert_eq!(host.end(), None);
    assert_eq!(ControlClient::from(host.guest()).sum(3), Ok(6));
}

fn orphan(on: On) {
    let host = thread::scope(|scope| scope.spawn(|| built(on, 1)).join().unwrap());
    let error = ControlClient::from(host.guest()).sum(1).unwrap_err();
    assert_eq!((error.why(), error.reached()), (Why::Busy, false));
    host.stopper().stop();
    let error = ControlClient::from(host.guest()).sum(1).unwrap_err();
    assert_eq!(error.why(), Why::Cancelled);
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

fn together(on: On) {
    for vcpus in [2, 4, 7] {
        let host = built(on, vcpus);
        // Each waits in the guest until all are there.
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
    // Those that look at a whole arena, or fill it, are for one thread at a time.
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

/// One vCPU of two waits for the other, for ever.
fn waits(on: On, end: impl FnOnce(&Built), why: Why) {
    let host = built(on, 2);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| ControlClient::from(host.guest()).together(2));
        thread::sleep(std::time::Duration::from_millis(20));
        end(&host);
        assert_eq!(waiting.join().unwrap().unwrap_err().why(), why);
    });
    let error = ControlClient::from(host.guest()).sum(1).unwrap_err();
    assert_eq!((error.why(), error.reached()), (why, false));
}

fn one_for_all(on: On) {
    let panics = |host: &Built| {
        let error = ControlClient::from(host.guest()).panics("one for all").unwrap_err();
        assert_eq!(error.why(), Why::PeerDied);
        let end = host.end().unwrap().to_string();
        assert!(end.contains("one for all"), "{end}");
    };
    waits(on, panics, Why::PeerDied);
}

fn stop_all(on: On) {
    waits(on, |host| host.stopper().stop(), Why::Cancelled);
}

fn numbers(on: On) {
    let too_many = if on.is_process() { 2 } else { 65 };
    for vcpus in [0, too_many, u32::MAX] {
        let error = machine().vcpus(vcpus).build(on.backend(), ()).unwrap_err();
        assert!(matches!(error, MachineError::Config(_)), "{error:?}");
    }
    drop(Connection::new(on, Host::default()));
}
