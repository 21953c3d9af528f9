//! The privileged pages of x86_64: page table entries, descriptor tables, task segments, and stubs that report exceptions
//! (Intel SDM, volume 3, "Paging", "Protection", "Interrupt and Exception Handling").

use std::{boxed::Box, vec::Vec};

use super::super::tables::{Access, PrivilegedPages, Tables};
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
pub(in super::super) const PORT: u16 = 0x5658;
/// The port to which the stubs write. The guest has no access to it.
pub(super) const REPORT: u16 = 0x600;
/// The length of a stub, in bytes.
const STUB: u64 = 16;

/// The number of address spaces: the guest's, and that of the probe, whose root follows the guest's.
pub(in super::super) const ROOTS: u64 = 2;

/// The entry for a page.
pub(in super::super) fn page_entry(physical: u64, access: Access) -> u64 {
    let mut flags = PRESENT | USED;
    for (set, flag) in [(access.guest, USER), (access.write, WRITE), (!access.execute, NO_CODE)] {
        flags |= if set { flag } else { 0 };
    }
    physical | flags
}

/// The entry for a table. The last level restricts the access.
pub(in super::super) fn table_entry(physical: u64, access: Access) -> u64 {
    physical | PRESENT | WRITE | USED | if access.guest { USER } else { 0 }
}

/// The guest-physical address of the table that an entry leads to.
pub(in super::super) fn table_of(entry: u64) -> Option<u64> {
    (entry & PRESENT != 0).then_some(entry & ADDRESS)
}

/// The number of fixed pages: GDT, IDT, stubs, the probe's code, and for each vCPU a task segment and a stack.
pub(in super::super) fn fixed_pages(cpus: u64) -> u64 {
    3 + 1 + 2 * cpus
}

/// Maps the fixed pages, which begin at a guest-physical address.
pub(in super::super) fn map_fixed(
    tables: &mut Tables,
    root: u64,
    fixed: u64,
    cpus: u64,
    _doorbell: u64,
) {
    let probe_root = root + PAGE_SIZE;
    let at = |page: u64| (PRIVILEGED_AT + page * PAGE_SIZE, fixed + page * PAGE_SIZE);
    let data = Access::PRIVILEGED;
    for root in [root, probe_root] {
        for page in [0, 1] {
            tables.map(root, at(page).0, at(page).1, PAGE_SIZE, data);
        }
        tables.map(root, at(2).0, at(2).1, PAGE_SIZE, Access { execute: true, ..data });
        tables.map(root, at(4).0, at(4).1, 2 * cpus * PAGE_SIZE, Access { write: true, ..data });
    }
    let code = Access { guest: true, execute: true, ..data };
    tables.map(probe_root, PROBE, at(3).1, PAGE_SIZE, code);
}

/// Writes the fixed pages.
pub(in super::super) fn fill_fixed(pages: &PrivilegedPages, cpus: u64) {
    pages.descriptors();
    pages.stubs();
    for cpu in 0..cpus {
        pages.task(cpu);
    }
    // `out dx, eax`, then `ud2`.
    let probe = [0xef, 0x0f, 0x0b, 0, 0, 0, 0, 0];
    pages.put(pages.places().fixed + 3 * PAGE_SIZE, &[u64::from_le_bytes(probe)]);
}

impl PrivilegedPages {
    fn get(&self, offset: u64) -> Option<u64> {
        if offset.checked_add(8)? > self.memory().len() as u64 {
            return None;
        }
        // SAFETY: the comparison above keeps the offset within the mapping.
        let at = unsafe { self.memory().at().add(offset as usize) };
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
        self.put(self.places().fixed, &gdt);
        for vector in 0..32 {
            let stub = self.stubs_at() + vector * STUB;
            // Interrupt gates. Only that of `int3` has DPL 3: a guest can raise no other vector by `int`.
            let kind = if vector == 3 { 0xee } else { 0x8e };
            let low = stub & 0xffff | u64::from(STUB_CODE) << 16 | kind << 40;
            let gate = [low | (stub >> 16 & 0xffff) << 48, stub >> 32];
            self.put(self.places().fixed + PAGE_SIZE + 16 * vector, &gate);
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
                self.places().fixed + 2 * PAGE_SIZE + u64::from(vector) * STUB,
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
        self.put(self.places().fixed + (4 + 2 * cpu) * PAGE_SIZE, &words);
    }

    /// The vector, which a stub has pushed at the top of the vCPU's stack, and the address of the instruction, which
    /// the processor has pushed before it; `None` if the write to `REPORT` did not come from a stub.
    pub(super) fn report(&self, cpu: u64, instruction: u64, stack: u64) -> Option<(u8, u64)> {
        if !(self.stubs_at()..self.stubs_at() + PAGE_SIZE).contains(&instruction) {
            return None;
        }
        let within =
            stack.checked_sub(self.task_at(cpu) + PAGE_SIZE).filter(|at| *at < PAGE_SIZE)?;
        let offset = self.places().fixed + (4 + 2 * cpu + 1) * PAGE_SIZE + within;
        Some((self.get(offset)? as u8, self.get(offset + 16)?))
    }
}
