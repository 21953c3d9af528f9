//! The host's end of a connection: runs a vCPU from trap to trap, serves its hypercalls, and makes
//! upcalls into it.
//!
//! A virtual machine monitor or a hypervisor brings a [`Vcpu`] and the memory of the region. With an operating system below
//! it, a `Host` does the rest, with threads and deadlines ([guide](crate::guide::host)); a [`StaticHost`] needs neither an
//! operating system nor a heap ([guide](crate::guide::hypervisor)). Both apply the same rules to their guests.

#[cfg(feature = "std")]
mod builder;
mod cpu;
#[cfg(feature = "std")]
mod cpu_clock;
#[cfg(feature = "std")]
mod deadline;
mod freestanding;
mod guest_memory;
#[cfg(feature = "std")]
mod hosted;
mod limits;
mod outcome;
#[cfg(feature = "std")]
mod pool;
pub mod registers;
mod rules;
#[cfg(feature = "std")]
mod stopper;
mod vcpu;

#[cfg(feature = "std")]
pub(crate) use deadline::DeadlineThread;
#[cfg(feature = "machine")]
pub(crate) use deadline::{Expire, Key as DeadlineKey};
pub use {
    crate::exit::{Fault, FaultCause, GuestExit, ProtocolViolation},
    freestanding::{HostStorage, LogLine, Served, StaticHost, StaticHostBuilder},
    guest_memory::{GuestMemory, Piece},
    limits::Limits,
    outcome::{ResetError, RunOutcome},
    registers::SavedRegisters,
    vcpu::Vcpu,
};
#[cfg(feature = "std")]
pub use {
    builder::HostBuilder,
    cpu_clock::CpuClock,
    hosted::{Host, WithDeadline},
    outcome::CheckpointError,
    stopper::Stopper,
};

#[cfg(feature = "machine")]
pub(crate) use pool::HostCheckpoint;
