//! The general registers of aarch64, and calls of SMCCC (Arm DEN 0028, "SMC Calling Convention").

use super::SavedRegisters;
use crate::{
    abi::{ABI_VERSION, Registers, SMCCC_FUNCTION, Transport, trap},
    host::{GuestExit, GuestMemory},
};

/// The general registers X0 to X30.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GeneralRegisters {
    /// By number.
    pub x: [u64; 31],
}

/// A trap by `hvc` or `smc`, with its words in X0 to X3 (ABI, Traps TR-22).
impl SavedRegisters for GeneralRegisters {
    /// `None` if W0 is the identifier of another function.
    #[inline]
    fn trap(&self, _: &impl GuestMemory) -> Result<Option<Registers>, GuestExit> {
        let [function, word, primary, secondary, ..] = self.x;
        // The identifier is 32 bits (SMCCC, "Function Identifiers").
        let function = u64::from(function as u32);
        let kind = trap::CALL & !0xff | function & 0xff;
        let transport = Transport { primary, secondary };
        let ours = function & !0xff == SMCCC_FUNCTION;
        Ok(ours.then_some(Registers { kind, word, transport }))
    }

    #[inline]
    fn complete(&mut self, _: &impl GuestMemory, answer: Registers) -> Result<(), GuestExit> {
        let Registers { kind, word, transport: Transport { primary, secondary } } = answer;
        self.x[..4].copy_from_slice(&[kind, word, primary, secondary]);
        Ok(())
    }
}

/// The status `NOT_SUPPORTED` in X0 (SMCCC, "Return codes"): what a hypervisor answers to a function that it does not know.
pub const NOT_SUPPORTED: i64 = -1;

/// `SMCCC_VERSION`: the version of SMCCC (SMCCC, "SMCCC_VERSION").
const VERSION: u32 = 0x8000_0000;
/// `SMCCC_ARCH_FEATURES`: whether an architecture's function, by its identifier in W1, is there (SMCCC, "SMCCC_ARCH_FEATURES").
const ARCH_FEATURES: u32 = 0x8000_0001;
/// `Call UID` of the vendor-specific hypervisor services (SMCCC, "General service queries").
const UID: u32 = 0x8600_ff01;
/// `Revision` of these services.
const REVISION: u32 = 0x8600_ff03;

/// The UUID of a hypervisor whose only vendor-specific services are this ABI's: `ceb8efcb-7d6a-4a11-8a8d-94c1ac2f1a47`, in four
/// words as the call returns them.
pub const SERVICE_UID: [u32; 4] = [
    u32::from_le_bytes([0xce, 0xb8, 0xef, 0xcb]),
    u32::from_le_bytes([0x7d, 0x6a, 0x4a, 0x11]),
    u32::from_le_bytes([0x8a, 0x8d, 0x94, 0xc1]),
    u32::from_le_bytes([0xac, 0x2f, 0x1a, 0x47]),
];

impl GeneralRegisters {
    /// Answers a call that is not this ABI's, as a hypervisor does that has no other services: it is of SMCCC 1.1, names this
    /// ABI's services, and knows no other function. X4 to X30 do not change (SMCCC, "Register use in AArch64 SMC and HVC calls").
    #[cold]
    #[inline(never)]
    pub fn answer_other(&mut self) {
        let [function, argument, ..] = self.x.map(|register| register as u32);
        let not_supported = match function >> 30 & 1 {
            // The result of a 32-bit call is W0.
            0 => u64::from(NOT_SUPPORTED as u32),
            _ => NOT_SUPPORTED as u64,
        };
        match function {
            VERSION => self.x[0] = 0x1_0001,
            ARCH_FEATURES if matches!(argument, VERSION | ARCH_FEATURES) => self.x[0] = 0,
            UID => self.x[..4].copy_from_slice(&SERVICE_UID.map(u64::from)),
            REVISION => self.x[..2].copy_from_slice(&[u64::from(ABI_VERSION), 0]),
            _ => self.x[0] = not_supported,
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use core::array;

    use super::*;
    use crate::host::registers::tests::Nothing;

    fn called(function: u64, argument: u64) -> GeneralRegisters {
        let mut registers = GeneralRegisters { x: array::from_fn(|nr| 0x1_0000_0000 + nr as u64) };
        (registers.x[0], registers.x[1]) = (function, argument);
        registers
    }

    /// ABI, Traps TR-22: the identifier is W0 alone, and its low byte is that of the kind.
    #[test]
    fn words_of_a_call() {
        for (low, kind) in [(1, trap::CALL), (2, trap::RETURN), (3, trap::READY), (4, trap::EXIT)] {
            let mut registers = called(0xdead_0000_c600_5600 + low, 7);
            let before = registers;
            let found = registers.trap(&Nothing).unwrap().unwrap();
            let transport = Transport { primary: 0x1_0000_0002, secondary: 0x1_0000_0003 };
            assert_eq!(found, Registers { kind, word: 7, transport });
            let transport = Transport { primary: 8, secondary: 9 };
            registers.complete(&Nothing, Registers { kind: 10, word: 11, transport }).unwrap();
            assert_eq!(registers.x[..4], [10, 11, 8, 9]);
            assert_eq!(registers.x[4..], before.x[4..]);
        }
        for other in [0, 0x8600_5601, 0xc600_5501, 0xc600_5701, u64::MAX] {
            assert_eq!(called(other, 0).trap(&Nothing).unwrap(), None);
        }
    }

    /// SMCCC, "Register use in AArch64 SMC and HVC calls", "General service queries", "Return codes", "SMCCC_VERSION", "SMCCC_ARCH_FEATURES".
    #[test]
    fn other_calls() {
        let answer = |function, argument| {
            let mut registers = called(function, argument);
            registers.answer_other();
            assert_eq!(registers.x[4..], called(function, argument).x[4..]);
            registers.x
        };
        assert_eq!(answer(0x8000_0000, 0)[0], 0x1_0001);
        assert_eq!(answer(0x8000_0001, 0x8000_0000)[0], 0);
        assert_eq!(answer(0x8000_0001, 0x8000_8000)[0] as i32, -1);
        assert_eq!(answer(0x8600_ff01, 0)[..4], SERVICE_UID.map(u64::from));
        assert_eq!(answer(0x8600_ff03, 0)[..2], [u64::from(ABI_VERSION), 0]);
        assert_eq!(answer(0x8400_0000, 0)[0], 0xffff_ffff);
        assert_eq!(answer(0xc600_5801, 0)[0], u64::MAX);
        assert_eq!(answer(0xc600_5801, 0)[1..], called(0, 0).x[1..]);
    }
}
