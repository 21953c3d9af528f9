//! The guest at any address.
#![no_std]
#![no_main]

mod program;
