//! Reads a contract into records, the peer's and this side's in the same way.

use core::{fmt, mem, ops::Deref};

use alloc::vec::Vec;

use super::{
    bounded::BoundedText,
    layout::{self, Layout},
    walk::{BadContract, FieldRecord, FunctionHead, Index, Size, TypeHead, Visitor, walk},
};

/// A contract that was read. `Display` lists its functions and declared types.
///
/// ```
/// use vmffi::{Serve, contract::Contract};
///
/// vmffi::ffi_interface! {
///     pub interface Log { fn line(level: u8, text: ForeignStr) -> u64; }
///     pub interface Screen { #[optional] fn clear(); }
/// }
/// struct Host;
/// # impl Log for Host {
/// #     fn line(&self, _: &vmffi::Peer, _: u8, _: vmffi::ForeignStr) -> Result<u64, vmffi::CallError> { Ok(1) }
/// # }
/// vmffi::serve!(Host: Log; calls Screen);
///
/// let contract = Contract::read(Host::CONTRACT)?;
/// assert_eq!(
///     contract.to_string(),
///     "serves Log::line: fn line(level: u8, text: ForeignStr) -> u64\n\
///      may call Screen::clear: fn clear()\n",
/// );
/// # use vmffi::ForeignStr;
/// # Ok::<(), vmffi::contract::BadContract>(())
/// ```
#[derive(Clone, Debug)]
pub struct Contract<'c> {
    pub(super) types: Vec<TypeRecord<'c>>,
    pub(super) functions: Vec<FunctionRecord<'c>>,
}

#[derive(Clone, Debug)]
pub(super) struct TypeRecord<'c> {
    pub(super) name: &'c str,
    pub(super) hash: u64,
    pub(super) kind: RecordKind<'c>,
    /// `None` if this crate does not know a type within, or if the record does not follow the ABI's rules of layout.
    pub(super) layout: Option<Layout>,
}

impl<'c> TypeRecord<'c> {
    /// A type that consists of some of `types`.
    fn new(name: &'c str, hash: u64, kind: RecordKind<'c>, types: &[Self]) -> Self {
        let layout = layout::of(name, &kind, |index| types[usize::from(index)].layout);
        Self { name, hash, kind, layout }
    }
}

#[derive(Clone, Debug)]
pub(super) enum RecordKind<'c> {
    /// The type arguments.
    Builtin(Vec<Index>),
    /// The type of the elements, and their number.
    Array(Index, u64),
    Tuple(Vec<Index>),
    Struct(Size, Vec<FieldRecord<'c>>),
    Enum(Size, &'c str, Vec<VariantRecord<'c>>),
}

#[derive(Clone, Debug)]
pub(super) struct VariantRecord<'c> {
    pub(super) name: &'c str,
    pub(super) number: u64,
    pub(super) fields: Vec<FieldRecord<'c>>,
}

#[derive(Clone, Debug)]
pub(super) struct FunctionRecord<'c> {
    head: FunctionHead<'c>,
    pub(super) parameters: Vec<(&'c str, Index)>,
}

impl<'c> Deref for FunctionRecord<'c> {
    type Target = FunctionHead<'c>;

    fn deref(&self) -> &FunctionHead<'c> {
        &self.head
    }
}

/// The records so far, and the members of the next one.
#[derive(Default)]
struct Builder<'c> {
    types: Vec<TypeRecord<'c>>,
    functions: Vec<FunctionRecord<'c>>,
    members: Vec<Index>,
    fields: Vec<FieldRecord<'c>>,
    variants: Vec<VariantRecord<'c>>,
    parameters: Vec<(&'c str, Index)>,
}

impl<'c> Visitor<'c> for Builder<'c> {
    fn hash(&self, index: Index) -> Option<u64> {
        self.types.get(usize::from(index)).map(|of| of.hash)
    }

    fn member(&mut self, of: Index) {
        self.members.push(of);
    }

    fn field(&mut self, field: FieldRecord<'c>) {
        self.fields.push(field);
    }

    fn variant(&mut self, name: &'c str, number: u64) {
        self.variants.push(VariantRecord { name, number, fields: mem::take(&mut self.fields) });
    }

    fn parameter(&mut self, name: &'c str, of: Index) {
        self.parameters.push((name, of));
    }

    fn declare(&mut self, of: TypeHead<'c>, hash: u64) -> bool {
        let (name, kind) = match of {
            TypeHead::Builtin(name) => (name, RecordKind::Builtin(mem::take(&mut self.members))),
            TypeHead::Array(of, len) => ("", RecordKind::Array(of, len)),
            TypeHead::Tuple => ("", RecordKind::Tuple(mem::take(&mut self.members))),
            TypeHead::Struct(name, size) => {
                (name, RecordKind::Struct(size, mem::take(&mut self.fields)))
            }
            TypeHead::Enum(name, size, repr) => {
                (name, RecordKind::Enum(size, repr, mem::take(&mut self.variants)))
            }
        };
        self.types.push(TypeRecord::new(name, hash, kind, &self.types));
        true
    }

    fn function(&mut self, head: FunctionHead<'c>) {
        let parameters = mem::take(&mut self.parameters);
        self.functions.push(FunctionRecord { head, parameters });
    }
}

impl<'c> Contract<'c> {
    /// Reads a contract. The result takes a small multiple of the memory of `bytes`, for any input.
    ///
    /// # Errors
    ///
    /// [`BadContract`] if the bytes are not a valid contract of at most [`MAX_LEN`](super::MAX_LEN) bytes.
    pub fn read(bytes: &'c [u8]) -> Result<Self, BadContract> {
        let mut all = Builder::default();
        walk(bytes, &mut all)?;
        Ok(Self { types: all.types, functions: all.functions })
    }

    /// The type with an index of this contract.
    pub(super) fn get(&self, index: Index) -> &TypeRecord<'c> {
        &self.types[usize::from(index)]
    }

    /// Writes a type's name with its angle brackets.
    pub(super) fn name(&self, text: &mut BoundedText, index: Index) {
        self.name_within(text, index, 8);
    }

    fn name_within(&self, text: &mut BoundedText, index: Index, depth: u32) {
        let of = self.get(index);
        text.name(of.name);
        match &of.kind {
            RecordKind::Builtin(arguments) if !arguments.is_empty() => {
                text.put("<");
                self.names_within(text, arguments, depth);
                text.put(">");
            }
            RecordKind::Array(of, len) => {
                text.put("[");
                self.names_within(text, &[*of], depth);
                text.show(format_args!("; {len}]"));
            }
            RecordKind::Tuple(fields) => {
                text.put("(");
                self.names_within(text, fields, depth);
                text.put(if fields.len() == 1 { ",)" } else { ")" });
            }
            _ => {}
        }
    }

    fn names_within(&self, text: &mut BoundedText, types: &[Index], depth: u32) {
        for (nr, of) in types.iter().enumerate() {
            // Bounds the work: each type may name 255 types in turn.
            if text.is_full() {
                return;
            }
            text.put(if nr == 0 { "" } else { ", " });
            match depth.checked_sub(1) {
                Some(depth) => self.name_within(text, *of, depth),
                None => text.put("…"),
            }
        }
    }

    /// Writes a function's declaration.
    pub(super) fn declaration(&self, text: &mut BoundedText, function: &FunctionRecord<'_>) {
        text.put("fn ");
        self.after_fn(text, function);
    }

    /// Writes the part of a declaration from the function's name on.
    pub(super) fn after_fn(&self, text: &mut BoundedText, function: &FunctionRecord<'_>) {
        text.name(function.name);
        text.put("(");
        for (nr, (name, of)) in function.parameters.iter().enumerate() {
            text.put(if nr == 0 { "" } else { ", " });
            text.name(name);
            text.put(": ");
            self.name(text, *of);
        }
        text.put(")");
        if self.get(function.returned).name != "()" {
            text.put(" -> ");
            self.name(text, function.returned);
        }
    }

    /// Writes a declared type with its members from index `from` on; of a built-in type only the name.
    pub(super) fn definition(&self, text: &mut BoundedText, index: Index, from: usize) {
        let of = self.get(index);
        let size = match &of.kind {
            RecordKind::Builtin(_) | RecordKind::Array(..) | RecordKind::Tuple(_) => {
                return self.name(text, index);
            }
            RecordKind::Struct(size, fields) => {
                text.put("struct ");
                text.name(of.name);
                self.fields(text, fields, from);
                size
            }
            RecordKind::Enum(size, repr, variants) => {
                text.put("enum ");
                text.name(of.name);
                text.put(": ");
                text.name(repr);
                text.put(if from == 0 { " {" } else { " { …," });
                for (nr, variant) in variants.iter().enumerate().skip(from) {
                    text.put(if nr == from { " " } else { ", " });
                    text.name(variant.name);
                    text.show(format_args!(" = {}", variant.number as i64));
                    if !variant.fields.is_empty() {
                        self.fields(text, &variant.fields, 0);
                    }
                }
                text.put(" }");
                size
            }
        };
        text.end(format_args!(" of size {}, aligned to {}", size.0, size.1));
    }

    fn fields(&self, text: &mut BoundedText, fields: &[FieldRecord<'_>], from: usize) {
        text.put(if from == 0 { " {" } else { " { …," });
        for (nr, field) in fields.iter().enumerate().skip(from) {
            text.put(if nr == from { " " } else { ", " });
            text.name(field.name);
            text.put(if field.name.is_empty() { "" } else { ": " });
            self.name(text, field.of);
            text.show(format_args!(" at {}", field.offset));
        }
        text.put(" }");
    }
}

impl fmt::Display for Contract<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for function in &self.functions {
            f.write_str(match (function.served(), function.optional()) {
                (true, _) => "serves ",
                (false, false) => "calls ",
                (false, true) => "may call ",
            })?;
            let mut text = BoundedText::new();
            text.name(function.interface);
            text.put("::");
            text.name(function.name);
            text.put(": ");
            self.declaration(&mut text, function);
            writeln!(f, "{text}")?;
        }
        for (index, of) in self.types.iter().enumerate() {
            if matches!(of.kind, RecordKind::Struct(..) | RecordKind::Enum(..)) {
                let mut text = BoundedText::new();
                self.definition(&mut text, index as Index, 0);
                writeln!(f, "{text}")?;
            }
        }
        Ok(())
    }
}
