//! How a guest traps: one file for each architecture, all behind [`Trap`].
//!
//! The type selects the instruction. A [`NegotiatedTrap`] is the method of a boot block; a `Doorbell` is a store to an
//! agreed address, a `Gate` a call of code that the host has mapped. Each architecture also has instructions of its own:
//! `Out<PORT>`, `Vmcall` and `Vmmcall` on x86_64, `Hvc` and `Smc` on aarch64, `Ecall` on riscv64. All of them carry the
//! same four words.

use crate::abi::Registers;

#[cfg(target_arch = "aarch64")]
pub mod aarch64;
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
mod framed;
mod inline;
#[cfg(target_arch = "riscv64")]
pub mod riscv64;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as native;
#[cfg(target_arch = "riscv64")]
use riscv64 as native;
#[cfg(target_arch = "x86_64")]
use x86_64 as native;

/// On an architecture without a file here, nothing traps. Calls of a loopback, and a host that runs guests of its own,
/// work everywhere.
#[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64")))]
mod native {
    #[cfg(feature = "guest")]
    compile_error!(
        "guests exist for x86_64, aarch64 and riscv64: remove the feature `guest` of vmffi for this target"
    );

    /// No value exists, since nothing traps.
    #[derive(Clone, Copy, Debug)]
    pub enum NegotiatedTrap {}

    impl super::Trap for NegotiatedTrap {
        fn trap(&self, _: super::Registers) -> super::Registers {
            match *self {}
        }
    }

    /// No value exists, since nothing traps.
    #[cfg(all(not(feature = "guest"), not(feature = "std")))]
    pub(crate) type Hypercall = NegotiatedTrap;

    /// The name of a processor exception, which is unknown.
    pub(crate) fn exception(_: u8) -> Option<&'static str> {
        None
    }
}

#[doc(hidden)]
pub use inline::InlineInstruction;
pub(crate) use inline::InlineTrap;
pub use native::NegotiatedTrap;
pub(crate) use native::exception;

/// A trap method: leaves the guest and returns with the host's answer (ABI, "Traps").
///
/// The four words of [`Registers`] cross in both directions, as the ABI says for this architecture. `kind` is one of
/// [`trap`](crate::abi::trap) in the argument and one of [`answer`](crate::abi::answer) in the result. Any other kind in
/// the result, the argument's included, means that no host handled the trap: the caller then reports it as unsupported
/// and ignores the other words.
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
