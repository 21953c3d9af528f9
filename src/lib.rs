//! Typed function calls across a hypervisor boundary, in both directions.
//!
//! A guest calls its host (*hypercall*), a host calls its guest (*upcall*). An interface is declared once, inline, with
//! [`ffi_interface!`]: the side that serves it implements a trait, the side that calls it gets a client. Scalars cross in
//! registers, everything else in one shared region, in blocks that have one owner each and return to the allocator that
//! they came from. The host trusts nothing that the guest can write.
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
//!         let page = format!("This is {}.", name.read_string()?);
//!         SharedBuf::copy_from(guest, &page.as_bytes()[..page.len().min(limit as usize)])
//!     }
//! }
//!
//! vmffi::serve!(Host: Pages);
//!
//! // Guest and host in one process, for a first look: the guest serves nothing, `()`.
//! let pair = Loopback::new((), Host)?;
//! let page = PagesClient::from(pair.host()).load("a page", 100)?;
//! assert_eq!(page.read_vec()?, b"This is a page.");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to go from here
//!
//! - The [guide] has a chapter for each topic: a first interface, ownership, errors, [a guest
//!   in a machine][machines], guests and hosts of other machines, versioning, and the safety argument.
//! - [`ffi_interface!`] has the whole syntax, and [a generated module](mod@example_generated) shows its expansion.
//! - The ABI is [a document][abi] from which a side can be written in another language. "ABI" with the name of a section
//!   refers to it.
//!
//! # Who owns what
//!
//! Each side has an arena in the region and allocates only there. A sender makes a [`SharedBuf`] (or
//! [`SharedStr`], [`SharedSlice`], [`SharedPacked`], [`Shared`]), or passes a borrowed `&[u8]` or `&str`, which is copied
//! there. The call hands it over: the receiver owns a [`ForeignBuf`] (or [`ForeignStr`],
//! [`ForeignSlice`], [`ForeignPacked`], [`Foreign`]), may keep it after the call, and releases the memory by dropping it. A call that fails
//! before its function is reached lends nothing; a call that fails later has consumed its arguments
//! ([`CallError::reached`]).
//!
//! A [`Batch`] is many calls for one trap, with the same methods.
//!
//! # What connects two sides
//!
//! - [`loopback`]: both in one process, without isolation; for tests, benchmarks and a first look.
//! - [`machine`]: the crate loads a guest's ELF file and runs it, in a virtual machine on KVM or in a process
//!   that can only compute and trap.
//! - [`guest`] and [`host`]: the guest traps ([`arch`] has the instructions), and the host
//!   runs a [`Vcpu`] that you implement, on a virtual machine monitor or a hypervisor of your own, with or without an operating
//!   system below it.
//!
//! Before the first call the host compares what each side serves with what the other calls; if that does
//! not fit, an error says where the declarations differ ([`contract`]). Functions that a program does not declare are called
//! by [`dynamic`].
//!
//! # What it cannot do
//!
//! - A guest trusts its host: confidential virtual machines (SEV, TDX) are out of scope, and so are
//!   side channels.
//! - Calls are synchronous. The host waits for a guest that never traps, until a deadline or a `host::Stopper` stops it.
//! - Machines run on Linux, on x86_64, aarch64 and riscv64. Guest and host have the same architecture.
//! - Both sides are little-endian.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `std` (default) | `host::Host`: threads, deadlines, resets; caught panics, views for `std::io`; implies `alloc` |
//! | `alloc` | the loopback; `read_vec`, `read_string` and their kin |
//! | `guest` | what makes a guest a program: entry point, panic handler, memory functions, logger (x86_64, aarch64, riscv64) |
//! | `heap` | a global allocator for guests; implies `guest` and `alloc` |
//! | `kvm` | machines by KVM; implies `std` (Linux) |
//! | `process` | machines that are processes; implies `std` (Linux) |
//! | `vm-memory` | `host::GuestMemory` for the guest memory of rust-vmm; implies `std` |
//! | `tracing` | a span for each call, the guest's log as events; implies `std` |
//! | `build` | for build scripts: a guest is linked, and a host builds its guest |
//!
//! Without features the crate is `no_std` and needs no allocator: a guest's end never does, and neither does [`host::StaticHost`]. Spans have the
//! target `vmffi` and the level `DEBUG`. A span is named `call` on the calling side and `serve` on the serving side, and has
//! the fields `function`, `direction`, `status` and `nanos`.
//!
#![cfg_attr(all(doc, feature = "guest", feature = "kvm", feature = "process"), doc = include_str!("guide/names.md"))]
#![cfg_attr(all(doc, not(all(feature = "guest", feature = "kvm", feature = "process"))), doc = include_str!("guide/elsewhere.md"))]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(any(feature = "std", feature = "build")), no_std)]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(target_endian = "big")]
compile_error!("the ABI is little-endian, and so must guest and host be");

// Each module imports only from those before it in this order, which `tests/arrows.rs` checks (see `ARCHITECTURE.md`): abi,
// error, arch, memory, types, contract, exit, call, shared, foreign, batch, dynamic, macros, handshake, log, loopback, guest, host, machine, build.
pub mod abi;
pub mod arch;
mod batch;
#[cfg(feature = "build")]
pub mod build;
mod call;
pub mod contract;
#[cfg(feature = "alloc")]
pub mod dynamic;
mod error;
#[cfg(any(doc, test))]
pub mod example_generated;
#[cfg_attr(
    not(feature = "std"),
    allow(rustdoc::broken_intra_doc_links, reason = "it also describes what `std` adds")
)]
mod exit;
mod foreign;
pub mod guest;
#[cfg(all(doc, feature = "guest", feature = "kvm", feature = "process"))]
pub mod guide;
mod handshake;
#[cfg_attr(
    not(feature = "std"),
    allow(rustdoc::broken_intra_doc_links, reason = "it also describes what `std` adds")
)]
pub mod host;
mod log;
#[cfg(feature = "alloc")]
pub mod loopback;
#[cfg(all(feature = "machine", target_os = "linux"))]
pub mod machine;
mod macros;
mod memory;
mod shared;
mod types;

#[cfg(feature = "std")]
pub use foreign::Reader;
pub use {
    abi::{MAX_DEPTH, PAGE_SIZE},
    batch::{Batch, Pending, Results},
    call::{Caller, Peer, Serve},
    error::{CallError, ErrorKind, ErrorText, Failure, RegionError},
    foreign::{Foreign, ForeignBuf, ForeignList, ForeignPacked, ForeignSlice, ForeignStr},
    handshake::ConnectError,
    memory::{ArenaStats, GRANULE_SIZE, Incoming, Lender, Outgoing, RegionLayout, RegionMemory},
    shared::{Shared, SharedBuf, SharedList, SharedPacked, SharedSlice, SharedStr},
    types::{
        CrossesAs, FfiReturn, FfiType, List, ListIter, NONE, Never, Packed, Plain, SendAs,
        Unpackable,
    },
};

/// For the expansion of the macros only: nothing here is promised to anybody else.
#[doc(hidden)]
pub mod __private {
    pub use crate::{
        call::{
            client::{Via, nothing},
            dispatch,
            server::{alone, answer, incoming, nothing_sent, receive},
            span::Span,
        },
        types::{
            check::{
                Asked, Checked, Handled, In, Item, Named, Of, Same, SharedOf, Static, Wrong,
                crosses, hide, named, packs, plain, returned,
            },
            descriptor::{self, Declared, Field, Shape, Variant},
            layout_rule::Rule,
            mistakes,
            packed::{
                Packer, Unread, again_plain, check_field, check_plain, pack_field, tag, view_field,
                view_plain,
            },
            wire::{self, BlockOf, Bool, Flag, NoHandles, Pick, Tagged, field, put, write},
        },
    };
    pub use {::bytemuck, ::core, ::memoffset, ::paste};
}
