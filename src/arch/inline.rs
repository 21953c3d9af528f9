//! Inline traps: a call executes the trapping instruction itself, instead of going through its endpoint's link.
//!
//! They exist in guests: with the feature `guest` the methods of the boot block, and in programs without `std` the
//! instruction by which the architecture calls a hypervisor. Elsewhere the types of this file are zero-sized and their only
//! value is "none", so that callers need no `cfg` of their own.

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

#[cfg(all(not(feature = "guest"), not(feature = "std")))]
mod there {
    use crate::{
        abi::Registers,
        arch::{Trap, native::Hypercall},
    };

    /// The trap of an endpoint, if it can be executed inline.
    #[derive(Clone, Copy, Debug)]
    pub struct InlineInstruction(Option<Hypercall>);

    impl InlineInstruction {
        /// The call goes through its link.
        pub const NONE: Self = Self(None);

        #[cfg_attr(
            not(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64")),
            expect(dead_code, reason = "nothing traps there")
        )]
        pub(in crate::arch) fn new(trap: Hypercall) -> Self {
            Self(Some(trap))
        }

        /// The instruction, as one byte that a call can branch on.
        #[inline(always)]
        pub(crate) fn kind(self) -> InlineTrap {
            InlineTrap(self.0)
        }

        /// The trap, for the traps that follow the first one of a call.
        pub(crate) fn trap(self) -> Option<Hypercall> {
            self.0
        }
    }

    /// The instruction by which a call traps.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct InlineTrap(Option<Hypercall>);

    impl InlineTrap {
        /// The call goes through its link.
        #[expect(
            non_upper_case_globals,
            reason = "it is a variant where there are several instructions"
        )]
        pub(crate) const None: Self = Self(None);

        /// Whether the call can trap inline.
        #[inline(always)]
        pub(crate) fn is_some(self) -> bool {
            self.0.is_some()
        }

        /// Traps.
        ///
        /// # Safety
        ///
        /// `self` [`is_some`](Self::is_some).
        #[inline(always)]
        pub(crate) unsafe fn trap(self, _: InlineInstruction, out: Registers) -> Registers {
            // SAFETY: the caller promises that there is a trap.
            unsafe { self.0.unwrap_unchecked() }.trap(out)
        }
    }
}

#[cfg(all(not(feature = "guest"), feature = "std"))]
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
