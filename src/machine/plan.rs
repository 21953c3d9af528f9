//! What all machines of a builder, or of a snapshot, have in common.

use core::ops::Range;
#[cfg(feature = "process")]
use std::os::{fd::OwnedFd, unix::fs::FileExt};
use std::{fs::File, sync::Arc};

#[cfg(any(feature = "kvm", feature = "process"))]
use once_cell::race::OnceBox;

#[cfg(feature = "kvm")]
use super::kvm::PrivilegedTemplate;
#[cfg(feature = "process")]
use super::process::LowDescriptors;
use super::{
    Image, MachineError,
    address_space::{AddressSpace, REGION_AT},
    native,
};
use crate::{
    abi::{Boot, PAGE_SIZE, Side, TrapMethod},
    host::{Fault, FaultCause},
    memory::RegionLayout,
};

/// The plan of a machine: its program, and where everything is in its memory.
pub(super) struct Plan {
    pub(super) image: Image,
    /// The image's pages, at the beginning of the machine's memory, then zeros ([`Image::laid_out`]).
    pub(super) image_file: Arc<File>,
    pub(super) layout: RegionLayout,
    pub(super) space: AddressSpace,
    /// How many bytes a checkpoint may take: the memory limit less the machine's memory.
    pub(super) max_checkpoint: u64,
    /// The privileged pages, once a machine has been built.
    #[cfg(feature = "kvm")]
    pub(super) privileged: OnceBox<PrivilegedTemplate>,
    /// The program of the gate, once a process has been made.
    #[cfg(feature = "process")]
    pub(super) gate: OnceBox<OwnedFd>,
    #[cfg(feature = "process")]
    pub(super) low: LowDescriptors,
}

impl Plan {
    /// Plans machines with these arenas, stacks and a limit of their memory, in bytes, and a number of vCPUs.
    pub(super) fn new(
        image: &Image,
        arenas: (u64, u64),
        vcpus: u32,
        stack: u64,
        memory: u64,
    ) -> Result<Self, MachineError> {
        let layout = RegionLayout::new(arenas.0, arenas.1)?;
        let space = AddressSpace::new(image, &layout, vcpus, stack)?;
        let max_checkpoint = memory.checked_sub(space.len).ok_or(MachineError::Config(
            "image, stacks and arenas exceed the machine's memory limit: raise `MachineBuilder::memory`",
        ))?;
        let laid_out = image.laid_out();
        let image_file = laid_out.map_err(MachineError::system("laying out the guest's image"))?;
        Ok(Self {
            image: image.clone(),
            image_file,
            layout,
            space,
            max_checkpoint,
            #[cfg(feature = "kvm")]
            privileged: OnceBox::new(),
            #[cfg(feature = "process")]
            gate: OnceBox::new(),
            #[cfg(feature = "process")]
            low: LowDescriptors::new(),
        })
    }

    /// The ranges of the machine's memory that the guest can write, up to the offset `end`.
    pub(super) fn writable(&self, end: u64) -> impl Iterator<Item = Range<u64>> {
        let mut parts = self.space.parts.iter().filter(move |part| part.offset < end).peekable();
        core::iter::from_fn(move || {
            let first = parts.find(|part| part.write)?;
            let mut range = first.offset..first.offset + first.len;
            while let Some(next) = parts.next_if(|next| next.write) {
                range.end = next.offset + next.len;
            }
            Some(range)
        })
    }

    /// The range of the region that the guest can write.
    #[cfg(feature = "process")]
    pub(super) fn region_writable(&self) -> Range<u64> {
        PAGE_SIZE..self.layout.arena(Side::Host).0
    }

    /// The bytes of the guest's code at an address, up to four, and zeros behind the end of its code; `None` if there is none.
    #[cfg(feature = "process")]
    pub(super) fn instruction(&self, address: u64) -> Option<u32> {
        let (offset, part) = self.space.find(address).filter(|(_, part)| part.execute)?;
        let len = (part.offset + part.len - offset).min(4) as usize;
        let mut bytes = [0; 4];
        self.image_file.read_exact_at(&mut bytes[..len], offset).ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    /// The address of a vCPU's boot block, and its words (ABI, "Boot block").
    pub(super) fn boot(&self, cpu: u32, trap_method: TrapMethod, log: u32) -> (u64, Boot) {
        let boot = Boot {
            region: REGION_AT,
            region_len: self.layout.len(),
            way: trap_method,
            cpu,
            cpus: self.vcpus(),
            log,
        };
        (self.space.stacks[cpu as usize], boot)
    }

    pub(super) fn vcpus(&self) -> u32 {
        self.space.stacks.len() as u32
    }

    /// Describes a fault: a page fault in the guard below a stack is a stack overflow.
    pub(super) fn fault(
        &self,
        mut cause: FaultCause,
        address: Option<u64>,
        instruction: u64,
    ) -> Fault {
        let guard = address.is_some_and(|address| self.space.is_guard(address));
        if guard && matches!(cause, FaultCause::Exception(number) if native::is_page_fault(number))
        {
            cause = FaultCause::StackOverflow;
        }
        let symbol = self.image.symbol(instruction);
        let symbol = symbol.map(|(name, offset)| (name.into(), offset));
        Fault { cause, address, instruction, symbol }
    }
}
