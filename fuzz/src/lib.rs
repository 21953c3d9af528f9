//! What the fuzz targets do with their input. Each is a function of bytes that panics if the crate did
//! something wrong.
//!
//! [`host`] and [`guest`] play the other side of a connection with arbitrary words, and a model of the ABI
//! predicts the outcome of each word. Whatever they do, the crate must not panic, must read nothing
//! outside of the peer's arena (the region is a heap block of its own, for AddressSanitizer), must
//! deliver what was sent and nothing else, must release every loan once, and must lose no block.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod attacker;
mod batch;
pub mod contract;
pub mod counts;
mod feed;
mod forge;
pub mod guest;
pub mod header;
pub mod host;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod image;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod machine;
mod model;
pub mod packed;
pub mod release;
mod types;
mod world;
