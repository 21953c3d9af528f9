//! Signals that another program sends to a guest's process: most have no effect, and the others are reported.

use std::{
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    ErrorKind,
    host::{FaultCause, GuestExit},
    machine::Backend,
};

use super::{
    cases::{Case, process},
    makes::{
        Begins, Built, children, done, is_stopped, machine, meets_a_deadline, nothing_left,
        spinner, start, started, works, works_in_every_way,
    },
};
use sides::{host::Host, shared::control::ControlClient};

pub const CASES: &[Case] = &[
    ("signals_from_outside_are_ignored", process, nothing),
    ("faults_from_outside_are_reported", process, faults),
    ("a_killed_guest_is_reported", process, killed),
    ("a_suspended_guest_continues", process, suspended),
    ("a_suspended_guest_is_stopped", process, suspended_and_stopped),
    ("a_suspended_guest_is_reset", process, suspended_and_reset),
    ("a_suspended_guest_is_dropped", process, suspended_and_dropped),
];

/// The process ID of the only guest.
pub fn guest() -> i32 {
    let [pid] = children()[..] else { panic!("one child: {:?}", children()) };
    pid
}

/// Sends a signal in each of the three ways.
const WAYS: [fn(i32, i32); 3] = [
    |pid, signal| {
        // SAFETY: kill(2) takes two integers.
        done(unsafe { libc::kill(pid, signal) });
    },
    |pid, signal| {
        let value = libc::sigval { sival_ptr: ptr::without_provenance_mut(0x5a) };
        // SAFETY: rt_sigqueueinfo(2) copies the signal's data from a valid pointer.
        done(unsafe { libc::sigqueue(pid, signal, value) });
    },
    |pid, signal| {
        // The thread is the first one of its process.
        // SAFETY: takes three integers.
        done(unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, signal) } as i32);
    },
];

pub fn kill(signal: i32) {
    WAYS[0](guest(), signal);
}

/// The guest runs forever on this thread, and another thread acts meanwhile.
#[track_caller]
fn meanwhile<R: Send>(
    host: &Built,
    begins: &Begins,
    act: impl FnOnce() -> R + Send,
) -> (ErrorKind, Instant, R) {
    begins.forget();
    thread::scope(|scope| {
        let acts = scope.spawn(|| {
            begins.wait();
            thread::sleep(Duration::from_millis(2));
            act()
        });
        let error = ControlClient::from(host.guest()).spin().unwrap_err();
        let ended = Instant::now();
        (error.kind(), ended, acts.join().unwrap())
    })
}

fn nothing(backend: Backend) {
    let (host, begins) = spinner(&machine(), backend);
    let mut signals = vec![
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGALRM,
        libc::SIGPIPE,
        libc::SIGUSR2,
        libc::SIGCHLD,
        libc::SIGIO,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGABRT,
        libc::SIGXCPU,
        libc::SIGVTALRM,
    ];
    signals.extend(32..=libc::SIGRTMAX());
    let send_all = || {
        for signal in &signals {
            WAYS.iter().for_each(|way| way(guest(), *signal));
        }
    };
    send_all();
    works_in_every_way(&host);
    let stopper = host.stopper();
    let (kind, _, ()) = meanwhile(&host, &begins, || {
        send_all();
        thread::sleep(Duration::from_millis(20));
        assert_eq!(host.guest_exit(), None);
        stopper.stop();
    });
    assert_eq!((kind, host.guest_exit()), (ErrorKind::Cancelled, Some(GuestExit::Stopped)));
    host.reset().unwrap();
    works_in_every_way(&host);
}

fn faults(backend: Backend) {
    let (host, begins) = spinner(&machine(), backend);
    #[track_caller]
    fn is_told(host: &Built, signal: i32) {
        let exit = host.guest_exit();
        let Some(GuestExit::Fault(fault)) = &exit else { panic!("signal {signal}: {exit:?}") };
        assert_eq!((fault.cause, fault.address), (FaultCause::Signal(signal), None));
        host.reset().unwrap();
        works(host);
    }
    for signal in [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGTRAP,
        libc::SIGSYS,
        libc::SIGUSR1,
    ] {
        for way in WAYS {
            let (kind, _, ()) = meanwhile(&host, &begins, || way(guest(), signal));
            assert_eq!(kind, ErrorKind::PeerDied, "{signal}");
            is_told(&host, signal);
            // The guest waits, and so does the signal.
            way(guest(), signal);
            let error = ControlClient::from(host.guest()).sum(3).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PeerDied, "{signal}");
            is_told(&host, signal);
        }
    }
    meets_a_deadline(&host);
    is_stopped(&host, &begins);
}

#[track_caller]
fn is_lost(host: &Built, signal: i32) {
    let exit = host.guest_exit();
    let text = format!("killed by signal {signal}");
    assert!(matches!(&exit, Some(GuestExit::Lost(why)) if why.contains(&text)), "{exit:?}");
}

fn killed(backend: Backend) {
    const TIMES: usize = 15;
    const MOST: Duration = Duration::from_millis(2);
    let (host, begins) = spinner(&machine(), backend);
    let series = || {
        let mut times: Vec<Duration> = (0..TIMES)
            .map(|_| {
                let (kind, ended, sent) = meanwhile(&host, &begins, || {
                    let pid = guest();
                    let sent = Instant::now();
                    WAYS[0](pid, libc::SIGKILL);
                    sent
                });
                assert_eq!(kind, ErrorKind::PeerDied);
                is_lost(&host, libc::SIGKILL);
                host.reset().unwrap();
                works(&host);
                ended.saturating_duration_since(sent)
            })
            .collect();
        times.sort_unstable();
        (times[TIMES / 2], times[0])
    };
    let series: Vec<_> = (0..4).map(|_| series()).collect();
    println!("from the signal to the error, median and least: {series:?}");
    // The fastest of all, since any of them may have waited for a processor.
    assert!(series.iter().any(|(_, least)| *least < MOST), "{series:?}");
    // While the guest waits: the next call reports it, or a reset starts another process.
    kill(libc::SIGKILL);
    let error = ControlClient::from(host.guest()).sum(3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerDied);
    is_lost(&host, libc::SIGKILL);
    host.reset().unwrap();
    works_in_every_way(&host);
    let pid = guest();
    kill(libc::SIGKILL);
    super::drops::ends(pid);
    host.reset().unwrap();
    works_in_every_way(&host);
    drop(host);
    nothing_left();
}

/// At any point of many calls, in a handler, and while the guest computes.
fn suspended(backend: Backend) {
    let (host, begins) = spinner(&machine(), backend);
    let pid = guest();
    let pause = |wait: u64| {
        WAYS[0](pid, libc::SIGSTOP);
        thread::sleep(Duration::from_micros(wait));
        WAYS[0](pid, libc::SIGCONT);
    };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..300 {
                pause(round % 7 * 300);
                thread::sleep(Duration::from_micros(round % 11 * 100));
            }
            ended.store(true, Ordering::Relaxed);
        });
        while !ended.load(Ordering::Relaxed) {
            assert_eq!(
                ControlClient::from(host.guest()).sum(50),
                Ok(1275),
                "{:?}",
                host.guest_exit()
            );
        }
    });
    let stopper = host.stopper();
    let (kind, _, ()) = meanwhile(&host, &begins, || {
        pause(20_000);
        thread::sleep(Duration::from_millis(20));
        assert_eq!(host.guest_exit(), None);
        stopper.stop();
    });
    assert_eq!((kind, host.guest_exit()), (ErrorKind::Cancelled, Some(GuestExit::Stopped)));
    drop(host);
    let handler = Host::on_call(move |peer| {
        let pid = guest();
        WAYS[0](pid, libc::SIGSTOP);
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            WAYS[0](pid, libc::SIGCONT);
        });
        assert_eq!(ControlClient::from(peer).sum(3), Ok(6));
        other.join().unwrap();
    });
    let host = start(&machine(), backend, handler);
    for _ in 0..3 {
        assert!(ControlClient::from(host.guest()).calls_back().is_ok(), "{:?}", host.guest_exit());
    }
    works_in_every_way(&host);
}

fn suspended_and_stopped(backend: Backend) {
    for vcpus in [1, 3] {
        let (host, begins) = spinner(&machine().vcpus(vcpus), backend);
        for _ in 0..5 {
            let stopper = host.stopper();
            let (kind, ended, began) = meanwhile(&host, &begins, || {
                kill(libc::SIGSTOP);
                thread::sleep(Duration::from_millis(10));
                let began = Instant::now();
                stopper.stop();
                began
            });
            assert_eq!((kind, host.guest_exit()), (ErrorKind::Cancelled, Some(GuestExit::Stopped)));
            assert!(ended - began < super::makes::SOON, "{:?}", ended - began);
            host.reset().unwrap();
            works(&host);
            // While the guest waits, and by a deadline.
            kill(libc::SIGSTOP);
            host.stopper().stop();
            host.reset().unwrap();
            works(&host);
            kill(libc::SIGSTOP);
            meets_a_deadline(&host);
        }
    }
}

/// Another process replaces the suspended one.
fn suspended_and_reset(backend: Backend) {
    let (host, _) = spinner(&machine(), backend);
    for _ in 0..2 {
        let suspended = guest();
        kill(libc::SIGSTOP);
        host.reset().unwrap();
        assert_ne!(guest(), suspended);
        works_in_every_way(&host);
    }
}

fn suspended_and_dropped(backend: Backend) {
    for vcpus in [1, 3] {
        let host = started(&machine().vcpus(vcpus), backend);
        kill(libc::SIGSTOP);
        let began = Instant::now();
        drop(host);
        assert!(began.elapsed() < super::makes::SOON, "{:?}", began.elapsed());
        nothing_left();
    }
}
