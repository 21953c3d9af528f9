//! How a guest traps: one file for each architecture, all behind [`Trap`].
//!
//! The type selects the instruction. On x86_64 these are `Out<PORT>` (port I/O), `Doorbell` (a store to an agreed
//! address), `Gate` (a call of code that the host has mapped), `Vmcall` and `Vmmcall`. All of them carry the same four
//! words.

use crate::abi::Registers;

mod inline;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;

#[doc(hidden)]
pub use inline::InlineInstruction;
pub(crate) use inline::InlineTrap;

/// A trap method: leaves the guest and returns with the host's answer (ABI, "Traps").
///
/// The four words of [`Registers`] cross in both directions, in the registers that the ABI gives
/// them on this architecture. `kind` is one of [`trap`](crate::abi::trap) in the argument and one of
/// [`answer`](crate::abi::answer) in the result. Any other kind in the result, the argument's included, means that no
/// host handled the trap: the caller then reports it as unsupported and ignores the other words.
///
/// # Memory
///
/// During a trap the host may read and write the shared memory, and other vCPUs continue to run. A trap is therefore
/// a compiler barrier: all writes before it are in memory when the host runs, and all reads after it load from memory
/// again. A reference into the region (`&T` or `&mut T`) must not live across a trap, since it promises that the memory
/// does not change.
///
/// # Implementing it
///
/// The types of this module are for real machines; a test may implement the trait with a function in place of the host.
/// The trait is safe to implement, because callers validate what it returns.
pub trait Trap {
    /// Traps with the words of `out` and returns the host's words, once the host resumes this vCPU. The host may never
    /// resume it.
    #[must_use = "the host may have answered with an upcall, which waits for its return"]
    fn trap(&self, out: Registers) -> Registers;

    /// The trap as an instruction that a call may execute inline, or [`InlineInstruction::NONE`].
    #[doc(hidden)]
    fn inline_instruction(&self) -> InlineInstruction {
        InlineInstruction::NONE
    }
}
