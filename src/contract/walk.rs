//! Walks through the records of a contract, the peer's and this side's in the same way: validates each, and computes its
//! hash.
//!
//! Every type consists of earlier ones, so types are not recursive. All hashes are computed here and none is read: two
//! functions or types are equal if their hashes are equal (ABI, "Signatures").

use core::fmt;

use super::format::{MAX_LEN, flag, kind};
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

/// A record of a type, whose members the visitor has had before.
pub(super) enum TypeHead<'c> {
    Builtin(&'c str),
    /// The type of the elements, and their number.
    Array(Index, u64),
    Tuple,
    Struct(&'c str, Size),
    /// Name, size, and the type of its number.
    Enum(&'c str, Size, &'c str),
}

/// A record of a function, whose parameters the visitor has had before.
#[derive(Clone, Copy, Debug)]
pub(super) struct FunctionHead<'c> {
    flags: u8,
    pub(super) interface: &'c str,
    pub(super) name: &'c str,
    pub(super) returned: Index,
    pub(super) signature: u64,
}

impl FunctionHead<'_> {
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

/// What is done with the records of a contract. A type or a function comes after its members. `Break` ends the walk.
pub(super) trait Visitor<'c> {
    /// The hash of a type, if it has been visited before.
    fn hash(&self, index: Index) -> Option<u64>;

    /// A type argument, or a value of a tuple.
    fn member(&mut self, _: Index) {}

    /// A field of a struct, or of the variant that comes next.
    fn field(&mut self, _: FieldRecord<'c>) {}

    /// A variant, by name and number.
    fn variant(&mut self, _: &'c str, _: u64) {}

    /// A parameter.
    fn parameter(&mut self, _: &'c str, _: Index) {}

    /// A type and its hash. False ends the walk, since there is no room for it.
    fn declare(&mut self, of: TypeHead<'c>, hash: u64) -> bool;

    /// A function.
    fn function(&mut self, _: FunctionHead<'c>) {}
}

/// Walks through a contract.
///
/// # Errors
///
/// [`BadContract`] if the bytes are not a valid contract of at most [`MAX_LEN`] bytes, or if the visitor has no room for its
/// types.
pub(super) fn walk<'c>(bytes: &'c [u8], to: &mut dyn Visitor<'c>) -> Result<(), BadContract> {
    let mut from = Reader { bytes, at: 0 };
    if bytes.len() > MAX_LEN {
        return Err(from.bad("longer than 262144 bytes"));
    }
    for _ in 0..from.u16()? {
        from.record(to)?;
    }
    if from.at == bytes.len() {
        Ok(())
    } else {
        Err(from.bad("trailing bytes after the last record"))
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

    /// Reads the index of a type that was visited before. Returns it and the type's hash.
    fn index(&mut self, to: &dyn Visitor<'c>) -> Result<(Index, u64), BadContract> {
        let at = self.at;
        let index = self.u16()?;
        let what = "the index of a type that is not yet defined";
        to.hash(index).map(|hash| (index, hash)).ok_or(BadContract { at, what })
    }

    /// Reads the next record, a type or a function, which consists of the types before it.
    fn record(&mut self, to: &mut dyn Visitor<'c>) -> Result<(), BadContract> {
        let at = self.at;
        let (head, hash) = match self.u8()? {
            kind::FUNCTION => return self.function(to),
            kind::BUILTIN => {
                let (name, count) = (self.text()?, self.u8()?);
                (TypeHead::Builtin(name), self.members(count, Hasher::new(name), to)?)
            }
            kind::ARRAY => {
                let ((of, hash), len) = (self.index(to)?, self.u64()?);
                (TypeHead::Array(of, len), Hasher::new("array").u64(hash).u64(len))
            }
            kind::TUPLE => {
                let count = self.u8()?;
                let hash = Hasher::new("tuple").u64(count.into());
                (TypeHead::Tuple, self.members(count, hash, to)?)
            }
            kind::STRUCT => {
                let (name, size) = (self.text()?, Size(self.u32()?, self.u32()?));
                // Only a variant's fields may have no names (ABI, CT-5). Without a name, the hash could be that of other
                // fields.
                let hash = self.fields(declared("struct", name, size), true, to)?;
                (TypeHead::Struct(name, size), hash)
            }
            kind::ENUM => {
                let (name, size) = (self.text()?, Size(self.u32()?, self.u32()?));
                let repr = self.text()?;
                let mut hash = declared("enum", name, size).str(repr);
                for _ in 0..self.u16()? {
                    let (name, number) = (self.text()?, self.u64()?);
                    hash = self.fields(hash.str(name).u64(number), false, to)?;
                    to.variant(name, number);
                }
                (TypeHead::Enum(name, size, repr), hash)
            }
            _ => return Err(BadContract { at, what: "unknown kind of record" }),
        };
        if to.declare(head, hash.finish()) {
            Ok(())
        } else {
            Err(BadContract { at, what: "no memory for so many types" })
        }
    }

    /// Reads the indices of `count` types.
    fn members(
        &mut self,
        count: u8,
        mut hash: Hasher,
        to: &mut dyn Visitor<'c>,
    ) -> Result<Hasher, BadContract> {
        for _ in 0..count {
            let (index, member) = self.index(to)?;
            hash = hash.u64(member);
            to.member(index);
        }
        Ok(hash)
    }

    fn fields(
        &mut self,
        mut hash: Hasher,
        named: bool,
        to: &mut dyn Visitor<'c>,
    ) -> Result<Hasher, BadContract> {
        for _ in 0..self.u16()? {
            let (name, offset, (of, field)) = (self.text()?, self.u32()?, self.index(to)?);
            if !name.is_empty() {
                hash = hash.str(name);
            } else if named {
                return Err(self.bad("a field of a struct without a name"));
            }
            hash = hash.u64(offset.into()).u64(field);
            to.field(FieldRecord { name, offset, of });
        }
        Ok(hash)
    }

    fn function(&mut self, to: &mut dyn Visitor<'c>) -> Result<(), BadContract> {
        let at = self.at;
        let flags = self.u8()?;
        if ![flag::SERVES, flag::CALLS, flag::CALLS | flag::OPTIONAL].contains(&flags) {
            return Err(BadContract { at, what: "invalid flags of a function" });
        }
        let (interface, name, count) = (self.text()?, self.text()?, self.u16()?);
        let mut hash = Hasher::new("fn").str(interface).str(name).u64(count.into());
        for _ in 0..count {
            let (name, (of, parameter)) = (self.text()?, self.index(to)?);
            hash = hash.u64(parameter);
            to.parameter(name, of);
        }
        let (returned, result) = self.index(to)?;
        let signature = hash.u64(result).finish();
        to.function(FunctionHead { flags, interface, name, returned, signature });
        Ok(())
    }
}

/// The hash of a declared type before its members.
fn declared(kind: &str, name: &str, size: Size) -> Hasher {
    Hasher::new(kind).str(name).u64(size.0.into()).u64(size.1.into())
}
