//! The general registers of x86_64.

use super::SavedRegisters;
use crate::{
    abi::{Registers, Transport, trap},
    host::{GuestExit, GuestMemory},
};

/// The general registers of x86_64, in the order of their numbers in instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "each field is the register of that name")]
pub struct GeneralRegisters {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

/// A trap by `vmcall`, `vmmcall` or `out`, with its words in RAX, RBX, R8 and R9 (ABI, Traps TR-6).
impl SavedRegisters for GeneralRegisters {
    /// `None` if the upper half of RAX is not that of the ABI's kinds of trap, as the numbers of other hypercalls are not.
    #[inline]
    fn trap(&self, _: &impl GuestMemory) -> Result<Option<Registers>, GuestExit> {
        let Self { rax: kind, rbx: word, r8: primary, r9: secondary, .. } = *self;
        let ours = kind >> 32 == trap::CALL >> 32;
        let transport = Transport { primary, secondary };
        Ok(ours.then_some(Registers { kind, word, transport }))
    }

    #[inline]
    fn complete(&mut self, _: &impl GuestMemory, answer: Registers) -> Result<(), GuestExit> {
        let Registers { kind, word, transport } = answer;
        (self.rax, self.rbx) = (kind, word);
        (self.r8, self.r9) = (transport.primary, transport.secondary);
        Ok(())
    }
}
