//! A guest in a virtual machine, by KVM (the kernel's `Documentation/virt/kvm/api.rst`).
//!
//! Guest code runs at the least privilege: in ring 3, at EL0, in U-mode. At a higher one, in ring 0, at EL1, in S-mode, there
//! is only code that reports exceptions to the host. The machine has no devices, no interrupts, and no memory besides the
//! guest's and the privileged pages. What depends on the architecture is in `native`.
//!
//! A call costs one `KVM_RUN`: its words are in a page that the vCPU shares with the host, or in the guest's memory.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
};

use kvm_ioctls::VcpuFd;
use nix::libc;

use super::{FORKED, MachineError, lost, plan::Plan, saved::Saved};
use crate::{
    abi::{PAGE_SIZE, Registers, TrapMethod, answer, trap},
    host::{CpuClock, GuestExit, Stopper, Vcpu},
};

mod kick;
mod machine;
#[cfg_attr(target_arch = "aarch64", path = "kvm/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "kvm/riscv64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "kvm/x86_64.rs")]
mod native;
mod snapshot;
mod tables;

pub(super) use kick::StopSignal;
use kick::{Kick, Mask, this_thread};
use machine::KvmMachine;
pub(super) use machine::start;
pub(super) use snapshot::KvmSnapshot;
pub(super) use tables::PrivilegedTemplate;

/// The greatest number of exits for one access of an instruction that is not repeated: the access spans at most two
/// pages, and KVM reports at most 8 bytes an exit for memory, and all bytes in one exit for a port.
const MAX_PIECES: u32 = (2 * PAGE_SIZE / 8) as u32;

fn system(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> MachineError {
    move |error| MachineError::System { what, error: io::Error::from_raw_os_error(error.errno()) }
}

pub(super) struct KvmVcpu {
    fd: VcpuFd,
    machine: Arc<KvmMachine>,
    number: u64,
    kick: Arc<Kick>,
    mask: Mask,
    saved: Saved<native::State>,
    trap: native::TrapState,
}

impl KvmVcpu {
    pub(super) fn plan(&self) -> &Arc<Plan> {
        &self.machine.plan
    }

    fn new(
        machine: &Arc<KvmMachine>,
        number: u64,
        trap_method: TrapMethod,
    ) -> Result<Self, MachineError> {
        let fd = machine.fd.create_vcpu(number).map_err(system("KVM_CREATE_VCPU"))?;
        let this = Self {
            fd,
            machine: machine.clone(),
            number,
            kick: Arc::new(Kick::new(machine.signal)),
            mask: Mask::new(machine.signal),
            saved: Saved::NOTHING,
            trap: native::TrapState::new(trap_method),
        };
        this.configure()?;
        Ok(this)
    }

    /// Completes the operation that is pending from the last exit, without executing an instruction of the guest (KVM
    /// API, "The kvm_run structure": `immediate_exit` completes pending operations).
    ///
    /// KVM may report a wide access in several exits, and a repeated string instruction in one or more exits for each
    /// element. The guest chooses the count of the latter, so this function ends the repetition after the first exit. A trap
    /// is one access in one exit, so the registers of a guest that has trapped do not change.
    fn complete(&mut self) -> io::Result<()> {
        self.fd.set_kvm_immediate_exit(1);
        let done = self.complete_pieces();
        self.fd.set_kvm_immediate_exit(0);
        done
    }

    fn complete_pieces(&mut self) -> io::Result<()> {
        for piece in 0..MAX_PIECES {
            if piece != 0 {
                self.end_repetition()?;
            }
            match self.fd.run() {
                // The access has another piece.
                Ok(_) => {}
                Err(error) if error.errno() == libc::EINTR => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "KVM did not complete the guest's last access after 1024 exits",
        ))
    }

    /// Runs to the next trap, or until the vCPU is stopped.
    fn run_to_trap(&mut self) -> Result<(), GuestExit> {
        let immediate_exit = &raw mut self.fd.get_kvm_run().immediate_exit;
        let refused =
            |error: io::Error| GuestExit::Lost(lost("the signal mask of a vCPU's thread", error));
        loop {
            let thread = this_thread();
            self.mask.set(thread, &self.fd).map_err(refused)?;
            if !self.kick.begin(thread, immediate_exit) {
                return Err(GuestExit::Stopped);
            }
            let trapped = self.resume();
            let (kick, fd) = (&self.kick, &mut self.fd);
            let stopped = kick.end(|| fd.set_kvm_immediate_exit(0));
            if stopped || matches!(trapped, Ok(false)) {
                self.mask.interrupted().map_err(refused)?;
            }
            if trapped? {
                return Ok(());
            }
        }
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        if !self.kick.is_ours() {
            return Err(GuestExit::Lost(FORKED.into()));
        }
        if let Some(answer) = answer {
            // The program may have changed the thread's signal mask before this call.
            if answer.kind == answer::UPCALL {
                self.mask.expire();
            }
            self.answer(answer);
        }
        self.run_to_trap()?;
        let words = self.words();
        if words.kind != trap::CALL {
            self.mask.expire();
        }
        Ok(words)
    }

    fn settle(&mut self) -> io::Result<()> {
        if !self.kick.is_ours() {
            return Err(io::Error::other(FORKED));
        }
        self.complete()
    }

    fn snapshot(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        if !self.kick.is_ours() {
            return Err(io::Error::other(FORKED));
        }
        // `settle` has completed the trap.
        let state = self.state()?;
        if self.number == 0 {
            self.machine.memory.save(cancelled)?;
        }
        self.keep(&state);
        self.saved.save(Arc::new(state), &self.machine.checkpoints);
        if self.number == 0 {
            self.machine.checkpoints.made();
        }
        Ok(())
    }

    fn restore(&mut self) -> io::Result<()> {
        if !self.kick.is_ours() {
            return Err(io::Error::other(FORKED));
        }
        let saved = self.saved.get(&self.machine.checkpoints).ok_or(io::ErrorKind::NotFound)?;
        self.load(&saved)?;
        if self.number == 0 {
            self.machine.memory.restore()?;
            self.machine.lives.begin(&*self.machine.memory)?;
        }
        self.kick.reset();
        Ok(())
    }

    fn stopper(&self) -> Stopper {
        let kick = self.kick.clone();
        Stopper::new(move || kick.stop())
    }

    fn cpu_clock(&self) -> Option<CpuClock> {
        self.kick.measure()?;
        let kick = self.kick.clone();
        Some(CpuClock::new(move || kick.cpu_time()))
    }
}

// These are about traps by ports.
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
