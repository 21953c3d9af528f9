//! Filters of system calls (seccomp(2)) that apply to the program, as under container managers.

use std::mem::offset_of;

use libc::{seccomp_data, sock_filter};
use vmffi::{host::RunOutcome, machine::Backend};

use super::{
    cases::{Case, any, process},
    makes::{done, forked, image, machine, nothing_left, started, works_in_every_way},
};
use sides::host::Host;

pub const CASES: &[Case] = &[
    ("a_filter_like_a_container_manager_s", any, like_docker),
    ("a_filter_with_a_listener", any, listener),
];

pub fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

pub fn load(offset: usize) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset as u32)
}

/// If the loaded word is equal to `k`, returns the answer; else continues.
pub fn answer_if(k: u32, answer: u32) -> [sock_filter; 2] {
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    [instruction(equal, 0, 1, k), self::answer(answer)]
}

pub fn answer(with: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, with)
}

pub fn refuse(error: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | error as u32
}

/// Installs a filter, and returns the result of seccomp(2).
pub fn install(mut filter: Vec<sock_filter>, flags: libc::c_ulong) -> i32 {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: takes integers.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) });
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the filter lives until the call returns, and has this length.
    done(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) } as i32)
}

/// What Docker's default profile denies to a container without capabilities, on recent kernels and in earlier
/// versions.
const DENIED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_sysfs,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_uselib,
    libc::SYS_userfaultfd,
    libc::SYS_ustat,
    libc::SYS_vhangup,
];

/// The profile, as a filter.
fn profile() -> Vec<sock_filter> {
    /// The last system call that the profile knows, `mseal`.
    const LAST: u32 = 462;
    /// `AUDIT_ARCH_X86_64`.
    const X86_64: u32 = 0xc000_003e;
    /// The flags of clone(2) that make namespaces.
    const NAMESPACES: u32 = 0x7e02_0000;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let greater = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
    let any_of = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    let denied = answer(refuse(libc::EPERM));
    let mut filter = vec![
        load(offset_of!(seccomp_data, arch)),
        instruction(equal, 1, 0, X86_64),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(offset_of!(seccomp_data, nr)),
        instruction(greater, 0, 1, LAST),
        answer(refuse(libc::ENOSYS)),
    ];
    // The flags of clone3(2) are in memory, which filters cannot see.
    filter.extend(answer_if(libc::SYS_clone3 as u32, refuse(libc::ENOSYS)));
    filter.extend(DENIED.iter().flat_map(|call| answer_if(*call as u32, refuse(libc::EPERM))));
    filter.extend([
        instruction(equal, 0, 3, libc::SYS_clone as u32),
        load(offset_of!(seccomp_data, args)),
        instruction(any_of, 0, 1, NAMESPACES),
        denied,
        answer(libc::SECCOMP_RET_ALLOW),
    ]);
    filter
}

fn like_docker(backend: Backend) {
    image();
    for vcpus in [1, 3] {
        forked(|| {
            install(profile(), 0);
            // SAFETY: unshare(2) takes an integer, and is denied.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, -1);
            // SAFETY: this system call does not exist.
            assert_eq!(unsafe { libc::syscall(0x4242) }, -1);
            assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS));
            backend.check().unwrap();
            let host = started(&machine().vcpus(vcpus), backend);
            works_in_every_way(&host);
            drop(host);
            nothing_left();
        });
    }
    forked(|| {
        // As a user without privileges, and with two filters.
        super::users::be_nobody();
        if backend.check().is_err() {
            return;
        }
        install(profile(), 0);
        install(profile(), 0);
        works_in_every_way(&started(&machine(), backend));
        nothing_left();
    });
}

/// The kernel permits one listener. The crate's virtual machines need none.
fn listener(backend: Backend) {
    image();
    let mut filter = vec![load(offset_of!(seccomp_data, nr))];
    filter.extend(answer_if(libc::SYS_acct as u32, libc::SECCOMP_RET_USER_NOTIF));
    filter.push(answer(libc::SECCOMP_RET_ALLOW));
    install(filter, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    let (built, checked) = (machine().build(backend, Host::default()), backend.check());
    if process(backend) {
        let [built, checked] = [built.map(drop), checked].map(|done| done.unwrap_err().to_string());
        assert!(built.contains("EBUSY") && built.contains("listener"), "{built}");
        assert_eq!(built, checked);
    } else {
        checked.unwrap();
        assert_eq!(built.unwrap().run(), Ok(RunOutcome::Ready));
    }
    assert_ne!(Backend::best().map(Backend::name), Some("process"));
    nothing_left();
}
