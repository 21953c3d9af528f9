//! Typed function calls across a hypervisor boundary, in both directions.
//!
//! A guest and its host declare an interface once, inline, with [`ffi_interface!`]. Whoever serves it
//! implements a trait, whoever calls it gets a client; scalars travel in registers, everything else
//! in one shared region, in memory that has an owner and goes back to the allocator that it came
//! from. The host trusts nothing that the guest can write.
//!
//! ```
//! use vmffi::{CallError, ForeignStr, Peer, loopback::Loopback};
//!
//! vmffi::ffi_interface! {
//!     /// What the host offers to its guest.
//!     pub interface Log {
//!         /// Returns the number of lines so far.
//!         fn line(level: u8, text: ForeignStr) -> u64;
//!     }
//! }
//!
//! struct Host;
//!
//! impl Log for Host {
//!     fn line(&self, _guest: &Peer, level: u8, text: ForeignStr) -> Result<u64, CallError> {
//!         println!("<{level}> {}", text.to_string()?);
//!         Ok(1)
//!     }
//! }
//!
//! vmffi::serve!(Host: Log);
//!
//! // Guest and host in one process, for a first look: the guest serves nothing, `()`.
//! let pair = Loopback::new((), Host)?;
//! let log = LogClient::from(pair.to_host());
//! assert_eq!(log.line(3, "a hypercall")?, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What connects two sides
//!
//! - `loopback`: both in one process, without isolation; for tests and benchmarks.
//! - [`guest`] and `host`: the guest traps (see [`arch`]), the host runs a `Vcpu` that
//!   somebody else brings, from a virtual machine monitor or a hypervisor.
//!
//! # Who owns what
//!
//! A sender makes a [`SharedBuf`] (or [`SharedStr`], [`SharedSlice`], [`Shared`]) in its own arena, or
//! lends a borrowed `&[u8]` or `&str`, which is copied there. The call hands it over: the receiver
//! owns a [`ForeignBuf`] (or [`ForeignStr`], [`ForeignSlice`], [`Foreign`]), may keep it for as long as
//! it likes, and gives the memory back by dropping it. A call that fails before its function is
//! reached costs the caller nothing; one that fails later has consumed its arguments.
//!
//! # What it does not do
//!
//! A guest trusts its host: confidential virtual machines (SEV, TDX) are out of scope, and so are side
//! channels. Both sides are little-endian.
//!
//! # Features
//!
//! - `std` (default): the loopback, the host's end, caught panics, `std::io` views. Implies `alloc`.
//! - `alloc`: `to_vec`, `to_string` and their kin.
//!
//! Without features the crate is `no_std` and needs no allocator; a guest's end never needs one.
//!
//! The ABI is a document, `docs/abi.md` in the repository: what is said here to be in a section of
//! the ABI is there.
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
pub mod call;
#[doc(hidden)]
pub mod dispatch;
mod error;
mod foreign;
pub mod guest;
#[cfg(feature = "std")]
pub mod host;
#[doc(hidden)]
pub mod layout;
#[cfg(feature = "alloc")]
pub mod loopback;
mod macros;
mod memory;
mod option;
mod owned;
#[doc(hidden)]
pub mod peer;
mod scalars;
mod shared;
mod sync;
#[doc(hidden)]
pub mod text;
#[doc(hidden)]
pub mod wire;

#[cfg(feature = "std")]
pub use foreign::Reader;
pub use {
    arena::{ArenaStats, GRANULE},
    call::FfiReturn,
    dispatch::Serve,
    error::{CallError, Failure, RegionError, Why},
    foreign::{Foreign, ForeignBuf, ForeignSlice, ForeignStr},
    memory::{Layout, PAGE},
    peer::{Incoming, MAX_DEPTH, Outgoing, Peer},
    shared::{Shared, SharedBuf, SharedSlice, SharedStr},
    wire::{FfiType, Plain, SendAs, Unpackable},
};

/// For the expansion of `ffi_interface!` only.
#[doc(hidden)]
pub mod __private {
    pub use {::bytemuck, ::core, ::memoffset, ::paste, ::zerocopy};
}
