//! The traps of x86_64 in the registers of a traced process.

use std::io;

use vmffi::abi::{Registers, Transport};

pub use vmffi::arch::x86_64::code;

use super::{DOORBELL, Process};
use crate::guest::End;

/// Accesses to the doorbell that only this architecture has.
pub const ENDS: &[(&str, End)] = &[("a store of 16 bytes", End::Poisoned)];

/// The address of the next instruction.
pub fn instruction(registers: &libc::user_regs_struct) -> u64 {
    registers.rip
}

/// The words of a trap whose instruction rings.
pub fn words(_: &Process, registers: &libc::user_regs_struct) -> Option<Registers> {
    let transport = Transport { primary: registers.r8, secondary: registers.r9 };
    let words = Registers { kind: registers.rax, word: registers.rbx, transport };
    (registers.rdx == DOORBELL).then_some(words)
}

/// Completes a trap with an answer.
pub fn complete(
    _: &Process,
    registers: &mut libc::user_regs_struct,
    answer: Registers,
) -> io::Result<()> {
    registers.rax = answer.kind;
    registers.rbx = answer.word;
    registers.r8 = answer.transport.primary;
    registers.r9 = answer.transport.secondary;
    registers.rip += code::DOORBELL.len() as u64;
    Ok(())
}
