//! A machine is dropped, whatever the program has become since: it takes no time, and leaves nothing that could be ended.

use std::{
    fs,
    process::Command,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use vmffi::{ErrorKind, host::GuestExit, machine::Backend};

use super::{
    cases::{Case, any, process, skip},
    limits::become_nobody,
    makes::{
        Built, children, descriptors, done, machine, mapped, nothing_left, spinner, started, works,
        works_in_every_way,
    },
};
use support::shared::control::ControlClient;

pub const CASES: &[Case] = &[
    ("dropped_by_another_user", any, other_user),
    ("dropped_by_another_user_on_another_thread", any, other_user_elsewhere),
    ("calls_of_another_user", process, other_user_calls),
    ("dropped_with_children_ignored", any, ignored),
    ("dropped_with_children_not_waited_for", any, not_waited_for),
    ("dropped_while_somebody_waits_for_all_children", any, waited_for),
    ("dropped_after_its_thread", any, after_its_thread),
    ("dropped_after_its_process", process, after_its_process),
    ("dropped_after_its_process_was_waited_for", process, after_a_wait),
    ("dropped_after_its_number_was_given_again", process, number_again),
    ("dropped_with_all_signals_blocked", any, all_blocked),
];

/// Drops it, which must not take longer than a busy machine takes for nothing.
#[track_caller]
fn soon(host: impl Send) {
    let began = Instant::now();
    drop(host);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// A guest's process is gone, or ends soon.
#[track_caller]
fn ends(pid: i32) {
    let patience = Instant::now() + Duration::from_secs(5);
    let lives = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while lives() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(!lives(), "process {pid} is still there");
}

fn other_user(backend: Backend) {
    let host = started(&machine(), backend);
    let stopped = started(&machine(), backend);
    stopped.stopper().stop();
    let built = machine().build(backend, support::host::Host::default()).unwrap();
    become_nobody();
    for host in [host, stopped, built] {
        soon(host);
    }
    nothing_left();
}

/// Where nobody can end it, it ends with the thread that has made it.
fn other_user_elsewhere(backend: Backend) {
    let (host, guest) = thread::scope(|scope| {
        let makes = scope.spawn(|| {
            let host = started(&machine(), backend);
            let guest = children();
            become_nobody();
            thread::scope(|scope| {
                let other = scope.spawn(|| soon(host));
                other.join().unwrap();
            });
            (mapped(), guest)
        });
        makes.join().unwrap()
    });
    assert_eq!((host, descriptors()), (vec![], vec![]));
    guest.into_iter().for_each(ends);
}

/// A guest that could not be stopped is not run.
fn other_user_calls(backend: Backend) {
    let host = started(&machine(), backend);
    become_nobody();
    let error = ControlClient::from(host.guest()).sum(3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerDied);
    let end = host.guest_exit().unwrap();
    assert!(matches!(&end, GuestExit::Lost(why) if why.contains("change of user")), "{end}");
    soon(host);
    nothing_left();
    works_in_every_way(&started(&machine(), backend));
}

fn on_child(how: usize, flags: i32) {
    // SAFETY: integers and pointers, for which zeros are values.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (how, flags);
    // SAFETY: it installs no handler.
    done(unsafe { libc::sigaction(libc::SIGCHLD, &action, ptr::null_mut()) });
}

fn drops(backend: Backend, before: impl Fn(), between: impl Fn()) {
    for _ in 0..3 {
        before();
        let host = started(&machine(), backend);
        works_in_every_way(&host);
        between();
        works(&host);
        soon(host);
        let spins = spinner(&machine(), backend).0;
        spins.stopper().stop();
        soon(spins);
        nothing_left();
    }
}

fn ignored(backend: Backend) {
    let never = || on_child(libc::SIG_DFL, 0);
    let ignore = || on_child(libc::SIG_IGN, 0);
    drops(backend, never, ignore);
    drops(backend, ignore, ignore);
}

fn not_waited_for(backend: Backend) {
    let never = || on_child(libc::SIG_DFL, 0);
    let ignore = || on_child(libc::SIG_DFL, libc::SA_NOCLDWAIT);
    drops(backend, never, ignore);
    drops(backend, ignore, ignore);
}

/// Another thread waits for whichever child ends, all the time.
fn waited_for(backend: Backend) {
    let hosts: Vec<Built> = (0..20).map(|_| started(&machine(), backend)).collect();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                // SAFETY: it is given no place for the status.
                unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) };
            }
        });
        scope.spawn(|| {
            // SAFETY: as above.
            while !ended.load(Ordering::Relaxed) {
                unsafe { libc::waitpid(-1, ptr::null_mut(), 0) };
            }
        });
        thread::sleep(Duration::from_millis(20));
        hosts.into_iter().for_each(soon);
        ended.store(true, Ordering::Relaxed);
    });
    nothing_left();
}

/// The thread that has made it, and ran it, has ended.
fn after_its_thread(backend: Backend) {
    let host = thread::spawn(move || {
        let host = started(&machine(), backend);
        works_in_every_way(&host);
        host
    });
    let host = host.join().unwrap();
    let called = ControlClient::from(host.guest()).sum(4);
    if process(backend) {
        assert_eq!(called.map_err(|error| error.kind()), Err(ErrorKind::Busy));
    } else {
        assert_eq!(called, Ok(10));
    }
    host.stopper().stop();
    soon(host);
    nothing_left();
    works_in_every_way(&started(&machine(), backend));
}

/// Somebody else has ended its process.
fn after_its_process(backend: Backend) {
    let host = started(&machine(), backend);
    let [pid] = children()[..] else { panic!("one child") };
    // SAFETY: takes two integers.
    done(unsafe { libc::kill(pid, libc::SIGKILL) });
    ends(pid);
    soon(host);
    nothing_left();
}

/// And has waited for it: its number may be anybody's.
fn after_a_wait(backend: Backend) {
    let host = started(&machine(), backend);
    let [pid] = children()[..] else { panic!("one child") };
    // SAFETY: takes two integers.
    done(unsafe { libc::kill(pid, libc::SIGKILL) });
    // SAFETY: it is given no place for the status.
    assert_eq!(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) }, pid);
    let error = ControlClient::from(host.guest()).sum(3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerDied);
    assert!(host.reset().is_err());
    soon(host);
    nothing_left();
}

/// And its number is another child's, which stays.
fn number_again(backend: Backend) {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    if fs::OpenOptions::new().write(true).open(LAST).is_err() {
        skip("only root can choose the number of a process");
    }
    let host = started(&machine(), backend);
    let [pid] = children()[..] else { panic!("one child") };
    // SAFETY: takes two integers.
    done(unsafe { libc::kill(pid, libc::SIGKILL) });
    // SAFETY: it is given no place for the status.
    assert_eq!(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) }, pid);
    // Others may take it, too.
    let other = (0..50).find_map(|_| {
        fs::write(LAST, (pid - 1).to_string()).unwrap();
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        if child.id() as i32 == pid {
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        None
    });
    let Some(mut other) = other else { skip("the number was not given again") };
    soon(host);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(other.try_wait().unwrap(), None, "another process was ended");
    other.kill().unwrap();
    other.wait().unwrap();
    nothing_left();
}

fn all_blocked(backend: Backend) {
    let host = started(&machine(), backend);
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: it is made a set there.
    done(unsafe { libc::sigfillset(all.as_mut_ptr()) });
    // SAFETY: it is one now.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()) };
    works_in_every_way(&host);
    soon(host);
    nothing_left();
}
