//! Bare round trips of a process: by a notification of seccomp(2), received and answered; and, for comparison, by ptrace(2):
//! resumed, waited for, the signal's cause, registers read and written.

use std::{
    fs::File,
    io::{Read, Write},
    mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    libc,
    sched::{CloneFlags, clone},
    sys::{
        prctl, ptrace,
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, pipe},
};

use super::native;

struct Child(Pid);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// Makes a filter whose listener gets each sched_yield(2) of this thread.
fn listen() -> nix::Result<RawFd> {
    let step = |code: u32, jt, k| libc::sock_filter { code: code as u16, jt: 0, jf: jt, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, libc::SYS_sched_yield as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_USER_NOTIF),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    prctl::set_no_new_privs()?;
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
        | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the kernel reads the program and its filter, which outlive the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    Errno::result(fd).map(|fd| fd as RawFd)
}

pub fn notification() -> impl FnMut(u64) {
    let (there, here) = pipe().expect("a pipe");
    let (mut there, mut here) = (File::from(there), File::from(here));
    let mut stack = vec![0; 64 << 10];
    let run = || {
        let listener = listen().expect("a listener");
        here.write_all(&listener.to_le_bytes()).expect("a pipe");
        loop {
            // SAFETY: it takes no arguments.
            unsafe { libc::syscall(libc::SYS_sched_yield) };
        }
    };
    // SAFETY: the child has memory of its own, and this program has one thread. It shares descriptors, so that the listener
    // is there.
    let child =
        unsafe { clone(Box::new(run), &mut stack, CloneFlags::CLONE_FILES, Some(libc::SIGCHLD)) };
    let child = Child(child.expect("a process"));
    let mut listener = [0; 4];
    there.read_exact(&mut listener).expect("a listener");
    // SAFETY: the child has made this descriptor, and does not close it.
    let listener = unsafe { OwnedFd::from_raw_fd(RawFd::from_le_bytes(listener)) };
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: it takes its flags by value.
    unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP);
    }
    move |round_trips| {
        let _ = &child;
        for nr in 0..round_trips {
            // SAFETY: zeros are a `seccomp_notif`, and the kernel writes one; then it reads an answer.
            unsafe {
                let mut trap: libc::seccomp_notif = mem::zeroed();
                let received = libc::ioctl(
                    listener.as_raw_fd(),
                    libc::SECCOMP_IOCTL_NOTIF_RECV,
                    &raw mut trap,
                );
                Errno::result(received).expect("a trap");
                let mut answer =
                    libc::seccomp_notif_resp { id: trap.id, val: nr as i64, error: 0, flags: 0 };
                let sent = libc::ioctl(
                    listener.as_raw_fd(),
                    libc::SECCOMP_IOCTL_NOTIF_SEND,
                    &raw mut answer,
                );
                Errno::result(sent).expect("an answer");
            }
        }
    }
}

pub fn tracing() -> impl FnMut(u64) {
    // SAFETY: the child calls nothing that another thread may have locked.
    let child = match unsafe { fork() }.expect("a process") {
        ForkResult::Child => {
            let _ = ptrace::traceme();
            loop {
                native::store_to_null();
            }
        }
        ForkResult::Parent { child } => Child(child),
    };
    let stop = |child: &Child| match waitpid(child.0, None) {
        Ok(WaitStatus::Stopped(_, Signal::SIGSEGV)) => {}
        other => panic!("{other:?}"),
    };
    stop(&child);
    move |round_trips| {
        for _ in 0..round_trips {
            let info = ptrace::getsiginfo(child.0).expect("a signal");
            assert_eq!(info.si_signo, Signal::SIGSEGV as i32);
            let mut registers = ptrace::getregs(child.0).expect("registers");
            native::step_over(&mut registers);
            ptrace::setregs(child.0, registers).expect("registers");
            ptrace::cont(child.0, None).expect("a child");
            stop(&child);
        }
    }
}
