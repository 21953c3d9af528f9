//! The traps of riscv64 in the registers and the memory of a traced process.

mod frames;

use std::io;

use vmffi::abi::Registers;

pub use vmffi::arch::riscv64::code;

use super::{DOORBELL, Process};
use crate::guest::End;

/// Accesses to the doorbell that only this architecture has, and frames that are none.
pub const ENDS: &[(&str, End)] = &[
    ("a store of a floating-point register", End::Poisoned),
    ("a compressed store", End::Poisoned),
    ("a frame that is not aligned", End::Poisoned),
    ("a frame that is not there", End::Poisoned),
    ("a frame that the guest cannot write", End::Poisoned),
];

/// The address of the next instruction.
pub fn instruction(registers: &libc::user_regs_struct) -> u64 {
    registers.pc
}

/// The words of a trap whose instruction rings.
pub fn words(process: &Process, registers: &libc::user_regs_struct) -> Option<Registers> {
    if registers.a1 != DOORBELL {
        return None;
    }
    frames::words(process, registers.a0)
}

/// Completes a trap with an answer.
pub fn complete(
    process: &Process,
    registers: &mut libc::user_regs_struct,
    answer: Registers,
) -> io::Result<()> {
    frames::write(process, registers.a0, answer)?;
    registers.pc += code::DOORBELL.len() as u64;
    Ok(())
}
