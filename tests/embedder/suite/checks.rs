//! `Backend::check` predicts the result of `MachineBuilder::build`, whatever is denied to the program.

use std::{io::Error, mem::offset_of};

use libc::seccomp_data;
use vmffi::{host::RunOutcome, machine::Backend};

use super::{
    cases::{Case, any, kvm, process},
    filters::{answer, answer_if, install, instruction, load, refuse},
    makes::{forked, image, machine, nothing_left, started, works_in_every_way},
};
use sides::host::Host;

pub const CASES: &[Case] = &[
    ("a_check_predicts_the_build", any, checks),
    ("each_system_call_is_denied", any, denied_calls),
    ("each_request_to_kvm_is_denied", kvm, denied_requests),
];

/// Makes the kernel refuse a system call of this thread, or one with this second argument, with EPERM.
pub fn deny(call: libc::c_long, request: Option<u32>) {
    let mut filter = vec![load(offset_of!(seccomp_data, nr))];
    match request {
        Some(request) => {
            let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
            filter.extend([
                instruction(equal, 0, 3, call as u32),
                load(offset_of!(seccomp_data, args) + 8),
            ]);
            filter.extend(answer_if(request, refuse(libc::EPERM)));
        }
        None => filter.extend(answer_if(call as u32, refuse(libc::EPERM))),
    }
    filter.push(answer(libc::SECCOMP_RET_ALLOW));
    install(filter, 0);
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

/// In a child, which has its own filter: reports whether a machine can be made with a backend, and its guest be started.
fn agree(backend: Backend, what: &str, call: libc::c_long, request: Option<u32>) {
    forked(|| {
        deny(call, request);
        let checked = backend.check();
        let ran = machine().build(backend, Host::default()).map_err(|error| error.to_string());
        let built = ran.as_ref().err().cloned();
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
        if let Some(built) = built {
            // The check fails for the reason for which the build fails, with the same text. A check installs no signal
            // handler.
            let why = |error: &str| match process(backend) {
                true => error.to_owned(),
                false => error.rsplit(": ").next().unwrap().to_owned(),
            };
            let checked = checked.as_ref().map_err(|error| why(&error.to_string()));
            assert_eq!(checked, Err(why(&built)), "{what}");
        }
        let best = Backend::best();
        assert_eq!(best == Some(backend), checked.is_ok() && backend == best.unwrap_or(backend));
        let left = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(call == libc::SYS_munmap || !left.contains("memfd:vmffi"), "{what}: {left}");
    });
}

fn denied_calls(backend: Backend) {
    image();
    for (what, call) in [
        ("memfd_create", libc::SYS_memfd_create),
        ("ftruncate", libc::SYS_ftruncate),
        ("ptrace", libc::SYS_ptrace),
        ("clone", libc::SYS_clone),
        ("execve", libc::SYS_execve),
        ("execveat", libc::SYS_execveat),
        ("dup2", libc::SYS_dup2),
        ("socketpair", libc::SYS_socketpair),
        ("sendmsg", libc::SYS_sendmsg),
        ("recvmsg", libc::SYS_recvmsg),
        ("pidfd_open", libc::SYS_pidfd_open),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("seccomp", libc::SYS_seccomp),
        ("close_range", libc::SYS_close_range),
        ("madvise", libc::SYS_madvise),
        ("ioctl", libc::SYS_ioctl),
        ("poll", libc::SYS_poll),
        ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
        ("rt_sigaction", libc::SYS_rt_sigaction),
        ("rt_sigreturn", libc::SYS_rt_sigreturn),
        ("sigaltstack", libc::SYS_sigaltstack),
        ("sched_yield", libc::SYS_sched_yield),
        ("getrandom", libc::SYS_getrandom),
        ("tgkill", libc::SYS_tgkill),
        ("gettid", libc::SYS_gettid),
        ("getpid", libc::SYS_getpid),
        ("mmap", libc::SYS_mmap),
        ("munmap", libc::SYS_munmap),
        ("mprotect", libc::SYS_mprotect),
        ("wait4", libc::SYS_wait4),
        ("waitid", libc::SYS_waitid),
        ("fcntl", libc::SYS_fcntl),
        ("lseek", libc::SYS_lseek),
        ("pwrite64", libc::SYS_pwrite64),
        ("setpgid", libc::SYS_setpgid),
        ("chdir", libc::SYS_chdir),
        ("prctl", libc::SYS_prctl),
        ("prlimit64", libc::SYS_prlimit64),
        ("shutdown", libc::SYS_shutdown),
        ("uname", libc::SYS_uname),
    ] {
        agree(backend, what, call, None);
    }
    // A child's filter is not its parent's.
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
