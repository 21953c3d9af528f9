//! Registers of a vCPU, one by one (KVM API, "KVM_SET_ONE_REG").

use std::{io, vec::Vec};

use kvm_ioctls::VcpuFd;

/// The greatest length of a register that is kept, in bytes.
const MAX_LEN: usize = 16;

/// The length of a register in bytes, which its number says.
fn len(register: u64) -> usize {
    (1 << (register >> 52 & 0xf)).min(MAX_LEN)
}

/// The value of a register of up to eight bytes.
pub(super) fn get(vcpu: &VcpuFd, register: u64) -> io::Result<u64> {
    let mut bytes = [0; MAX_LEN];
    vcpu.get_one_reg(register, &mut bytes[..len(register)])?;
    Ok(u64::from_le_bytes(core::array::from_fn(|nr| bytes[nr])))
}

/// Sets a register of up to eight bytes.
pub(super) fn set(vcpu: &VcpuFd, register: u64, value: u64) -> io::Result<()> {
    let mut bytes = [0; MAX_LEN];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    vcpu.set_one_reg(register, &bytes[..len(register)])?;
    Ok(())
}

/// Registers with their values.
pub(super) struct Values(Vec<(u64, [u8; MAX_LEN])>);

impl Values {
    /// The values of these registers.
    pub(super) fn of(vcpu: &VcpuFd, registers: impl Iterator<Item = u64>) -> io::Result<Self> {
        let mut values = Vec::new();
        for register in registers {
            let mut bytes = [0; MAX_LEN];
            vcpu.get_one_reg(register, &mut bytes[..len(register)])?;
            values.push((register, bytes));
        }
        Ok(Self(values))
    }

    /// Sets the registers.
    pub(super) fn set(&self, vcpu: &VcpuFd) -> io::Result<()> {
        for (register, bytes) in &self.0 {
            vcpu.set_one_reg(*register, &bytes[..len(*register)])?;
        }
        Ok(())
    }
}
