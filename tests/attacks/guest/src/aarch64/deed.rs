//! The deeds of aarch64.

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
        /// Supervisor, hypervisor and monitor calls with this number in X8 and in X0.
        Hvc,
        Smc,
        Wfe,
        Eret,
        /// Reads and writes the system register of this number: its bits 0 to 2 are op2, 3 to 6 CRm, 7 to 10 CRn, 11 to 13 op1.
        Mrs,
        Msr,
        /// The same for `sys`: cache, address translation and TLB maintenance, of this address.
        Sys,
        /// Masks and unmasks interrupts.
        Daif,
        /// Selects the stack pointer.
        SpSel,
        /// Accesses of one and of two words to an exclusive monitor.
        LoadExclusive,
        LoadExclusivePair,
        /// Other accesses that are not one load or store of a general register.
        StorePair,
        StoreVector,
        StoreMultiple,
        StoreWriteBack,
        LoadPair,
        Prefetch,
        /// Uses the stack.
        Push,
        /// Uses of SVE and SME.
        Sve,
        SveStore,
        Streaming,
        Matrix,
        /// `hlt`, `dcps1`, `drps`.
        Halt,
        Dcps,
        Drps,
        /// Signs an address and uses it.
        Sign,
    }
}
