//! A guest in a process of its own, which can only compute and trap.
//!
//! The process executes the [`gate`], a program of one page. It maps the guest's memory, unmaps and closes everything
//! else, and denies all system calls but its own by a filter (seccomp(2)). The kernel never executes the guest's file,
//! and nothing traces the process.
//!
//! A trap is a call of the gate, which makes a system call that the kernel hands over to the host (seccomp(2), "user
//! notification"). A round trip takes two system calls of the host, on any thread: one receives the trap, the other
//! one sends the answer. The words of the answer are in memory that the guest can only read.
//!
//! # Numbers
//!
//! The kernel may begin a system call of the gate again, for example when another program suspends the process. So each
//! trap has a number, which the gate takes before the system call. If a vCPU traps twice in succession with one number,
//! the second trap is the first one, begun again before it received its answer: it gets the same answer.
//!
//! The guest can write the counter, and so choose the numbers of its traps. The numbers of each of its lives have a high
//! half of their own, which the host sets at a reset. So no trap of a life has the number of a trap of the life before,
//! unless the guest has forged that. Then a reset replaces the process.

use std::{
    fs::File,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    vec::Vec,
};

use nix::libc;

use super::{
    FORKED, MachineError, Made,
    checkpoint::Checkpoint,
    life::Lives,
    lost, memfd,
    native::is_page_fault,
    plan::Plan,
    saved::{Checkpoints, Saved},
};
use crate::{
    abi::{PAGE_SIZE, Registers, Transport},
    host::{CpuClock, FaultCause, GuestExit, ProtocolViolation, Stopper, Vcpu},
};

mod child;
mod control;
mod filter;
mod gate;
mod listener;
mod memory;
#[cfg_attr(target_arch = "x86_64", path = "process/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "process/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "process/riscv64.rs")]
mod native;
mod script;
mod shared;
mod snapshot;
mod start;

use child::Child;
use control::{Control, Frame};
use gate::Command;
use native::Features;
use script::STOP;
use shared::{Contents, SharedMemory};
pub(super) use snapshot::ProcessSnapshot;
pub(super) use start::LowDescriptors;

/// Offsets in `siginfo_t`: the code, and for SIGSYS the number of the system call.
const INFO_CODE: u64 = 8;
const INFO_SYSTEM_CALL: u64 = 24;

/// What a signal has interrupted.
struct Interrupted {
    /// The address of the instruction.
    instruction: u64,
    /// The exception for which the kernel has sent the signal, if it is one.
    exception: Option<u8>,
    /// The address of the access, if the exception is a page fault.
    address: u64,
}

/// Makes the process, with a thread for each vCPU, which waits to enter the guest.
pub(super) fn start(plan: &Arc<Plan>, log: u32) -> Result<Made<ProcessVcpu>, MachineError> {
    let (shared, vcpus) = make(plan, None, Arc::new(Lives::after(0)))?;
    for (vcpu, stack) in vcpus.iter().zip(&plan.space.stacks) {
        let entry = Frame::entry(*stack, shared.features);
        vcpu.child.control.set_frame(vcpu.number, &entry);
        vcpu.set_boot_block(log);
    }
    Ok(Made { vcpus, memory: shared.region.clone(), lives: shared.lives.clone() })
}

/// Makes the process, and its vCPUs, of which there is at least one. Its memory is that of a new guest, or the checkpoint.
fn make(
    plan: &Arc<Plan>,
    checkpoint: Option<&Arc<ProcessCheckpoint>>,
    lives: Arc<Lives>,
) -> Result<(Arc<ProcessGuest>, Vec<ProcessVcpu>), MachineError> {
    check_page_size().map_err(MachineError::system("mapping the guest's memory"))?;
    let features = Features::here().map_err(MachineError::system("saving registers"))?;
    let (writable, end) = (plan.region_writable(), plan.layout.len());
    let region = Arc::new(SharedMemory::new(end, writable)?);
    if let Some(checkpoint) = checkpoint {
        let filled = region.restore(&checkpoint.region);
        filled.map_err(MachineError::system("filling the guest's region"))?;
    }
    let started = Started::new(plan, &region, checkpoint, features)?;
    let shared = Arc::new(ProcessGuest {
        plan: plan.clone(),
        region,
        features,
        stops: (0..plan.vcpus()).map(|_| AtomicBool::new(false)).collect(),
        forged: AtomicBool::new(false),
        lives,
        checkpoints: Checkpoints::default(),
        checkpoint: Mutex::new(checkpoint.cloned()),
        started: Mutex::new(started),
    });
    let vcpu = |number| {
        let started = shared.started();
        let (child, (trap, number_of_trap)) =
            (started.child.clone(), started.traps[number as usize]);
        ProcessVcpu {
            shared: shared.clone(),
            child,
            number,
            trap,
            number_of_trap,
            life: 0,
            last: None,
            next: Command::Enter,
            exit: None,
            has_gone_back_again: false,
            back_to: None,
            saved: Saved::NOTHING,
        }
    };
    let vcpus = (0..plan.vcpus()).map(vcpu).collect();
    Ok((shared, vcpus))
}

/// Fails if the kernel's pages are larger than those of a machine.
fn check_page_size() -> io::Result<()> {
    // SAFETY: sysconf(3) accesses no memory of the caller.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if size == PAGE_SIZE as libc::c_long {
        return Ok(());
    }
    let what =
        std::format!("pages have {size} bytes here: boot a kernel with pages of {PAGE_SIZE}");
    Err(io::Error::new(io::ErrorKind::Unsupported, what))
}

/// What resets restore of a guest's memory.
struct ProcessCheckpoint {
    /// All but the region.
    private: Checkpoint,
    region: Arc<Contents>,
}

/// A process, and the traps at which its threads wait.
struct Started {
    child: Arc<Child>,
    /// For each vCPU [`ProcessVcpu::trap`] and [`ProcessVcpu::number_of_trap`].
    traps: Vec<(u64, u64)>,
    /// How often this process has been reset: the high half of the numbers of traps.
    life: u32,
    /// The checkpoint with which its memory began, if any.
    from: Option<Arc<ProcessCheckpoint>>,
    /// The file that the process can read as its checkpoint, until there is one.
    draft: Option<File>,
    /// The checkpoint that the process can read.
    shown: Option<Arc<ProcessCheckpoint>>,
    /// How many resets of it have found much to copy.
    large_resets: u32,
}

impl Started {
    fn new(
        plan: &Plan,
        region: &SharedMemory,
        from: Option<&Arc<ProcessCheckpoint>>,
        features: Features,
    ) -> Result<Self, MachineError> {
        let start = |runs: &[_], file: &File| -> Result<_, MachineError> {
            let (child, traps) = Child::start(plan, region, (runs, file), features)?;
            let traps = traps.iter().map(|trap| (trap.id, trap.arguments[4])).collect();
            Ok((Arc::new(child), traps))
        };
        let (mut draft, large_resets) = (None, 0);
        let (child, traps) = match from {
            Some(from) => start(&from.private.runs, &from.private.file)?,
            None => {
                let file = memfd::new(c"vmffi-checkpoint", 0);
                let file =
                    file.map_err(MachineError::system("making a file for the checkpoint"))?;
                let started = start(&[], &file)?;
                draft = Some(file);
                started
            }
        };
        let (from, shown) = (from.cloned(), from.cloned());
        Ok(Self { child, traps, life: 0, from, draft, shown, large_resets })
    }
}

/// What the vCPUs of a guest share.
struct ProcessGuest {
    plan: Arc<Plan>,
    region: Arc<SharedMemory>,
    features: Features,
    /// Whether each vCPU is to stop.
    stops: Vec<AtomicBool>,
    /// Whether the guest has forged the number of a trap.
    forged: AtomicBool,
    lives: Arc<Lives>,
    checkpoints: Checkpoints,
    /// The checkpoint that the next reset restores.
    checkpoint: Mutex<Option<Arc<ProcessCheckpoint>>>,
    /// The current process. A reset replaces one that has ended.
    started: Mutex<Started>,
}

impl ProcessGuest {
    fn started(&self) -> MutexGuard<'_, Started> {
        // Nothing panics while it is locked.
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checkpoint(&self) -> MutexGuard<'_, Option<Arc<ProcessCheckpoint>>> {
        // As above.
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread of a guest's process, as a vCPU.
pub(super) struct ProcessVcpu {
    shared: Arc<ProcessGuest>,
    child: Arc<Child>,
    number: u32,
    /// The system call that waits for the next command (`Notification::id`).
    trap: u64,
    /// The number of the last trap.
    number_of_trap: u64,
    /// The high half of the numbers of traps.
    life: u32,
    /// The command that it has got.
    last: Option<Command>,
    /// The command by which the next `run` continues.
    next: Command,
    /// How the vCPU has exited in this life. The last trap may be one of the handler.
    exit: Option<GuestExit>,
    /// Whether an exception has interrupted [`Command::Back`] in this life.
    has_gone_back_again: bool,
    /// The registers that [`Command::Back`] restores.
    back_to: Option<Arc<Frame>>,
    /// The registers in the checkpoint.
    saved: Saved<Frame>,
}

impl ProcessVcpu {
    pub(super) fn plan(&self) -> &Arc<Plan> {
        &self.shared.plan
    }

    /// Moves to the current process, if a reset has replaced the one before.
    fn follow(&mut self) {
        let started = self.shared.started();
        if !Arc::ptr_eq(&self.child, &started.child) {
            self.child = started.child.clone();
            (self.trap, self.number_of_trap) = started.traps[self.number as usize];
            self.last = None;
        }
    }

    /// Sets the registers with which the life begins, or goes on after a checkpoint. A vCPU may be restored before the one
    /// that replaces the process, so this comes after all are restored.
    fn enter_life(&mut self) {
        self.follow();
        self.life = self.shared.started().life;
        if let Some(frame) = &self.back_to {
            self.child.control.set_frame(self.number, frame);
        }
    }

    fn command(&mut self, command: Command) -> io::Result<()> {
        self.last = Some(command);
        self.send(command)
    }

    fn send(&self, command: Command) -> io::Result<()> {
        let slot = gate::CONTROL_AT + Control::slot(self.number);
        let listener = &self.child.listeners[self.number as usize];
        listener.answer(self.trap, slot + command as u64)
    }

    /// Waits for the next trap. Handles those that are not the guest's.
    fn receive(&mut self) -> Result<Registers, GuestExit> {
        let received = self.receive_trap();
        if let Err(exit) = &received {
            self.exit = Some(exit.clone());
        }
        received
    }

    fn receive_trap(&mut self) -> Result<Registers, GuestExit> {
        let failed =
            |error: io::Error| GuestExit::Lost(lost("receiving a trap of the guest", error));
        loop {
            let listener = &self.child.listeners[self.number as usize];
            let Some(trap) = listener.receive().map_err(failed)? else { return Err(self.ended()) };
            self.trap = trap.id;
            let [kind, word, primary, secondary, number, _] = trap.arguments;
            let signal = kind.wrapping_sub(gate::SIGNALLED);
            let is_signal = (1..=64).contains(&signal);
            // A handler runs with all signals blocked, so it never gets another command than `Back`, which unblocks
            // them: else the guest could not be stopped any more. The guest can write the counter of traps. If it
            // pretends that a trap has begun again, it gets its last answer again.
            let again = number == self.number_of_trap;
            match self.last {
                Some(last) if again && !is_signal => {
                    #[cfg(test)]
                    tests::BEGUN_AGAIN.set(tests::BEGUN_AGAIN.get() + 1);
                    self.send(last).map_err(failed)?;
                    continue;
                }
                Some(Command::Back) if again && !self.is_stopped() => {
                    self.send(Command::Back).map_err(failed)?;
                    continue;
                }
                _ => {}
            }
            if (number >> 32) as u32 != self.life {
                self.shared.forged.store(true, Ordering::Relaxed);
            }
            let went_back = self.last == Some(Command::Back);
            (self.number_of_trap, self.last) = (number, None);
            if !is_signal {
                let transport = Transport { primary, secondary };
                return Ok(Registers { kind, word, transport });
            }
            match self.signal(kind, signal as i32, [word, primary], went_back) {
                None => {
                    // The kernel has written registers of the last life there.
                    self.child.control.clear_signal_stack(self.number).map_err(failed)?;
                    self.command(Command::Back).map_err(failed)?;
                }
                Some(exit) => return Err(exit),
            }
        }
    }

    /// What a signal means; `None` for one of the guest's last life.
    #[cold]
    fn signal(
        &mut self,
        kind: u64,
        signal: i32,
        [info, context]: [u64; 2],
        went_back: bool,
    ) -> Option<GuestExit> {
        let read = |base: u64, offset| {
            let address = base.checked_add(offset)?;
            self.child.control.read_signal_stack(self.number, address)
        };
        let code = |address| self.shared.plan.instruction(address);
        let (info, context) = (|at| read(info, at), |at| read(context, at));
        let (Some(code), Some(call), Some(interrupted)) = (
            info(INFO_CODE),
            info(INFO_SYSTEM_CALL),
            native::interrupted(signal, info, context, code),
        ) else {
            // The guest has made this trap, not the kernel.
            return Some(GuestExit::Protocol(ProtocolViolation::Order(kind)));
        };
        let Interrupted { instruction, exception, address } = interrupted;
        if signal == STOP && self.is_stopped() {
            return Some(GuestExit::Stopped);
        }
        // A stop that was sent before a reset reaches the thread in the gate, at the latest when it unblocks the
        // signal. The flags and other registers of the last life may raise an exception there, but only once: in a
        // handler they have harmless values.
        let in_gate = (native::PLACES.trapped..=native::PLACES.masked).contains(&instruction);
        if went_back && in_gate && (signal == STOP || !self.has_gone_back_again) {
            self.has_gone_back_again |= signal != STOP;
            return None;
        }
        // The kernel's codes are positive.
        let cause = match exception {
            _ if code as i32 <= 0 => FaultCause::Signal(signal),
            // The number is a C `int`.
            _ if signal == libc::SIGSYS => FaultCause::SystemCall(call as i32 as u64),
            Some(exception) => FaultCause::Exception(exception),
            None => FaultCause::Signal(signal),
        };
        let is_page_fault = matches!(cause, FaultCause::Exception(number) if is_page_fault(number));
        let address = is_page_fault.then_some(address);
        Some(GuestExit::Fault(self.shared.plan.fault(cause, address, instruction)))
    }

    /// How the process has ended.
    #[cold]
    fn ended(&self) -> GuestExit {
        let how = self.child.ended();
        if self.is_stopped() { GuestExit::Stopped } else { GuestExit::Lost(how.into()) }
    }

    fn is_stopped(&self) -> bool {
        self.shared.stops[self.number as usize].load(Ordering::Acquire)
    }

    fn is_ours(&self) -> io::Result<()> {
        if self.child.is_ours() { Ok(()) } else { Err(io::Error::other(FORKED)) }
    }
}

impl Vcpu for ProcessVcpu {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        if !self.child.is_ours() {
            return Err(GuestExit::Lost(FORKED.into()));
        }
        if self.is_stopped() {
            return Err(GuestExit::Stopped);
        }
        // In a handler, all signals are blocked. With an answer, the guest would run there, and could not be stopped.
        if let Some(exit) = &self.exit {
            return Err(exit.clone());
        }
        if self.next == Command::Back {
            self.enter_life();
        }
        if let Some(words) = answer {
            self.child.control.set_words(self.number, words);
        }
        let next = core::mem::replace(&mut self.next, Command::Answer);
        let sent = self.command(next);
        sent.map_err(|error| GuestExit::Lost(lost("answering a trap of the guest", error)))?;
        self.receive()
    }

    fn stopper(&self) -> Stopper {
        let (shared, number) = (self.shared.clone(), self.number);
        Stopper::new(move || {
            shared.stops[number as usize].store(true, Ordering::Release);
            let child = shared.started().child.clone();
            child.interrupt(number);
        })
    }

    fn cpu_clock(&self) -> Option<CpuClock> {
        let (shared, number) = (self.shared.clone(), self.number);
        let clock = CpuClock::new(move || {
            // A reset may have replaced the process.
            let child = shared.started().child.clone();
            child.cpu_time(number)
        });
        clock.read().map(|_| clock)
    }

    fn snapshot(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        self.is_ours()?;
        // If it has not run since the last reset or checkpoint, its registers are those of the frame.
        let frame = match (&self.back_to, self.next) {
            (Some(frame), Command::Back) => frame.clone(),
            _ => {
                let frame = self.save_registers()?;
                // So nothing of a life before raises an exception any more.
                self.has_gone_back_again = true;
                frame
            }
        };
        // Saving changes the direction flag, also if it fails.
        (self.next, self.back_to) = (Command::Back, Some(frame.clone()));
        if self.number == 0 {
            self.save_memory(cancelled)?;
        }
        self.saved.save(frame, &self.shared.checkpoints);
        if self.number == 0 {
            self.shared.checkpoints.made();
        }
        Ok(())
    }

    fn restore(&mut self) -> io::Result<()> {
        self.is_ours()?;
        let saved = self.saved.get(&self.shared.checkpoints);
        self.back_to = Some(saved.ok_or(io::ErrorKind::NotFound)?);
        if self.number == 0 {
            // All other vCPUs wait, and none runs before all are restored.
            self.restore_memory()?;
        }
        // Any vCPU can read the words of the last answer. If the process is replaced, the new one has none.
        let none = Registers { kind: 0, word: 0, transport: Transport::EMPTY };
        self.child.control.set_words(self.number, none);
        (self.next, self.exit, self.has_gone_back_again) = (Command::Back, None, false);
        self.shared.stops[self.number as usize].store(false, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
