//! The guest, which two programs are made of: one at a fixed address, one at any.
#![no_std]

extern crate alloc;

pub mod shared;
