//! The constants of a contract's format: record kinds and function flags (ABI, "Contracts").

/// The maximum size of a contract in bytes.
pub const MAX_LEN: usize = 1 << 18;

/// Flags of a function.
pub(crate) mod flag {
    /// The side serves it.
    pub(crate) const SERVES: u8 = 1;
    /// The side calls it.
    pub(crate) const CALLS: u8 = 2;
    /// The side calls it if the other serves it.
    pub(crate) const OPTIONAL: u8 = 4;
}

/// Kinds of record in a contract.
pub(crate) mod kind {
    pub(crate) const BUILTIN: u8 = 0;
    pub(crate) const STRUCT: u8 = 1;
    pub(crate) const ENUM: u8 = 2;
    pub(crate) const FUNCTION: u8 = 3;
    pub(crate) const ARRAY: u8 = 4;
    pub(crate) const TUPLE: u8 = 5;
}

/// The contract of a side that serves nothing and calls nothing: no records.
pub(crate) const NOTHING: &[u8] = &[0; 2];
