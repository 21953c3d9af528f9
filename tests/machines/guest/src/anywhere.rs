//! The guest that can be loaded at any address.
#![no_std]
#![no_main]

mod program;
