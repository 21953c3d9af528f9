//! Measures how long it takes to make a machine, to reset it, and to stop it.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use support::{
    meter::LoadClient,
    times::{self, timed},
};
use vmffi::{ErrorKind, host::GuestExit, machine::Backend};

use super::linux::{machine, started};

/// How often each operation is measured.
const ROUNDS: usize = 101;

fn median(one: impl FnMut() -> Duration) -> Duration {
    times::median(ROUNDS, one)
}

pub fn table(backend: Backend) {
    let machine = machine();
    let made = median(|| timed(|| started(&machine, backend)));
    let host = started(&machine, backend);
    let load = LoadClient::from(host.guest());
    let reset = |before: &dyn Fn()| {
        median(|| {
            before();
            timed(|| host.reset().expect("a reset"))
        })
    };
    let crashed = || {
        host.stopper().stop();
        assert_eq!(load.echo(1_u64).map_err(|error| error.kind()), Err(ErrorKind::Cancelled));
    };
    let rows = [
        ("a new machine, until it waits for calls", made),
        ("reset after a call", reset(&|| assert_eq!(load.echo(1_u64), Ok(1)))),
        ("reset after 1 MiB was written", reset(&|| load.touch(1 << 20).expect("memory"))),
        ("reset after a stop", reset(&crashed)),
    ];
    println!("\n| {backend} | median | of a new machine |\n|---|---:|---:|");
    for (name, time) in rows {
        let part = made.as_secs_f64() / time.as_secs_f64();
        println!("| {name} | {:.0} µs | 1/{part:.1} |", time.as_secs_f64() * 1e6);
    }

    // Stops: from the request to the error of the call.
    let (begin, begins) = mpsc::channel::<()>();
    let (at, stopped_at) = mpsc::channel();
    let stopper = host.stopper();
    let stops = thread::spawn(move || {
        for () in begins {
            thread::sleep(Duration::from_millis(2));
            at.send(Instant::now()).expect("a receiver");
            stopper.stop();
        }
    });
    let stop = median(|| {
        begin.send(()).expect("a thread");
        assert_eq!(load.spin().map_err(|error| error.kind()), Err(ErrorKind::Cancelled));
        let time = stopped_at.recv().expect("a time").elapsed();
        assert_eq!(host.guest_exit(), Some(GuestExit::Stopped));
        host.reset().expect("a reset");
        time
    });
    drop(begin);
    stops.join().expect("no panic");
    const LIMIT: Duration = Duration::from_millis(5);
    let late = median(|| {
        let within = host.with_deadline(LIMIT);
        let time = timed(|| LoadClient::from(within.guest()).spin().expect_err("a deadline"));
        assert_eq!(host.guest_exit(), Some(GuestExit::Deadline));
        host.reset().expect("a reset");
        time.saturating_sub(LIMIT)
    });
    println!("\n| {backend} | median |\n|---|---:|");
    for (name, time) in [("from a stop to its error", stop), ("behind a deadline of 5 ms", late)] {
        println!("| {name} | {:.0} µs |", time.as_secs_f64() * 1e6);
    }
}
