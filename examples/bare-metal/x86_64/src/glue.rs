//! All that connects `vmffi` to this hypervisor.

use vmffi::abi::Registers;

use crate::stand_in::{Fault, FaultCause, GuestExit, ProtocolViolation, Vcpu};
use crate::svm::{Exit, Machine};

/// The instruction by which a guest traps; the two have agreed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `vmmcall`.
    Vmmcall,
    /// `out dx, eax`, to this port.
    Out(u16),
}

/// A virtual processor.
#[derive(Debug)]
pub struct SvmVcpu {
    pub machine: Machine,
    pub method: Method,
}

impl SvmVcpu {
    /// A fault: the vector of an exception, and the address of an access if it is a page fault.
    fn fault(&self, vector: u8, address: Option<u64>) -> GuestExit {
        let mut fault = Fault::new(FaultCause::Exception(vector), self.machine.instruction());
        fault.address = address;
        GuestExit::Fault(fault)
    }
}

impl Vcpu for SvmVcpu {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        const DOUBLE_FAULT: u8 = 8;
        const GENERAL_PROTECTION: u8 = 13;
        const PAGE_FAULT: u8 = 14;
        if let Some(answer) = answer {
            self.machine.registers.complete(answer);
        }
        let exit = self.machine.enter().ok_or(GuestExit::Lost("another guest is in its slot"))?;
        match (exit, self.method) {
            (Exit::Vmmcall, Method::Vmmcall) => Ok(self.machine.registers.words()),
            (Exit::Port { port, is_out_dword: true }, Method::Out(trap)) if port == trap => {
                Ok(self.machine.registers.words())
            }
            (Exit::Port { port, .. }, _) => {
                Err(GuestExit::Protocol(ProtocolViolation::Access { at: port.into() }))
            }
            (Exit::NestedPageFault { address }, _) => Err(self.fault(PAGE_FAULT, Some(address))),
            (Exit::Exception(vector), _) => Err(self.fault(vector, None)),
            (Exit::Vmmcall | Exit::Forbidden, _) => Err(self.fault(GENERAL_PROTECTION, None)),
            (Exit::Shutdown, _) => Err(self.fault(DOUBLE_FAULT, None)),
            (Exit::Unknown(_), _) => Err(GuestExit::Lost("unknown exit")),
        }
    }
}
