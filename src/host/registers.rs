//! The general registers of a vCPU, as trap handlers save them, and the words of a trap in them (ABI, "Traps").
//!
//! None of these types depends on the processor for which the host is compiled.

use super::{GuestExit, GuestMemory};
use crate::abi::Registers;

pub mod aarch64;
pub mod riscv64;
pub mod x86_64;

/// The saved registers of a vCPU that has trapped: the four words of the ABI are in them, or in memory to which they point.
pub trait SavedRegisters {
    /// The words of the trap. `None` if the guest has called something else than this ABI: the hypervisor has other services, or
    /// answers as one that does not know the call.
    ///
    /// # Errors
    ///
    /// The exit of a guest that has called this ABI with a frame that is not in its memory (ABI, Traps TR-10 and TR-14).
    fn trap(&self, memory: &impl GuestMemory) -> Result<Option<Registers>, GuestExit>;

    /// Completes the trap with an answer. No other register changes.
    ///
    /// # Errors
    ///
    /// The exit of a guest whose frame is no longer in its memory.
    fn complete(&mut self, memory: &impl GuestMemory, answer: Registers) -> Result<(), GuestExit>;
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use core::ptr::NonNull;
    use std::boxed::Box;

    use super::*;
    use crate::{
        abi::{Transport, trap},
        host::Piece,
    };

    /// A guest without memory.
    pub(super) struct Nothing;

    // SAFETY: there are no pieces.
    unsafe impl GuestMemory for Nothing {
        fn translate(&self, _: u64, _: usize) -> Option<Piece> {
            None
        }
    }

    /// A guest whose memory is four words at [`AT`](Self::AT).
    pub(super) struct Words(NonNull<[u64; 4]>);

    impl Words {
        pub(super) const AT: u64 = 0x8000_0040;

        pub(super) fn new(words: [u64; 4]) -> Self {
            Self(NonNull::from(Box::leak(Box::new(words))))
        }

        pub(super) fn words(&self) -> [u64; 4] {
            // SAFETY: `new` leaked a box with the words, and nothing writes to them meanwhile.
            unsafe { self.0.read() }
        }
    }

    impl Drop for Words {
        fn drop(&mut self) {
            // SAFETY: `new` leaked it, and this is its only owner.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }

    // SAFETY: the words are a leaked box until `drop`, to which only these pieces refer.
    unsafe impl GuestMemory for Words {
        fn translate(&self, address: u64, len: usize) -> Option<Piece> {
            let at = usize::try_from(address.checked_sub(Self::AT)?).ok().filter(|at| *at < 32)?;
            // SAFETY: `at` is below 32, the number of bytes of four words.
            Some(Piece { at: unsafe { self.0.cast::<u8>().add(at) }, len: len.min(32 - at) })
        }
    }

    /// ABI, Traps TR-6.
    #[test]
    fn words_of_x86_64() {
        let mut registers = x86_64::GeneralRegisters {
            rax: trap::READY,
            rcx: 1,
            rbx: 2,
            r8: 3,
            r9: 4,
            r15: 5,
            ..Default::default()
        };
        let transport = Transport { primary: 3, secondary: 4 };
        let expected = Registers { kind: trap::READY, word: 2, transport };
        assert_eq!(registers.trap(&Nothing).unwrap(), Some(expected));
        let transport = Transport { primary: 8, secondary: 9 };
        registers.complete(&Nothing, Registers { kind: 6, word: 7, transport }).unwrap();
        let expected = x86_64::GeneralRegisters {
            rax: 6,
            rcx: 1,
            rbx: 7,
            r8: 8,
            r9: 9,
            r15: 5,
            ..Default::default()
        };
        assert_eq!(registers, expected);
        assert_eq!(registers.trap(&Nothing).unwrap(), None, "6 is another hypervisor's call");
    }
}
