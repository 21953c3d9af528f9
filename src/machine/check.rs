//! Whether a backend can be used: by using it.

use std::{sync::Arc, vec::Vec};

use super::{Backend, Image, Machine, MachineError};
use crate::{
    host::{Cause, End, Fault},
    memory::PAGE,
};

/// An ELF file with one segment, of which the last bytes are code, where it begins.
pub(super) fn program(address: u64, code: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
    // The header: ELF64, little-endian; ET_EXEC, EM_X86_64, entry, one program header, none of sections.
    put(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    put(&[2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [address + CODE_AT, 64, 0] {
        put(&word.to_le_bytes());
    }
    put(&[0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // The segment: PT_LOAD, to be read and executed.
    put(&[1, 0, 0, 0, 5, 0, 0, 0]);
    let len = CODE_AT + code.len() as u64;
    for word in [0, address, address, len, len, PAGE] {
        put(&word.to_le_bytes());
    }
    put(code);
    file
}

/// Where its code is: behind both headers.
pub(super) const CODE_AT: u64 = 64 + 56;

/// Makes a machine as any other is made, and has it run a guest that is one invalid instruction, which it must report.
pub(super) fn runs(backend: Backend) -> Result<(), MachineError> {
    let other = |what: std::string::String| MachineError::System {
        what: "a guest for a trial",
        error: std::io::Error::other(what),
    };
    // `ud2`
    let image = Image::parse(&program(0x40_0000, &[0x0f, 0x0b]));
    let image = image.map_err(|error| other(std::format!("{error}")))?;
    let machine = Machine::new(&image).arenas(PAGE, PAGE).stack(PAGE);
    #[cfg(feature = "kvm")]
    if backend == Backend::Kvm {
        machine.signal.check().map_err(MachineError::system("the signal that stops vCPUs"))?;
    }
    let loaded = Arc::new(machine.load()?);
    for mut vcpu in machine.start(&loaded, backend)? {
        match vcpu.run(None) {
            Err(End::Fault(Fault { cause: Cause::Exception(6), .. })) => {}
            Err(end) => return Err(other(std::format!("{end}"))),
            Ok(_) => return Err(other("it trapped without a trap".into())),
        }
    }
    Ok(())
}
