//! A guest in plain C, in a process of its own, against the crate's host: the caller's side of
//! `docs/abi.md`, written from that document alone. What it sends and what it expects is in the C files;
//! here the other half is checked, and that the guest has said "ok" in every line.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

#[cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
mod guest;
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
mod process;
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
mod server;

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", not(miri))))]
#[test]
fn c_guest() {
    println!("skipped: c_guest: it is for Linux");
}
