//! Inline traps: a call executes the trapping instruction itself, instead of going through its endpoint's link.
//!
//! They exist in guests on x86_64. On other targets the types of this file are zero-sized and their only value is
//! "none", so that callers need no `cfg` of their own.

#[cfg(all(feature = "guest", target_arch = "x86_64"))]
mod there {
    use crate::{abi::Registers, arch::x86_64::NegotiatedTrap};

    /// The trap of an endpoint, if it can be executed inline.
    #[derive(Clone, Copy, Debug)]
    pub struct InlineInstruction(Option<NegotiatedTrap>);

    impl InlineInstruction {
        /// The call goes through its link.
        pub const NONE: Self = Self(None);

        pub(in crate::arch) const fn new(trap: NegotiatedTrap) -> Self {
            Self(Some(trap))
        }

        /// The instruction, as one byte that a call can branch on. A doorbell goes through its link: no host of this
        /// crate has a guest use it, except where KVM cannot intercept ports.
        #[inline(always)]
        pub(crate) fn kind(self) -> InlineTrap {
            match self.0 {
                Some(trap) if trap.is_gate() => InlineTrap::Gate,
                Some(trap) if trap.is_out() => InlineTrap::Out,
                _ => InlineTrap::None,
            }
        }

        /// The trap, for the traps that follow the first one of a call.
        pub(crate) fn trap(self) -> Option<NegotiatedTrap> {
            self.0
        }
    }

    /// The instruction by which a call traps.
    #[derive(Clone, Copy, PartialEq, Eq)]
    #[repr(u8)]
    pub(crate) enum InlineTrap {
        /// The call goes through its link.
        None,
        Gate,
        Out,
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
            // SAFETY: the caller promises that `self` is `instruction.kind()` and is not `None`, which `kind` returns
            // only if `instruction.0` is `Some`.
            let trap = unsafe { instruction.0.unwrap_unchecked() };
            match self {
                // SAFETY: `kind` returned `Gate`, so `trap.is_gate()` holds.
                Self::Gate => unsafe { trap.call(out) },
                // SAFETY: `kind` returned `Out`, since it is neither `None` nor `Gate`, so `trap.is_out()` holds.
                _ => unsafe { trap.put_out(out) },
            }
        }
    }
}

#[cfg(not(all(feature = "guest", target_arch = "x86_64")))]
mod there {
    use crate::{abi::Registers, arch::Trap};

    /// No trap can be executed inline on this target.
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

    /// No trap can be executed inline on this target.
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
