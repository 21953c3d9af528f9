//! A process as a vCPU: the child is traced, stores to its doorbell stop it as a VM exit would, and its
//! registers are read and written while it stands.

use std::{
    ffi::{c_long, c_void},
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::{fs::FileExt, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
    ptr::{self, null_mut},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
};

use vmffi::{
    RegionLayout,
    abi::Registers,
    host::{Fault, FaultCause, GuestExit, ProtocolViolation, Vcpu},
};

#[cfg_attr(target_arch = "aarch64", path = "native/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "native/riscv64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "native/x86_64.rs")]
mod native;

pub use native::ENDS;

/// Where the guest has its region, and where it traps. `declarations.h` has the same numbers.
pub const GUESTS_REGION: usize = 0x2000_0000_0000;
const DOORBELL: u64 = 0x1000_0000_0040;

/// The set of registers with the general ones (elf.h).
const NT_PRSTATUS: usize = 1;

/// A file in memory.
fn memory_file(name: &std::ffi::CStr) -> File {
    // SAFETY: a new file; the name ends with a 0.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the descriptor is new, and nobody else has it.
    unsafe { File::from_raw_fd(fd) }
}

/// The region as the host has it: a mapping of a file that the guest maps too.
pub struct Region {
    pub base: *mut u8,
    pub len: usize,
    file: File,
}

// SAFETY: memory of the process, which any thread may use.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    pub fn new(layout: &RegionLayout) -> Self {
        let file = memory_file(c"region");
        file.set_len(layout.len()).expect("memory");
        let (len, both) = (layout.len() as usize, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new mapping, at a place of the kernel's choice.
        let base =
            unsafe { libc::mmap(null_mut(), len, both, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(base, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        let base = base.cast::<u8>();
        // Marks for every first loan, to begin with; they mean nothing.
        // SAFETY: the mapping has `len` bytes, and nobody else has it yet.
        unsafe { base.write_bytes(1, len) };
        Self { base, len, file }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; whoever uses it keeps this alive.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// What a guest prints.
pub struct Output(File);

impl Output {
    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        let mut text = vec![0; self.0.metadata().expect("a file").len() as usize];
        self.0.read_exact_at(&mut text, 0).expect("a file");
        String::from_utf8(text).expect("text").lines().map(str::to_owned).collect()
    }
}

/// One traced child. Tracing belongs to one thread: the one that starts the child drives it.
pub struct Process {
    child: Child,
    tracer: ThreadId,
    runs: Arc<AtomicUsize>,
}

/// One request to the kernel about the child, which must stand.
///
/// # Safety
///
/// `data` is what the request wants.
unsafe fn trace(request: libc::c_uint, pid: i32, data: *mut c_void) -> io::Result<c_long> {
    // SAFETY: the child is another process; the kernel checks all but `data`, which the caller does.
    match unsafe { libc::ptrace(request, pid, null_mut::<c_void>(), data) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

impl Process {
    /// Starts `program`, and stops it before its first instruction. `runs` counts how often it is
    /// resumed.
    pub fn start(
        program: &Path,
        region: &Region,
        arguments: &[&str],
        runs: Arc<AtomicUsize>,
    ) -> io::Result<(Self, Output)> {
        let out = memory_file(c"output");
        let descriptor = region.file.as_raw_fd();
        let mut command = Command::new(program);
        command.arg(descriptor.to_string()).args(arguments);
        command.stdin(Stdio::null()).stdout(out.try_clone()?);
        let before = move || {
            // SAFETY: the descriptor is open; the child alone keeps it beyond `exec`.
            if unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the request has no data.
            unsafe { trace(libc::PTRACE_TRACEME, 0, null_mut()) }.map(drop)
        };
        // SAFETY: the closure makes two system calls and allocates nothing.
        let child = unsafe { command.pre_exec(before) }.spawn()?;
        let process = Self { child, tracer: thread::current().id(), runs };
        let stop = process.wait().map_err(|_| io::Error::other("the guest did not start"))?;
        assert_eq!(stop, libc::SIGTRAP, "stopped by `exec`");
        let options = libc::PTRACE_O_EXITKILL as usize as *mut c_void;
        // SAFETY: the data are flags.
        unsafe { trace(libc::PTRACE_SETOPTIONS, process.pid(), options) }?;
        Ok((process, Output(out)))
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits until the child stands, and says by which signal.
    fn wait(&self) -> Result<i32, GuestExit> {
        let mut status = 0;
        // SAFETY: the child is ours, and `status` is a local variable.
        let pid = unsafe { libc::waitpid(self.pid(), &mut status, 0) };
        if pid == self.pid() && libc::WIFSTOPPED(status) {
            Ok(libc::WSTOPSIG(status))
        } else {
            Err(GuestExit::Lost("it does not stop".into()))
        }
    }

    /// Reads or writes the general registers, by this request.
    fn general(
        &self,
        request: libc::c_uint,
        registers: &mut libc::user_regs_struct,
    ) -> io::Result<()> {
        let mut all = libc::iovec {
            iov_base: ptr::from_mut(registers).cast(),
            iov_len: size_of::<libc::user_regs_struct>(),
        };
        let general = NT_PRSTATUS as *mut c_void;
        // SAFETY: the data are registers, of which the kernel reads or writes as many bytes as the length says.
        match unsafe { libc::ptrace(request, self.pid(), general, &raw mut all) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    fn registers(&self) -> io::Result<libc::user_regs_struct> {
        // SAFETY: integers, all of them.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        self.general(libc::PTRACE_GETREGSET, &mut registers)?;
        Ok(registers)
    }

    /// Puts the answer where the guest takes it, behind the trap (ABI, "Traps").
    fn complete(&self, answer: Registers) -> io::Result<()> {
        let mut registers = self.registers()?;
        native::complete(self, &mut registers, answer)?;
        self.general(libc::PTRACE_SETREGSET, &mut registers)
    }

    /// What the child was stopped for: a trap, or something else.
    fn trap(&self) -> io::Result<Result<Registers, GuestExit>> {
        // SAFETY: integers and unions of them.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the data are a signal's, to be written.
        unsafe { trace(libc::PTRACE_GETSIGINFO, self.pid(), (&raw mut info).cast()) }?;
        // SAFETY: asked only after SIGSEGV, which has an address.
        let address = unsafe { info.si_addr() } as u64;
        let registers = self.registers()?;
        let at = native::instruction(&registers);
        if address / 4096 != DOORBELL / 4096 {
            return Ok(Err(GuestExit::Fault(Fault::new(FaultCause::Exception(14), at))));
        }
        // SAFETY: the request has no data; the address is the child's.
        let found =
            unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.pid(), at as *mut c_void, 0) };
        let found = found.to_le_bytes();
        let rings = address == DOORBELL && found.starts_with(&native::code::DOORBELL);
        let words = if rings { native::words(self, &registers) } else { None };
        // Anything else is not the agreed access.
        Ok(words.ok_or(GuestExit::Protocol(ProtocolViolation::Access { at: address })))
    }
}

impl Vcpu for Process {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        assert_eq!(self.tracer, thread::current().id(), "tracing belongs to one thread");
        let gone = |error: io::Error| GuestExit::Lost(error.to_string().into());
        if let Some(answer) = answer {
            self.complete(answer).map_err(gone)?;
        }
        self.runs.fetch_add(1, Ordering::Relaxed);
        // The signal that stopped it is ours, and not passed on.
        // SAFETY: the data are a signal's number.
        unsafe { trace(libc::PTRACE_CONT, self.pid(), null_mut()) }.map_err(gone)?;
        match self.wait()? {
            libc::SIGSEGV => self.trap().map_err(gone)?,
            signal => Err(GuestExit::Fault(Fault::new(FaultCause::Signal(signal), 0))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended before, and then there is nobody to kill or to wait for.
        let _ = self.child.kill();
        // SAFETY: the child is ours.
        unsafe { libc::waitpid(self.pid(), null_mut(), 0) };
    }
}
