//! Guests that are stopped by another thread.

use std::{
    sync::{
        Mutex,
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    ConnectError, ErrorKind,
    host::{GuestExit, RunOutcome, Stopper},
};

use super::{
    Case,
    connection::{Built, Connection, On, machine},
    host::Host,
    shared::{control::ControlClient, nesting::NestingClient},
};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(On)| Case::new(name, On::is_machine, run);
    vec![
        case("an_endless_loop_is_stopped", endless),
        case("two_stops_are_one", twice),
        Case::new("a_stop_before_the_guest_runs", On::is_new_machine, before),
        case("a_stop_between_calls", between),
        case("a_stop_in_a_handler", in_a_handler),
        case("a_stop_of_another_guest", another),
        case("a_stop_of_a_guest_that_has_ended", after),
        case("a_stop_of_a_guest_that_is_gone", gone),
        case("stops_at_any_moment", any_moment),
    ]
}

/// A running guest, and a channel with a message when it begins to run forever.
fn spinner(on: On) -> (Built, mpsc::Receiver<()>) {
    let (begun, begins): (Sender<()>, _) = mpsc::channel();
    let begun = Mutex::new(begun);
    let host = Host::on_spin(move || begun.lock().unwrap().send(()).unwrap());
    let Connection::Machine(host) = Connection::new(on, host) else { panic!("a loopback") };
    (host, begins)
}

#[track_caller]
fn stopped(host: &Built) {
    assert_eq!(host.guest_exit(), Some(GuestExit::Stopped));
    assert_eq!(GuestExit::Stopped.to_string(), "the guest was stopped");
    for _ in 0..2 {
        let error = ControlClient::from(host.guest()).sum(1).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, false));
        assert_eq!(host.run(), Err(ConnectError::Exited(GuestExit::Stopped)));
    }
    assert_eq!(host.guest().arena_stats().blocks, 0);
}

/// The guest runs forever, and another thread stops it.
fn stops(on: On, stop: impl FnOnce(Stopper) + Send) {
    let (host, begins) = spinner(on);
    let stopper = host.stopper();
    thread::scope(|scope| {
        scope.spawn(move || {
            begins.recv().unwrap();
            // Now it is in its loop, or shortly before.
            thread::sleep(Duration::from_millis(20));
            stop(stopper);
        });
        let began = Instant::now();
        let error = ControlClient::from(host.guest()).spin().unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    });
    stopped(&host);
}

fn endless(on: On) {
    stops(on, |stopper| stopper.stop());
}

fn twice(on: On) {
    stops(on, |stopper| {
        let other = stopper.clone();
        thread::scope(|scope| {
            scope.spawn(move || other.stop());
            stopper.stop();
        });
        stopper.stop();
    });
}

fn before(on: On) {
    let host = machine().build(on.backend(), Host::default()).unwrap();
    host.stopper().stop();
    stopped(&host);
}

fn between(on: On) {
    let (host, _begins) = spinner(on);
    assert_eq!(ControlClient::from(host.guest()).sum(4), Ok(10));
    let stopper = host.stopper();
    thread::scope(|scope| {
        scope.spawn(|| stopper.stop());
    });
    stopped(&host);
}

/// A handler runs to its end, and then its guest does not continue.
fn in_a_handler(on: On) {
    let (stopper, stoppers) = mpsc::channel::<Stopper>();
    let stoppers = Mutex::new(stoppers);
    let (ends, ended) = mpsc::channel();
    let server = Host::on_spin(move || {
        stoppers.lock().unwrap().recv().unwrap().stop();
        ends.send(()).unwrap();
    });
    let Connection::Machine(host) = Connection::new(on, server) else { panic!("a loopback") };
    stopper.send(host.stopper()).unwrap();
    let error = ControlClient::from(host.guest()).spin().unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
    assert_eq!(ended.try_recv(), Ok(()), "the handler has returned");
    stopped(&host);
}

fn another(on: On) {
    let (one, _begins) = spinner(on);
    let (two, _begins) = spinner(on);
    one.stopper().stop();
    stopped(&one);
    assert_eq!(NestingClient::from(two.guest()).down(10, 0), Ok(11));
    assert_eq!(two.guest_exit(), None);
}

fn after(on: On) {
    let (host, _begins) = spinner(on);
    assert_eq!(host.run(), Ok(RunOutcome::Exited(0)));
    host.stopper().stop();
    let end = GuestExit::Exited { status: 0, text: "".into() };
    assert_eq!(host.guest_exit(), Some(end), "the first end counts");
}

fn gone(on: On) {
    let (host, _begins) = spinner(on);
    let stopper = host.stopper();
    drop(host);
    stopper.stop();
}

/// A stop is not lost, whether it arrives in guest code, in a handler or between them.
fn any_moment(on: On) {
    for round in 0..40 {
        let (host, _begins) = spinner(on);
        let stopper = host.stopper();
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_micros(37 * round));
                stopper.stop();
            });
            let control = ControlClient::from(host.guest());
            let error = loop {
                match control.sum(5) {
                    Ok(sum) => assert_eq!(sum, 15),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::Cancelled);
        });
        stopped(&host);
    }
}
