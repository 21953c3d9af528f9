//! Why a call that is not declared has failed.

use core::fmt;

use alloc::string::{String, ToString};

use super::Value;
use crate::{contract::TypeRef, error::CallError};

/// An argument that is not a value of its parameter's type. `Display` is one sentence.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadArgument {
    /// The parameter, and the place within it: `options.names[3]`.
    pub place: String,
    /// The type that is declared there.
    pub expected: String,
    /// What is wrong with what was given.
    pub given: String,
}

impl BadArgument {
    pub(super) fn new(expected: impl fmt::Display, given: &Value<'_>) -> Self {
        let mut text = String::new();
        // Writing to a `String` does not fail.
        let _ = given.describe(&mut text);
        text.push_str(" was given");
        Self::because(expected, text)
    }

    pub(super) fn because(expected: impl fmt::Display, given: impl Into<String>) -> Self {
        Self { place: String::new(), expected: expected.to_string(), given: given.into() }
    }

    /// Puts what is around the place before it.
    pub(super) fn within(mut self, outer: fmt::Arguments<'_>) -> Self {
        self.place = alloc::format!("{outer}{}", self.place);
        self
    }
}

impl fmt::Display for BadArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, expected, given } = self;
        let vowel = expected.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']);
        let article = if vowel || ["f32", "f64"].contains(&&**expected) { "an" } else { "a" };
        write!(f, "`{place}` is {article} {expected}, but {given}")
    }
}

impl fmt::Debug for BadArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BadArgument({self})")
    }
}

impl core::error::Error for BadArgument {}

/// The failure of a call that is not declared.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum DynamicError {
    /// The number of arguments is not that of the parameters. Nothing was sent.
    Count {
        /// The function's declaration.
        function: String,
        /// How many parameters it has.
        expected: usize,
        /// How many arguments were given.
        given: usize,
    },
    /// An argument has another type than its parameter. Nothing was sent.
    Argument(BadArgument),
    /// The contract names a type that this version of the crate does not know, nests types more than 32 deep, or gives
    /// one another layout than the ABI. Nothing was sent.
    UnknownType {
        /// The type's name.
        name: String,
    },
    /// The function has returned the error that it declares.
    App(Value<'static>),
    /// The call failed.
    Call(CallError),
}

impl DynamicError {
    #[cold]
    pub(super) fn unknown(of: TypeRef<'_>) -> Self {
        Self::UnknownType { name: of.to_string() }
    }
}

impl From<CallError> for DynamicError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl fmt::Display for DynamicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { function, expected, given } => {
                let s = if *expected == 1 { "" } else { "s" };
                let were = if *given == 1 { "was" } else { "were" };
                write!(f, "{function} has {expected} parameter{s}, but {given} {were} given")
            }
            Self::Argument(error) => error.fmt(f),
            Self::UnknownType { name } => {
                write!(f, "calls with the type {name} can only be made by a declaration")
            }
            Self::App(error) => write!(f, "the function returned the error {error}"),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for DynamicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DynamicError({self})")
    }
}

impl core::error::Error for DynamicError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        // The text is that of the error within, so its source is this one's.
        match self {
            Self::Call(error) => error.source(),
            _ => None,
        }
    }
}
