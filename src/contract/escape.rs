//! Texts of a peer, as one line.

use core::fmt::{self, Write};

/// Displays a text from the peer as one line, in which control characters and those that reorder text are escaped.
pub(crate) struct Escaped<'t>(pub(crate) &'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '"' | '\'' | '\\' => f.write_char(char),
            char => write!(f, "{}", char.escape_debug()),
        })
    }
}
