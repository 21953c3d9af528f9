//! Stand-in for vmffi::host.
use vmffi::abi::{Registers, Transport};

pub trait Vcpu: Send {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit>;
}
#[derive(Debug, Clone)]
pub enum GuestExit { Fault(Fault), Protocol(ProtocolViolation), Lost(&'static str) }
#[derive(Debug, Clone)]
pub struct Fault { pub cause: FaultCause, pub address: Option<u64>, pub instruction: u64 }
impl Fault { pub fn new(cause: FaultCause, instruction: u64) -> Self { Self { cause, address: None, instruction } } }
#[derive(Debug, Clone)]
pub enum FaultCause { Exception(u8) }
#[derive(Debug, Clone)]
pub enum ProtocolViolation { Access { at: u64 } }

#[derive(Debug, Default, Clone)]
#[repr(C)]
pub struct GeneralRegisters { pub rax: u64, pub rcx: u64, pub rdx: u64, pub rbx: u64, pub rsp: u64, pub rbp: u64, pub rsi: u64, pub rdi: u64,
  pub r8: u64, pub r9: u64, pub r10: u64, pub r11: u64, pub r12: u64, pub r13: u64, pub r14: u64, pub r15: u64 }
impl GeneralRegisters {
    pub fn words(&self) -> Registers { Registers { kind: self.rax, word: self.rbx, transport: Transport { primary: self.r8, secondary: self.r9 } } }
    pub fn complete(&mut self, a: Registers) { self.rax = a.kind; self.rbx = a.word; self.r8 = a.transport.primary; self.r9 = a.transport.secondary; }
}
