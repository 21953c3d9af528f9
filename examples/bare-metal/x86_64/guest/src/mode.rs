//! What a guest does, beside the modes of the suite: in the low byte of its first argument. The hypervisor has this file too.

/// The port of guests that trap by `out`.
pub const PORT: u16 = 0x5658;

/// Set for a guest that traps by `out`, in any mode.
pub const BY_PORT: u64 = 1 << 63;

/// Traps again and again, with different values in all registers, and counts the traps after which they are the same.
pub const KEEPS_REGISTERS: u64 = 0x40;
/// Writes to the region's header.
pub const WRITES_HEADER: u64 = 0x41;
/// Runs code in the region.
pub const EXECUTES_REGION: u64 = 0x42;
/// Changes its page tables to some that are not in its memory.
pub const CHANGES_TABLES: u64 = 0x43;
/// Clears the bit of CR0 that keeps it from x87 and vector instructions.
pub const WRITES_CR0: u64 = 0x44;
/// Executes a vector instruction.
pub const USES_VECTORS: u64 = 0x45;
/// Writes to a debug register.
pub const WRITES_DR0: u64 = 0x46;
/// Reads a model-specific register.
pub const READS_MSR: u64 = 0x47;
/// Writes a model-specific register.
pub const WRITES_MSR: u64 = 0x48;
/// Halts.
pub const HALTS: u64 = 0x49;
/// Runs a guest of its own.
pub const RUNS_GUEST: u64 = 0x4a;
/// Reads from the port of the hypervisor's serial line.
pub const READS_PORT: u64 = 0x4b;
/// Writes one byte to the port of traps.
pub const WRITES_BYTE: u64 = 0x4c;
/// Traps by `out` if it is to trap by `vmmcall`, and the other way round.
pub const TRAPS_OTHERWISE: u64 = 0x4d;
