//! How a guest exits.

use core::fmt;

use crate::{
    abi::exit,
    arch::exception,
    contract::{Escaped, Mismatch},
    error::{ErrorKind, ErrorText, debug_by_display},
};

/// How a guest exited, as [`Host::guest_exit`](crate::host::Host::guest_exit) returns it and a
/// [`Vcpu`](crate::host::Vcpu) reports it. No vCPU of the guest runs any more, and all loans to it have ended.
///
/// `Display` is for diagnostics: one line, except for `Unfit`. Texts from the guest are bounded and escaped there.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuestExit {
    /// The guest exited by itself.
    Exited {
        /// The exit status: 0 for success. [`exit`] defines two others; the guest defines the rest.
        status: u64,
        /// The text that the guest sent, such as the message and the location of a panic: not escaped, and truncated to
        /// [`Limits::text`](crate::host::Limits::text) bytes.
        text: ErrorText,
    },
    /// The guest did something that the processor or the host does not permit.
    Fault(Fault),
    /// The host stopped the guest.
    Stopped,
    /// The guest exceeded its deadline, which [`Limits::deadline`](crate::host::Limits::deadline) or
    /// [`Host::with_deadline`](crate::host::Host::with_deadline) sets, or that of a whole lease, which
    /// `PoolBuilder::lease_time` sets.
    Deadline,
    /// The guest used more processor time in one call than [`Limits::cpu_time`](crate::host::Limits::cpu_time) permits.
    CpuTime,
    /// The guest exceeded its number of hypercalls, [`Limits::calls`](crate::host::Limits::calls).
    TooManyCalls,
    /// The contracts of the guest and the host do not match.
    Unfit(Mismatch),
    /// The guest violated the protocol of traps.
    Protocol(ProtocolViolation),
    /// The backend that runs the guest failed with this message.
    Lost(ErrorText),
}

/// A trap that violates the protocol (ABI, "Traps").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolViolation {
    /// A trap of this kind, which is unknown or unexpected, such as a `RETURN` while no upcall runs.
    Order(u64),
    /// An access to an I/O port or to unmapped memory with another width, direction or address than the trap's.
    Access {
        /// The port, or the address as the guest sees it.
        at: u64,
    },
}

/// A fault of the guest, and where it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The cause.
    pub cause: FaultCause,
    /// The address of the access, for a page fault.
    pub address: Option<u64>,
    /// The address of the instruction that caused it.
    pub instruction: u64,
    /// The function that contains the instruction, and the instruction's offset in it in bytes, if the guest's file has
    /// a symbol for it. The name is not escaped.
    pub symbol: Option<(ErrorText, u64)>,
}

impl Fault {
    /// A fault without an address of an access and without a symbol.
    #[must_use]
    pub fn new(cause: FaultCause, instruction: u64) -> Self {
        Self { cause, address: None, instruction, symbol: None }
    }
}

/// Kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultCause {
    /// The processor exception with this number. On x86_64 it is the vector (Intel SDM, volume 3, "Exception and Interrupt
    /// Reference"), on aarch64 the exception class (Arm ARM, `ESR_ELx.EC`), on riscv64 the cause (RISC-V Privileged
    /// Architecture, `scause`).
    Exception(u8),
    /// A page fault in the unmapped 1 MiB below a stack.
    StackOverflow,
    /// The system call with this number.
    SystemCall(u64),
    /// The signal with this number, which no processor exception caused.
    Signal(i32),
}

impl GuestExit {
    /// The error kind of calls that were in progress when the guest exited, and of later ones: every exit poisons the
    /// guest ([the table](crate::guide::untrusted#what-poisons-a-guest)).
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exited { .. } | Self::Fault(_) | Self::Lost(_) => ErrorKind::PeerDied,
            Self::Stopped | Self::Deadline | Self::CpuTime | Self::TooManyCalls => {
                ErrorKind::Cancelled
            }
            Self::Unfit(_) => ErrorKind::VersionMismatch,
            Self::Protocol(_) => ErrorKind::Protocol,
        }
    }
}

debug_by_display!(GuestExit);

impl fmt::Display for GuestExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { status: 0, text } if text.is_empty() => f.write_str("the guest exited"),
            Self::Exited { status, text } => {
                match *status {
                    exit::PANICKED => f.write_str("the guest panicked")?,
                    exit::UNCONNECTED => f.write_str("the guest could not connect")?,
                    status => write!(f, "the guest exited with status {status}")?,
                }
                match text.as_str() {
                    "" => Ok(()),
                    // "The guest panicked at src/main.rs:20:9: a message".
                    text if text.starts_with("at ") => write!(f, " {}", Escaped(text)),
                    text => write!(f, ": {}", Escaped(text)),
                }
            }
            Self::Fault(fault) => write!(f, "the guest crashed: {fault}"),
            Self::Stopped => f.write_str("the guest was stopped"),
            Self::Deadline => f.write_str("the guest exceeded its deadline and was stopped"),
            Self::CpuTime => f.write_str(
                "the guest exceeded its processor time and was stopped: if its calls need more, raise `Limits::cpu_time`",
            ),
            Self::TooManyCalls => f.write_str("the guest exceeded its number of hypercalls"),
            Self::Unfit(mismatch) => mismatch.fmt(f),
            Self::Protocol(ProtocolViolation::Order(kind)) => {
                write!(f, "the guest violated the protocol: unexpected trap of kind {kind:#x}")
            }
            Self::Protocol(ProtocolViolation::Access { at }) => {
                write!(f, "the guest violated the protocol: invalid access to {at:#x}")
            }
            Self::Lost(message) => write!(f, "the guest could not be run: {message}"),
        }
    }
}

impl core::error::Error for GuestExit {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if let Some(address) = self.address {
            write!(f, " at address {address:#x}")?;
        }
        write!(f, ", by the instruction at {:#x}", self.instruction)?;
        match &self.symbol {
            Some((name, offset)) => write!(f, " (`{}` + {offset:#x})", Escaped(name)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for FaultCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::StackOverflow => "stack overflow",
            Self::SystemCall(number) => return write!(f, "system call {number}"),
            Self::Signal(number) => return write!(f, "signal {number}"),
            Self::Exception(vector) => match exception(*vector) {
                Some(name) => name,
                None => return write!(f, "exception {vector}"),
            },
        };
        f.write_str(name)
    }
}

#[cfg(feature = "std")]
impl crate::error::CallError {
    /// The exit of the guest that failed a call of the host to its guest; else `None`. It is also the error's
    /// [`source`](core::error::Error::source) and part of its text.
    #[must_use]
    pub fn guest_exit(&self) -> Option<&GuestExit> {
        self.cause()?.downcast_ref()
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use std::{format, vec::Vec};

    /// One exit of each variant.
    fn all() -> Vec<(&'static str, GuestExit)> {
        let mut all =
            std::vec![("Exited", GuestExit::Exited { status: 0, text: ErrorText::default() })];
        loop {
            let next = match &all[all.len() - 1].1 {
                GuestExit::Exited { .. } => {
                    ("Fault", GuestExit::Fault(Fault::new(FaultCause::StackOverflow, 0)))
                }
                GuestExit::Fault(_) => ("Lost", GuestExit::Lost(ErrorText::default())),
                GuestExit::Lost(_) => ("Stopped", GuestExit::Stopped),
                GuestExit::Stopped => ("Deadline", GuestExit::Deadline),
                GuestExit::Deadline => ("CpuTime", GuestExit::CpuTime),
                GuestExit::CpuTime => ("TooManyCalls", GuestExit::TooManyCalls),
                GuestExit::TooManyCalls => {
                    ("Protocol", GuestExit::Protocol(ProtocolViolation::Order(0)))
                }
                GuestExit::Protocol(_) => {
                    let Err(mismatch) = crate::contract::compare(&[1], &[0, 0]) else { break };
                    ("Unfit", GuestExit::Unfit(mismatch))
                }
                GuestExit::Unfit(_) => break,
            };
            all.push(next);
        }
        all
    }

    /// The guide's table lists every variant with its error kind.
    #[test]
    fn every_exit_is_in_the_table() {
        let guide = include_str!("../docs/guide/untrusted.md");
        let table = guide.split("## What poisons a guest").nth(1).unwrap();
        let table = table.split("\n## ").next().unwrap();
        let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows.len(), all().len());
        for (name, exit) in all() {
            let row = rows.iter().find(|row| row.starts_with(&format!("| `{name}` |"))).unwrap();
            assert!(row.ends_with(&format!("| [`ErrorKind::{:?}`] |", exit.kind())), "{row}");
        }
    }
}
