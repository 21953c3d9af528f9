//! What any hypervisor of RISC-V has: the UART, the memory of its guests, and the world switch. The same code is a host in M-mode,
//! whose guests run in S-mode behind physical memory protection, and one in HS-mode, whose guests run in VS-mode behind page
//! tables of their own.
//!
//! There are two slots of memory, each for one guest with one hart. A guest has no page tables (it may not write `satp`), no
//! devices and no interrupts, and no user mode: a trap that is no call of the SBI ends it.

use core::{
    arch::{asm, global_asm},
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use vmffi::{
    RegionLayout,
    abi::{PAGE_SIZE, Side},
    host::registers::riscv64::GeneralRegisters,
};

mod isolation;
mod state;

use state::SLOT_STATES;

global_asm!(include_str!("world_switch.s"));

/// The mode in which the host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// M-mode, with guests in S-mode.
    Machine,
    /// HS-mode, with guests in VS-mode.
    Hypervisor,
}

/// A slot of memory, below a host in this mode.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub mode: Mode,
    pub slot: usize,
}

/// The physical address of the host's own memory, as in `link.ld`, and that of its UART.
pub const OWN_MEMORY: u64 = 0x8000_0000;
pub const UART: u64 = 0x1000_0000;

/// Half of a slot: image and stack, or the region.
const BLOCK: u64 = 2 << 20;
const SLOT: u64 = 2 * BLOCK;
pub const SLOTS: usize = 2;

/// The guest's bytes, as its linker wrote them for the address of each slot.
static GUESTS: [&[u8]; SLOTS] =
    [include_bytes!(env!("GUEST_SLOT0")), include_bytes!(env!("GUEST_SLOT1"))];

/// Prints to the UART, a 16550.
pub struct Uart;

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let data = core::ptr::with_exposed_provenance_mut::<u8>(UART as usize);
        for byte in text.bytes() {
            // SAFETY: the machine `virt` has the data register of its UART there.
            unsafe { data.write_volatile(byte) };
        }
        Ok(())
    }
}

/// Ends QEMU with this exit status, by the test device of the machine `virt`.
pub fn exit(status: u32) -> ! {
    let value = if status == 0 { 0x5555 } else { status << 16 | 0x3333 };
    // SAFETY: the machine `virt` has its test device there.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(0x10_0000).write_volatile(value) };
    loop {
        core::hint::spin_loop();
    }
}

/// Reads a control and status register.
macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: the register exists in the mode in which the host runs, and reading it has no effect.
        unsafe { asm!(concat!("csrr {}, ", $register), out(reg) value, options(nomem, nostack)) };
        value
    }};
}

/// Writes a control and status register. It must stand in an `unsafe` block.
macro_rules! write {
    ($register:literal, $value:expr) => {
        asm!(concat!("csrw ", $register, ", {}"), in(reg) $value, options(nostack))
    };
}

use {read, write};

/// Whether the processor has the hypervisor extension. Only a host in M-mode may ask.
pub fn has_hypervisor_extension() -> bool {
    read!("misa") >> (b'H' - b'A') & 1 != 0
}

/// What the world switch saves at each exit, where it expects it.
#[repr(C)]
struct Context {
    general: GeneralRegisters,
    pc: u64,
    /// `mstatus` of a host in M-mode, else `sstatus`.
    status: u64,
    /// The host's, while the guest runs.
    stack: u64,
}

unsafe extern "C" {
    static mut __slots: u8;
    fn enter_from_machine_mode(context: *mut Context);
    fn enter_from_hypervisor_mode(context: *mut Context);
}

/// Why a guest has left its hart.
#[derive(Debug)]
pub enum Exit {
    /// By `ecall`. The guest goes on behind the instruction.
    Hypercall,
    /// By an exception with this cause, and the guest-physical address of an access.
    Fault { cause: u8, address: Option<u64> },
    /// By an interrupt.
    Interrupt,
}

/// A guest: the vCPU, and where its memory is.
pub struct Machine {
    context: Context,
    place: Place,
}

/// The slot whose state is in the processor, counted from 1; 0 if none is.
static LOADED: AtomicUsize = AtomicUsize::new(0);

impl Machine {
    /// Loads the guest into a slot. All other memory that it can write is zeroed: not the header of the region and the host's
    /// arena, which are the host's. It begins at its entry point, with the mode and the address of its region as arguments. The
    /// guest that was there must not run any more.
    pub fn new(place: Place, layout: &RegionLayout, argument: u64) -> Self {
        let Place { mode, slot } = place;
        let (memory, region) = (memory(slot), region(slot));
        // In HS-mode all guests have the addresses of the first slot.
        let image = GUESTS[if mode == Mode::Machine { slot } else { 0 }];
        let (host_arena, _) = layout.arena(Side::Host);
        // SAFETY: the linker script reserves the slots, the guest there does not run, and the host has no references into what
        // a guest can write.
        unsafe {
            memory.write_bytes(0, BLOCK as usize);
            memory.copy_from_nonoverlapping(image.as_ptr(), image.len());
            region.add(PAGE_SIZE as usize).write_bytes(0, (host_arena - PAGE_SIZE) as usize);
        }
        // Loaded again, since the processor may have cached what isolates the guest, and its instructions. What is in the
        // processor of the other slot's guest is kept.
        let loaded = LOADED.swap(0, Ordering::Relaxed);
        if let Some(other) = loaded.checked_sub(1).filter(|other| *other != slot) {
            SLOT_STATES[other].save(mode);
        }
        SLOT_STATES[slot].reset(mode);
        SLOT_STATES[slot].isolation.describe(place, [PAGE_SIZE, host_arena, layout.len()]);
        let mut general = GeneralRegisters::default();
        general.x[10..12].copy_from_slice(&[argument, region_address(place)]);
        let status = match mode {
            // The guest returns to S-mode, and traps when it would wait for interrupts or write `satp`.
            Mode::Machine => read!("mstatus") & 0xf << 32 | 1 << 21 | 1 << 20 | FLOAT | 1 << 11,
            // To VS-mode.
            Mode::Hypervisor => read!("sstatus") & 0b11 << 32 | FLOAT | 1 << 8,
        };
        let pc = image_address(place);
        Self { context: Context { general, pc, status, stack: 0 }, place }
    }

    /// Where its memory is.
    pub fn place(&self) -> Place {
        self.place
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
        if LOADED.load(Ordering::Relaxed) != self.place.slot + 1 {
            self.load();
        }
        let context = &raw mut self.context;
        let cause = match self.place.mode {
            Mode::Machine => {
                // SAFETY: the guest's registers and its protection belong to its slot, which is loaded. It can reach no other
                // memory, and the function preserves the registers of the host.
                unsafe { enter_from_machine_mode(context) };
                read!("mcause")
            }
            Mode::Hypervisor => {
                // SAFETY: as above, with page tables in place of the protection.
                unsafe { enter_from_hypervisor_mode(context) };
                read!("scause")
            }
        };
        match (self.place.mode, cause) {
            // A call from S-mode, or from VS-mode.
            (Mode::Machine, 9) | (Mode::Hypervisor, 10) => {
                self.context.pc += 4;
                Exit::Hypercall
            }
            (_, cause) if cause >> 63 != 0 => Exit::Interrupt,
            // Access faults.
            (Mode::Machine, 1 | 5 | 7) => {
                Exit::Fault { cause: cause as u8, address: Some(read!("mtval")) }
            }
            // Page faults of the guest's physical memory.
            (Mode::Hypervisor, 20 | 21 | 23) => {
                let address = read!("htval") << 2 | read!("stval") & 3;
                Exit::Fault { cause: cause as u8, address: Some(address) }
            }
            (_, cause) => Exit::Fault { cause: cause as u8, address: None },
        }
    }

    /// Exchanges what only differs between guests: isolation, system registers, and floating-point registers.
    #[cold]
    fn load(&self) {
        let last = LOADED.swap(self.place.slot + 1, Ordering::Relaxed);
        if let Some(state) = last.checked_sub(1).map(|slot| &SLOT_STATES[slot]) {
            state.save(self.place.mode);
        }
        // SAFETY: the state is that of the guest that runs next, and so is what isolates it.
        unsafe {
            SLOT_STATES[self.place.slot].load(self.place.mode);
            SLOT_STATES[self.place.slot].isolation.load(self.place);
        }
    }
}

/// The field FS of `sstatus`: floating-point registers are in use.
const FLOAT: u64 = 0b11 << 13;

/// The memory of a slot, as the host sees it.
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

/// The guest's address of its image, which is also its entry point: a physical one below a host in M-mode, else that of the first
/// slot.
fn image_address(place: Place) -> u64 {
    match place.mode {
        Mode::Machine => slot_address(place.slot),
        Mode::Hypervisor => slot_address(0),
    }
}

/// The guest's address of its region.
pub fn region_address(place: Place) -> u64 {
    image_address(place) + BLOCK
}

/// The host's address of memory that the guest can write outside of its region, and how many bytes are left there.
pub fn writable(place: Place, address: u64) -> Option<(*mut u8, usize)> {
    let offset = address.checked_sub(image_address(place)).filter(|offset| *offset < BLOCK)?;
    // SAFETY: the offset is in the first block of the slot.
    Some((unsafe { memory(place.slot).add(offset as usize) }, (BLOCK - offset) as usize))
}
