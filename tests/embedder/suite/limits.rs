//! Resource limits (getrlimit(2)) that are too low for a machine: an error, and no resource left behind.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    ErrorKind,
    host::{CheckpointError, GuestExit, ResetError, RunOutcome},
    machine::{Backend, MachineBuilder, MachineError},
};

use super::{
    cases::{Case, any, kvm, process},
    makes::{
        done, fork, forked, fresh, image, join, machine, nothing_left, spinner, started, works,
        works_in_every_way,
    },
    users::be_nobody,
};
use sides::{
    host::Host,
    shared::{control::ControlClient, state::StateClient},
};

pub const CASES: &[Case] = &[
    ("file_size_below_the_machine", any, file_size),
    ("file_size_lowered_later", any, file_size_later),
    ("file_size_of_a_checkpoint", any, file_size_of_a_checkpoint),
    ("file_size_and_its_signal", any, file_size_signal),
    ("address_space", any, address_space),
    ("descriptors", any, few_descriptors),
    ("processes", process, few_processes),
    ("locked_memory", any, no_locked_memory),
    ("data", any, little_data),
    ("each_limit_is_small", any, each_is_small),
    ("each_limit_is_lowered_later", any, each_is_lowered_later),
    ("processor_time", process, processor_time),
    ("processor_time_of_a_virtual_machine", kvm, processor_time_here),
];

type Resource = libc::__rlimit_resource_t;

fn get(resource: Resource) -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes the limit to a valid pointer.
    done(unsafe { libc::getrlimit(resource, &mut limit) });
    limit
}

/// Sets the soft limit, which can be raised again.
pub fn limit(resource: Resource, to: u64) {
    let limit = libc::rlimit { rlim_cur: to, ..get(resource) };
    // SAFETY: the call reads the limit from a valid pointer.
    done(unsafe { libc::setrlimit(resource, &limit) });
}

fn unlimited(resource: Resource) {
    limit(resource, get(resource).rlim_max);
}

#[track_caller]
fn refused(machine: &MachineBuilder, backend: Backend) -> String {
    match machine.build(backend, Host::default()) {
        Err(error @ MachineError::System { .. }) => error.to_string(),
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("the machine was made"),
    }
}

fn file_size(backend: Backend) {
    for size in [0, 1, 64, 4096, 64 << 10, 1 << 20] {
        // The first machine of an image writes it to a file.
        let fresh = fresh();
        limit(libc::RLIMIT_FSIZE, size);
        let why = refused(&fresh, backend);
        assert!(why.contains("RLIMIT_FSIZE") && why.contains(&format!(" {size} bytes")), "{why}");
        nothing_left();
        if size < 4096 {
            let why = backend.check().unwrap_err().to_string();
            assert!(why.contains("RLIMIT_FSIZE"), "{why}");
        }
        unlimited(libc::RLIMIT_FSIZE);
        drop(started(&machine(), backend));
        nothing_left();
    }
}

/// The guest continues, and cannot be reset; after the limit is raised it can.
fn file_size_later(backend: Backend) {
    let host = started(&machine(), backend);
    let state = StateClient::from(host.guest());
    for size in [0, 4096, 100 << 10] {
        state.fill(2 << 20).unwrap();
        limit(libc::RLIMIT_FSIZE, size);
        works(&host);
        match host.reset() {
            // A virtual machine writes no file then.
            Ok(()) if kvm(backend) => {
                unlimited(libc::RLIMIT_FSIZE);
                continue;
            }
            Err(ResetError::Failed(why)) => assert!(why.contains("RLIMIT_FSIZE"), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(host.guest_exit(), Some(GuestExit::Lost(_))), "{:?}", host.guest_exit());
        let error = ControlClient::from(host.guest()).sum(3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerDied);
        unlimited(libc::RLIMIT_FSIZE);
        host.reset().unwrap();
        works_in_every_way(&host);
        assert_eq!(state.count(0), Ok(3), "the state after startup");
    }
}

/// A checkpoint exceeds the limit: the guest continues, and its earlier checkpoint remains.
fn file_size_of_a_checkpoint(backend: Backend) {
    let host = started(&machine(), backend);
    let state = StateClient::from(host.guest());
    assert_eq!(state.count(4), Ok(7));
    limit(libc::RLIMIT_FSIZE, 4096);
    match host.checkpoint() {
        Err(CheckpointError::Failed(why)) => assert!(why.contains("RLIMIT_FSIZE"), "{why}"),
        other => panic!("{other:?}"),
    }
    works(&host);
    unlimited(libc::RLIMIT_FSIZE);
    host.reset().unwrap();
    assert_eq!(state.count(4), Ok(7));
    host.checkpoint().unwrap();
    assert_eq!(state.count(4), Ok(11));
    host.reset().unwrap();
    assert_eq!(state.count(0), Ok(7));
    works_in_every_way(&host);
}

/// The signal of that limit stays the program's: it is neither blocked nor handled, nor consumed if it was
/// pending.
fn file_size_signal(backend: Backend) {
    let signal = libc::SIGXFSZ;
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is valid, and sigemptyset(3) initialises the set.
    done(unsafe { libc::sigemptyset(set.as_mut_ptr()) });
    // SAFETY: as above.
    let mut set = unsafe { set.assume_init() };
    // SAFETY: the set was initialised above.
    done(unsafe { libc::sigaddset(&mut set, signal) });
    let pends = || {
        let mut pending = set;
        // SAFETY: the set was initialised above.
        done(unsafe { libc::sigpending(&mut pending) });
        // SAFETY: as above.
        unsafe { libc::sigismember(&pending, signal) == 1 }
    };
    limit(libc::RLIMIT_FSIZE, 4096);
    refused(&fresh(), backend);
    let mut before = set;
    // SAFETY: both sets are initialised.
    assert_eq!(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before) }, 0);
    // SAFETY: the set was initialised above.
    assert_eq!(unsafe { libc::sigismember(&before, signal) }, 0);
    refused(&fresh(), backend);
    assert!(!pends());
    // SAFETY: takes an integer; the signal is blocked.
    done(unsafe { libc::raise(signal) });
    refused(&fresh(), backend);
    assert!(pends());
    nothing_left();
}

fn address_space(backend: Backend) {
    image();
    let pages = || -> u64 {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').next().unwrap().parse().unwrap()
    };
    let large = machine().arenas(32 << 20, 32 << 20);
    for more in [1, 16, 60] {
        limit(libc::RLIMIT_AS, pages() * 4096 + (more << 20));
        refused(&large, backend);
        nothing_left();
    }
    unlimited(libc::RLIMIT_AS);
    works_in_every_way(&started(&large, backend));
}

/// Each number of free descriptors in turn, until a machine can be made.
fn few_descriptors(backend: Backend) {
    image();
    // SAFETY: dup(2) takes an integer, and returns the lowest free number.
    let open = done(unsafe { libc::dup(0) });
    // SAFETY: the descriptor is this case's own.
    done(unsafe { libc::close(open) });
    for room in 0..40 {
        let fresh = fresh();
        limit(libc::RLIMIT_NOFILE, open as u64 + room);
        let checked = backend.check();
        let built = fresh.build(backend, Host::default());
        unlimited(libc::RLIMIT_NOFILE);
        assert_eq!(built.is_ok(), checked.is_ok(), "{room}: {checked:?}");
        match built {
            Ok(host) => {
                assert_eq!(host.run(), Ok(vmffi::host::RunOutcome::Ready));
                works_in_every_way(&host);
                assert!(room >= 3, "{room}");
                return;
            }
            Err(error) => assert!(error.to_string().contains("os error 24"), "{error}"),
        }
        nothing_left();
    }
    panic!("40 descriptors are not enough");
}

fn few_processes(backend: Backend) {
    image();
    be_nobody();
    limit(libc::RLIMIT_NPROC, 0);
    let why = refused(&machine(), backend);
    assert!(why.contains("os error 11"), "{why}");
    assert!(backend.check().is_err());
    nothing_left();
    unlimited(libc::RLIMIT_NPROC);
    let host = started(&machine(), backend);
    // The thread that watches deadlines cannot be started, so a call with a deadline is stopped at once.
    limit(libc::RLIMIT_NPROC, 0);
    let within = host.with_deadline(Duration::from_secs(300));
    let within = within.guest();
    let began = std::time::Instant::now();
    assert!(ControlClient::from(within).spin().is_err());
    assert!(began.elapsed() < Duration::from_secs(20));
    unlimited(libc::RLIMIT_NPROC);
    host.reset().unwrap();
    works_in_every_way(&host);
}

/// Each limit alone, as low as possible: machines work, or an error names the resource.
fn each_is_small(backend: Backend) {
    image();
    let page = 4096;
    type Expected = Option<&'static str>;
    let (fine, no_room, no_number) = (None, Some("os error 12"), Some("os error 24"));
    let rows: [(&str, Resource, &[u64], [Expected; 2]); 15] = [
        ("RLIMIT_AS", libc::RLIMIT_AS, &[page, 1 << 20], [no_room, no_room]),
        ("RLIMIT_CORE", libc::RLIMIT_CORE, &[0, 1], [fine, fine]),
        ("RLIMIT_CPU", libc::RLIMIT_CPU, &[60], [fine, fine]),
        ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE, &[0, page], [Some("RLIMIT_FSIZE"); 2]),
        ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS, &[0], [fine, fine]),
        ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK, &[0, page], [fine, fine]),
        ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE, &[0], [fine, fine]),
        ("RLIMIT_NICE", libc::RLIMIT_NICE, &[0], [fine, fine]),
        ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE, &[0, 1, 3, 4], [no_number, no_number]),
        ("RLIMIT_RSS", libc::RLIMIT_RSS, &[0], [fine, fine]),
        ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO, &[0], [fine, fine]),
        ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME, &[1], [fine, fine]),
        ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING, &[0], [fine, fine]),
        ("RLIMIT_STACK", libc::RLIMIT_STACK, &[0, page], [fine, Some("RLIMIT_STACK")]),
        ("RLIMIT_STACK", libc::RLIMIT_STACK, &[64 << 10, 128 << 10], [fine, fine]),
    ];
    for (name, resource, values, expected) in rows {
        for value in values {
            for vcpus in [1, 4] {
                forked(|| {
                    limit(resource, *value);
                    let checked = backend.check().map_err(|error| error.to_string());
                    let built = machine().vcpus(vcpus).build(backend, Host::default());
                    let built = built.map_err(|error| error.to_string());
                    let said = (checked, built.as_ref().err().cloned());
                    let refused = expected[usize::from(process(backend))];
                    match (refused, built) {
                        (None, Ok(host)) => {
                            assert_eq!(said, (Ok(()), None), "{name} {value}");
                            assert_eq!(host.run(), Ok(RunOutcome::Ready), "{name} {value}");
                            match vcpus {
                                1 => works_in_every_way(&host),
                                _ => works(&host),
                            }
                            drop(host);
                            nothing_left();
                        }
                        (Some(why), Err(error)) => {
                            unlimited(resource);
                            assert!(
                                said.0.is_err() && error.contains(why),
                                "{name} {value}: {said:?}"
                            );
                            nothing_left();
                        }
                        (_, other) => {
                            unlimited(resource);
                            drop(other);
                            panic!("{name} {value}: {said:?}");
                        }
                    }
                });
            }
        }
    }
}

/// Each limit is lowered while a guest waits for calls, which needs nothing more; except limits of memory, which the heap needs.
fn each_is_lowered_later(backend: Backend) {
    image();
    for (resource, value) in [
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_FSIZE, 0),
        (libc::RLIMIT_MEMLOCK, 0),
        (libc::RLIMIT_NOFILE, 0),
        (libc::RLIMIT_SIGPENDING, 0),
        (libc::RLIMIT_STACK, 0),
        (libc::RLIMIT_NPROC, 0),
    ] {
        forked(|| {
            let (host, begins) = spinner(&machine().vcpus(2), backend);
            works_in_every_way(&host);
            let other = std::thread::spawn({
                let (stopper, begins) = (host.stopper(), begins);
                move || {
                    begins.wait();
                    begins.wait();
                    stopper.stop();
                }
            });
            limit(resource, value);
            works(&host);
            let error = ControlClient::from(host.guest()).spin().unwrap_err();
            unlimited(resource);
            assert_eq!(error.kind(), ErrorKind::Cancelled);
            other.join().unwrap();
            host.reset().unwrap();
            works_in_every_way(&host);
        });
    }
}

/// Machines lock no memory.
fn no_locked_memory(backend: Backend) {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call reads the limit from a valid pointer.
    done(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &none) });
    works_in_every_way(&started(&machine(), backend));
}

/// A machine needs little private memory; if that exceeds the limit, the machine is refused.
fn little_data(backend: Backend) {
    image();
    let host = started(&machine(), backend);
    for more in [0, 4, 64, 256, 4096] {
        // In a child, since the heap's own growth counts as well, and may fail.
        let child = fork(|| {
            // The heap keeps what is freed, and has it for small blocks, which are no part of what is tested.
            drop(std::hint::black_box(vec![1_u8; 100 << 10]));
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let data = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
            let data: u64 = data.trim().trim_end_matches(" kB").trim().parse().unwrap();
            limit(libc::RLIMIT_DATA, (data + more) << 10);
            match machine().build(backend, Host::default()) {
                Ok(host) => drop(host),
                Err(error) => println!("with {more} KiB more: {error}"),
            }
            unlimited(libc::RLIMIT_DATA);
            super::makes::nothing_left_but_descriptors();
            works_in_every_way(&started(&machine(), backend));
        });
        join(child);
    }
    works_in_every_way(&host);
}

/// The guest's process inherits the limit of its host, and the guest is lost when it is reached.
fn processor_time(backend: Backend) {
    let second = libc::rlimit { rlim_cur: 1, rlim_max: 2 };
    // SAFETY: the call reads the limit from a valid pointer.
    done(unsafe { libc::setrlimit(libc::RLIMIT_CPU, &second) });
    let host = started(&machine(), backend);
    let error = ControlClient::from(host.guest()).spin().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerDied);
    let end = host.guest_exit().unwrap();
    assert!(matches!(&end, GuestExit::Lost(why) if why.contains("signal 9")), "{end}");
    host.reset().unwrap();
    works(&host);
    drop(host);
    nothing_left();
}

/// The time of a virtual machine is this program's. A handled signal for it does not end the guest.
fn processor_time_here(backend: Backend) {
    static HANDLED: AtomicU32 = AtomicU32::new(0);
    extern "C" fn count(_: libc::c_int) {
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
    let handler = count as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler only adds to an atomic number.
    unsafe { libc::signal(libc::SIGXCPU, handler) };
    let host = started(&machine(), backend);
    limit(libc::RLIMIT_CPU, 1);
    let stopper = host.stopper();
    let handled = thread::spawn(move || {
        let patience = Instant::now() + Duration::from_secs(20);
        while HANDLED.load(Ordering::Relaxed) == 0 && Instant::now() < patience {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(20));
        stopper.stop();
        HANDLED.load(Ordering::Relaxed)
    });
    let error = ControlClient::from(host.guest()).spin().unwrap_err();
    assert_eq!((error.kind(), host.guest_exit()), (ErrorKind::Cancelled, Some(GuestExit::Stopped)));
    assert!(handled.join().unwrap() > 0);
    unlimited(libc::RLIMIT_CPU);
    host.reset().unwrap();
    works_in_every_way(&host);
}
