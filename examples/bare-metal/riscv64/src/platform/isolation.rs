//! What isolates a guest from its host and from the other guest: physical memory protection below a host in M-mode, page tables
//! of the second stage below one in HS-mode.

use core::{
    arch::asm,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{BLOCK, Mode, Place, image_address, slot_address, write};
use vmffi::abi::PAGE_SIZE;

/// A page table of 512 entries, or the four of a root (RISC-V Privileged Architecture, "Sv39x4").
#[repr(C, align(4096))]
struct Table<const PAGES: usize>([[AtomicU64; 512]; PAGES]);

/// The root of the tables of a slot.
#[repr(C, align(16384))]
struct Root(Table<4>);

impl<const PAGES: usize> Table<PAGES> {
    const fn new() -> Self {
        Self([const { [const { AtomicU64::new(0) }; 512] }; PAGES])
    }

    /// The number of the page in which it begins.
    fn page(&self) -> u64 {
        (&raw const *self).expose_provenance() as u64 / PAGE_SIZE
    }

    fn set(&self, index: u64, page: u64, rights: u64) {
        self.0.as_flattened()[index as usize].store(page << 10 | rights | VALID, Ordering::Relaxed);
    }
}

const VALID: u64 = 1;
// Rights, as both page tables and `pmpcfg0` have them, but for a shift of one bit.
const READ: u64 = 1;
const WRITE: u64 = 2;
const EXECUTE: u64 = 4;
/// Of a leaf: user mode (which all of a guest is to the second stage), accessed, dirty.
const LEAF: u64 = 1 << 4 | 1 << 6 | 1 << 7;

/// Of `pmpcfg0`: the entry's range begins where that of the entry before ends.
const UP_TO: u64 = 0b01 << 3;

/// What a guest may do with its image and stack, and with the parts of its region: header, release maps and own arena, host's
/// arena.
const RIGHTS: [u64; 4] = [READ | WRITE | EXECUTE, READ, READ | WRITE, READ];

/// What isolates the guest of a slot.
pub struct Isolation {
    /// The offsets at which the parts end, from the beginning of the slot.
    ends: [AtomicU64; 4],
    root: Root,
    level1: Table<1>,
    level0: Table<1>,
}

impl Isolation {
    pub const fn new() -> Self {
        Self {
            ends: [const { AtomicU64::new(0) }; 4],
            root: Root(Table::new()),
            level1: Table::new(),
            level0: Table::new(),
        }
    }

    /// Describes the memory of a slot, in which the parts of the region end at these offsets of it. Physical memory protection
    /// needs no more, since it is made of registers.
    pub fn describe(&self, place: Place, ends: [u64; 3]) {
        let ends = [BLOCK, BLOCK + ends[0], BLOCK + ends[1], BLOCK + ends[2]];
        for (kept, end) in self.ends.iter().zip(ends) {
            kept.store(end, Ordering::Relaxed);
        }
        if place.mode == Mode::Machine {
            return;
        }
        let (guest, host) = (image_address(place), slot_address(place.slot));
        self.root.0.set(guest >> 30, self.level1.page(), 0);
        let index = guest >> 21 & 511;
        self.level1.set(index, host / PAGE_SIZE, RIGHTS[0] << 1 | LEAF);
        self.level1.set(index + 1, self.level0.page(), 0);
        for part in 1..4 {
            for page in ends[part - 1] / PAGE_SIZE..ends[part] / PAGE_SIZE {
                let host = host / PAGE_SIZE + page;
                self.level0.set(page - BLOCK / PAGE_SIZE, host, RIGHTS[part] << 1 | LEAF);
            }
        }
    }

    /// Makes the processor isolate the guest of this slot.
    ///
    /// # Safety
    ///
    /// That guest runs next, and the host runs in the mode of `place`.
    pub unsafe fn load(&self, Place { mode, slot }: Place) {
        match mode {
            Mode::Machine => {
                let base = slot_address(slot);
                let [a, b, c, d] =
                    self.ends.each_ref().map(|end| (base + end.load(Ordering::Relaxed)) >> 2);
                let rights = RIGHTS.iter().rev().fold(0, |all, it| all << 8 | it | UP_TO) << 8;
                // SAFETY: entries that are not locked do not affect M-mode.
                unsafe {
                    write!("pmpaddr0", base >> 2);
                    write!("pmpaddr1", a);
                    write!("pmpaddr2", b);
                    write!("pmpaddr3", c);
                    write!("pmpaddr4", d);
                    write!("pmpcfg0", rights);
                    asm!("sfence.vma", "fence.i", options(nostack));
                }
            }
            Mode::Hypervisor => {
                let tables = 8 << 60 | (slot as u64 + 1) << 44 | self.root.0.page();
                // SAFETY: the registers only affect guests. Those trap when they would wait for interrupts or write `satp`, and
                // all of their exceptions and interrupts come to the host.
                unsafe {
                    write!("hstatus", 2_u64 << 32 | 1 << 21 | 1 << 20 | 1 << 7);
                    write!("hedeleg", 0_u64);
                    write!("hideleg", 0_u64);
                    write!("hcounteren", 0b111_u64);
                    write!("vsatp", 0_u64);
                    write!("hgatp", tables);
                    asm!(
                        ".option push",
                        ".option arch, +h",
                        "hfence.gvma",
                        ".option pop",
                        "fence.i",
                        options(nostack)
                    );
                }
            }
        }
    }
}
