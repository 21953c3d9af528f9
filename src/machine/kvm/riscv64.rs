//! Virtual machines of riscv64. Guest code runs in U-mode. In S-mode there is one page with a handler of exceptions: it
//! reports each to the host by a store to a page that only S-mode can access.
//!
//! Names of registers and their fields are those of the RISC-V Privileged Architecture.

use std::io;

use core::mem::offset_of;

use kvm_bindings::{
    KVM_CAP_VM_GPA_BITS, KVM_MP_STATE_RUNNABLE, KVM_REG_RISCV, KVM_REG_RISCV_CONFIG,
    KVM_REG_RISCV_CORE, KVM_REG_RISCV_CSR, KVM_REG_RISCV_FP_D, KVM_REG_SIZE_U32, KVM_REG_SIZE_U64,
    kvm_mp_state, kvm_riscv_config, kvm_riscv_core, kvm_riscv_csr,
};
use kvm_ioctls::{Kvm, VcpuExit, VmFd};
use nix::libc;

use super::{
    super::{MachineError, lost, native},
    KvmVcpu, system,
    tables::{Access, PrivilegedPages, Tables},
};
use crate::{
    abi::PAGE_SIZE,
    host::{FaultCause, GuestExit},
};

mod frame;
mod registers;

pub(super) use frame::{Clock, State, TrapState, USUAL_TRAP};

/// How many pages of guest-physical memory stay without memory: those of the doorbell and of reports.
pub(super) const UNBACKED_PAGES: u64 = 2;

/// The virtual address of the handler, far behind what the guest uses. The page of reports follows.
const PRIVILEGED_AT: u64 = 0x7f00_0000_0000;

/// The number of a register of eight bytes, by its kind and its offset in the structure of that kind.
const fn register(kind: u32, offset: usize) -> u64 {
    KVM_REG_RISCV as u64 | KVM_REG_SIZE_U64 as u64 | kind as u64 | offset as u64 / 8
}

const fn control(offset: usize) -> u64 {
    register(KVM_REG_RISCV_CSR, offset)
}

/// PC, and behind it x1 to x31.
const PC: u64 = register(KVM_REG_RISCV_CORE, offset_of!(kvm_riscv_core, regs));
const SP: u64 = PC + 2;
const A0: u64 = PC + 10;
const MODE: u64 = register(KVM_REG_RISCV_CORE, offset_of!(kvm_riscv_core, mode));
const SSTATUS: u64 = control(offset_of!(kvm_riscv_csr, sstatus));
const STVEC: u64 = control(offset_of!(kvm_riscv_csr, stvec));
const SEPC: u64 = control(offset_of!(kvm_riscv_csr, sepc));
const SCAUSE: u64 = control(offset_of!(kvm_riscv_csr, scause));
const STVAL: u64 = control(offset_of!(kvm_riscv_csr, stval));
const SATP: u64 = control(offset_of!(kvm_riscv_csr, satp));
const SCOUNTEREN: u64 = control(offset_of!(kvm_riscv_csr, scounteren));
const F0: u64 = register(KVM_REG_RISCV_FP_D, 0);
const FCSR: u64 = KVM_REG_RISCV as u64 | KVM_REG_SIZE_U32 as u64 | KVM_REG_RISCV_FP_D as u64 | 32;
const SATP_MODE: u64 = register(KVM_REG_RISCV_CONFIG, offset_of!(kvm_riscv_config, satp_mode));

/// MODE of satp: 48 bits of virtual address.
const SV48: u64 = 9;
/// FS of sstatus: floating point is on, in its initial state. The vector extension stays off.
const FS_INITIAL: u64 = 1 << 13;
/// The privilege of U-mode, as KVM counts it.
const IN_U_MODE: u64 = 0;

/// Flags of a page table entry (RISC-V Privileged Architecture, "Sv39"). Accessed and dirty are set from the beginning, so that
/// the processor need not write to the tables.
const VALID: u64 = 1;
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 2;
const EXECUTE: u64 = 1 << 3;
const USER: u64 = 1 << 4;
const USED: u64 = 0b11 << 6;
/// The bits of an entry that hold the address, shifted right by 2.
const ADDRESS: u64 = 0x003f_ffff_ffff_fc00;

/// The number of address spaces: the guest's.
pub(super) const ROOTS: u64 = 1;

/// The entry for a page.
pub(super) fn page_entry(physical: u64, access: Access) -> u64 {
    let mut flags = VALID | READ | USED;
    for (set, flag) in [(access.guest, USER), (access.write, WRITE), (access.execute, EXECUTE)] {
        flags |= if set { flag } else { 0 };
    }
    physical >> 2 | flags
}

/// The entry for a table. The last level restricts the access.
pub(super) fn table_entry(physical: u64, _: Access) -> u64 {
    physical >> 2 | VALID
}

/// The guest-physical address of the table that an entry leads to.
pub(super) fn table_of(entry: u64) -> Option<u64> {
    (entry & VALID != 0).then_some((entry & ADDRESS) << 2)
}

/// The number of fixed pages: the handler.
pub(super) fn fixed_pages(_: u64) -> u64 {
    1
}

/// Maps the fixed page, and that of reports, which follows the doorbell and has no memory either.
pub(super) fn map_fixed(tables: &mut Tables, root: u64, fixed: u64, _: u64, doorbell: u64) {
    let data = Access::PRIVILEGED;
    tables.map(root, PRIVILEGED_AT, fixed, PAGE_SIZE, Access { execute: true, ..data });
    let report = Access { write: true, ..data };
    tables.map(root, PRIVILEGED_AT + PAGE_SIZE, doorbell + PAGE_SIZE, PAGE_SIZE, report);
}

/// Writes the handler, which stores to the page of reports.
pub(super) fn fill_fixed(pages: &PrivilegedPages, _: u64) {
    // auipc t0, 1; sd zero, 0(t0); j .
    let code = [0x0000_1297 | 0x0002_b023 << 32, 0x0000_006f];
    pages.put(pages.places().fixed, &code);
}

/// What KVM supports. It does not change while this program runs.
pub(super) struct Facts {
    /// The width of a guest-physical address, in bits.
    physical_bits: u32,
}

impl Facts {
    pub(super) fn of(kvm: &Kvm) -> Result<Self, MachineError> {
        let bits = kvm.check_extension_raw(KVM_CAP_VM_GPA_BITS.into());
        Ok(Self { physical_bits: if bits > 0 { bits.clamp(32, 56) as u32 } else { 41 } })
    }

    pub(super) fn create_vm(&self, kvm: &Kvm) -> Result<VmFd, MachineError> {
        kvm.create_vm().map_err(system("KVM_CREATE_VM"))
    }

    pub(super) fn physical_bits(&self) -> u32 {
        self.physical_bits
    }
}

/// The registers that a guest can change, and those that an exception changes.
fn kept() -> impl Iterator<Item = u64> {
    let general = (0..32).map(|nr| PC + nr);
    let floats = (0..32).map(|nr| F0 + nr);
    general.chain([MODE]).chain(floats).chain([FCSR, SSTATUS, SEPC, SCAUSE, STVAL])
}

impl KvmVcpu {
    /// Prepares a new vCPU.
    pub(super) fn configure(&self) -> Result<(), MachineError> {
        // Kernels before 6.5 do not say which it is.
        if registers::get(&self.fd, SATP_MODE).is_ok_and(|mode| mode < SV48) {
            return Err(MachineError::System {
                what: "the processor has no virtual addresses of 48 bits (Sv48)",
                error: io::ErrorKind::Unsupported.into(),
            });
        }
        // KVM powers off all vCPUs but the first, which a kernel would start by SBI.
        let runnable = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
        self.fd.set_mp_state(runnable).map_err(system("KVM_SET_MP_STATE"))?;
        self.set_up().map_err(MachineError::system("KVM_SET_ONE_REG"))
    }

    /// Sets the registers of S-mode, which the guest cannot change.
    fn set_up(&self) -> io::Result<()> {
        let root = self.machine.privileged.places().root;
        let status = registers::get(&self.fd, SSTATUS)?;
        for (register, value) in [
            (STVEC, PRIVILEGED_AT),
            (SATP, SV48 << 60 | root / PAGE_SIZE),
            (SCOUNTEREN, 0),
            (SSTATUS, status | FS_INITIAL),
            (MODE, IN_U_MODE),
        ] {
            registers::set(&self.fd, register, value)?;
        }
        Ok(())
    }

    /// Sets all registers for the guest's entry point (ABI, "Boot block"). The others of a new vCPU are 0, but for a0 and a1,
    /// which KVM sets for a kernel.
    pub(super) fn begin(&mut self) -> Result<(), MachineError> {
        let stack = self.machine.plan.space.stacks[self.number as usize];
        let entry = self.machine.plan.image.entry();
        for nr in 1..32 {
            registers::set(&self.fd, PC + nr, 0)
                .map_err(MachineError::system("KVM_SET_ONE_REG"))?;
        }
        for (register, value) in [(A0, stack), (SP, stack), (PC, entry)] {
            registers::set(&self.fd, register, value)
                .map_err(MachineError::system("KVM_SET_ONE_REG"))?;
        }
        Ok(())
    }

    /// Runs until the next exit. Returns true for a trap, and false if a signal or nothing interrupted the vCPU.
    pub(super) fn resume(&mut self) -> Result<bool, GuestExit> {
        let doorbell = self.machine.doorbell;
        let invalid = |at: u64| Err(self.machine.invalid_access(at));
        match self.fd.run() {
            Ok(VcpuExit::MmioWrite(at, data)) if at == doorbell => {
                match <[u8; 8]>::try_from(&*data) {
                    Ok(value) => self.rung(u64::from_le_bytes(value)),
                    Err(_) => invalid(at),
                }
            }
            Ok(VcpuExit::MmioWrite(at, _)) if at == doorbell + PAGE_SIZE => Err(self.fault()),
            Ok(VcpuExit::MmioWrite(at, _) | VcpuExit::MmioRead(at, _)) => invalid(at),
            Ok(VcpuExit::Intr) => Ok(false),
            Ok(exit) => Err(GuestExit::Lost(format_args!("KVM: {exit:?}").into())),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(false),
            Err(error) if matches!(error.errno(), libc::EIO | libc::EOPNOTSUPP | libc::ENOSYS) => {
                Err(self.undecoded())
            }
            Err(error) => Err(GuestExit::Lost(lost("KVM_RUN", error))),
        }
    }

    /// Describes an access that KVM has not decoded: atomic, unaligned, or of a floating-point register. Only pages without
    /// memory are accessed so, and KVM does not say where.
    #[cold]
    fn undecoded(&self) -> GuestExit {
        match registers::get(&self.fd, PC) {
            Ok(pc) => {
                let cause = FaultCause::Exception(native::ACCESS_FAULT);
                GuestExit::Fault(self.machine.plan.fault(cause, None, pc))
            }
            Err(error) => GuestExit::Lost(lost("KVM_GET_ONE_REG", error)),
        }
    }

    /// Describes the exception that the handler reports.
    #[cold]
    fn fault(&self) -> GuestExit {
        let registers = || -> io::Result<[u64; 3]> {
            let get = |register| registers::get(&self.fd, register);
            Ok([get(SCAUSE)?, get(STVAL)?, get(SEPC)?])
        };
        match registers() {
            Ok([cause, ..]) if cause > 63 => {
                GuestExit::Lost(format_args!("KVM: an interrupt of cause {cause:#x}").into())
            }
            Ok([cause, address, instruction]) => {
                let address = native::is_page_fault(cause as u8).then_some(address);
                let cause = FaultCause::Exception(cause as u8);
                GuestExit::Fault(self.machine.plan.fault(cause, address, instruction))
            }
            Err(error) => GuestExit::Lost(lost("KVM_GET_ONE_REG", error)),
        }
    }
}
