//! Checks whether a backend works, by running a guest of one instruction with it.

use std::{sync::Arc, vec::Vec};

use super::{Backend, Image, MachineBuilder, MachineError, MachineVcpu, native};
use crate::{
    abi::PAGE_SIZE,
    host::{Fault, FaultCause, GuestExit, Vcpu},
};

/// An ELF executable for this architecture with one segment at `address`, which is the whole file: both headers, and behind them
/// `code`, whose first byte is the entry point.
pub(super) fn program(address: u64, code: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
    // The ELF header: ELF64, little-endian; ET_EXEC, the machine, entry; one program header, no section headers.
    put(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let [low, high] = native::ELF_MACHINE.to_le_bytes();
    put(&[2, 0, low, high, 1, 0, 0, 0]);
    for word in [address + CODE_AT, 64, 0] {
        put(&word.to_le_bytes());
    }
    put(&[0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // The program header: PT_LOAD, PF_R | PF_X.
    put(&[1, 0, 0, 0, 5, 0, 0, 0]);
    let len = CODE_AT + code.len() as u64;
    for word in [0, address, address, len, len, PAGE_SIZE] {
        put(&word.to_le_bytes());
    }
    put(code);
    file
}

/// The offset of the code: behind both headers.
pub(super) const CODE_AT: u64 = 64 + 56;

/// Builds a machine whose guest is one invalid instruction, runs it, and expects its exception.
pub(super) fn runs(backend: Backend) -> Result<(), MachineError> {
    let other = |what: std::string::String| MachineError::System {
        what: "running a test guest",
        error: std::io::Error::other(what),
    };
    let image = Image::parse(&program(0x40_0000, &native::INVALID_INSTRUCTION));
    let image = image.map_err(|error| other(std::format!("{error}")))?;
    let machine = MachineBuilder::new(&image).arenas(PAGE_SIZE, PAGE_SIZE).stack(PAGE_SIZE);
    #[cfg(feature = "kvm")]
    if backend == Backend::Kvm {
        machine
            .signal
            .check()
            .map_err(MachineError::system("sending the signal that stops vCPUs"))?;
    }
    let made = machine.start(&machine.plan()?, backend)?;
    made.begin_life()?;
    for running in made.vcpus {
        match (MachineVcpu { running, options: Arc::default() }).run(None) {
            Err(GuestExit::Fault(Fault {
                cause: FaultCause::Exception(native::INVALID), ..
            })) => {}
            Err(end) => return Err(other(std::format!("{end}"))),
            Ok(_) => return Err(other("the guest trapped, though it contains no trap".into())),
        }
    }
    Ok(())
}
