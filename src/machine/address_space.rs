//! Where image, stacks and region lie in a guest's address space, and at which offset of the machine's memory each part
//! is.
//!
//! | from | up to | what |
//! |---|---|---|
//! | 64 KiB | 64 GiB | the image ([`Image`]) |
//! | `REGION_AT`, 64 GiB | 576 GiB | the region: header, release maps, guest's arena, host's arena |
//! | `STACKS_AT`, 1 TiB and a page | 1.5 TiB | the stacks, each above an unmapped guard of 1 MiB |
//! | 1.9375 TiB | 1.9375 TiB and 12 MiB | in a process: the gate, its control memory, and the signal stacks |
//! | `DOORBELL_AT`, 2 TiB | one page | the doorbell |
//! | 3 TiB, 4 TiB | 5 TiB | in a process: the image and the checkpoint, read-only |

use std::vec::Vec;

use super::{Image, MachineError, image};
use crate::{
    abi::{Boot, PAGE_SIZE, Side},
    memory::RegionLayout,
};

/// The address of the region, behind all images.
pub(super) const REGION_AT: u64 = 0x10_0000_0000;
const _: () = assert!(image::HIGHEST <= REGION_AT, "images overlap the region");
/// The address of the first vCPU's stack. The stacks of the others follow.
pub(super) const STACKS_AT: u64 = 0x100_0000_1000;
/// The length of the unmapped guard below each stack, in bytes. A function whose frame is larger than a page may touch the far end
/// of it first: compilers for riscv64 do not probe the pages between. It is what Linux keeps free below the stack of a thread.
const GUARD_LEN: u64 = 1 << 20;
/// The greatest length of all stacks with their guards, in bytes: 512 GiB.
const MAX_STACKS_LEN: u64 = 0x80_0000_0000;
/// The address of the doorbell, for guests that trap by a store to it (ABI, "Traps"). No memory of the machine is
/// mapped there.
pub(super) const DOORBELL_AT: u64 = 0x200_0000_0000;
/// The greatest length of image and stacks, in bytes.
pub(super) const MAX_PRIVATE_LEN: u64 = image::HIGHEST + MAX_STACKS_LEN;
/// The greatest number of vCPUs.
pub(super) const MAX_VCPUS: u32 = 64;

/// A range of whole pages of a guest's address space that is mapped from one range of the machine's memory. The guest
/// can read all parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) address: u64,
    /// The offset in the machine's memory.
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) write: bool,
    pub(super) execute: bool,
}

/// A guest's address space: the parts that are mapped, one after the other in the machine's memory.
pub(super) struct AddressSpace {
    /// The segments of the image, in its order, then the stacks, then the region.
    pub(super) parts: Vec<Part>,
    /// For each vCPU the address of its boot block, at the top of its stack, which is also the initial stack pointer.
    pub(super) stacks: Vec<u64>,
    /// The length of each stack, in bytes.
    stack_len: u64,
    /// The length of the image's parts, in bytes.
    pub(super) image_len: u64,
    /// The offset of the region in the machine's memory.
    pub(super) region: u64,
    /// The length of the machine's memory, in bytes.
    pub(super) len: u64,
}

impl AddressSpace {
    /// Lays out the address space for a number of vCPUs with stacks of `stack` bytes, rounded up to whole pages.
    pub(super) fn new(
        image: &Image,
        layout: &RegionLayout,
        vcpus: u32,
        stack: u64,
    ) -> Result<Self, MachineError> {
        if !(1..=MAX_VCPUS).contains(&vcpus) {
            return Err(MachineError::Config("the number of vCPUs must be 1 to 64"));
        }
        let vcpus = u64::from(vcpus);
        let fits = |stack: &u64| *stack <= MAX_STACKS_LEN / vcpus - GUARD_LEN;
        let stack_len = stack.max(1).checked_next_multiple_of(PAGE_SIZE).filter(fits);
        let stack_len = stack_len.ok_or(MachineError::Config(
            "the stacks of all vCPUs exceed 512 GiB: use a smaller stack or fewer vCPUs",
        ))?;
        let mut parts = Vec::new();
        let mut len = 0;
        let mut add = |address, bytes, write, execute| {
            let offset = len;
            parts.push(Part { address, offset, len: bytes, write, execute });
            len += bytes;
            offset
        };
        for segment in image.segments() {
            add(segment.address, segment.len, segment.write, segment.execute);
        }
        let image_len = image.pages_len();
        let mut stacks = Vec::new();
        for cpu in 0..vcpus {
            let bottom = STACKS_AT + cpu * (stack_len + GUARD_LEN);
            add(bottom, stack_len, true, false);
            stacks.push(bottom + stack_len - Boot::LEN as u64);
        }
        // The guest can write its release maps and its arena, but neither the header nor the host's arena.
        let (host, host_len) = layout.arena(Side::Host);
        let region = add(REGION_AT, PAGE_SIZE, false, false);
        add(REGION_AT + PAGE_SIZE, host - PAGE_SIZE, true, false);
        add(REGION_AT + host, host_len, false, false);
        Ok(Self { parts, stacks, stack_len, image_len, region, len })
    }

    /// The part that an address of the guest is in, and the offset of the address in the machine's memory.
    pub(super) fn find(&self, address: u64) -> Option<(u64, Part)> {
        let part = self.parts.iter().find(|part| {
            address.checked_sub(part.address).is_some_and(|within| within < part.len)
        })?;
        Some((part.offset + (address - part.address), *part))
    }

    /// Whether an address is in the guard below a stack.
    pub(super) fn is_guard(&self, address: u64) -> bool {
        let stride = self.stack_len + GUARD_LEN;
        address.checked_sub(STACKS_AT - GUARD_LEN).is_some_and(|within| {
            within / stride < self.stacks.len() as u64 && within % stride < GUARD_LEN
        })
    }
}
