//! Children of the program: whatever it does about SIGCHLD, and whoever waits for them.

use std::{
    ptr,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use vmffi::machine::Backend;

use super::{
    cases::{Case, any, process},
    drops::soon,
    makes::{
        Built, done, fork, is_stopped, machine, nothing_left, spinner, started, works,
        works_in_every_way,
    },
};

pub const CASES: &[Case] = &[
    ("dropped_with_children_ignored", any, ignored),
    ("dropped_with_children_not_waited_for", any, not_waited_for),
    ("dropped_while_a_thread_waits_for_all_children", any, waited_for),
    ("a_handler_waits_for_all_children", process, handler_waits),
    ("a_thread_waits_for_all_children", process, thread_waits),
];

fn on_child(how: usize, flags: i32) {
    // SAFETY: the struct has integers and pointers, for which zeros are values.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (how, flags);
    // SAFETY: the only handler of this file calls only functions that are safe in a handler.
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

/// Another thread waits for any child that ends, without pause.
fn waited_for(backend: Backend) {
    let hosts: Vec<Built> = (0..20).map(|_| started(&machine(), backend)).collect();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                // SAFETY: the pointer to the status is null.
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

static WAITED: AtomicU32 = AtomicU32::new(0);

/// Waits for all children that have ended.
extern "C" fn wait_for_all(_: libc::c_int) {
    // SAFETY: the pointer to the status is null.
    while unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) } > 0 {
        WAITED.fetch_add(1, Ordering::Relaxed);
    }
}

/// All operations of a machine that end a process.
fn lives(backend: Backend) {
    for vcpus in [1, 3] {
        let (host, begins) = spinner(&machine().vcpus(vcpus), backend);
        for _ in 0..3 {
            works_in_every_way(&host);
            is_stopped(&host, &begins);
            for pid in super::makes::children() {
                // SAFETY: kill(2) takes two integers; no other thread has children here.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            host.reset().unwrap();
            let _ = sides::shared::control::ControlClient::from(host.guest()).sum(3);
            host.reset().unwrap();
            works(&host);
            backend.check().unwrap();
        }
        soon(host);
    }
}

fn handler_waits(backend: Backend) {
    let handler = wait_for_all as extern "C" fn(libc::c_int) as usize;
    for flags in [libc::SA_RESTART, 0, libc::SA_NOCLDSTOP] {
        on_child(handler, flags);
        lives(backend);
        // Children of the program itself, as well.
        let before = WAITED.load(Ordering::Relaxed);
        fork(|| {});
        while WAITED.load(Ordering::Relaxed) == before {
            thread::sleep(Duration::from_millis(1));
        }
        nothing_left();
    }
}

/// A thread that blocks in waitpid(2), one that polls, and both.
fn thread_waits(backend: Backend) {
    for how in [&[0][..], &[libc::WNOHANG], &[0, libc::WNOHANG]] {
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            for flags in how {
                let ended = &ended;
                scope.spawn(move || {
                    while !ended.load(Ordering::Relaxed) {
                        // SAFETY: the pointer to the status is null.
                        if unsafe { libc::waitpid(-1, ptr::null_mut(), *flags) } < 1 {
                            thread::sleep(Duration::from_micros(100));
                        }
                    }
                });
            }
            lives(backend);
            ended.store(true, Ordering::Relaxed);
        });
        nothing_left();
    }
}
