//! What `Backend::check` says, `MachineBuilder::build` does, whatever the program may not do.

use std::io::Error;

use vmffi::{host::RunOutcome, machine::Backend};

use super::{
    cases::{Case, any, kvm},
    makes::{done, forked, image, machine, nothing_left, started, works_in_every_way},
};
use support::host::Host;

pub const CASES: &[Case] = &[
    ("a_check_makes_what_is_made", any, checks),
    ("each_system_call_is_denied", any, denied_calls),
    ("each_request_to_kvm_is_denied", kvm, denied_requests),
];

/// Has the kernel refuse a system call of this thread's, or one with this second argument, with EPERM.
fn deny(call: libc::c_long, request: Option<u32>) {
    let code = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut filter = vec![code(load, 0, 0, 0)];
    match request {
        // The number is the description's first word, the low half of the second argument its word 24.
        Some(request) => filter.extend([
            code(equal, 0, 3, call as u32),
            code(load, 0, 0, 24),
            code(equal, 0, 1, request),
        ]),
        None => filter.push(code(equal, 0, 1, call as u32)),
    }
    filter.extend([code(answer, 0, 0, refuse), code(answer, 0, 0, libc::SECCOMP_RET_ALLOW)]);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: takes integers.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) });
    // SAFETY: the filter is there, of the length that is said.
    done(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    });
}

fn checks(backend: Backend) {
    backend.check().unwrap();
    nothing_left();
    let host = started(&machine(), backend);
    backend.check().unwrap();
    works_in_every_way(&host);
    drop(host);
    nothing_left();
}

/// In a child, whose filter is its own: it says of a backend what comes of making a machine and starting the guest.
fn agree(backend: Backend, what: &str, call: libc::c_long, request: Option<u32>) {
    forked(|| {
        deny(call, request);
        let checked = backend.check();
        let ran = machine().build(backend, Host::default()).map_err(|error| error.to_string());
        let ran = ran.and_then(|host| match host.run() {
            Ok(RunOutcome::Ready) => Ok(()),
            other => Err(format!("{other:?} {:?}", host.guest_exit())),
        });
        println!(
            "{backend} without {what}: {}",
            match &checked {
                Ok(()) => "works".into(),
                Err(error) => error.to_string(),
            }
        );
        assert_eq!(checked.is_ok(), ran.is_ok(), "{what}: {checked:?}, {ran:?}");
        assert_eq!(
            Backend::best() == Some(backend),
            checked.is_ok() && backend == Backend::best().unwrap_or(backend)
        );
        let left = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!left.contains("memfd:vmffi"), "{what}: {left}");
    });
}

fn denied_calls(backend: Backend) {
    image();
    for (what, call) in [
        ("memfd_create", libc::SYS_memfd_create),
        ("ftruncate", libc::SYS_ftruncate),
        ("ptrace", libc::SYS_ptrace),
        ("pidfd_open", libc::SYS_pidfd_open),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
        ("seccomp", libc::SYS_seccomp),
        ("close_range", libc::SYS_close_range),
        ("execve", libc::SYS_execve),
        ("madvise", libc::SYS_madvise),
        ("ioctl", libc::SYS_ioctl),
        ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
        ("rt_sigaction", libc::SYS_rt_sigaction),
        ("tgkill", libc::SYS_tgkill),
        ("gettid", libc::SYS_gettid),
        ("mmap", libc::SYS_mmap),
        ("wait4", libc::SYS_wait4),
        ("fcntl", libc::SYS_fcntl),
        ("lseek", libc::SYS_lseek),
    ] {
        agree(backend, what, call, None);
    }
    // A filter of a child's is not the parent's.
    backend.check().map_err(|error| Error::other(error.to_string())).unwrap();
}

/// Requests of `linux/kvm.h`, by their numbers.
fn denied_requests(backend: Backend) {
    image();
    for (what, request) in [
        ("KVM_CHECK_EXTENSION", 0xae03),
        ("KVM_CREATE_VM", 0xae01),
        ("KVM_GET_VCPU_MMAP_SIZE", 0xae04),
        ("KVM_GET_SUPPORTED_CPUID", 0xc008_ae05),
        ("KVM_SET_USER_MEMORY_REGION", 0x4020_ae46),
        ("KVM_CREATE_VCPU", 0xae41),
        ("KVM_SET_CPUID2", 0x4008_ae90),
        ("KVM_GET_SREGS", 0x8138_ae83),
        ("KVM_SET_SREGS", 0x4138_ae84),
        ("KVM_SET_REGS", 0x4090_ae82),
        ("KVM_SET_XCRS", 0x4188_aea7),
        ("KVM_SET_SIGNAL_MASK", 0x4004_ae8b),
        ("KVM_RUN", 0xae80),
    ] {
        agree(backend, what, libc::SYS_ioctl, Some(request));
    }
}
