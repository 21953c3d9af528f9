//! What else a process has that a machine depends on, or that a program changes.

use std::{env, ffi::CString, fs, mem, thread, time::Duration};

use vmffi::{
    host::RunOutcome,
    machine::{Backend, MachineBuilder},
};

use super::{
    cases::{Case, any, kvm, process, skip},
    limits::become_nobody,
    makes::{
        descriptors, done, image, is_stopped, machine, meets_a_deadline, nothing_left, spinner,
        started, works, works_in_every_way,
    },
};
use support::{host::Host, shared::control::ControlClient};

pub const CASES: &[Case] = &[
    ("standard_descriptors_are_closed", any, no_standard_descriptors),
    ("the_root_directory_is_changed", any, another_root),
    ("there_is_no_proc", process, no_proc),
    ("there_is_no_device_later", kvm, no_device),
    ("there_is_no_working_directory", any, no_working_directory),
    ("no_access_by_the_mask_of_files", any, no_access),
    ("no_new_privileges", any, no_new_privileges),
    ("no_capabilities", any, no_capabilities),
    ("another_user_makes_machines", any, another_user),
    ("a_personality", any, personality),
    ("another_processor", any, another_processor),
    ("a_processor_for_the_guest_too", process, pinned),
    ("a_thread_that_ends", kvm, threads_that_end),
    ("a_thread_that_made_a_builder_ends", any, builder_of_a_thread),
    ("no_environment", any, no_environment),
    ("a_program_that_is_not_dumpable", any, not_dumpable),
];

fn path(path: &str) -> CString {
    CString::new(path).unwrap()
}

/// Whatever gets their numbers.
fn no_standard_descriptors(backend: Backend) {
    image();
    for last in 0..=2 {
        // Those of this process; what a case prints is lost with them, but for how it ends.
        let kept: Vec<i32> = (0..=last)
            .map(|number| {
                // SAFETY: takes integers.
                done(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 10) })
            })
            .collect();
        // SAFETY: nobody here uses them meanwhile.
        (0..=last).for_each(|number| {
            done(unsafe { libc::close(number) });
        });
        let host = machine().build(backend, Host::default());
        let ran = host.as_ref().map(|host| host.run()).map_err(ToString::to_string);
        let checked = backend.check().map_err(|error| error.to_string());
        drop(host);
        for (number, kept) in (0..).zip(kept) {
            // SAFETY: takes integers.
            done(unsafe { libc::dup2(kept, number) });
            // SAFETY: it is this case's own.
            done(unsafe { libc::close(kept) });
        }
        assert_eq!((ran, checked), (Ok(Ok(RunOutcome::Ready)), Ok(())), "0 to {last} were closed");
        nothing_left();
    }
}

fn empty_root() {
    // SAFETY: takes no argument.
    if unsafe { libc::geteuid() } != 0 {
        skip("only root can change the root directory");
    }
    let empty = env::temp_dir().join(format!("vmffi-root-{}", std::process::id()));
    fs::create_dir(&empty).unwrap();
    let root = path(empty.to_str().unwrap());
    // SAFETY: takes a path.
    done(unsafe { libc::chroot(root.as_ptr()) });
    // SAFETY: takes a path.
    done(unsafe { libc::chdir(c"/".as_ptr()) });
    // It is gone when nobody is in it any more.
    let _ = fs::remove_dir("/");
}

/// A machine that was made before goes on; another one cannot be made, and the error says what is not there.
fn another_root(backend: Backend) {
    let host = started(&machine(), backend);
    empty_root();
    works_in_every_way(&host);
    let missing = if kvm(backend) { "/dev/kvm" } else { "/proc" };
    for error in [machine().build(backend, Host::default()).err(), backend.check().err()] {
        let error = error.unwrap().to_string();
        assert!(error.contains(missing), "{error}");
    }
    works_in_every_way(&host);
    drop(host);
}

fn no_proc(backend: Backend) {
    image();
    empty_root();
    let error = machine().build(backend, Host::default()).err().unwrap().to_string();
    assert!(error.contains("/proc"), "{error}");
    assert_eq!(Backend::best(), None);
}

/// Nor is the device needed by a machine that is there.
fn no_device(backend: Backend) {
    let host = started(&machine(), backend);
    for descriptor in descriptors() {
        assert_ne!(descriptor, "/dev/kvm", "the device is closed again");
    }
    become_nobody();
    works_in_every_way(&host);
    let error = backend.check().err().unwrap().to_string();
    assert!(error.contains("/dev/kvm"), "{error}");
}

fn no_working_directory(backend: Backend) {
    image();
    let gone = env::temp_dir().join(format!("vmffi-cwd-{}", std::process::id()));
    fs::create_dir(&gone).unwrap();
    env::set_current_dir(&gone).unwrap();
    fs::remove_dir(&gone).unwrap();
    assert!(env::current_dir().is_err());
    works_in_every_way(&started(&machine(), backend));
    nothing_left();
}

fn no_access(backend: Backend) {
    // SAFETY: takes an integer.
    unsafe { libc::umask(0o777) };
    works_in_every_way(&started(&machine(), backend));
    nothing_left();
}

fn no_new_privileges(backend: Backend) {
    // SAFETY: takes integers.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) });
    works_in_every_way(&started(&machine(), backend));
    nothing_left();
}

/// Root without what makes it more than a user. A program that root executes has all of it again, and then only its like
/// may trace it; unless the program has said that what it executes is to gain nothing.
fn no_capabilities(backend: Backend) {
    image();
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let none = [0_u32; 6];
    // SAFETY: the kernel reads a header and two times three words.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) } as i32);
    if process(backend) {
        let (built, checked) = (machine().build(backend, Host::default()), backend.check());
        assert_eq!(built.as_ref().is_ok(), checked.is_ok(), "{checked:?}");
        if let Some(error) = built.err() {
            assert!(error.to_string().contains("tracing"), "{error}");
            nothing_left();
        }
        // SAFETY: takes integers.
        done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) });
    }
    works_in_every_way(&started(&machine(), backend));
    nothing_left();
}

/// As one who was root when it started.
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

fn personality(backend: Backend) {
    image();
    const READ_IMPLIES_EXEC: libc::c_ulong = 0x040_0000;
    const ADDR_NO_RANDOMIZE: libc::c_ulong = 0x004_0000;
    const ADDR_COMPAT_LAYOUT: libc::c_ulong = 0x020_0000;
    for flags in [ADDR_NO_RANDOMIZE, ADDR_COMPAT_LAYOUT, READ_IMPLIES_EXEC] {
        // SAFETY: takes an integer.
        done(unsafe { libc::personality(flags) });
        let host = started(&machine(), backend);
        works_in_every_way(&host);
        if process(backend) {
            let [pid] = super::makes::children()[..] else { panic!("one child") };
            // Root may look.
            if let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) {
                let both = |line: &&str| line.contains("wx");
                assert_eq!(maps.lines().find(both), None, "{maps}");
            }
        }
    }
}

fn run_on(processor: usize) -> bool {
    // SAFETY: integers, for which zeros are values.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the number is in the set's range.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: it reads a set of that size.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) == 0 }
}

fn processors() -> usize {
    // SAFETY: integers, for which zeros are values.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: it writes a set of that size.
    done(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) });
    // SAFETY: it is a set.
    unsafe { libc::CPU_COUNT(&set) as usize }
}

/// The program moves to another processor, between calls and before them.
fn another_processor(backend: Backend) {
    let host = started(&machine(), backend);
    for processor in [0, 1, 0] {
        if run_on(processor) {
            works_in_every_way(&host);
            works_in_every_way(&started(&machine(), backend));
        }
    }
}

/// Asked for, the guest runs where its host does; else neither is moved.
fn pinned(backend: Backend) {
    let all = processors();
    works_in_every_way(&started(&machine(), backend));
    assert_eq!(processors(), all);
    let host = started(&machine().pin(true), backend);
    assert_eq!(processors(), 1);
    works_in_every_way(&host);
}

/// Of many threads that run a guest, each ends before the next begins.
fn threads_that_end(backend: Backend) {
    let (host, begins) = thread::spawn(move || spinner(&machine(), backend)).join().unwrap();
    for _ in 0..20 {
        thread::scope(|scope| {
            scope.spawn(|| works(&host)).join().unwrap();
            scope.spawn(|| meets_a_deadline(&host)).join().unwrap();
            scope.spawn(|| is_stopped(&host, &begins)).join().unwrap();
        });
        host.reset().unwrap();
    }
    works_in_every_way(&host);
}

/// The thread that watches deadlines is no child of the one that needed it first.
fn builder_of_a_thread(backend: Backend) {
    let machine: MachineBuilder = thread::spawn(move || {
        let machine = machine();
        meets_a_deadline(&started(&machine, backend));
        machine
    })
    .join()
    .unwrap();
    works_in_every_way(&started(&machine, backend));
}

fn no_environment(backend: Backend) {
    image();
    // SAFETY: there is no other thread.
    unsafe { libc::clearenv() };
    works_in_every_way(&started(&machine(), backend));
    let host = started(&machine(), backend);
    let within = host.with_deadline(Duration::from_secs(5));
    let within = within.guest();
    assert_eq!(ControlClient::from(within).sum(4), Ok(10));
}

fn not_dumpable(backend: Backend) {
    image();
    // SAFETY: takes integers.
    done(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) });
    works_in_every_way(&started(&machine(), backend));
}
