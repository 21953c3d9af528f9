//! What a side says of itself: the functions that it serves and those that it calls, with all their
//! types (ABI, "Contracts").
//!
//! A contract is bytes, written at compile time. The two sides of a connection compare theirs before
//! the first call: whatever one calls, the other must serve, under the same signature. Where it does
//! not, a `Mismatch` says which function it is, how each side declares it, and where the two
//! declarations part. Nothing else depends on what a peer says here: calls are decoded by one's own
//! declaration alone.

#[cfg(feature = "alloc")]
mod compare;
#[cfg(feature = "alloc")]
mod read;
#[cfg(feature = "alloc")]
mod text;
mod write;

#[doc(hidden)]
pub use write::{Sides, bytes, len};
#[cfg(feature = "alloc")]
pub use {
    compare::{Difference, Mismatch, compare},
    read::{BadContract, Contract},
};

/// The most bytes that a contract may have.
pub const MAX_LEN: usize = 1 << 18;

/// What a contract says of a function.
pub(crate) mod flag {
    /// The side serves it.
    pub(crate) const SERVES: u8 = 1;
    /// The side calls it.
    pub(crate) const CALLS: u8 = 2;
    /// The side calls it, and can do without.
    pub(crate) const OPTIONAL: u8 = 4;
}

/// Kinds of record in a contract.
pub(crate) mod kind {
    pub(crate) const BUILTIN: u8 = 0;
    pub(crate) const STRUCT: u8 = 1;
    pub(crate) const ENUM: u8 = 2;
    pub(crate) const FUNCTION: u8 = 3;
}

/// The contract of a side that serves nothing and calls nothing: no records.
pub(crate) const NOTHING: &[u8] = &[0; 2];
