//! What the guests and the hosts of all architectures have in common: their interfaces, and what they check.
//!
//! [`guest`] is a guest's program after its entry point, and [`host`] what a host does once its processor is set up. Neither
//! knows how the one gets to the other.
#![no_std]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use vmffi::{ForeignBuf, ForeignList, ForeignStr, RegionLayout};

pub mod conformance;
pub mod guest;
pub mod host;

/// The region of each guest: 256 KiB for either arena, and less than 1 MiB in all.
pub const LAYOUT: RegionLayout = match RegionLayout::new(256 << 10, 256 << 10) {
    Ok(layout) => layout,
    Err(_) => panic!("the sizes are valid"),
};

/// The number of granules in an arena of [`LAYOUT`].
pub const GRANULES: usize = LAYOUT.granules(vmffi::abi::Side::Guest);

/// What a guest does, in the low byte of its first argument.
pub mod mode {
    /// Makes and serves calls of all kinds.
    pub const CALLS: u64 = 0;
    /// Sends what no honest guest sends.
    pub const HOSTILE: u64 = 1;
    /// Has another declaration than its host.
    pub const UNFIT: u64 = 2;
    /// Serves [`Service`](crate::Service) to its host, and so to the other guest.
    pub const SERVICE: u64 = 3;
    /// Reads its host's memory, at the address in the other bytes of its first argument.
    pub const READS_HOST: u64 = 4;
    /// Writes to its host's arena.
    pub const WRITES_ARENA: u64 = 5;
    /// Panics.
    pub const PANICS: u64 = 6;
    /// Returns from an upcall that nobody has made.
    pub const RETURNS: u64 = 7;
    /// Counts the instructions of calls and of bare traps.
    pub const COUNTS: u64 = 8;
}

vmffi::ffi_interface! {
    /// A file, as its host describes it.
    pub struct Stat { size: u64, mode: u32, links: u32 }

    /// A name and a number.
    pub struct Entry<'a> { name: &'a str, value: u64 }

    pub enum OpenError: u32 { NotFound = 1, Denied = 2 }

    /// What the host serves.
    pub interface Board {
        /// Twice the value.
        fn double(value: u64) -> u64;
        fn add(a: u64, b: u32, c: u8) -> u64;
        /// The sum of all bytes.
        fn checksum(data: ForeignBuf) -> u64;
        /// As many bytes of one value.
        fn fill(len: u32, byte: u8) -> ForeignBuf;
        /// The same text.
        fn echo(text: ForeignStr) -> ForeignStr;
        /// The file `motd` has the number 3, and `secret` is not for guests.
        fn open(path: ForeignStr) -> Result<u64, OpenError>;
        fn stat(file: u64) -> Stat;
        /// The sum of all values whose names are not empty.
        fn total(entries: ForeignList<Entry>) -> u64;
        /// Calls [`Program::nest`] with one less, and returns one more than that; 0 for 0.
        fn nest(depth: u32) -> u32;
        /// Keeps the bytes after the call.
        fn keep(data: ForeignBuf);
        /// Twice the value, from the other guest's [`Service`], which the host calls through its declaration.
        fn relay(value: u64) -> u64;
        /// Makes a call of the other guest by its signature, with one scalar, whatever it is.
        fn pass(signature: u64, value: u64) -> u64;
        /// The result of one of the guest's checks.
        fn report(check: ForeignStr, passed: bool);
        /// The time of some bare traps, and that of as many calls of `double`.
        fn counted(bare: u64, calls: u64);
    }

    /// What a guest serves.
    pub interface Program {
        fn triple(value: u64) -> u64;
        fn checksum(data: ForeignBuf) -> u64;
        fn fill(len: u32, byte: u8) -> ForeignBuf;
        /// Calls [`Board::nest`] with one less, and returns one more than that; 0 for 0.
        fn nest(depth: u32) -> u32;
        fn total(entries: ForeignList<Entry>) -> u64;
    }

    /// What one guest serves to another, through their host.
    pub interface Service {
        fn twice(value: u64) -> u64;
    }
}
