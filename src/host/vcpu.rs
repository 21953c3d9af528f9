//! The interface between a host and a virtual machine monitor.

#[cfg(feature = "std")]
use std::{boxed::Box, io};

use super::GuestExit;
#[cfg(feature = "std")]
use super::{CpuClock, Stopper};
use crate::abi::Registers;
#[cfg(feature = "std")]
use crate::memory::sync::AtomicBool;

/// A virtual processor: the interface that a virtual machine monitor implements for a [`Host`](super::Host).
///
/// Only [`run`](Self::run) is required. A guest can be stopped while it runs if [`stopper`](Self::stopper) is
/// implemented, and reset if [`snapshot`](Self::snapshot) and [`restore`](Self::restore) are.
///
/// The host runs a vCPU on one thread at a time, and on any thread. If a method panics, the guest exits with
/// [`GuestExit::Lost`].
pub trait Vcpu: Send {
    /// Completes the pending trap with `answer`, runs the guest, and returns its next trap: the registers of the ABI's
    /// table (ABI, "Traps"). With `None`, which only the first call passes, it starts the guest.
    ///
    /// # Errors
    ///
    /// How the guest exited: it crashed, made an invalid access, or was stopped. The host runs none of its vCPUs after
    /// that, until it is reset.
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit>;

    /// Returns a stopper of this vCPU, which any thread may use. A `run` in progress then fails with
    /// [`GuestExit::Stopped`], and a stop between two runs makes the next one fail. With the default, which does
    /// nothing, a stopped guest runs to its next trap.
    ///
    /// The host calls the stopper with a lock held: it must not wait for the vCPU, and not call the host.
    #[cfg(feature = "std")]
    fn stopper(&self) -> Stopper {
        Stopper::new(|| ())
    }

    /// Returns a clock of the processor time that the guest uses on this vCPU: the time in which a processor executes
    /// the guest's code, or works for it in the kernel or the virtual machine monitor, during a [`run`](Self::run).
    /// Time outside of `run` does not count, nor does time in which the vCPU waits for a processor. `None`, the
    /// default, if it cannot be measured: with [`Limits::cpu_time`](super::Limits::cpu_time) such a guest exits with
    /// [`GuestExit::Lost`] when it is started.
    ///
    /// The host asks for it once, when it is built with that limit, and reads the clock with no lock held.
    #[cfg(feature = "std")]
    fn cpu_clock(&self) -> Option<CpuClock> {
        None
    }

    /// Completes operations of the guest that are pending from the last exit, such as the memory write of an emulated
    /// instruction, without running guest code. The host calls it on all vCPUs before it calls
    /// [`snapshot`](Self::snapshot) or [`restore`](Self::restore) on any. The default does nothing.
    ///
    /// # Errors
    ///
    /// Why it failed. Then the snapshot or reset fails.
    #[cfg(feature = "std")]
    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Saves the state that [`restore`](Self::restore) restores: all registers of this vCPU, and, on the first of the guest's
    /// vCPUs, all memory that the guest can write. The host's arena is not part of it. The host calls it for each checkpoint, on
    /// one vCPU after the other, and on the first one last, when each has a `READY` or the `RETURN` of its last upcall pending.
    /// `cancelled` becomes true if the guest is stopped or its deadline passes: then it should return soon, with
    /// [`Interrupted`](io::ErrorKind::Interrupted).
    ///
    /// Until the first vCPU has saved its state, all of them restore what they had saved before.
    ///
    /// # Errors
    ///
    /// Why it failed: what was saved before remains. If nothing was, [`Host::reset`](super::Host::reset) fails with that
    /// message. The default returns [`Unsupported`](io::ErrorKind::Unsupported).
    #[cfg(feature = "std")]
    fn snapshot(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        let _ = cancelled;
        Err(io::Error::new(io::ErrorKind::Unsupported, "this kind of vCPU has no snapshots"))
    }

    /// Restores the saved state, also after the guest has exited or was stopped. The trap that was pending then is pending
    /// again, and the vCPU can run. No vCPU of the guest runs meanwhile.
    ///
    /// # Errors
    ///
    /// Why it failed. Then the guest exits with [`GuestExit::Lost`]. The default returns
    /// [`Unsupported`](io::ErrorKind::Unsupported).
    #[cfg(feature = "std")]
    fn restore(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(feature = "std")]
impl<V: Vcpu + ?Sized> Vcpu for Box<V> {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        (**self).run(answer)
    }

    fn stopper(&self) -> Stopper {
        (**self).stopper()
    }

    fn cpu_clock(&self) -> Option<CpuClock> {
        (**self).cpu_clock()
    }

    fn settle(&mut self) -> io::Result<()> {
        (**self).settle()
    }

    fn snapshot(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        (**self).snapshot(cancelled)
    }

    fn restore(&mut self) -> io::Result<()> {
        (**self).restore()
    }
}
