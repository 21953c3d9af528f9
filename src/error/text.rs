//! A text of an error: a string where there is a heap, and a bounded text where there is none.

#[cfg(not(feature = "alloc"))]
use core::num::NonZeroU8;
use core::{fmt, ops::Deref};

/// A text of an error or of a guest's exit, such as the message of a guest's panic, or why a backend failed.
///
/// Without the feature `alloc` it holds at most [`MAX_INLINE`](Self::MAX_INLINE) bytes; what is longer is truncated at a
/// character. With it, it is as long as what it is made from.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ErrorText(Inner);

#[cfg(feature = "alloc")]
type Inner = alloc::string::String;

#[cfg(not(feature = "alloc"))]
type Inner = Inline;

#[cfg(not(feature = "alloc"))]
#[derive(Clone, PartialEq, Eq)]
struct Inline {
    /// The number of bytes, plus 1, so that an `Option` of a text is as large as a text.
    len: NonZeroU8,
    bytes: [u8; ErrorText::MAX_INLINE],
}

#[cfg(not(feature = "alloc"))]
impl Default for Inline {
    fn default() -> Self {
        Self { len: NonZeroU8::MIN, bytes: [0; ErrorText::MAX_INLINE] }
    }
}

impl ErrorText {
    /// The maximum length in bytes without the feature `alloc`.
    pub const MAX_INLINE: usize = 63;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        #[cfg(feature = "alloc")]
        return &self.0;
        #[cfg(not(feature = "alloc"))]
        core::str::from_utf8(&self.0.bytes[..usize::from(self.0.len.get() - 1)]).unwrap_or_default()
    }

    /// The text in `bytes`, in which each sequence that is not UTF-8 is replaced by U+FFFD, without white space at the end.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut text = Self::default();
        for chunk in bytes.trim_ascii_end().utf8_chunks() {
            text.push(chunk.valid());
            if !chunk.invalid().is_empty() {
                text.push("\u{fffd}");
            }
        }
        text
    }

    /// Appends as much of `text` as there is room for.
    pub(crate) fn push(&mut self, text: &str) {
        #[cfg(feature = "alloc")]
        self.0.push_str(text);
        #[cfg(not(feature = "alloc"))]
        {
            let at = usize::from(self.0.len.get() - 1);
            let mut len = text.len().min(Self::MAX_INLINE - at);
            while !text.is_char_boundary(len) {
                len -= 1;
            }
            self.0.bytes[at..at + len].copy_from_slice(&text.as_bytes()[..len]);
            self.0.len = self.0.len.saturating_add(len as u8);
        }
    }
}

impl From<&str> for ErrorText {
    fn from(from: &str) -> Self {
        let mut text = Self::default();
        text.push(from);
        text
    }
}

impl From<fmt::Arguments<'_>> for ErrorText {
    fn from(from: fmt::Arguments<'_>) -> Self {
        let mut text = Self::default();
        // `write_str` below does not fail, so only a `Display` of the arguments can: what it has written before stays.
        let _ = fmt::Write::write_fmt(&mut text, from);
        text
    }
}

impl fmt::Write for ErrorText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

#[cfg(feature = "alloc")]
impl From<alloc::string::String> for ErrorText {
    fn from(text: alloc::string::String) -> Self {
        Self(text)
    }
}

#[cfg(feature = "alloc")]
impl From<ErrorText> for alloc::string::String {
    fn from(text: ErrorText) -> Self {
        text.0
    }
}

impl Deref for ErrorText {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for ErrorText {
    fn as_ref(&self) -> &str {
        self
    }
}

impl PartialEq<str> for ErrorText {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for ErrorText {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
