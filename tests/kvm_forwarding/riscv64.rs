//! KVM on riscv64: calls of the experimental and of the vendor extensions of SBI are forwarded (KVM API, "KVM_EXIT_RISCV_SBI"), and
//! so is the probe of one of them.

use std::mem::offset_of;

use kvm_bindings::{
    KVM_EXIT_RISCV_SBI, KVM_REG_RISCV, KVM_REG_RISCV_CORE, KVM_REG_RISCV_CSR, KVM_REG_SIZE_U64,
    kvm_riscv_core, kvm_riscv_csr,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use vmffi::abi::SBI_EXTENSION;

pub use vmffi::host::registers::riscv64::GeneralRegisters;

use super::Exit;

/// Where the guests are built, for what, and their programs in both slots, with the addresses for which they are linked.
pub const FOLDER: &str = "examples/bare-metal/riscv64/guest";
pub const TARGET: &str = "riscv64imac-unknown-none-elf";
pub const PROGRAMS: [&str; 2] = ["slot0", "slot1"];
pub const IMAGES: [u64; 2] = [0x8200_0000, 0x8240_0000];

/// An address without memory.
pub const ADDRESS_OF_HOST: u64 = 0x8000_0000;

/// The number of checks that a guest makes of its host's answers.
pub const CHECKS: usize = 19;

/// Those of functions that KVM answers, which answers otherwise than this crate.
pub const OF_KVM: &[&str] = &[
    "sbi_get_spec_version is 2.0",
    "sbi_get_impl_id",
    "sbi_get_impl_version",
    "sbi_probe_extension of the timer",
    "the timer, which this host does not have",
];

/// The extension and the function of a call, and its first argument if it is a probe.
pub type Identity = (u64, u64, u64);

/// The calls of a guest that come here, besides those of this ABI: of the base extension probes of forwarded extensions come, of
/// the timer and of extensions of more than 32 bits nothing does.
pub const FORWARDED: &[Identity] = &[
    (0x10, 3, SBI_EXTENSION),
    (0x10, 3, SBI_EXTENSION + 1),
    (0x0900_0000, 0, 0),
    (SBI_EXTENSION - 1, 1, 0),
    (SBI_EXTENSION + 1, 1, 0),
];

/// The numbers of the registers that answers may change: a0 and a1 (ABI, Traps TR-23; SBI 2.0, chapter 3).
pub const MAY_CHANGE: &[usize] = &[A0, A0 + 1];

const A0: usize = 10;
const A6: usize = 16;
const A7: usize = 17;

const fn register(kind: u32, offset: usize) -> u64 {
    KVM_REG_RISCV as u64 | KVM_REG_SIZE_U64 as u64 | kind as u64 | offset as u64 / 8
}

/// PC, and behind it x1 to x31.
const PC: u64 = register(KVM_REG_RISCV_CORE, offset_of!(kvm_riscv_core, regs));
const SSTATUS: u64 = register(KVM_REG_RISCV_CSR, offset_of!(kvm_riscv_csr, sstatus));
/// FS of sstatus: floating point is on, in its initial state.
const FS_INITIAL: u64 = 1 << 13;

/// KVM forwards these extensions unless it is told otherwise.
pub fn forward(_: &VmFd) -> Result<(), kvm_ioctls::Error> {
    Ok(())
}

/// Sets the registers of a vCPU that begins at `entry` in VS-mode, without address translation.
pub fn set_up(_: &VmFd, vcpu: &VcpuFd, entry: u64, arguments: [u64; 2]) {
    let a0 = PC + A0 as u64;
    for (register, value) in
        [(PC, entry), (a0, arguments[0]), (a0 + 1, arguments[1]), (SSTATUS, FS_INITIAL)]
    {
        vcpu.set_one_reg(register, &value.to_le_bytes()).expect("a register");
    }
}

pub fn pc(vcpu: &VcpuFd) -> u64 {
    let mut bytes = [0; 8];
    vcpu.get_one_reg(PC, &mut bytes).expect("a register");
    u64::from_le_bytes(bytes)
}

/// Runs the guest. At a call KVM says the registers that carry arguments, and those of its answer are a0 and a1 only; the others
/// have patterns here.
pub fn enter(vcpu: &mut VcpuFd) -> Exit {
    const LOAD: u8 = 21;
    const STORE: u8 = 23;
    match vcpu.run() {
        Ok(VcpuExit::Unsupported(KVM_EXIT_RISCV_SBI)) => {}
        Ok(VcpuExit::MmioRead(at, _)) => return Exit::Access { cause: LOAD, at },
        Ok(VcpuExit::MmioWrite(at, _)) => return Exit::Access { cause: STORE, at },
        Ok(VcpuExit::Intr) => return Exit::Interrupted,
        other => return Exit::Other(format!("{other:?}")),
    }
    // SAFETY: KVM fills in the `riscv_sbi` variant of the union for this exit, and every bit pattern is valid.
    let call = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.riscv_sbi };
    let pattern = |nr| 0x5a5a_0000_0000 + nr as u64;
    let mut registers = Box::new(GeneralRegisters { x: std::array::from_fn(pattern) });
    registers.x[A0..A6].copy_from_slice(&call.args);
    (registers.x[A6], registers.x[A7]) = (call.function_id, call.extension_id);
    Exit::Hypercall(registers)
}

/// Writes the answer. KVM copies both words to a0 and a1, whether or not they have changed.
pub fn write(vcpu: &mut VcpuFd, registers: &GeneralRegisters, _: impl Iterator<Item = usize>) {
    let run = vcpu.get_kvm_run();
    run.__bindgen_anon_1.riscv_sbi.ret = [registers.x[A0], registers.x[A0 + 1]];
}

pub fn identity(registers: &GeneralRegisters) -> Identity {
    let (extension, function) = (registers.x[A7], registers.x[A6]);
    (extension, function, if extension == 0x10 { registers.x[A0] } else { 0 })
}

/// What this host says of itself: an identifier of an implementation of the SBI, and a version. KVM does not ask for them.
pub fn answer_other(registers: &mut GeneralRegisters) {
    registers.answer_other((0, 0));
}
