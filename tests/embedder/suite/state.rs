//! Other state of a process that a machine depends on, or that a program changes.

use std::{env, fs, mem, thread, time::Duration};

use vmffi::machine::{Backend, MachineBuilder};

use super::{
    cases::{Case, any, kvm, process},
    makes::{
        descriptors, done, image, is_stopped, machine, meets_a_deadline, nothing_left, spinner,
        started, works, works_in_every_way,
    },
    users::become_nobody,
};
use sides::shared::control::ControlClient;

pub const CASES: &[Case] = &[
    ("there_is_no_device_later", kvm, no_device),
    ("there_is_no_working_directory", any, no_working_directory),
    ("no_access_by_the_mask_of_files", any, no_access),
    ("a_personality", any, personality),
    ("another_processor", any, another_processor),
    ("a_thread_that_ends", any, threads_that_end),
    ("a_thread_that_made_a_builder_ends", any, builder_of_a_thread),
    ("no_environment", any, no_environment),
];

/// An existing machine does not need the device.
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
            // Root may read it.
            if let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) {
                let both = |line: &&str| line.contains("wx");
                assert_eq!(maps.lines().find(both), None, "{maps}");
            }
        }
    }
}

fn run_on(processor: usize) -> bool {
    // SAFETY: the struct has integers only, for which zeros are values.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the number is within the set's range.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the call reads a set of that size.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) == 0 }
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

/// Many threads run a guest, and each ends before the next begins.
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

/// The thread that watches deadlines is not ended with the thread that needed it first.
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
