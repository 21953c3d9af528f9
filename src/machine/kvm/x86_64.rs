//! Virtual machines of x86_64. Guest code runs in ring 3. Ring 0 consists of one page of stubs: the processor enters one for
//! each exception, and the stub reports it to the host.
//!
//! Registers are exchanged in the page that the vCPU shares with the host (`KVM_CAP_SYNC_REGS`).

use std::{boxed::Box, io, sync::Arc};

use kvm_bindings::{
    CpuId, KVM_INTERNAL_ERROR_EMULATION, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_debugregs, kvm_msr_entry,
    kvm_regs, kvm_segment, kvm_sregs, kvm_vcpu_events, kvm_xcr, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Cap, Kvm, SyncReg, VcpuExit, VcpuFd, VmFd};
use nix::libc;

use super::{
    super::{MachineError, address_space::DOORBELL_AT, lost, saved::Saved},
    KvmVcpu, system,
};
use crate::{
    abi::{PAGE_SIZE, Registers, Transport, TrapMethod},
    host::{FaultCause, GuestExit, ProtocolViolation},
};

#[path = "x86_64/privileged.rs"]
mod privileged;

pub(super) use privileged::PORT;
use privileged::{CODE, DATA, GDT_LIMIT, IDT_LIMIT, PROBE, REPORT, TASK, TASK_LIMIT};
pub(super) use privileged::{
    ROOTS, fill_fixed, fixed_pages, map_fixed, page_entry, table_entry, table_of,
};

/// CR0: PE, MP, ET, NE, WP, AM, PG (Intel SDM, volume 3, "Control Registers").
const CR0: u64 = 0x8005_0033;
/// EFER: LME, LMA, NXE. SCE is clear, so `syscall` is an invalid opcode.
const EFER: u64 = 0xd00;

/// The state of a vCPU that a guest can change, and the control registers.
pub(super) struct State {
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: Box<kvm_xsave>,
    events: kvm_vcpu_events,
    /// A debug exception changes DR6.
    debug: kvm_debugregs,
}

/// The trap of guests, unless a probe finds that it cannot be intercepted.
pub(super) const USUAL_TRAP: TrapMethod = TrapMethod::Out(PORT);

/// How many pages of guest-physical memory stay without memory: that of the doorbell.
pub(super) const UNBACKED_PAGES: u64 = 1;

/// How the vCPU traps.
pub(super) struct TrapState {
    method: TrapMethod,
}

impl TrapState {
    pub(super) fn new(method: TrapMethod) -> Self {
        Self { method }
    }

    pub(super) fn method(&self) -> TrapMethod {
        self.method
    }
}

/// What KVM supports. It does not change while this program runs.
pub(super) struct Facts {
    cpuid: CpuId,
}

impl Facts {
    pub(super) fn of(kvm: &Kvm) -> Result<Self, MachineError> {
        let synced = kvm.check_extension_int(Cap::SyncRegs);
        // `KVM_CHECK_EXTENSION` returns a negative number on errors.
        if synced < 0 || synced & SyncReg::Register as i32 == 0 {
            return Err(MachineError::System {
                what: "KVM lacks KVM_CAP_SYNC_REGS",
                error: io::ErrorKind::Unsupported.into(),
            });
        }
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        Ok(Self { cpuid: cpuid.map_err(system("KVM_GET_SUPPORTED_CPUID"))? })
    }

    pub(super) fn create_vm(&self, kvm: &Kvm) -> Result<VmFd, MachineError> {
        kvm.create_vm().map_err(system("KVM_CREATE_VM"))
    }

    /// The width of a guest-physical address, in bits (CPUID leaf 0x80000008, EAX bits 0 to 7).
    pub(super) fn physical_bits(&self) -> u32 {
        self.leaf(0x8000_0008).map_or(36, |[eax, ..]| eax & 0xff).clamp(32, 52)
    }

    /// EAX, EBX, ECX and EDX of subleaf 0 of a CPUID leaf.
    fn leaf(&self, function: u32) -> Option<[u32; 4]> {
        let mut entries = self.cpuid.as_slice().iter();
        let entry = entries.find(|e| e.function == function && e.index == 0)?;
        Some([entry.eax, entry.ebx, entry.ecx, entry.edx])
    }
}

impl KvmVcpu {
    /// Prepares a new vCPU.
    pub(super) fn configure(&self) -> Result<(), MachineError> {
        self.fd.set_cpuid2(&self.machine.facts.native.cpuid).map_err(system("KVM_SET_CPUID2"))
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
    pub(super) fn probe(&mut self) -> Result<TrapMethod, MachineError> {
        let regs = kvm_regs { rip: PROBE, rdx: u64::from(PORT), rflags: 2, ..Default::default() };
        self.enter(self.machine.privileged.places().root + PAGE_SIZE, 0x620, regs)?;
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

    /// Sets all registers for the guest's entry point (ABI, "Boot block").
    pub(super) fn begin(&mut self) -> Result<(), MachineError> {
        let facts = &self.machine.facts.native;
        let has = |function, register: usize, bit: u32| {
            facts.leaf(function).is_some_and(|leaf| leaf[register] >> bit & 1 != 0)
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
        let facts = &self.machine.facts.native;
        let components = u64::from(facts.leaf(0xd).map_or(0, |[eax, ..]| eax & 0xe7));
        let xsave = facts.leaf(1).is_some_and(|[.., ecx, _]| ecx >> 26 & 1 != 0);
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
    pub(super) fn adopt(&mut self, state: &Arc<State>, clock: &Clock) -> io::Result<()> {
        self.enable_components()?;
        clock.set(&self.fd)?;
        self.fd.set_sync_valid_reg(SyncReg::Register);
        self.load(state)?;
        self.saved = Saved::of(state);
        Ok(())
    }

    /// Sets the registers.
    pub(super) fn load(&mut self, state: &State) -> io::Result<()> {
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
            return GuestExit::Lost(format_args!("KVM: internal error {error}").into());
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

    /// Runs until the next exit. Returns true for a trap, and false if a signal or nothing interrupted the vCPU.
    pub(super) fn resume(&mut self) -> Result<bool, GuestExit> {
        let (trap_method, doorbell) = (self.trap.method, self.machine.doorbell);
        let invalid = |at: u64| Err(self.machine.invalid_access(at));
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
            Ok(exit) => Err(GuestExit::Lost(format_args!("KVM: {exit:?}").into())),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(false),
            Err(error) => Err(GuestExit::Lost(lost("KVM_RUN", error))),
        }
    }

    /// The words of the trap that [`resume`](Self::resume) has returned.
    #[inline]
    pub(super) fn words(&mut self) -> Registers {
        let regs = &self.fd.sync_regs_mut().regs;
        let transport = Transport { primary: regs.r8, secondary: regs.r9 };
        Registers { kind: regs.rax, word: regs.rbx, transport }
    }

    /// Sets the words of the answer.
    #[inline]
    pub(super) fn answer(&mut self, Registers { kind, word, transport }: Registers) {
        let regs = &mut self.fd.sync_regs_mut().regs;
        (regs.rax, regs.rbx) = (kind, word);
        (regs.r8, regs.r9) = (transport.primary, transport.secondary);
        self.fd.set_sync_dirty_reg(SyncReg::Register);
    }

    /// Ends a repeated string instruction, whose count the guest chooses: the next completion is its last.
    pub(super) fn end_repetition(&mut self) -> io::Result<()> {
        let mut regs = self.fd.get_regs()?;
        regs.rcx = 0;
        self.fd.set_regs(&regs)?;
        Ok(())
    }

    /// The state that a reset restores. The vCPU is settled, so RIP is behind the instruction of its trap.
    pub(super) fn state(&mut self) -> io::Result<State> {
        Ok(State {
            regs: self.fd.get_regs()?,
            sregs: self.fd.get_sregs()?,
            xsave: Box::new(self.fd.get_xsave()?),
            events: self.fd.get_vcpu_events()?,
            debug: self.fd.get_debug_regs()?,
        })
    }

    /// Continues after the state was read.
    pub(super) fn keep(&mut self, state: &State) {
        self.fd.sync_regs_mut().regs = state.regs;
    }

    /// The clock, for a snapshot.
    pub(super) fn clock(&self) -> io::Result<Clock> {
        Clock::of(&self.fd)
    }
}

/// The time-stamp counter of a vCPU (`KVM_GET_MSRS`, Intel SDM, volume 3, "Time-Stamp Counter"), so that it does not go back
/// in a machine that is made from a snapshot.
pub(super) struct Clock(u64);

impl Clock {
    const MSR: u32 = 0x10;

    fn entries(data: u64) -> io::Result<Msrs> {
        let entry = kvm_msr_entry { index: Self::MSR, data, ..Default::default() };
        Msrs::from_entries(&[entry]).map_err(|error| io::Error::other(std::format!("{error:?}")))
    }

    fn of(vcpu: &VcpuFd) -> io::Result<Self> {
        let mut entries = Self::entries(0)?;
        vcpu.get_msrs(&mut entries)?;
        Ok(Self(entries.as_slice().first().map_or(0, |entry| entry.data)))
    }

    fn set(&self, vcpu: &VcpuFd) -> io::Result<()> {
        vcpu.set_msrs(&Self::entries(self.0)?)?;
        Ok(())
    }
}
