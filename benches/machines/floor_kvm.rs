//! A bare round trip of a vCPU by the trap that guests use: `out` if the processor permits it at the least privilege, else a
//! store to an address without memory. Registers are read and written through the page that is shared with the kernel.

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, SyncReg, VcpuExit, VcpuFd, VmFd};
use vm_memory::mmap::MmapRegion;

/// `out dx, eax` in a loop.
const OUT: &[u8] = &[0xef, 0xeb, 0xfd];
/// `mov [rdi], rax` in a loop.
const STORE: &[u8] = &[0x48, 0x89, 0x07, 0xeb, 0xfb];
const PORT: u64 = 0x600;
/// The task segment, whose bitmap permits all ports (Intel SDM, volume 1, "I/O Permission Bit Map").
const TASK: usize = 0x5000;
const TASK_LEN: usize = 0x68;
const BITMAP_LEN: usize = 0x1_0000 / 8;
const LEN: usize = 0x20_0000;

/// A machine with one vCPU and one memory slot of 2 MiB at address 0.
fn machine(code: &[u8]) -> (VmFd, VcpuFd, MmapRegion) {
    let kvm = Kvm::new().expect("KVM");
    let vm = kvm.create_vm().expect("a machine");
    let memory = MmapRegion::<()>::new(LEN).expect("memory");
    let region = kvm_userspace_memory_region {
        memory_size: LEN as u64,
        userspace_addr: memory.as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: the memory lives as long as the machine.
    unsafe { vm.set_user_memory_region(region) }.expect("memory");
    let put = |at: usize, bytes: &[u8]| {
        assert!(at + bytes.len() <= LEN);
        // SAFETY: the range is in the memory, and nothing else refers to it.
        unsafe { memory.as_ptr().add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    };
    // Page tables with two large pages: the memory, and an address without memory. Both are accessible at user privilege.
    for (at, entry) in
        [(0x2000, 0x3007_u64), (0x3000, 0x4007), (0x4000, 0x87), (0x4008, LEN as u64 | 0x87)]
    {
        put(at, &entry.to_le_bytes());
    }
    put(TASK + 0x66, &(TASK_LEN as u16).to_le_bytes());
    put(TASK + TASK_LEN + BITMAP_LEN, &[0xff]);
    put(0x1_0000, code);
    let vcpu = vm.create_vcpu(0).expect("a vCPU");
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
    (regs.rip, regs.rdi, regs.rdx, regs.rflags) = (0x1_0000, LEN as u64, PORT, 2);
    vcpu.set_regs(&regs).expect("registers");
    (vm, vcpu, memory)
}

/// The name of the floor, and a function that makes this many round trips.
pub fn floor() -> (&'static str, impl FnMut(u64)) {
    let (mut name, mut all) = ("bare round trip, `out`", machine(OUT));
    if !matches!(all.1.run(), Ok(VcpuExit::IoOut(..))) {
        (name, all) = ("bare round trip, a store", machine(STORE));
    }
    let (vm, mut vcpu, memory) = all;
    vcpu.set_sync_valid_reg(SyncReg::Register);
    let round_trips = move |round_trips| {
        let _alive = (&vm, &memory);
        for _ in 0..round_trips {
            match vcpu.run() {
                Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => {}
                other => panic!("{other:?}"),
            }
            vcpu.sync_regs_mut().regs.r8 += 1;
            vcpu.set_sync_dirty_reg(SyncReg::Register);
        }
    };
    (name, round_trips)
}
