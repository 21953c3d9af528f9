//! The guest, at the address of the first slot.
#![no_std]
#![no_main]

use guest as _;
