//! The guest, and the checks that both sides run against each other. The guest's program and the test both compile
//! this module; the test runs it on the loopback.

// Four files by their paths: `tests/types` checks them over a loopback alone.
pub mod batches;
#[path = "../../../../types/shared/compounds.rs"]
pub mod compounds;
pub mod control;
pub mod crimes;
pub mod failures;
pub mod handles;
#[cfg_attr(target_arch = "aarch64", path = "native/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "native/riscv64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "native/x86_64.rs")]
pub mod native;
pub mod nesting;
#[path = "../../../../types/shared/packed.rs"]
pub mod packed;
#[path = "../../../../types/shared/plain.rs"]
pub mod plain;
#[path = "../../../../types/shared/results.rs"]
pub mod results;
pub mod state;
pub mod undeclared;
pub mod vectors;

use alloc::vec::Vec;

use vmffi::{ForeignBuf, Peer};

/// A side of a connection. Both serve the interfaces that are checked in both directions.
pub trait Side: Send + Sync + 'static {
    /// Handles that are kept after their call.
    fn kept(&self) -> &spin::Mutex<Vec<ForeignBuf>>;

    /// Runs in the innermost of nested calls.
    fn bottom(&self, what: u32);
}

/// A check that calls the other side, and panics if something does not hold.
pub type Check = (&'static str, fn(&Peer));

/// All checks, in groups, by name.
pub const CHECKS: &[&[Check]] = &[
    plain::CHECKS,
    handles::CHECKS,
    results::CHECKS,
    compounds::CHECKS,
    packed::CHECKS,
    failures::CHECKS,
    nesting::CHECKS,
    vectors::CHECKS,
    undeclared::CHECKS,
    batches::CHECKS,
];

/// The check of this number, over all groups.
pub fn check(nr: u32) -> Option<Check> {
    CHECKS.iter().copied().flatten().nth(nr as usize).copied()
}

/// Runs a check, after which no block that this side has lent may be in use.
pub fn run(check: Check, peer: &Peer) {
    let before = peer.arena_stats();
    (check.1)(peer);
    assert_eq!(peer.arena_stats(), before, "the {}'s arena after {}", peer.side(), check.0);
}

/// Declares what a side serves and calls: the interfaces named, and those of both sides.
macro_rules! serve_side {
    ($type:ty: $($own:path),+; calls $($called:path),+) => {
        $crate::shared::plain::with_plain! {
            $crate::shared::serve_side! { $type: $($own),+; calls $($called),+; }
        }
    };
    ($type:ty: $($own:path),+; calls $($called:path),+; [$($plain:ident)*]) => {
        vmffi::serve!($type:
            $($own),+, $crate::shared::handles::Handles, $crate::shared::results::Fallible,
            $crate::shared::compounds::Compounds, $crate::shared::compounds::Converted,
            $crate::shared::packed::Packs, $crate::shared::failures::Failing, $crate::shared::nesting::Nesting,
            $crate::shared::batches::Counting, $crate::shared::batches::Ordered,
            $($crate::shared::plain::$plain::Echo),*;
            calls
            $($called),+, $crate::shared::handles::Handles, $crate::shared::results::Fallible,
            $crate::shared::compounds::Compounds, $crate::shared::compounds::Converted,
            $crate::shared::packed::Packs, $crate::shared::failures::Failing, $crate::shared::nesting::Nesting,
            $crate::shared::batches::Counting, $crate::shared::batches::Ordered,
            $($crate::shared::plain::$plain::Echo),*
        );
    };
}
pub(crate) use serve_side;
