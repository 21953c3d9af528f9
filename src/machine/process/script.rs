//! The scripts of a process: the system calls by which the gate prepares it, thread by thread.

use core::mem::offset_of;
use std::vec::Vec;

use nix::libc::{self, c_int, c_long, sock_filter};

use super::{
    super::{
        address_space::MAX_PRIVATE_LEN,
        checkpoint::{MAX_RUNS, Run, Source, sources},
        plan::Plan,
        signals,
    },
    control::Control,
    filter,
    gate::{
        BLOCKED, CHECKPOINT_AT, CONTROL_AT, GATE_AT, GATE_LEN, IMAGE_AT, MAY_FAIL, ROOT,
        SCRATCH_AT, SCRIPT, SIGNAL_STACK, SLOT_LEN, Step, TRAP_CALL,
    },
    listener, native,
};

/// The signal that stops a vCPU.
pub(super) const STOP: c_int = libc::SIGUSR1;
/// The signals that reach the handler: those of exceptions, of denied system calls, and [`STOP`]. The guest's threads
/// block all others, so these have no effect, except for SIGKILL and SIGSTOP.
const HANDLED: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS, STOP];
/// The descriptors with which the process begins: the control memory, its end of the socket, the region, the image, and
/// the checkpoint, or an empty file that becomes one.
const CONTROL_FILE: u64 = 0;
const SOCKET: u64 = 1;
const REGION_FILE: u64 = 2;
const IMAGE_FILE: u64 = 3;
const CHECKPOINT_FILE: u64 = 4;
/// How many there are.
pub(super) const DESCRIPTORS: usize = 5;
/// No descriptor: -1.
const NO_FILE: u64 = u64::MAX;

/// Where in a slot the script ends, and what its steps refer to begins.
const DATA: u64 = 0x7000;
const _: () = {
    // Steps besides those for the parts of the guest's memory and for further threads: an upper bound, which `add` holds.
    const OTHER_STEPS: u64 = 64;
    // A run of the checkpoint divides a part into three.
    let parts = (super::super::image::MAX_SEGMENTS
        + super::super::address_space::MAX_VCPUS as usize
        + 2 * MAX_RUNS
        + 3) as u64;
    let threads = super::super::address_space::MAX_VCPUS as u64;
    assert!((parts + threads + OTHER_STEPS) * size_of::<Step>() as u64 <= DATA - SCRIPT);
};

/// A script of one thread, in the control memory.
struct Script<'c> {
    control: &'c Control,
    vcpu: u32,
    /// What each step does, for errors.
    names: Vec<&'static str>,
    /// The offset of free space for data in the control memory.
    data: u64,
}

/// What the steps of all scripts do, thread by thread.
pub(super) struct Names(Vec<Vec<&'static str>>);

impl Names {
    /// What the step at an address does.
    pub(super) fn find(&self, address: u64) -> Option<&'static str> {
        let within = address.checked_sub(CONTROL_AT + Control::slot(0))?;
        let step = (within % SLOT_LEN).checked_sub(SCRIPT)? / size_of::<Step>() as u64;
        self.0.get((within / SLOT_LEN) as usize)?.get(step as usize).copied()
    }
}

/// Writes the scripts of all threads.
pub(super) fn write(plan: &Plan, runs: &[Run], control: &Control) -> Names {
    control.write(ROOT, b"/\0");
    control.set(BLOCKED, HANDLED.iter().fold(!0, |set, signal| set & !signals::set(*signal)));
    let vcpus = plan.vcpus();
    let mut names = std::vec![first(plan, runs, control)];
    for vcpu in 1..vcpus {
        let mut script = Script::new(control, vcpu);
        script.set_signal_stack();
        script.listen();
        script.confine();
        names.push(script.end());
    }
    Names(names)
}

/// The script of the first thread, which prepares the process.
fn first(plan: &Plan, runs: &[Run], control: &Control) -> Vec<&'static str> {
    let vcpus = plan.vcpus();
    let mut script = Script::new(control, 0);
    script.end_with_host();
    script.step("leaving the process group (setpgid)", libc::SYS_setpgid, []);
    let root = CONTROL_AT + ROOT;
    script.step("changing the directory to / (chdir)", libc::SYS_chdir, [root]);
    let all = u64::from(u32::MAX);
    script.step(
        "closing descriptors (close_range, of Linux 5.9)",
        libc::SYS_close_range,
        [DESCRIPTORS as u64, all],
    );
    // Nothing stays mapped but the gate and the control memory, whose file also holds the scratch memory. The last range
    // holds the initial stack and the vDSO, which some kernels do not let a process unmap (Linux,
    // `CONFIG_MSEAL_SYSTEM_MAPPINGS`): there they stay. They hold nothing of the host. It ends at the first of these ends that
    // the kernel accepts; those behind it change nothing more.
    let unmapping = "unmapping memory (munmap)";
    script.step(unmapping, libc::SYS_munmap, [0, GATE_AT]);
    let behind_gate = GATE_AT + GATE_LEN as u64;
    script.step(unmapping, libc::SYS_munmap, [behind_gate, CONTROL_AT - behind_gate]);
    let behind_control = CONTROL_AT + control.len;
    for end in native::ENDS {
        let rest = [behind_control, end - behind_control];
        script.step(unmapping, libc::SYS_munmap | MAY_FAIL, rest);
    }
    script.map_memory(plan, runs);
    let (read, write) = (libc::PROT_READ as u64, libc::PROT_WRITE as u64);
    let shared = (libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE) as u64;
    script.step(
        "mapping the scratch memory (mmap)",
        libc::SYS_mmap,
        [SCRATCH_AT, control.scratch_len, read | write, shared, CONTROL_FILE, control.len],
    );
    // No handler returns.
    let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART) as u64;
    let action = script.put(&native::signal_action(flags));
    for signal in HANDLED {
        let arguments = [signal as u64, action, 0, 8];
        script.step("setting a signal handler (rt_sigaction)", libc::SYS_rt_sigaction, arguments);
    }
    let arguments = [libc::SIG_SETMASK as u64, CONTROL_AT + BLOCKED, 0, 8];
    script.step("setting the signal mask (rt_sigprocmask)", libc::SYS_rt_sigprocmask, arguments);
    script.set_signal_stack();
    let none = script.put(&[0, 0]);
    let arguments = [0, u64::from(libc::RLIMIT_CORE), none];
    script.step("forbidding core dumps (prlimit64)", libc::SYS_prlimit64, arguments);
    // A huge page would become the guest's own as a whole when one byte is written.
    let small_pages = [libc::PR_SET_THP_DISABLE as u64, 1];
    script.step("using small pages (prctl)", libc::SYS_prctl | MAY_FAIL, small_pages);
    for (name, number, arguments) in native::OPTIONAL_STEPS {
        script.step(name, number | MAY_FAIL, arguments);
    }
    let no_new_privileges = [libc::PR_SET_NO_NEW_PRIVS as u64, 1];
    script.step("giving up privileges (prctl)", libc::SYS_prctl, no_new_privileges);
    let thread = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    for vcpu in 1..vcpus {
        let begin = CONTROL_AT + Control::slot(vcpu) + SCRIPT;
        let arguments = [thread as u64, 0, 0, 0, 0, begin];
        script.step("making a thread for a vCPU (clone)", libc::SYS_clone, arguments);
    }
    script.listen();
    // The socket stays open: when the host's end closes, the kernel kills the process (`Script::end_with_host`).
    for (from, to) in [(REGION_FILE, all), (CONTROL_FILE, CONTROL_FILE)] {
        script.step("closing descriptors (close_range)", libc::SYS_close_range, [from, to]);
    }
    // No core dumps, and no access by /proc or a debugger for other processes, except privileged ones.
    let not_dumpable = [libc::PR_SET_DUMPABLE as u64, 0];
    script.step("refusing debuggers (prctl)", libc::SYS_prctl, not_dumpable);
    let arguments = [CONTROL_AT, control.len, read];
    script.step("protecting the control memory (mprotect)", libc::SYS_mprotect, arguments);
    script.confine();
    script.end()
}

impl<'c> Script<'c> {
    fn new(control: &'c Control, vcpu: u32) -> Self {
        Self { control, vcpu, names: Vec::new(), data: Control::slot(vcpu) + DATA }
    }

    /// The address of a step in the process.
    fn step_at(&self, index: usize) -> u64 {
        CONTROL_AT + Control::slot(self.vcpu) + SCRIPT + (index * size_of::<Step>()) as u64
    }

    fn add(&mut self, name: &'static str, step: Step) {
        let at = self.step_at(self.names.len()) - CONTROL_AT;
        assert!(at < Control::slot(self.vcpu) + DATA, "the script is too long");
        let Step { number, arguments, store } = step;
        let words = [number as u64].into_iter().chain(arguments).chain([store]);
        for (at, word) in (at..).step_by(8).zip(words) {
            self.control.set(at, word);
        }
        self.names.push(name);
    }

    /// Adds a system call whose further arguments are 0.
    fn step<const N: usize>(&mut self, name: &'static str, number: c_long, given: [u64; N]) {
        let mut arguments = [0; 6];
        arguments[..N].copy_from_slice(&given);
        self.add(name, Step { number, arguments, store: 0 });
    }

    /// Maps the guest's memory: the region shared with the host, all else by copy on write, with these runs from the checkpoint.
    fn map_memory(&mut self, plan: &Plan, runs: &[Run]) {
        // The image and the checkpoint do not meet where the process can read them.
        const { assert!(MAX_PRIVATE_LEN <= CHECKPOINT_AT - IMAGE_AT) }
        let space = &plan.space;
        for part in &space.parts {
            let mut protection = libc::PROT_READ;
            if part.write {
                protection |= libc::PROT_WRITE;
            }
            if part.execute {
                protection |= libc::PROT_EXEC;
            }
            if let Some(offset) = part.offset.checked_sub(space.region) {
                let file = (REGION_FILE, libc::MAP_SHARED);
                self.map(part.address, part.len, protection, file, offset);
                continue;
            }
            let range = part.offset..part.offset + part.len;
            for (source, range) in sources(runs, space.image_len, range) {
                let own = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
                let (file, offset) = match source {
                    Source::Image => ((IMAGE_FILE, own), range.start),
                    Source::Checkpoint(at) => ((CHECKPOINT_FILE, own), at),
                    Source::Zeros => ((NO_FILE, own | libc::MAP_ANONYMOUS), 0),
                };
                let address = part.address + (range.start - part.offset);
                self.map(address, range.end - range.start, protection, file, offset);
            }
        }
        for (address, len, file) in [
            (IMAGE_AT, space.image_len, IMAGE_FILE),
            (CHECKPOINT_AT, space.region, CHECKPOINT_FILE),
        ] {
            self.map(address, len, libc::PROT_READ, (file, libc::MAP_PRIVATE), 0);
        }
    }

    fn map(
        &mut self,
        address: u64,
        len: u64,
        protection: c_int,
        (file, kind): (u64, c_int),
        offset: u64,
    ) {
        let kind = (kind | libc::MAP_FIXED_NOREPLACE) as u64;
        let arguments = [address, len, protection as u64, kind, file, offset];
        self.step("mapping the guest's memory (mmap)", libc::SYS_mmap, arguments);
    }

    /// Writes what a step refers to; returns its address in the process.
    fn put(&mut self, words: &[u64]) -> u64 {
        let at = self.data;
        let end = Control::slot(self.vcpu) + SIGNAL_STACK;
        assert!(at + size_of_val(words) as u64 <= end, "the script's data are too long");
        for word in words {
            self.control.set(self.data, *word);
            self.data += 8;
        }
        CONTROL_AT + at
    }

    /// Writes a `struct sock_fprog`.
    fn put_filter(&mut self, filter: &[sock_filter]) -> u64 {
        let word = |sock_filter { code, jt, jf, k }: &sock_filter| {
            u64::from(*code) | u64::from(*jt) << 16 | u64::from(*jf) << 24 | u64::from(*k) << 32
        };
        let words: Vec<u64> = filter.iter().map(word).collect();
        let at = self.put(&words);
        self.put(&[words.len() as u64, at])
    }

    /// Has the kernel send SIGKILL to the process when the host's end of the socket closes (fcntl(2), `O_ASYNC`). The
    /// process does that itself, before it sends anything: if the host ends before, sending fails, and if it ends later,
    /// the signal comes.
    fn end_with_host(&mut self) {
        const NAME: &str = "ending with the host (fcntl)";
        /// Sets the signal that `O_ASYNC` sends.
        const F_SETSIG: u64 = 10;
        let (signal, flags) = (libc::SIGKILL as u64, libc::O_ASYNC as u64);
        self.step(NAME, libc::SYS_fcntl, [SOCKET, F_SETSIG, signal]);
        // The next step's third argument is the process's ID.
        let next = self.names.len() + 1;
        let store =
            self.step_at(next) + (offset_of!(Step, arguments) + 2 * size_of::<u64>()) as u64;
        let (number, arguments) = (libc::SYS_getpid, [0; 6]);
        self.add("asking for the process's ID (getpid)", Step { number, arguments, store });
        self.step(NAME, libc::SYS_fcntl, [SOCKET, libc::F_SETOWN as u64]);
        self.step(NAME, libc::SYS_fcntl, [SOCKET, libc::F_SETFL as u64, flags]);
    }

    fn set_signal_stack(&mut self) {
        let stack = CONTROL_AT + Control::slot(self.vcpu) + SIGNAL_STACK;
        self.step("setting the signal stack (sigaltstack)", libc::SYS_sigaltstack, [stack]);
    }

    /// Makes the listener, sends it to the host with the vCPU's number, and traps, until the host lets the thread
    /// continue.
    fn listen(&mut self) {
        let filter = self.put_filter(&filter::listening());
        // `struct cmsghdr` with one descriptor, which the first step stores; `struct iovec`; `struct msghdr`.
        let len = size_of::<libc::cmsghdr>() as u64;
        let level = libc::SOL_SOCKET as u64 | (libc::SCM_RIGHTS as u64) << 32;
        let control = self.put(&[len + size_of::<c_int>() as u64, level, 0]);
        let number = self.put(&[self.vcpu.into()]);
        let data = self.put(&[number, size_of::<u32>() as u64]);
        let message = self.put(&[0, 0, data, 1, control, len + 8, 0]);
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | listener::filter_flags();
        let mode = u64::from(libc::SECCOMP_SET_MODE_FILTER);
        self.add(
            LISTENING,
            Step {
                number: libc::SYS_seccomp,
                arguments: [mode, flags, filter, 0, 0, 0],
                store: control + len,
            },
        );
        let arguments = [SOCKET, message, libc::MSG_NOSIGNAL as u64];
        self.step("sending the listener (sendmsg)", libc::SYS_sendmsg, arguments);
        self.step("waiting for the host", TRAP_CALL, []);
    }

    fn confine(&mut self) {
        let filter = self.put_filter(&filter::confining(self.vcpu));
        let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        let arguments = [libc::SECCOMP_SET_MODE_FILTER.into(), flags, filter];
        self.step("denying system calls (seccomp)", libc::SYS_seccomp, arguments);
    }

    fn end(mut self) -> Vec<&'static str> {
        self.step("beginning", -1, []);
        self.names
    }
}

/// The step that makes a listener. It fails with EBUSY if a filter with one applies to this program already.
pub(super) const LISTENING: &str = "listening to system calls (seccomp)";
