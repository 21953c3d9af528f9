//! What the guest is, and what both sides check of each other: compiled into the guest's program, and into
//! the test, which runs the same code on the loopback.

#[path = "../../../../types/shared/compounds.rs"]
pub mod compounds;
pub mod control;
pub mod crimes;
pub mod failures;
pub mod handles;
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

/// A side of a connection: both serve what is checked in both directions.
pub trait Side: Send + Sync + 'static {
    /// Handles that were kept beyond their call.
    fn kept(&self) -> &spin::Mutex<Vec<ForeignBuf>>;

    /// What is done at the bottom of nested calls.
    fn bottom(&self, what: u32);
}

/// Something that one side checks by calling the other: panics where it does not hold.
pub type Check = (&'static str, fn(&Peer));

/// All of them. A group each, by name.
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
];

/// The check of this number, counted over all groups.
pub fn check(nr: u32) -> Option<Check> {
    CHECKS.iter().copied().flatten().nth(nr as usize).copied()
}

/// Runs a check, after which nothing that this side lent may be left.
pub fn run(check: Check, peer: &Peer) {
    let before = peer.arena_stats();
    (check.1)(peer);
    assert_eq!(peer.arena_stats(), before, "the {}'s arena after {}", peer.side(), check.0);
}

/// Says what a side serves and calls: what it names, and what both do.
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
            $($crate::shared::plain::$plain::Echo),*;
            calls
            $($called),+, $crate::shared::handles::Handles, $crate::shared::results::Fallible,
            $crate::shared::compounds::Compounds, $crate::shared::compounds::Converted,
            $crate::shared::packed::Packs, $crate::shared::failures::Failing, $crate::shared::nesting::Nesting,
            $($crate::shared::plain::$plain::Echo),*
        );
    };
}
pub(crate) use serve_side;
