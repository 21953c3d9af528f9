//! The guest at a fixed address.
#![no_std]
#![no_main]

mod program;
