//! A host that ends at any moment, in any way: no process of its guests is left.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    process::Command,
    ptr, thread,
    time::{Duration, Instant},
};

use vmffi::machine::Backend;

use super::{
    cases::{Case, any, process},
    makes::{children, done, fork, image, machine, spinner, started, works},
};
use sides::shared::control::ControlClient;

pub const CASES: &[Case] = &[
    ("a_host_is_killed_at_any_moment", any, at_any_moment),
    ("a_host_ends_in_any_way", any, in_any_way),
    ("a_host_is_killed_and_its_child_is_not", process, with_a_child),
];

/// The number of hosts that are killed.
fn times() -> u32 {
    env::var("VMFFI_KILLS").map_or(60, |times| times.parse().expect("VMFFI_KILLS is a number"))
}

/// Makes this process the parent of orphans, so that it can wait for the guests of a killed host.
fn adopt() {
    // SAFETY: takes integers.
    done(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) });
}

/// Waits for all children, which must end soon.
#[track_caller]
fn all_end(what: &str) {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        // SAFETY: the pointer to the status is null.
        match unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) } {
            -1 => return,
            0 if Instant::now() > patience => break,
            0 => thread::sleep(Duration::from_micros(200)),
            _ => {}
        }
    }
    let left = children();
    let state = |pid: &i32| {
        ["stat", "syscall", "wchan", "stack"]
            .map(|of| fs::read_to_string(format!("/proc/{pid}/{of}")).unwrap_or_default())
    };
    let states: Vec<_> = left.iter().map(state).collect();
    for pid in &left {
        // SAFETY: kill(2) takes two integers.
        unsafe { libc::kill(*pid, libc::SIGKILL) };
    }
    panic!("{what}: left {states:?}");
}

/// A name, and what the host repeats.
type Live = (&'static str, fn(Backend));

/// The activities of hosts.
const LIVES: &[Live] = &[
    ("builds", |backend| drop(machine().build(backend, ()))),
    ("starts", |backend| drop(started(&machine(), backend))),
    ("starts with four vCPUs", |backend| drop(started(&machine().vcpus(4), backend))),
    ("checks", |backend| backend.check().unwrap()),
    ("calls", |backend| {
        let host = started(&machine(), backend);
        (0..1000).for_each(|_| works(&host));
    }),
    ("computes", |backend| {
        let (host, _begins) = spinner(&machine().vcpus(2), backend);
        let _ = ControlClient::from(host.guest()).spin();
    }),
    ("resets", |backend| {
        let host = started(&machine(), backend);
        for _ in 0..1000 {
            host.reset().unwrap();
            works(&host);
        }
    }),
    ("resets after a crash", |backend| {
        let host = started(&machine(), backend);
        for _ in 0..100 {
            children().into_iter().for_each(|pid| {
                // SAFETY: kill(2) takes two integers.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            });
            let _ = ControlClient::from(host.guest()).sum(3);
            host.reset().unwrap();
        }
    }),
];

fn at_any_moment(backend: Backend) {
    adopt();
    image();
    // Random moments, by a linear congruential generator.
    let mut state = u64::from(std::process::id());
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..times() {
        let (what, live) = LIVES[round as usize % LIVES.len()];
        let host = fork(|| {
            loop {
                live(backend);
            }
        });
        let moment = Duration::from_micros(random(20_000));
        thread::sleep(moment);
        // SAFETY: kill(2) takes two integers; the child has not been waited for.
        done(unsafe { libc::kill(host, libc::SIGKILL) });
        all_end(&format!("round {round}, a host that {what}, killed after {moment:?}"));
    }
}

fn in_any_way(backend: Backend) {
    adopt();
    image();
    let ends: [(&str, fn()); 4] = [
        // SAFETY: the call ends this process.
        ("exits", || unsafe { libc::_exit(0) }),
        ("aborts", || {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the call writes the limit to a valid pointer.
            done(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) });
            std::process::abort()
        }),
        ("executes another program", || panic!("{}", Command::new("/bin/true").exec())),
        // SAFETY: takes an integer.
        ("ends by a signal", || unsafe {
            libc::signal(libc::SIGTERM, libc::SIG_DFL);
            libc::raise(libc::SIGTERM);
        }),
    ];
    for (what, end) in ends {
        for spins in [false, true] {
            fork(|| {
                let (host, begins) = spinner(&machine(), backend);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        if spins {
                            begins.wait();
                            thread::sleep(Duration::from_millis(5));
                        }
                        end();
                    });
                    let _ = spins.then(|| ControlClient::from(host.guest()).spin());
                });
            });
            all_end(what);
        }
    }
}

/// A child that the host has forked, and that executes no program, holds the host's end of the socket: the guest still ends.
fn with_a_child(backend: Backend) {
    adopt();
    image();
    let mut pipe = [0; 2];
    // SAFETY: the array has room for two descriptors.
    done(unsafe { libc::pipe(pipe.as_mut_ptr()) });
    let host = fork(|| {
        let (host, begins) = spinner(&machine(), backend);
        thread::scope(|scope| {
            scope.spawn(|| {
                begins.wait();
                fork(|| {
                    let mut byte = 0_u8;
                    // SAFETY: the descriptors are this case's own.
                    unsafe { libc::close(pipe[1]) };
                    // SAFETY: the buffer has one byte.
                    unsafe { libc::read(pipe[0], (&raw mut byte).cast(), 1) };
                });
                // SAFETY: takes an integer.
                unsafe { libc::raise(libc::SIGKILL) };
            });
            let _ = ControlClient::from(host.guest()).spin();
        });
    });
    super::drops::ends(host);
    // SAFETY: the descriptors are this case's own.
    unsafe { libc::close(pipe[1]) };
    all_end("a child");
}
