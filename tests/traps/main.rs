//! The trap instructions of this architecture, executed (ABI, "Traps").
//!
//! A Linux process may neither write to an I/O port, nor store to a page without permissions, nor execute `hvc`. All
//! raise a signal, in the instruction and with every register as the guest left it, just as a VM
//! exit would. So a thread of this program can be the guest: the signal's handler takes the place of the
//! VM exit, passes the words to a host function, stores the answer, and skips
//! the instruction.
//!
//! `vmcall` and `vmmcall` are only read: in a virtual machine they would exit to its host. `ecall` is a system call that
//! Linux does not know.
#![cfg(all(target_os = "linux", not(miri)))]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod connection;
mod instructions;
mod machine;
