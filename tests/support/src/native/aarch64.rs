//! ELF files for aarch64.

/// `EM_AARCH64`.
pub const ELF_MACHINE: u16 = 183;
/// `R_AARCH64_RELATIVE`: adds the load bias to an addend.
pub const RELATIVE: u64 = 1027;
