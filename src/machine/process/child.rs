//! The process of a guest: how it is started, stopped, killed and reaped.

use std::{
    fs::File,
    io::{self, IoSliceMut, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    string::String,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    vec::Vec,
};

use nix::{
    cmsg_space,
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    libc,
    sys::{
        memfd::{MFdFlags, memfd_create},
        resource::{Resource, getrlimit},
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
    },
};

use super::{
    super::{Loaded, MachineError, descriptors, signals},
    control::{Control, Features},
    gate::{self, ENTRY_POINT, ERROR, FAILED_STEP, FEATURES},
    listener::{Listener, Notification, poll, readable},
    script::{self, STOP},
};
use crate::memory::ProcessId;

/// The process of a guest, with a thread for each vCPU. It is killed and reaped when this is dropped, and the kernel
/// kills it when this program ends.
pub(super) struct Child {
    /// A descriptor of the process (pidfd_open(2), `CLONE_PIDFD`). Unlike a process ID, it never comes to mean another process.
    process: OwnedFd,
    /// A descriptor of each thread, if there are several.
    threads: Vec<Thread>,
    /// This end of the socket. The other end is the only descriptor of the process, and the kernel sends it SIGKILL
    /// when this end is shut down or closed.
    life: UnixStream,
    pub(super) control: Control,
    pub(super) listeners: Vec<Listener>,
    /// Whether this program has killed it.
    killed: AtomicBool,
    /// How the process has ended, once it has been reaped.
    ended: OnceLock<String>,
    /// The process that has started it. A forked child, which inherits the descriptors, must not use them.
    parent: ProcessId,
}

/// A thread of the process.
enum Thread {
    /// Its descriptor (pidfd_open(2), `PIDFD_THREAD`), since Linux 6.9.
    Descriptor(OwnedFd),
    /// On older kernels: the IDs of process and thread. They may mean others if the process ends, other code of this
    /// program reaps it, and both IDs are used again, all between two system calls.
    Ids(libc::pid_t, libc::pid_t),
}

/// `PIDFD_THREAD` (pidfd_open(2)).
const PIDFD_THREAD: libc::c_uint = libc::O_EXCL as libc::c_uint;

fn pidfd(id: libc::pid_t, flags: libc::c_uint) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers and accesses no memory of the caller.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, id, flags) })? as RawFd;
    // SAFETY: pidfd_open(2) has just returned this new, open descriptor, so this is its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn send(to: &OwnedFd, signal: libc::c_int) -> nix::Result<()> {
    let none = core::ptr::null::<libc::siginfo_t>();
    // SAFETY: pidfd_send_signal(2) takes an open descriptor, two integers, and a null `info`, so it accesses no memory
    // of the caller.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, to.as_raw_fd(), signal, none, 0) };
    Errno::result(sent).map(drop)
}

impl Thread {
    fn of(process: libc::pid_t, thread: libc::pid_t) -> nix::Result<Self> {
        match pidfd(thread, PIDFD_THREAD) {
            Ok(fd) => Ok(Self::Descriptor(fd)),
            Err(Errno::EINVAL) => Ok(Self::Ids(process, thread)),
            Err(error) => Err(error),
        }
    }

    fn send(&self, signal: libc::c_int) -> nix::Result<()> {
        match self {
            Self::Descriptor(fd) => send(fd, signal),
            Self::Ids(process, thread) => {
                // SAFETY: tgkill(2) takes three integers and accesses no memory of the caller.
                let sent = unsafe { libc::syscall(libc::SYS_tgkill, *process, *thread, signal) };
                Errno::result(sent).map(drop)
            }
        }
    }
}

/// The program of the gate, as a file that nothing can change (memfd_create(2)).
fn program(control_len: u64) -> io::Result<OwnedFd> {
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
    let page = gate::program(control_len as u32);
    signals::change_file(page.len() as u64, || file.write_all(&page))?;
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// What a new process is to execute, and what came of it.
struct Execution {
    program: RawFd,
    descriptors: [RawFd; 3],
    failed: Option<Failed>,
}

/// Why a process does not execute its program.
enum Failed {
    System(Errno),
    /// It is the first process of a PID namespace.
    First,
}

/// The exit status of a process that does not execute its program.
const NOT_EXECUTED: libc::c_int = 126;

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
    for (number, descriptor) in (0..).zip(of.descriptors) {
        // SAFETY: dup2(2) takes two integers. This process has a table of descriptors of its own.
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

/// Starts a process that executes `program`, with these descriptors, none of which is a standard one, as its descriptors
/// 0 to 2, no arguments, and no environment. The program does not have to be reachable in the file system.
///
/// Returns the process's ID, and a descriptor of it (clone(2), `CLONE_PIDFD`): unlike the ID, that means this process
/// even if other code reaps it.
fn begin(
    program: &OwnedFd,
    descriptors: [BorrowedFd<'_>; 3],
) -> Result<(libc::pid_t, OwnedFd), MachineError> {
    /// The stack of the child until it executes the program, in units of its alignment.
    const STACK_LEN: usize = (64 << 10) / size_of::<u128>();
    check_stack_limit().map_err(refused)?;
    let mut execution = Execution {
        program: program.as_raw_fd(),
        descriptors: descriptors.map(|file| file.as_raw_fd()),
        failed: None,
    };
    let mut stack = std::vec![0_u128; STACK_LEN];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
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

/// Waits until a process has ended; says how.
fn reap(process: &OwnedFd) -> String {
    let of = process.as_raw_fd() as libc::id_t;
    // SAFETY: `siginfo_t` consists of integers, for which zeros are valid.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    loop {
        // SAFETY: waitid(2) takes integers, and writes one `siginfo_t`, which outlives the call.
        let waited = unsafe { libc::waitid(libc::P_PIDFD, of, &raw mut info, libc::WEXITED) };
        match Errno::result(waited) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            // Other code of this program has reaped it, or this program ignores SIGCHLD.
            Err(_) => return "the guest's process has ended".into(),
        }
    }
    // SAFETY: waitid(2) has filled in the fields for SIGCHLD.
    let status = unsafe { info.si_status() };
    match info.si_code {
        // Under valgrind, clone(2) does not share this program's memory, so `Execution::failed` is not seen.
        libc::CLD_EXITED if status == NOT_EXECUTED => {
            "the guest's process could not execute the program of the gate (execveat), as under valgrind".into()
        }
        libc::CLD_EXITED => std::format!("the guest's process has exited with status {status}"),
        _ => std::format!("the guest's process was killed by signal {status}"),
    }
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

fn refused(error: impl Into<io::Error>) -> MachineError {
    MachineError::system("setting up the guest's process")(error)
}

impl Child {
    /// Starts a process with the guest's memory mapped, and lets its threads run until they wait for their first
    /// command. Returns their traps, in the order of the vCPUs.
    pub(super) fn start(
        loaded: &Loaded,
        features: Features,
    ) -> Result<(Self, Vec<Notification>), MachineError> {
        let vcpus = loaded.space.stacks.len() as u32;
        let control = Control::new(vcpus).map_err(refused)?;
        control.set(FEATURES, features.bits);
        control.set(ENTRY_POINT, loaded.image.entry());
        (0..vcpus).for_each(|vcpu| control.begin(vcpu));
        let names = script::write(loaded, &control);
        let program =
            program(control.len).map_err(MachineError::system("making the program of the gate"))?;
        let (life, other) = UnixStream::pair().map_err(refused)?;
        let [life, other] = [life, other].map(descriptors::not_standard);
        let (life, other) = (UnixStream::from(life.map_err(refused)?), other.map_err(refused)?);
        let descriptors = [control.file.as_fd(), other.as_fd(), loaded.ram.file().as_fd()];
        let (pid, process) = begin(&program, descriptors)?;
        drop((program, other));
        let parent = ProcessId::current();
        let (threads, listeners, ended) = (Vec::new(), Vec::new(), OnceLock::new());
        let killed = AtomicBool::new(false);
        let mut this = Self { process, threads, life, control, listeners, killed, ended, parent };
        let traps = this.prepare(pid, vcpus);
        let traps = traps.map_err(|error| this.failure(&names).unwrap_or_else(|| refused(error)));
        Ok((this, traps?))
    }

    /// Receives the listeners, and lets each thread finish its script.
    fn prepare(&mut self, pid: libc::pid_t, vcpus: u32) -> io::Result<Vec<Notification>> {
        let mut listeners: Vec<Option<Listener>> = Vec::new();
        listeners.resize_with(vcpus as usize, || None);
        for _ in 0..vcpus {
            let (vcpu, listener) = self.receive_listener()?;
            let slot = listeners.get_mut(vcpu as usize).ok_or(io::ErrorKind::InvalidData)?;
            *slot = Some(Listener::new(listener));
        }
        self.listeners = listeners.into_iter().flatten().collect();
        let this = &*self;
        let ended = || io::Error::other(this.ended());
        let next = |listener: &Listener| listener.receive()?.ok_or_else(ended);
        let waiting = self.listeners.iter().map(next).collect::<io::Result<Vec<_>>>()?;
        let mut threads = Vec::new();
        if vcpus > 1 {
            for (listener, trap) in this.listeners.iter().zip(&waiting) {
                threads.push(Thread::of(pid, trap.thread as libc::pid_t)?);
                // The thread exists, so its ID meant no other one.
                if !listener.is_waiting(trap.id) {
                    return Err(io::Error::other("a thread of the process has ended"));
                }
            }
        }
        // The first thread closes the descriptors, and protects the memory in which the scripts of the others are.
        let mut started = Vec::new();
        for (listener, trap) in this.listeners.iter().zip(waiting) {
            listener.answer(trap.id, 1)?;
            let trap = next(listener)?;
            if trap.arguments[0] != gate::STARTED {
                return Err(io::Error::other("denying system calls (seccomp)"));
            }
            started.push(trap);
        }
        self.threads = threads;
        Ok(started)
    }

    fn receive_listener(&self) -> io::Result<(u32, OwnedFd)> {
        let mut number = [0; size_of::<u32>()];
        let mut data = [IoSliceMut::new(&mut number)];
        let mut space = cmsg_space!(RawFd);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        self.wait_for_message()?;
        let message = loop {
            match recvmsg::<()>(self.life.as_raw_fd(), &mut data, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                // Nothing was sent.
                Err(Errno::EAGAIN) => return Err(io::Error::other(self.ended())),
                message => break message?,
            }
        };
        if message.flags.contains(MsgFlags::MSG_CTRUNC) {
            // There is no room for the descriptor.
            return Err(Errno::EMFILE.into());
        }
        let listener = message.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        });
        let listener = listener.ok_or_else(|| io::Error::other(self.ended()))?;
        // SAFETY: recvmsg(2) has just made this descriptor of the one in the message, so this is its only owner.
        let listener = unsafe { OwnedFd::from_raw_fd(listener) };
        Ok((u32::from_le_bytes(number), descriptors::not_standard(listener)?))
    }

    /// Waits until there is a message of the process, or it has ended. The end of the socket alone would not do: a
    /// child that another thread has forked meanwhile may hold the other end open.
    fn wait_for_message(&self) -> io::Result<()> {
        let mut either = [readable(&self.life), readable(&self.process)];
        poll(&mut either, -1)?;
        Ok(())
    }

    /// The step that has failed.
    fn failure(&self, names: &script::Names) -> Option<MachineError> {
        let (error, step) = (self.control.get(ERROR), self.control.get(FAILED_STEP));
        let what = names.find(step)?;
        let error = io::Error::from_raw_os_error(error as i32);
        if what == script::LISTENING && error.raw_os_error() == Some(libc::EBUSY) {
            let error = io::Error::other(
                "this program runs under a filter of system calls that has a listener itself, and the kernel allows one (EBUSY)",
            );
            return Some(MachineError::System { what, error });
        }
        Some(MachineError::System { what, error })
    }

    /// The process's ID.
    #[cfg(test)]
    pub(super) fn pid(&self) -> nix::unistd::Pid {
        let path = std::format!("/proc/self/fdinfo/{}", self.process.as_raw_fd());
        let info = std::fs::read_to_string(path).expect("a descriptor");
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).expect("a process");
        nix::unistd::Pid::from_raw(pid.trim().parse().expect("a number"))
    }

    /// Whether this program has started the process.
    pub(super) fn is_ours(&self) -> bool {
        self.parent == ProcessId::current()
    }

    /// Interrupts a vCPU: it traps soon, or the process ends.
    pub(super) fn interrupt(&self, vcpu: u32) {
        if !self.is_ours() {
            return;
        }
        let sent = match self.threads.get(vcpu as usize) {
            Some(thread) => send(&self.process, 0).and_then(|()| thread.send(STOP)),
            None => send(&self.process, STOP),
        };
        match sent {
            // Another program may have suspended the process (SIGSTOP). If the process is gone, there is nothing to do.
            Ok(()) => drop(send(&self.process, libc::SIGCONT)),
            Err(Errno::ESRCH) => {}
            // After a change of user, this program may not send the signal. The kernel sends this one.
            Err(_) => self.kill(),
        }
    }

    fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        if send(&self.process, libc::SIGKILL).is_err() {
            // If the other end is closed, the process has ended.
            let _ = self.life.shutdown(std::net::Shutdown::Both);
        }
    }

    /// How the process has ended. The caller has killed it, or knows that it ends: this waits for it.
    pub(super) fn ended(&self) -> &str {
        self.ended.get_or_init(|| reap(&self.process))
    }

    /// Kills the process, unless it has ended.
    pub(super) fn end(&self) {
        if self.ended.get().is_none() {
            self.kill();
            self.ended();
        }
    }

    /// Whether the process has ended, or has been killed; then this waits until it has ended.
    pub(super) fn has_ended(&self) -> io::Result<bool> {
        let ended = self.ended.get().is_some() || self.killed.load(Ordering::Acquire);
        let mut process = [readable(&self.process)];
        if !ended && poll(&mut process, 0)? == 0 {
            return Ok(false);
        }
        self.ended();
        Ok(true)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.is_ours() {
            self.end();
        }
    }
}
