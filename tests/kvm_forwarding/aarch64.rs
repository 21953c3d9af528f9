//! KVM on aarch64: a filter of SMCCC (KVM API, "KVM_ARM_VM_SMCCC_FILTER") forwards calls by their function identifiers.
//!
//! Names of registers and their fields are those of the Arm Architecture Reference Manual.

use std::{mem::offset_of, sync::OnceLock};

use kvm_bindings::{
    KVM_ARM_VCPU_PSCI_0_2, KVM_ARM_VM_SMCCC_CTRL, KVM_ARM_VM_SMCCC_FILTER, KVM_HYPERCALL_EXIT_SMC,
    KVM_MEM_READONLY, KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_ARM64_SYSREG, KVM_REG_SIZE_U64,
    kvm_device_attr, kvm_regs, kvm_smccc_filter,
    kvm_smccc_filter_action_KVM_SMCCC_FILTER_FWD_TO_USER, kvm_userspace_memory_region,
    kvm_vcpu_init, user_pt_regs,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use vm_memory::mmap::MmapRegion;

pub use vmffi::host::registers::aarch64::GeneralRegisters;

use super::Exit;

/// Where the guests are built, for what, and their programs in both slots, with the addresses for which they are linked.
pub const FOLDER: &str = "examples/bare-metal/aarch64/guest";
pub const TARGET: &str = "aarch64-unknown-none-softfloat";
pub const PROGRAMS: [&str; 2] = ["guest", "guest"];
pub const IMAGES: [u64; 2] = [0x8000_0000; 2];

/// An address without memory.
pub const ADDRESS_OF_HOST: u64 = 0x4008_0000;

/// The number of checks that a guest makes of its host's answers.
pub const CHECKS: usize = 19;

/// Those of functions that KVM answers, which answers otherwise than this crate.
pub const OF_KVM: &[&str] = &[
    "SMCCC_ARCH_FEATURES knows SMCCC_VERSION",
    "SMCCC_ARCH_FEATURES knows itself",
    "SMCCC_ARCH_FEATURES knows no workaround",
    "an unknown function of the architecture",
    "PSCI, which this host does not have",
];

/// The function of a call.
pub type Identity = u32;

/// The calls of a guest that come here, besides those of this ABI: of services of the architecture (`0x8000_xxxx`), of PSCI
/// (`0x8400_xxxx`) and yielding calls none does.
pub const FORWARDED: &[Identity] =
    &[0x8600_ff01, 0x8600_ff03, 0x8600_0001, 0xc600_0001, 0xc600_55ff, 0xc600_5700];

/// The registers that answers may change (ABI, Traps TR-22; SMCCC, "Register use in AArch64 SMC and HVC calls").
pub const MAY_CHANGE: &[usize] = &[0, 1, 2, 3];

/// The first identifiers of vendor-specific hypervisor services, in both calling conventions, and their number (SMCCC,
/// "Function Identifiers").
const VENDOR: [u32; 2] = [0x8600_0000, 0xc600_0000];
const FUNCTIONS: u32 = 0x1_0000;

/// Where the guest's translation table is: a page, behind which there is nothing.
const TABLE_AT: u64 = 0x7000_0000;

const fn core_register(offset: usize) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | offset as u64 / 4
}

const fn system_register(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    let number = op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG as u64 | number
}

const X0: u64 = core_register(offset_of!(kvm_regs, regs));
const PC: u64 = core_register(offset_of!(kvm_regs, regs) + offset_of!(user_pt_regs, pc));
const SCTLR_EL1: u64 = system_register(3, 0, 1, 0, 0);
const CPACR_EL1: u64 = system_register(3, 0, 1, 0, 2);
const TTBR0_EL1: u64 = system_register(3, 0, 2, 0, 0);
const TCR_EL1: u64 = system_register(3, 0, 2, 0, 2);
const MAIR_EL1: u64 = system_register(3, 0, 10, 2, 0);

/// Forwards functions from `base` on.
fn filter(vm: &VmFd, base: u32) -> Result<(), kvm_ioctls::Error> {
    let filter = kvm_smccc_filter {
        base,
        nr_functions: FUNCTIONS,
        action: kvm_smccc_filter_action_KVM_SMCCC_FILTER_FWD_TO_USER as u8,
        ..Default::default()
    };
    vm.set_device_attr(&kvm_device_attr {
        group: KVM_ARM_VM_SMCCC_CTRL,
        attr: KVM_ARM_VM_SMCCC_FILTER.into(),
        addr: &raw const filter as u64,
        ..Default::default()
    })
}

/// Forwards the calls of the range in which this ABI has its functions.
pub fn forward(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    // KVM keeps the services of the architecture: no host can answer them otherwise.
    assert!([0x8000_0000, 0xc000_0000].iter().all(|base| filter(vm, *base).is_err()));
    VENDOR.iter().try_for_each(|base| filter(vm, *base))
}

/// Sets the registers of a vCPU that begins at `entry` at EL1. It uses the floating-point registers, and has an address space of
/// 4 GiB of ordinary memory, where each address is the physical one.
pub fn set_up(vm: &VmFd, vcpu: &VcpuFd, entry: u64, arguments: [u64; 2]) {
    static TABLE: OnceLock<MmapRegion> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let table = MmapRegion::new(0x1000).expect("memory");
        for nr in 0..4 {
            // A block of 1 GiB of attribute 0: shareable, accessed, for EL1 (Arm ARM, "VMSAv8-64 translation table format descriptors").
            let entry = nr << 30 | 1 << 10 | 3 << 8 | 1;
            // SAFETY: the entry is in the page, which is aligned.
            unsafe { table.as_ptr().cast::<u64>().add(nr as usize).write(entry) };
        }
        table
    });
    let region = kvm_userspace_memory_region {
        slot: 10,
        guest_phys_addr: TABLE_AT,
        memory_size: 0x1000,
        userspace_addr: table.as_ptr() as u64,
        flags: KVM_MEM_READONLY,
    };
    // SAFETY: the memory is mapped for good.
    unsafe { vm.set_user_memory_region(region) }.expect("memory");
    let mut target = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut target).expect("a processor");
    // As monitors do whose guests are operating systems, so that PSCI is there.
    target.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    vcpu.vcpu_init(&target).expect("a processor");
    for (register, value) in [
        (PC, entry),
        (X0, arguments[0]),
        (X0 + 2, arguments[1]),
        (CPACR_EL1, 3 << 20),
        (MAIR_EL1, 0xff),
        // 39 bits of address, pages of 4 KiB, cached and inner shareable tables, 40 bits of physical address; no upper half.
        (TCR_EL1, 25 | 1 << 8 | 1 << 10 | 3 << 12 | 25 << 16 | 1 << 23 | 2 << 30 | 2 << 32),
        (TTBR0_EL1, TABLE_AT),
        // MMU and caches, and the bits that are always 1.
        (SCTLR_EL1, 0x30d0_0800 | 1 | 1 << 2 | 1 << 12),
    ] {
        set(vcpu, register, value);
    }
}

fn set(vcpu: &VcpuFd, register: u64, value: u64) {
    vcpu.set_one_reg(register, &value.to_le_bytes()).expect("a register");
}

fn get(vcpu: &VcpuFd, register: u64) -> u64 {
    let mut bytes = [0; 8];
    vcpu.get_one_reg(register, &mut bytes).expect("a register");
    u64::from_le_bytes(bytes)
}

/// The number of a general register.
fn general(nr: usize) -> u64 {
    X0 + 2 * nr as u64
}

pub fn pc(vcpu: &VcpuFd) -> u64 {
    get(vcpu, PC)
}

/// Runs the guest. At a call KVM says the function only: the registers are read one by one.
pub fn enter(vcpu: &mut VcpuFd) -> Exit {
    const DATA_ABORT: u8 = 0x24;
    let function = match vcpu.run() {
        Ok(VcpuExit::Hypercall(call)) => call.nr,
        Ok(VcpuExit::MmioRead(at, _) | VcpuExit::MmioWrite(at, _)) => {
            return Exit::Access { cause: DATA_ABORT, at };
        }
        Ok(VcpuExit::Intr) => return Exit::Interrupted,
        other => return Exit::Other(format!("{other:?}")),
    };
    let mut registers = Box::new(GeneralRegisters::default());
    for (nr, value) in registers.x.iter_mut().enumerate() {
        *value = get(vcpu, general(nr));
    }
    assert_eq!(function, registers.x[0] & 0xffff_ffff, "the function identifier is W0");
    // At both instructions the program counter is behind the call.
    // SAFETY: KVM fills in the `hypercall` variant of the union for this exit, and every bit pattern is a valid `u64`.
    let flags = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.hypercall.__bindgen_anon_1.flags };
    assert_eq!(flags & !u64::from(KVM_HYPERCALL_EXIT_SMC), 0, "hvc or smc, four bytes long");
    Exit::Hypercall(registers)
}

/// Writes the registers with these numbers.
pub fn write(
    vcpu: &mut VcpuFd,
    registers: &GeneralRegisters,
    changed: impl Iterator<Item = usize>,
) {
    changed.for_each(|nr| set(vcpu, general(nr), registers.x[nr]));
}

pub fn identity(registers: &GeneralRegisters) -> Identity {
    registers.x[0] as u32
}

pub fn answer_other(registers: &mut GeneralRegisters) {
    registers.answer_other();
}
