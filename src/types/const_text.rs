//! Texts that are formatted in constants, for compile errors.

/// A text of up to 256 bytes; a longer one is truncated.
#[derive(Debug)]
pub struct Text {
    bytes: [u8; 256],
    len: usize,
}

impl Text {
    /// An empty text.
    #[allow(clippy::new_without_default, reason = "a default cannot be made in a constant")]
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; 256], len: 0 }
    }

    /// Appends a text.
    #[must_use]
    pub const fn str(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() && self.len < self.bytes.len() {
            self.bytes[self.len] = bytes[i];
            self.len += 1;
            i += 1;
        }
        self
    }

    /// Appends a number in decimal.
    #[must_use]
    pub const fn num(self, number: usize) -> Self {
        let mut digit = 1;
        while number / digit >= 10 {
            digit *= 10;
        }
        let mut text = self;
        while digit > 0 && text.len < text.bytes.len() {
            text.bytes[text.len] = b'0' + (number / digit % 10) as u8;
            text.len += 1;
            digit /= 10;
        }
        text
    }

    /// The text.
    #[must_use]
    pub const fn get(&self) -> &str {
        match core::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            // The text was truncated inside a character.
            Err(_) => "a text that is too long",
        }
    }
}

/// Compares the size of `what` in bytes with the one in its declaration's `#[size]`.
///
/// # Panics
///
/// If they differ: a compile error, since it is called in constants.
pub const fn pin(what: &str, size: usize, pinned: usize) {
    if size != pinned {
        let text = Text::new()
            .str("`")
            .str(what)
            .str("` has ")
            .num(size)
            .str(" bytes, but its declaration says `#[size(")
            .num(pinned)
            .str(")]`");
        panic!("{}", text.get())
    }
}
