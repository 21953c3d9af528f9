//! Text about a peer: short, whatever the peer says, and without anything that a terminal would obey.

use core::fmt::{self, Write};

use alloc::string::String;

/// The most characters of one name, before they are escaped.
const NAME: usize = 64;
/// About the most bytes of one text.
const TEXT: usize = 600;

/// A text that is cut off where it becomes too long.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    full: bool,
}

impl Text {
    pub(super) fn new() -> Self {
        Self { text: String::new(), full: false }
    }

    /// Whether the text was cut off: then nothing more need be looked at for it.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Adds what is ours.
    pub(super) fn put(&mut self, text: &str) {
        if self.full {
            return;
        }
        self.text.push_str(text);
        if self.text.len() > TEXT {
            self.full = true;
            self.text.push('…');
        }
    }

    /// Adds what is ours.
    pub(super) fn show(&mut self, text: fmt::Arguments<'_>) {
        if !self.full {
            let _ = self.text.write_fmt(text); // a `String` takes everything
        }
    }

    /// Adds what is ours, though the text was cut off before.
    pub(super) fn end(&mut self, text: fmt::Arguments<'_>) {
        self.full = false;
        self.show(text);
    }

    /// Adds a name that the peer may have chosen.
    pub(super) fn name(&mut self, name: &str) {
        if self.full {
            return;
        }
        let mut chars = name.chars();
        for char in chars.by_ref().take(NAME) {
            self.text.extend(char.escape_debug());
        }
        self.put(if chars.next().is_some() { "…" } else { "" });
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
