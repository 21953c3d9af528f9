//! A vCPU of a machine, whichever backend runs it.

#![cfg_attr(
    not(any(feature = "kvm", feature = "process")),
    expect(unused_variables, reason = "without a backend, there is no vCPU")
)]

#[cfg(any(feature = "kvm", feature = "process"))]
use std::boxed::Box;
use std::{
    fmt, io,
    sync::{Arc, atomic::AtomicBool},
};

#[cfg(feature = "kvm")]
use super::kvm::KvmVcpu;
use super::made::HostOptions;
#[cfg(feature = "process")]
use super::process::ProcessVcpu;
use crate::{
    abi::Registers,
    host::{CpuClock, GuestExit, Stopper, Vcpu},
};

/// A vCPU of a [`Machine`](super::Machine).
pub struct MachineVcpu {
    pub(super) running: BackendVcpu,
    /// Those of the machine's builder, for snapshots.
    pub(super) options: Arc<HostOptions>,
}

/// What runs the vCPU.
pub(super) enum BackendVcpu {
    #[cfg(feature = "kvm")]
    Kvm(Box<KvmVcpu>),
    #[cfg(feature = "process")]
    Process(Box<ProcessVcpu>),
}

impl fmt::Debug for MachineVcpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineVcpu").finish_non_exhaustive()
    }
}

impl BackendVcpu {
    #[cfg(feature = "kvm")]
    pub(super) fn kvm(vcpu: KvmVcpu) -> Self {
        Self::Kvm(Box::new(vcpu))
    }

    #[cfg(feature = "process")]
    pub(super) fn process(vcpu: ProcessVcpu) -> Self {
        Self::Process(Box::new(vcpu))
    }
}

/// Calls a method of the vCPU.
macro_rules! on {
    ($running:expr, $vcpu:ident => $call:expr) => {
        match &mut $running {
            #[cfg(feature = "kvm")]
            BackendVcpu::Kvm($vcpu) => $call,
            #[cfg(feature = "process")]
            BackendVcpu::Process($vcpu) => $call,
            #[cfg(not(any(feature = "kvm", feature = "process")))]
            _ => unreachable!("there is no backend"),
        }
    };
}

impl Vcpu for MachineVcpu {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        on!(self.running, vcpu => vcpu.run(answer))
    }

    fn stopper(&self) -> Stopper {
        match &self.running {
            #[cfg(feature = "kvm")]
            BackendVcpu::Kvm(vcpu) => vcpu.stopper(),
            #[cfg(feature = "process")]
            BackendVcpu::Process(vcpu) => vcpu.stopper(),
            #[cfg(not(any(feature = "kvm", feature = "process")))]
            _ => unreachable!("there is no backend"),
        }
    }

    fn cpu_clock(&self) -> Option<CpuClock> {
        match &self.running {
            #[cfg(feature = "kvm")]
            BackendVcpu::Kvm(vcpu) => vcpu.cpu_clock(),
            #[cfg(feature = "process")]
            BackendVcpu::Process(vcpu) => vcpu.cpu_clock(),
            #[cfg(not(any(feature = "kvm", feature = "process")))]
            _ => unreachable!("there is no backend"),
        }
    }

    fn settle(&mut self) -> io::Result<()> {
        on!(self.running, vcpu => vcpu.settle())
    }

    fn snapshot(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        on!(self.running, vcpu => vcpu.snapshot(cancelled))
    }

    fn restore(&mut self) -> io::Result<()> {
        on!(self.running, vcpu => vcpu.restore())
    }
}
