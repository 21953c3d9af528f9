//! Code that several test programs, benchmarks and fuzz targets of `vmffi` share. It is a crate of its own, so each
//! user imports the items that it needs, and the compiler reports no unused code for the others.
//!
//! A file that belongs to a guest's program, to an example or to one test program stays there, and this crate compiles it
//! by its path.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

extern crate alloc;

pub mod elf;
pub mod events;
pub mod forged;
#[path = "../../../examples/guests/mod.rs"]
pub mod guests;
#[cfg(target_arch = "x86_64")]
pub mod host;
#[path = "../../hostile/interface.rs"]
pub mod interface;
pub mod left;
pub mod liar;
pub mod list;
#[path = "../../../examples/guests/meter/src/meter.rs"]
pub mod meter;
#[path = "../../attacks/guest/src/ops.rs"]
pub mod ops;
pub mod panics;
pub mod region;
#[path = "../../../examples/guests/meter/src/warmth.rs"]
pub mod warmth;
// The guest commits its crimes in assembly.
#[cfg(target_arch = "x86_64")]
#[path = "../../machines/guest/src/shared/mod.rs"]
pub mod shared;

pub use vmffi;
