//! A machine is dropped, whatever has changed in the program since: the drop is fast, and no resource is left.

use std::{
    fs,
    process::Command,
    ptr, thread,
    time::{Duration, Instant},
};

use vmffi::{ErrorKind, machine::Backend};

use super::{
    cases::{Case, any, process, skip},
    makes::{children, done, machine, nothing_left, started, works_in_every_way},
};
use sides::shared::control::ControlClient;

pub const CASES: &[Case] = &[
    ("dropped_after_its_thread", any, after_its_thread),
    ("dropped_after_its_process", process, after_its_process),
    ("dropped_after_its_process_was_waited_for", process, after_a_wait),
    ("dropped_after_its_process_id_was_reused", process, number_again),
    ("dropped_with_all_signals_blocked", any, all_blocked),
];

/// Drops a host; the limit is generous, for a busy machine.
#[track_caller]
pub fn soon(host: impl Send) {
    let began = Instant::now();
    drop(host);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// A guest's process has ended, or ends soon.
#[track_caller]
pub fn ends(pid: i32) {
    let patience = Instant::now() + Duration::from_secs(20);
    let lives = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while lives() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(!lives(), "process {pid} still exists");
}

/// The thread that made the machine and ran it has ended.
fn after_its_thread(backend: Backend) {
    let host = thread::spawn(move || {
        let host = started(&machine(), backend);
        works_in_every_way(&host);
        host
    });
    let host = host.join().unwrap();
    works_in_every_way(&host);
    host.stopper().stop();
    soon(host);
    nothing_left();
    works_in_every_way(&started(&machine(), backend));
}

/// Another process has ended the guest's process.
fn after_its_process(backend: Backend) {
    let host = started(&machine(), backend);
    let [pid] = children()[..] else { panic!("one child") };
    // SAFETY: kill(2) takes two integers.
    done(unsafe { libc::kill(pid, libc::SIGKILL) });
    ends(pid);
    soon(host);
    nothing_left();
}

/// The guest's process was ended, and waited for, so its ID may be reused.
fn after_a_wait(backend: Backend) {
    let host = started(&machine(), backend);
    let [pid] = children()[..] else { panic!("one child") };
    // SAFETY: kill(2) takes two integers.
    done(unsafe { libc::kill(pid, libc::SIGKILL) });
    // SAFETY: the pointer to the status is null.
    assert_eq!(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) }, pid);
    let error = ControlClient::from(host.guest()).sum(3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerDied);
    host.reset().unwrap();
    works_in_every_way(&host);
    soon(host);
    nothing_left();
}

/// The ID of the guest's process belongs to another child, which stays.
fn number_again(backend: Backend) {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    let host = started(&machine(), backend);
    let [pid] = children()[..] else { panic!("one child") };
    // SAFETY: kill(2) takes two integers.
    done(unsafe { libc::kill(pid, libc::SIGKILL) });
    // SAFETY: the pointer to the status is null.
    assert_eq!(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) }, pid);
    // Other processes may get the ID as well.
    let other = (0..50).find_map(|_| {
        if fs::write(LAST, (pid - 1).to_string()).is_err() {
            skip("only root can choose the number of a process");
        }
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        if child.id() as i32 == pid {
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        None
    });
    let Some(mut other) = other else { skip("the number was not used again") };
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
    // SAFETY: the pointer is valid, and sigfillset(3) initialises the set.
    done(unsafe { libc::sigfillset(all.as_mut_ptr()) });
    // SAFETY: the set was initialised above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()) };
    works_in_every_way(&host);
    soon(host);
    nothing_left();
}
