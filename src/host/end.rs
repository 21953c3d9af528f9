//! How a guest comes to its end.

use std::{borrow::ToOwned, fmt, string::String, vec::Vec};

use crate::{
    abi::{Transport, exit},
    contract::Mismatch,
    error::Why,
    peer::Core,
};

/// How a guest has come to its end: what [`Host::end`](super::Host::end) says, and what a
/// [`Vcpu`](super::Vcpu) reports. Nothing of it runs any more, and all that was lent to it is the host's again.
///
/// Its `Display` is for people: a line, but for `Unfit`. What the guest has a say in is short and escaped there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// It ended itself.
    Exited {
        /// 0 for a good end; [`exit`] has two others, the rest is the guest's own.
        status: u64,
        /// What it said: the message and the place of a panic, say. From the guest, as it is, up to
        /// [`Limits::text`](super::Limits::text) bytes.
        text: String,
    },
    /// It did what the processor, or its host, does not let it do.
    Fault(Fault),
    /// It was stopped from outside.
    Stopped,
    /// It has taken longer than it may: [`Limits::deadline`](super::Limits::deadline), or
    /// [`Host::within`](super::Host::within).
    Deadline,
    /// It has made more hypercalls than it may: [`Limits::calls`](super::Limits::calls).
    TooManyCalls,
    /// It does not fit its host: this is where the two differ.
    Unfit(Mismatch),
    /// It trapped in a way that means nothing.
    Protocol(Broken),
    /// Whatever runs it failed, with this message.
    Lost(String),
}

/// What is wrong with a trap (ABI, "Traps").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Broken {
    /// A kind that no trap has, or that has no place there: a `RETURN` where no upcall runs, say.
    Order(u64),
    /// An access of another width, direction or address than the agreed one.
    Access {
        /// The port or the address.
        at: u64,
    },
}

/// What a guest did that it may not do, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// What it was.
    pub cause: Cause,
    /// The address that was accessed, for a page fault.
    pub address: Option<u64>,
    /// The instruction that did it.
    pub instruction: u64,
    /// The function that the instruction is in, where the guest's file says so, and how far in. From the
    /// guest's file, as it is.
    pub symbol: Option<(String, u64)>,
}

impl Fault {
    /// A fault of which no more is known.
    #[must_use]
    pub fn new(cause: Cause, instruction: u64) -> Self {
        Self { cause, address: None, instruction, symbol: None }
    }
}

/// Kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// An exception of the processor, by its vector (Intel SDM, volume 3, "Exception and Interrupt
    /// Reference").
    Exception(u8),
    /// A page fault in the page below a stack.
    StackOverflow,
    /// A system call, of this number.
    SystemCall(u64),
    /// A signal that stands for no exception, by its number.
    Signal(i32),
}

impl End {
    /// The reason that calls get which cannot be made any more, or were under way: each end poisons the guest
    /// ([the table](crate::guide::untrusted#what-poisons-a-guest)).
    #[must_use]
    pub fn why(&self) -> Why {
        match self {
            Self::Exited { .. } | Self::Fault(_) | Self::Lost(_) => Why::PeerDied,
            Self::Stopped | Self::Deadline | Self::TooManyCalls => Why::Cancelled,
            Self::Unfit(_) => Why::VersionMismatch,
            Self::Protocol(_) => Why::Protocol,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { status: 0, text } if text.is_empty() => f.write_str("the guest ended"),
            Self::Exited { status, text } => {
                match *status {
                    exit::PANICKED => f.write_str("the guest panicked")?,
                    exit::UNCONNECTED => f.write_str("the guest could not be connected")?,
                    status => write!(f, "the guest ended with status {status}")?,
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
            Self::Deadline => f.write_str("the guest took longer than it may, and was stopped"),
            Self::TooManyCalls => f.write_str("the guest made more calls than it may"),
            Self::Unfit(mismatch) => mismatch.fmt(f),
            Self::Protocol(Broken::Order(kind)) => {
                write!(
                    f,
                    "the guest broke the protocol: a trap of kind {kind:#x} has no place here"
                )
            }
            Self::Protocol(Broken::Access { at }) => {
                write!(f, "the guest broke the protocol: an access to {at:#x} is no trap")
            }
            Self::Lost(message) => write!(f, "the guest was lost: {message}"),
        }
    }
}

impl std::error::Error for End {}

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

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::StackOverflow => "stack overflow",
            Self::SystemCall(number) => return write!(f, "system call {number}"),
            Self::Signal(number) => return write!(f, "signal {number}"),
            Self::Exception(vector) => match vector {
                0 => "division error",
                1 => "debug exception",
                3 => "breakpoint",
                6 => "invalid instruction",
                8 => "double fault",
                12 => "stack fault",
                13 => "general protection fault",
                14 => "page fault",
                16 => "x87 floating-point error",
                17 => "unaligned access",
                19 => "SIMD floating-point error",
                vector => return write!(f, "exception {vector}"),
            },
        };
        f.write_str(name)
    }
}

/// A guest's text for a terminal: nothing in it is obeyed, nothing hidden, and it is one line.
pub(crate) struct Escaped<'t>(pub(crate) &'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.0.chars().try_for_each(|char| match char {
            '"' | '\'' | '\\' => f.write_char(char),
            char => write!(f, "{}", char.escape_debug()),
        })
    }
}

impl Core {
    /// Copies a text that the guest has in its arena, as much as is looked at; what is none, or finds no memory, is empty.
    pub(super) fn bytes_of(&self, text: Transport) -> Vec<u8> {
        let len = text.secondary.min(self.text.into());
        let Ok(at) = self.memory.check(self.side, text.primary, len, 1) else {
            return Vec::new();
        };
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(len as usize).is_err() {
            return bytes;
        }
        bytes.resize(len as usize, 0);
        // SAFETY: the range was checked.
        unsafe { self.memory.copy_out(at, bytes.as_mut_ptr(), bytes.len()) };
        bytes
    }

    /// What the guest says at its end.
    pub(super) fn last_text(&self, text: Transport) -> String {
        if text.secondary == 0 {
            return String::new();
        }
        String::from_utf8_lossy(&self.bytes_of(text)).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    /// One of each.
    fn all() -> Vec<(&'static str, End)> {
        let mut all = std::vec![("Exited", End::Exited { status: 0, text: String::new() })];
        loop {
            let next = match &all[all.len() - 1].1 {
                End::Exited { .. } => ("Fault", End::Fault(Fault::new(Cause::StackOverflow, 0))),
                End::Fault(_) => ("Lost", End::Lost(String::new())),
                End::Lost(_) => ("Stopped", End::Stopped),
                End::Stopped => ("Deadline", End::Deadline),
                End::Deadline => ("TooManyCalls", End::TooManyCalls),
                End::TooManyCalls => ("Protocol", End::Protocol(Broken::Order(0))),
                End::Protocol(_) => {
                    let Err(mismatch) = crate::contract::compare(&[1], &[0, 0]) else { break };
                    ("Unfit", End::Unfit(mismatch))
                }
                End::Unfit(_) => break,
            };
            all.push(next);
        }
        all
    }

    /// The guide's table has them all, with the reasons that calls get.
    #[test]
    fn every_end_is_in_the_table() {
        let guide = include_str!("../../docs/guide/untrusted.md");
        let table = guide.split("## What poisons a guest").nth(1).unwrap();
        let table = table.split("\n## ").next().unwrap();
        let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows.len(), all().len());
        for (name, end) in all() {
            let row = rows.iter().find(|row| row.starts_with(&format!("| `{name}` |"))).unwrap();
            assert!(row.ends_with(&format!("| [`Why::{:?}`] |", end.why())), "{row}");
        }
    }
}
