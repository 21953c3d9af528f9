//! Inline traps: a call executes the trapping instruction itself, instead of going through its endpoint's link.
//!
//! They exist in guests. Without the feature `guest` the types of this file are zero-sized and their only value is
//! "none", so that callers need no `cfg` of their own.

#[cfg(feature = "guest")]
mod there {
    use crate::{abi::Registers, arch::NegotiatedTrap};

    /// The trap of an endpoint, if it can be executed inline.
    #[derive(Clone, Copy, Debug)]
    pub struct InlineInstruction {
        trap: Option<NegotiatedTrap>,
        /// `inline` of the trap: each call that is served needs it.
        kind: InlineTrap,
    }

    impl InlineInstruction {
        /// The call goes through its link.
        pub const NONE: Self = Self { trap: None, kind: InlineTrap::None };

        pub(in crate::arch) fn new(trap: NegotiatedTrap) -> Self {
            Self { trap: Some(trap), kind: trap.inline() }
        }

        /// The instruction, as one byte that a call can branch on.
        #[inline(always)]
        pub(crate) fn kind(self) -> InlineTrap {
            self.kind
        }

        /// The trap, for the traps that follow the first one of a call.
        pub(crate) fn trap(self) -> Option<NegotiatedTrap> {
            self.trap
        }
    }

    /// The instruction by which a call traps.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(u8)]
    pub(crate) enum InlineTrap {
        /// The call goes through its link.
        None,
        /// A call of the gate.
        Gate,
        /// The trapping instruction of the architecture: `out` on x86_64, the store to the doorbell on others.
        Instruction,
    }

    impl InlineTrap {
        /// Whether the call can trap inline.
        #[inline(always)]
        pub(crate) fn is_some(self) -> bool {
            self != Self::None
        }

        /// Traps.
        ///
        /// # Safety
        ///
        /// `self` is the result of [`kind`](InlineInstruction::kind) on `instruction`, and [`is_some`](Self::is_some).
        #[inline(always)]
        pub(crate) unsafe fn trap(
            self,
            instruction: InlineInstruction,
            out: Registers,
        ) -> Registers {
            // SAFETY: the caller promises that `self` is `instruction.kind()` and is not `None`, which `new` sets
            // only beside a trap.
            let trap = unsafe { instruction.trap.unwrap_unchecked() };
            match self {
                // SAFETY: `kind` returned `Gate`, so `trap.inline()` is `Gate`.
                Self::Gate => unsafe { trap.by_gate(out) },
                // SAFETY: `kind` returned neither `None` nor `Gate`, so `trap.inline()` is `Instruction`.
                _ => unsafe { trap.by_instruction(out) },
            }
        }
    }
}

#[cfg(not(feature = "guest"))]
mod there {
    use crate::{abi::Registers, arch::Trap};

    /// No trap can be executed inline in this build.
    #[derive(Clone, Copy, Debug)]
    pub struct InlineInstruction;

    impl InlineInstruction {
        /// The call goes through its link.
        pub const NONE: Self = Self;

        #[inline(always)]
        pub(crate) fn kind(self) -> InlineTrap {
            InlineTrap::None
        }

        pub(crate) fn trap(self) -> Option<Never> {
            None
        }
    }

    /// No trap can be executed inline in this build.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) enum InlineTrap {
        /// The call goes through its link.
        None,
    }

    impl InlineTrap {
        #[inline(always)]
        pub(crate) fn is_some(self) -> bool {
            false
        }

        /// # Safety
        ///
        /// No requirements. It is never called; its result has the kind of the trap, which callers take as unsupported.
        #[inline(always)]
        pub(crate) unsafe fn trap(self, _: InlineInstruction, out: Registers) -> Registers {
            out
        }
    }

    /// An uninhabited trap.
    pub(crate) enum Never {}

    impl Trap for Never {
        fn trap(&self, _: Registers) -> Registers {
            match *self {}
        }
    }
}

pub use there::InlineInstruction;
pub(crate) use there::InlineTrap;
