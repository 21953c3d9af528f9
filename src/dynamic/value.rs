//! Values whose types are known at run time.

use core::fmt::{self, Write as _};

use alloc::{borrow::Cow, boxed::Box, string::String, vec::Vec};

/// An argument or a result of [`Peer::call_dynamic`](crate::Peer::call_dynamic). Texts and bytes may be borrowed.
///
/// | type | value |
/// |---|---|
/// | scalars | their variants; `usize` is `U64`, `isize` is `I64` |
/// | `()` | `Unit` |
/// | `ForeignStr` | `Str` |
/// | `ForeignBuf`, `ForeignSlice<u8>` | `Bytes` |
/// | `ForeignSlice<T>` | `List` |
/// | `ForeignPacked<T>` | the value of the `T` |
/// | `&str`, `&[u8]`, `List<T>` in a packed value | `Str`, `Bytes`, `List`; a `List<u8>` is `Bytes` |
/// | `[u8; N]` | `Bytes` |
/// | `[T; N]`, tuple | `List`, with all values |
/// | `Foreign<T>` | the value of the `T` |
/// | `Option<T>` | `None`, or `Some` |
/// | struct | `Struct`, with all fields, in any order |
/// | enum | `Enum`, with the variant's name and fields; the value of a tuple variant has an empty name |
///
/// `Display` shows a value as Rust would write it. Texts are escaped and everything is truncated after 600 bytes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'v> {
    /// `()`.
    Unit,
    /// A `bool`.
    Bool(bool),
    /// A `char`.
    Char(char),
    /// A `u8`.
    U8(u8),
    /// A `u16`.
    U16(u16),
    /// A `u32`.
    U32(u32),
    /// A `u64`.
    U64(u64),
    /// A `u128`.
    U128(u128),
    /// An `i8`.
    I8(i8),
    /// An `i16`.
    I16(i16),
    /// An `i32`.
    I32(i32),
    /// An `i64`.
    I64(i64),
    /// An `i128`.
    I128(i128),
    /// An `f32`.
    F32(f32),
    /// An `f64`.
    F64(f64),
    /// A text.
    Str(Cow<'v, str>),
    /// Bytes.
    Bytes(Cow<'v, [u8]>),
    /// The values of a slice, an array or a tuple.
    List(Vec<Value<'v>>),
    /// The `None` of an `Option`.
    None,
    /// The `Some` of an `Option`.
    Some(Box<Value<'v>>),
    /// The names and values of the fields.
    Struct(Vec<(Cow<'v, str>, Value<'v>)>),
    /// The name of the variant, and its fields.
    Enum(Cow<'v, str>, Vec<(Cow<'v, str>, Value<'v>)>),
}

macro_rules! from {
    ($($variant:ident $t:ty;)*) => { $(
        impl From<$t> for Value<'_> {
            fn from(value: $t) -> Self {
                Self::$variant(value)
            }
        }
    )* };
}

from! {
    Bool bool; Char char; U8 u8; U16 u16; U32 u32; U64 u64; U128 u128; I8 i8; I16 i16; I32 i32; I64 i64; I128 i128; F32 f32;
    F64 f64;
}

impl From<()> for Value<'_> {
    fn from((): ()) -> Self {
        Self::Unit
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Str(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Str(Cow::Owned(text))
    }
}

impl<'v> From<&'v [u8]> for Value<'v> {
    fn from(bytes: &'v [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Cow::Owned(bytes))
    }
}

impl<'v, T: Into<Value<'v>>> From<Option<T>> for Value<'v> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, |value| Self::Some(Box::new(value.into())))
    }
}

impl<'v> Value<'v> {
    /// A struct with these fields.
    pub fn structure<N: Into<Cow<'v, str>>>(
        fields: impl IntoIterator<Item = (N, Value<'v>)>,
    ) -> Self {
        Self::Struct(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// A variant without fields.
    pub fn variant(name: impl Into<Cow<'v, str>>) -> Self {
        Self::Enum(name.into(), Vec::new())
    }

    /// The magnitude of an integer, and whether it is negative.
    pub(super) fn integer(&self) -> Option<(bool, u128)> {
        let signed = |value: i128| Some((value < 0, value.unsigned_abs()));
        match *self {
            Self::U8(value) => Some((false, value.into())),
            Self::U16(value) => Some((false, value.into())),
            Self::U32(value) => Some((false, value.into())),
            Self::U64(value) => Some((false, value.into())),
            Self::U128(value) => Some((false, value)),
            Self::I8(value) => signed(value.into()),
            Self::I16(value) => signed(value.into()),
            Self::I32(value) => signed(value.into()),
            Self::I64(value) => signed(value.into()),
            Self::I128(value) => signed(value),
            _ => None,
        }
    }

    /// What a message says that was given.
    pub(super) fn describe(&self, text: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::Unit => text.write_str("()"),
            Self::Bool(_) | Self::Char(_) => write!(text, "{self}"),
            Self::U8(_) => write!(text, "the U8 {self}"),
            Self::U16(_) => write!(text, "the U16 {self}"),
            Self::U32(_) => write!(text, "the U32 {self}"),
            Self::U64(_) => write!(text, "the U64 {self}"),
            Self::U128(_) => write!(text, "the U128 {self}"),
            Self::I8(_) => write!(text, "the I8 {self}"),
            Self::I16(_) => write!(text, "the I16 {self}"),
            Self::I32(_) => write!(text, "the I32 {self}"),
            Self::I64(_) => write!(text, "the I64 {self}"),
            Self::I128(_) => write!(text, "the I128 {self}"),
            Self::F32(_) => write!(text, "the F32 {self}"),
            Self::F64(_) => write!(text, "the F64 {self}"),
            Self::Str(_) => write!(text, "the text {self}"),
            Self::Bytes(bytes) => write!(text, "{} bytes", bytes.len()),
            Self::List(list) => write!(text, "a list of {}", list.len()),
            Self::None => text.write_str("None"),
            Self::Some(_) => write!(text, "{self}"),
            Self::Struct(_) => write!(text, "the struct {self}"),
            Self::Enum(..) => write!(text, "the variant {self}"),
        }
    }
}

/// The length in bytes after which a displayed value is truncated.
const SHOWN: usize = 600;

/// A writer that ends with an ellipsis when a text has more than [`SHOWN`] bytes.
struct Bounded<'f, 'g> {
    to: &'f mut fmt::Formatter<'g>,
    room: usize,
}

impl fmt::Write for Bounded<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if self.room == 0 {
                // The error ends the walk; `Display` has written the ellipsis.
                self.to.write_str("…")?;
                return Err(fmt::Error);
            }
            self.room = self.room.saturating_sub(char.len_utf8());
            self.to.write_char(char)?;
        }
        Ok(())
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut to = Bounded { to: f, room: SHOWN };
        match self.show(&mut to) {
            Err(error) if to.room != 0 => Err(error),
            _ => Ok(()),
        }
    }
}

impl Value<'_> {
    fn show(&self, to: &mut Bounded<'_, '_>) -> fmt::Result {
        match self {
            Self::Unit => to.write_str("()"),
            Self::Bool(value) => write!(to, "{value}"),
            Self::Char(value) => write!(to, "{value:?}"),
            Self::U8(value) => write!(to, "{value}"),
            Self::U16(value) => write!(to, "{value}"),
            Self::U32(value) => write!(to, "{value}"),
            Self::U64(value) => write!(to, "{value}"),
            Self::U128(value) => write!(to, "{value}"),
            Self::I8(value) => write!(to, "{value}"),
            Self::I16(value) => write!(to, "{value}"),
            Self::I32(value) => write!(to, "{value}"),
            Self::I64(value) => write!(to, "{value}"),
            Self::I128(value) => write!(to, "{value}"),
            Self::F32(value) => write!(to, "{value:?}"),
            Self::F64(value) => write!(to, "{value:?}"),
            Self::Str(value) => write!(to, "{value:?}"),
            Self::Bytes(bytes) => write!(to, "b\"{}\"", bytes.escape_ascii()),
            Self::List(list) => {
                to.write_str("[")?;
                for (nr, value) in list.iter().enumerate() {
                    to.write_str(if nr == 0 { "" } else { ", " })?;
                    value.show(to)?;
                }
                to.write_str("]")
            }
            Self::None => to.write_str("None"),
            Self::Some(value) => {
                to.write_str("Some(")?;
                value.show(to)?;
                to.write_str(")")
            }
            Self::Struct(fields) => show_fields(fields, to),
            Self::Enum(name, fields) => {
                write!(to, "{}", name.escape_debug())?;
                if fields.is_empty() { Ok(()) } else { show_fields(fields, to) }
            }
        }
    }
}

/// `(…)` if the fields have no names, else `{ … }`.
fn show_fields(fields: &[(Cow<'_, str>, Value<'_>)], to: &mut Bounded<'_, '_>) -> fmt::Result {
    let nameless = fields.first().is_some_and(|(name, _)| name.is_empty());
    to.write_str(if nameless { "(" } else { " { " })?;
    for (nr, (name, value)) in fields.iter().enumerate() {
        to.write_str(if nr == 0 { "" } else { ", " })?;
        if !name.is_empty() {
            write!(to, "{}: ", name.escape_debug())?;
        }
        value.show(to)?;
    }
    to.write_str(if nameless { ")" } else { " }" })
}
