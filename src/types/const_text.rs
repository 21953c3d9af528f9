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
