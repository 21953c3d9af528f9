//! A bare round trip of a vCPU: a store to where no memory is, at the least privilege, with registers read and
//! written through the page that is shared with the kernel.

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, SyncReg, VcpuExit, VcpuFd, VmFd};
use vm_memory::mmap::MmapRegion;

/// Stores to the address in RDI, for ever.
const CODE: [u8; 5] = [0x48, 0x89, 0x07, 0xeb, 0xfb];
const LEN: usize = 0x20_0000;

/// The machine of one processor: memory of 2 MiB, mapped where it lies, and nothing behind it.
fn machine() -> (VmFd, VcpuFd, MmapRegion) {
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
        // SAFETY: it is in the memory, and nobody else is.
        unsafe { memory.as_ptr().add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    };
    // Page tables of two large pages: the memory, and what is behind it. All is the guest's.
    for (at, entry) in
        [(0x2000, 0x3007_u64), (0x3000, 0x4007), (0x4000, 0x87), (0x4008, LEN as u64 | 0x87)]
    {
        put(at, &entry.to_le_bytes());
    }
    put(0x1_0000, &CODE);
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
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (0x8005_0033, 0x2000, 0x620, 0xd00);
    vcpu.set_sregs(&sregs).expect("registers");
    let mut regs = vcpu.get_regs().expect("registers");
    (regs.rip, regs.rdi, regs.rflags) = (0x1_0000, LEN as u64, 2);
    vcpu.set_regs(&regs).expect("registers");
    (vm, vcpu, memory)
}

pub fn floor() -> impl FnMut(u64) {
    let (vm, mut vcpu, memory) = machine();
    vcpu.set_sync_valid_reg(SyncReg::Register);
    move |round_trips| {
        let _alive = (&vm, &memory);
        for _ in 0..round_trips {
            match vcpu.run() {
                Ok(VcpuExit::MmioWrite(_, [..])) => {}
                other => panic!("{other:?}"),
            }
            vcpu.sync_regs_mut().regs.r8 += 1;
            vcpu.set_sync_dirty_reg(SyncReg::Register);
        }
    }
}
