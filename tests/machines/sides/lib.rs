//! What both sides of the suite in `tests/machines` serve, and its host. It is a crate of its own, since its five hundred
//! functions take a while to compile: what needs none of them (examples, benchmarks, fuzz targets) does not wait.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

extern crate alloc;

pub mod host;
// By its path: a module of the guest. It contains assembly.
#[path = "../guest/src/shared/mod.rs"]
pub mod shared;
