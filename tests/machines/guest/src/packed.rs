//! The guest that can be loaded at any address, with packed relocations.
#![no_std]
#![no_main]

mod program;
