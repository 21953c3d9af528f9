//! What the floors know of riscv64.

use std::{arch::asm, mem::offset_of};

use kvm_bindings::{KVM_REG_RISCV, KVM_REG_RISCV_CORE, KVM_REG_SIZE_U64, kvm_riscv_core};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use nix::libc::user_regs_struct;
use vm_memory::mmap::MmapRegion;

use super::floor_kvm::{CODE, LEN};

/// A loop that traps: `sd a0, 0(a1)`.
pub const LOOPS: &[(&str, &[u8])] =
    &[("bare round trip, a store", &[0x23, 0xb0, 0xa5, 0, 0x6f, 0xf0, 0xdf, 0xff])];

/// Sets the registers of a vCPU that begins at the code in S-mode, without address translation.
pub fn set_up(_: &Kvm, _: &VmFd, vcpu: &mut VcpuFd, _: &MmapRegion) {
    // The program counter, and behind it x1 to x31, of which a1 is x11.
    let kind = KVM_REG_RISCV as u64 | KVM_REG_SIZE_U64 as u64 | u64::from(KVM_REG_RISCV_CORE);
    let pc = kind | offset_of!(kvm_riscv_core, regs) as u64 / 8;
    for (register, value) in [(pc, CODE), (pc + 11, LEN)] {
        vcpu.set_one_reg(register, &value.to_le_bytes()).expect("a register");
    }
}

/// Does nothing: an answer is in memory.
pub fn answer(_: &mut VcpuFd) {}

/// The trap of a process under ptrace(2): a store to address 0.
pub fn store_to_null() {
    // SAFETY: none: the store to null is what the parent waits for, and its answer steps over it.
    unsafe {
        asm!(
            ".option push", ".option norvc", "sd a0, 0(a1)", ".option pop", in("a1") 0,
            inout("a0") 0 => _,
        )
    }
}

/// Steps over that store.
pub fn step_over(registers: &mut user_regs_struct) {
    registers.pc += 4;
}
