//! Signals: which one stops a vCPU, and what the program may do with it and with others.

use std::{
    mem, ptr,
    sync::{
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    ErrorKind,
    host::{FaultCause, GuestExit},
    machine::{Backend, MachineError},
};

use super::{
    cases::{Case, any, kvm, process},
    limits::limit,
    makes::{
        done, is_stopped, machine, meets_a_deadline, spinner, start, started, works,
        works_in_every_way,
    },
};
use sides::{
    host::Host,
    shared::control::{ControlClient, Crime},
};

pub const CASES: &[Case] = &[
    ("real_time_signals_stop", kvm, real_time),
    ("signals_that_cannot_stop", kvm, cannot),
    ("the_stop_signal_is_blocked", any, blocked),
    ("all_signals_are_blocked", any, all_blocked),
    ("all_signals_are_ignored", process, all_ignored),
    ("a_handler_blocks_the_stop_signal", any, blocked_in_a_handler),
    ("another_thread_blocks_the_stop_signal", kvm, blocked_elsewhere),
    ("a_blocked_stop_signal_does_not_stay_pending", kvm, nothing_pending),
    ("the_stop_signal_is_ignored_later", kvm, ignored),
    ("the_stop_signal_has_its_default_later", kvm, defaulted),
    ("the_stop_signal_is_ignored_and_blocked", kvm, ignored_and_blocked),
    ("the_stop_signal_has_a_handler_later", kvm, handled),
    ("an_earlier_handler_stays", kvm, kept),
    ("a_machine_installs_no_other_handler", any, no_other),
    ("other_signals_are_pending", any, others_pending),
    ("other_signals_reach_a_thread_that_runs_a_guest", any, others_delivered),
    ("signals_without_end", any, storm),
    ("no_signal_can_be_queued", kvm, queue),
    ("a_signal_comes_on_an_alternate_stack", kvm, alternate_stack),
];

fn number(backend: Backend) -> i32 {
    // A guest's process is stopped by this signal, which is sent to it and not to this program.
    if kvm(backend) { libc::SIGUSR2 } else { libc::SIGUSR1 }
}

fn set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: the struct has integers only, for which zeros are values.
    let mut set = unsafe { mem::zeroed() };
    // SAFETY: the set was initialised above.
    unsafe { libc::sigemptyset(&mut set) };
    for signal in signals {
        // SAFETY: as above.
        done(unsafe { libc::sigaddset(&mut set, *signal) });
    }
    set
}

fn mask(how: i32, set: &libc::sigset_t) -> libc::sigset_t {
    // SAFETY: the struct has integers only, for which zeros are values.
    let mut before = unsafe { mem::zeroed() };
    // SAFETY: both sets are initialised.
    assert_eq!(unsafe { libc::pthread_sigmask(how, set, &mut before) }, 0);
    before
}

fn block(signals: &[i32]) -> libc::sigset_t {
    mask(libc::SIG_BLOCK, &set(signals))
}

fn is_pending(signal: i32) -> bool {
    let mut pending = set(&[]);
    // SAFETY: the set was initialised above.
    done(unsafe { libc::sigpending(&mut pending) });
    // SAFETY: as above.
    unsafe { libc::sigismember(&pending, signal) == 1 }
}

/// The program's disposition of a signal: SIG_DFL, SIG_IGN, or a handler.
fn disposition(signal: i32) -> usize {
    // SAFETY: the struct has integers and pointers, for which zeros are values.
    let mut found: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the call only queries the current disposition.
    done(unsafe { libc::sigaction(signal, ptr::null(), &mut found) });
    found.sa_sigaction
}

fn dispose(signal: i32, how: usize, flags: i32) {
    // SAFETY: as above.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (how, flags);
    // SAFETY: the handlers of this file call only functions that are safe in a handler.
    done(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) });
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

fn counter() -> usize {
    count as extern "C" fn(libc::c_int) as usize
}

fn real_time(backend: Backend) {
    let all = libc::SIGRTMIN()..=libc::SIGRTMAX();
    for number in [*all.start(), all.start() + 1, all.end() - 1, *all.end()] {
        let machine = machine().signal(number).unwrap_or_else(|error| panic!("{number}: {error}"));
        let (host, begins) = spinner(&machine, backend);
        is_stopped(&host, &begins);
        host.reset().unwrap();
        meets_a_deadline(&host);
    }
    assert!(all.into_iter().all(|number| machine().signal(number).is_ok()));
}

fn cannot(_: Backend) {
    let faults =
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];
    let library = 32..libc::SIGRTMIN();
    let none = [0, -1, i32::MIN, i32::MAX, 1000, libc::SIGRTMAX() + 1];
    let never = [libc::SIGKILL, libc::SIGSTOP];
    for number in faults.into_iter().chain(library).chain(none).chain(never) {
        let refused = machine().signal(number);
        assert!(matches!(refused, Err(MachineError::Config(_))), "{number}: {refused:?}");
    }
    for number in [libc::SIGUSR1, libc::SIGURG, libc::SIGWINCH, libc::SIGIO, libc::SIGALRM] {
        assert!(machine().signal(number).is_ok(), "{number}");
    }
}

fn blocked(backend: Backend) {
    block(&[number(backend)]);
    let (host, begins) = spinner(&machine(), backend);
    is_stopped(&host, &begins);
    host.reset().unwrap();
    works_in_every_way(&host);
    // Also if the signal was not blocked when the guest first ran.
    mask(libc::SIG_UNBLOCK, &set(&[number(backend)]));
    works_in_every_way(&host);
    block(&[number(backend)]);
    works_in_every_way(&host);
}

fn all_blocked(backend: Backend) {
    let (host, begins) = spinner(&machine(), backend);
    let mut all = set(&[]);
    // SAFETY: the set was initialised above.
    unsafe { libc::sigfillset(&mut all) };
    mask(libc::SIG_BLOCK, &all);
    is_stopped(&host, &begins);
    host.reset().unwrap();
    works_in_every_way(&host);
}

/// Ignored signals stay ignored across execve(2), and blocked ones blocked.
fn all_ignored(backend: Backend) {
    for blocks in [false, true] {
        for signal in (1..32).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
            if ![libc::SIGKILL, libc::SIGSTOP].contains(&signal) {
                dispose(signal, libc::SIG_IGN, 0);
            }
        }
        if blocks {
            let mut all = set(&[]);
            // SAFETY: the set was initialised above.
            unsafe { libc::sigfillset(&mut all) };
            mask(libc::SIG_BLOCK, &all);
        }
        backend.check().unwrap();
        let (host, begins) = spinner(&machine().vcpus(2), backend);
        is_stopped(&host, &begins);
        host.reset().unwrap();
        for (crime, cause) in [(Crime::Undefined, 6), (Crime::Divide, 0), (Crime::Breakpoint, 3)] {
            let error = ControlClient::from(host.guest()).commit(crime, 0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PeerDied);
            let exit = host.guest_exit();
            let Some(GuestExit::Fault(fault)) = exit else { panic!("{exit:?}") };
            assert_eq!(fault.cause, FaultCause::Exception(cause));
            host.reset().unwrap();
        }
        works_in_every_way(&host);
    }
}

fn blocked_in_a_handler(backend: Backend) {
    let server = Host::on_spin(move || {
        block(&[number(backend)]);
    });
    let host = start(&machine(), backend, server);
    meets_a_deadline(&host);
}

fn blocked_elsewhere(backend: Backend) {
    let (host, begins) = spinner(&machine().vcpus(1), backend);
    for (first, second) in [(true, false), (false, true), (true, true)] {
        for blocks in [first, second] {
            thread::scope(|scope| {
                scope.spawn(|| {
                    if blocks {
                        block(&[libc::SIGUSR2]);
                    }
                    works_in_every_way(&host);
                });
            });
        }
    }
    is_stopped(&host, &begins);
}

/// After a stop was noticed, no signal is pending that would end the program later.
fn nothing_pending(backend: Backend) {
    for signal in [libc::SIGUSR2, libc::SIGRTMIN()] {
        let machine = machine().signal(signal).unwrap();
        let (host, begins) = spinner(&machine, backend);
        let before = block(&[signal]);
        for _ in 0..20 {
            is_stopped(&host, &begins);
            assert!(!is_pending(signal));
            host.reset().unwrap();
        }
        dispose(signal, libc::SIG_DFL, 0);
        mask(libc::SIG_SETMASK, &before);
    }
}

fn ignored(backend: Backend) {
    let (host, begins) = spinner(&machine(), backend);
    dispose(libc::SIGUSR2, libc::SIG_IGN, 0);
    is_stopped(&host, &begins);
    host.reset().unwrap();
    dispose(libc::SIGUSR2, libc::SIG_IGN, 0);
    works_in_every_way(&host);
}

fn defaulted(backend: Backend) {
    let (host, begins) = spinner(&machine(), backend);
    dispose(libc::SIGUSR2, libc::SIG_DFL, 0);
    is_stopped(&host, &begins);
    host.reset().unwrap();
    dispose(libc::SIGUSR2, libc::SIG_DFL, 0);
    works_in_every_way(&host);
}

fn ignored_and_blocked(backend: Backend) {
    for how in [libc::SIG_IGN, libc::SIG_DFL] {
        let (host, begins) = spinner(&machine(), backend);
        dispose(libc::SIGUSR2, how, 0);
        block(&[libc::SIGUSR2]);
        is_stopped(&host, &begins);
        host.reset().unwrap();
        dispose(libc::SIGUSR2, how, 0);
        works_in_every_way(&host);
    }
}

fn handled(backend: Backend) {
    let (host, begins) = spinner(&machine(), backend);
    for flags in [libc::SA_RESTART, 0, libc::SA_RESETHAND] {
        let before = HANDLED.load(Ordering::Relaxed);
        dispose(libc::SIGUSR2, counter(), flags);
        is_stopped(&host, &begins);
        assert_eq!(HANDLED.load(Ordering::Relaxed), before + 1);
        host.reset().unwrap();
        works_in_every_way(&host);
    }
}

fn kept(backend: Backend) {
    dispose(libc::SIGUSR2, counter(), 0);
    let host = started(&machine(), backend);
    works_in_every_way(&host);
    assert_eq!(disposition(libc::SIGUSR2), counter());
    assert!(HANDLED.load(Ordering::Relaxed) > 0);
}

fn no_other(backend: Backend) {
    let all = (1..32).chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
    let ask = || all.clone().map(disposition).collect::<Vec<_>>();
    let mut before = ask();
    backend.check().unwrap();
    assert_eq!(ask(), before, "a query changes nothing");
    let host = started(&machine(), backend);
    works_in_every_way(&host);
    let mut after = ask();
    if kvm(backend) {
        let at = libc::SIGUSR2 as usize - 1;
        assert_ne!(after[at], before[at]);
        (after[at], before[at]) = (0, 0);
    }
    assert_eq!(after, before);
    // No signal is blocked either.
    let blocked = block(&[]);
    for signal in all {
        // SAFETY: the set was initialised above.
        assert_eq!(unsafe { libc::sigismember(&blocked, signal) }, 0, "{signal}");
    }
}

/// Signals that the thread blocks, and that are pending, neither end its calls nor block them.
fn others_pending(backend: Backend) {
    let host = started(&machine(), backend);
    for when in 0..2 {
        let signals = [libc::SIGTERM, libc::SIGALRM, libc::SIGRTMIN()];
        let before = block(&signals);
        for signal in signals {
            // SAFETY: takes an integer; the signal is blocked.
            done(unsafe { libc::raise(signal) });
        }
        works_in_every_way(&host);
        for signal in signals {
            assert!(is_pending(signal), "{signal}");
            dispose(signal, counter(), 0);
        }
        mask(libc::SIG_SETMASK, &before);
        assert_eq!(HANDLED.load(Ordering::Relaxed), 3 * (when + 1));
        works_in_every_way(&host);
    }
}

/// A signal that a thread does not block is handled while its guest runs, also if it was blocked before.
fn others_delivered(backend: Backend) {
    let (host, begins) = spinner(&machine(), backend);
    dispose(libc::SIGALRM, counter(), 0);
    for blocked_before in [false, true] {
        HANDLED.store(0, Ordering::Relaxed);
        let before = if blocked_before { block(&[libc::SIGALRM]) } else { set(&[]) };
        works(&host);
        mask(libc::SIG_SETMASK, &before);
        let stopper = host.stopper();
        // SAFETY: the handle is the thread's own.
        let this = unsafe { libc::pthread_self() };
        let (began, begun) = mpsc::channel::<()>();
        let other = thread::spawn(move || {
            begun.recv().unwrap();
            thread::sleep(Duration::from_millis(50));
            // SAFETY: that thread waits for this one, so its handle is valid.
            assert_eq!(unsafe { libc::pthread_kill(this, libc::SIGALRM) }, 0);
            let patience = Instant::now() + Duration::from_secs(5);
            while HANDLED.load(Ordering::Relaxed) == 0 && Instant::now() < patience {
                thread::sleep(Duration::from_millis(1));
            }
            let handled = HANDLED.load(Ordering::Relaxed);
            stopper.stop();
            handled
        });
        began.send(()).unwrap();
        let error = ControlClient::from(host.guest()).spin().unwrap_err();
        assert_eq!(
            (error.kind(), host.guest_exit()),
            (ErrorKind::Cancelled, Some(GuestExit::Stopped))
        );
        assert_eq!(other.join().unwrap(), 1, "blocked before: {blocked_before}");
        begins.wait();
        host.reset().unwrap();
    }
}

/// The program sends itself the stop's signal without pause, and others.
fn storm(backend: Backend) {
    let (host, begins) = spinner(&machine(), backend);
    dispose(libc::SIGUSR1, counter(), 0);
    if !kvm(backend) {
        dispose(libc::SIGUSR2, counter(), 0);
    }
    let ended = AtomicBool::new(false);
    // SAFETY: the handle is the thread's own.
    let this = unsafe { libc::pthread_self() };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for signal in [libc::SIGUSR1, libc::SIGUSR2] {
                    // SAFETY: that thread waits for this one, so its handle is valid.
                    assert_eq!(unsafe { libc::pthread_kill(this, signal) }, 0);
                }
                thread::sleep(Duration::from_micros(200));
            }
        });
        for round in 0..10 {
            let before = if round % 2 == 1 { block(&[number(backend)]) } else { block(&[]) };
            for _ in 0..20 {
                works(&host);
            }
            meets_a_deadline(&host);
            mask(libc::SIG_SETMASK, &before);
        }
        is_stopped(&host, &begins);
        ended.store(true, Ordering::Relaxed);
    });
}

/// Real-time signals are queued, and RLIMIT_SIGPENDING limits their number: a stop waits for a free entry.
fn queue(backend: Backend) {
    let machine = machine().signal(libc::SIGRTMIN()).unwrap();
    let (host, begins) = spinner(&machine, backend);
    for blocks in [false, true] {
        if blocks {
            block(&[libc::SIGRTMIN()]);
        }
        limit(libc::RLIMIT_SIGPENDING, 0);
        // SAFETY: takes integers.
        let refused = unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGRTMAX()) };
        assert_eq!(refused, libc::EAGAIN);
        let room = thread::spawn(|| {
            thread::sleep(Duration::from_millis(300));
            limit(libc::RLIMIT_SIGPENDING, 100);
        });
        is_stopped(&host, &begins);
        room.join().unwrap();
        host.reset().unwrap();
        works_in_every_way(&host);
    }
}

/// Threads with small stacks handle their signals on an alternate stack.
fn alternate_stack(backend: Backend) {
    let host = started(&machine(), backend);
    // SAFETY: the struct has integers and pointers, for which zeros are values.
    let mut found: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the call only queries the current stack.
    done(unsafe { libc::sigaction(libc::SIGUSR2, ptr::null(), &mut found) });
    assert_ne!(found.sa_flags & libc::SA_ONSTACK, 0);
    assert_ne!(found.sa_flags & libc::SA_RESTART, 0);
    works_in_every_way(&host);
}
