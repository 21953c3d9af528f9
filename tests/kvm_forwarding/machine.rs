//! A virtual machine with one vCPU, whose guest is that of `examples/bare-metal`.

use std::{
    collections::BTreeSet,
    fs,
    ptr::NonNull,
    sync::{Mutex, OnceLock},
};

use bare_metal::LAYOUT;
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::mmap::MmapRegion;
use vmffi::{
    PAGE_SIZE, RegionMemory,
    abi::{Registers, Side},
    host::{Fault, FaultCause, GuestExit, GuestMemory, Piece, SavedRegisters, Vcpu},
};

#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
pub mod native;

use native::GeneralRegisters;

/// The memory of a guest has two blocks: image and stack, and the region.
const BLOCK: usize = 2 << 20;

/// The memory of each slot, in which one guest runs after another.
static SLOTS: [OnceLock<MmapRegion>; 2] = [const { OnceLock::new() }; 2];

/// Where this program reaches the first byte of a slot.
fn slot(slot: usize) -> NonNull<u8> {
    let memory = SLOTS[slot].get_or_init(|| MmapRegion::new(2 * BLOCK).expect("memory"));
    NonNull::new(memory.as_ptr()).expect("memory")
}

/// Zeroes bytes of a slot.
fn clear(nr: usize, at: usize, len: usize) {
    assert!(at + len <= 2 * BLOCK);
    // SAFETY: the bytes are in the slot, and no reference covers them.
    unsafe { slot(nr).add(at).write_bytes(0, len) };
}

/// Why a vCPU has left its guest.
pub enum Exit {
    /// By a hypercall that is forwarded, with these registers.
    Hypercall(Box<GeneralRegisters>),
    /// By an access at which there is no memory, or none that the guest may write.
    Access {
        cause: u8,
        at: u64,
    },
    Interrupted,
    Other(String),
}

/// What has come from a guest, and what has been written to its registers.
#[derive(Default)]
pub struct Traffic {
    /// How often the vCPU has run.
    pub runs: usize,
    /// How many hypercalls were this ABI's.
    pub traps: usize,
    /// All others, as function and extension or the like ([`native::identity`]).
    pub others: Vec<native::Identity>,
    /// The numbers of all registers that any answer has changed.
    pub changed: BTreeSet<usize>,
}

pub struct Machine {
    slot: usize,
    fd: VcpuFd,
    registers: Box<GeneralRegisters>,
    pub traffic: Traffic,
    _vm: VmFd,
}

/// The image block of a slot, with the frames of traps.
pub struct SlotMemory(pub usize);

// SAFETY: a slot is memory that is mapped for good, and no reference covers it. The guest can write all of its first block.
unsafe impl GuestMemory for SlotMemory {
    fn translate(&self, address: u64, len: usize) -> Option<Piece> {
        let offset = address.checked_sub(native::IMAGES[self.0])?;
        let offset = usize::try_from(offset).ok().filter(|offset| *offset < BLOCK)?;
        // SAFETY: the offset is in the slot.
        let at = unsafe { slot(self.0).add(offset) };
        Some(Piece { at, len: len.min(BLOCK - offset) })
    }
}

impl Machine {
    /// Loads a guest into a slot, in which everything else that a guest can write is zero.
    pub fn new(nr: usize, mode: u64) -> Self {
        static IMAGES: [OnceLock<Vec<u8>>; 2] = [const { OnceLock::new() }; 2];
        let image = IMAGES[nr].get_or_init(|| {
            let program = super::cases::program(native::PROGRAMS[nr]).expect("a guest");
            fs::read(program).expect("a guest")
        });
        let (page, len) = (PAGE_SIZE as usize, LAYOUT.len() as usize);
        let (arena, arena_len) = LAYOUT.arena(Side::Host);
        let (arena, arena_end) = (arena as usize, (arena + arena_len) as usize);
        assert!(image.len() <= BLOCK && len <= BLOCK && page <= arena);
        clear(nr, 0, BLOCK);
        // SAFETY: the image is no longer than the first block of the slot, and no reference covers that.
        unsafe { slot(nr).copy_from_nonoverlapping(NonNull::from(&image[..]).cast(), image.len()) };

        let kvm = Kvm::new().expect("KVM");
        let vm = kvm.create_vm().expect("a machine");
        let parts = [
            (0, BLOCK, true),
            (BLOCK, BLOCK + page, false),
            (BLOCK + page, BLOCK + arena, true),
            (BLOCK + arena, BLOCK + arena_end, false),
            (BLOCK + arena_end, BLOCK + len.next_multiple_of(page), true),
        ];
        for (number, (start, end, writable)) in (0..).zip(parts) {
            if start == end {
                continue;
            }
            if writable && start > 0 {
                clear(nr, start, end - start);
            }
            let region = kvm_userspace_memory_region {
                slot: number,
                flags: if writable { 0 } else { KVM_MEM_READONLY },
                guest_phys_addr: native::IMAGES[nr] + start as u64,
                memory_size: (end - start) as u64,
                userspace_addr: slot(nr).as_ptr() as u64 + start as u64,
            };
            // SAFETY: the memory is mapped for good.
            unsafe { vm.set_user_memory_region(region) }.expect("memory");
        }
        native::forward(&vm).expect("KVM forwards hypercalls");
        let fd = vm.create_vcpu(0).expect("a vCPU");
        let region = native::IMAGES[nr] + BLOCK as u64;
        native::set_up(&vm, &fd, native::IMAGES[nr], [mode, region]);
        Self { slot: nr, fd, registers: Box::default(), traffic: Traffic::default(), _vm: vm }
    }

    /// The region of the guest in a slot.
    pub fn region(nr: usize) -> RegionMemory {
        // SAFETY: the block is in the slot, which is mapped for good. Only the guest in this slot and the host that is connected to it
        // use it.
        unsafe { RegionMemory::permanent(slot(nr).as_ptr().add(BLOCK), LAYOUT.len()) }
    }

    /// Lets `answer` change the saved registers, and writes those that it has changed to the vCPU.
    fn answer(
        &mut self,
        answer: impl FnOnce(&mut GeneralRegisters) -> Result<(), GuestExit>,
    ) -> Result<(), GuestExit> {
        let before = self.registers.x;
        answer(&mut self.registers)?;
        let after = self.registers.x;
        let changed = (0..before.len()).filter(|nr| before[*nr] != after[*nr]);
        self.traffic.changed.extend(changed.clone());
        native::write(&mut self.fd, &self.registers, changed);
        Ok(())
    }
}

impl Vcpu for Machine {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        let memory = SlotMemory(self.slot);
        if let Some(answer) = answer {
            self.answer(|registers| registers.complete(&memory, answer))?;
        }
        loop {
            self.traffic.runs += 1;
            match native::enter(&mut self.fd) {
                Exit::Hypercall(registers) => {
                    self.registers = registers;
                    if let Some(words) = self.registers.trap(&memory)? {
                        self.traffic.traps += 1;
                        return Ok(words);
                    }
                    self.traffic.others.push(native::identity(&self.registers));
                    self.answer(|registers| {
                        native::answer_other(registers);
                        Ok(())
                    })?;
                }
                Exit::Access { cause, at } => {
                    let pc = native::pc(&self.fd);
                    let mut fault = Fault::new(FaultCause::Exception(cause), pc);
                    fault.address = Some(at);
                    return Err(GuestExit::Fault(fault));
                }
                Exit::Interrupted => {}
                Exit::Other(exit) => return Err(GuestExit::Lost(exit.as_str().into())),
            }
        }
    }
}

/// Why KVM cannot be used here.
pub fn missing() -> Option<&'static str> {
    static MISSING: Mutex<Option<Option<&'static str>>> = Mutex::new(None);
    *MISSING.lock().unwrap().get_or_insert_with(|| {
        let vm = Kvm::new().and_then(|kvm| kvm.create_vm());
        match vm {
            Err(_) => Some("there is no /dev/kvm that can be used"),
            Ok(vm) => native::forward(&vm).is_err().then_some("this KVM forwards no hypercalls"),
        }
    })
}
