//! Stops a vCPU that another thread runs: by `immediate_exit` before `KVM_RUN`, by a signal during it (KVM API,
//! "KVM_RUN", "KVM_SET_SIGNAL_MASK").
//!
//! A stop must work whatever the program does with that signal. During `KVM_RUN`, the thread blocks the signals that it
//! blocks otherwise, except this one (`KVM_SET_SIGNAL_MASK`). If the thread blocks the signal otherwise, it is pending
//! when `KVM_RUN` returns, and is consumed then. If not, it is handled: if the program has no handler, an empty one is
//! installed when the machine is built, and again by a stop that finds none.

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

use super::super::{MachineError, cpu_time, signals};
use crate::memory::ProcessId;

/// `KVM_SET_SIGNAL_MASK`, as `linux/kvm.h` defines it: `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`.
const SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;

/// `struct kvm_signal_mask` of `linux/kvm.h`, followed by the set of 64 signals at offset 4.
#[repr(C, packed)]
struct SignalMask {
    len: u32,
    set: u64,
}

/// The signal that interrupts `KVM_RUN`.
#[derive(Clone, Copy)]
pub(in super::super) struct StopSignal(libc::c_int);

impl StopSignal {
    pub(in super::super) const DEFAULT: Self = Self(libc::SIGUSR2);

    pub(in super::super) fn new(number: i32) -> Result<Self, MachineError> {
        Err(MachineError::Config(match number {
            libc::SIGKILL | libc::SIGSTOP => {
                "SIGKILL and SIGSTOP cannot be handled, so they cannot stop a vCPU: use another signal"
            }
            libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGILL
            | libc::SIGFPE
            | libc::SIGTRAP
            | libc::SIGSYS => {
                "SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP and SIGSYS report faults of the program, so they cannot \
                 stop a vCPU: use another signal"
            }
            1..=31 => return Ok(Self(number)),
            _ if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) => {
                return Ok(Self(number));
            }
            _ => "the number of the signal is out of range: use 1 to 31, or SIGRTMIN to SIGRTMAX",
        }))
    }

    /// The program's action for the signal.
    fn disposition(self) -> io::Result<libc::sigaction> {
        // SAFETY: `libc::sigaction` consists of integers and an optional function pointer, for which zeros are valid.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        // SAFETY: without a new action, sigaction(2) only writes the current one to `action`, a local of its type.
        let asked = unsafe { libc::sigaction(self.0, core::ptr::null(), &mut action) };
        if asked == 0 { Ok(action) } else { Err(io::Error::last_os_error()) }
    }

    /// Checks whether this process may query and send the signal. It sends signal 0, which only checks permissions.
    pub(in super::super) fn check(self) -> io::Result<()> {
        self.disposition()?;
        Self(0).send(this_thread())
    }

    /// Prepares the program for the signal: its vCPUs can be stopped by it.
    pub(in super::super) fn install(self) -> Result<(), MachineError> {
        self.handle()
            .and_then(|_| self.check())
            .map_err(MachineError::system("installing the handler of the signal that stops vCPUs"))
    }

    /// Installs an empty handler if the program has none; a handler of the program interrupts `KVM_RUN` as well.
    /// Returns whether it installed one.
    fn handle(self) -> io::Result<bool> {
        extern "C" fn nothing(_: libc::c_int) {}
        let mut action = self.disposition()?;
        if !matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
            return Ok(false);
        }
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        // Elsewhere it restarts interrupted system calls, and uses the alternate stack, if the thread has one.
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        // SAFETY: `action` has been initialized by sigaction(2). The new handler has the signature of a handler without
        // `SA_SIGINFO`, and is empty, hence async-signal-safe.
        let installed = unsafe { libc::sigaction(self.0, &action, core::ptr::null_mut()) };
        if installed == 0 { Ok(true) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends the signal to a thread of this process.
    fn send(self, thread: libc::pid_t) -> io::Result<()> {
        // SAFETY: getpid(2) takes no argument, always succeeds and accesses no memory of the caller.
        let process = unsafe { libc::getpid() };
        // SAFETY: tgkill(2) takes three integers and accesses no memory of the caller. It reaches no other process, and
        // the signal's handler is empty, see `handle`, or the program's own.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, self.0) };
        if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// The calling thread's ID (gettid(2)).
pub(super) fn this_thread() -> libc::pid_t {
    // A forked child inherits the cached ID of its parent's thread, so the process is part of the key.
    std::thread_local!(static KNOWN: Cell<Option<(ProcessId, libc::pid_t)>> = const { Cell::new(None) });
    let process = ProcessId::current();
    match KNOWN.get() {
        Some((of, thread)) if of == process => thread,
        _ => {
            // SAFETY: gettid(2) takes no argument, always succeeds and accesses no memory of the caller.
            let thread = unsafe { libc::gettid() };
            KNOWN.set(Some((process, thread)));
            thread
        }
    }
}

/// The thread that runs a vCPU, and the request to stop it.
pub(super) struct Kick {
    running: Mutex<Running>,
    signal: StopSignal,
    /// The process that has made the vCPU. Only this process runs it.
    process: ProcessId,
}

struct Running {
    /// The thread that runs the vCPU or is about to, and the address of the vCPU's `immediate_exit`.
    thread: Option<(libc::pid_t, *mut u8)>,
    stopped: bool,
    /// What the vCPU has used, once it is asked for.
    meter: Option<Meter>,
}

/// The processor time of a vCPU: that of the threads that run it, while they do. `None` stands for a clock that could
/// not be read.
#[derive(Clone, Copy)]
struct Meter {
    /// Before the current run.
    used: Option<Duration>,
    /// The reading of the thread's clock at the beginning of the current run.
    began: Option<Duration>,
}

impl Meter {
    /// The time that has been used when the clock of the running thread has this reading.
    fn at(self, now: Option<Duration>) -> Option<Duration> {
        self.used?.checked_add(now?.saturating_sub(self.began?))
    }
}

// SAFETY: the pointer leads into the vCPU's `kvm_run` page, which may be written on any thread. `KvmVcpu::run_to_trap`
// owns the page, calls `begin` before it runs the vCPU and `end`, which clears the pointer, after it; `stop` uses the
// pointer under the lock only.
unsafe impl Send for Running {}

impl Kick {
    pub(super) fn new(signal: StopSignal) -> Self {
        let running = Mutex::new(Running { thread: None, stopped: false, meter: None });
        Self { running, signal, process: ProcessId::current() }
    }

    /// Whether this process has made the vCPU. A forked child that has inherited it must not use it: file descriptors
    /// are shared with the parent, and a lock that another thread held stays locked.
    pub(super) fn is_ours(&self) -> bool {
        self.process == ProcessId::current()
    }

    fn state(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the calling thread, which is `thread`, is about to run the vCPU whose `immediate_exit` is at this address. The
    /// address is valid until [`end`](Self::end). Returns false if the vCPU was stopped, and must not run.
    pub(super) fn begin(&self, thread: libc::pid_t, immediate_exit: *mut u8) -> bool {
        let mut state = self.state();
        if !state.stopped {
            state.thread = Some((thread, immediate_exit));
            if let Some(meter) = &mut state.meter {
                meter.began = cpu_time::of_this_thread().ok();
            }
        }
        !state.stopped
    }

    /// Records that `KVM_RUN` has returned, so that no more signals are sent to the thread, and clears `immediate_exit`
    /// by `clear`. Returns whether the vCPU was stopped; the next [`begin`](Self::begin) sees a stop that comes later.
    pub(super) fn end(&self, clear: impl FnOnce()) -> bool {
        let mut state = self.state();
        state.thread = None;
        if let Some(meter) = &mut state.meter {
            meter.used = meter.at(cpu_time::of_this_thread().ok());
        }
        clear();
        state.stopped
    }

    /// Measures the processor time of the vCPU from its next run on; `None` if this system has no clocks of threads.
    pub(super) fn measure(&self) -> Option<()> {
        cpu_time::of_thread(this_thread()).ok()?;
        let unused = Meter { used: Some(Duration::ZERO), began: None };
        self.state().meter.get_or_insert(unused);
        Some(())
    }

    /// The processor time that the vCPU has used since [`measure`](Self::measure); `None` if it cannot be measured.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        let state = self.state();
        match state.thread {
            None => state.meter?.used,
            // The thread cannot end before `end`, which takes the lock.
            Some((thread, _)) => state.meter?.at(cpu_time::of_thread(thread).ok()),
        }
    }

    /// Withdraws a stop, so that the vCPU may run again.
    pub(super) fn reset(&self) {
        self.state().stopped = false;
    }

    /// Stops the vCPU: interrupts `KVM_RUN`, if it is running, and makes [`begin`](Self::begin) return false.
    pub(super) fn stop(self: &Arc<Self>) {
        if !self.is_ours() {
            return;
        }
        let mut state = self.state();
        state.stopped = true;
        let Some((thread, immediate_exit)) = state.thread else { return };
        // SAFETY: `begin` was promised that the address is valid until `end`, which takes the lock that is held here.
        // The kernel reads the byte, and the running thread writes it in `end` only, under the same lock.
        unsafe { immediate_exit.write_volatile(1) };
        // The program may have removed the handler since the machine was built: then the signal would be ignored or end
        // the program. If it removes the handler between these lines, the signal is sent again.
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

    /// Retries to send the signal until it succeeds or the vCPU has returned: a real-time signal cannot be sent while
    /// this user's queue is full (RLIMIT_SIGPENDING).
    #[cold]
    fn stop_later(self: &Arc<Self>) {
        let kick = self.clone();
        let wanted = move || {
            let state = kick.state();
            state.stopped
                && state.thread.is_some_and(|(thread, _)| kick.signal.send(thread).is_err())
        };
        let thread = thread::Builder::new().name("vmffi stop".into());
        // If the thread cannot be spawned, the vCPU stops at its next exit.
        let _ = thread.spawn(move || {
            while wanted() {
                thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

/// The signal mask of a vCPU during `KVM_RUN` (`KVM_SET_SIGNAL_MASK`).
pub(super) struct Mask {
    signal: StopSignal,
    /// The thread for which the mask was last set, and the signals that it blocked then.
    known: Option<(libc::pid_t, u64)>,
    /// Whether the thread may have changed its own mask since then.
    stale: bool,
}

impl Mask {
    pub(super) fn new(signal: StopSignal) -> Self {
        Self { signal, known: None, stale: true }
    }

    /// Has the next run read the thread's mask again, since code of the program outside of handlers may change it
    /// before.
    pub(super) fn expire(&mut self) {
        self.stale = true;
    }

    /// Sets the mask of `KVM_RUN` to the signals that the calling thread, which is `thread`, blocks, except the stop signal. It
    /// makes no system call if the mask is up to date, as from one hypercall to the next.
    #[inline]
    pub(super) fn set(&mut self, thread: libc::pid_t, vcpu: &VcpuFd) -> io::Result<()> {
        if !self.stale && self.known.is_some_and(|(known, _)| known == thread) {
            return Ok(());
        }
        self.renew(thread, vcpu)
    }

    #[inline(never)]
    fn renew(&mut self, thread: libc::pid_t, vcpu: &VcpuFd) -> io::Result<()> {
        let blocked = signals::blocked()?;
        if self.known.is_none_or(|(_, known)| known != blocked) {
            let set = blocked & !signals::set(self.signal.0);
            let mask = SignalMask { len: size_of::<u64>() as u32, set };
            // SAFETY: `KVM_SET_SIGNAL_MASK` reads a `kvm_signal_mask`, whose length is 8, and 8 bytes behind it: `mask`
            // is laid out so (`repr(C, packed)`), and outlives the call.
            let done = unsafe { libc::ioctl(vcpu.as_raw_fd(), SET_SIGNAL_MASK, &raw const mask) };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        (self.known, self.stale) = (Some((thread, blocked)), false);
        Ok(())
    }

    /// Called when `KVM_RUN` was interrupted, or a stop was sent: consumes pending stop signals, if the thread blocks
    /// them, so that they neither interrupt the next run nor reach the program later.
    pub(super) fn interrupted(&mut self) -> io::Result<()> {
        // A handler of the program may have changed the thread's mask. With a stale mask, a signal that the thread now
        // blocks would interrupt every run and never be handled.
        self.stale = true;
        let blocked = signals::blocked()? & signals::set(self.signal.0) != 0;
        while blocked && signals::take(self.signal.0)? {}
        Ok(())
    }
}
