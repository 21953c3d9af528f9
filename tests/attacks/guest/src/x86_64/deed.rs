//! The deeds of x86_64.

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
        /// Adds to a word, by a locked instruction.
        Add,
        /// The port is `at`.
        Out1,
        Out2,
        Out4,
        In1,
        In2,
        In4,
        /// `rep outsd`, of this many words.
        OutString,
        Jump,
        Call,
        Divide,
        /// Divides by zero in vector registers, with that exception enabled.
        DivideFloat,
        Overflow,
        /// `movaps` from this address.
        LoadAligned,
        /// An ordinary access, with alignment checks enabled.
        Checked,
        Halt,
        Cli,
        Sti,
        Lgdt,
        Lidt,
        Lldt,
        Ltr,
        /// `mov cr0`, and so on.
        Cr0,
        Cr3,
        Cr4,
        Dr7,
        Clts,
        /// The register is `at`.
        Wrmsr,
        Rdmsr,
        Invlpg,
        Wbinvd,
        Swapgs,
        Xsetbv,
        Sysret,
        Sysexit,
        /// To a code segment and an address.
        Iret,
        FarJump,
        LoadDs,
        LoadSs,
        /// An interrupt of this number.
        Int,
        /// A system call of this number, by `syscall`, by `sysenter`, or by the interrupt of 32-bit programs.
        Syscall,
        Sysenter,
        Int80,
        Vmcall,
        Vmmcall,
        Undefined,
        Breakpoint,
        /// Single steps.
        Steps,
        /// `wrpkru`.
        Pkru,
        FsBase,
        /// Sets every vector register to this value.
        Vectors,
        Spin,
        /// Stores 108 bytes, of x87 registers.
        StoreX87,
        /// A 32-bit system call from 32-bit code, if the system permits it.
        Compat,
        /// `ud2` without a stack.
        NoStack,
        /// `int1`.
        Icebp,
        /// Calls a function that does not exist, with these flags set. `at` is the port, the doorbell, or the gate.
        Flagged,
    }
}
