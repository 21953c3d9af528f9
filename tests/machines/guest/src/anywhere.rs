//! The guest at any address.
#![no_std]
#![no_main]

extern crate alloc;

mod program;
mod shared;
