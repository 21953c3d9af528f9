//! A guest in a process of its own, which computes and traps and can do nothing else.
//!
//! The host starts a program of its own, a few bytes that wait, and traces it (ptrace(2)). With system calls
//! made in its name it maps the guest's memory there, unmaps and closes all else, and denies every further
//! one by a filter (seccomp(2)). The kernel never executes the guest's file.
//!
//! A trap is a store to an address where nothing is: a signal, which stops the process for its tracer. A
//! round trip is four system calls of the host: registers written, guest resumed, waited for, registers
//! read.

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

use super::{DOORBELL_AT, FORKED, Loaded, MachineError, Part, check, lost, signals};
use crate::{
    abi::{Registers, Transport, Way},
    arch::x86_64::code,
    host::{Broken, Cause, End, Stopper, Vcpu, fork::ProcessId},
    memory::PAGE,
};

/// Where the program lies that waits for its tracer. Nothing else of a machine's is near.
const STUB_AT: u64 = 0x1f0_0000_0000;
/// `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// The end of what a process may map.
const TOP: u64 = 0x7fff_ffff_f000;
/// An integer was divided by zero (sigaction(2)).
const FPE_INTDIV: i32 = 1;
/// The kernel sends a signal for an exception that has no code of its own.
const SI_KERNEL: i32 = 0x80;
/// What stops a guest from outside; its disposition does not matter, since its tracer takes it.
const STOP: Signal = Signal::SIGUSR1;
/// The registers that XSAVE stores (ptrace(2), `PTRACE_GETREGSET`), and more bytes than they take.
const NT_X86_XSTATE: usize = 0x202;
const VECTORS_MOST: usize = 16 << 10;
/// Why a guest is not run that could not be stopped.
const NO_SIGNALS: &str = "this program may not send its process signals, so nothing could stop it (EPERM): make the \
    machine after a change of user, and let filters pass pidfd_send_signal";
/// ptrace(2): sets the tracee's mask of blocked signals.
const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
/// The page that the doorbell is in.
const DOORBELL_END: u64 = DOORBELL_AT + PAGE;

/// The stub's code: wait for a signal, for ever (pause(2)).
const STUB: [u8; 9] = [0xb8, 34, 0, 0, 0, SYSCALL[0], SYSCALL[1], 0xeb, 0xf7];
/// Where the stub's `syscall` is.
const STUB_SYSCALL: u64 = STUB_AT + check::CODE_AT + 5;

/// Makes the process, with the guest in it and about to begin.
pub(super) fn start(loaded: &Arc<Loaded>, log: u32, pin: bool) -> Result<Process, MachineError> {
    let &[stack] = loaded.stacks.as_slice() else {
        return Err(MachineError::Config("a process guest has one vCPU"));
    };
    loaded.write_boot(Way::Doorbell(DOORBELL_AT), log);
    let memory = loaded.ram.file().try_clone().map_err(refused)?;
    let traced = Traced::start(memory.into())?;
    traced.map(&loaded.parts)?;
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
        // SAFETY: integers, all of them.
        ..unsafe { core::mem::zeroed() }
    };
    traced.set(registers).map_err(refused)?;
    if pin {
        together(traced.pid).map_err(refused)?;
    }
    Ok(Process { traced, loaded: loaded.clone(), registers, kept: None })
}

fn refused(error: impl Into<io::Error>) -> MachineError {
    MachineError::system("a process for the guest")(error)
}

/// Has this thread and a process run on the processor that this thread is on.
fn together(pid: Pid) -> nix::Result<()> {
    let mut here = CpuSet::new();
    here.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &here)?;
    sched_setaffinity(pid, &here)
}

/// A process that this thread traces.
struct Traced {
    pid: Pid,
    /// It has ended, and was waited for: its number may be another one's.
    gone: Cell<bool>,
    shared: Arc<Shared>,
    /// The thread that traces it: nobody else can.
    thread: ThreadId,
}

/// What a stopper has of a process: a descriptor, which means this process and never another one, also
/// when its number is given again.
struct Shared {
    process: OwnedFd,
    stopped: AtomicBool,
    /// Who has started it: a child of that process has inherited the descriptor, and leaves it alone.
    parent: ProcessId,
}

impl Shared {
    fn of(pid: Pid) -> nix::Result<Self> {
        // SAFETY: takes two integers, and gives a new descriptor.
        let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        let process = Errno::result(process)? as RawFd;
        // SAFETY: it is new, so nobody else has it.
        let process = unsafe { OwnedFd::from_raw_fd(process) };
        Ok(Self { process, stopped: AtomicBool::new(false), parent: ProcessId::current() })
    }

    fn is_ours(&self) -> bool {
        self.parent == ProcessId::current()
    }

    /// Sends the process a signal, or with 0 asks whether that is permitted.
    fn send(&self, signal: libc::c_int) -> nix::Result<()> {
        let none = core::ptr::null::<libc::siginfo_t>();
        // SAFETY: takes a descriptor, two integers and no description of the signal.
        let sent = unsafe {
            let process = self.process.as_raw_fd();
            libc::syscall(libc::SYS_pidfd_send_signal, process, signal, none, 0)
        };
        Errno::result(sent).map(drop)
    }

    fn stop(&self) {
        if self.is_ours() {
            self.stopped.store(true, Ordering::Release);
            // One that is gone takes no notice. Whether this program may send it signals is looked at before it is run.
            let _ = self.send(STOP as i32);
        }
    }

    /// Waits until the process has ended, which it is about to. Somebody else in this program may have waited for it,
    /// or nobody needs to: then there is no such child.
    fn wait(&self) {
        let (of, process) = (libc::P_PIDFD, self.process.as_raw_fd() as libc::id_t);
        let none = core::ptr::null_mut();
        // SAFETY: takes integers, and is given no place for a description.
        while unsafe { libc::waitid(of, process, none, libc::WEXITED) } != 0
            && Errno::last() == Errno::EINTR
        {}
    }
}

impl Traced {
    /// Starts the stub, with `input` as its descriptor 0, and stops it.
    fn start(input: Stdio) -> Result<Self, MachineError> {
        let stub = check::program(STUB_AT, &STUB);
        let writable = || -> io::Result<File> {
            let mut file = File::from(memfd_create(c"vmffi-stub", MFdFlags::MFD_CLOEXEC)?);
            signals::change_file(stub.len() as u64, || file.write_all(&stub))?;
            Ok(file)
        };
        let writable = writable().map_err(refused)?;
        // A file that is open for writing is not executed. The first three numbers are others' in the process, and a copy
        // has none of them.
        let file = File::open(std::format!("/proc/self/fd/{}", writable.as_raw_fd()))
            .and_then(|file| file.try_clone())
            .map_err(MachineError::system("a process for the guest, by way of /proc"))?;
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
        let shared = Shared::of(pid).inspect_err(|_| {
            // Nobody else knows of it yet, so this number is its.
            if child.kill().is_ok() {
                let _ = child.wait();
            }
        });
        let shared = Arc::new(shared.map_err(refused)?);
        let traced = Self { pid, gone: Cell::new(false), shared, thread: thread::current().id() };
        ptrace::seize(pid, ptrace::Options::PTRACE_O_EXITKILL)
            .map_err(MachineError::system("tracing the guest's process"))?;
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

    /// Has it block no signals, whatever it has inherited: what is blocked does not stop it.
    fn unblock(&self) -> nix::Result<()> {
        let none = 0_u64;
        // SAFETY: the kernel reads as many bytes as it is told.
        let done = unsafe {
            libc::ptrace(PTRACE_SETSIGMASK, self.pid.as_raw(), size_of::<u64>(), &raw const none)
        };
        Errno::result(done).map(drop)
    }

    /// Moves the vector registers between the process and a buffer; says how many bytes that were.
    fn vectors(&self, request: libc::c_uint, bytes: &mut [u8]) -> nix::Result<usize> {
        let mut buffer = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: the kernel keeps to the buffer, whose place and length this is.
        let done =
            unsafe { libc::ptrace(request, self.pid.as_raw(), NT_X86_XSTATE, &raw mut buffer) };
        Errno::result(done)?;
        Ok(buffer.iov_len)
    }

    /// Makes a system call in the process's name, by the `syscall` at this address.
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

    /// Maps the guest's memory, which is descriptor 0.
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
            // Kernels that do not know the flag take the address for a wish.
            if self.call(STUB_SYSCALL, libc::SYS_mmap, args)? != part.address {
                return Err(refused(Errno::EEXIST));
            }
        }
        Ok(())
    }

    /// Leaves the process nothing but what was mapped, and no system call.
    fn confine(&self, loaded: &Loaded, stack: u64) -> Result<(), MachineError> {
        // The stub goes as well, so these calls are made at the guest's entry, which gets its own bytes
        // back behind them.
        let at = loaded.image.entry();
        let (offset, _) = loaded.find(at).ok_or(MachineError::Config("the entry is nowhere"))?;
        let mut own = [0; SYSCALL.len()];
        loaded.ram.read(offset, &mut own);
        loaded.ram.write(offset, &SYSCALL);
        let call = |number, args| self.call(at, number, args);

        call(libc::SYS_close_range, [0, u64::from(u32::MAX), 0, 0, 0, 0])?;
        let mut parts = loaded.parts.clone();
        parts.sort_by_key(|part| part.address);
        let ends = parts.iter().map(|part| part.address + part.len);
        let starts = parts.iter().map(|part| part.address);
        for (from, to) in core::iter::once(0).chain(ends).zip(starts.chain([TOP])) {
            if from < to {
                call(libc::SYS_munmap, [from, to - from, 0, 0, 0, 0])?;
            }
        }
        // No core file, and nobody but this host and root looks in.
        call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 0, 0, 0, 0, 0])?;
        call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0])?;
        // The filter, of one instruction, and its description, on the stack for the time being. What it
        // denies is a signal (SIGSYS), which the tracer takes for a fault.
        let deny = u64::from(libc::BPF_RET | libc::BPF_K) | u64::from(libc::SECCOMP_RET_TRAP) << 32;
        let filter = [deny, 1, stack - 24];
        let (place, _) = loaded.find(stack - 24).ok_or(MachineError::Config("no stack"))?;
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
    /// Ends the process. It waits for nothing that may not come.
    fn drop(&mut self) {
        if self.gone.get() || !self.shared.is_ours() {
            return;
        }
        match self.shared.send(Signal::SIGKILL as i32) {
            Ok(()) => self.shared.wait(),
            Err(Errno::ESRCH) => {}
            // This program is another user's by now. A tracer needs no permission; on another thread, the process is left
            // to its tracer's end, which the kernel lets none outlive.
            Err(_) if self.is_traced_here() => self.let_end(),
            Err(_) => {}
        }
    }
}

impl Traced {
    fn is_traced_here(&self) -> bool {
        thread::current().id() == self.thread && self.shared.is_ours()
    }

    /// Has the process end by a signal of its tracer's, which takes its place for one that the process stands at: there
    /// is code nowhere near 0, so it comes to stand at a SIGSEGV.
    fn let_end(&self) {
        let step = || {
            let nowhere = user_regs_struct { rip: 0, orig_rax: u64::MAX, ..self.registers()? };
            self.set(nowhere)?;
            ptrace::cont(self.pid, Signal::SIGKILL)?;
            self.wait()
        };
        // Where it does not even stand, it has ended by now, or its tracing has not begun.
        while !self.gone.get() && step().is_ok() {}
    }
}

/// A guest's process as its one vCPU.
pub(super) struct Process {
    traced: Traced,
    loaded: Arc<Loaded>,
    /// As they were when it stopped.
    registers: user_regs_struct,
    /// As they were when the guest had started up, with the vector registers as the processor stores them.
    kept: Option<(user_regs_struct, Vec<u8>)>,
}

impl Process {
    /// Runs to the next stop that is not for others.
    fn resume(&mut self) -> Result<Signal, End> {
        let gone = |error: Errno| End::Lost(lost("its process", error));
        loop {
            ptrace::cont(self.traced.pid, None).map_err(gone)?;
            match self.traced.wait().map_err(gone)? {
                WaitStatus::Stopped(_, STOP) => {
                    if self.traced.shared.stopped.load(Ordering::Acquire) {
                        return Err(End::Stopped);
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
                // Other signals, and stops that they are for, mean nothing to a guest.
                WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..) => {}
                status => return Err(End::Lost(std::format!("its process: {status:?}"))),
            }
        }
    }

    /// Whether the guest stands before a store to the doorbell. That it has stopped there is enough: the
    /// instruction cannot be carried out.
    fn rings(&self) -> bool {
        let Some((offset, part)) = self.loaded.find(self.registers.rip) else { return false };
        let mut found = [0; code::DOORBELL.len()];
        self.loaded.ram.read(offset, &mut found);
        part.execute && found == code::DOORBELL && self.registers.rdx == DOORBELL_AT
    }

    #[cold]
    fn fault(&self, signal: Signal) -> End {
        let instruction = self.registers.rip;
        let info = ptrace::getsiginfo(self.traced.pid).ok();
        // SAFETY: asked where the signal is a fault, and those have an address.
        let address = info.map(|info| unsafe { info.si_addr() } as u64);
        let kind = info.map_or(0, |info| info.si_code);
        let (cause, address) = match signal {
            Signal::SIGSEGV if (1..=4).contains(&kind) => {
                if let Some(at @ DOORBELL_AT..DOORBELL_END) = address {
                    return End::Protocol(Broken::Access { at });
                }
                (Cause::Exception(14), address)
            }
            Signal::SIGSEGV => (Cause::Exception(13), None),
            Signal::SIGILL => (Cause::Exception(6), None),
            Signal::SIGFPE if kind == FPE_INTDIV => (Cause::Exception(0), None),
            Signal::SIGFPE => (Cause::Exception(19), None),
            Signal::SIGBUS if kind == libc::BUS_ADRALN => (Cause::Exception(17), None),
            Signal::SIGBUS => (Cause::Exception(12), None),
            // `int3` comes from the kernel; what Linux calls a breakpoint is `int1`, a debug exception.
            Signal::SIGTRAP if kind == SI_KERNEL => (Cause::Exception(3), None),
            Signal::SIGTRAP => (Cause::Exception(1), None),
            Signal::SIGSYS => (Cause::SystemCall(self.registers.orig_rax), None),
            other => (Cause::Signal(other as i32), None),
        };
        End::Fault(self.loaded.fault(cause, address, instruction))
    }
}

impl Vcpu for Process {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, End> {
        let gone = |error: Errno| End::Lost(lost("its process", error));
        if !self.traced.shared.is_ours() {
            return Err(End::Lost(FORKED.into()));
        }
        // Else nobody could stop it.
        self.traced.shared.send(0).map_err(|error| match error {
            Errno::EPERM => End::Lost(NO_SIGNALS.into()),
            error => gone(error),
        })?;
        if let Some(Registers { kind, word, transport }) = answer {
            let registers = &mut self.registers;
            (registers.rax, registers.rbx) = (kind, word);
            (registers.r8, registers.r9) = (transport.primary, transport.secondary);
            registers.rip += code::DOORBELL.len() as u64;
            // No system call is to be begun again.
            registers.orig_rax = u64::MAX;
            self.traced.set(*registers).map_err(gone)?;
        }
        let signal = self.resume()?;
        self.registers = self.traced.registers().map_err(gone)?;
        if signal != Signal::SIGSEGV || !self.rings() {
            return Err(self.fault(signal));
        }
        let user_regs_struct { rax, rbx, r8, r9, .. } = self.registers;
        let transport = Transport { primary: r8, secondary: r9 };
        Ok(Registers { kind: rax, word: rbx, transport })
    }

    fn stopper(&self) -> Stopper {
        let shared = self.traced.shared.clone();
        Stopper::new(move || shared.stop())
    }

    fn keep(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        if !self.traced.shared.is_ours() {
            return Err(io::Error::other(FORKED));
        }
        let mut vectors = std::vec![0; VECTORS_MOST];
        let len = self.traced.vectors(libc::PTRACE_GETREGSET, &mut vectors)?;
        vectors.truncate(len);
        vectors.shrink_to_fit();
        self.loaded.keep(cancelled)?;
        self.kept = Some((self.registers, vectors));
        Ok(())
    }

    fn restore(&mut self) -> io::Result<()> {
        if !self.traced.shared.is_ours() {
            return Err(io::Error::other(FORKED));
        }
        let Some((registers, vectors)) = &mut self.kept else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let gone = || io::Error::new(io::ErrorKind::NotFound, "its process is gone");
        if self.traced.gone.get() {
            return Err(gone());
        }
        // The others are set when it goes on. A stop that is still on its way finds nobody who wants it.
        self.registers = *registers;
        self.traced.vectors(libc::PTRACE_SETREGSET, vectors).map_err(|error| match error {
            Errno::ESRCH => gone(),
            error => error.into(),
        })?;
        self.loaded.restore()?;
        self.traced.shared.stopped.store(false, Ordering::Release);
        Ok(())
    }

    fn runs_here(&self) -> bool {
        self.traced.is_traced_here()
    }
}

#[cfg(test)]
mod tests;
