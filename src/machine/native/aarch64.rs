//! What is aarch64 in all machines: ELF files, and classes of exceptions.

use elf::abi;

/// The machine of an ELF file, and what is wrong with a file for another one.
pub(super) const ELF_MACHINE: u16 = abi::EM_AARCH64;
pub(super) const WRONG_MACHINE: &str = "not for aarch64";
/// The relocation that adds the load bias to an addend (ELF for the Arm 64-bit Architecture, "Dynamic relocations").
pub(super) const RELATIVE: u32 = abi::R_AARCH64_RELATIVE;

/// `udf #0`, and the class of the exception that it raises: an unknown reason.
pub(super) const INVALID_INSTRUCTION: [u8; 4] = [0; 4];
pub(super) const INVALID: u8 = 0;

/// Whether this exception is an access to memory that is not mapped, or not with that access: an instruction or data
/// abort from EL0.
pub(super) fn is_page_fault(exception: u8) -> bool {
    matches!(exception, 0x20 | 0x24)
}

/// The class of a data abort from EL0.
#[cfg(feature = "kvm")]
pub(super) const ABORT: u8 = 0x24;
