//! How a guest traps: one file an architecture, all behind [`Trap`].
//!
//! The caller picks its way out by type. On x86_64 these are `Out<PORT>` (port I/O), `Doorbell` (a
//! store to an agreed address), `Vmcall` and `Vmmcall`. A type says which instruction traps; what
//! crosses is the same for all of them.

use crate::abi::Registers;

#[cfg(target_arch = "x86_64")]
pub mod x86_64;

/// A way to leave the guest and come back with the host's answer (ABI, "Traps").
///
/// The four words of [`Registers`] cross in both directions, in the registers that the ABI gives
/// them on this architecture. On the way out `kind` is one of [`trap`](crate::abi::trap), on the
/// way back it is one of [`answer`](crate::abi::answer). Any other kind, the one that went out
/// included, means that nobody claimed the trap: the caller reports it as unsupported and looks at
/// none of the other words.
///
/// # Memory
///
/// While the guest is out, its host may read and write the memory that the two share, and other
/// vCPUs run on. So a trap is a barrier to the compiler: what the guest wrote before it is in
/// memory when the host looks, and what the guest reads after it is read anew. A reference that
/// promises otherwise (`&T` or `&mut T` into the region) must not live across a trap.
///
/// # Implementing it
///
/// The types of this module are for real machines. A type that calls a function in place of the
/// host is as good, and is how code above this trait is tested. Nothing here is `unsafe` to
/// implement: whoever relies on what comes back checks it.
pub trait Trap {
    /// Traps with `out`, and returns with what the host put in its place.
    ///
    /// It returns when the host resumes this vCPU, which may be much later or never.
    #[must_use = "the host may have answered with an upcall, which waits for its return"]
    fn trap(&self, out: Registers) -> Registers;

    /// This trap as one that calls make in their own place, if that is what it is.
    #[doc(hidden)]
    #[cfg(all(feature = "guest", target_arch = "x86_64"))]
    fn agreed(&self) -> Option<x86_64::Agreed> {
        None
    }
}
