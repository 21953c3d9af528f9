//! What the floors know of x86_64.

use std::arch::asm;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_segment};
use kvm_ioctls::{Kvm, SyncReg, VcpuFd, VmFd};
use nix::libc::user_regs_struct;
use vm_memory::mmap::MmapRegion;

use super::floor_kvm::{CODE, LEN, put};

/// Loops that trap: `out dx, eax`, and `mov [rdi], rax`.
pub const LOOPS: &[(&str, &[u8])] = &[
    ("bare round trip, `out`", &[0xef, 0xeb, 0xfd]),
    ("bare round trip, a store", &[0x48, 0x89, 0x07, 0xeb, 0xfb]),
];
const PORT: u64 = 0x600;
/// The task segment, whose bitmap permits all ports (Intel SDM, volume 1, "I/O Permission Bit Map").
const TASK: usize = 0x5000;
const TASK_LEN: usize = 0x68;
const BITMAP_LEN: usize = 0x1_0000 / 8;

/// Sets the registers of a vCPU that begins at the code in ring 3.
pub fn set_up(kvm: &Kvm, _: &VmFd, vcpu: &mut VcpuFd, memory: &MmapRegion) {
    // Page tables with two large pages: the memory, and an address without memory. Both are accessible at user privilege.
    for (at, entry) in
        [(0x2000, 0x3007_u64), (0x3000, 0x4007), (0x4000, 0x87), (0x4008, LEN as u64 | 0x87)]
    {
        put(memory, at, &entry.to_le_bytes());
    }
    put(memory, TASK + 0x66, &(TASK_LEN as u16).to_le_bytes());
    put(memory, TASK + TASK_LEN + BITMAP_LEN, &[0xff]);
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).expect("CPUID");
    vcpu.set_cpuid2(&cpuid).expect("CPUID");
    let mut sregs = vcpu.get_sregs().expect("registers");
    let segment = |selector, type_, l| kvm_segment {
        selector,
        type_,
        l,
        limit: u32::MAX,
        present: 1,
        dpl: 3,
        db: 1 - l,
        s: 1,
        g: 1,
        ..Default::default()
    };
    (sregs.cs, sregs.ss) = (segment(0x2b, 11, 1), segment(0x23, 3, 0));
    (sregs.ds, sregs.es) = (sregs.ss, sregs.ss);
    sregs.tr = kvm_segment {
        base: TASK as u64,
        limit: (TASK_LEN + BITMAP_LEN) as u32,
        selector: 0x30,
        type_: 11,
        present: 1,
        ..Default::default()
    };
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (0x8005_0033, 0x2000, 0x620, 0xd00);
    vcpu.set_sregs(&sregs).expect("registers");
    let mut regs = vcpu.get_regs().expect("registers");
    (regs.rip, regs.rdi, regs.rdx, regs.rflags) = (CODE as u64, LEN as u64, PORT, 2);
    vcpu.set_regs(&regs).expect("registers");
    vcpu.set_sync_valid_reg(SyncReg::Register);
}

/// Changes a register, in the page that is shared with the kernel.
pub fn answer(vcpu: &mut VcpuFd) {
    vcpu.sync_regs_mut().regs.r8 += 1;
    vcpu.set_sync_dirty_reg(SyncReg::Register);
}

/// The trap of a process under ptrace(2): a store to address 0.
pub fn store_to_null() {
    // SAFETY: none: the store to null is what the parent waits for, and its answer steps over it.
    unsafe { asm!("mov [rdx], rax", in("rdx") 0, in("rax") 0, inout("r8") 0 => _) }
}

/// Steps over that store.
pub fn step_over(registers: &mut user_regs_struct) {
    registers.rip += 3;
}
