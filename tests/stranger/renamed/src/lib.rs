//! A user who has the crate under another name, and declares that once.
#![no_std]
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unreachable_pub, unused)]

extern crate calls as vmffi;

use vmffi::{ForeignBuf, ForeignStr};

calls::ffi_interface! {
    /// A.
    #[derive(Clone, Debug)]
    pub struct Stat {
        /// A.
        size: u64,
        /// B.
        mode: u32,
        /// C.
        links: u32,
    }
    /// B.
    pub enum Shape: u8 {
        /// A.
        Side(u32),
        /// B.
        Nothing,
    }
    /// C.
    pub interface Files {
        /// A.
        fn read(file: u64, max: u32) -> ForeignBuf;
        /// B.
        fn stat(file: u64) -> calls::Foreign<Stat>;
        /// C.
        #[optional]
        fn shape(shape: Shape, text: ForeignStr);
    }
}

/// Serves itself.
#[derive(Debug)]
pub struct Server;

impl Files for Server {
    fn read(
        &self,
        peer: &vmffi::Peer,
        _: u64,
        max: u32,
    ) -> Result<calls::SharedBuf, calls::CallError> {
        calls::SharedBuf::zeroed(peer, max as usize)
    }
    fn stat(&self, peer: &calls::Peer, file: u64) -> Result<calls::Shared<Stat>, calls::CallError> {
        calls::Shared::new(peer, Stat { size: file, mode: 1, links: 2 })
    }
    fn shape(&self, _: &calls::Peer, _: Shape, _: ForeignStr) -> Result<(), calls::CallError> {
        Ok(())
    }
}

calls::serve!(Server: Files);
