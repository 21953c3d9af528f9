//! Stops a vCPU that another thread runs: by `immediate_exit` before `KVM_RUN`, by a signal during it (the kernel's
//! `Documentation/virt/kvm/api.rst`).
//!
//! A stop must not depend on what the program does about that signal. While a thread is in `KVM_RUN`, KVM has it block
//! what the thread blocks, but for this signal (`KVM_SET_SIGNAL_MASK`). A signal that the thread blocks otherwise is
//! pending when `KVM_RUN` comes back, and is taken there. One that it does not block is handled, by a handler that is
//! installed where there is none, when the machine is made and again when a stop finds none.

use std::{
    cell::Cell,
    io,
    os::fd::AsRawFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use kvm_ioctls::VcpuFd;
use nix::libc;

use super::super::{MachineError, signals};
use crate::host::fork::ProcessId;

/// `KVM_SET_SIGNAL_MASK`, as `linux/kvm.h` defines it: `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`.
const SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;

/// `struct kvm_signal_mask`, with the kernel's set of 64 signals behind it, which is not aligned.
#[repr(C, packed)]
struct SignalMask {
    len: u32,
    set: u64,
}

/// A signal that can interrupt `KVM_RUN`, and does nothing else.
#[derive(Clone, Copy)]
pub(in super::super) struct StopSignal(libc::c_int);

impl StopSignal {
    pub(in super::super) const DEFAULT: Self = Self(libc::SIGUSR2);

    pub(in super::super) fn new(number: i32) -> Result<Self, MachineError> {
        Err(MachineError::Config(match number {
            libc::SIGKILL | libc::SIGSTOP => {
                "SIGKILL and SIGSTOP cannot be handled, so they stop no vCPU: use another signal"
            }
            libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGILL
            | libc::SIGFPE
            | libc::SIGTRAP
            | libc::SIGSYS => {
                "a signal that reports a fault of the program cannot stop a vCPU: use another signal"
            }
            1..=31 => return Ok(Self(number)),
            _ if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) => {
                return Ok(Self(number));
            }
            _ => "no such signal is for programs: use 1 to 31, or SIGRTMIN to SIGRTMAX",
        }))
    }

    /// What the program does about it.
    fn disposition(self) -> io::Result<libc::sigaction> {
        // SAFETY: integers and pointers, for which zeros are values.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        // SAFETY: it writes what there is, and changes nothing.
        let asked = unsafe { libc::sigaction(self.0, core::ptr::null(), &mut action) };
        if asked == 0 { Ok(action) } else { Err(io::Error::last_os_error()) }
    }

    /// Whether it can be sent and handled here, as far as that can be said without doing it.
    pub(in super::super) fn check(self) -> io::Result<()> {
        self.disposition()?;
        Self(0).send(this_thread())
    }

    /// Installs a handler that does nothing, where the program has none. One of the program's own interrupts a vCPU
    /// as well. Says whether it has installed one.
    pub(in super::super) fn handle(self) -> io::Result<bool> {
        extern "C" fn nothing(_: libc::c_int) {}
        let mut action = self.disposition()?;
        if !matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
            return Ok(false);
        }
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        // It restarts what it interrupts elsewhere, and takes no room on a stack that is small.
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        // SAFETY: the handler does nothing, at any time.
        let installed = unsafe { libc::sigaction(self.0, &action, core::ptr::null_mut()) };
        if installed == 0 { Ok(true) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends it to a thread of this process.
    fn send(self, thread: libc::pid_t) -> io::Result<()> {
        // SAFETY: takes no argument.
        let process = unsafe { libc::getpid() };
        // SAFETY: takes three integers.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, self.0) };
        if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// This thread's number, as the kernel gives it.
fn this_thread() -> libc::pid_t {
    // A child's thread is another one than its parent's that has forked it.
    std::thread_local!(static KNOWN: Cell<Option<(ProcessId, libc::pid_t)>> = const { Cell::new(None) });
    let process = ProcessId::current();
    match KNOWN.get() {
        Some((of, thread)) if of == process => thread,
        _ => {
            // SAFETY: takes no argument.
            let thread = unsafe { libc::gettid() };
            KNOWN.set(Some((process, thread)));
            thread
        }
    }
}

/// Where a vCPU runs, and whether it shall.
pub(super) struct Kick {
    running: Mutex<Running>,
    signal: StopSignal,
    /// Who has made the vCPU, and alone runs it.
    process: ProcessId,
}

struct Running {
    /// The thread that is about to run it or does, and where it is told to come back.
    thread: Option<(libc::pid_t, *mut u8)>,
    stopped: bool,
}

// SAFETY: the pointer leads to a page that is there while `thread` is set, and is used under the lock.
unsafe impl Send for Running {}

impl Kick {
    pub(super) fn new(signal: StopSignal) -> Self {
        let running = Mutex::new(Running { thread: None, stopped: false });
        Self { running, signal, process: ProcessId::current() }
    }

    /// Whether this process has made the vCPU. A child has inherited it: what it shares with its parent, it must leave
    /// alone, and locks that another thread had stay locked.
    pub(super) fn is_ours(&self) -> bool {
        self.process == ProcessId::current()
    }

    fn state(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This thread is about to run the vCPU, which `back` tells to come back. Says no when it shall not.
    pub(super) fn begin(&self, back: *mut u8) -> bool {
        let mut state = self.state();
        if !state.stopped {
            state.thread = Some((this_thread(), back));
        }
        !state.stopped
    }

    /// The vCPU has come back: from here on nobody is kicked. Says whether it was stopped.
    pub(super) fn end(&self, come_back: impl FnOnce()) -> bool {
        let mut state = self.state();
        state.thread = None;
        // A stop that comes too late for this run is found by the next one.
        come_back();
        state.stopped
    }

    /// The vCPU may run again.
    pub(super) fn reset(&self) {
        self.state().stopped = false;
    }

    pub(super) fn stop(self: &Arc<Self>) {
        if !self.is_ours() {
            return;
        }
        let mut state = self.state();
        state.stopped = true;
        let Some((thread, back)) = state.thread else { return };
        // SAFETY: the page is there while `thread` is set.
        unsafe { back.write_volatile(1) };
        // It was handled when the machine was made. Where the program has taken the handler away since, the signal would
        // be ignored, or be the program's end; where it does so just now, it is sent again.
        let _ = self.signal.handle();
        let sent = self.signal.send(thread);
        if let (Ok(()), Ok(true)) = (&sent, self.signal.handle()) {
            let _ = self.signal.send(thread);
        }
        drop(state);
        if sent.is_err() {
            self.stop_later();
        }
    }

    /// A real-time signal is refused while no more can be queued for this user (RLIMIT_SIGPENDING). It is sent when there
    /// is room, unless the vCPU comes back before.
    #[cold]
    fn stop_later(self: &Arc<Self>) {
        let kick = self.clone();
        let wanted = move || {
            let state = kick.state();
            state.stopped
                && state.thread.is_some_and(|(thread, _)| kick.signal.send(thread).is_err())
        };
        let thread = thread::Builder::new().name("vmffi stop".into());
        // Where there is no room for a thread either, the vCPU stops at its next exit.
        let _ = thread.spawn(move || {
            while wanted() {
                thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

/// What KVM was told to have a vCPU's thread block during `KVM_RUN`.
pub(super) struct Mask {
    signal: StopSignal,
    /// The thread that it was told for, and what that blocks itself.
    known: Option<(libc::pid_t, u64)>,
    /// The thread may block other signals than when it was told.
    old: bool,
}

impl Mask {
    pub(super) fn new(signal: StopSignal) -> Self {
        Self { signal, known: None, old: true }
    }

    /// The program has run since, outside of handlers: it is looked at again before the next run.
    pub(super) fn expire(&mut self) {
        self.old = true;
    }

    /// Has KVM use what this thread blocks, without the stop's signal. It makes no system call for a thread that is known,
    /// which has gone on from one hypercall to the next.
    pub(super) fn set(&mut self, vcpu: &VcpuFd) -> io::Result<()> {
        let thread = this_thread();
        if !self.old && self.known.is_some_and(|(known, _)| known == thread) {
            return Ok(());
        }
        let blocked = signals::blocked()?;
        if self.known.is_none_or(|(_, known)| known != blocked) {
            let set = blocked & !signals::set(self.signal.0);
            let mask = SignalMask { len: size_of::<u64>() as u32, set };
            // SAFETY: the kernel reads a length and as many bytes behind it.
            let done = unsafe { libc::ioctl(vcpu.as_raw_fd(), SET_SIGNAL_MASK, &raw const mask) };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        (self.known, self.old) = (Some((thread, blocked)), false);
        Ok(())
    }

    /// `KVM_RUN` was interrupted, or a stop was sent: takes the stop's signal, where the thread blocks it, so that it
    /// neither interrupts the next run nor is left for the program.
    pub(super) fn interrupted(&mut self) -> io::Result<()> {
        // A signal that the thread has blocked since would interrupt each run, and never be handled.
        self.old = true;
        let blocked = signals::blocked()? & signals::set(self.signal.0) != 0;
        while blocked && signals::take(self.signal.0)? {}
        Ok(())
    }
}
