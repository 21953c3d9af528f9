//! Contracts: the functions that a side serves and those that it calls, with all their types (ABI, "Contracts").
//!
//! A contract is a byte string that is written at compile time. The host compares both contracts before the first call:
//! each side must serve what the other calls, under the same signature. Otherwise a `Mismatch` names the function, both
//! declarations, and where they differ. Safety does not depend on a peer's contract: each side decodes calls by its own
//! declarations.

#[cfg(feature = "alloc")]
mod compare;
#[cfg(feature = "alloc")]
mod escape;
mod format;
#[cfg(feature = "alloc")]
mod layout;
#[cfg(feature = "alloc")]
mod read;
#[cfg(feature = "alloc")]
mod view;
mod write;

#[cfg(feature = "std")]
pub(crate) use escape::Escaped;
pub use format::MAX_LEN;
pub(crate) use format::NOTHING;
#[doc(hidden)]
pub use write::{Sides, bytes, len};
#[cfg(feature = "alloc")]
pub use {
    compare::{Difference, Mismatch, compare},
    read::{BadContract, Contract},
    view::{FieldRef, FunctionRef, TypeKind, TypeRef, VariantRef},
};
#[cfg(feature = "alloc")]
pub(crate) use {
    escape::BoundedText,
    layout::{Form, Layout},
};
