//! The privileged pages of a virtual machine: page tables, descriptor tables, task segments, and stubs that report
//! exceptions (Intel SDM, volume 3, "Paging", "Protection", "Interrupt and Exception Handling").
//!
//! They are in a memory slot of their own. The guest, in ring 3, cannot access them: the page tables map them for ring
//! 0 only, or not at all.

use std::{boxed::Box, fs::File, io, vec::Vec};

use super::super::{
    MachineError,
    address_space::DOORBELL_AT,
    checkpoint,
    mapping::{Kind, Mapping},
    memfd,
    plan::Plan,
    signals,
};
use crate::abi::PAGE_SIZE;

/// Flags of a page table entry (Intel SDM, volume 3, "4-Level Paging").
const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// Accessed and dirty, set from the beginning, so that the processor need not write to the tables.
const USED: u64 = 0b11 << 5;
const NO_CODE: u64 = 1 << 63;
/// The bits of an entry that hold the address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The linear address of the privileged pages, in the last 512 GiB, where nothing is mapped for ring 3.
const PRIVILEGED_AT: u64 = 0xffff_ff80_0000_0000;
/// The linear address of the code that probes `out`.
pub(super) const PROBE: u64 = 0x40_0000;

/// Segment selectors: the stubs' code (ring 0), the guest's data and code (ring 3).
pub(super) const STUB_CODE: u16 = 0x08;
pub(super) const DATA: u16 = 0x10 | 3;
pub(super) const CODE: u16 = 0x18 | 3;
/// The task register is set directly and never loaded from the table, so any selector will do.
pub(super) const TASK: u16 = 0x20;

/// Limits of the descriptor tables: their length in bytes, less 1.
pub(super) const GDT_LIMIT: u16 = 4 * 8 - 1;
pub(super) const IDT_LIMIT: u16 = 32 * 16 - 1;
/// The limit of a task segment: 104 bytes, then the I/O permission bitmap up to the last of the four ports of a trap,
/// and the byte of ones behind it.
pub(super) const TASK_LIMIT: u32 = 104 + (PORT as u32 + 3) / 8 + 1;

/// The port of a trap by `out` (ABI, "Traps").
pub(super) const PORT: u16 = 0x5658;
/// The port to which the stubs write. The guest has no access to it.
pub(super) const REPORT: u16 = 0x600;
/// The length of a stub, in bytes.
const STUB: u64 = 16;

/// The privileged pages of one machine: the page tables, and behind them the fixed pages: GDT, IDT, stubs, the probe's
/// code, and for each vCPU a task segment and a stack. A page that is written becomes the machine's own.
pub(super) struct PrivilegedPages {
    memory: Mapping,
    places: Places,
}

/// Where things are in the privileged pages.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// The guest-physical address of the memory.
    physical: u64,
    /// The roots of the page tables of the guest, and of the probe.
    pub(super) root: u64,
    pub(super) probe_root: u64,
    /// The offset of the fixed pages.
    fixed: u64,
    /// The offset of the page table entry for the doorbell, and its value.
    doorbell: (u64, u64),
}

/// The privileged pages of all machines with the same plan, in a sealed file.
pub(in super::super) struct PrivilegedTemplate {
    file: File,
    len: u64,
    places: Places,
}

impl PrivilegedTemplate {
    /// Builds the pages. They lie at the guest-physical address `physical`, and the doorbell at `doorbell`.
    pub(super) fn new(plan: &Plan, physical: u64, doorbell: u64) -> Result<Self, MachineError> {
        let cpus = u64::from(plan.vcpus());
        let mut tables = Tables { first: physical, frames: Vec::new() };
        let (root, probe_root) = (tables.frame(), tables.frame());
        for part in &plan.space.parts {
            let mut flags = USER;
            if part.write {
                flags |= WRITE;
            }
            if !part.execute {
                flags |= NO_CODE;
            }
            tables.map(root, part.address, part.offset, part.len, flags);
        }
        // The entry stays empty until `map_doorbell`.
        let doorbell = tables.map_later(root, DOORBELL_AT, doorbell, USER | WRITE | NO_CODE);
        // GDT, IDT and stubs, the probe's code, and for each vCPU a task segment and a stack.
        let fixed_len = (3 + 1 + 2 * cpus) * PAGE_SIZE;
        // Mapping the fixed pages takes up to 9 more frames: 3 levels each in two address spaces, and 3 for the probe.
        let fixed = (tables.frames.len() as u64 + 9) * PAGE_SIZE;
        let at =
            |page: u64| (PRIVILEGED_AT + page * PAGE_SIZE, physical + fixed + page * PAGE_SIZE);
        for root in [root, probe_root] {
            for page in [0, 1] {
                tables.map(root, at(page).0, at(page).1, PAGE_SIZE, NO_CODE);
            }
            tables.map(root, at(2).0, at(2).1, PAGE_SIZE, 0);
            tables.map(root, at(4).0, at(4).1, 2 * cpus * PAGE_SIZE, WRITE | NO_CODE);
        }
        tables.map(probe_root, PROBE, at(3).1, PAGE_SIZE, USER);
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
        let places = Places { physical, root, probe_root, fixed, doorbell };
        let this = PrivilegedPages { memory, places };
        for (frame, words) in (0..).zip(&tables.frames) {
            this.put(frame * PAGE_SIZE, &**words);
        }
        this.descriptors();
        this.stubs();
        for cpu in 0..cpus {
            this.task(cpu);
        }
        // `out dx, eax`, then `ud2`.
        this.put(fixed + 3 * PAGE_SIZE, &[u64::from_le_bytes([0xef, 0x0f, 0x0b, 0, 0, 0, 0, 0])]);
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
    fn put(&self, offset: u64, words: &[u64]) {
        let room = (self.memory.len() as u64).saturating_sub(offset) / 8;
        for (i, word) in words.iter().take(room as usize).enumerate() {
            // SAFETY: `i` is less than `room`, the number of whole words between the offset and the end of the mapping.
            let at = unsafe { self.memory.at().add(offset as usize + 8 * i) };
            // SAFETY: 8 bytes at `at` are mapped, see above, and aligned, since all callers pass offsets that are
            // multiples of 8. No reference leads into the mapping. No vCPU runs while the tables are built.
            unsafe { at.cast::<u64>().write_volatile(*word) };
        }
    }

    fn get(&self, offset: u64) -> Option<u64> {
        if offset.checked_add(8)? > self.memory.len() as u64 {
            return None;
        }
        // SAFETY: the comparison above keeps the offset within the mapping.
        let at = unsafe { self.memory.at().add(offset as usize) };
        // SAFETY: the comparison above keeps 8 bytes at `at` within the mapping, and no reference leads there. The
        // stack that is read is written by its own vCPU only, which the caller, its owner, does not run now.
        Some(unsafe { at.cast::<u64>().read_unaligned() })
    }

    /// The linear address of the GDT; the functions below return those of the other fixed pages.
    pub(super) fn gdt(&self) -> u64 {
        PRIVILEGED_AT
    }

    pub(super) fn idt(&self) -> u64 {
        PRIVILEGED_AT + PAGE_SIZE
    }

    pub(super) fn task_at(&self, cpu: u64) -> u64 {
        PRIVILEGED_AT + (4 + 2 * cpu) * PAGE_SIZE
    }

    fn stubs_at(&self) -> u64 {
        PRIVILEGED_AT + 2 * PAGE_SIZE
    }

    /// Writes GDT and IDT.
    fn descriptors(&self) {
        // Code for ring 0, then data and code for ring 3: flat, 64-bit.
        let gdt = [0, 0x00af_9b00_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff];
        self.put(self.places.fixed, &gdt);
        for vector in 0..32 {
            let stub = self.stubs_at() + vector * STUB;
            // Interrupt gates. Only that of `int3` has DPL 3: a guest can raise no other vector by `int`.
            let kind = if vector == 3 { 0xee } else { 0x8e };
            let low = stub & 0xffff | u64::from(STUB_CODE) << 16 | kind << 40;
            let gate = [low | (stub >> 16 & 0xffff) << 48, stub >> 32];
            self.put(self.places.fixed + PAGE_SIZE + 16 * vector, &gate);
        }
    }

    /// Writes the stubs. Each pushes an error code, if the processor pushes none, and its vector, and writes to
    /// `REPORT`.
    fn stubs(&self) {
        for vector in 0..32_u8 {
            let [low, high] = REPORT.to_le_bytes();
            let own_code = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
            let push: &[u8] = if own_code { &[0x90, 0x90] } else { &[0x6a, 0] };
            // push vector; mov dx, REPORT; out dx, eax; hlt; jmp back
            let rest = [0x6a, vector, 0x66, 0xba, low, high, 0xef, 0xf4, 0xeb, 0xfd];
            let mut bytes = [0; STUB as usize];
            bytes[..2].copy_from_slice(push);
            bytes[2..12].copy_from_slice(&rest);
            let word = |i: usize| u64::from_le_bytes(core::array::from_fn(|n| bytes[8 * i + n]));
            self.put(
                self.places.fixed + 2 * PAGE_SIZE + u64::from(vector) * STUB,
                &[word(0), word(1)],
            );
        }
    }

    /// Writes a vCPU's task segment: the stack of the stubs, and the I/O permission bitmap.
    fn task(&self, cpu: u64) {
        let mut bytes = Box::new([0xff_u8; PAGE_SIZE as usize]);
        bytes[..104].fill(0);
        // RSP0 is at byte 4, the offset of the bitmap at byte 102.
        let stack = self.task_at(cpu) + 2 * PAGE_SIZE;
        bytes[4..12].copy_from_slice(&stack.to_le_bytes());
        bytes[102..104].copy_from_slice(&104_u16.to_le_bytes());
        for port in PORT..PORT + 4 {
            bytes[104 + usize::from(port / 8)] &= !(1 << (port % 8));
        }
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|chunk| u64::from_le_bytes(core::array::from_fn(|n| chunk[n])))
            .collect();
        self.put(self.places.fixed + (4 + 2 * cpu) * PAGE_SIZE, &words);
    }

    /// The vector, which a stub has pushed at the top of the vCPU's stack, and the address of the instruction, which
    /// the processor has pushed before it; `None` if the write to `REPORT` did not come from a stub.
    pub(super) fn report(&self, cpu: u64, instruction: u64, stack: u64) -> Option<(u8, u64)> {
        if !(self.stubs_at()..self.stubs_at() + PAGE_SIZE).contains(&instruction) {
            return None;
        }
        let within =
            stack.checked_sub(self.task_at(cpu) + PAGE_SIZE).filter(|at| *at < PAGE_SIZE)?;
        let offset = self.places.fixed + (4 + 2 * cpu + 1) * PAGE_SIZE + within;
        Some((self.get(offset)? as u8, self.get(offset + 16)?))
    }
}

/// Page tables under construction.
struct Tables {
    /// The guest-physical address of the first frame. The others follow.
    first: u64,
    frames: Vec<Box<[u64; 512]>>,
}

impl Tables {
    /// Adds an empty frame, and returns its guest-physical address.
    fn frame(&mut self) -> u64 {
        self.frames.push(Box::new([0; 512]));
        self.first + (self.frames.len() as u64 - 1) * PAGE_SIZE
    }

    fn entry(&mut self, table: u64, index: u64) -> &mut u64 {
        &mut self.frames[((table - self.first) / PAGE_SIZE) as usize][(index & 511) as usize]
    }

    /// Makes the tables for a page, but leaves its entry empty. Returns the entry's offset from the first frame, and
    /// its value.
    fn map_later(&mut self, root: u64, linear: u64, physical: u64, flags: u64) -> (u64, u64) {
        self.map(root, linear, physical, PAGE_SIZE, flags);
        let mut table = root;
        for level in [39, 30, 21] {
            table = *self.entry(table, linear >> level) & ADDRESS;
        }
        let entry = core::mem::take(self.entry(table, linear >> 12));
        (table - self.first + (linear >> 12 & 511) * 8, entry)
    }

    /// Maps `len` bytes, whole pages.
    fn map(&mut self, root: u64, linear: u64, physical: u64, len: u64, flags: u64) {
        let mut done = 0;
        while done < len {
            let address = linear + done;
            let mut table = root;
            for level in [39, 30, 21] {
                let found = *self.entry(table, address >> level);
                table = if found & PRESENT != 0 {
                    found & ADDRESS
                } else {
                    let new = self.frame();
                    // The last level restricts the access.
                    let all = PRESENT | WRITE | USED | flags & USER;
                    *self.entry(table, address >> level) = new | all;
                    new
                };
            }
            // To the end of this table.
            let mut index = address >> 12 & 511;
            while index < 512 && done < len {
                *self.entry(table, index) = (physical + done) | PRESENT | USED | flags;
                index += 1;
                done += PAGE_SIZE;
            }
        }
    }
}
