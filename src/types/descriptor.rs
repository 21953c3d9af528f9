//! Constant descriptions of types and functions: names and layouts, from which signatures are hashed (ABI,
//! "Signatures") and contracts are written (ABI, "Contracts"). They are evaluated at compile time and not part of the
//! program.

use crate::abi::{Function, Hasher, bare};

/// The description of a type.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    /// The size of the wire form in bytes. It is 0, and so is the alignment, for types that need no declaration.
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) hash: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A built-in type, and its type arguments.
    Builtin([Option<&'static Shape>; 2]),
    /// The type of the elements, and their number.
    Array(&'static Shape, usize),
    /// The types of the fields.
    Tuple(&'static [&'static Shape]),
    Struct(&'static [Field]),
    Enum {
        /// The integer type of the tag.
        repr: &'static str,
        variants: &'static [Variant],
    },
}

/// A field of a struct or of a variant.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Empty for the value of a tuple variant.
    pub name: &'static str,
    /// The offset in bytes from the beginning of the wire form.
    pub offset: usize,
    pub shape: &'static Shape,
}

/// A variant of an enum.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub name: &'static str,
    /// The number of the variant, sign-extended.
    pub number: u64,
    pub fields: &'static [Field],
}

/// The description of a declared function.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    pub function: Function,
    pub(crate) optional: bool,
    pub(crate) parameters: &'static [(&'static str, &'static Shape)],
    pub(crate) returned: &'static Shape,
}

#[doc(hidden)]
impl Declared {
    /// A placeholder with which lists of functions are initialised.
    pub const NOBODY: Self = Self::new("", "", "[]", &[], &Shape::builtin("()"));

    /// `optional` is the text of the declaration's list of `#[optional]` attributes: `"[]"` if there are none.
    #[must_use]
    pub const fn new(
        interface: &'static str,
        name: &'static str,
        optional: &'static str,
        parameters: &'static [(&'static str, &'static Shape)],
        returned: &'static Shape,
    ) -> Self {
        let mut hash = Hasher::new("fn").name(interface).name(name).u64(parameters.len() as u64);
        let mut i = 0;
        while i < parameters.len() {
            hash = hash.u64(parameters[i].1.hash);
            i += 1;
        }
        let function = Function::new(hash.u64(returned.hash).finish(), interface, name);
        Self { function, optional: optional.len() > "[]".len(), parameters, returned }
    }
}

#[doc(hidden)]
impl Shape {
    /// A built-in type without type arguments.
    #[must_use]
    pub const fn builtin(name: &'static str) -> Self {
        let hash = Hasher::new(name).finish();
        Self { kind: Kind::Builtin([None; 2]), name, size: 0, align: 0, hash }
    }

    /// `name<of>`.
    #[must_use]
    pub const fn of(name: &'static str, of: &'static Shape) -> Self {
        let hash = Hasher::new(name).u64(of.hash).finish();
        Self { kind: Kind::Builtin([Some(of), None]), name, size: 0, align: 0, hash }
    }

    /// `Result<ok, error>`.
    #[must_use]
    pub const fn result(ok: &'static Shape, error: &'static Shape) -> Self {
        let hash = Hasher::new("Result").u64(ok.hash).u64(error.hash).finish();
        let kind = Kind::Builtin([Some(ok), Some(error)]);
        Self { kind, name: "Result", size: 0, align: 0, hash }
    }

    /// `[of; len]`.
    #[must_use]
    pub const fn array(of: &'static Shape, len: usize) -> Self {
        let hash = Hasher::new("array").u64(of.hash).u64(len as u64).finish();
        Self { kind: Kind::Array(of, len), name: "", size: 0, align: 0, hash }
    }

    /// A tuple with at least one field.
    #[must_use]
    pub const fn tuple(fields: &'static [&'static Shape]) -> Self {
        let mut hash = Hasher::new("tuple").u64(fields.len() as u64);
        let mut i = 0;
        while i < fields.len() {
            hash = hash.u64(fields[i].hash);
            i += 1;
        }
        Self { kind: Kind::Tuple(fields), name: "", size: 0, align: 0, hash: hash.finish() }
    }

    /// A struct whose wire form is `W`.
    #[must_use]
    pub const fn structure<W>(name: &'static str, fields: &'static [Field]) -> Self {
        let (size, align) = (size_of::<W>(), align_of::<W>());
        let start = Hasher::new("struct").name(name).u64(size as u64).u64(align as u64);
        let hash = hash_fields(start, fields).finish();
        Self { kind: Kind::Struct(fields), name: bare(name), size, align, hash }
    }

    /// An enum whose wire form is `W`.
    #[must_use]
    pub const fn enumeration<W>(
        name: &'static str,
        repr: &'static str,
        variants: &'static [Variant],
    ) -> Self {
        let (size, align) = (size_of::<W>(), align_of::<W>());
        let mut hash = Hasher::new("enum").name(name).u64(size as u64).u64(align as u64).str(repr);
        let mut i = 0;
        while i < variants.len() {
            let Variant { name, number, fields } = variants[i];
            hash = hash_fields(hash.name(name).u64(number), fields);
            i += 1;
        }
        let (kind, hash) = (Kind::Enum { repr, variants }, hash.finish());
        Self { kind, name: bare(name), size, align, hash }
    }
}

const fn hash_fields(mut hash: Hasher, fields: &[Field]) -> Hasher {
    let mut i = 0;
    while i < fields.len() {
        let Field { name, offset, shape } = fields[i];
        if !name.is_empty() {
            hash = hash.name(name);
        }
        hash = hash.u64(offset as u64).u64(shape.hash);
        i += 1;
    }
    hash
}
