//! Guests' processes that another program suspends, resumes or kills (SIGSTOP, SIGCONT, SIGKILL), while their hosts call, stop
//! and reset them.
//!
//! The race lasts until there were this many stops and calls: 200 each, or `VMFFI_RACES`.

use std::{
    fs, hint,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::libc;
use vmffi::{
    ErrorKind,
    host::{GuestExit, Limits, ResetError, RunOutcome},
};

use super::{
    Case,
    connection::{self, Built, On, machine},
    host::Host,
    shared::{control::ControlClient, state::StateClient},
};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(On)| Case::new(name, On::is_process, run);
    vec![
        case("suspensions_stops_and_resets_of_two_vcpus", race),
        case("a_stop_of_a_suspended_process", stopped),
        case("a_reset_of_a_suspended_process", reset),
        case("a_checkpoint_of_a_suspended_process_can_be_stopped", saved),
        case("a_process_that_is_killed_during_a_checkpoint", killed_while_saved),
        case("a_process_that_was_killed_is_restarted", killed),
        case("a_process_of_three_vcpus_that_was_killed_is_restarted", killed_with_three),
        case("a_process_that_is_killed_between_calls", killed_unseen),
        case("a_process_with_processor_time_that_was_killed_is_restarted", killed_with_time),
        case("a_killed_process_is_noticed_soon", noticed),
    ]
}

fn built(on: On, vcpus: u32, host: Host) -> Built {
    connection::started(&machine().vcpus(vcpus), on, host)
}

/// The only child of this process.
fn child() -> i32 {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = threads.map(|task| fs::read_to_string(task.path().join("children")));
    let lists: String = lists.flatten().collect();
    let children: Vec<_> = lists.split_whitespace().collect();
    let [child] = children[..] else { panic!("{children:?}") };
    child.parse().unwrap()
}

fn send(child: i32, signal: i32) {
    // SAFETY: kill(2) takes two integers.
    unsafe { libc::kill(child, signal) };
}

fn works(host: &Built) {
    assert_eq!(ControlClient::from(host.guest()).sum(4), Ok(10));
    assert_eq!(host.guest_exit(), None);
}

/// No call is served twice, and every call that has returned was served.
fn race(on: On) {
    let wanted: u64 = std::env::var("VMFFI_RACES").map_or(200, |races| races.parse().unwrap());
    let served = Arc::new(AtomicU64::new(0));
    let serves = served.clone();
    let host = built(
        on,
        2,
        Host::on_call(move |_| {
            serves.fetch_add(1, Ordering::Relaxed);
        }),
    );
    let child = child();
    let (returned, failed, stops) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (resets, suspensions) = (AtomicU64::new(0), AtomicU64::new(0));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    match ControlClient::from(host.guest()).calls_back() {
                        Ok(1000) => returned.fetch_add(1, Ordering::Relaxed),
                        Ok(other) => panic!("{other}"),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
                            failed.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                let nr = suspensions.fetch_add(1, Ordering::Relaxed);
                send(child, libc::SIGSTOP);
                thread::sleep(Duration::from_micros(nr % 3 * 20));
                send(child, libc::SIGCONT);
                thread::sleep(Duration::from_micros(nr % 5 * 20));
            }
        });
        let stopper = host.stopper();
        let begin = Instant::now();
        while stops.load(Ordering::Relaxed) < wanted || returned.load(Ordering::Relaxed) < wanted {
            assert!(begin.elapsed() < Duration::from_secs(600 + wanted), "the race does not end");
            thread::sleep(Duration::from_micros(stops.load(Ordering::Relaxed) % 7 * 30));
            stopper.stop();
            stops.fetch_add(1, Ordering::Relaxed);
            while let Err(error) = host.reset() {
                assert_eq!(error, ResetError::Busy);
                thread::yield_now();
            }
            resets.fetch_add(1, Ordering::Relaxed);
        }
        over.store(true, Ordering::Release);
    });
    works(&host);
    let [returned, failed, served, stops, suspensions] =
        [&returned, &failed, &*served, &stops, &suspensions].map(|all| all.load(Ordering::Relaxed));
    println!(
        "{returned} calls returned, {failed} failed, {served} served; {stops} stops and resets, {suspensions} suspensions"
    );
    assert!((returned..=returned + failed).contains(&served));
}

/// A stop ends a guest that runs forever, although its process is suspended.
fn stopped(on: On) {
    let (begun, begins) = std::sync::mpsc::channel();
    let host = built(on, 1, Host::on_spin(move || begun.send(()).unwrap()));
    let child = child();
    for _ in 0..20 {
        thread::scope(|scope| {
            let spins = scope.spawn(|| ControlClient::from(host.guest()).spin());
            begins.recv().unwrap();
            send(child, libc::SIGSTOP);
            host.stopper().stop();
            assert_eq!(spins.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        });
        assert_eq!(host.guest_exit(), Some(GuestExit::Stopped));
        assert_eq!(host.reset(), Ok(()));
        works(&host);
    }
}

/// The process is stopped by a signal when its trap is answered. A reset replaces it, since it may never continue.
fn reset(on: On) {
    for vcpus in [1, 2] {
        let host = built(on, vcpus, Host::default());
        let state = StateClient::from(host.guest());
        assert_eq!(state.count(4), Ok(7));
        assert_eq!(host.checkpoint(), Ok(()));
        for _ in 0..2 {
            assert_eq!(state.count(1), Ok(8));
            send(child(), libc::SIGSTOP);
            assert_eq!(host.reset(), Ok(()));
            assert_eq!(StateClient::from(host.guest()).count(0), Ok(7));
            works(&host);
        }
    }
}

fn saved(on: On) {
    let host = built(on, 2, Host::default());
    assert_eq!(StateClient::from(host.guest()).count(4), Ok(7));
    assert_eq!(host.checkpoint(), Ok(()));
    assert_eq!(StateClient::from(host.guest()).count(4), Ok(11));
    send(child(), libc::SIGSTOP);
    thread::scope(|scope| {
        let saves = scope.spawn(|| host.checkpoint());
        thread::sleep(Duration::from_millis(50));
        assert!(!saves.is_finished());
        host.stopper().stop();
        assert!(saves.join().unwrap().is_err());
    });
    assert_eq!(host.reset(), Ok(()));
    assert_eq!(StateClient::from(host.guest()).count(0), Ok(7));
    works(&host);
}

/// After a reset the guest has the state of the last checkpoint that was made, completely.
fn killed_while_saved(on: On) {
    let wanted: u64 = std::env::var("VMFFI_RACES").map_or(300, |races| races.parse().unwrap());
    let host = built(on, 1, Host::default());
    let count = |more| StateClient::from(host.guest()).count(more);
    let (mut made, mut last) = (0, count(0).unwrap());
    let mut longest = Duration::from_micros(200);
    let mut rounds = 0;
    // More of them than wanted, until both have come.
    for nr in 0..wanted.max(10_000) {
        if nr >= wanted && made != 0 && made != nr {
            break;
        }
        rounds += 1;
        let child = child();
        let now = count(1).unwrap();
        assert_eq!(now, last + 1);
        let begin = Instant::now();
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                while begin.elapsed() < longest * (nr % 64) as u32 / 64 {
                    hint::spin_loop();
                }
                send(child, libc::SIGKILL);
            });
            host.checkpoint()
        });
        if outcome.is_ok() {
            (made, last) = (made + 1, now);
            longest = begin.elapsed();
        }
        assert_eq!(host.reset(), Ok(()), "{nr}: {outcome:?}");
        assert_eq!(count(0), Ok(last), "{nr}: {outcome:?}");
    }
    println!("{made} of {rounds} checkpoints were made, {longest:?} at last");
    assert!(made != 0 && made != rounds);
    works(&host);
}

/// Calls fail with the signal that has killed the process. A reset starts another process in the state of the first.
fn is_restarted(host: &Built) {
    let error = ControlClient::from(host.guest()).sum(1).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, true));
    let end = GuestExit::Lost("the guest's process was killed by signal 9".into());
    assert_eq!(host.guest_exit(), Some(end));
    let error = ControlClient::from(host.guest()).sum(1).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, false));
    assert_eq!(host.reset(), Ok(()));
    works(host);
}

fn killed(on: On) {
    let host = built(on, 1, Host::default());
    for _ in 0..5 {
        send(child(), libc::SIGKILL);
        is_restarted(&host);
    }
}

fn killed_with_three(on: On) {
    let host = built(on, 3, Host::default());
    for _ in 0..5 {
        send(child(), libc::SIGKILL);
        is_restarted(&host);
        thread::scope(|scope| {
            for _ in 0..3 {
                let call = || ControlClient::from(host.guest()).together(3);
                scope.spawn(move || assert_eq!(call(), Ok(())));
            }
        });
    }
}

/// The reset itself notices that the process has ended.
fn killed_unseen(on: On) {
    let host = built(on, 2, Host::default());
    for _ in 0..5 {
        let child = child();
        send(child, libc::SIGKILL);
        let stat = format!("/proc/{child}/stat");
        while !fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")) {
            thread::yield_now();
        }
        assert_eq!(host.reset(), Ok(()));
        works(&host);
    }
}

/// Each process has its own clocks.
fn killed_with_time(on: On) {
    const LIMIT: Duration = Duration::from_millis(200);
    for vcpus in [1, 3] {
        let machine = machine().vcpus(vcpus).limits(Limits::new().cpu_time(LIMIT));
        let host = machine.build(on.backend(), Host::default()).unwrap();
        assert_eq!(host.run(), Ok(RunOutcome::Ready), "{:?}", host.guest_exit());
        for _ in 0..3 {
            send(child(), libc::SIGKILL);
            is_restarted(&host);
            let began = Instant::now();
            let error = ControlClient::from(host.guest()).spin().unwrap_err();
            assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
            assert_eq!(host.guest_exit(), Some(GuestExit::CpuTime));
            assert!(began.elapsed() >= LIMIT - TICK, "{:?}", began.elapsed());
            assert_eq!(host.reset(), Ok(()));
            works(&host);
        }
    }
}

/// The most by which the count of a thread may be late.
const TICK: Duration = Duration::from_millis(10);

fn noticed(on: On) {
    let (begun, begins) = std::sync::mpsc::channel();
    let host = built(on, 1, Host::on_spin(move || begun.send(()).unwrap()));
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let child = child();
            let time = thread::scope(|scope| {
                let spins = scope.spawn(|| {
                    let error = ControlClient::from(host.guest()).spin().unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::PeerDied);
                    Instant::now()
                });
                begins.recv().unwrap();
                thread::sleep(Duration::from_millis(2));
                let killed = Instant::now();
                send(child, libc::SIGKILL);
                spins.join().unwrap() - killed
            });
            assert_eq!(host.reset(), Ok(()));
            time
        })
        .collect();
    times.sort();
    let median = times[times.len() / 2];
    println!("from SIGKILL to the error: {median:?}");
    // The fastest, since any of them may have waited for a processor: twenty times the target for an idle machine.
    assert!(times[0] < Duration::from_millis(40), "{times:?}");
}
