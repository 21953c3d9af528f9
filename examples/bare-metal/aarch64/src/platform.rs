//! What any hypervisor at EL2 has: the UART, its own address space, the memory of its guests behind stage-2 tables, and the
//! world switch.
//!
//! There are two slots of memory, each for one guest with one vCPU. A guest runs without translation of its own
//! (`HCR_EL2.DC`), at EL1, and has its image and its region at fixed guest-physical addresses. It has no devices and no
//! interrupts: an exception that is no hypercall ends it.

use core::{
    arch::{asm, global_asm},
    fmt,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use vmffi::{
    RegionLayout,
    abi::{PAGE_SIZE, Side},
    host::registers::aarch64::GeneralRegisters,
};

global_asm!(include_str!("world_switch.s"));

/// The guest's address of its image, which is also its entry point, and that of its region.
const IMAGE: u64 = 0x8000_0000;
pub const REGION: u64 = IMAGE + BLOCK;

/// The memory that a block of a level-2 table maps. A slot consists of two: image and stack, and the region.
const BLOCK: u64 = 2 << 20;
const SLOT: u64 = 2 * BLOCK;
const SLOTS: usize = 2;

/// The guest's bytes, as its linker wrote them.
static GUEST: &[u8] = include_bytes!(env!("GUEST_GUEST"));

/// The physical address of the hypervisor's own memory, as in `link.ld`, and that of its UART.
pub const OWN_MEMORY: u64 = 0x4008_0000;
pub const UART: u64 = 0x0900_0000;

/// Prints to the UART, a PL011.
pub struct Uart;

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let data = core::ptr::with_exposed_provenance_mut::<u32>(UART as usize);
        for byte in text.bytes() {
            // SAFETY: the machine `virt` has the data register of its UART there, and `enable_mmu` maps it as a device.
            unsafe { data.write_volatile(byte.into()) };
        }
        Ok(())
    }
}

/// Ends QEMU with this exit status, by a call of semihosting (`SYS_EXIT` with `ADP_Stopped_ApplicationExit`).
pub fn exit(status: u32) -> ! {
    let block = [0x2_0026, u64::from(status)];
    // SAFETY: QEMU reads the block and ends.
    unsafe { asm!("hlt #0xf000", in("x0") 0x18, in("x1") &raw const block, options(noreturn)) }
}

/// Reads a system register.
macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: the register exists at EL2, and reading it has no effect.
        unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack)) };
        value
    }};
}

/// Writes a system register. It must stand in an `unsafe` block.
macro_rules! write {
    ($register:literal, $value:expr) => {
        asm!(concat!("msr ", $register, ", {}"), in(reg) $value, options(nostack))
    };
}

/// A translation table of one level.
#[repr(C, align(4096))]
struct Table([AtomicU64; 512]);

impl Table {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    fn address(&self) -> u64 {
        (&raw const *self).expose_provenance() as u64
    }

    fn set(&self, index: u64, entry: u64) {
        self.0[index as usize].store(entry, Ordering::Relaxed);
    }
}

// Descriptors (Arm ARM, D8.3 "Translation table descriptor formats").
const BLOCK_ENTRY: u64 = 0b01;
const TABLE_OR_PAGE: u64 = 0b11;
const ACCESSED: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const NEVER_EXECUTED: u64 = 1 << 54;
/// Of stage 1: index 1 of `MAIR_EL2`, a device.
const DEVICE: u64 = 1 << 2;
/// Of stage 2: normal write-back memory that the guest may read, and write.
const READ: u64 = ACCESSED | INNER_SHAREABLE | 0b1111 << 2 | 0b01 << 6;
const WRITE: u64 = 0b10 << 6;

/// The hypervisor's own table: devices in the first GiB, memory in the second, at their physical addresses.
static OWN: Table = {
    let mut table = Table::new();
    table.0[0] = AtomicU64::new(BLOCK_ENTRY | ACCESSED | NEVER_EXECUTED | DEVICE);
    table.0[1] = AtomicU64::new(1 << 30 | BLOCK_ENTRY | ACCESSED | INNER_SHAREABLE);
    table
};

/// The stage-2 tables of a slot, of levels 1 to 3.
static TABLES: [[Table; 3]; SLOTS] = [const { [const { Table::new() }; 3] }; SLOTS];

/// Prepares EL2: the MMU, since exclusive accesses need normal memory, and the control of guests.
///
/// # Safety
///
/// It is called once, at the beginning, with the MMU off.
pub unsafe fn start() {
    // Debug registers and performance counters trap, since no slot keeps them.
    let debug = read!("mdcr_el2") | 0b1110 << 8 | 0b11 << 5;
    // SAFETY: `OWN` maps all memory that the hypervisor uses at the addresses where it is without the MMU. The other
    // registers only affect EL1, where nothing runs yet.
    unsafe {
        write!("mair_el2", 0xff_u64);
        // 39 bits of address, 4 KiB pages, cacheable and shareable walks, 40 bits of physical address.
        write!("tcr_el2", 1_u64 << 31 | 1 << 23 | 2 << 16 | 0x35 << 8 | 25);
        write!("ttbr0_el2", OWN.address());
        asm!("dsb sy", "tlbi alle2", "dsb sy", "isb", options(nostack));
        // The bits that are 1 in any case, instruction cache, data cache, MMU.
        write!("sctlr_el2", 0x30c5_0830_u64 | 1 << 12 | 1 << 2 | 1);
        // EL1 is AArch64; SMC traps; data is cacheable without stage 1; interrupts come to EL2; stage 2 is on.
        write!("hcr_el2", 1_u64 << 31 | 1 << 19 | 1 << 12 | 0b111 << 3 | 1);
        // The same format for stage 2, which begins at level 1.
        write!("vtcr_el2", 1_u64 << 31 | 2 << 16 | 0x35 << 8 | 1 << 6 | 25);
        write!("mdcr_el2", debug);
        // Floating point does not trap.
        write!("cptr_el2", 0x33ff_u64);
        write!("cnthctl_el2", 0_u64);
        write!("cntvoff_el2", 0_u64);
        asm!("isb", options(nostack));
    }
}

/// Declares the registers of EL1 and EL0 that a world switch between two guests exchanges, with their values at a reset.
macro_rules! system_registers {
    ($($register:literal = $reset:expr,)*) => {
        const RESET: &[u64] = &[$($reset),*];

        fn save_system_registers(state: &SystemState) {
            let mut values = state.registers.iter();
            $(values.next().unwrap().store(read!($register), Ordering::Relaxed);)*
        }

        /// # Safety
        ///
        /// The values are those of a guest, which runs next.
        unsafe fn load_system_registers(state: &SystemState) {
            let mut values = state.registers.iter();
            // SAFETY: the registers only affect EL1 and EL0, where the guest runs to which the caller says that they belong.
            $(unsafe { write!($register, values.next().unwrap().load(Ordering::Relaxed)) };)*
        }
    };
}

system_registers! {
    // The bits that are 1 in any case: no MMU, no caches, little-endian.
    "sctlr_el1" = 0x30d0_0800,
    // EL1 and EL0 may use floating point.
    "cpacr_el1" = 0b11 << 20,
    "sp_el0" = 0,
    "sp_el1" = 0,
    "elr_el1" = 0,
    "spsr_el1" = 0,
    "vbar_el1" = 0,
    "ttbr0_el1" = 0,
    "ttbr1_el1" = 0,
    "tcr_el1" = 0,
    "mair_el1" = 0,
    "amair_el1" = 0,
    "esr_el1" = 0,
    "far_el1" = 0,
    "afsr0_el1" = 0,
    "afsr1_el1" = 0,
    "par_el1" = 0,
    "contextidr_el1" = 0,
    "csselr_el1" = 0,
    "cntkctl_el1" = 0,
    "cntv_ctl_el0" = 0,
    "cntv_cval_el0" = 0,
    "tpidr_el0" = 0,
    "tpidrro_el0" = 0,
    "tpidr_el1" = 0,
}

/// What a slot keeps of its guest while the other one runs. The hypervisor uses neither these registers nor floating point, for
/// which its target has no instructions: as long as one guest runs, its values stay in the processor.
struct SystemState {
    registers: [AtomicU64; RESET.len()],
    floating_point: [AtomicU64; 66],
}

impl SystemState {
    const fn new() -> Self {
        Self {
            registers: [const { AtomicU64::new(0) }; RESET.len()],
            floating_point: [const { AtomicU64::new(0) }; 66],
        }
    }
}

static STATES: [SystemState; SLOTS] = [const { SystemState::new() }; SLOTS];

/// The slot whose state is in the processor; `SLOTS` if none is.
static LOADED: AtomicUsize = AtomicUsize::new(SLOTS);

/// What the world switch saves at each exit, where it expects it.
#[repr(C)]
struct Context {
    general: GeneralRegisters,
    pc: u64,
    pstate: u64,
}

unsafe extern "C" {
    static mut __slots: u8;
    fn enter_guest(context: *mut Context) -> u64;
    fn save_floating_point(state: *const [AtomicU64; 66]);
    fn load_floating_point(state: *const [AtomicU64; 66]);
}

/// Why a guest has left its processor.
#[derive(Debug)]
pub enum Exit {
    /// By `hvc #0` or `smc #0`. The guest goes on behind the instruction.
    Hypercall,
    /// By an exception of this class (`ESR_EL2.EC`), and for an abort the guest-physical address.
    Fault { class: u8, address: Option<u64> },
    /// By an interrupt or an SError.
    Interrupt,
}

/// A guest: the vCPU, and the number of its slot.
pub struct Machine {
    context: Context,
    slot: usize,
}

impl Machine {
    /// Loads the guest into a slot. All other memory that it can write is zeroed: not the header of the region and the host's
    /// arena, which are the host's. It begins at its entry point, with the mode and the address of its region as arguments. The
    /// guest that was there must not run any more.
    pub fn new(slot: usize, layout: &RegionLayout, mode: u64) -> Self {
        let (memory, region) = (memory(slot), region(slot));
        let (host_arena, _) = layout.arena(Side::Host);
        // SAFETY: the linker script reserves the slots, the guest there does not run, and the hypervisor has no references
        // into what a guest can write.
        unsafe {
            memory.write_bytes(0, BLOCK as usize);
            memory.copy_from_nonoverlapping(GUEST.as_ptr(), GUEST.len());
            region.add(PAGE_SIZE as usize).write_bytes(0, (host_arena - PAGE_SIZE) as usize);
        }
        let [level1, level2, level3] = &TABLES[slot];
        let base = slot_address(slot);
        level1.set(IMAGE >> 30, level2.address() | TABLE_OR_PAGE);
        level2.set(0, base | READ | WRITE | BLOCK_ENTRY);
        level2.set(1, level3.address() | TABLE_OR_PAGE);
        for page in 0..512 {
            let at = page * PAGE_SIZE;
            let rights = match at {
                0 => READ,
                _ if at < host_arena => READ | WRITE,
                _ if at < layout.len() => READ,
                _ => {
                    level3.set(page, 0);
                    continue;
                }
            };
            level3.set(page, (base + BLOCK + at) | rights | NEVER_EXECUTED | TABLE_OR_PAGE);
        }
        for (register, value) in STATES[slot].registers.iter().zip(RESET) {
            register.store(*value, Ordering::Relaxed);
        }
        for register in &STATES[slot].floating_point {
            register.store(0, Ordering::Relaxed);
        }
        if LOADED.load(Ordering::Relaxed) == slot {
            LOADED.store(SLOTS, Ordering::Relaxed);
        }
        // SAFETY: these barriers and invalidations only forget what the processor has cached.
        unsafe {
            asm!("dsb ish", "tlbi alle1is", "ic ialluis", "dsb ish", "isb", options(nostack));
        }
        let mut general = GeneralRegisters { x: [0; 31] };
        general.x[..2].copy_from_slice(&[mode, REGION]);
        // EL1 with its own stack pointer, all interrupts masked.
        Self { context: Context { general, pc: IMAGE, pstate: 0x3c5 }, slot }
    }

    /// The slot of memory.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// The general registers, as they are at the exit.
    pub fn general(&mut self) -> &mut GeneralRegisters {
        &mut self.context.general
    }

    /// The address of the instruction at which the guest goes on.
    pub fn pc(&self) -> u64 {
        self.context.pc
    }

    /// Runs the guest until it exits: the world switch. Handlers may run this guest or another one again before they return,
    /// since all state of the host's is on its stack.
    pub fn enter(&mut self) -> Exit {
        if LOADED.load(Ordering::Relaxed) != self.slot {
            self.load();
        }
        // SAFETY: the guest's registers and tables belong to its slot, which is loaded. It can reach no other memory, and
        // the function preserves the registers of the host.
        if unsafe { enter_guest(&raw mut self.context) } != 0 {
            return Exit::Interrupt;
        }
        let syndrome = read!("esr_el2");
        match (syndrome >> 26 & 0x3f) as u8 {
            // `hvc`, with the immediate 0.
            0x16 if syndrome & 0xffff == 0 => Exit::Hypercall,
            // `smc`, at which the exception returns.
            0x17 if syndrome & 0xffff == 0 => {
                self.context.pc += 4;
                Exit::Hypercall
            }
            // An instruction abort or a data abort.
            class @ (0x20 | 0x24) => {
                let address = read!("hpfar_el2") >> 4 << 12 | read!("far_el2") & 0xfff;
                Exit::Fault { class, address: Some(address) }
            }
            class => Exit::Fault { class, address: None },
        }
    }

    /// Exchanges what only differs between guests: their tables, system registers, and floating-point registers.
    #[cold]
    fn load(&self) {
        if let Some(state) = STATES.get(LOADED.swap(self.slot, Ordering::Relaxed)) {
            save_system_registers(state);
            // SAFETY: the array has as many registers as the function saves, and its elements may change through `&`.
            unsafe { save_floating_point(&raw const state.floating_point) };
        }
        let state = &STATES[self.slot];
        let tables = TABLES[self.slot][0].address() | (self.slot as u64 + 1) << 48;
        // SAFETY: the state and the tables are those of the guest that runs next. The hypervisor does not use floating
        // point.
        unsafe {
            load_system_registers(state);
            load_floating_point(&raw const state.floating_point);
            write!("vttbr_el2", tables);
            asm!("isb", options(nostack));
        }
    }
}

/// The memory of a slot, as the hypervisor sees it.
fn memory(slot: usize) -> *mut u8 {
    assert!(slot < SLOTS, "there are two slots");
    // SAFETY: the linker script reserves the slots from this symbol on.
    unsafe { (&raw mut __slots).add(slot * SLOT as usize) }
}

/// The physical address of a slot's memory.
pub fn slot_address(slot: usize) -> u64 {
    memory(slot).expose_provenance() as u64
}

/// The block of a slot's memory in which the region lies.
pub fn region(slot: usize) -> *mut u8 {
    // SAFETY: it is the second block of the slot.
    unsafe { memory(slot).add(BLOCK as usize) }
}

/// The host's address of guest-physical memory that the guest can write outside of its region, and how many bytes are left
/// there.
pub fn writable(slot: usize, address: u64) -> Option<(*mut u8, usize)> {
    let offset = address.checked_sub(IMAGE).filter(|offset| *offset < BLOCK)? as usize;
    // SAFETY: the offset is in the first block of the slot.
    Some((unsafe { memory(slot).add(offset) }, BLOCK as usize - offset))
}
