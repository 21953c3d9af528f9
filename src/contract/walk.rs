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
    let mut from = Reader { bytes, at: 0, bad: None };
    if bytes.len() > MAX_LEN {
        from.fail(0, "longer than 262144 bytes");
    }
    for _ in 0..from.number(2) {
        from.record(to);
        if from.bad.is_some() {
            break;
        }
    }
    if from.at != bytes.len() {
        from.fail(from.at, "trailing bytes after the last record");
    }
    from.bad.map_or(Ok(()), Err)
}

/// Reads a contract. After an error it reads zeros, and the visitor gets nothing more.
struct Reader<'c> {
    bytes: &'c [u8],
    at: usize,
    /// The first error.
    bad: Option<BadContract>,
}

impl<'c> Reader<'c> {
    #[cold]
    #[inline(never)]
    fn fail(&mut self, at: usize, what: &'static str) {
        self.bad.get_or_insert(BadContract { at, what });
    }

    fn take(&mut self, len: usize) -> &'c [u8] {
        let left = self.bytes.get(self.at..).filter(|left| self.bad.is_none() && len <= left.len());
        let Some(left) = left else {
            self.fail(self.at, "unexpected end of the contract");
            return &[];
        };
        self.at += len;
        &left[..len]
    }

    /// Reads a number of up to 8 bytes.
    fn number(&mut self, len: usize) -> u64 {
        self.take(len).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn text(&mut self) -> &'c str {
        let len = self.number(2) as usize;
        let at = self.at;
        core::str::from_utf8(self.take(len)).unwrap_or_else(|_| {
            self.fail(at, "a name is not UTF-8");
            ""
        })
    }

    fn size(&mut self) -> Size {
        Size(self.number(4) as u32, self.number(4) as u32)
    }

    /// Reads the index of a type that was visited before. Returns it and the type's hash.
    fn index(&mut self, to: &dyn Visitor<'c>) -> (Index, u64) {
        let at = self.at;
        let index = self.number(2) as Index;
        let hash = to.hash(index).unwrap_or_else(|| {
            self.fail(at, "the index of a type that is not yet defined");
            0
        });
        (index, hash)
    }

    /// Reads the next record, a type or a function, which consists of the types before it.
    fn record(&mut self, to: &mut dyn Visitor<'c>) {
        let at = self.at;
        let (head, hash) = match self.number(1) as u8 {
            kind::FUNCTION => return self.function(to),
            kind::BUILTIN => {
                let name = self.text();
                let count = self.number(1);
                (TypeHead::Builtin(name), self.members(count, Hasher::new(name), to))
            }
            kind::ARRAY => {
                let ((of, hash), len) = (self.index(to), self.number(8));
                (TypeHead::Array(of, len), Hasher::new("array").u64(hash).u64(len))
            }
            kind::TUPLE => {
                let count = self.number(1);
                let hash = Hasher::new("tuple").u64(count);
                (TypeHead::Tuple, self.members(count, hash, to))
            }
            kind::STRUCT => {
                let (name, size) = (self.text(), self.size());
                // Only a variant's fields may have no names (ABI, CT-5). Without a name, the hash could be that of other
                // fields.
                let hash = self.fields(declared("struct", name, size), true, to);
                (TypeHead::Struct(name, size), hash)
            }
            kind::ENUM => {
                let (name, size, repr) = (self.text(), self.size(), self.text());
                let mut hash = declared("enum", name, size).str(repr);
                for _ in 0..self.number(2) {
                    let (name, number) = (self.text(), self.number(8));
                    hash = self.fields(hash.str(name).u64(number), false, to);
                    if self.bad.is_some() {
                        return;
                    }
                    to.variant(name, number);
                }
                (TypeHead::Enum(name, size, repr), hash)
            }
            _ => return self.fail(at, "unknown kind of record"),
        };
        if self.bad.is_none() && !to.declare(head, hash.finish()) {
            self.fail(at, "no memory for so many types");
        }
    }

    /// Reads the indices of `count` types.
    fn members(&mut self, count: u64, mut hash: Hasher, to: &mut dyn Visitor<'c>) -> Hasher {
        for _ in 0..count {
            let (index, member) = self.index(to);
            if self.bad.is_some() {
                break;
            }
            hash = hash.u64(member);
            to.member(index);
        }
        hash
    }

    fn fields(&mut self, mut hash: Hasher, named: bool, to: &mut dyn Visitor<'c>) -> Hasher {
        for _ in 0..self.number(2) {
            let (name, offset) = (self.text(), self.number(4) as u32);
            let (of, field) = self.index(to);
            if name.is_empty() && named {
                self.fail(self.at, "a field of a struct without a name");
            }
            if self.bad.is_some() {
                break;
            }
            if !name.is_empty() {
                hash = hash.str(name);
            }
            hash = hash.u64(offset.into()).u64(field);
            to.field(FieldRecord { name, offset, of });
        }
        hash
    }

    fn function(&mut self, to: &mut dyn Visitor<'c>) {
        let at = self.at;
        let flags = self.number(1) as u8;
        if ![flag::SERVES, flag::CALLS, flag::CALLS | flag::OPTIONAL].contains(&flags) {
            // If the flags are missing, the error is the end of the contract.
            return self.fail(at, "invalid flags of a function");
        }
        let (interface, name, count) = (self.text(), self.text(), self.number(2));
        let mut hash = Hasher::new("fn").str(interface).str(name).u64(count);
        for _ in 0..count {
            let (name, (of, parameter)) = (self.text(), self.index(to));
            if self.bad.is_some() {
                return;
            }
            hash = hash.u64(parameter);
            to.parameter(name, of);
        }
        let (returned, result) = self.index(to);
        if self.bad.is_none() {
            let signature = hash.u64(result).finish();
            to.function(FunctionHead { flags, interface, name, returned, signature });
        }
    }
}

/// The hash of a declared type before its members.
fn declared(kind: &str, name: &str, size: Size) -> Hasher {
    Hasher::new(kind).str(name).u64(size.0.into()).u64(size.1.into())
}
