//! What an architecture checks of its own: that its host answers as the calling conventions of hypervisors say, and that nothing
//! but the guest's own memory is within its reach.
//!
//! The guest reports each check by a trap of its own, to a host that does nothing but print: it serves the words of the traps
//! without [`StaticHost`](vmffi::host::StaticHost).

use core::fmt;

use vmffi::{
    abi::{Registers, Transport, answer, trap},
    arch::Trap,
    host::{GuestExit, GuestMemory, ProtocolViolation, Vcpu},
};

/// More modes of guests.
pub mod mode {
    /// Checks what its host answers.
    pub const CONFORMS: u64 = 0x80;
    /// Changes all registers that guests must not share, and traps, again and again.
    pub const DISTURBS: u64 = 0x81;
    /// Reads eight bytes at the address in the other bytes of its first argument.
    pub const READS: u64 = 0x82;
    /// Writes eight bytes there.
    pub const WRITES: u64 = 0x83;
    /// Executes what is there.
    pub const EXECUTES: u64 = 0x84;
    /// Traps with a frame there, where an architecture has frames.
    pub const FRAME: u64 = 0x85;
}

/// The word of a trap for which the host runs the other guest, before it answers.
pub const OTHER_GUEST: u64 = 2;

/// Tells the host the result of a check.
pub fn report(trap: &impl Trap, check: &str, passed: bool) {
    let (primary, secondary) = (check.as_ptr().expose_provenance() as u64, check.len() as u64);
    let transport = Transport { primary, secondary };
    let _ = trap.trap(Registers { kind: trap::CALL, word: passed.into(), transport });
}

/// Does what the mode says, if it is one of those that try what is out of the guest's reach. If nothing ends the guest, it
/// exits.
///
/// # Safety
///
/// The address in the mode is not memory of this guest's, or there is code that may be executed.
pub unsafe fn reach(mode: u64, trap: &impl Trap) {
    let address = (mode >> 8) as usize;
    let at = core::ptr::with_exposed_provenance_mut::<u64>(address);
    match mode & 0xff {
        mode::READS => {
            // SAFETY: the caller promises that no Rust object is there.
            let _ = unsafe { at.read_volatile() };
        }
        // SAFETY: the caller promises that no Rust object is there.
        mode::WRITES => unsafe { at.write_volatile(1) },
        mode::EXECUTES => {
            // SAFETY: an address is a function pointer on all of these architectures.
            let code = unsafe { core::mem::transmute::<usize, extern "C" fn()>(address) };
            code();
        }
        _ => return,
    }
    crate::guest::exit(trap, 0);
}

/// Runs a guest that checks its host, and prints a line for each check. `memory` is that of the guest. `other` loads another
/// guest, in place of the one that it has loaded before. `expected` is the number of checks. Returns how many have failed, or
/// are missing.
pub fn answers<V: Vcpu>(
    print: fn(fmt::Arguments<'_>),
    mut guest: V,
    mut other: impl FnMut() -> V,
    memory: &impl GuestMemory,
    expected: u32,
) -> u32 {
    let answered = Registers { kind: answer::ANSWER, word: 0, transport: Transport::EMPTY };
    let (mut passed, mut answer) = (0, None);
    loop {
        match guest.run(answer) {
            Ok(Registers { kind: trap::CALL, word: OTHER_GUEST, .. }) => {
                // It is loaded, and runs twice, while what the first one has in the processor must be kept.
                let mut other = other();
                let ran = other.run(None).and_then(|_| other.run(Some(answered)));
                if !matches!(ran, Ok(Registers { kind: trap::CALL, .. })) {
                    print(format_args!("the other guest ends: {ran:?}"));
                }
            }
            Ok(Registers {
                kind: trap::CALL,
                word,
                transport: Transport { primary, secondary },
            }) => {
                let mut text = [0; 100];
                let len = text.len().min(secondary as usize);
                let read = memory.read(primary, &mut text[..len]);
                let name = core::str::from_utf8(&text[..len]).unwrap_or("a text");
                print(format_args!("{name} ... {}", if word == 1 { "ok" } else { "FAILED" }));
                passed += u32::from(word == 1 && read.is_ok());
            }
            Ok(Registers { kind: trap::EXIT, word: 0, .. }) => return expected.abs_diff(passed),
            ran => {
                print(format_args!("the guest ends: {ran:?}"));
                return expected.abs_diff(passed).max(1);
            }
        }
        answer = Some(answered);
    }
}

/// Runs a guest that tries what is out of its reach, and prints a line. Returns 1 unless that ends it: with a fault, or, if it
/// has a bad frame, as one that has violated the protocol.
pub fn ends(print: fn(fmt::Arguments<'_>), name: &str, mut guest: impl Vcpu) -> u32 {
    let ran = guest.run(None);
    let passed = matches!(
        ran,
        Err(GuestExit::Fault(_) | GuestExit::Protocol(ProtocolViolation::Access { .. }))
    );
    match ran {
        Err(exit) if passed => print(format_args!("{name} ... ok: {exit}")),
        ran => print(format_args!("{name} ... FAILED: {ran:?}")),
    }
    u32::from(!passed)
}
