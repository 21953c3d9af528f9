//! The privileged pages of a virtual machine: its page tables, and the fixed pages, with what runs at a higher privilege than
//! the guest.
//!
//! They are in a memory slot of their own. The guest cannot access them: the page tables map them for a higher privilege
//! only, or not at all. x86_64, aarch64 and riscv64 have the same kind of tables: four levels of 512 entries, for pages of
//! 4 KiB and addresses of 48 bits.

use std::{boxed::Box, fs::File, io, vec::Vec};

use super::{
    super::{
        MachineError,
        address_space::DOORBELL_AT,
        checkpoint,
        mapping::{Kind, Mapping},
        memfd,
        plan::Plan,
        signals,
    },
    native,
};
use crate::abi::PAGE_SIZE;

/// What a page may be used for. All pages can be read.
#[derive(Clone, Copy)]
pub(super) struct Access {
    /// The guest may use it, and not only code of a higher privilege.
    pub(super) guest: bool,
    pub(super) write: bool,
    pub(super) execute: bool,
}

impl Access {
    /// Data that only code of a higher privilege may read.
    pub(super) const PRIVILEGED: Self = Self { guest: false, write: false, execute: false };
}

/// The privileged pages of one machine: the page tables, and behind them the fixed pages. A page that is written becomes
/// the machine's own.
pub(super) struct PrivilegedPages {
    memory: Mapping,
    places: Places,
}

/// Where things are in the privileged pages.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// The guest-physical address of the memory.
    physical: u64,
    /// The guest-physical address of the root of the guest's page tables.
    pub(super) root: u64,
    /// The offset of the fixed pages.
    pub(super) fixed: u64,
    /// The offset of the page table entry for the doorbell, and its value.
    doorbell: (u64, u64),
}

/// The privileged pages of all machines with the same plan, in a sealed file.
pub(in super::super) struct PrivilegedTemplate {
    file: File,
    len: u64,
    places: Places,
}

/// How many frames of page tables are reserved for what [`native::map_fixed`] maps: 3 levels each in two address spaces, and
/// 3 for another page.
const FIXED_FRAMES: u64 = 9;

impl PrivilegedTemplate {
    /// Builds the pages. They lie at the guest-physical address `physical`, and the doorbell at `doorbell`.
    pub(super) fn new(plan: &Plan, physical: u64, doorbell: u64) -> Result<Self, MachineError> {
        let cpus = u64::from(plan.vcpus());
        let mut tables = Tables { first: physical, frames: Vec::new() };
        for _ in 0..native::ROOTS {
            tables.frame();
        }
        let root = physical;
        for part in &plan.space.parts {
            let (write, execute) = (part.write, part.execute);
            let access = Access { guest: true, write, execute };
            tables.map(root, part.address, part.offset, part.len, access);
        }
        // The entry stays empty until `map_doorbell`.
        let access = Access { guest: true, write: true, execute: false };
        let bell = tables.map_later(root, DOORBELL_AT, doorbell, access);
        let fixed_len = native::fixed_pages(cpus) * PAGE_SIZE;
        let fixed = (tables.frames.len() as u64 + FIXED_FRAMES) * PAGE_SIZE;
        native::map_fixed(&mut tables, root, physical + fixed, cpus, doorbell);
        if tables.frames.len() as u64 * PAGE_SIZE > fixed {
            return Err(MachineError::Config(
                "the privileged pages need more page tables than reserved: report this as a bug of `vmffi`",
            ));
        }
        let len = fixed + fixed_len;
        let new = || -> io::Result<_> {
            let file = memfd::new(c"vmffi-tables", len)?;
            // Not shared: a child that was forked meanwhile would inherit the mapping, through which the file could still be
            // written when it is sealed.
            Ok((Mapping::of_file(len, &file, Kind::CopyOnWrite)?, file))
        };
        let (memory, file) = new().map_err(MachineError::system("allocating page tables"))?;
        let places = Places { physical, root, fixed, doorbell: bell };
        let this = PrivilegedPages { memory, places };
        for (frame, words) in (0..).zip(&tables.frames) {
            this.put(frame * PAGE_SIZE, &**words);
        }
        native::fill_fixed(&this, cpus);
        let written = signals::change_file(len, || {
            // SAFETY: the mapping has `len` bytes.
            unsafe { checkpoint::write(&file, this.memory.at(), len as usize, 0) }
        });
        drop(this);
        let sealed = written.and_then(|()| memfd::seal(&file));
        sealed.map_err(MachineError::system("writing page tables"))?;
        Ok(Self { file, len, places })
    }

    /// The pages for one machine.
    pub(super) fn pages(&self) -> Result<PrivilegedPages, MachineError> {
        let memory = Mapping::of_file(self.len, &self.file, Kind::CopyOnWrite);
        let memory = memory.map_err(MachineError::system("mapping page tables"))?;
        Ok(PrivilegedPages { memory, places: self.places })
    }

    /// The first guest-physical address behind the privileged pages.
    pub(super) fn end(&self) -> u64 {
        self.places.physical + self.len
    }
}

impl PrivilegedPages {
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    pub(super) fn memory(&self) -> &Mapping {
        &self.memory
    }

    /// Maps the doorbell's page, for a guest that traps by it. The caller has run no vCPU with the guest's tables yet,
    /// so no processor has cached the empty entry.
    pub(super) fn map_doorbell(&self) {
        self.put(self.places.doorbell.0, &[self.places.doorbell.1]);
    }

    /// Writes words at an offset, up to the end of the memory.
    pub(super) fn put(&self, offset: u64, words: &[u64]) {
        let room = (self.memory.len() as u64).saturating_sub(offset) / 8;
        for (i, word) in words.iter().take(room as usize).enumerate() {
            // SAFETY: `i` is less than `room`, the number of whole words between the offset and the end of the mapping.
            let at = unsafe { self.memory.at().add(offset as usize + 8 * i) };
            // SAFETY: 8 bytes at `at` are mapped, see above, and aligned, since all callers pass offsets that are
            // multiples of 8. No reference leads into the mapping. No vCPU runs while the tables are built.
            unsafe { at.cast::<u64>().write_volatile(*word) };
        }
    }
}

/// Page tables under construction.
pub(super) struct Tables {
    /// The guest-physical address of the first frame. The others follow.
    first: u64,
    frames: Vec<Box<[u64; 512]>>,
}

impl Tables {
    /// Adds an empty frame, and returns its guest-physical address.
    pub(super) fn frame(&mut self) -> u64 {
        self.frames.push(Box::new([0; 512]));
        self.first + (self.frames.len() as u64 - 1) * PAGE_SIZE
    }

    fn entry(&mut self, table: u64, index: u64) -> &mut u64 {
        &mut self.frames[((table - self.first) / PAGE_SIZE) as usize][(index & 511) as usize]
    }

    /// Makes the tables for a page, but leaves its entry empty. Returns the entry's offset from the first frame, and
    /// its value.
    fn map_later(&mut self, root: u64, linear: u64, physical: u64, access: Access) -> (u64, u64) {
        self.map(root, linear, physical, PAGE_SIZE, access);
        let mut table = root;
        for level in [39, 30, 21] {
            table = native::table_of(*self.entry(table, linear >> level)).unwrap_or(table);
        }
        let entry = core::mem::take(self.entry(table, linear >> 12));
        (table - self.first + (linear >> 12 & 511) * 8, entry)
    }

    /// Maps `len` bytes, whole pages.
    pub(super) fn map(&mut self, root: u64, linear: u64, physical: u64, len: u64, access: Access) {
        let mut done = 0;
        while done < len {
            let address = linear + done;
            let mut table = root;
            for level in [39, 30, 21] {
                let found = native::table_of(*self.entry(table, address >> level));
                table = found.unwrap_or_else(|| {
                    let new = self.frame();
                    *self.entry(table, address >> level) = native::table_entry(new, access);
                    new
                });
            }
            // To the end of this table.
            let mut index = address >> 12 & 511;
            while index < 512 && done < len {
                *self.entry(table, index) = native::page_entry(physical + done, access);
                index += 1;
                done += PAGE_SIZE;
            }
        }
    }
}
