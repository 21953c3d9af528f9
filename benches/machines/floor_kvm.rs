//! A bare round trip of a vCPU by the trap that guests use: on x86_64 `out`, if the processor permits it at the least privilege,
//! else, and elsewhere, a store to an address without memory.

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::mmap::MmapRegion;

use super::native;

/// The length of the memory, which begins at address 0. Behind it is an address without memory.
pub const LEN: usize = 0x20_0000;
/// The address of the code.
pub const CODE: usize = 0x1_0000;

/// Writes to the memory of a machine.
pub fn put(memory: &MmapRegion, at: usize, bytes: &[u8]) {
    assert!(at + bytes.len() <= LEN);
    // SAFETY: the range is in the memory, and nothing else refers to it.
    unsafe { memory.as_ptr().add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

/// A machine with one vCPU, one memory slot of 2 MiB at address 0, and this code.
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
    put(&memory, CODE, code);
    let mut vcpu = vm.create_vcpu(0).expect("a vCPU");
    native::set_up(&kvm, &vm, &mut vcpu, &memory);
    (vm, vcpu, memory)
}

/// The name of the floor, and a function that makes this many round trips.
pub fn floor() -> (&'static str, impl FnMut(u64)) {
    let mut loops = native::LOOPS.iter();
    let (name, (vm, mut vcpu, memory)) = loops
        .find_map(|(name, code)| {
            let mut all = machine(code);
            let exits = matches!(all.1.run(), Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)));
            exits.then_some((*name, all))
        })
        .expect("a trap");
    let round_trips = move |round_trips| {
        let _alive = (&vm, &memory);
        for _ in 0..round_trips {
            match vcpu.run() {
                Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => {}
                other => panic!("{other:?}"),
            }
            native::answer(&mut vcpu);
        }
    };
    (name, round_trips)
}
