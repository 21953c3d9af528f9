//! The program's user and its privileges: users, capabilities, and what it gives up before a machine is made or later.

use std::{fs, thread, time::Duration};

use vmffi::{
    ErrorKind,
    host::GuestExit,
    machine::{Backend, MachineBuilder},
};

use super::{
    cases::{Case, any, kvm, process, skip},
    drops::{ends, soon},
    makes::{
        Built, children, descriptors, done, fork, forked, image, is_stopped, join, machine, mapped,
        meets_a_deadline, nothing_left, spinner, started, works, works_in_every_way,
    },
};

pub const CASES: &[Case] = &[
    ("dropped_by_another_user", any, other_user),
    ("dropped_by_another_user_on_another_thread", any, other_user_elsewhere),
    ("calls_of_another_user", any, other_user_calls),
    ("stopped_by_another_user_while_it_waits", any, other_user_stops),
    ("another_user_makes_machines", any, another_user),
    ("no_new_privileges", any, no_new_privileges),
    ("no_capabilities", any, no_capabilities),
    ("nobody_without_anything", process, nobody),
    ("a_program_that_is_not_dumpable", any, not_dumpable),
];

/// Becomes another user than the one who has made the machines.
pub fn become_nobody() {
    // SAFETY: takes no argument.
    if unsafe { libc::geteuid() } != 0 {
        skip("only root can become another user");
    }
    const NOBODY: libc::uid_t = 65534;
    // SAFETY: takes integers.
    done(unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) });
    // SAFETY: takes integers.
    done(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) });
}

/// Becomes a user for whom limits apply.
pub fn be_nobody() {
    // SAFETY: takes no argument.
    if unsafe { libc::geteuid() } == 0 {
        become_nobody();
    }
}

/// A program that may no longer send signals to its guests.
fn other_user(backend: Backend) {
    for vcpus in [1, 3] {
        image();
        forked(|| {
            let machine = machine().vcpus(vcpus);
            let host = started(&machine, backend);
            let stopped = started(&machine, backend);
            stopped.stopper().stop();
            let built = machine.build(backend, sides::host::Host::default()).unwrap();
            let guests = children();
            // The guest's process has copies of all descriptors.
            let child = fork(|| thread::sleep(Duration::from_millis(300)));
            become_nobody();
            for host in [host, stopped, built] {
                soon(host);
            }
            assert_eq!((mapped(), descriptors(), children()), (vec![], vec![], vec![child]));
            join(child);
            guests.into_iter().for_each(ends);
        });
    }
}

fn other_user_elsewhere(backend: Backend) {
    let host = thread::spawn(move || {
        let host = started(&machine(), backend);
        become_nobody();
        host
    });
    let host = host.join().unwrap();
    works(&host);
    thread::scope(|scope| {
        scope.spawn(|| meets_a_deadline(&host)).join().unwrap();
    });
    soon(host);
    nothing_left();
}

fn other_user_calls(backend: Backend) {
    for vcpus in [1, 3] {
        image();
        forked(|| {
            let host = spinner(&machine().vcpus(vcpus), backend);
            let before = children();
            become_nobody();
            keeps_on(&host);
            // The stop has killed the process, and the reset made another one, which belongs to this user.
            if process(backend) {
                assert_ne!(children(), before);
            }
            drop(host);
            nothing_left();
        });
    }
}

fn keeps_on((host, begins): &(Built, super::makes::Begins)) {
    for _ in 0..3 {
        works(host);
        is_stopped(host, begins);
        host.reset().unwrap();
        works(host);
        meets_a_deadline(host);
        host.reset().unwrap();
    }
    works_in_every_way(host);
}

/// The guest is stopped while no call is in progress.
fn other_user_stops(backend: Backend) {
    let host = started(&machine().vcpus(2), backend);
    become_nobody();
    for _ in 0..5 {
        host.stopper().stop();
        let error = sides::shared::control::ControlClient::from(host.guest()).sum(3).unwrap_err();
        assert_eq!(
            (error.kind(), host.guest_exit()),
            (ErrorKind::Cancelled, Some(GuestExit::Stopped))
        );
        host.reset().unwrap();
        works(&host);
        host.stopper().stop();
        host.reset().unwrap();
        works_in_every_way(&host);
    }
    host.stopper().stop();
    soon(host);
    nothing_left();
}

/// A program that was started by root.
fn another_user(backend: Backend) {
    image();
    if kvm(backend) {
        let open = fs::metadata("/dev/kvm").unwrap();
        if std::os::unix::fs::PermissionsExt::mode(&open.permissions()) & 0o006 != 0o006 {
            skip("only root can open /dev/kvm here");
        }
    }
    become_nobody();
    works_in_every_way(&started(&machine(), backend));
    nothing_left();
}

fn no_new_privileges(backend: Backend) {
    give_up_new_privileges();
    works_in_every_way(&started(&machine(), backend));
    nothing_left();
}

fn give_up_new_privileges() {
    // SAFETY: takes integers.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) });
}

fn give_up_capabilities() {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let none = [0_u32; 6];
    // SAFETY: the kernel reads a header and two times three words.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) } as i32);
}

/// Root without privileges, before and after it has made machines.
fn no_capabilities(backend: Backend) {
    image();
    let before = spinner(&machine(), backend);
    give_up_capabilities();
    keeps_on(&before);
    backend.check().unwrap();
    keeps_on(&spinner(&machine().vcpus(3), backend));
    drop(before);
    nothing_left();
}

/// A user without privileges, who can never get any.
fn nobody(backend: Backend) {
    image();
    be_nobody();
    give_up_capabilities();
    give_up_new_privileges();
    backend.check().unwrap();
    assert_eq!(Backend::best(), Some(backend));
    keeps_on(&spinner(&machine().vcpus(3), backend));
    nothing_left();
}

fn not_dumpable(backend: Backend) {
    image();
    let before: (MachineBuilder, Built) = {
        let machine = machine();
        let host = started(&machine, backend);
        (machine, host)
    };
    // SAFETY: takes integers.
    done(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) });
    works_in_every_way(&before.1);
    works_in_every_way(&started(&before.0, backend));
    drop(before);
    assert_eq!((mapped(), descriptors(), children()), (vec![], vec![], vec![]));
}
