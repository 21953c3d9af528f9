//! A guest in a virtual machine, by KVM (the kernel's `Documentation/virt/kvm/api.rst`).
//!
//! Guest code runs in ring 3. Ring 0 consists of one page of stubs: the processor enters one for each exception, and
//! the stub reports it to the host. The machine has no devices, no interrupts, and no memory besides the guest's and
//! the privileged pages.
//!
//! A call costs one `KVM_RUN`: registers are exchanged in the page that the vCPU shares with the host
//! (`KVM_CAP_SYNC_REGS`).

use std::{
    boxed::Box,
    io,
    sync::{Arc, atomic::AtomicBool},
};

use kvm_bindings::{
    KVM_INTERNAL_ERROR_EMULATION, kvm_debugregs, kvm_regs, kvm_segment, kvm_sregs, kvm_vcpu_events,
    kvm_xcr, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};
use nix::libc;

use super::{FORKED, MachineError, address_space::DOORBELL_AT, lost, plan::Plan, saved::Saved};
use crate::{
    abi::{PAGE_SIZE, Registers, Transport, TrapMethod, answer, trap},
    host::{CpuClock, FaultCause, GuestExit, ProtocolViolation, Stopper, Vcpu},
};

mod kick;
mod machine;
mod snapshot;
mod tables;

pub(super) use kick::StopSignal;
use kick::{Kick, Mask};
pub(super) use machine::start;
use machine::{KvmMachine, leaf};
pub(super) use snapshot::KvmSnapshot;
use snapshot::Tsc;
pub(super) use tables::PrivilegedTemplate;
use tables::{CODE, DATA, GDT_LIMIT, IDT_LIMIT, PORT, PROBE, REPORT, TASK, TASK_LIMIT};

/// CR0: PE, MP, ET, NE, WP, AM, PG (Intel SDM, volume 3, "Control Registers").
const CR0: u64 = 0x8005_0033;
/// The greatest number of exits for one access of an instruction that is not repeated: the access spans at most two
/// pages, and KVM reports at most 8 bytes an exit for memory, and all bytes in one exit for a port.
const MAX_PIECES: u32 = (2 * PAGE_SIZE / 8) as u32;
/// EFER: LME, LMA, NXE. SCE is clear, so `syscall` is an invalid opcode.
const EFER: u64 = 0xd00;

fn system(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> MachineError {
    move |error| MachineError::System { what, error: io::Error::from_raw_os_error(error.errno()) }
}

/// The state of a vCPU that a guest can change, and the control registers.
struct VcpuSnapshot {
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: Box<kvm_xsave>,
    events: kvm_vcpu_events,
    /// A debug exception changes DR6.
    debug: kvm_debugregs,
}

pub(super) struct KvmVcpu {
    fd: VcpuFd,
    machine: Arc<KvmMachine>,
    number: u64,
    trap_method: TrapMethod,
    kick: Arc<Kick>,
    mask: Mask,
    saved: Saved<VcpuSnapshot>,
}

impl KvmVcpu {
    pub(super) fn plan(&self) -> &Arc<Plan> {
        &self.machine.plan
    }

    fn new(machine: &Arc<KvmMachine>, number: u64) -> Result<Self, MachineError> {
        let fd = machine.fd.create_vcpu(number).map_err(system("KVM_CREATE_VCPU"))?;
        fd.set_cpuid2(&machine.facts.cpuid).map_err(system("KVM_SET_CPUID2"))?;
        let (kick, mask) = (Arc::new(Kick::new(machine.signal)), Mask::new(machine.signal));
        let (machine, trap_method) = (machine.clone(), TrapMethod::Out(PORT));
        Ok(Self { fd, machine, number, trap_method, kick, mask, saved: Saved::NOTHING })
    }

    /// Sets all registers, for ring 3, with the page tables at `root`. `regs` has the entry point.
    fn enter(&mut self, root: u64, cr4: u64, regs: kvm_regs) -> Result<(), MachineError> {
        let privileged = &self.machine.privileged;
        let mut sregs = self.fd.get_sregs().map_err(system("KVM_GET_SREGS"))?;
        let segment = |selector: u16, type_, long| kvm_segment {
            selector,
            type_,
            limit: u32::MAX,
            present: 1,
            dpl: 3,
            s: 1,
            l: long,
            db: 1 - long,
            g: 1,
            ..Default::default()
        };
        sregs.cs = segment(CODE, 11, 1);
        let data = segment(DATA, 3, 0);
        (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
        sregs.ldt = kvm_segment { unusable: 1, ..Default::default() };
        sregs.tr = kvm_segment {
            base: privileged.task_at(self.number),
            limit: TASK_LIMIT,
            selector: TASK,
            type_: 11,
            present: 1,
            ..Default::default()
        };
        (sregs.gdt.base, sregs.gdt.limit) = (privileged.gdt(), GDT_LIMIT);
        (sregs.idt.base, sregs.idt.limit) = (privileged.idt(), IDT_LIMIT);
        (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (CR0, root, cr4, EFER);
        self.fd.set_sregs(&sregs).map_err(system("KVM_SET_SREGS"))?;
        self.fd.set_regs(&regs).map_err(system("KVM_SET_REGS"))
    }

    /// Executes `out` in ring 3, to find out whether it traps; if not, the guest is to use the doorbell. Under a
    /// software implementation of KVM, `out` may raise an exception in spite of the I/O permission bitmap.
    fn probe(&mut self) -> Result<TrapMethod, MachineError> {
        let regs = kvm_regs { rip: PROBE, rdx: u64::from(PORT), rflags: 2, ..Default::default() };
        self.enter(self.machine.privileged.places().probe_root, 0x620, regs)?;
        let works = loop {
            match self.fd.run() {
                Ok(VcpuExit::IoOut(PORT, data)) => break data.len() == 4,
                // A signal for this thread interrupted it: try again.
                Ok(VcpuExit::Intr) => {}
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
                Err(error) => return Err(system("KVM_RUN")(error)),
                Ok(_) => break false,
            }
        };
        self.complete().map_err(MachineError::system("KVM_RUN"))?;
        Ok(if works { TrapMethod::Out(PORT) } else { TrapMethod::Doorbell(DOORBELL_AT) })
    }

    /// Completes the operation that is pending from the last exit, without executing an instruction of the guest (KVM
    /// API, "The kvm_run structure": `immediate_exit` completes pending operations).
    ///
    /// KVM reports a wide access in several exits, and a repeated string instruction in one or more exits for each
    /// element. The guest chooses the count of the latter, so this function sets RCX to 0 after the first exit, which
    /// ends the instruction. A trap is one access in one exit, so the registers of a guest that has trapped do not
    /// change.
    fn complete(&mut self) -> io::Result<()> {
        self.fd.set_kvm_immediate_exit(1);
        let done = self.complete_pieces();
        self.fd.set_kvm_immediate_exit(0);
        done
    }

    fn complete_pieces(&mut self) -> io::Result<()> {
        for piece in 0..MAX_PIECES {
            if piece != 0 {
                let mut regs = self.fd.get_regs()?;
                regs.rcx = 0;
                self.fd.set_regs(&regs)?;
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

    /// Sets all registers for the guest's entry point (ABI, "Boot block").
    fn begin(&mut self) -> Result<(), MachineError> {
        let cpuid = &self.machine.facts.cpuid;
        let has = |function, register: usize, bit: u32| {
            leaf(cpuid, function).is_some_and(|leaf| leaf[register] >> bit & 1 != 0)
        };
        // CR4: PAE, OSFXSR, OSXMMEXCPT; and if available SMEP and SMAP, so that ring 0 neither executes nor accesses
        // user pages, and UMIP, so that `sgdt` and the like fault in ring 3.
        let mut cr4 = 0x620;
        for (bit, there) in [(20, has(7, 1, 7)), (21, has(7, 1, 20)), (11, has(7, 2, 2))] {
            cr4 |= u64::from(there) << bit;
        }
        if self.enabled_components().is_some() {
            cr4 |= 1 << 18;
        }
        let stack = self.machine.plan.space.stacks[self.number as usize];
        let rip = self.machine.plan.image.entry();
        let regs = kvm_regs { rip, rsp: stack, rdi: stack, rflags: 2, ..Default::default() };
        self.enter(self.machine.privileged.places().root, cr4, regs)?;
        self.enable_components().map_err(MachineError::system("KVM_SET_XCRS"))?;
        self.fd.set_sync_valid_reg(SyncReg::Register);
        Ok(())
    }

    /// XCR0: x87, SSE, AVX and AVX-512, as far as leaf 0xd of CPUID lists them; `None` without XSAVE. A software
    /// implementation of KVM may clear the XSAVE bit of leaf 1, though it supports AVX.
    fn enabled_components(&self) -> Option<u64> {
        let cpuid = &self.machine.facts.cpuid;
        let components = u64::from(leaf(cpuid, 0xd).map_or(0, |[eax, ..]| eax & 0xe7));
        let xsave = leaf(cpuid, 1).is_some_and(|[.., ecx, _]| ecx >> 26 & 1 != 0);
        (xsave || components & 4 != 0).then_some(components | 1)
    }

    /// Sets XCR0.
    fn enable_components(&self) -> io::Result<()> {
        let Some(value) = self.enabled_components() else { return Ok(()) };
        let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
        xcrs.xcrs[0] = kvm_xcr { xcr: 0, reserved: 0, value };
        self.fd.set_xcrs(&xcrs)?;
        Ok(())
    }

    /// Sets the state of another machine's vCPU.
    fn adopt(&mut self, state: &Arc<VcpuSnapshot>, tsc: &Tsc) -> io::Result<()> {
        self.enable_components()?;
        tsc.set(&self.fd)?;
        self.fd.set_sync_valid_reg(SyncReg::Register);
        self.load(state)?;
        self.saved = Saved::of(state);
        Ok(())
    }

    /// Sets the registers.
    fn load(&mut self, state: &VcpuSnapshot) -> io::Result<()> {
        self.fd.set_sregs(&state.sregs)?;
        // SAFETY: `KVM_SET_XSAVE` reads as many bytes as the enabled features take (KVM API, "KVM_SET_XSAVE"). Only
        // features that are enabled dynamically, that is AMX, take more than the 4 KiB of `kvm_xsave`, and this crate
        // enables none.
        unsafe { self.fd.set_xsave(&state.xsave) }?;
        self.fd.set_debug_regs(&state.debug)?;
        self.fd.set_vcpu_events(&state.events)?;
        // The next `KVM_RUN` sets these.
        self.fd.sync_regs_mut().regs = state.regs;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        Ok(())
    }

    /// Describes a triple fault.
    #[cold]
    fn shut_down(&self) -> GuestExit {
        let instruction = self.fd.sync_regs().regs.rip;
        GuestExit::Fault(self.machine.plan.fault(FaultCause::Exception(8), None, instruction))
    }

    /// Describes an internal error of KVM. If KVM cannot emulate the instruction of an access, some kernels raise an
    /// invalid opcode in the guest, and others exit with `KVM_INTERNAL_ERROR_EMULATION`: both become the same fault.
    #[cold]
    fn internal_error(&mut self) -> GuestExit {
        // SAFETY: KVM fills in the `internal` variant of the union for the exit reason `KVM_EXIT_INTERNAL_ERROR`, which
        // the caller has seen, and every bit pattern is a valid `u32`.
        let error = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.internal.suberror };
        if error != KVM_INTERNAL_ERROR_EMULATION {
            return GuestExit::Lost(std::format!("KVM: internal error {error}"));
        }
        let instruction = self.fd.sync_regs().regs.rip;
        GuestExit::Fault(self.machine.plan.fault(FaultCause::Exception(6), None, instruction))
    }

    /// Describes the exception that a stub reports.
    #[cold]
    fn fault(&self) -> GuestExit {
        let regs = self.fd.sync_regs().regs;
        let privileged = &self.machine.privileged;
        let Some((vector, instruction)) = privileged.report(self.number, regs.rip, regs.rsp) else {
            return GuestExit::Protocol(ProtocolViolation::Access { at: u64::from(REPORT) });
        };
        let address = match self.fd.get_sregs() {
            Ok(sregs) if vector == 14 => Some(sregs.cr2),
            _ => None,
        };
        let cause = FaultCause::Exception(vector);
        GuestExit::Fault(self.machine.plan.fault(cause, address, instruction))
    }
}

impl KvmVcpu {
    /// Runs until the next exit. Returns true for a trap, and false if a signal or nothing interrupted the vCPU.
    fn resume(&mut self) -> Result<bool, GuestExit> {
        let (trap_method, doorbell) = (self.trap_method, self.machine.doorbell);
        // Reports an invalid access by its guest address, or its port.
        let invalid = |at: u64| {
            let at =
                if at & !(PAGE_SIZE - 1) == doorbell { DOORBELL_AT + at % PAGE_SIZE } else { at };
            Err(GuestExit::Protocol(ProtocolViolation::Access { at }))
        };
        match self.fd.run() {
            Ok(VcpuExit::MmioWrite(at, [_, _, _, _, _, _, _, _]))
                if at == doorbell && trap_method != TrapMethod::Out(PORT) =>
            {
                Ok(true)
            }
            Ok(VcpuExit::IoOut(PORT, [_, _, _, _])) if trap_method == TrapMethod::Out(PORT) => {
                Ok(true)
            }
            Ok(VcpuExit::IoOut(REPORT, _)) => Err(self.fault()),
            Ok(VcpuExit::MmioWrite(at, _) | VcpuExit::MmioRead(at, _)) => invalid(at),
            Ok(VcpuExit::IoOut(port, _) | VcpuExit::IoIn(port, _)) => invalid(port.into()),
            Ok(VcpuExit::Intr) => Ok(false),
            Ok(VcpuExit::Shutdown) => Err(self.shut_down()),
            Ok(VcpuExit::InternalError) => Err(self.internal_error()),
            Ok(exit) => Err(GuestExit::Lost(std::format!("KVM: {exit:?}"))),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(false),
            Err(error) => Err(GuestExit::Lost(lost("KVM_RUN", error))),
        }
    }

    /// Runs to the next trap, or until the vCPU is stopped.
    fn run_to_trap(&mut self) -> Result<(), GuestExit> {
        let immediate_exit = &raw mut self.fd.get_kvm_run().immediate_exit;
        let refused =
            |error: io::Error| GuestExit::Lost(lost("the signal mask of a vCPU's thread", error));
        loop {
            self.mask.set(&self.fd).map_err(refused)?;
            if !self.kick.begin(immediate_exit) {
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
        if let Some(Registers { kind, word, transport }) = answer {
            // The program may have changed the thread's signal mask before this call.
            if kind == answer::UPCALL {
                self.mask.expire();
            }
            let regs = &mut self.fd.sync_regs_mut().regs;
            (regs.rax, regs.rbx) = (kind, word);
            (regs.r8, regs.r9) = (transport.primary, transport.secondary);
            self.fd.set_sync_dirty_reg(SyncReg::Register);
        }
        self.run_to_trap()?;
        let regs = &self.fd.sync_regs_mut().regs;
        let transport = Transport { primary: regs.r8, secondary: regs.r9 };
        if regs.rax != trap::CALL {
            self.mask.expire();
        }
        Ok(Registers { kind: regs.rax, word: regs.rbx, transport })
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
        // `settle` has completed the trap, so RIP is behind its instruction.
        let snapshot = VcpuSnapshot {
            regs: self.fd.get_regs()?,
            sregs: self.fd.get_sregs()?,
            xsave: Box::new(self.fd.get_xsave()?),
            events: self.fd.get_vcpu_events()?,
            debug: self.fd.get_debug_regs()?,
        };
        if self.number == 0 {
            self.machine.memory.save(cancelled)?;
        }
        self.fd.sync_regs_mut().regs = snapshot.regs;
        self.saved.save(Arc::new(snapshot), &self.machine.checkpoints);
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

#[cfg(test)]
mod tests;
