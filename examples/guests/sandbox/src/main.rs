//! Inflates gzip files in a guest, which has nothing but what its host passes to it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use vmffi::{CallError, Failure, ForeignBuf, Peer};

mod gzip;

vmffi::ffi_interface! {
    /// The result of unpacking a file.
    pub struct Summary {
        members: u64,
        /// Something follows the last member that is neither a member nor zeros.
        garbage: bool,
    }

    /// Why a file cannot be unpacked.
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
        /// The next bytes of the file, at most `limit`; none at its end.
        fn read(max: u32) -> ForeignBuf;
        /// Takes the next bytes of the content.
        fn write(bytes: ForeignBuf);
    }

    /// What the unpacker offers to its host.
    pub interface Unpacker {
        /// Reads the file to its end, and writes its content.
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
