//! Calls, resets, stops and deadlines that overlap: each call belongs to one life of its guest.
//!
//! A storm lasts one second, or `VMFFI_STORM` seconds.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    CallError, ErrorKind, ForeignBuf,
    host::{GuestExit, ResetError, RunOutcome, Stopper},
};

use super::{
    Case,
    connection::{self, Built, On, machine},
    host::Host,
    shared::{
        control::ControlClient, failures::FailingClient, handles::HandlesClient, state::StateClient,
    },
    slower,
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("arguments_belong_to_one_life", On::is_machine, arguments),
        Case::new("results_belong_to_one_life", On::is_machine, results),
        Case::new("handles_of_one_life_end_no_loans_of_the_next", On::is_machine, late_drops),
        Case::new("calls_resets_stops_and_deadlines_at_once", On::is_machine, storm),
        Case::new("resets_among_stops_and_deadlines", On::is_machine, storm_on_one_thread),
        Case::new("loans_of_calls_that_wait_are_not_kept", On::is_new_machine, waiting),
        Case::new("loans_before_the_first_checkpoint_are_in_it", On::is_new_machine, delivered),
        Case::new("a_stop_during_a_reset_is_not_lost", On::is_machine, stopped_meanwhile),
        Case::new("a_call_that_lends_nothing_waits_for_a_reset", On::is_machine, scalars),
    ]
}

fn built(on: On, vcpus: u32, host: Host) -> Built {
    connection::started(&machine().vcpus(vcpus), on, host)
}

fn length() -> Duration {
    let seconds = std::env::var("VMFFI_STORM").map_or(1, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

/// How often each outcome of a call occurred.
#[derive(Default)]
struct Score(Mutex<BTreeMap<String, u64>>);

impl Score {
    fn count(&self, what: impl Into<String>) {
        *self.0.lock().unwrap().entry(what.into()).or_default() += 1;
    }

    fn of(&self, what: &str) -> u64 {
        self.0.lock().unwrap().get(what).copied().unwrap_or_default()
    }

    /// Counts a call that failed, for one of these reasons.
    #[track_caller]
    fn failed(&self, error: &CallError, reasons: &[ErrorKind]) {
        assert!(reasons.contains(&error.kind()), "{error:?}");
        if error.kind() == ErrorKind::Stale {
            self.count(if error.reached() { "stale results" } else { "stale arguments" });
        } else {
            self.count(format!("{:?}", error.kind()));
        }
    }
}

impl Drop for Score {
    fn drop(&mut self) {
        println!("{:?}", self.0.get_mut().unwrap());
    }
}

/// Bytes that no other call sends.
fn pattern() -> Vec<u8> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    word.repeat(20 + number as usize % 500)
}

/// Ends a storm, also if a thread panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Some threads repeat an operation while this one resets the guest as often as it can.
fn among_resets(host: &Built, score: &Score, threads: usize, does: impl Fn() + Sync) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ended = Over(&over);
        for _ in 0..threads {
            scope.spawn(|| {
                let _over = Over(&over);
                while !over.load(Ordering::Acquire) {
                    does();
                }
            });
        }
        let begin = Instant::now();
        while !over.load(Ordering::Acquire) && goes_on(begin, score, &["resets"]) {
            match host.reset() {
                Ok(()) => score.count("resets"),
                Err(error) => assert_eq!(error, ResetError::Busy),
            }
            thread::yield_now();
        }
        drop(ended);
    });
    assert_eq!(host.guest_exit(), None);
    assert_eq!(host.reset(), Ok(()));
    assert_eq!(host.guest().arena_stats().blocks, 0);
    assert_eq!(ControlClient::from(host.guest()).sum(4), Ok(10));
    // In the guest's arena, only the answer itself is in use.
    assert_eq!(ControlClient::from(host.guest()).used().unwrap().blocks, 1);
    assert!(score.of("resets") > 0);
}

fn arguments(on: On) {
    let (host, score) = (built(on, 1, Host::default()), Score::default());
    let ones = vec![1_u64; 4000];
    among_resets(&host, &score, 3, || match HandlesClient::from(host.guest()).words(&ones) {
        Ok(sum) => {
            assert_eq!(sum, 4000);
            score.count("sums");
        }
        Err(error) => {
            score.failed(&error, &[ErrorKind::Stale]);
            assert!(!error.reached(), "a loan of another life is not delivered");
        }
    });
    assert!(score.of("sums") > 0);
}

/// Reads a buffer twice, with a pause in between.
fn reads(score: &Score, buf: &ForeignBuf, sent: &[u8]) {
    for _ in 0..2 {
        match buf.read_vec() {
            Ok(bytes) => {
                assert!(bytes == sent, "the result of another call");
                score.count("results");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Stale);
                return score.count("stale handles");
            }
        }
        thread::yield_now();
    }
}

fn results(on: On) {
    let (host, score) = (built(on, 1, Host::default()), Score::default());
    among_resets(&host, &score, 3, || {
        let sent = pattern();
        match HandlesClient::from(host.guest()).buf(&sent) {
            Ok(buf) => reads(&score, &buf, &sent),
            Err(error) => score.failed(&error, &[ErrorKind::Stale]),
        }
    });
    assert!(score.of("results") > 0);
}

/// Handles are kept for some time, and dropped on other threads: their marks end no loan of a later life.
fn late_drops(on: On) {
    let (host, score) = (built(on, 2, Host::default()), Score::default());
    let (send, receive) = mpsc::sync_channel::<ForeignBuf>(4);
    thread::scope(|scope| {
        scope.spawn(move || receive.into_iter().for_each(drop));
        let send = Mutex::new(Some(send));
        among_resets(&host, &score, 2, || {
            let sent = pattern();
            match HandlesClient::from(host.guest()).buf(&sent) {
                Ok(buf) => {
                    reads(&score, &buf, &sent);
                    let sender = send.lock().unwrap().clone();
                    sender.unwrap().send(buf).unwrap();
                }
                Err(error) => score.failed(&error, &[ErrorKind::Stale]),
            }
        });
        drop(send.lock().unwrap().take());
    });
    assert!(score.of("results") > 0);
}

/// The errors that calls of a storm may have.
const STORM: &[ErrorKind] = &[ErrorKind::Stale, ErrorKind::Cancelled, ErrorKind::Busy];

/// One call whose result is checked.
fn checked(host: &Built, score: &Score, nr: u64) {
    let deadline = Duration::from_micros(200 + nr * 7919 % 20_000) * slower();
    let guest = host.with_deadline(deadline);
    match nr % 4 {
        0 => match HandlesClient::from(guest.guest()).words(&vec![nr; 300]) {
            Ok(sum) => {
                assert_eq!(sum, 300 * nr);
                score.count("sums");
            }
            Err(error) => score.failed(&error, STORM),
        },
        1 => {
            let sent = pattern();
            match HandlesClient::from(guest.guest()).buf(&sent) {
                Ok(buf) => reads(score, &buf, &sent),
                Err(error) => score.failed(&error, STORM),
            }
        }
        // A call with an upcall, so that a handler lends its result to the guest.
        2 => match ControlClient::from(guest.guest()).calls_back() {
            Ok(len) => {
                assert_eq!(len, 1000);
                score.count("calls back");
            }
            Err(error) => score.failed(&error, STORM),
        },
        // Mostly longer than its deadline.
        _ => match ControlClient::from(guest.guest()).sum(3_000_000) {
            Ok(sum) => {
                assert_eq!(sum, 3_000_000 * 3_000_001 / 2);
                score.count("long sums");
            }
            Err(error) => score.failed(&error, STORM),
        },
    }
}

/// A life that has ended was ended by a stop or a deadline.
fn ended(host: &Built, score: &Score) -> bool {
    match host.guest_exit() {
        None => return false,
        Some(GuestExit::Stopped) => score.count("stops"),
        Some(GuestExit::Deadline) => score.count("deadlines"),
        Some(end) => panic!("{end}"),
    }
    true
}

/// After a storm, no block is lost on either side, and later calls are not affected.
fn calm(host: &Built) {
    // A reset clears a stop that arrived last.
    assert_eq!(host.reset(), Ok(()));
    assert_eq!(host.guest_exit(), None);
    assert_eq!(host.guest().arena_stats().blocks, 0);
    let used = ControlClient::from(host.guest()).used().unwrap();
    assert_eq!(used.blocks, 1, "the answer itself");
    assert_eq!(ControlClient::from(host.guest()).sum(200), Ok(20_100));
    assert_eq!(host.guest_exit(), None);
}

/// Stops a guest repeatedly, at irregular intervals, until the storm is over.
fn stop_until(over: &AtomicBool, stopper: Stopper) {
    let mut wait = 1;
    while !over.load(Ordering::Acquire) {
        wait = (wait * 5 + 3) % 7919;
        thread::sleep(Duration::from_micros(wait) * slower());
        stopper.stop();
    }
}

/// What comes of the calls of several threads, and of one.
const MANY: [&str; 6] = ["sums", "results", "calls back", "resets", "Cancelled", "stops"];
const ALONE: [&str; 7] =
    ["sums", "results", "calls back", "resets", "Cancelled", "stops", "deadlines"];

/// Whether a storm that began then is to go on: for its time, and until each of these has come, but for a minute at most.
fn goes_on(begin: Instant, score: &Score, all: &[&str]) -> bool {
    let time = begin.elapsed();
    let missing = || all.iter().any(|what| score.of(what) == 0);
    time < length() || time < Duration::from_secs(60) && missing()
}

fn storm(on: On) {
    let (host, score) = (built(on, 2, Host::default()), Score::default());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for first in 0..3_u64 {
            let (host, score, over) = (&host, &score, &over);
            scope.spawn(move || {
                let _over = Over(over);
                let mut nr = first;
                while !over.load(Ordering::Acquire) {
                    checked(host, score, nr);
                    nr += 1;
                }
            });
        }
        let stopper = host.stopper();
        scope.spawn(|| stop_until(&over, stopper));
        let _over = Over(&over);
        let begin = Instant::now();
        while !over.load(Ordering::Acquire) && goes_on(begin, &score, &MANY) {
            let was = ended(&host, &score);
            match host.reset() {
                Ok(()) => score.count("resets"),
                Err(error) => assert_eq!(error, ResetError::Busy),
            }
            if !was {
                thread::sleep(Duration::from_micros(300));
            }
        }
    });
    calm(&host);
    for what in MANY {
        assert!(score.of(what) > 0, "no {what}");
    }
}

/// The same with one vCPU on one thread, and other threads that stop it.
fn storm_on_one_thread(on: On) {
    let (host, score) = (built(on, 1, Host::default()), Score::default());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopper = host.stopper();
        scope.spawn(|| stop_until(&over, stopper));
        let _over = Over(&over);
        let begin = Instant::now();
        for nr in 0.. {
            if !goes_on(begin, &score, &ALONE) {
                break;
            }
            checked(&host, &score, nr);
            if ended(&host, &score) {
                assert_eq!(host.reset(), Ok(()));
                score.count("resets");
            }
        }
    });
    calm(&host);
    for what in ALONE {
        assert!(score.of(what) > 0, "no {what}");
    }
}

/// A call waits, with blocks that it has lent, while the guest starts up: the guest must not have these in later lives.
fn waiting(on: On) {
    let (entered, enters) = mpsc::channel();
    let (leaves, left) = mpsc::channel::<()>();
    let left = Mutex::new(left);
    let host = Host::with_gift(b"a gift").while_it_is_made(move || {
        entered.send(()).unwrap();
        left.lock().unwrap().recv().unwrap();
    });
    let host = machine().build(on.backend(), host).unwrap();
    let host = &host;
    thread::scope(|scope| {
        let run = scope.spawn(|| host.run());
        enters.recv().unwrap();
        let call = scope.spawn(|| HandlesClient::from(host.guest()).words(&vec![1; 10_000]));
        // Waits until the call has lent what it sends.
        while host.guest().arena_stats().blocks < 2 {
            thread::yield_now();
        }
        leaves.send(()).unwrap();
        assert_eq!(run.join().unwrap(), Ok(RunOutcome::Ready));
        assert_eq!(call.join().unwrap(), Ok(10_000));
    });
    assert_eq!(host.guest().arena_stats().blocks, 1, "the gift");
    for _ in 0..2 {
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(host.guest().arena_stats().blocks, 1, "the gift");
        let gift = StateClient::from(host.guest()).gift().unwrap();
        assert_eq!(gift.read_vec().unwrap(), b"a gift");
    }
}

/// A call to a vCPU that already waits, while the other one starts up: blocks that the guest keeps of it, it has in each life.
fn delivered(on: On) {
    let host = machine().vcpus(2).build(on.backend(), Host::default()).unwrap();
    let failures = FailingClient::from(host.guest());
    thread::scope(|scope| {
        // The call waits for the first vCPU, and is served before or after the guest is saved.
        let call = scope.spawn(|| {
            loop {
                match failures.keep(b"kept by the guest") {
                    Err(error) if error.kind() == ErrorKind::Busy => thread::yield_now(),
                    kept => return kept,
                }
            }
        });
        assert_eq!(host.run(), Ok(RunOutcome::Ready));
        call.join().unwrap().unwrap();
    });
    let before = failures.kept().unwrap();
    assert!(before > 0);
    let blocks = host.guest().arena_stats().blocks;
    assert_eq!(blocks, 1);
    assert_eq!(host.reset(), Ok(()));
    // Either the block was saved with the guest, and both sides know it, or neither of them does.
    let (guests, hosts) = (failures.kept().unwrap(), host.guest().arena_stats().blocks);
    assert_eq!(guests > 0, hosts == 1, "{guests} {hosts}");
}

/// A stop ends the life before the reset or the one after it, and both are consistent.
fn stopped_meanwhile(on: On) {
    let (host, score) = (built(on, 2, Host::default()), Score::default());
    let stopper = host.stopper();
    for nr in 0..300_u64 {
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_micros(nr % 60));
                stopper.stop();
            });
            assert_eq!(host.reset(), Ok(()));
        });
        let sum = ControlClient::from(host.guest()).sum(3);
        match host.guest_exit() {
            None => {
                assert_eq!(sum, Ok(6));
                score.count("before");
            }
            Some(end) => {
                assert_eq!(end, GuestExit::Stopped);
                assert_eq!(sum.unwrap_err().kind(), ErrorKind::Cancelled);
                score.count("behind");
                assert_eq!(host.reset(), Ok(()));
            }
        }
        assert_eq!(ControlClient::from(host.guest()).sum(4), Ok(10));
    }
}

/// A call runs in the current life, without a retry.
fn scalars(on: On) {
    let (host, score) = (built(on, 2, Host::default()), Score::default());
    among_resets(&host, &score, 1, || {
        assert_eq!(ControlClient::from(host.guest()).sum(5), Ok(15));
        score.count("sums");
        // The reset runs between two calls.
        thread::sleep(Duration::from_micros(50));
    });
}
