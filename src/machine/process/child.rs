//! The process of a guest: how it is started, stopped, killed and reaped.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{fs::FileExt, net::UnixStream},
    },
    string::{String, ToString},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
    vec::Vec,
};

use nix::{
    cmsg_space,
    errno::Errno,
    libc,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};

use super::{
    super::{MachineError, checkpoint::Run, cpu_time, descriptors, plan::Plan, written::PageMap},
    control::Control,
    gate::{self, ENTRY_POINT, ERROR, FAILED_STEP, FEATURES},
    listener::{Listener, Notification, poll, readable},
    native::Features,
    script::{self, STOP},
    shared::SharedMemory,
    start,
};
use crate::memory::ProcessId;

/// The process of a guest, with a thread for each vCPU. It is killed and reaped when this is dropped, and the kernel
/// kills it when this program ends.
pub(super) struct Child {
    /// A descriptor of the process (pidfd_open(2), `CLONE_PIDFD`). Unlike a process ID, it never comes to mean another process.
    process: OwnedFd,
    /// Its ID. It may mean another process when this one has ended.
    pid: libc::pid_t,
    /// A descriptor of each thread, if there are several.
    threads: Vec<Thread>,
    /// What the scheduler has counted for each thread, if there are several.
    counts: Vec<File>,
    /// This end of the socket. The other end is the only descriptor of the process, and the kernel sends it SIGKILL
    /// when this end is shut down or closed.
    life: UnixStream,
    pub(super) control: Control,
    pub(super) listeners: Vec<Listener>,
    /// Whether this program has killed it.
    killed: AtomicBool,
    /// How the process has ended, once it has been reaped.
    ended: OnceLock<String>,
    /// Tells which pages of the process are its own, if that can be known.
    pub(super) pages: Option<PageMap>,
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

pub(super) fn send(to: &OwnedFd, signal: libc::c_int) -> nix::Result<()> {
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

/// The scheduler's count of a thread's time (proc(5), `/proc/PID/task/TID/schedstat`); `None` if there is none.
fn open_count(process: libc::pid_t, thread: libc::pid_t) -> Option<File> {
    // The IDs mean the same in `/proc` only if that belongs to the PID namespace of this program.
    let here = std::fs::read_link("/proc/self").ok()?;
    if here.to_str()? != std::process::id().to_string() {
        return None;
    }
    let file = File::open(std::format!("/proc/{process}/task/{thread}/schedstat")).ok()?;
    let file = File::from(descriptors::not_standard(file).ok()?);
    // A kernel that counts nothing says 0; this thread has run.
    read_count(&file).is_ok_and(|count| !count.is_zero()).then_some(file)
}

/// The first number of the file: nanoseconds on a processor, as of the last tick of the scheduler.
fn read_count(file: &File) -> io::Result<Duration> {
    let mut text = [0; 64];
    let len = file.read_at(&mut text, 0)?;
    let number = text[..len].split(|byte| !byte.is_ascii_digit()).next();
    let number = number.and_then(|number| core::str::from_utf8(number).ok()?.parse().ok());
    number.map(Duration::from_nanos).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Waits until a process has ended; says how.
pub(super) fn reap(process: &OwnedFd) -> String {
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
        libc::CLD_EXITED if status == start::NOT_EXECUTED => {
            "the guest's process could not execute the program of the gate (execveat), as under valgrind".into()
        }
        libc::CLD_EXITED => std::format!("the guest's process has exited with status {status}"),
        _ => std::format!("the guest's process was killed by signal {status}"),
    }
}

fn refused(error: impl Into<io::Error>) -> MachineError {
    MachineError::system("setting up the guest's process")(error)
}

impl Child {
    /// Starts a process with the guest's memory mapped, and lets its threads run until they wait for their first
    /// command. Returns their traps, in the order of the vCPUs.
    pub(super) fn start(
        plan: &Plan,
        region: &SharedMemory,
        (runs, checkpoint): (&[Run], &File),
        features: Features,
    ) -> Result<(Self, Vec<Notification>), MachineError> {
        let vcpus = plan.vcpus();
        let control = Control::new(vcpus).map_err(refused)?;
        control.set(FEATURES, features.bits);
        control.set(ENTRY_POINT, plan.image.entry());
        (0..vcpus).for_each(|vcpu| control.begin(vcpu));
        let names = script::write(plan, runs, &control);
        let program = plan.gate.get_or_try_init(|| start::program(control.len).map(Box::new));
        let program = program.map_err(MachineError::system("making the program of the gate"))?;
        let (life, other) = UnixStream::pair().map_err(refused)?;
        let [life, other] = [life, other].map(descriptors::not_standard);
        let (life, other) = (UnixStream::from(life.map_err(refused)?), other.map_err(refused)?);
        let files = [&control.file, region.file(), checkpoint].map(File::as_fd);
        let [control_file, region_file, checkpoint] = files;
        let files = [control_file, other.as_fd(), region_file, checkpoint];
        let started = plan.low.begin(program, files, &plan.image_file);
        let (pid, process) = started?;
        drop(other);
        let parent = ProcessId::current();
        let mut this = Self {
            process,
            pid,
            threads: Vec::new(),
            counts: Vec::new(),
            life,
            control,
            listeners: Vec::new(),
            killed: AtomicBool::new(false),
            ended: OnceLock::new(),
            pages: None,
            parent,
        };
        let traps = this.prepare(vcpus);
        let traps = traps.map_err(|error| this.failure(&names).unwrap_or_else(|| refused(error)));
        Ok((this, traps?))
    }

    /// Receives the listeners, and lets each thread finish its script.
    fn prepare(&mut self, vcpus: u32) -> io::Result<Vec<Notification>> {
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
        // Later, the process refuses access.
        let pages = PageMap::of(&this.process);
        let (mut threads, mut counts) = (Vec::new(), Vec::new());
        if vcpus > 1 {
            for (listener, trap) in this.listeners.iter().zip(&waiting) {
                threads.push(Thread::of(this.pid, trap.thread as libc::pid_t)?);
                // Without them, the processor time cannot be measured.
                counts.extend(open_count(this.pid, trap.thread as libc::pid_t));
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
        (self.threads, self.counts, self.pages) = (threads, counts, pages);
        Ok(started)
    }

    /// The processor time that a vCPU has used in this process; `None` if it cannot be measured.
    pub(super) fn cpu_time(&self, vcpu: u32) -> Option<Duration> {
        let read = match self.threads.len() {
            0 => cpu_time::of_process(self.pid),
            threads if threads == self.counts.len() => read_count(self.counts.get(vcpu as usize)?),
            _ => return None,
        };
        match read {
            Ok(time) => Some(time),
            // The process has ended, and uses no more.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)) => {
                Some(Duration::ZERO)
            }
            Err(_) => None,
        }
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
