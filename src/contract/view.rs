//! A contract as data: its functions, and their types down to the fields.
//!
//! Names may come from a peer, of any length and with any characters. `Display` truncates and escapes them; `name` does
//! not.

use core::fmt;

use alloc::{collections::BTreeSet, vec::Vec};

use super::{
    bounded::BoundedText,
    layout::Layout,
    read::{Contract, FunctionRecord, RecordKind, TypeRecord, VariantRecord},
    walk::{FieldRecord, Index},
};

impl<'c> Contract<'c> {
    /// The functions, in the order of the contract: first those that the side serves.
    pub fn functions(&self) -> impl Iterator<Item = FunctionRef<'_>> {
        self.functions.iter().map(|function| FunctionRef { contract: self, function })
    }

    /// The names of the interfaces, each once, in the order of their first functions.
    #[must_use]
    pub fn interfaces(&self) -> Vec<&'c str> {
        let mut seen = BTreeSet::new();
        let names = self.functions.iter().map(|function| function.interface);
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// All types, each after those that it consists of.
    pub fn types(&self) -> impl Iterator<Item = TypeRef<'_>> {
        (0..self.types.len()).map(|index| TypeRef { contract: self, index: index as Index })
    }

    /// The function that the side serves under this name.
    #[must_use]
    pub fn served(&self, interface: &str, name: &str) -> Option<FunctionRef<'_>> {
        self.functions().find(|function| {
            function.is_served() && function.interface() == interface && function.name() == name
        })
    }
}

/// A function of a [`Contract`]. `Display` shows its declaration, with its interface before its name.
#[derive(Clone, Copy)]
pub struct FunctionRef<'a> {
    contract: &'a Contract<'a>,
    function: &'a FunctionRecord<'a>,
}

impl<'a> FunctionRef<'a> {
    /// The name of its interface.
    #[must_use]
    pub fn interface(self) -> &'a str {
        self.function.interface
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.function.name
    }

    /// Its signature, computed from the declaration in the contract (ABI, "Signatures").
    #[must_use]
    pub fn signature(self) -> u64 {
        self.function.signature
    }

    /// Whether the side serves it. Otherwise the side calls it.
    #[must_use]
    pub fn is_served(self) -> bool {
        self.function.served()
    }

    /// Whether the side calls it if the other side serves it.
    #[must_use]
    pub fn is_optional(self) -> bool {
        self.function.optional()
    }

    /// The names and types of its parameters.
    pub fn parameters(self) -> impl ExactSizeIterator<Item = (&'a str, TypeRef<'a>)> {
        let contract = self.contract;
        self.function
            .parameters
            .iter()
            .map(move |(name, index)| (*name, TypeRef { contract, index: *index }))
    }

    /// The type of its result: `()` if it declares none.
    #[must_use]
    pub fn returned(self) -> TypeRef<'a> {
        TypeRef { contract: self.contract, index: self.function.returned }
    }
}

impl fmt::Display for FunctionRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = BoundedText::new();
        text.put("fn ");
        text.name(self.function.interface);
        text.put("::");
        self.contract.after_fn(&mut text, self.function);
        text.fmt(f)
    }
}

impl fmt::Debug for FunctionRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FunctionRef({self})")
    }
}

/// The kinds of type in a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TypeKind {
    /// A type that needs no declaration, such as `u32` or `Option<u32>`: its name and
    /// [`arguments`](TypeRef::arguments) say what it is.
    Builtin,
    /// An array, with its element's type as [`argument`](TypeRef::arguments) and a [length](TypeRef::array_len).
    Array,
    /// A tuple, with its fields' types as [`arguments`](TypeRef::arguments).
    Tuple,
    /// A declared struct, with [`fields`](TypeRef::fields).
    Struct,
    /// A declared enum, with [`variants`](TypeRef::variants).
    Enum,
}

/// A type of a [`Contract`]. `Display` shows its name with its type arguments.
#[derive(Clone, Copy)]
pub struct TypeRef<'a> {
    contract: &'a Contract<'a>,
    index: Index,
}

impl<'a> TypeRef<'a> {
    fn get(self) -> &'a TypeRecord<'a> {
        self.contract.get(self.index)
    }

    /// Its name, without type arguments; empty for an array or a tuple.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.get().name
    }

    /// Its kind.
    #[must_use]
    pub fn kind(self) -> TypeKind {
        match self.get().kind {
            RecordKind::Builtin(_) => TypeKind::Builtin,
            RecordKind::Array(..) => TypeKind::Array,
            RecordKind::Tuple(_) => TypeKind::Tuple,
            RecordKind::Struct(..) => TypeKind::Struct,
            RecordKind::Enum(..) => TypeKind::Enum,
        }
    }

    /// Its type arguments: the `T` of an `Option<T>`, the type of an array's elements, the types of a tuple's fields. A
    /// declared type has none.
    pub fn arguments(self) -> impl ExactSizeIterator<Item = TypeRef<'a>> {
        let arguments: &[Index] = match &self.get().kind {
            RecordKind::Builtin(arguments) | RecordKind::Tuple(arguments) => arguments,
            RecordKind::Array(of, _) => core::slice::from_ref(of),
            RecordKind::Struct(..) | RecordKind::Enum(..) => &[],
        };
        arguments.iter().map(move |index| TypeRef { contract: self.contract, index: *index })
    }

    /// The number of an array's elements; `None` for another type.
    #[must_use]
    pub fn array_len(self) -> Option<u64> {
        match self.get().kind {
            RecordKind::Array(_, len) => Some(len),
            _ => None,
        }
    }

    /// The fields of a tuple with a [`layout`](Self::layout): their offsets in bytes, and their types.
    pub(crate) fn tuple_fields(self) -> impl ExactSizeIterator<Item = (usize, TypeRef<'a>)> {
        let mut end = 0;
        self.arguments().map(move |of| {
            let (size, align) = of.layout().map_or((0, 1), |layout| (layout.size, layout.align));
            let at = usize::next_multiple_of(end, align);
            end = at + size;
            (at, of)
        })
    }

    /// The fields of a struct; another type has none.
    pub fn fields(self) -> impl ExactSizeIterator<Item = FieldRef<'a>> + Clone {
        let fields: &[FieldRecord<'a>] = match &self.get().kind {
            RecordKind::Struct(_, fields) => fields,
            _ => &[],
        };
        fields.iter().map(move |field| FieldRef { contract: self.contract, field })
    }

    /// The variants of an enum; another type has none.
    pub fn variants(self) -> impl ExactSizeIterator<Item = VariantRef<'a>> {
        let variants: &[VariantRecord<'a>] = match &self.get().kind {
            RecordKind::Enum(_, _, variants) => variants,
            _ => &[],
        };
        variants.iter().map(move |variant| VariantRef { contract: self.contract, variant })
    }

    /// The wire form, if this crate knows all types within, and they have the layout that the ABI gives them.
    pub(crate) fn layout(self) -> Option<Layout> {
        self.get().layout
    }
}

impl fmt::Display for TypeRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = BoundedText::new();
        self.contract.name(&mut text, self.index);
        text.fmt(f)
    }
}

impl fmt::Debug for TypeRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypeRef({self})")
    }
}

/// A field of a struct or of a variant.
#[derive(Clone, Copy)]
pub struct FieldRef<'a> {
    contract: &'a Contract<'a>,
    field: &'a FieldRecord<'a>,
}

impl<'a> FieldRef<'a> {
    /// Its name; empty for the value of a tuple variant.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.field.name
    }

    /// Its type.
    #[must_use]
    pub fn of(self) -> TypeRef<'a> {
        TypeRef { contract: self.contract, index: self.field.of }
    }

    /// Its offset in the wire form, in bytes.
    #[must_use]
    pub fn offset(self) -> usize {
        self.field.offset as usize
    }
}

impl fmt::Debug for FieldRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = BoundedText::new();
        name.name(self.field.name);
        write!(f, "FieldRef({name}: {})", self.of())
    }
}

/// A variant of an enum.
#[derive(Clone, Copy)]
pub struct VariantRef<'a> {
    contract: &'a Contract<'a>,
    variant: &'a VariantRecord<'a>,
}

impl<'a> VariantRef<'a> {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.variant.name
    }

    /// Its number, sign-extended.
    #[must_use]
    pub fn number(self) -> u64 {
        self.variant.number
    }

    /// The fields of its value.
    pub fn fields(self) -> impl ExactSizeIterator<Item = FieldRef<'a>> + Clone {
        self.variant.fields.iter().map(move |field| FieldRef { contract: self.contract, field })
    }
}

impl fmt::Debug for VariantRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = BoundedText::new();
        name.name(self.variant.name);
        write!(f, "VariantRef({name} = {})", self.variant.number as i64)
    }
}
