//! What is x86_64 in all machines: ELF files, and numbers of exceptions.

use elf::abi;

/// The machine of an ELF file, and what is wrong with a file for another one.
pub(super) const ELF_MACHINE: u16 = abi::EM_X86_64;
pub(super) const WRONG_MACHINE: &str = "not for x86_64";
/// The relocation that adds the load bias to an addend (System V ABI, AMD64 supplement, "Relocation").
pub(super) const RELATIVE: u32 = abi::R_X86_64_RELATIVE;

/// `ud2`, and the exception that it raises.
pub(super) const INVALID_INSTRUCTION: [u8; 2] = [0x0f, 0x0b];
pub(super) const INVALID: u8 = 6;

/// Whether this exception is an access to memory that is not mapped, or not with that access.
pub(super) fn is_page_fault(exception: u8) -> bool {
    exception == 14
}
