//! Contracts: the functions that a side serves and those that it calls, with all their types (ABI, "Contracts").
//!
//! A contract is a byte string that is written at compile time. The host compares both contracts before the first call:
//! each side must serve what the other calls, under the same signature. Otherwise a `Mismatch` names the function, both
//! declarations, and where they differ. Safety does not depend on a peer's contract: each side decodes calls by its own
//! declarations.

mod agree;
#[cfg(feature = "alloc")]
mod bounded;
#[cfg(feature = "alloc")]
mod compare;
#[cfg(not(feature = "alloc"))]
#[path = "contract/brief.rs"]
mod compare;
mod escape;
mod format;
#[cfg(feature = "alloc")]
mod layout;
#[cfg(feature = "alloc")]
mod read;
#[cfg(feature = "alloc")]
mod view;
#[cfg_attr(
    not(feature = "alloc"),
    expect(dead_code, reason = "only the records on a heap have them")
)]
mod walk;
mod write;

#[cfg(not(feature = "alloc"))]
pub(crate) use agree::Disagreement;
pub(crate) use agree::{agree, words};
pub use compare::Mismatch;
pub(crate) use escape::Escaped;
pub use format::MAX_LEN;
pub(crate) use format::NOTHING;
pub use walk::BadContract;
#[doc(hidden)]
pub use write::{Sides, bytes, len};
#[cfg(feature = "alloc")]
pub(crate) use {
    bounded::BoundedText,
    layout::{Form, Layout},
};
#[cfg(feature = "alloc")]
pub use {
    compare::{Difference, compare},
    read::Contract,
    view::{FieldRef, FunctionRef, TypeKind, TypeRef, VariantRef},
};
