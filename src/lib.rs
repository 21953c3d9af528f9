//! Typed function calls across a hypervisor boundary.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;
// The derives of zerocopy are told their crate by this name, in here as well.
extern crate self as vmffi;

#[cfg(target_endian = "big")]
compile_error!("the ABI is little-endian, and so must guest and host be");

pub mod abi;
pub mod arch;
mod arena;
#[doc(hidden)]
pub mod dispatch;
mod error;
mod foreign;
pub mod guest;
#[cfg(feature = "std")]
pub mod host;
#[cfg(feature = "alloc")]
pub mod loopback;
mod macros;
mod memory;
mod owned;
#[doc(hidden)]
pub mod peer;
mod shared;
#[doc(hidden)]
pub mod text;
#[doc(hidden)]
pub mod wire;

#[cfg(feature = "std")]
pub use foreign::Reader;
pub use {
    arena::{ArenaStats, GRANULE},
    dispatch::Serve,
    error::{CallError, Failure, RegionError, Why},
    foreign::{Foreign, ForeignBuf, ForeignSlice, ForeignStr},
    memory::{Layout, PAGE},
    peer::{Incoming, MAX_DEPTH, Outgoing, Peer},
    shared::{Shared, SharedBuf, SharedSlice, SharedStr},
    wire::{FfiReturn, FfiType, Plain, SendAs, Unpackable},
};

/// For the expansion of `ffi_interface!` only.
#[doc(hidden)]
pub mod __private {
    pub use {::bytemuck, ::core, ::memoffset, ::paste, ::zerocopy};
}
