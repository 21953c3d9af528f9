//! ELF files for x86_64.

/// `EM_X86_64`.
pub const ELF_MACHINE: u16 = 62;
/// `R_X86_64_RELATIVE`: adds the load bias to an addend.
pub const RELATIVE: u64 = 8;
