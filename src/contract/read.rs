//! Reads and validates a contract, the peer's and this side's in the same way.
//!
//! Every type consists of earlier ones, so types are not recursive. The reader computes all hashes itself: two
//! functions or types are equal if their hashes are equal (ABI, "Signatures").

use core::fmt;

use alloc::vec::Vec;

use super::{
    escape::BoundedText,
    format::{MAX_LEN, flag, kind},
    layout::{self, Layout},
};
use crate::abi::Hasher;

/// The error for bytes that are not a valid contract (ABI, "Contracts").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadContract {
    /// The offset of the error in bytes.
    pub at: usize,
    /// The error.
    pub what: &'static str,
}

impl fmt::Display for BadContract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the contract is invalid at byte {}: {}", self.at, self.what)
    }
}

impl core::error::Error for BadContract {}

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

/// The index of a type in the contract, always of an earlier one.
pub(super) type Index = u16;

/// Size and alignment in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u32, pub(super) u32);

#[derive(Clone, Copy, Debug)]
pub(super) struct FieldRecord<'c> {
    pub(super) name: &'c str,
    pub(super) offset: u32,
    pub(super) of: Index,
}

#[derive(Clone, Debug)]
pub(super) struct VariantRecord<'c> {
    pub(super) name: &'c str,
    pub(super) number: u64,
    pub(super) fields: Vec<FieldRecord<'c>>,
}

#[derive(Clone, Debug)]
pub(super) struct FunctionRecord<'c> {
    flags: u8,
    pub(super) interface: &'c str,
    pub(super) name: &'c str,
    pub(super) parameters: Vec<(&'c str, Index)>,
    pub(super) returned: Index,
    pub(super) signature: u64,
}

impl FunctionRecord<'_> {
    pub(super) fn served(&self) -> bool {
        self.flags & flag::SERVES != 0
    }

    pub(super) fn called(&self) -> bool {
        self.flags & flag::CALLS != 0
    }

    pub(super) fn optional(&self) -> bool {
        self.flags & flag::OPTIONAL != 0
    }
}

impl<'c> Contract<'c> {
    /// Reads a contract. The result takes a small multiple of the memory of `bytes`, for any input.
    ///
    /// # Errors
    ///
    /// [`BadContract`] if the bytes are not a valid contract of at most [`MAX_LEN`] bytes.
    pub fn read(bytes: &'c [u8]) -> Result<Self, BadContract> {
        let mut from = Reader { bytes, at: 0 };
        if bytes.len() > MAX_LEN {
            return Err(from.bad("longer than 262144 bytes"));
        }
        let mut contract = Self { types: Vec::new(), functions: Vec::new() };
        for _ in 0..from.u16()? {
            from.record(&mut contract)?;
        }
        if from.at == bytes.len() {
            Ok(contract)
        } else {
            Err(from.bad("trailing bytes after the last record"))
        }
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

struct Reader<'c> {
    bytes: &'c [u8],
    at: usize,
}

impl<'c> Reader<'c> {
    fn bad(&self, what: &'static str) -> BadContract {
        BadContract { at: self.at, what }
    }

    fn take(&mut self, len: usize) -> Result<&'c [u8], BadContract> {
        let end = self.at.checked_add(len).ok_or(self.bad("unexpected end of the contract"))?;
        let bytes =
            self.bytes.get(self.at..end).ok_or(self.bad("unexpected end of the contract"))?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadContract> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, BadContract> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, BadContract> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, BadContract> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, BadContract> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<&'c str, BadContract> {
        let len = self.u16()?;
        let at = self.at;
        let text = core::str::from_utf8(self.take(len.into())?);
        text.map_err(|_| BadContract { at, what: "a name is not UTF-8" })
    }

    /// Reads the index of one of `types`.
    fn index(&mut self, types: &[TypeRecord<'_>]) -> Result<Index, BadContract> {
        let at = self.at;
        let index = self.u16()?;
        if usize::from(index) < types.len() {
            Ok(index)
        } else {
            Err(BadContract { at, what: "the index of a type that is not yet defined" })
        }
    }

    /// Reads the next record, a type or a function, which consists of the types before it.
    fn record(&mut self, to: &mut Contract<'c>) -> Result<(), BadContract> {
        let at = self.at;
        match self.u8()? {
            kind::FUNCTION => to.functions.push(self.function(&to.types)?),
            kind @ (kind::BUILTIN | kind::STRUCT | kind::ENUM) => {
                to.types.push(self.of_kind(kind, &to.types)?);
            }
            kind::ARRAY => {
                let (of, len) = (self.index(&to.types)?, self.u64()?);
                let hash = Hasher::new("array").u64(to.get(of).hash).u64(len).finish();
                let array = TypeRecord::new("", hash, RecordKind::Array(of, len), &to.types);
                to.types.push(array);
            }
            kind::TUPLE => {
                let count = self.u8()?;
                let hash = Hasher::new("tuple").u64(count.into());
                let (hash, fields) = self.types(count, hash, &to.types)?;
                let tuple =
                    TypeRecord::new("", hash.finish(), RecordKind::Tuple(fields), &to.types);
                to.types.push(tuple);
            }
            _ => return Err(BadContract { at, what: "unknown kind of record" }),
        }
        Ok(())
    }

    /// Reads the indices of `count` of `types`.
    fn types(
        &mut self,
        count: u8,
        mut hash: Hasher,
        types: &[TypeRecord<'_>],
    ) -> Result<(Hasher, Vec<Index>), BadContract> {
        let mut indices = Vec::new();
        for _ in 0..count {
            let index = self.index(types)?;
            hash = hash.u64(types[usize::from(index)].hash);
            indices.push(index);
        }
        Ok((hash, indices))
    }

    fn of_kind(
        &mut self,
        kind: u8,
        types: &[TypeRecord<'c>],
    ) -> Result<TypeRecord<'c>, BadContract> {
        let name = self.text()?;
        let declared =
            |of: &str, size: Size| Hasher::new(of).str(name).u64(size.0.into()).u64(size.1.into());
        let (hash, kind) = match kind {
            kind::BUILTIN => {
                let (hash, arguments) = {
                    let count = self.u8()?;
                    self.types(count, Hasher::new(name), types)?
                };
                (hash, RecordKind::Builtin(arguments))
            }
            kind::STRUCT => {
                let size = Size(self.u32()?, self.u32()?);
                let (hash, fields) = self.fields(types, declared("struct", size))?;
                // Only a variant's fields may have no names (ABI, CT-5). Without a name, the hash could be that of other fields.
                if fields.iter().any(|field| field.name.is_empty()) {
                    return Err(self.bad("a field of a struct without a name"));
                }
                (hash, RecordKind::Struct(size, fields))
            }
            _ => {
                let size = Size(self.u32()?, self.u32()?);
                let repr = self.text()?;
                let mut hash = declared("enum", size).str(repr);
                let mut variants = Vec::new();
                for _ in 0..self.u16()? {
                    let (name, number) = (self.text()?, self.u64()?);
                    let (next, fields) = self.fields(types, hash.str(name).u64(number))?;
                    hash = next;
                    variants.push(VariantRecord { name, number, fields });
                }
                (hash, RecordKind::Enum(size, repr, variants))
            }
        };
        Ok(TypeRecord::new(name, hash.finish(), kind, types))
    }

    fn fields(
        &mut self,
        types: &[TypeRecord<'_>],
        mut hash: Hasher,
    ) -> Result<(Hasher, Vec<FieldRecord<'c>>), BadContract> {
        let mut fields = Vec::new();
        for _ in 0..self.u16()? {
            let (name, offset, of) = (self.text()?, self.u32()?, self.index(types)?);
            if !name.is_empty() {
                hash = hash.str(name);
            }
            hash = hash.u64(offset.into()).u64(types[usize::from(of)].hash);
            fields.push(FieldRecord { name, offset, of });
        }
        Ok((hash, fields))
    }

    fn function(&mut self, types: &[TypeRecord<'_>]) -> Result<FunctionRecord<'c>, BadContract> {
        let hash_of = |index: Index| types[usize::from(index)].hash;
        let at = self.at;
        let flags = self.u8()?;
        if ![flag::SERVES, flag::CALLS, flag::CALLS | flag::OPTIONAL].contains(&flags) {
            return Err(BadContract { at, what: "invalid flags of a function" });
        }
        let (interface, name, count) = (self.text()?, self.text()?, self.u16()?);
        let mut hash = Hasher::new("fn").str(interface).str(name).u64(count.into());
        let mut parameters = Vec::new();
        for _ in 0..count {
            let (name, of) = (self.text()?, self.index(types)?);
            hash = hash.u64(hash_of(of));
            parameters.push((name, of));
        }
        let returned = self.index(types)?;
        let signature = hash.u64(hash_of(returned)).finish();
        Ok(FunctionRecord { flags, interface, name, parameters, returned, signature })
    }
}
