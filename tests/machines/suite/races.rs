//! Stops and deadlines that arrive at the moment when a call returns.
//!
//! Each race is repeated until either side has won it often enough: 200 times, or `VMFFI_RACES` times.

use std::{
    hint,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use vmffi::{CallError, ErrorKind, host::GuestExit};

use super::{
    Case,
    connection::{Built, Connection, On},
    host::Host,
    shared::{control::ControlClient, nesting::NestingClient},
};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(On)| Case::new(name, On::is_machine, run);
    vec![
        case("a_stop_races_a_return", stop_races_return),
        case("a_deadline_races_a_return", deadline_races_return),
        case("a_call_waits_no_longer_than_its_deadline", waits),
        case("a_deadline_stops_no_handler", no_handler),
        Case::new("a_run_with_a_deadline", On::is_new_machine, run),
        case("a_stream_of_cheap_calls_with_a_deadline", stream),
        case("deadlines_of_many_guests_at_once", many),
    ]
}

fn started(on: On, host: Host) -> Built {
    let Connection::Machine(host) = Connection::new(on, host) else { panic!("a loopback") };
    host
}

/// How often each side has won, and the delay, which is adapted so that both win.
struct Score {
    wanted: u32,
    returned: u32,
    stopped: u32,
    delay: u64,
    rounds: u32,
}

impl Score {
    fn new() -> Self {
        let wanted = std::env::var("VMFFI_RACES").map_or(200, |races| races.parse().unwrap());
        Self { wanted, returned: 0, stopped: 0, delay: 20_000, rounds: 0 }
    }

    fn open(&self) -> bool {
        assert!(self.rounds < 1000 * self.wanted, "one of the two always wins");
        self.returned < self.wanted || self.stopped < self.wanted
    }

    fn count<T>(&mut self, outcome: &Result<T, CallError>) {
        self.rounds += 1;
        let step = self.delay / 16 + 1;
        if outcome.is_ok() {
            self.returned += 1;
            self.delay = self.delay.saturating_sub(step);
        } else {
            self.stopped += 1;
            self.delay += step;
        }
    }
}

impl Drop for Score {
    fn drop(&mut self) {
        println!("{} calls returned first, {} were stopped", self.returned, self.stopped);
    }
}

/// The messages between the two threads of a race: one of these, or the moment of the stop, in nanoseconds from the
/// beginning.
const IDLE: u64 = 0;
const BE_READY: u64 = 1;
const READY: u64 = 2;

/// Releases the other thread, also if this one panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A guest that was stopped has ended, whether its call has returned or not; a reset leaves nothing of
/// the stop.
fn stop_races_return(on: On) {
    let host = started(on, Host::default());
    let mut score = Score::new();
    let (word, over) = (AtomicU64::new(IDLE), AtomicBool::new(false));
    let begin = Instant::now();
    let now = || begin.elapsed().as_nanos() as u64;
    let until = |wanted| {
        while word.load(Ordering::Acquire) != wanted {
            thread::yield_now();
        }
    };
    let stopper = host.stopper();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                match word.load(Ordering::Acquire) {
                    IDLE => thread::yield_now(),
                    BE_READY => word.store(READY, Ordering::Release),
                    READY => hint::spin_loop(),
                    when => {
                        while now() < when {
                            hint::spin_loop();
                        }
                        stopper.stop();
                        word.store(IDLE, Ordering::Release);
                    }
                }
            }
        });
        let _over = Over(&over);
        while score.open() {
            word.store(BE_READY, Ordering::Release);
            until(READY);
            word.store(now() + score.delay, Ordering::Release);
            let call = NestingClient::from(host.guest()).down(1, 0);
            score.count(&call);
            match call {
                Ok(calls) => assert_eq!(calls, 2),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled),
            }
            until(IDLE);
            assert_eq!(host.guest_exit(), Some(GuestExit::Stopped));
            let error = ControlClient::from(host.guest()).sum(1).unwrap_err();
            assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, false));
            assert_eq!(host.reset(), Ok(()));
            // A stop that came too late has no effect.
            assert_eq!(ControlClient::from(host.guest()).sum(2), Ok(3));
            assert_eq!(host.guest_exit(), None);
        }
    });
}

/// A call that returns was in time, and its guest still runs.
fn deadline_races_return(on: On) {
    let host = started(on, Host::default());
    let mut score = Score::new();
    while score.open() {
        let within = host.with_deadline(Duration::from_nanos(score.delay));
        // Longer than a thread needs to wake up.
        let call = ControlClient::from(within.guest()).sum(20);
        score.count(&call);
        match call {
            Ok(sum) => {
                assert_eq!((sum, host.guest_exit()), (210, None));
                assert_eq!(ControlClient::from(host.guest()).sum(2), Ok(3));
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Cancelled);
                assert_eq!(host.guest_exit(), Some(GuestExit::Deadline));
                assert_eq!(host.reset(), Ok(()));
            }
        }
    }
    assert_eq!(ControlClient::from(host.guest()).sum(2), Ok(3));
}

fn waits(on: On) {
    let limit = Duration::from_millis(30);
    let (begun, begins) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let both = std::sync::Mutex::new((begun, goes));
    let host = started(
        on,
        Host::on_spin(move || {
            let both = both.lock().unwrap();
            both.0.send(()).unwrap();
            both.1.recv().unwrap();
        }),
    );
    thread::scope(|scope| {
        let spins = scope.spawn(|| ControlClient::from(host.guest()).spin());
        begins.recv().unwrap();
        let began = Instant::now();
        let error = ControlClient::from(host.with_deadline(limit).guest()).sum(1).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::Busy, false));
        assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
        assert_eq!(host.guest_exit(), None, "the other call has no deadline");
        host.stopper().stop();
        go.send(()).unwrap();
        assert_eq!(spins.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    });
}

/// A handler runs to its end, and then its guest does not continue.
fn no_handler(on: On) {
    let ended = std::sync::Arc::new(AtomicU64::new(0));
    let ends = ended.clone();
    let host = started(
        on,
        Host::on_call(move |guest| {
            thread::sleep(Duration::from_millis(800));
            let error = NestingClient::from(guest).down(0, 0).unwrap_err();
            assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, false));
            ends.store(1, Ordering::Relaxed);
        }),
    );
    let within = host.with_deadline(Duration::from_millis(400));
    let error = ControlClient::from(within.guest()).calls_back().unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
    assert_eq!(ended.load(Ordering::Relaxed), 1);
    assert_eq!(host.guest_exit(), Some(GuestExit::Deadline));
    assert_eq!(host.guest().arena_stats().blocks, 0);
}

fn run(on: On) {
    let host = super::connection::machine().build(on.backend(), Host::default()).unwrap();
    let within = host.with_deadline(Duration::from_secs(20));
    assert_eq!(within.run(), Ok(vmffi::host::RunOutcome::Ready));
    assert_eq!(ControlClient::from(within.guest()).sum(3), Ok(6));
}

fn stream(on: On) {
    let host = started(on, Host::default());
    let within = host.with_deadline(Duration::from_millis(300));
    let error = ControlClient::from(within.guest()).sum(u64::MAX).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
    assert_eq!(host.guest_exit(), Some(GuestExit::Deadline));
    assert_eq!(
        host.guest_exit().unwrap().to_string(),
        "the guest exceeded its deadline and was stopped"
    );
}

/// One thread watches all deadlines, and ends with the last host.
fn many(on: On) {
    let threads = || {
        let all = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = all.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.trim() == "vmffi deadlines").count()
    };
    let machine = super::connection::machine();
    let hosts: Vec<Built> =
        (0..10).map(|_| super::connection::started(&machine, on, Host::default())).collect();
    drop(machine);
    assert_eq!(threads(), 0, "no host with a deadline");
    for (nr, host) in hosts.iter().enumerate() {
        let within = host.with_deadline(Duration::from_millis(1000 - 50 * nr as u64));
        assert_eq!(ControlClient::from(within.guest()).sum(2), Ok(3));
    }
    // The thread sets its name when it is scheduled.
    for _ in 0..1000 {
        if threads() == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(threads(), 1);
    for host in &hosts[1..] {
        let within = host.with_deadline(Duration::from_millis(3));
        assert_eq!(
            ControlClient::from(within.guest()).sum(u64::MAX).unwrap_err().kind(),
            ErrorKind::Cancelled
        );
        assert_eq!(host.guest_exit(), Some(GuestExit::Deadline));
    }
    assert_eq!(hosts[0].guest_exit(), None);
    drop(hosts);
    // The kernel lists a thread for a moment after it has ended.
    for _ in 0..4000 {
        if threads() != 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(threads(), 0);
}
