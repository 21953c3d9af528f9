//! Virtual machines of aarch64. Guest code runs at EL0. At EL1 there is one page of exception vectors: the processor enters
//! one for each exception, and it reports that to the host by a store to a page that only EL1 can access.
//!
//! Names of registers and their fields are those of the Arm Architecture Reference Manual.

use std::io;

use core::mem::offset_of;

use kvm_bindings::{
    KVM_CAP_ARM_NISV_TO_USER, KVM_EXIT_ARM_NISV, KVM_REG_ARM_CORE, KVM_REG_ARM64,
    KVM_REG_ARM64_SYSREG, KVM_REG_SIZE_U32, KVM_REG_SIZE_U64, KVM_REG_SIZE_U128, kvm_enable_cap,
    kvm_regs, kvm_vcpu_init, user_fpsimd_state, user_pt_regs,
};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VmFd};
use nix::libc;

use super::{
    super::{MachineError, lost, native},
    KvmVcpu, system,
    tables::{Access, PrivilegedPages, Tables},
};
use crate::{
    abi::PAGE_SIZE,
    host::{FaultCause, GuestExit},
};

mod frame;
mod registers;

pub(super) use frame::{Clock, State, TrapState, USUAL_TRAP};

/// How many pages of guest-physical memory stay without memory: those of the doorbell and of reports.
pub(super) const UNBACKED_PAGES: u64 = 2;

/// The virtual address of the exception vectors, far behind what the guest uses. The page of reports follows.
const PRIVILEGED_AT: u64 = 0x7f00_0000_0000;

/// The number of a core register, by its offset in `kvm_regs`.
const fn core_register(size: u64, offset: usize) -> u64 {
    KVM_REG_ARM64 | size | KVM_REG_ARM_CORE as u64 | offset as u64 / 4
}

const fn system_register(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    let number = op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG as u64 | number
}

const X0: u64 = core_register(KVM_REG_SIZE_U64, offset_of!(kvm_regs, regs));
const SP: u64 =
    core_register(KVM_REG_SIZE_U64, offset_of!(kvm_regs, regs) + offset_of!(user_pt_regs, sp));
const PC: u64 =
    core_register(KVM_REG_SIZE_U64, offset_of!(kvm_regs, regs) + offset_of!(user_pt_regs, pc));
const PSTATE: u64 =
    core_register(KVM_REG_SIZE_U64, offset_of!(kvm_regs, regs) + offset_of!(user_pt_regs, pstate));
const SP_EL1: u64 = core_register(KVM_REG_SIZE_U64, offset_of!(kvm_regs, sp_el1));
const ELR_EL1: u64 = core_register(KVM_REG_SIZE_U64, offset_of!(kvm_regs, elr_el1));
const SPSR_EL1: u64 = core_register(KVM_REG_SIZE_U64, offset_of!(kvm_regs, spsr));
const V0: u64 = core_register(KVM_REG_SIZE_U128, offset_of!(kvm_regs, fp_regs));
const FPSR: u64 = core_register(
    KVM_REG_SIZE_U32,
    offset_of!(kvm_regs, fp_regs) + offset_of!(user_fpsimd_state, fpsr),
);
const FPCR: u64 = core_register(
    KVM_REG_SIZE_U32,
    offset_of!(kvm_regs, fp_regs) + offset_of!(user_fpsimd_state, fpcr),
);
const SCTLR_EL1: u64 = system_register(3, 0, 1, 0, 0);
const CPACR_EL1: u64 = system_register(3, 0, 1, 0, 2);
const TTBR0_EL1: u64 = system_register(3, 0, 2, 0, 0);
const TCR_EL1: u64 = system_register(3, 0, 2, 0, 2);
const AFSR0_EL1: u64 = system_register(3, 0, 5, 1, 0);
const AFSR1_EL1: u64 = system_register(3, 0, 5, 1, 1);
const ESR_EL1: u64 = system_register(3, 0, 5, 2, 0);
const FAR_EL1: u64 = system_register(3, 0, 6, 0, 0);
const MAIR_EL1: u64 = system_register(3, 0, 10, 2, 0);
const VBAR_EL1: u64 = system_register(3, 0, 12, 0, 0);
const CNTKCTL_EL1: u64 = system_register(3, 0, 14, 1, 0);
const TPIDR_EL0: u64 = system_register(3, 3, 13, 0, 2);

/// MMU, caches, and checks of the stack pointer's alignment, with the bits that are always 1. At EL0, `wfi`, `wfe`, `dc`, `ic`
/// and reads of CTR_EL0 are exceptions.
const SCTLR: u64 = 0x30d0_0800 | 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 12;
/// FPEN: floating point and SIMD, but neither SVE nor SME.
const CPACR: u64 = 3 << 20;
/// Attribute 0, that of all pages: memory, written back.
const MAIR: u64 = 0xff;
/// 48 bits of address, pages of 4 KiB, cached and inner shareable tables; no upper half.
const TCR: u64 = 16 | 1 << 8 | 1 << 10 | 3 << 12 | 16 << 16 | 1 << 23 | 2 << 30;
/// EL0, and all interrupts masked.
const AT_EL0: u64 = 0x3c0;

/// Flags of a descriptor (Arm ARM, "VMSAv8-64 translation table format descriptors"). A block's and a page's accessed flag is
/// set from the beginning, so that the processor need not write to the tables.
const VALID: u64 = 0b11;
const AT_EL0_TOO: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;
const NO_CODE_AT_EL1: u64 = 1 << 53;
const NO_CODE_AT_EL0: u64 = 1 << 54;
/// The bits of a descriptor that hold the address.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// The number of address spaces: the guest's.
pub(super) const ROOTS: u64 = 1;

/// The entry for a page.
pub(super) fn page_entry(physical: u64, access: Access) -> u64 {
    let Access { guest, write, execute } = access;
    let mut flags = VALID | ACCESSED | INNER_SHAREABLE;
    for (set, flag) in [
        (guest, AT_EL0_TOO),
        (!write, READ_ONLY),
        (guest || !execute, NO_CODE_AT_EL1),
        (!guest || !execute, NO_CODE_AT_EL0),
    ] {
        flags |= if set { flag } else { 0 };
    }
    physical | flags
}

/// The entry for a table. The last level restricts the access.
pub(super) fn table_entry(physical: u64, _: Access) -> u64 {
    physical | VALID
}

/// The guest-physical address of the table that an entry leads to.
pub(super) fn table_of(entry: u64) -> Option<u64> {
    (entry & VALID != 0).then_some(entry & ADDRESS)
}

/// The number of fixed pages: the vectors.
pub(super) fn fixed_pages(_: u64) -> u64 {
    1
}

/// Maps the fixed page, and that of reports, which follows the doorbell and has no memory either.
pub(super) fn map_fixed(tables: &mut Tables, root: u64, fixed: u64, _: u64, doorbell: u64) {
    let data = Access::PRIVILEGED;
    tables.map(root, PRIVILEGED_AT, fixed, PAGE_SIZE, Access { execute: true, ..data });
    let report = Access { write: true, ..data };
    tables.map(root, PRIVILEGED_AT + PAGE_SIZE, doorbell + PAGE_SIZE, PAGE_SIZE, report);
}

/// Writes the vectors: 16 of 128 bytes. Each stores its number to the page of reports.
pub(super) fn fill_fixed(pages: &PrivilegedPages, _: u64) {
    for vector in 0..16 {
        let distance = PAGE_SIZE - vector * 128;
        let code = [
            // adr x29, the page of reports; mov x30, #vector
            0x1000_001d | (distance / 4) << 5,
            0xd280_001e | vector << 5,
            // str x30, [x29]; b .
            0xf900_03be,
            0x1400_0000,
        ];
        let words = [code[0] | code[1] << 32, code[2] | code[3] << 32];
        pages.put(pages.places().fixed + vector * 128, &words);
    }
}

/// The vector for synchronous exceptions from EL0.
const FROM_EL0: u64 = 8;

/// What KVM supports. It does not change while this program runs.
pub(super) struct Facts {
    /// The width of a guest-physical address, in bits.
    physical_bits: u32,
}

impl Facts {
    pub(super) fn of(kvm: &Kvm) -> Result<Self, MachineError> {
        let bits =
            if kvm.check_extension(Cap::ArmVmIPASize) { kvm.get_host_ipa_limit() } else { 40 };
        Ok(Self { physical_bits: bits.clamp(32, 48) as u32 })
    }

    pub(super) fn create_vm(&self, kvm: &Kvm) -> Result<VmFd, MachineError> {
        let bits = if kvm.check_extension(Cap::ArmVmIPASize) { self.physical_bits } else { 0 };
        let vm = kvm.create_vm_with_ipa_size(bits).map_err(system("KVM_CREATE_VM"))?;
        // Without it, an access outside of memory that KVM cannot decode is an error of `KVM_RUN`, without its address.
        let capability = kvm_enable_cap { cap: KVM_CAP_ARM_NISV_TO_USER, ..Default::default() };
        let _ = vm.enable_cap(&capability);
        Ok(vm)
    }

    pub(super) fn physical_bits(&self) -> u32 {
        self.physical_bits
    }

    /// IPS of TCR_EL1: the greatest width of those that the field can say that is not more.
    fn ips(&self) -> u64 {
        match self.physical_bits {
            ..36 => 0,
            36..40 => 1,
            40..42 => 2,
            42..44 => 3,
            44..48 => 4,
            48.. => 5,
        }
    }
}

/// The registers that a guest can change, and those that an exception changes.
fn kept() -> impl Iterator<Item = u64> {
    // Numbers count units of four bytes.
    let general = (0..31).map(|nr| X0 + 2 * nr);
    let vectors = (0..32).map(|nr| V0 + 4 * nr);
    let others = [
        SP, PC, PSTATE, SP_EL1, ELR_EL1, SPSR_EL1, FPSR, FPCR, TPIDR_EL0, AFSR0_EL1, AFSR1_EL1,
        ESR_EL1, FAR_EL1,
    ];
    general.chain(vectors).chain(others)
}

impl KvmVcpu {
    /// Prepares a new vCPU.
    pub(super) fn configure(&self) -> Result<(), MachineError> {
        let mut target = kvm_vcpu_init::default();
        let vm = &self.machine.fd;
        vm.get_preferred_target(&mut target).map_err(system("KVM_ARM_PREFERRED_TARGET"))?;
        self.fd.vcpu_init(&target).map_err(system("KVM_ARM_VCPU_INIT"))?;
        self.set_up().map_err(MachineError::system("KVM_SET_ONE_REG"))
    }

    /// Sets the registers of EL1, which the guest cannot change.
    fn set_up(&self) -> io::Result<()> {
        for (register, value) in [
            (MAIR_EL1, MAIR),
            (TCR_EL1, TCR | self.machine.facts.native.ips() << 32),
            (TTBR0_EL1, self.machine.privileged.places().root),
            (VBAR_EL1, PRIVILEGED_AT),
            (CPACR_EL1, CPACR),
            (CNTKCTL_EL1, 0),
            (SCTLR_EL1, SCTLR),
        ] {
            registers::set(&self.fd, register, value)?;
        }
        Ok(())
    }

    /// Sets all registers for the guest's entry point (ABI, "Boot block"). The others of a new vCPU are 0.
    pub(super) fn begin(&mut self) -> Result<(), MachineError> {
        let stack = self.machine.plan.space.stacks[self.number as usize];
        let entry = self.machine.plan.image.entry();
        for (register, value) in
            [(X0, stack), (SP, stack), (PC, entry), (PSTATE, AT_EL0), (TPIDR_EL0, 0)]
        {
            registers::set(&self.fd, register, value)
                .map_err(MachineError::system("KVM_SET_ONE_REG"))?;
        }
        Ok(())
    }

    /// Runs until the next exit. Returns true for a trap, and false if a signal or nothing interrupted the vCPU.
    pub(super) fn resume(&mut self) -> Result<bool, GuestExit> {
        let doorbell = self.machine.doorbell;
        let invalid = |at: u64| Err(self.machine.invalid_access(at));
        match self.fd.run() {
            Ok(VcpuExit::MmioWrite(at, data)) if at == doorbell => {
                match <[u8; 8]>::try_from(&*data) {
                    Ok(value) => self.rung(u64::from_le_bytes(value)),
                    Err(_) => invalid(at),
                }
            }
            Ok(VcpuExit::MmioWrite(at, data)) if at == doorbell + PAGE_SIZE => {
                let vector = data.first().copied().unwrap_or_default();
                Err(self.fault(vector.into()))
            }
            Ok(VcpuExit::MmioWrite(at, _) | VcpuExit::MmioRead(at, _)) => invalid(at),
            Ok(VcpuExit::Unsupported(KVM_EXIT_ARM_NISV)) => Err(self.undecoded()),
            Ok(VcpuExit::Intr) => Ok(false),
            Ok(exit) => Err(GuestExit::Lost(format_args!("KVM: {exit:?}").into())),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(false),
            Err(error) if error.errno() == libc::ENOSYS => Err(self.undecoded_at_instruction()),
            Err(error) => Err(GuestExit::Lost(lost("KVM_RUN", error))),
        }
    }

    /// Describes an access that KVM has not decoded, since the processor does not describe it: by more than one register, by a
    /// vector register, atomic, or with write-back. Only pages without memory are accessed so.
    #[cold]
    fn undecoded(&mut self) -> GuestExit {
        // SAFETY: KVM fills in the `arm_nisv` variant of the union for the exit reason `KVM_EXIT_ARM_NISV`, which the caller has
        // seen, and every bit pattern is a valid `u64`.
        let at = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.arm_nisv.fault_ipa };
        self.machine.invalid_access(at)
    }

    /// The same on a kernel that does not say where the access is.
    #[cold]
    fn undecoded_at_instruction(&self) -> GuestExit {
        match registers::get(&self.fd, PC) {
            Ok(pc) => {
                let cause = FaultCause::Exception(native::ABORT);
                GuestExit::Fault(self.machine.plan.fault(cause, None, pc))
            }
            Err(error) => GuestExit::Lost(lost("KVM_GET_ONE_REG", error)),
        }
    }

    /// Describes the exception that a vector reports.
    #[cold]
    fn fault(&self, vector: u64) -> GuestExit {
        let registers = || -> io::Result<[u64; 3]> {
            let get = |register| registers::get(&self.fd, register);
            Ok([get(ESR_EL1)?, get(FAR_EL1)?, get(ELR_EL1)?])
        };
        match registers() {
            Ok(_) if vector != FROM_EL0 => {
                GuestExit::Lost(format_args!("KVM: an exception of vector {vector} at EL1").into())
            }
            Ok([syndrome, address, instruction]) => {
                let class = (syndrome >> 26 & 0x3f) as u8;
                let address = native::is_page_fault(class).then_some(address);
                let cause = FaultCause::Exception(class);
                GuestExit::Fault(self.machine.plan.fault(cause, address, instruction))
            }
            Err(error) => GuestExit::Lost(lost("KVM_GET_ONE_REG", error)),
        }
    }
}
