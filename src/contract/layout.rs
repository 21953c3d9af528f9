//! The wire forms of a contract's types, computed by the rules of the ABI ("Types", "Layout") and not taken from the
//! contract.

use super::{
    read::RecordKind,
    walk::{FieldRecord, Index, Size},
};

/// The maximum number of types within each other.
const DEPTH: u8 = 32;

/// A wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// In bytes, as `align`.
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) form: Form,
    /// Whether it contains pointer words.
    pub(crate) handles: bool,
    /// The maximum number of values that are visited to find all handles in it, itself included.
    pub(crate) values: usize,
    /// Whether data lies behind it, so that it can only be a part of a packed value.
    pub(crate) data: bool,
    depth: u8,
}

/// What the bytes of a wire form mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Unit,
    Bool,
    Char,
    /// An integer of `Layout::size` bytes.
    Int {
        signed: bool,
    },
    Float,
    Buf,
    Str,
    /// `Foreign<T>`.
    One,
    /// `ForeignSlice<T>`.
    Slice,
    /// `ForeignPacked<T>`.
    Packed,
    /// `&str`, in a packed value.
    Text,
    /// `&[u8]`, in a packed value.
    Bytes,
    /// `List<T>`, in a packed value.
    List,
    /// An `Option` whose `None` is a null pointer (ABI, TY-10).
    Nullable,
    /// An `Option` with a tag, and the value at this offset in bytes (TY-11).
    Tagged(usize),
    /// Only a function's result (TY-12).
    Result,
    Struct,
    /// So many values of one type (TY-14).
    Array(usize),
    /// Values of the types of its arguments (TY-15).
    Tuple,
    /// An enum, by the size and the sign of its number, and whether it crosses as that number (TY-8) or not (TY-9).
    Enum {
        tag: usize,
        signed: bool,
        plain: bool,
    },
}

impl Layout {
    const fn plain(form: Form, size: usize) -> Self {
        Self {
            size,
            align: if size == 0 { 1 } else { size },
            form,
            handles: false,
            data: false,
            values: 1,
            depth: 0,
        }
    }

    const fn pointer(form: Form, size: usize, depth: u8) -> Self {
        Self { size, align: 8, form, handles: true, data: false, values: 1, depth: depth + 1 }
    }

    const fn with_data(form: Form, size: usize, depth: u8) -> Self {
        Self { handles: false, data: true, ..Self::pointer(form, size, depth) }
    }
}

/// The maximum size in bytes.
const MAX_SIZE: usize = u32::MAX as usize;

impl Layout {
    /// Appends a field; returns its offset in bytes (ABI, L-2). `None` if the size exceeds [`MAX_SIZE`].
    fn append(&mut self, of: Self) -> Option<usize> {
        let at = self.size.checked_next_multiple_of(of.align)?;
        self.size = at.checked_add(of.size).filter(|size| *size <= MAX_SIZE)?;
        self.align = self.align.max(of.align);
        self.handles |= of.handles;
        self.values = self.values.saturating_add(if of.handles { of.values } else { 1 });
        self.data |= of.data;
        self.depth = self.depth.max(of.depth + 1);
        Some(at)
    }
}

/// The form of an integer, by its name.
fn integer(name: &str) -> Option<Layout> {
    let (signed, bits) = (name.starts_with('i'), name.get(1..)?);
    let size = match bits {
        "8" => 1,
        "16" => 2,
        "32" => 4,
        "64" | "size" => 8,
        "128" => 16,
        _ => return None,
    };
    (signed || name.starts_with('u')).then_some(Layout::plain(Form::Int { signed }, size))
}

/// The layout of a type, given those of the types before it. `None` if this crate does not know its name, if types are
/// nested too deeply, or if its sizes and offsets do not follow from the rules.
///
/// A new kind of type has an arm here, and one in each walk of `dynamic`: `check`, `encode`, `decode`.
pub(super) fn of(
    name: &str,
    kind: &RecordKind<'_>,
    earlier: impl Fn(Index) -> Option<Layout>,
) -> Option<Layout> {
    // A packed value has no handles.
    by_rules(name, kind, earlier).filter(|layout| !(layout.handles && layout.data))
}

fn by_rules(
    name: &str,
    kind: &RecordKind<'_>,
    earlier: impl Fn(Index) -> Option<Layout>,
) -> Option<Layout> {
    // A type within another: a `Result` cannot be.
    let inner = |index: Index| {
        earlier(index).filter(|inner| inner.form != Form::Result && inner.depth < DEPTH)
    };
    match kind {
        RecordKind::Builtin(arguments) => match (name, &arguments[..]) {
            ("()", []) => Some(Layout::plain(Form::Unit, 0)),
            ("bool", []) => Some(Layout::plain(Form::Bool, 1)),
            ("char", []) => Some(Layout::plain(Form::Char, 4)),
            ("f32", []) => Some(Layout::plain(Form::Float, 4)),
            ("f64", []) => Some(Layout::plain(Form::Float, 8)),
            ("ForeignBuf", []) => Some(Layout::pointer(Form::Buf, 16, 0)),
            ("ForeignStr", []) => Some(Layout::pointer(Form::Str, 16, 0)),
            ("&str", []) => Some(Layout::with_data(Form::Text, 8, 0)),
            ("&[u8]", []) => Some(Layout::with_data(Form::Bytes, 8, 0)),
            (_, []) => integer(name),
            ("Foreign", [of]) => {
                let of = inner(*of).filter(|of| !of.handles && !of.data)?;
                Some(Layout::pointer(Form::One, 8, of.depth))
            }
            ("ForeignSlice", [of]) => {
                let of = inner(*of).filter(|of| !of.handles && !of.data && of.size != 0)?;
                Some(Layout::pointer(Form::Slice, 16, of.depth))
            }
            ("ForeignPacked", [of]) => {
                let of = inner(*of).filter(|of| !of.handles)?;
                Some(Layout::pointer(Form::Packed, 16, of.depth))
            }
            ("List", [of]) => {
                let of = inner(*of).filter(|of| !of.handles && of.size != 0)?;
                Some(Layout::with_data(Form::List, 16, of.depth))
            }
            ("Option", [of]) => {
                let of = inner(*of)?;
                let depth = of.depth + 1;
                if matches!(of.form, Form::Buf | Form::Str | Form::One | Form::Slice | Form::Packed)
                {
                    return Some(Layout { form: Form::Nullable, values: 2, depth, ..of });
                }
                // A struct of the tag and the value, which is at a multiple of both alignments (TY-11).
                let mut all = Layout::plain(Form::Tagged(of.align.max(4)), 4);
                all.append(of)?;
                let size = all.size.checked_next_multiple_of(all.align)?;
                Some(Layout { size, depth, ..all })
            }
            ("Result", [ok, error]) => {
                let whole = |index| inner(index).filter(|inner| !inner.data);
                let (ok, error) = (whole(*ok)?, whole(*error)?);
                let size = ok.size.max(error.size);
                let handles = ok.handles || error.handles;
                Some(Layout { handles, ..Layout::plain(Form::Result, size) })
            }
            _ => None,
        },
        RecordKind::Array(of, len) => {
            let of = inner(*of)?;
            let len = usize::try_from(*len).ok()?;
            let size = of.size.checked_mul(len).filter(|size| *size <= MAX_SIZE)?;
            // Without elements it has no handles, so one with handles has no more elements than bytes.
            let (handles, data) = (of.handles && len != 0, of.data && len != 0);
            let values = if handles { len.saturating_mul(of.values).saturating_add(1) } else { 1 };
            Some(Layout {
                size,
                form: Form::Array(len),
                handles,
                data,
                values,
                depth: of.depth + 1,
                ..of
            })
        }
        RecordKind::Tuple(fields) => {
            let mut all = Layout::plain(Form::Tuple, 0);
            for field in fields {
                all.append(inner(*field)?)?;
            }
            all.size = all.size.checked_next_multiple_of(all.align)?;
            Some(all)
        }
        RecordKind::Struct(size, fields) => {
            let start = Layout { depth: 0, ..Layout::plain(Form::Struct, 0) };
            let all = with_fields(start, fields, inner)?;
            as_declared(all, *size)
        }
        RecordKind::Enum(size, repr, variants) => {
            let tag = integer(repr).filter(|tag| tag.size <= 8)?;
            let Form::Int { signed } = tag.form else { return None };
            let plain = variants.iter().all(|variant| variant.fields.is_empty());
            let mut all = Layout { form: Form::Enum { tag: tag.size, signed, plain }, ..tag };
            let start = all;
            for variant in variants {
                // The fields of an enum have no handles (TY-13).
                let plain = |index| inner(index).filter(|inner| !inner.handles);
                let one = with_fields(start, &variant.fields, plain)?;
                all.size = all.size.max(one.size);
                all.align = all.align.max(one.align);
                all.data |= one.data;
                all.depth = all.depth.max(one.depth);
            }
            as_declared(all, *size)
        }
    }
}

/// Appends fields to a layout; `None` if one is not at its place (ABI, L-2).
fn with_fields(
    mut all: Layout,
    fields: &[FieldRecord<'_>],
    inner: impl Fn(Index) -> Option<Layout>,
) -> Option<Layout> {
    for field in fields {
        if all.append(inner(field.of)?)? != field.offset as usize {
            return None;
        }
    }
    Some(all)
}

/// Rounds the size up, and compares size and alignment with those of the contract.
fn as_declared(mut all: Layout, declared: Size) -> Option<Layout> {
    all.size = all.size.checked_next_multiple_of(all.align)?;
    (all.size == declared.0 as usize && all.align == declared.1 as usize).then_some(all)
}
