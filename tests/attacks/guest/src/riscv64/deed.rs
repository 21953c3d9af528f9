//! The deeds of riscv64.

use super::{Feed, Field};

bytes! {
    /// Operations that a guest may not execute, or never needs: mostly one instruction. `at` and `value` are its operands.
    pub enum Deed {
        /// Stores of other widths than a trap's, and of the same width by another instruction.
        Store1,
        Store2,
        Store4,
        Store8,
        Store16,
        /// Adds to a word, atomically.
        Add,
        Jump,
        Call,
        Overflow,
        Undefined,
        Breakpoint,
        /// A system call of this number.
        Syscall,
        /// Sets every vector or floating-point register to this value.
        Vectors,
        Spin,
        /// An undefined instruction without a stack.
        NoStack,
        /// Calls a function that does not exist, with these flags set. `at` is the doorbell or the gate.
        Flagged,
        /// Sets the register of the thread.
        Thread,
        Wfi,
        /// Reads and writes the register of control and status of this number.
        Csrr,
        Csrw,
        Sret,
        Mret,
        SfenceVma,
        HfenceGvma,
        /// A load of a guest's guest.
        Hlv,
        FenceI,
        CompressedBreakpoint,
        /// Atomic accesses.
        LoadReserved,
        StoreConditional,
        /// Other accesses that are not one load or store of a general register.
        StoreFloat,
        StoreCompressed,
        StoreVector,
        LoadFloat,
        /// Cache blocks: discards, cleans, and zeros this one.
        CboInval,
        CboClean,
        CboZero,
        Vsetvli,
        /// Uses the stack.
        Push,
        Wrs,
    }
}
