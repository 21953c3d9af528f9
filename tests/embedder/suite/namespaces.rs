//! Namespaces, and a missing file system: the environment of a program, or one that it enters before it makes machines.

use std::{env, ffi::CString, fs, os::fd::AsRawFd, time::Duration};

use vmffi::{
    host::Limits,
    machine::{Backend, MachineBuilder},
};

use super::{
    cases::{Case, any, kvm, process, skip},
    makes::{
        done, forked, image, machine, nothing_left, spinner, started, works, works_in_every_way,
    },
};
use sides::host::Host;

pub const CASES: &[Case] = &[
    ("the_root_directory_is_changed", any, another_root),
    ("there_is_no_proc", process, no_proc),
    ("namespaces_of_a_program", any, namespaces),
    ("a_pid_namespace_for_children", any, pid_namespace),
    ("the_first_process_of_a_pid_namespace", any, first_process),
    ("programs_in_memory_are_restricted", process, no_exec),
];

/// Moves this process into a new namespace, or skips the case.
fn unshare(what: libc::c_int) {
    // SAFETY: takes an integer.
    if unsafe { libc::unshare(what) } != 0 {
        let error = std::io::Error::last_os_error();
        skip(&format!("the namespaces {what:#x} cannot be made here: {error}"));
    }
}

fn empty_root() {
    // SAFETY: takes no argument.
    if unsafe { libc::geteuid() } != 0 {
        skip("only root can change the root directory");
    }
    let name = format!("vmffi-root-{}", std::process::id());
    let above = fs::File::open(env::temp_dir()).unwrap();
    let empty = env::temp_dir().join(&name);
    fs::create_dir_all(&empty).unwrap();
    let (root, name) =
        (CString::new(empty.to_str().unwrap()).unwrap(), CString::new(name).unwrap());
    // SAFETY: takes a path.
    done(unsafe { libc::chroot(root.as_ptr()) });
    // SAFETY: takes a path.
    done(unsafe { libc::chdir(c"/".as_ptr()) });
    // The mount ends when no process uses it.
    // SAFETY: takes a descriptor, a path and an integer.
    done(unsafe { libc::unlinkat(above.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) });
}

/// A machine that was made before continues to work, and another one can be made if it needs no file.
fn another_root(backend: Backend) {
    let host = started(&machine(), backend);
    empty_root();
    works_in_every_way(&host);
    if kvm(backend) {
        for error in [machine().build(backend, Host::default()).err(), backend.check().err()] {
            let error = error.unwrap().to_string();
            assert!(error.contains("/dev/kvm"), "{error}");
        }
    } else {
        backend.check().unwrap();
        works_in_every_way(&started(&machine(), backend));
        assert_eq!(Backend::best(), Some(backend));
    }
    works_in_every_way(&host);
    drop(host);
}

/// A root file system without /proc.
fn no_proc(backend: Backend) {
    image();
    unshare(libc::CLONE_NEWNS);
    let (none, root) = (c"none".as_ptr(), c"/".as_ptr());
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: takes strings and an integer; null arguments are ignored.
    done(unsafe { libc::mount(none, root, std::ptr::null(), flags, std::ptr::null()) });
    // SAFETY: takes a string and an integer.
    while unsafe { libc::umount2(c"/proc".as_ptr(), libc::MNT_DETACH) } == 0 {}
    assert!(fs::metadata("/proc/self").is_err(), "/proc still exists");
    backend.check().unwrap();
    for vcpus in [1, 3] {
        works_in_every_way(&started(&machine().vcpus(vcpus), backend));
    }
    // The processor time of several threads is read in /proc.
    works_in_every_way(&started(&limited(1), backend));
    not_measured(3, backend);
}

/// A machine with a limit of processor time that is never reached.
fn limited(vcpus: u32) -> MachineBuilder {
    machine().vcpus(vcpus).limits(Limits::new().cpu_time(Duration::from_secs(100)))
}

#[track_caller]
fn not_measured(vcpus: u32, backend: Backend) {
    let error = limited(vcpus).build(backend, Host::default()).err().unwrap().to_string();
    assert!(error.contains("Limits::cpu_time") && error.contains("/proc"), "{error}");
}

/// Each namespace alone, and all at once, when the program makes machines.
fn namespaces(backend: Backend) {
    image();
    let each = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWCGROUP,
    ];
    let all = each.iter().fold(0, |all, one| all | one);
    for what in each.into_iter().chain([all]) {
        let host = started(&machine(), backend);
        forked(|| {
            drop(started(&machine(), backend));
            unshare(what);
            let checked = backend.check();
            if kvm(backend) && checked.is_err() {
                // The device belongs to another user.
                return;
            }
            checked.unwrap_or_else(|error| panic!("{what:#x}: {error}"));
            works_in_every_way(&started(&machine(), backend));
            super::makes::nothing_left_but_descriptors();
        });
        works_in_every_way(&host);
        // The same for a program that has a machine already.
        forked(|| {
            let host = started(&machine(), backend);
            unshare(what);
            works_in_every_way(&host);
        });
    }
    nothing_left();
}

/// The next child would be the first process of the namespace. A guest's process must not be that, since the kernel protects
/// it from signals, also from the one that ends a guest with its host.
fn pid_namespace(backend: Backend) {
    image();
    let before = started(&machine(), backend);
    for checks in [false, true] {
        forked(|| {
            unshare(libc::CLONE_NEWPID);
            let error = if checks {
                backend.check().err()
            } else {
                machine().build(backend, Host::default()).err()
            };
            match error {
                None => assert!(kvm(backend)),
                Some(error) => {
                    let why = if kvm(backend) { "KVM_RUN" } else { "PID namespace" };
                    assert!(error.to_string().contains(why), "{error}");
                }
            }
        });
    }
    // An existing machine stays until it needs another process. The program cannot start threads any more, either.
    forked(|| {
        let host = started(&machine(), backend);
        works_in_every_way(&host);
        unshare(libc::CLONE_NEWPID);
        works_in_every_way(&host);
        if process(backend) {
            super::makes::children().into_iter().for_each(|pid| {
                // SAFETY: kill(2) takes two integers.
                done(unsafe { libc::kill(pid, libc::SIGKILL) });
                super::drops::ends(pid);
            });
            let error = host.reset().unwrap_err().to_string();
            assert!(error.contains("PID namespace"), "{error}");
        }
    });
    works(&before);
}

/// A program that is the first process of a container.
fn first_process(backend: Backend) {
    image();
    unshare(libc::CLONE_NEWPID);
    forked(|| {
        assert_eq!(std::process::id(), 1);
        let (host, begins) = spinner(&machine().vcpus(3), backend);
        super::makes::is_stopped(&host, &begins);
        host.reset().unwrap();
        works_in_every_way(&host);
        backend.check().unwrap();
        works_in_every_way(&started(&limited(1), backend));
        if process(backend) {
            // Process IDs in `/proc` are those of another namespace.
            not_measured(3, backend);
        }
        // The child ends together with its machine.
        std::mem::forget(host);
    });
    nothing_left();
}

/// The sysctl vm.memfd_noexec, which belongs to a PID namespace.
fn no_exec(backend: Backend) {
    const SYSCTL: &str = "/proc/sys/vm/memfd_noexec";
    image();
    if !fs::exists(SYSCTL).unwrap_or(false) {
        skip("this kernel has no vm.memfd_noexec");
    }
    unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS);
    forked(|| {
        for level in ["0", "1"] {
            if let Err(error) = fs::write(SYSCTL, level) {
                skip(&format!("{SYSCTL} cannot be written: {error}"));
            }
            assert_eq!(fs::read_to_string(SYSCTL).unwrap().trim(), level);
            backend.check().unwrap();
            works_in_every_way(&started(&machine(), backend));
        }
        let host = started(&machine(), backend);
        fs::write(SYSCTL, "2").unwrap();
        let built = machine().build(backend, Host::default()).err().unwrap().to_string();
        let checked = backend.check().unwrap_err().to_string();
        assert!(built.contains("vm.memfd_noexec is 2"), "{built}");
        assert_eq!(built, checked);
        works_in_every_way(&host);
    });
    nothing_left();
}
