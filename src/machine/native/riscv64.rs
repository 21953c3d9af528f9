//! What is riscv64 in all machines: ELF files, and causes of exceptions.

use elf::abi;

/// The machine of an ELF file, and what is wrong with a file for another one.
pub(super) const ELF_MACHINE: u16 = abi::EM_RISCV;
pub(super) const WRONG_MACHINE: &str = "not for riscv64";
/// The relocation that adds the load bias to an addend (RISC-V ELF psABI, "Relocations").
pub(super) const RELATIVE: u32 = abi::R_RISCV_RELATIVE;

/// `unimp`, and the exception that it raises.
pub(super) const INVALID_INSTRUCTION: [u8; 4] = [0x73, 0x10, 0x00, 0xc0];
pub(super) const INVALID: u8 = 2;

/// Whether this exception is an access to memory that is not mapped, or not with that access.
pub(super) fn is_page_fault(exception: u8) -> bool {
    matches!(exception, 12 | 13 | 15)
}

/// The cause of a store access fault.
#[cfg(feature = "kvm")]
pub(super) const ACCESS_FAULT: u8 = 7;
