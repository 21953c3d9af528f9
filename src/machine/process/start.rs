//! How a process is started: by executing the program of the gate, with no more descriptors than it needs.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        memfd::{MFdFlags, memfd_create},
        resource::{Resource, getrlimit},
    },
};

use super::{
    super::{MachineError, descriptors, memfd, native::ELF_MACHINE, signals},
    child::{reap, send},
    gate::{CALL, CONTROL_LEN_AT, GATE_AT, GATE_LEN, page_name},
    native,
    script::DESCRIPTORS,
};
use crate::memory::ProcessId;

/// Descriptors with low numbers, which stand for those of one process while it is started.
///
/// A new process copies the descriptors up to the greatest number that it needs. Those of a machine have great numbers if
/// the program has many machines.
pub(in super::super) struct LowDescriptors {
    files: Mutex<Option<[OwnedFd; LOW]>>,
    /// The process that has made them. A forked child must not take the lock, which a thread of its parent may have taken.
    process: ProcessId,
}

// A process gets its descriptors one after the other, so none that is still needed may have such a number.
const _: () = assert!(DESCRIPTORS <= descriptors::FIRST as usize);

/// How many files of a machine have descriptors of their own.
const LOW: usize = 4;

/// A program with descriptors of greater numbers than this has many of them. The kernel copies fewer in no time, and valgrind
/// does not know how to start a process that does not have copies of all.
const FEW: RawFd = 256;

impl LowDescriptors {
    pub(in super::super) fn new() -> Self {
        Self { files: Mutex::new(None), process: ProcessId::current() }
    }

    /// Starts a process by [`begin`], with these files of its machine, and the image, which all machines share, as its first
    /// descriptors.
    pub(super) fn begin(
        &self,
        program: &OwnedFd,
        files: [BorrowedFd<'_>; LOW],
        image: &File,
    ) -> Result<(libc::pid_t, OwnedFd), MachineError> {
        let image_file = image.as_fd();
        let start = |[control, socket, region, checkpoint]: [BorrowedFd<'_>; LOW], shares| {
            begin(program, [control, socket, region, image_file, checkpoint], shares)
        };
        if files.iter().all(|file| file.as_raw_fd() <= FEW) {
            return start(files, false);
        }
        let Some(mut low) = self.take(image) else { return start(files, true) };
        let Some(low) = &mut *low else { return start(files, true) };
        let replace = |with: [BorrowedFd<'_>; LOW], low: &mut [OwnedFd; LOW]| {
            low.iter().zip(with).try_for_each(|(low, with)| replace(low, with))
        };
        let started = match replace(files, low) {
            Ok(()) => start(low.each_ref().map(|low| low.as_fd()), true),
            Err(_) => start(files, true),
        };
        // They must not keep a machine's files open. This does not fail, since the numbers are in use.
        let _ = replace([image_file; LOW], low);
        started
    }

    fn take(&self, image: &File) -> Option<MutexGuard<'_, Option<[OwnedFd; LOW]>>> {
        if self.process != ProcessId::current() {
            return None;
        }
        // Nothing panics while it is locked.
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.is_none() {
            let new = || descriptors::not_standard(image.try_clone()?);
            *files = Some([new().ok()?, new().ok()?, new().ok()?, new().ok()?]);
        }
        Some(files)
    }
}

/// Makes a descriptor mean another file.
fn replace(low: &OwnedFd, with: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: dup3(2) takes three integers. The descriptor that it replaces is owned by the caller.
    let done = unsafe { libc::dup3(with.as_raw_fd(), low.as_raw_fd(), libc::O_CLOEXEC) };
    Errno::result(done).map(drop)
}

/// The program of the gate, as a file that nothing can change (memfd_create(2)).
pub(super) fn program(control_len: u64) -> io::Result<OwnedFd> {
    /// `MFD_EXEC`, since Linux 6.3: the file may be executed although the sysctl `vm.memfd_noexec` is 1.
    const MFD_EXEC: libc::c_uint = 0x10;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let made = match memfd_create(c"vmffi-gate", flags | MFdFlags::from_bits_retain(MFD_EXEC)) {
        Err(Errno::EINVAL) => memfd_create(c"vmffi-gate", flags),
        Err(Errno::EACCES) => {
            return Err(io::Error::other(
                "the sysctl vm.memfd_noexec is 2, so no program can be executed from memory: set it to 0 or 1",
            ));
        }
        made => made,
    };
    let mut file = File::from(descriptors::not_standard(made?)?);
    let page = page(control_len as u32);
    signals::change_file(page.len() as u64, || file.write_all(&page))?;
    memfd::seal(&file)?;
    Ok(file.into())
}

unsafe extern "C" {
    #[link_name = page_name!()]
    static PAGE: [u8; GATE_LEN];
}

/// The page of the gate, for a machine whose control memory has this length.
pub(super) fn page(control_len: u32) -> [u8; GATE_LEN] {
    // SAFETY: the assembly of `arch` defines `GATE_LEN` bytes at this symbol, in memory that nothing writes.
    let mut page = unsafe { PAGE };
    page[..CALL as usize].fill(0);
    let mut put = |at: usize, bytes: &[u8]| page[at..][..bytes.len()].copy_from_slice(bytes);
    // The ELF header: ELF64, little-endian; ET_EXEC; two program headers, no section headers.
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0]);
    put(18, &ELF_MACHINE.to_le_bytes());
    put(20, &[1]);
    for (at, word) in [(24, native::PLACES.entry), (32, 64)] {
        put(at, &word.to_le_bytes());
    }
    put(52, &[64, 0, 56, 0, 2]);
    // PT_LOAD, PF_R | PF_X: the page.
    let len = GATE_LEN as u64;
    for (at, word) in (64..).step_by(8).zip([1 | 5 << 32, 0, GATE_AT, GATE_AT, len, len, len]) {
        put(at, &word.to_le_bytes());
    }
    // PT_GNU_STACK, PF_R | PF_W. Without it, Linux before 5.8 makes all readable memory executable.
    put(120, &(0x6474_e551_u64 | 6 << 32).to_le_bytes());
    put(120 + 48, &[16]);
    put(CONTROL_LEN_AT, &control_len.to_le_bytes());
    page
}

/// What a new process is to execute, and what came of it.
struct Execution {
    program: RawFd,
    descriptors: [RawFd; DESCRIPTORS],
    /// The greatest of these numbers, if the process shares the program's table of descriptors at first.
    last: Option<RawFd>,
    failed: Option<Failed>,
}

/// Why a process does not execute its program.
enum Failed {
    /// It could not get a table of descriptors of its own.
    Descriptors(Errno),
    System(Errno),
    /// It is the first process of a PID namespace.
    First,
}

/// The exit status of a process that does not execute its program.
pub(super) const NOT_EXECUTED: libc::c_int = 126;

/// Runs in the new process: it makes only system calls, and changes nothing but `failed` of the [`Execution`].
extern "C" fn execute(of: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `begin` passes a pointer to an `Execution`, and its thread waits while this runs.
    let of = unsafe { &mut *of.cast::<Execution>() };
    // The kernel does not deliver SIGKILL to such a process for a closed socket (`Script::end_with_host`), and when it
    // ends, no other process can be made in the namespace.
    // SAFETY: getpid(2) takes no argument.
    if unsafe { libc::syscall(libc::SYS_getpid) } == 1 {
        of.failed = Some(Failed::First);
        return NOT_EXECUTED;
    }
    if let Some(last) = of.last {
        let (first, all, flag) = (last + 1, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE);
        // SAFETY: close_range(2) takes three integers. With this flag, it changes a table of descriptors of this process's
        // own, which has none behind `last`.
        if unsafe { libc::syscall(libc::SYS_close_range, first, all, flag) } < 0 {
            of.failed = Some(Failed::Descriptors(Errno::last()));
            return NOT_EXECUTED;
        }
    }
    for (number, descriptor) in (0..).zip(of.descriptors) {
        // SAFETY: dup2(2) takes two integers. This process has a table of descriptors of its own: from the beginning
        // without `last`, and from the system call above with it.
        if unsafe { libc::dup2(descriptor, number) } < 0 {
            of.failed = Some(Failed::System(Errno::last()));
            return NOT_EXECUTED;
        }
    }
    let none: [*const libc::c_char; 1] = [core::ptr::null()];
    // SAFETY: the path is an empty string with its terminator, and both arrays end with a null pointer.
    unsafe {
        let (path, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
        let (arguments, environment) = (none.as_ptr(), none.as_ptr());
        libc::syscall(libc::SYS_execveat, of.program, path, arguments, environment, flags);
    }
    of.failed = Some(Failed::System(Errno::last()));
    NOT_EXECUTED
}

/// Starts a process that executes `program`, with these descriptors as its first ones, no arguments, and no environment.
/// None of them has a number below [`DESCRIPTORS`]. The program does not have to be reachable in the file system.
///
/// With `shares_descriptors`, the kernel copies the program's descriptors only up to the greatest of these numbers.
///
/// Returns the process's ID, and a descriptor of it (clone(2), `CLONE_PIDFD`): unlike the ID, that means this process
/// even if other code reaps it.
fn begin(
    program: &OwnedFd,
    descriptors: [BorrowedFd<'_>; DESCRIPTORS],
    shares_descriptors: bool,
) -> Result<(libc::pid_t, OwnedFd), MachineError> {
    /// The stack of the child until it executes the program, in units of its alignment.
    const STACK_LEN: usize = (64 << 10) / size_of::<u128>();
    check_stack_limit().map_err(MachineError::system("setting up the guest's process"))?;
    let (program, descriptors) = (program.as_raw_fd(), descriptors.map(|file| file.as_raw_fd()));
    let last = descriptors.into_iter().max().unwrap_or(0).max(program);
    let last = shares_descriptors.then_some(last);
    let mut execution = Execution { program, descriptors, last, failed: None };
    let mut stack = std::vec![0_u128; STACK_LEN];
    // With `last`, the child shares the table of descriptors until it has one of its own.
    let shares = if last.is_some() { libc::CLONE_FILES } else { 0 };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD | shares;
    let mut process: RawFd = -1;
    // The child shares this program's memory, so no signal handler may run in it.
    let cloned = signals::with_all_blocked(|| {
        let (end, of) = (stack.as_mut_ptr_range().end.cast(), (&raw mut execution).cast());
        // SAFETY: the child runs `execute` on a stack of its own, whose end is aligned to 16 bytes, while this thread
        // waits until it executes another program or exits (`CLONE_VFORK`). The kernel writes one descriptor.
        let cloned = unsafe { libc::clone(execute, end, flags, of, &raw mut process) };
        Ok(Errno::result(cloned)?)
    });
    let pid = cloned.map_err(MachineError::system("making the guest's process (clone)"))?;
    // SAFETY: clone(2) has just made this descriptor, so this is its only owner.
    let process = unsafe { OwnedFd::from_raw_fd(process) };
    let error = match execution.failed {
        None => match process.try_clone() {
            // The standard library makes no standard descriptor either.
            Ok(process) => return Ok((pid, process)),
            Err(error) => {
                let _ = send(&process, libc::SIGKILL);
                error
            }
        },
        Some(Failed::Descriptors(error)) => {
            reap(&process);
            let what = "closing descriptors (close_range, of Linux 5.9)";
            return Err(MachineError::system(what)(error));
        }
        Some(Failed::System(error)) => error.into(),
        Some(Failed::First) => io::Error::other(
            "this program has unshared its PID namespace, and the guest's process would be the first there, \
             which signals do not end: build machines in a forked child",
        ),
    };
    // The child has exited, or has been killed.
    reap(&process);
    Err(MachineError::system("executing the program of the gate (execveat)")(error))
}

/// Fails if RLIMIT_STACK may be too small for executing a program: whether the kernel then kills the process depends on
/// the random address of its stack.
fn check_stack_limit() -> io::Result<()> {
    /// The kernel takes less: it moves the stack pointer down by up to 8 KiB at random, and writes less than a page.
    const LEAST: u64 = 64 << 10;
    let (limit, _) = getrlimit(Resource::RLIMIT_STACK)?;
    if limit < LEAST {
        return Err(io::Error::other(std::format!(
            "RLIMIT_STACK is {limit} bytes, but a process needs {LEAST}: raise the limit"
        )));
    }
    Ok(())
}
