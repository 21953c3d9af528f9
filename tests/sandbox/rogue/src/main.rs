//! A guest that a file has taken over, as the sandbox must assume: the file says what it does.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{vec, vec::Vec};
use core::hint::black_box;
use vmffi::{Failure, ForeignBuf, Peer};

vmffi::ffi_interface! {
    pub struct Summary { members: u64, garbage: bool }

    pub enum GzipError: u32 {
        NotGzip = 1,
        Unsupported = 2,
        BadHeader = 3,
        BadData = 4,
        BadChecksum = 5,
        BadLength = 6,
        Truncated = 7,
    }

    pub interface Files {
        fn read(max: u32) -> ForeignBuf;
        fn write(bytes: ForeignBuf);
    }

    pub interface Unpacker {
        fn unpack() -> Result<Summary, GzipError>;
    }
}

struct Rogue;

impl Unpacker for Rogue {
    fn unpack(&self, host: &Peer) -> Result<Summary, Failure<GzipError>> {
        let files = FilesClient::from(host);
        match files.read(100)?.read_vec()?.as_slice() {
            b"panics" => panic!("there is \x1b[31mred\x1b[0m in it"),
            b"writes to nowhere" => {
                let nowhere = black_box(core::ptr::without_provenance_mut::<u64>(0x1000));
                // SAFETY: none: the store faults, which ends the guest.
                unsafe { nowhere.write_volatile(1) }
            }
            b"recurses" => {
                black_box(deeper(u64::MAX));
            }
            b"loops" => loop {
                core::hint::spin_loop();
            },
            b"reads nothing for ever" => loop {
                files.read(0)?;
            },
            b"goes on after an error" => loop {
                let _ = files.write(&[0; 10_000]);
            },
            b"eats its heap" => {
                let mut eaten = Vec::new();
                loop {
                    eaten.push(vec![1_u8; 1 << 16]);
                }
            }
            b"keeps what it is lent" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(files.read(u32::MAX)?);
                }
            }
            b"writes too much at once" => files.write(&vec![0; (256 << 10) + 1])?,
            b"writes more than there can be" => loop {
                files.write(&vec![0; 10_000])?;
            },
            _ => {}
        }
        Ok(Summary { members: u64::MAX, garbage: false })
    }
}

#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == 0 { 0 } else { deeper(depth - 1) + frame[1] }
}

vmffi::serve!(Rogue: Unpacker; calls Files);

vmffi::entry! { server: Rogue = Rogue, arena: 1 << 20 }
vmffi::heap!(1 << 20);
vmffi::panic_handler!();
vmffi::memory_functions!();
