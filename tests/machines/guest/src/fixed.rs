//! The guest at a fixed address.
#![no_std]
#![no_main]

extern crate alloc;

mod program;
mod shared;
