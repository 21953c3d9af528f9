//! Typed function calls across a hypervisor boundary, in both directions.
//!
//! A guest calls its host (*hypercall*), a host calls its guest (*upcall*). Both declare an interface
//! once, inline, with [`ffi_interface!`]: whoever serves it implements a trait, whoever calls it gets a
//! client. Scalars travel in registers, everything else in one shared region, in memory that has an
//! owner and goes back to the allocator that it came from. The host trusts nothing that the guest can
//! write.
//!
//! ```
//! use vmffi::{CallError, ForeignBuf, ForeignStr, Peer, SharedBuf, loopback::Loopback};
//!
//! vmffi::ffi_interface! {
//!     /// What the host offers to its guest.
//!     pub interface Pages {
//!         fn load(name: ForeignStr, limit: u32) -> ForeignBuf;
//!     }
//! }
//!
//! struct Host;
//!
//! impl Pages for Host {
//!     fn load(&self, guest: &Peer, name: ForeignStr, limit: u32) -> Result<SharedBuf, CallError> {
//!         let page = format!("This is {}.", name.to_string()?);
//!         SharedBuf::copied(guest, &page.as_bytes()[..page.len().min(limit as usize)])
//!     }
//! }
//!
//! vmffi::serve!(Host: Pages);
//!
//! // Guest and host in one process, for a first look: the guest serves nothing, `()`.
//! let pair = Loopback::new((), Host)?;
//! let page = PagesClient::from(pair.to_host()).load("a page", 100)?;
//! assert_eq!(page.to_vec()?, b"This is a page.");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to go from here
//!
//! - The [guide] has a chapter for each question: a first interface, ownership, errors, [a guest
//!   in a machine][machines], guests and hosts of other machines, versioning, and the safety argument.
//! - [`ffi_interface!`] has the whole syntax, [a generated module](mod@example_generated) shows what comes of it.
//! - The ABI is [a document][abi] from which a side can be written in another language. What is said
//!   here to be in a section of the ABI is there.
//!
//! # Who owns what
//!
//! Each side has an arena in the region and allocates only there. A sender makes a [`SharedBuf`] (or
//! [`SharedStr`], [`SharedSlice`], [`Shared`]), or gives a borrowed `&[u8]` or `&str`, which is copied
//! there. The call hands it over: the receiver owns a [`ForeignBuf`] (or [`ForeignStr`],
//! [`ForeignSlice`], [`Foreign`]), may keep it for as long as it likes, also when the call is over, and
//! gives the memory back by dropping it. A call that fails before its function is reached has lent
//! nothing; one that fails later has consumed its arguments ([`CallError::reached`]).
//!
//! # What connects two sides
//!
//! - [`loopback`]: both in one process, without isolation; for tests, benchmarks and a first look.
//! - [`machine`]: the crate loads a guest's ELF file and runs it, in a virtual machine by KVM, or in a process
//!   that can do nothing but compute and trap.
//! - [`guest`] and [`host`]: the guest traps ([`arch`] has the instructions, of x86_64 so far), the host
//!   runs a [`Vcpu`] that you bring, from a virtual machine monitor or a hypervisor of your own.
//!
//! Before the first call the two compare what each serves with what the other calls; where that does
//! not fit, an error says where their declarations part ([`contract`]).
//!
//! # What it cannot do
//!
//! - A guest trusts its host: confidential virtual machines (SEV, TDX) are out of scope, and so are
//!   side channels.
//! - Calls are synchronous. A guest that never traps keeps its host waiting, until somebody stops it
//!   (`host::Host::stopper`).
//! - Machines are for Linux on x86_64.
//! - Both sides are little-endian.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `std` (default) | the host's end, caught panics, views for `std::io`; implies `alloc` |
//! | `alloc` | the loopback; `to_vec`, `to_string` and their kin |
//! | `guest` | what makes a guest a program: entry point, panic handler, memory functions, logger (x86_64) |
//! | `heap` | a global allocator for guests; implies `guest` and `alloc` |
//! | `kvm` | machines by KVM; implies `std` (Linux on x86_64) |
//! | `process` | machines that are processes; implies `std` (Linux on x86_64) |
//! | `tracing` | a span for each call, the guest's log as events; implies `std` |
//!
//! Without features the crate is `no_std` and needs no allocator; a guest's end never needs one. Spans have the
//! target `vmffi` and the level `DEBUG`; they are named `call` where a call is made and `serve` where it is
//! served, and have the fields `function`, `direction`, `status` and `nanos`.
//!
#![cfg_attr(all(doc, feature = "guest", feature = "kvm", feature = "process"), doc = include_str!("guide/names.md"))]
#![cfg_attr(all(doc, not(all(feature = "guest", feature = "kvm", feature = "process"))), doc = include_str!("guide/elsewhere.md"))]
#![cfg_attr(docsrs, feature(doc_cfg))]
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
pub mod contract;
#[doc(hidden)]
pub mod dispatch;
mod error;
#[cfg(any(doc, test))]
pub mod example_generated;
mod foreign;
pub mod guest;
#[cfg(all(doc, feature = "guest", feature = "kvm", feature = "process"))]
pub mod guide;
#[cfg(feature = "std")]
pub mod host;
#[doc(hidden)]
pub mod layout;
#[cfg(feature = "alloc")]
pub mod loopback;
#[cfg(all(feature = "machine", target_os = "linux", target_arch = "x86_64"))]
pub mod machine;
mod macros;
#[cfg(feature = "alloc")]
mod meet;
mod memory;
mod option;
mod owned;
#[doc(hidden)]
pub mod peer;
mod scalars;
#[doc(hidden)]
pub mod shape;
mod shared;
mod sync;
#[doc(hidden)]
pub mod text;
#[doc(hidden)]
pub mod trace;
#[doc(hidden)]
pub mod wire;

#[cfg(feature = "std")]
pub use foreign::Reader;
pub use {
    arena::{ArenaStats, GRANULE},
    call::FfiReturn,
    dispatch::Serve,
    error::{CallError, ConnectError, Failure, RegionError, Why},
    foreign::{Foreign, ForeignBuf, ForeignSlice, ForeignStr},
    memory::{Layout, PAGE},
    peer::{Incoming, MAX_DEPTH, Outgoing, Peer},
    shared::{Shared, SharedBuf, SharedSlice, SharedStr},
    wire::{FfiType, Plain, SendAs, Unpackable},
};

/// For the expansion of `ffi_interface!` only.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "heap")]
    pub use ::talc;
    pub use {::bytemuck, ::core, ::memoffset, ::paste, ::zerocopy};
}
