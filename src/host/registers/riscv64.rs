//! The general registers of riscv64, and calls of SBI (RISC-V Supervisor Binary Interface Specification).

use super::SavedRegisters;
use crate::{
    abi::{Registers, SBI_EXTENSION, Transport},
    host::{GuestExit, GuestMemory, ProtocolViolation},
};

/// The numbers of registers.
const A0: usize = 10;
const A1: usize = 11;
const A6: usize = 16;
const A7: usize = 17;

/// The size of a frame in bytes, and its alignment (ABI, Traps TR-14).
const FRAME: u64 = 32;

/// The general registers x0 to x31; x0 is always 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GeneralRegisters {
    /// By number.
    pub x: [u64; 32],
}

/// A trap by `ecall`, with its words in a frame at the address in a0 (ABI, Traps TR-23). The frame's address is one of the
/// [`GuestMemory`], which is the guest-physical one if the guest has no page tables of its own, and else translates.
impl SavedRegisters for GeneralRegisters {
    /// `None` if a7 names another extension.
    #[inline]
    fn trap(&self, memory: &impl GuestMemory) -> Result<Option<Registers>, GuestExit> {
        if self.x[A7] != SBI_EXTENSION {
            return Ok(None);
        }
        let mut frame = [0; FRAME as usize];
        let read = memory.read(self.frame()?, &mut frame);
        read.map_err(|_| self.bad_frame())?;
        let [kind, word, primary, secondary] =
            bytemuck::cast::<_, [[u8; 8]; 4]>(frame).map(u64::from_le_bytes);
        Ok(Some(Registers { kind, word, transport: Transport { primary, secondary } }))
    }

    /// Writes the answer to the frame, and success to a0 and a1.
    #[inline]
    fn complete(&mut self, memory: &impl GuestMemory, answer: Registers) -> Result<(), GuestExit> {
        let Registers { kind, word, transport: Transport { primary, secondary } } = answer;
        let frame = [kind, word, primary, secondary].map(u64::to_le_bytes);
        let written = memory.write(self.frame()?, frame.as_flattened());
        written.map_err(|_| self.bad_frame())?;
        (self.x[A0], self.x[A1]) = (0, 0);
        Ok(())
    }
}

/// `SBI_ERR_NOT_SUPPORTED` in a0 (SBI 2.0, chapter 3): what an execution environment answers to an extension or a function
/// that it does not know.
pub const NOT_SUPPORTED: i64 = -2;

/// The base extension and its functions (SBI 2.0, chapter 4).
const BASE: u64 = 0x10;
const SPEC_VERSION: u64 = 0;
const IMPLEMENTATION_ID: u64 = 1;
const IMPLEMENTATION_VERSION: u64 = 2;
const PROBE_EXTENSION: u64 = 3;

/// The version 2.0 of the specification, as its function returns it.
const VERSION: u64 = 2 << 24;

impl GeneralRegisters {
    /// Answers a call that is not this ABI's, as an execution environment does that has no other extension than the base
    /// extension. `implementation` is its identifier and its version. The identifiers of the processor are 0, as for one that
    /// does not tell them. Registers other than a0 and a1 do not change, as chapter 3 requires.
    #[cold]
    #[inline(never)]
    pub fn answer_other(&mut self, implementation: (u64, u64)) {
        let value = match (self.x[A7], self.x[A6]) {
            (BASE, SPEC_VERSION) => Some(VERSION),
            (BASE, IMPLEMENTATION_ID) => Some(implementation.0),
            (BASE, IMPLEMENTATION_VERSION) => Some(implementation.1),
            (BASE, PROBE_EXTENSION) => Some(matches!(self.x[A0], BASE | SBI_EXTENSION).into()),
            // `sbi_get_mvendorid`, `sbi_get_marchid` and `sbi_get_mimpid`.
            (BASE, 4..=6) => Some(0),
            _ => None,
        };
        (self.x[A0], self.x[A1]) = value.map_or((NOT_SUPPORTED as u64, 0), |value| (0, value));
    }

    /// The address of the frame.
    fn frame(&self) -> Result<u64, GuestExit> {
        if self.x[A0] % FRAME == 0 { Ok(self.x[A0]) } else { Err(self.bad_frame()) }
    }

    #[cold]
    fn bad_frame(&self) -> GuestExit {
        GuestExit::Protocol(ProtocolViolation::Access { at: self.x[A0] })
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use core::array;

    use super::*;
    use crate::{
        abi::trap,
        host::registers::tests::{Nothing, Words},
    };

    fn called(extension: u64, function: u64, argument: u64) -> GeneralRegisters {
        let mut registers = GeneralRegisters { x: array::from_fn(|nr| 100 + nr as u64) };
        (registers.x[A7], registers.x[A6], registers.x[A0]) = (extension, function, argument);
        registers
    }

    /// ABI, Traps TR-14 and TR-23: the words are in the frame, both ways.
    #[test]
    fn words_of_a_call() {
        let memory = Words::new([trap::CALL, 7, 8, 9]);
        let mut registers = called(0x0856_4d46, 1, Words::AT);
        let transport = Transport { primary: 8, secondary: 9 };
        let expected = Registers { kind: trap::CALL, word: 7, transport };
        assert_eq!(registers.trap(&memory).unwrap(), Some(expected));
        let transport = Transport { primary: 3, secondary: 4 };
        registers.complete(&memory, Registers { kind: 1, word: 2, transport }).unwrap();
        assert_eq!(memory.words(), [1, 2, 3, 4]);
        let mut untouched = called(0x0856_4d46, 1, 0);
        untouched.x[A1] = 0;
        assert_eq!(registers, untouched);
        assert_eq!(called(0x0856_4d47, 1, Words::AT).trap(&memory).unwrap(), None);
    }

    /// ABI, Traps TR-10 and TR-14: a frame that is elsewhere, or is not aligned.
    #[test]
    fn frames_that_are_not_there() {
        for at in [0, 8, Words::AT + 1, Words::AT + 16, Words::AT + 32, u64::MAX - 31, u64::MAX] {
            let mut registers = called(0x0856_4d46, 1, at);
            let bad = GuestExit::Protocol(ProtocolViolation::Access { at });
            let memory = Words::new([0; 4]);
            assert_eq!(registers.trap(&memory), Err(bad.clone()), "{at:#x}");
            let answer = Registers { kind: 1, word: 2, transport: Transport::EMPTY };
            assert_eq!(registers.complete(&memory, answer), Err(bad), "{at:#x}");
            assert_eq!(memory.words(), [0; 4]);
        }
        let mut registers = called(0x0856_4d46, 1, Words::AT);
        assert!(registers.trap(&Nothing).is_err());
        assert!(
            registers
                .complete(&Nothing, registers.trap(&Words::new([0; 4])).unwrap().unwrap())
                .is_err()
        );
    }

    /// SBI 2.0, chapters 3 and 4.
    #[test]
    fn other_calls() {
        let answer = |extension, function, argument| {
            let mut registers = called(extension, function, argument);
            registers.answer_other((77, 5));
            let mut same = called(extension, function, registers.x[A0]);
            same.x[A1] = registers.x[A1];
            assert_eq!(registers, same);
            (registers.x[A0] as i64, registers.x[A1])
        };
        assert_eq!(answer(0x10, 0, 0), (0, 0x0200_0000));
        assert_eq!(answer(0x10, 1, 0), (0, 77));
        assert_eq!(answer(0x10, 2, 0), (0, 5));
        assert_eq!(answer(0x10, 3, 0x0856_4d46), (0, 1));
        assert_eq!(answer(0x10, 3, 0x10), (0, 1));
        assert_eq!(answer(0x10, 3, 0x5449_4d45), (0, 0));
        for function in 4..7 {
            assert_eq!(answer(0x10, function, 0), (0, 0));
        }
        assert_eq!(answer(0x10, 7, 0).0, -2);
        assert_eq!(answer(0x5449_4d45, 0, 0).0, -2);
        assert_eq!(answer(0, 0, 0).0, -2);
    }
}
