//! Code that several test programs, benchmarks and fuzz targets of `vmffi` share. It is a crate of its own, so each
//! user imports the items that it needs, and the compiler reports no unused code for the others.
//!
//! This crate compiles files of guests and of examples by their paths. It cannot depend on their packages: a guest's package is
//! a program for another target, with features of `vmffi` that its host must not have.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

extern crate alloc;

pub mod elf;
pub mod events;
pub mod forged;
// By its path: examples use it as a module, `mod guests`, without this crate.
#[path = "../../../examples/guests/mod.rs"]
pub mod guests;
pub mod interface;
pub mod left;
pub mod liar;
pub mod list;
// By its path: a file of the guest.
#[path = "../../../examples/guests/meter/src/meter.rs"]
pub mod meter;
// By its path: a file of the guest.
#[path = "../../attacks/guest/src/ops.rs"]
pub mod ops;
pub mod panics;
pub mod region;
mod sane;
pub mod skips;
pub mod times;
// By its path: a file of the guest.
#[path = "../../../examples/guests/meter/src/warmth.rs"]
pub mod warmth;

pub use vmffi;
