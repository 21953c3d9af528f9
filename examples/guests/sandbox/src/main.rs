//! Inflates gzip files where it can do no harm: all that it has is what its host hands it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use vmffi::{CallError, Failure, ForeignBuf, Peer};

mod gzip;

vmffi::ffi_interface! {
    /// What was in a file.
    pub struct Summary {
        members: u64,
        /// Something follows the last member that is neither a member nor zeros.
        garbage: bool,
    }

    /// What is wrong with a file.
    pub enum GzipError: u32 {
        NotGzip = 1,
        Unsupported = 2,
        BadHeader = 3,
        BadData = 4,
        BadChecksum = 5,
        BadLength = 6,
        Truncated = 7,
    }

    /// What the host offers to its unpacker.
    pub interface Files {
        /// What comes next of the file, up to so many bytes; none are its end.
        fn read(max: u32) -> ForeignBuf;
        /// Takes what has come out.
        fn write(bytes: ForeignBuf);
    }

    /// What the unpacker offers to its host.
    pub interface Unpacker {
        /// Reads the file to its end, and writes what is in it.
        fn unpack() -> Result<Summary, GzipError>;
    }
}

struct Sandbox;

impl Unpacker for Sandbox {
    fn unpack(&self, host: &Peer) -> Result<Summary, Failure<GzipError>> {
        gzip::unpack(&mut FilesClient::from(host))
    }
}

impl gzip::Files for FilesClient<'_> {
    fn read(&mut self, chunk: &mut Vec<u8>) -> Result<(), CallError> {
        FilesClient::read(*self, gzip::CHUNK as u32)?.append_to(chunk)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        FilesClient::write(*self, bytes)
    }
}

vmffi::serve!(Sandbox: Unpacker; calls Files);

vmffi::entry! { server: Sandbox = Sandbox, arena: 1 << 20 }
vmffi::heap!(2 << 20);
vmffi::panic_handler!();
vmffi::memory_functions!();
