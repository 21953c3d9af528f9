//! A guest in a process of its own, which can only compute and trap.
//!
//! The host executes a stub, a program of a few instructions, and traces it (ptrace(2)). It makes system calls in the
//! name of the stub's process to map the guest's memory, to unmap and close everything else, and to deny all further
//! system calls by a filter (seccomp(2)). The kernel never executes the guest's file.
//!
//! A trap is a store to the doorbell, which is unmapped: the kernel raises SIGSEGV, which stops the process and
//! notifies its tracer. A round trip takes four system calls of the host: write the registers, resume, wait, read the
//! registers.

use std::{
    cell::Cell,
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
    vec::Vec,
};

use nix::{
    errno::Errno,
    libc::{self, user_regs_struct},
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    sys::{
        memfd::{MFdFlags, memfd_create},
        ptrace,
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    FORKED, Loaded, MachineError,
    address_space::{DOORBELL_AT, Part},
    check, lost, signals,
};
use crate::{
    abi::{PAGE_SIZE, Registers, Transport, TrapMethod},
    arch::x86_64::code,
    host::{FaultCause, GuestExit, ProtocolViolation, Stopper, Vcpu},
    memory::ProcessId,
};

/// The address of the stub: behind all stacks and before the doorbell, so it overlaps no part of a machine.
const STUB_AT: u64 = 0x1f0_0000_0000;
/// The instruction `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// The end of a process's address space.
const TOP: u64 = 0x7fff_ffff_f000;
/// `si_code` of SIGFPE: integer division by zero (sigaction(2)).
const FPE_INTDIV: i32 = 1;
/// `si_code` of signals that the kernel raises without a more specific code (sigaction(2)).
const SI_KERNEL: i32 = 0x80;
/// The signal that stops a running guest. Its disposition does not matter, since the tracer receives it.
const STOP: Signal = Signal::SIGUSR1;
/// The register set in the format of XSAVE (ptrace(2), `PTRACE_GETREGSET`), and an upper bound of its length in bytes.
const NT_X86_XSTATE: usize = 0x202;
const MAX_XSAVE_LEN: usize = 16 << 10;
/// Why a guest is not run: a stop could not interrupt it.
const NO_SIGNALS: &str = "the guest's process could not be stopped, since this program may not send it signals \
    (EPERM): build the machine after a change of user, and allow pidfd_send_signal in seccomp filters";
/// Sets the tracee's mask of blocked signals (ptrace(2)).
const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
/// The end of the doorbell's page.
const DOORBELL_END: u64 = DOORBELL_AT + PAGE_SIZE;

/// The stub's code: calls pause(2) in a loop.
const STUB: [u8; 9] = [0xb8, 34, 0, 0, 0, SYSCALL[0], SYSCALL[1], 0xeb, 0xf7];
/// The address of the stub's `syscall`.
const STUB_SYSCALL: u64 = STUB_AT + check::CODE_AT + 5;

/// Makes the process, with the guest mapped and its registers set for the entry point (ABI, "Boot block").
pub(super) fn start(loaded: &Arc<Loaded>, log: u32, pin: bool) -> Result<Process, MachineError> {
    let &[stack] = loaded.space.stacks.as_slice() else {
        return Err(MachineError::Config(
            "a process guest has one vCPU: set `MachineBuilder::vcpus` to 1, or use KVM",
        ));
    };
    loaded.write_boot(TrapMethod::Doorbell(DOORBELL_AT), log);
    let memory = loaded.ram.file().try_clone().map_err(refused)?;
    let traced = Traced::start(memory.into())?;
    traced.map(&loaded.space.parts)?;
    traced.confine(loaded, stack)?;
    let mut registers = traced.registers().map_err(refused)?;
    registers = user_regs_struct {
        rip: loaded.image.entry(),
        rsp: stack,
        rdi: stack,
        eflags: 0x202,
        orig_rax: u64::MAX,
        cs: registers.cs,
        ss: registers.ss,
        // SAFETY: `user_regs_struct` consists of integers, for which zeros are valid.
        ..unsafe { core::mem::zeroed() }
    };
    traced.set(registers).map_err(refused)?;
    if pin {
        pin_to_current_cpu(traced.pid).map_err(refused)?;
    }
    Ok(Process { traced, loaded: loaded.clone(), registers, snapshot: None })
}

fn refused(error: impl Into<io::Error>) -> MachineError {
    MachineError::system("setting up the guest's process")(error)
}

/// Pins this thread and a process to the processor on which this thread runs.
fn pin_to_current_cpu(pid: Pid) -> nix::Result<()> {
    let mut here = CpuSet::new();
    here.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &here)?;
    sched_setaffinity(pid, &here)
}

/// A process that this thread traces.
struct Traced {
    pid: Pid,
    /// Whether waitpid(2) has reaped the process, so that the kernel may reuse its ID.
    gone: Cell<bool>,
    handle: Arc<ProcessHandle>,
    /// The tracer: ptrace(2) fails on all other threads.
    thread: ThreadId,
}

/// A descriptor of a process (pidfd_open(2)), by which any thread can stop it. Unlike a process ID, it never comes to
/// mean another process.
struct ProcessHandle {
    process: OwnedFd,
    stopped: AtomicBool,
    /// The process that has started it. A forked child, which inherits the descriptor, must not use it.
    parent: ProcessId,
}

impl ProcessHandle {
    fn of(pid: Pid) -> nix::Result<Self> {
        // SAFETY: pidfd_open(2) takes two integers and accesses no memory of the caller.
        let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        let process = Errno::result(process)? as RawFd;
        // SAFETY: pidfd_open(2) has just returned this new, open descriptor, so this is its only owner.
        let process = unsafe { OwnedFd::from_raw_fd(process) };
        Ok(Self { process, stopped: AtomicBool::new(false), parent: ProcessId::current() })
    }

    fn is_ours(&self) -> bool {
        self.parent == ProcessId::current()
    }

    /// Sends the process a signal; signal 0 only checks whether that is permitted.
    fn send(&self, signal: libc::c_int) -> nix::Result<()> {
        let none = core::ptr::null::<libc::siginfo_t>();
        // SAFETY: pidfd_send_signal(2) takes an open descriptor, which `self` owns, two integers, and a null `info`, so
        // it accesses no memory of the caller.
        let sent = unsafe {
            let process = self.process.as_raw_fd();
            libc::syscall(libc::SYS_pidfd_send_signal, process, signal, none, 0)
        };
        Errno::result(sent).map(drop)
    }

    fn stop(&self) {
        if self.is_ours() {
            self.stopped.store(true, Ordering::Release);
            // If the process is gone, there is nothing to stop. `run` has checked the permission to send signals.
            let _ = self.send(STOP as i32);
        }
    }

    /// Reaps the process, which was killed. If other code of this program has reaped it already, or SIGCHLD is ignored,
    /// waitid(2) fails with ECHILD, and there is nothing to do.
    fn wait(&self) {
        let (of, process) = (libc::P_PIDFD, self.process.as_raw_fd() as libc::id_t);
        let none = core::ptr::null_mut();
        // SAFETY: waitid(2) takes integers and a null `info`, so it accesses no memory of the caller.
        while unsafe { libc::waitid(of, process, none, libc::WEXITED) } != 0
            && Errno::last() == Errno::EINTR
        {}
    }
}

impl Traced {
    /// Starts the stub with `input` as its descriptor 0, traces and stops it.
    fn start(input: Stdio) -> Result<Self, MachineError> {
        let stub = check::program(STUB_AT, &STUB);
        let writable = || -> io::Result<File> {
            let mut file = File::from(memfd_create(c"vmffi-stub", MFdFlags::MFD_CLOEXEC)?);
            signals::change_file(stub.len() as u64, || file.write_all(&stub))?;
            Ok(file)
        };
        let writable = writable().map_err(refused)?;
        // The kernel does not execute a file that is open for writing (ETXTBSY), so it is opened anew. Descriptors 0 to
        // 2 are replaced in the child, and `try_clone` returns one above.
        let file = File::open(std::format!("/proc/self/fd/{}", writable.as_raw_fd()))
            .and_then(|file| file.try_clone())
            .map_err(MachineError::system("opening the stub of the guest's process in /proc"))?;
        drop(writable);
        let mut child = Command::new(std::format!("/proc/self/fd/{}", file.as_raw_fd()))
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(refused)?;
        let pid = Pid::from_raw(child.id() as i32);
        let handle = ProcessHandle::of(pid).inspect_err(|_| {
            // `child` was not reaped yet, so its ID is still valid.
            if child.kill().is_ok() {
                let _ = child.wait();
            }
        });
        let handle = Arc::new(handle.map_err(refused)?);
        let traced = Self { pid, gone: Cell::new(false), handle, thread: thread::current().id() };
        ptrace::seize(pid, ptrace::Options::PTRACE_O_EXITKILL)
            .map_err(MachineError::system("tracing the guest's process (PTRACE_SEIZE)"))?;
        ptrace::interrupt(pid).map_err(refused)?;
        match traced.wait().map_err(refused)? {
            WaitStatus::PtraceEvent(..) => {
                traced.unblock().map_err(refused)?;
                Ok(traced)
            }
            status => Err(refused(io::Error::other(std::format!("{status:?}")))),
        }
    }

    fn wait(&self) -> nix::Result<WaitStatus> {
        loop {
            match waitpid(self.pid, None) {
                Err(Errno::EINTR) => {}
                Ok(status @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..))) => {
                    self.gone.set(true);
                    return Ok(status);
                }
                status => return status,
            }
        }
    }

    fn registers(&self) -> nix::Result<user_regs_struct> {
        ptrace::getregs(self.pid)
    }

    fn set(&self, registers: user_regs_struct) -> nix::Result<()> {
        ptrace::setregs(self.pid, registers)
    }

    /// Clears the inherited mask of blocked signals: a blocked signal would not stop the process.
    fn unblock(&self) -> nix::Result<()> {
        let none = 0_u64;
        // SAFETY: `PTRACE_SETSIGMASK` reads as many bytes as its third argument says, the size of `none`, which
        // outlives the call.
        let done = unsafe {
            libc::ptrace(PTRACE_SETSIGMASK, self.pid.as_raw(), size_of::<u64>(), &raw const none)
        };
        Errno::result(done).map(drop)
    }

    /// Copies the x87 and vector registers from the process to a buffer (`PTRACE_GETREGSET`) or back
    /// (`PTRACE_SETREGSET`). Returns the number of bytes.
    fn xsave(&self, request: libc::c_uint, bytes: &mut [u8]) -> nix::Result<usize> {
        let mut buffer = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: both requests access at most `iov_len` bytes at `iov_base`, which is `bytes`, exclusively borrowed,
        // and the `iovec` itself.
        let done =
            unsafe { libc::ptrace(request, self.pid.as_raw(), NT_X86_XSTATE, &raw mut buffer) };
        Errno::result(done)?;
        Ok(buffer.iov_len)
    }

    /// Has the process make a system call, by the `syscall` instruction at this address. Returns its result.
    fn call(&self, at: u64, number: libc::c_long, args: [u64; 6]) -> Result<u64, MachineError> {
        let [rdi, rsi, rdx, r10, r8, r9] = args;
        let before = self.registers().map_err(refused)?;
        let rax = number as u64;
        let with = user_regs_struct { rip: at, rax, rdi, rsi, rdx, r10, r8, r9, ..before };
        self.set(user_regs_struct { orig_rax: u64::MAX, ..with }).map_err(refused)?;
        ptrace::step(self.pid, None).map_err(refused)?;
        match self.wait().map_err(refused)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            status => return Err(refused(io::Error::other(std::format!("{status:?}")))),
        }
        let result = self.registers().map_err(refused)?.rax as i64;
        if (-4095..0).contains(&result) {
            return Err(refused(io::Error::from_raw_os_error(-result as i32)));
        }
        Ok(result as u64)
    }

    /// Maps the parts of the machine's memory, which is the process's descriptor 0.
    fn map(&self, parts: &[Part]) -> Result<(), MachineError> {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
        for part in parts {
            let mut protection = libc::PROT_READ;
            if part.write {
                protection |= libc::PROT_WRITE;
            }
            if part.execute {
                protection |= libc::PROT_EXEC;
            }
            let args = [part.address, part.len, protection as u64, flags as u64, 0, part.offset];
            // Before Linux 4.17, the kernel ignores `MAP_FIXED_NOREPLACE`, and may choose another address.
            if self.call(STUB_SYSCALL, libc::SYS_mmap, args)? != part.address {
                return Err(refused(Errno::EEXIST));
            }
        }
        Ok(())
    }

    /// Closes all descriptors of the process, unmaps everything but the parts, and denies all system calls.
    fn confine(&self, loaded: &Loaded, stack: u64) -> Result<(), MachineError> {
        // The stub is unmapped as well, so these calls are made at the guest's entry point, whose bytes are restored
        // afterwards.
        let at = loaded.image.entry();
        let (offset, _) = loaded.space.find(at).ok_or(MachineError::Config(
            "the entry point is not mapped: report this as a bug of `vmffi`",
        ))?;
        let mut own = [0; SYSCALL.len()];
        loaded.ram.read(offset, &mut own);
        loaded.ram.write(offset, &SYSCALL);
        let call = |number, args| self.call(at, number, args);

        call(libc::SYS_close_range, [0, u64::from(u32::MAX), 0, 0, 0, 0])?;
        let mut parts = loaded.space.parts.clone();
        parts.sort_by_key(|part| part.address);
        let ends = parts.iter().map(|part| part.address + part.len);
        let starts = parts.iter().map(|part| part.address);
        for (from, to) in core::iter::once(0).chain(ends).zip(starts.chain([TOP])) {
            if from < to {
                call(libc::SYS_munmap, [from, to - from, 0, 0, 0, 0])?;
            }
        }
        // No core dumps, and no access by /proc or ptrace(2) for other processes, except privileged ones.
        call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 0, 0, 0, 0, 0])?;
        call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0])?;
        // The filter has one instruction, which raises SIGSYS for every system call: the tracer reports that as a
        // fault. Instruction and `struct sock_fprog` are on the guest's stack until the filter is set.
        let deny = u64::from(libc::BPF_RET | libc::BPF_K) | u64::from(libc::SECCOMP_RET_TRAP) << 32;
        let filter = [deny, 1, stack - 24];
        let (place, _) = loaded.space.find(stack - 24).ok_or(MachineError::Config(
            "the stack is not mapped: report this as a bug of `vmffi`",
        ))?;
        let bytes: Vec<u8> = filter.iter().flat_map(|word| word.to_le_bytes()).collect();
        loaded.ram.write(place, &bytes);
        let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
        call(libc::SYS_seccomp, [u64::from(mode), flags, stack - 16, 0, 0, 0])?;
        loaded.ram.write(place, &[0; 24]);
        loaded.ram.write(offset, &own);
        Ok(())
    }
}

impl Drop for Traced {
    /// Kills and reaps the process. It waits only for a process that was killed.
    fn drop(&mut self) {
        if self.gone.get() || !self.handle.is_ours() {
            return;
        }
        match self.handle.send(Signal::SIGKILL as i32) {
            Ok(()) => self.handle.wait(),
            Err(Errno::ESRCH) => {}
            // EPERM, for example after a change of user. The tracer needs no permission for a signal by `PTRACE_CONT`.
            // On another thread, the process is left to end with its tracer (`PTRACE_O_EXITKILL`).
            Err(_) if self.is_traced_here() => self.kill_as_tracer(),
            Err(_) => {}
        }
    }
}

impl Traced {
    fn is_traced_here(&self) -> bool {
        thread::current().id() == self.thread && self.handle.is_ours()
    }

    /// Kills the process by ptrace(2). `PTRACE_CONT` injects a signal only if the process is stopped at one. Therefore
    /// the process is continued at address 0, which is unmapped, so that it stops at a SIGSEGV; there, SIGKILL replaces
    /// that.
    fn kill_as_tracer(&self) {
        let step = || {
            let nowhere = user_regs_struct { rip: 0, orig_rax: u64::MAX, ..self.registers()? };
            self.set(nowhere)?;
            ptrace::cont(self.pid, Signal::SIGKILL)?;
            self.wait()
        };
        // If a request fails, the process has ended, or it is not traced yet.
        while !self.gone.get() && step().is_ok() {}
    }
}

/// A guest's process, as a vCPU.
pub(super) struct Process {
    traced: Traced,
    loaded: Arc<Loaded>,
    /// The registers at the last stop.
    registers: user_regs_struct,
    /// The registers at the first `READY`: general ones, and the others in the format of XSAVE.
    snapshot: Option<(user_regs_struct, Vec<u8>)>,
}

impl Process {
    /// Runs to the next signal for an exception or a denied system call, and returns it; fails if the guest is stopped.
    fn resume(&mut self) -> Result<Signal, GuestExit> {
        let gone = |error: Errno| GuestExit::Lost(lost("the guest's process", error));
        loop {
            ptrace::cont(self.traced.pid, None).map_err(gone)?;
            match self.traced.wait().map_err(gone)? {
                WaitStatus::Stopped(_, STOP) => {
                    if self.traced.handle.stopped.load(Ordering::Acquire) {
                        return Err(GuestExit::Stopped);
                    }
                }
                WaitStatus::Stopped(
                    _,
                    signal @ (Signal::SIGSEGV
                    | Signal::SIGBUS
                    | Signal::SIGILL
                    | Signal::SIGFPE
                    | Signal::SIGTRAP
                    | Signal::SIGSYS),
                ) => return Ok(signal),
                // Other signals are not delivered to the guest, and other ptrace stops are ignored.
                WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..) => {}
                status => {
                    return Err(GuestExit::Lost(std::format!("the guest's process: {status:?}")));
                }
            }
        }
    }

    /// Whether the guest has stopped at the instruction of a trap, with the doorbell's address in RDX. No other check
    /// is needed, since a store to that address always faults.
    fn is_at_doorbell(&self) -> bool {
        let Some((offset, part)) = self.loaded.space.find(self.registers.rip) else { return false };
        let mut found = [0; code::DOORBELL.len()];
        self.loaded.ram.read(offset, &mut found);
        part.execute && found == code::DOORBELL && self.registers.rdx == DOORBELL_AT
    }

    #[cold]
    fn fault(&self, signal: Signal) -> GuestExit {
        let instruction = self.registers.rip;
        let info = ptrace::getsiginfo(self.traced.pid).ok();
        // SAFETY: `si_addr` reads a pointer-sized integer of the union, whose bytes `PTRACE_GETSIGINFO` has initialized
        // for every signal. The value is an address only for some signals and codes; it is used for these only.
        let address = info.map(|info| unsafe { info.si_addr() } as u64);
        let kind = info.map_or(0, |info| info.si_code);
        let (cause, address) = match signal {
            Signal::SIGSEGV if (1..=4).contains(&kind) => {
                if let Some(at @ DOORBELL_AT..DOORBELL_END) = address {
                    return GuestExit::Protocol(ProtocolViolation::Access { at });
                }
                (FaultCause::Exception(14), address)
            }
            Signal::SIGSEGV => (FaultCause::Exception(13), None),
            Signal::SIGILL => (FaultCause::Exception(6), None),
            Signal::SIGFPE if kind == FPE_INTDIV => (FaultCause::Exception(0), None),
            Signal::SIGFPE => (FaultCause::Exception(19), None),
            Signal::SIGBUS if kind == libc::BUS_ADRALN => (FaultCause::Exception(17), None),
            Signal::SIGBUS => (FaultCause::Exception(12), None),
            // `int3` has the code SI_KERNEL; `int1` and other debug exceptions have TRAP_BRKPT or others.
            Signal::SIGTRAP if kind == SI_KERNEL => (FaultCause::Exception(3), None),
            Signal::SIGTRAP => (FaultCause::Exception(1), None),
            Signal::SIGSYS => (FaultCause::SystemCall(self.registers.orig_rax), None),
            other => (FaultCause::Signal(other as i32), None),
        };
        GuestExit::Fault(self.loaded.fault(cause, address, instruction))
    }
}

impl Vcpu for Process {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        let gone = |error: Errno| GuestExit::Lost(lost("the guest's process", error));
        if !self.traced.handle.is_ours() {
            return Err(GuestExit::Lost(FORKED.into()));
        }
        // A guest that could not be stopped is not run.
        self.traced.handle.send(0).map_err(|error| match error {
            Errno::EPERM => GuestExit::Lost(NO_SIGNALS.into()),
            error => gone(error),
        })?;
        if let Some(Registers { kind, word, transport }) = answer {
            let registers = &mut self.registers;
            (registers.rax, registers.rbx) = (kind, word);
            (registers.r8, registers.r9) = (transport.primary, transport.secondary);
            registers.rip += code::DOORBELL.len() as u64;
            // -1 keeps the kernel from restarting a system call.
            registers.orig_rax = u64::MAX;
            self.traced.set(*registers).map_err(gone)?;
        }
        let signal = self.resume()?;
        self.registers = self.traced.registers().map_err(gone)?;
        if signal != Signal::SIGSEGV || !self.is_at_doorbell() {
            return Err(self.fault(signal));
        }
        let user_regs_struct { rax, rbx, r8, r9, .. } = self.registers;
        let transport = Transport { primary: r8, secondary: r9 };
        Ok(Registers { kind: rax, word: rbx, transport })
    }

    fn stopper(&self) -> Stopper {
        let handle = self.traced.handle.clone();
        Stopper::new(move || handle.stop())
    }

    fn snapshot(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        if !self.traced.handle.is_ours() {
            return Err(io::Error::other(FORKED));
        }
        let mut xsave = std::vec![0; MAX_XSAVE_LEN];
        let len = self.traced.xsave(libc::PTRACE_GETREGSET, &mut xsave)?;
        xsave.truncate(len);
        xsave.shrink_to_fit();
        self.loaded.take_snapshot(cancelled)?;
        self.snapshot = Some((self.registers, xsave));
        Ok(())
    }

    fn restore(&mut self) -> io::Result<()> {
        if !self.traced.handle.is_ours() {
            return Err(io::Error::other(FORKED));
        }
        let Some((registers, xsave)) = &mut self.snapshot else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the guest's process has ended");
        if self.traced.gone.get() {
            return Err(gone());
        }
        // `run` sets the general registers. A STOP signal that is still pending has no effect once `stopped` is
        // cleared.
        self.registers = *registers;
        self.traced.xsave(libc::PTRACE_SETREGSET, xsave).map_err(|error| match error {
            Errno::ESRCH => gone(),
            error => error.into(),
        })?;
        self.loaded.restore()?;
        self.traced.handle.stopped.store(false, Ordering::Release);
        Ok(())
    }

    fn runs_here(&self) -> bool {
        self.traced.is_traced_here()
    }
}

#[cfg(test)]
mod tests;
