//! ELF files for riscv64.

/// `EM_RISCV`.
pub const ELF_MACHINE: u16 = 243;
/// `R_RISCV_RELATIVE`: adds the load bias to an addend.
pub const RELATIVE: u64 = 3;
