//! The trap instructions of x86_64, executed (ABI, "Traps").
//!
//! A Linux process may neither write to an I/O port nor store to a page without permissions. Both
//! raise SIGSEGV, in the instruction and with every register as the guest left it, just as a VM
//! exit would. So a thread of this program can be the guest: the signal's handler stands where the
//! exit is, hands the registers to a host function, puts the answer in their place and steps over
//! the instruction.
//!
//! `vmcall` and `vmmcall` are only looked at: in a virtual machine they would leave for its host.
#![cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod connection;
mod instructions;
mod machine;
