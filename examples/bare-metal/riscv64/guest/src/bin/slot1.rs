//! The guest, at the address of the second slot.
#![no_std]
#![no_main]

use guest as _;
