//! The records of a contract, read and written by `docs/abi.md`, and the signatures of its functions.

pub(super) type Name = Vec<u8>;
pub(super) type Fields = Vec<(Name, u32, u16)>;

/// A record of a contract (ABI, "Contracts" CT-5).
#[derive(Clone, Debug)]
pub(super) enum Record {
    Builtin(Name, Vec<u16>),
    Array(u16, u64),
    Tuple(Vec<u16>),
    Struct(Name, [u32; 2], Fields),
    Enum(Name, [u32; 2], Name, Vec<(Name, u64, Fields)>),
    Function(u8, [Name; 2], Vec<(Name, u16)>, u16),
}

/// Reads numbers and texts until the bytes end.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, len: usize) -> Option<u64> {
        let bytes = self.take(len)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn name(&mut self) -> Option<Name> {
        let len = self.number(2)?;
        let name = self.take(len as usize)?;
        std::str::from_utf8(name).ok()?;
        Some(name.to_vec())
    }

    fn size(&mut self) -> Option<[u32; 2]> {
        Some([self.number(4)? as u32, self.number(4)? as u32])
    }

    /// A list whose length is the number before it.
    fn list<T>(
        &mut self,
        count: usize,
        mut one: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        (0..self.number(count)?).map(|_| one(self)).collect()
    }

    fn fields(&mut self, ty: impl Fn(&mut Self) -> Option<u16>) -> Option<Fields> {
        self.list(2, |from| Some((from.name()?, from.number(4)? as u32, ty(from)?)))
    }
}

/// The records of a contract, or `None` if it is invalid.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Record>> {
    if bytes.len() > 1 << 18 {
        return None;
    }
    let mut from = Bytes(bytes);
    let (mut records, mut types) = (Vec::new(), 0);
    for _ in 0..from.number(2)? {
        let ty = |from: &mut Bytes<'_>| from.number(2).filter(|ty| *ty < types).map(|ty| ty as u16);
        let kind = from.number(1)?;
        let record = match kind {
            0 => Record::Builtin(from.name()?, from.list(1, ty)?),
            1 => {
                let (name, size, fields) = (from.name()?, from.size()?, from.fields(ty)?);
                // ABI, CT-5.
                if fields.iter().any(|(name, ..)| name.is_empty()) {
                    return None;
                }
                Record::Struct(name, size, fields)
            }
            2 => Record::Enum(
                from.name()?,
                from.size()?,
                from.name()?,
                from.list(2, |from| Some((from.name()?, from.number(8)?, from.fields(ty)?)))?,
            ),
            3 => {
                let flags = from.number(1).filter(|flags| matches!(flags, 1 | 2 | 6))? as u8;
                let names = [from.name()?, from.name()?];
                let parameters = from.list(2, |from| Some((from.name()?, ty(from)?)))?;
                Record::Function(flags, names, parameters, ty(&mut from)?)
            }
            4 => Record::Array(ty(&mut from)?, from.number(8)?),
            5 => Record::Tuple(from.list(1, ty)?),
            _ => return None,
        };
        types += u64::from(kind != 3);
        records.push(record);
    }
    from.0.is_empty().then_some(records)
}

pub(super) fn write(records: &[Record]) -> Vec<u8> {
    let mut to = Vec::new();
    let name = |to: &mut Vec<u8>, name: &Name| {
        to.extend((name.len() as u16).to_le_bytes());
        to.extend(name);
    };
    let fields = |to: &mut Vec<u8>, fields: &Fields| {
        to.extend((fields.len() as u16).to_le_bytes());
        for (of, offset, ty) in fields {
            name(to, of);
            to.extend(offset.to_le_bytes());
            to.extend(ty.to_le_bytes());
        }
    };
    to.extend((records.len() as u16).to_le_bytes());
    for record in records {
        match record {
            Record::Builtin(of, arguments) => {
                to.push(0);
                name(&mut to, of);
                to.push(arguments.len() as u8);
                arguments.iter().for_each(|ty| to.extend(ty.to_le_bytes()));
            }
            Record::Array(of, len) => {
                to.push(4);
                to.extend(of.to_le_bytes());
                to.extend(len.to_le_bytes());
            }
            Record::Tuple(types) => {
                to.extend([5, types.len() as u8]);
                types.iter().for_each(|ty| to.extend(ty.to_le_bytes()));
            }
            Record::Struct(of, size, of_fields) => {
                to.push(1);
                name(&mut to, of);
                size.iter().for_each(|size| to.extend(size.to_le_bytes()));
                fields(&mut to, of_fields);
            }
            Record::Enum(of, size, repr, variants) => {
                to.push(2);
                name(&mut to, of);
                size.iter().for_each(|size| to.extend(size.to_le_bytes()));
                name(&mut to, repr);
                to.extend((variants.len() as u16).to_le_bytes());
                for (of, number, of_fields) in variants {
                    name(&mut to, of);
                    to.extend(number.to_le_bytes());
                    fields(&mut to, of_fields);
                }
            }
            Record::Function(flags, [interface, of], parameters, returned) => {
                to.extend([3, *flags]);
                name(&mut to, interface);
                name(&mut to, of);
                to.extend((parameters.len() as u16).to_le_bytes());
                for (of, ty) in parameters {
                    name(&mut to, of);
                    to.extend(ty.to_le_bytes());
                }
                to.extend(returned.to_le_bytes());
            }
        }
    }
    to
}

/// The input of a hash (ABI, "Signatures" SG-2 and SG-3).
struct Hash(u64);

impl Hash {
    fn new(kind: &[u8]) -> Self {
        let mut hash = Self(0xcbf2_9ce4_8422_2325);
        hash.text(kind);
        hash
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes(text);
    }

    fn fields(&mut self, fields: &Fields, types: &[u64]) {
        for (name, offset, ty) in fields {
            if !name.is_empty() {
                self.text(name);
            }
            self.number(u64::from(*offset));
            self.number(types[usize::from(*ty)]);
        }
    }

    fn finish(self) -> u64 {
        let mut h = self.0;
        h = (h ^ h >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h = (h ^ h >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        h ^ h >> 31
    }
}

/// The functions of a contract: flags and signatures (ABI, "Signatures" SG-4).
pub(super) fn functions(records: &[Record]) -> Vec<(u8, u64)> {
    let (mut functions, mut types) = (Vec::new(), Vec::new());
    for record in records {
        let declared = |kind: &[u8], name: &Name, size: &[u32; 2]| {
            let mut hash = Hash::new(kind);
            hash.text(name);
            size.iter().for_each(|size| hash.number(u64::from(*size)));
            hash
        };
        types.push(match record {
            Record::Builtin(name, arguments) => {
                let mut hash = Hash::new(name);
                arguments.iter().for_each(|ty| hash.number(types[usize::from(*ty)]));
                hash.finish()
            }
            Record::Array(of, len) => {
                let mut hash = Hash::new(b"array");
                hash.number(types[usize::from(*of)]);
                hash.number(*len);
                hash.finish()
            }
            Record::Tuple(fields) => {
                let mut hash = Hash::new(b"tuple");
                hash.number(fields.len() as u64);
                fields.iter().for_each(|ty| hash.number(types[usize::from(*ty)]));
                hash.finish()
            }
            Record::Struct(name, size, fields) => {
                let mut hash = declared(b"struct", name, size);
                hash.fields(fields, &types);
                hash.finish()
            }
            Record::Enum(name, size, repr, variants) => {
                let mut hash = declared(b"enum", name, size);
                hash.text(repr);
                for (name, number, fields) in variants {
                    hash.text(name);
                    hash.number(*number);
                    hash.fields(fields, &types);
                }
                hash.finish()
            }
            Record::Function(flags, names, parameters, returned) => {
                let mut hash = Hash::new(b"fn");
                names.iter().for_each(|name| hash.text(name));
                hash.number(parameters.len() as u64);
                parameters.iter().for_each(|(_, ty)| hash.number(types[usize::from(*ty)]));
                hash.number(types[usize::from(*returned)]);
                functions.push((*flags, hash.finish()));
                continue;
            }
        });
    }
    functions
}
