//! What the floors know of aarch64.

use std::{arch::asm, mem::offset_of};

use kvm_bindings::{
    KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_SIZE_U64, kvm_regs, kvm_vcpu_init, user_pt_regs,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use nix::libc::user_regs_struct;
use vm_memory::mmap::MmapRegion;

use super::floor_kvm::{CODE, LEN};

/// A loop that traps: `str x0, [x1]`.
pub const LOOPS: &[(&str, &[u8])] =
    &[("bare round trip, a store", &[0x20, 0, 0, 0xf9, 0xff, 0xff, 0xff, 0x17])];

/// The number of a core register, by its offset in `kvm_regs`.
const fn core_register(offset: usize) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | offset as u64 / 4
}

/// Sets the registers of a vCPU that begins at the code at EL1, without address translation.
pub fn set_up(_: &Kvm, vm: &VmFd, vcpu: &mut VcpuFd, _: &MmapRegion) {
    let mut target = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut target).expect("a processor");
    vcpu.vcpu_init(&target).expect("a processor");
    let regs = offset_of!(kvm_regs, regs);
    for (register, value) in [
        (core_register(regs + offset_of!(user_pt_regs, pc)), CODE),
        (core_register(regs + offset_of!(user_pt_regs, regs) + 8), LEN),
    ] {
        vcpu.set_one_reg(register, &value.to_le_bytes()).expect("a register");
    }
}

/// Does nothing: an answer is in memory.
pub fn answer(_: &mut VcpuFd) {}

/// The trap of a process under ptrace(2): a store to address 0.
pub fn store_to_null() {
    // SAFETY: none: the store to null is what the parent waits for, and its answer steps over it.
    unsafe { asm!("str x0, [x1]", in("x1") 0, inout("x0") 0 => _) }
}

/// Steps over that store.
pub fn step_over(registers: &mut user_regs_struct) {
    registers.pc += 4;
}
