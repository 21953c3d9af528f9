//! What a host without a heap says of contracts that do not match.

use core::fmt;

use super::{Disagreement, Escaped, walk::BadContract};
use crate::{abi::Side, error::ErrorText};

/// The error for contracts that do not match: the functions that one side calls and the other does not serve, or
/// declares differently.
///
/// `Display` names the first function, and the number of the others. With the feature `alloc` it shows all of them, with both
/// declarations and the place where they differ. Names from the peer are truncated and escaped.
#[derive(Clone, PartialEq, Eq)]
pub struct Mismatch(Why);

#[derive(Clone, PartialEq, Eq)]
enum Why {
    Invalid(Side, BadContract),
    Functions { caller: Side, function: ErrorText, differs: bool, more: usize },
}

impl Mismatch {
    /// The side whose contract is invalid, and the reason; `None` if both are valid.
    #[must_use]
    pub fn unreadable(&self) -> Option<(Side, BadContract)> {
        match self.0 {
            Why::Invalid(side, bad) => Some((side, bad)),
            Why::Functions { .. } => None,
        }
    }
}

impl From<Disagreement<'_>> for Mismatch {
    fn from(found: Disagreement<'_>) -> Self {
        Self(match found {
            Disagreement::Invalid(side, bad) => Why::Invalid(side, bad),
            Disagreement::Functions { caller, interface, name, differs, more } => {
                let mut function = ErrorText::from(interface);
                function.push("::");
                function.push(name);
                Why::Functions { caller, function, differs, more }
            }
        })
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Invalid(side, bad) => {
                write!(f, "the contract of the {side} is invalid at byte {}: {}", bad.at, bad.what)
            }
            Why::Functions { caller, function, differs, more } => {
                let count = more + 1;
                let functions = if count == 1 { "function" } else { "functions" };
                let how = if *differs { "declares it differently" } else { "does not serve it" };
                write!(
                    f,
                    "guest and host do not agree on {count} {functions}: the {caller} calls {}, and the {} {how}",
                    Escaped(function),
                    caller.other(),
                )
            }
        }
    }
}

/// The text of `Display`, since a program that ends with an error prints its `Debug`.
impl fmt::Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mismatch({self})")
    }
}

impl core::error::Error for Mismatch {}
