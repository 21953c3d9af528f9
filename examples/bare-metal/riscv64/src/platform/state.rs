//! What a slot keeps of its guest while the other one runs. The host uses neither these registers nor floating point, for which
//! its target has no instructions: as long as one guest runs, its values stay in the processor.

use core::{
    arch::asm,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{FLOAT, Mode, SLOTS, isolation::Isolation, read, write};

pub static SLOT_STATES: [SlotState; SLOTS] = [const { SlotState::new() }; SLOTS];

/// The state of a slot.
pub struct SlotState {
    registers: [AtomicU64; 8],
    floating_point: [AtomicU64; 33],
    pub isolation: Isolation,
}

unsafe extern "C" {
    fn save_floating_point(state: *const [AtomicU64; 33]);
    fn load_floating_point(state: *const [AtomicU64; 33]);
}

/// Declares the registers of S-mode or VS-mode that a world switch between two guests exchanges.
macro_rules! system_registers {
    ($save:ident, $load:ident: $($register:literal)*) => {
        fn $save(state: &SlotState) {
            let mut values = state.registers.iter();
            $(values.next().unwrap().store(read!($register), Ordering::Relaxed);)*
        }

        /// # Safety
        ///
        /// The values are those of a guest, which runs next.
        unsafe fn $load(state: &SlotState) {
            let mut values = state.registers.iter();
            // SAFETY: the registers only affect the modes of guests, and the caller says that the one to which they belong runs
            // next.
            $(unsafe { write!($register, values.next().unwrap().load(Ordering::Relaxed)) };)*
        }
    };
}

// In M-mode, `sstatus` is part of `mstatus`, which the world switch saves.
system_registers!(save_supervisor, load_supervisor:
    "stvec" "sscratch" "sepc" "scause" "stval" "scounteren" "senvcfg");
system_registers!(save_virtual, load_virtual:
    "vsstatus" "vstvec" "vsscratch" "vsepc" "vscause" "vstval" "scounteren" "senvcfg");

impl SlotState {
    const fn new() -> Self {
        Self {
            registers: [const { AtomicU64::new(0) }; 8],
            floating_point: [const { AtomicU64::new(0) }; 33],
            isolation: Isolation::new(),
        }
    }

    /// Prepares the slot for a new guest.
    pub fn reset(&self, mode: Mode) {
        for register in self.registers.iter().chain(&self.floating_point) {
            register.store(0, Ordering::Relaxed);
        }
        if mode == Mode::Hypervisor {
            // `vsstatus`: 64 bits in user mode too.
            self.registers[0].store(2 << 32 | FLOAT, Ordering::Relaxed);
        }
    }

    /// Saves the registers of the guest that has run.
    pub fn save(&self, mode: Mode) {
        match mode {
            Mode::Machine => save_supervisor(self),
            Mode::Hypervisor => save_virtual(self),
        }
        with_floating_point(mode, || {
            // SAFETY: the array has as many registers as the function saves, and its elements may change through `&`.
            unsafe { save_floating_point(&raw const self.floating_point) }
        });
    }

    /// Loads them again.
    ///
    /// # Safety
    ///
    /// The guest of this slot runs next.
    pub unsafe fn load(&self, mode: Mode) {
        match mode {
            // SAFETY: the caller says so.
            Mode::Machine => unsafe { load_supervisor(self) },
            // SAFETY: the caller says so.
            Mode::Hypervisor => unsafe { load_virtual(self) },
        }
        with_floating_point(mode, || {
            // SAFETY: the array has as many registers as the function loads, and the host does not use them.
            unsafe { load_floating_point(&raw const self.floating_point) }
        });
    }
}

/// Calls a function that uses floating-point registers.
fn with_floating_point(mode: Mode, f: impl FnOnce()) {
    match mode {
        // SAFETY: the field FS only permits these instructions. The world switch sets it for the guest.
        Mode::Machine => unsafe { asm!("csrs mstatus, {}", in(reg) FLOAT, options(nostack)) },
        // SAFETY: as above.
        Mode::Hypervisor => unsafe { asm!("csrs sstatus, {}", in(reg) FLOAT, options(nostack)) },
    }
    f();
}
