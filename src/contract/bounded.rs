//! Text for diagnostics that contains names from a peer: bounded in length, with control characters escaped.

use core::fmt::{self, Write};

use alloc::string::String;

/// The maximum number of characters of one name, before escaping.
const NAME: usize = 64;
/// The length in bytes after which a text is truncated.
const TEXT: usize = 600;

/// A text that is truncated when it exceeds [`TEXT`] bytes.
#[derive(Debug)]
pub(crate) struct BoundedText {
    text: String,
    full: bool,
}

impl BoundedText {
    pub(crate) fn new() -> Self {
        Self { text: String::new(), full: false }
    }

    /// Whether the text was truncated, so that further additions are ignored.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Appends trusted text.
    pub(crate) fn put(&mut self, text: &str) {
        if self.full {
            return;
        }
        self.text.push_str(text);
        if self.text.len() > TEXT {
            self.full = true;
            self.text.push('…');
        }
    }

    /// Appends trusted text.
    pub(crate) fn show(&mut self, text: fmt::Arguments<'_>) {
        if !self.full {
            let _ = self.text.write_fmt(text); // writing to a `String` does not fail
        }
    }

    /// Appends trusted text even if the text was truncated.
    pub(super) fn end(&mut self, text: fmt::Arguments<'_>) {
        self.full = false;
        self.show(text);
    }

    /// Appends a name that the peer may have chosen: truncated and escaped.
    pub(crate) fn name(&mut self, name: &str) {
        if self.full {
            return;
        }
        let mut chars = name.chars();
        for char in chars.by_ref().take(NAME) {
            self.text.extend(char.escape_debug());
        }
        self.put(if chars.next().is_some() { "…" } else { "" });
    }

    pub(crate) fn into_string(self) -> String {
        self.text
    }
}

impl fmt::Display for BoundedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
