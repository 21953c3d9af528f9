//! The guest at any address, with packed relocations.
#![no_std]
#![no_main]

mod program;
