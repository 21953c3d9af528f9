//! The types that may cross, and their encodings (ABI, "Types").
//!
//! A value crosses alone in a [`Transport`](crate::abi::Transport), or as a *wire form*: the bytes of its *wire twin*.
//! The peer's bytes are copied to local memory first; this module validates the copy.

pub mod arrays;
pub mod check;
pub mod const_text;
mod convert;
pub mod descriptor;
pub mod layout_rule;
pub mod mistakes;
mod option;
pub mod packed;
mod returned;
mod scalars;
mod traits;
pub mod wire;

pub use convert::CrossesAs;
pub use option::{NONE, Never};
pub use packed::{List, ListIter, Packed};
pub use returned::FfiReturn;
pub use traits::{FfiType, Plain, SendAs, Unpackable};
pub(crate) use wire::{Local, Tagged, W8, W16, W32, W64, W128, WBuf, copied, no_secondary, read};
