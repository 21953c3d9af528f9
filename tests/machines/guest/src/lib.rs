//! The guest of which the programs are made: one at a fixed address, two that can be loaded at any address.
#![no_std]

extern crate alloc;

pub mod shared;
