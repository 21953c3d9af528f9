//! What a processor needs in memory to run code at the least privilege: page tables, descriptor tables, and
//! stubs that report exceptions (Intel SDM, volume 3, "Paging", "Protection", "Interrupt and Exception
//! Handling").
//!
//! All of it is memory of its own, which the guest's page tables do not show to the guest.

use std::{boxed::Box, vec::Vec};

use super::super::{Loaded, MachineError, mapping::Mapping};
use crate::memory::PAGE;

/// Where a page table says that its entry is there, may be written, is for the guest, was accessed and
/// written (so that the processor need not say so), holds no code.
const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const USED: u64 = 0b11 << 5;
const NO_CODE: u64 = 1 << 63;
/// The bits of an entry that are an address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Where the supervisor's pages lie: in the last 512 GiB, of which the guest can see nothing.
const SUPERVISOR: u64 = 0xffff_ff80_0000_0000;
/// Where a probe of a trap runs.
pub(super) const PROBE: u64 = 0x40_0000;

/// Selectors of the segments: the stubs' code, the guest's data, the guest's code.
pub(super) const STUB_CODE: u16 = 0x08;
pub(super) const DATA: u16 = 0x10 | 3;
pub(super) const CODE: u16 = 0x18 | 3;
/// Not loaded from the table, so any number will do.
pub(super) const TASK: u16 = 0x20;

/// Limits of the tables, in bytes less 1.
pub(super) const GDT_LIMIT: u16 = 4 * 8 - 1;
pub(super) const IDT_LIMIT: u16 = 32 * 16 - 1;
/// Of a task segment: its 104 bytes, and a bit for each port up to the last of a trap's four.
pub(super) const TASK_LIMIT: u32 = 104 + (PORT as u32 + 3) / 8 + 1;

/// The port of a trap, where the guest may use it.
pub(super) const PORT: u16 = 0x5658;
/// The port that a stub reports at.
pub(super) const REPORT: u16 = 0x600;
/// How far one exception's stub is from the next.
const STUB: u64 = 16;

/// The supervisor's memory of one machine.
pub(super) struct Supervisor {
    memory: Mapping,
    /// Its guest-physical address.
    physical: u64,
    /// The page tables' root, and that of those for the probe.
    pub(super) root: u64,
    pub(super) probe_root: u64,
    /// The first page behind the tables.
    fixed: u64,
    /// Where the doorbell's page would be mapped, and how.
    bell: (u64, u64),
}

impl Supervisor {
    pub(super) fn new(loaded: &Loaded, physical: u64, bell: u64) -> Result<Self, MachineError> {
        let cpus = loaded.stacks.len() as u64;
        let mut tables = Tables { first: physical, frames: Vec::new() };
        let (root, probe_root) = (tables.frame(), tables.frame());
        for part in &loaded.parts {
            let mut flags = USER;
            if part.write {
                flags |= WRITE;
            }
            if !part.execute {
                flags |= NO_CODE;
            }
            tables.map(root, part.address, part.offset, part.len, flags);
        }
        // Until a guest is to ring it, the page is not there.
        let bell = tables.map_later(root, super::DOORBELL_AT, bell, USER | WRITE | NO_CODE);
        // Descriptors, stubs, a probe's code, and for each vCPU a task segment and a stack: as many pages.
        let fixed_len = (3 + 1 + 2 * cpus) * PAGE;
        // These take up to 9 more frames.
        let fixed = (tables.frames.len() as u64 + 9) * PAGE;
        let at = |page: u64| (SUPERVISOR + page * PAGE, physical + fixed + page * PAGE);
        for root in [root, probe_root] {
            for page in [0, 1] {
                tables.map(root, at(page).0, at(page).1, PAGE, NO_CODE);
            }
            tables.map(root, at(2).0, at(2).1, PAGE, 0);
            tables.map(root, at(4).0, at(4).1, 2 * cpus * PAGE, WRITE | NO_CODE);
        }
        tables.map(probe_root, PROBE, at(3).1, PAGE, USER);
        if tables.frames.len() as u64 * PAGE > fixed {
            return Err(MachineError::Config("the machine has too many page tables"));
        }
        let memory = Mapping::new(fixed + fixed_len, None);
        let memory = memory.map_err(MachineError::system("memory for page tables"))?;
        let this = Self { memory, physical, root, probe_root, fixed, bell };
        for (frame, words) in (0..).zip(&tables.frames) {
            this.put(frame * PAGE, &**words);
        }
        this.descriptors();
        this.stubs();
        for cpu in 0..cpus {
            this.task(cpu);
        }
        // `out dx, eax`, and what ends a probe that goes on behind it.
        this.put(fixed + 3 * PAGE, &[u64::from_le_bytes([0xef, 0x0f, 0x0b, 0, 0, 0, 0, 0])]);
        Ok(this)
    }

    pub(super) fn memory(&self) -> &Mapping {
        &self.memory
    }

    /// Maps the doorbell's page, for a guest that is to trap by it. No vCPU has run with these tables.
    pub(super) fn map_doorbell(&self) {
        self.put(self.bell.0, &[self.bell.1]);
    }

    /// Writes words at an offset.
    fn put(&self, offset: u64, words: &[u64]) {
        let room = (self.memory.len() as u64).saturating_sub(offset) / 8;
        for (i, word) in words.iter().take(room as usize).enumerate() {
            // SAFETY: there is room for so many words behind the offset.
            let at = unsafe { self.memory.at().add(offset as usize + 8 * i) };
            // SAFETY: as above, and no reference leads there.
            unsafe { at.cast::<u64>().write_volatile(*word) };
        }
    }

    fn get(&self, offset: u64) -> Option<u64> {
        if offset.checked_add(8)? > self.memory.len() as u64 {
            return None;
        }
        // SAFETY: it is in the memory.
        let at = unsafe { self.memory.at().add(offset as usize) };
        // SAFETY: as above, and no reference leads there.
        Some(unsafe { at.cast::<u64>().read_unaligned() })
    }

    /// Linear addresses of the fixed pages.
    pub(super) fn gdt(&self) -> u64 {
        SUPERVISOR
    }

    pub(super) fn idt(&self) -> u64 {
        SUPERVISOR + PAGE
    }

    pub(super) fn task_at(&self, cpu: u64) -> u64 {
        SUPERVISOR + (4 + 2 * cpu) * PAGE
    }

    fn stubs_at(&self) -> u64 {
        SUPERVISOR + 2 * PAGE
    }

    fn descriptors(&self) {
        // Code at the highest privilege; data and code at the lowest. All of 64 bits, all of memory.
        let gdt = [0, 0x00af_9b00_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff];
        self.put(self.fixed, &gdt);
        for vector in 0..32 {
            let stub = self.stubs_at() + vector * STUB;
            // An interrupt gate; only a breakpoint may be raised by an instruction of the guest's.
            let kind = if vector == 3 { 0xee } else { 0x8e };
            let low = stub & 0xffff | u64::from(STUB_CODE) << 16 | kind << 40;
            let gate = [low | (stub >> 16 & 0xffff) << 48, stub >> 32];
            self.put(self.fixed + PAGE + 16 * vector, &gate);
        }
    }

    /// Each pushes an error code, where the processor does not, and its vector, and reports.
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
            self.put(self.fixed + 2 * PAGE + u64::from(vector) * STUB, &[word(0), word(1)]);
        }
    }

    /// A task segment: the stack of the stubs, and the ports that the guest may use.
    fn task(&self, cpu: u64) {
        let mut bytes = Box::new([0xff_u8; PAGE as usize]);
        bytes[..104].fill(0);
        // RSP 0, of 8 bytes, from byte 4 on; the bitmap's place is in the last two.
        let stack = self.task_at(cpu) + 2 * PAGE;
        bytes[4..12].copy_from_slice(&stack.to_le_bytes());
        bytes[102..104].copy_from_slice(&104_u16.to_le_bytes());
        for port in PORT..PORT + 4 {
            bytes[104 + usize::from(port / 8)] &= !(1 << (port % 8));
        }
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|chunk| u64::from_le_bytes(core::array::from_fn(|n| chunk[n])))
            .collect();
        self.put(self.fixed + (4 + 2 * cpu) * PAGE, &words);
    }

    /// What a stub has pushed, and the processor before it: vector, error code and instruction. Only if the
    /// report comes from a stub.
    pub(super) fn report(&self, cpu: u64, instruction: u64, stack: u64) -> Option<(u8, u64)> {
        if !(self.stubs_at()..self.stubs_at() + PAGE).contains(&instruction) {
            return None;
        }
        let within = stack.checked_sub(self.task_at(cpu) + PAGE).filter(|at| *at < PAGE)?;
        let offset = self.fixed + (4 + 2 * cpu + 1) * PAGE + within;
        Some((self.get(offset)? as u8, self.get(offset + 16)?))
    }

    /// The first guest-physical address behind it.
    pub(super) fn end(&self) -> u64 {
        self.physical + self.memory.len() as u64
    }
}

/// Page tables that are put together here.
struct Tables {
    /// The guest-physical address of the first frame; the others follow.
    first: u64,
    frames: Vec<Box<[u64; 512]>>,
}

impl Tables {
    /// A new frame; returns its guest-physical address.
    fn frame(&mut self) -> u64 {
        self.frames.push(Box::new([0; 512]));
        self.first + (self.frames.len() as u64 - 1) * PAGE
    }

    fn entry(&mut self, table: u64, index: u64) -> &mut u64 {
        &mut self.frames[((table - self.first) / PAGE) as usize][(index & 511) as usize]
    }

    /// Has a page ready to be mapped: the offset of its entry from the first frame on, and what belongs there.
    fn map_later(&mut self, root: u64, linear: u64, physical: u64, flags: u64) -> (u64, u64) {
        self.map(root, linear, physical, PAGE, flags);
        let mut table = root;
        for level in [39, 30, 21] {
            table = *self.entry(table, linear >> level) & ADDRESS;
        }
        let entry = core::mem::take(self.entry(table, linear >> 12));
        (table - self.first + (linear >> 12 & 511) * 8, entry)
    }

    /// Maps whole pages.
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
                    // What may be done is said where the page is.
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
                done += PAGE;
            }
        }
    }
}
