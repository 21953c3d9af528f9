//! Writes a contract, at compile time.

use core::ptr;

use super::format::{MAX_LEN, flag, kind};
use crate::{
    abi::bare,
    types::descriptor::{Declared, Field, Kind, Shape},
};

/// The interfaces that a side serves, and those that it calls.
#[derive(Clone, Copy, Debug)]
pub struct Sides {
    /// The served functions, by interface.
    pub serves: &'static [&'static [Declared]],
    /// The called functions, by interface.
    pub calls: &'static [&'static [Declared]],
}

/// The size of the contract in bytes.
///
/// # Panics
///
/// If a limit of the format is exceeded: a compile error, since it is called in constants.
#[must_use]
pub const fn len(sides: Sides) -> usize {
    let mut writer = Writer::<0>::new();
    writer.contract(sides);
    assert!(
        writer.len <= MAX_LEN,
        "the contract of one side exceeds 262,144 bytes: declare fewer functions or types"
    );
    writer.len
}

/// The contract; `LEN` is the result of [`len`].
///
/// # Panics
///
/// As [`len`].
#[must_use]
pub const fn bytes<const LEN: usize>(sides: Sides) -> [u8; LEN] {
    let mut writer = Writer::<LEN>::new();
    writer.contract(sides);
    writer.bytes
}

/// The maximum number of types in one contract.
const MAX_TYPES: usize = 1024;
/// The number of places in which a type's index is looked up; at most half of them are used.
const PLACES: usize = 2 * MAX_TYPES;

/// The contract so far. Bytes beyond `LEN` are only counted.
struct Writer<const LEN: usize> {
    bytes: [u8; LEN],
    len: usize,
    records: usize,
    /// The hashes of the types so far, by type index.
    types: [u64; MAX_TYPES],
    count: usize,
    /// The index of each type, plus 1, at the place that its hash says, or behind it; 0 where there is none. The compiler
    /// interprets this code, so that a search through all types would take most of the time of a large declaration.
    places: [u16; PLACES],
}

impl<const LEN: usize> Writer<LEN> {
    const fn new() -> Self {
        Self {
            bytes: [0; LEN],
            len: 0,
            records: 0,
            types: [0; MAX_TYPES],
            count: 0,
            places: [0; PLACES],
        }
    }

    /// Writes the number of records, and the records: each function after the types that it names.
    const fn contract(&mut self, sides: Sides) {
        self.u16(0);
        self.each(sides.serves, flag::SERVES);
        self.each(sides.calls, flag::CALLS);
        let (end, records) = (self.len, self.records);
        self.len = 0;
        self.u16(records);
        self.len = end;
    }

    const fn each(&mut self, interfaces: &[&[Declared]], flags: u8) {
        let mut i = 0;
        while i < interfaces.len() {
            let mut f = 0;
            while f < interfaces[i].len() {
                self.function(&interfaces[i][f], flags);
                f += 1;
            }
            i += 1;
        }
    }

    const fn function(&mut self, function: &Declared, flags: u8) {
        let mut i = 0;
        while i < function.parameters.len() {
            self.shape(function.parameters[i].1);
            i += 1;
        }
        self.shape(function.returned);
        let optional = flags == flag::CALLS && function.optional;
        self.begin(kind::FUNCTION);
        self.u8(if optional { flags | flag::OPTIONAL } else { flags });
        self.text(function.function.interface);
        self.text(function.function.name);
        self.u16(function.parameters.len());
        let mut i = 0;
        while i < function.parameters.len() {
            let (name, shape) = function.parameters[i];
            self.text(bare(name));
            self.index(shape);
            i += 1;
        }
        self.index(function.returned);
    }

    /// Writes a type after the types that it consists of, unless it is written already.
    const fn shape(&mut self, shape: &'static Shape) {
        if self.is_written(shape) {
            return;
        }
        match shape.kind {
            Kind::Builtin(arguments) => self.builtin(shape.name, arguments),
            Kind::Array(of, len) => {
                self.shape(of);
                self.begin(kind::ARRAY);
                self.index(of);
                self.u64(len as u64);
            }
            Kind::Tuple(fields) => {
                let mut i = 0;
                while i < fields.len() {
                    self.shape(fields[i]);
                    i += 1;
                }
                self.begin(kind::TUPLE);
                self.u8(fields.len() as u8);
                let mut i = 0;
                while i < fields.len() {
                    self.index(fields[i]);
                    i += 1;
                }
            }
            Kind::Struct(fields) => {
                self.types_of_fields(fields);
                self.declared(kind::STRUCT, shape);
                self.fields(fields);
            }
            Kind::Enum { repr, variants } => {
                let mut i = 0;
                while i < variants.len() {
                    self.types_of_fields(variants[i].fields);
                    i += 1;
                }
                self.declared(kind::ENUM, shape);
                self.text(repr);
                self.u16(variants.len());
                let mut i = 0;
                while i < variants.len() {
                    self.text(bare(variants[i].name));
                    self.u64(variants[i].number);
                    self.fields(variants[i].fields);
                    i += 1;
                }
            }
        }
        assert!(self.count < MAX_TYPES, "one side's interfaces name more than 1,024 types");
        self.types[self.count] = shape.hash;
        self.count += 1;
        self.places[self.place(shape)] = self.count as u16;
    }

    const fn builtin(&mut self, name: &str, arguments: [Option<&'static Shape>; 2]) {
        let mut count = 0;
        while count < arguments.len() {
            let Some(argument) = arguments[count] else { break };
            self.shape(argument);
            count += 1;
        }
        self.begin(kind::BUILTIN);
        self.text(name);
        self.u8(count as u8);
        let mut i = 0;
        while i < count {
            if let Some(argument) = arguments[i] {
                self.index(argument);
            }
            i += 1;
        }
    }

    const fn begin(&mut self, kind: u8) {
        self.records += 1;
        self.u8(kind);
    }

    const fn declared(&mut self, kind: u8, shape: &Shape) {
        self.begin(kind);
        self.text(shape.name);
        self.u32(shape.size);
        self.u32(shape.align);
    }

    const fn types_of_fields(&mut self, fields: &[Field]) {
        let mut i = 0;
        while i < fields.len() {
            self.shape(fields[i].shape);
            i += 1;
        }
    }

    const fn fields(&mut self, fields: &[Field]) {
        self.u16(fields.len());
        let mut i = 0;
        while i < fields.len() {
            let Field { name, offset, shape } = fields[i];
            self.text(bare(name));
            self.u32(offset);
            self.index(shape);
            i += 1;
        }
    }

    /// The place of a type: where its index is, or is to be.
    const fn place(&self, shape: &Shape) -> usize {
        let mut place = shape.hash as usize % PLACES;
        while self.places[place] != 0 && self.types[self.places[place] as usize - 1] != shape.hash {
            place = (place + 1) % PLACES;
        }
        place
    }

    const fn is_written(&self, shape: &Shape) -> bool {
        self.places[self.place(shape)] != 0
    }

    const fn index(&mut self, shape: &Shape) {
        match self.places[self.place(shape)] {
            0 => panic!("internal error: a type was named before it was written"),
            next => self.u16(next as usize - 1),
        }
    }

    const fn text(&mut self, text: &str) {
        self.u16(text.len());
        self.put(text.as_bytes());
    }

    const fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    const fn u16(&mut self, value: usize) {
        assert!(
            value <= u16::MAX as usize,
            "a name or a list has more than 65,535 bytes or elements, the limit of a contract"
        );
        self.put(&(value as u16).to_le_bytes());
    }

    const fn u32(&mut self, value: usize) {
        assert!(
            value <= u32::MAX as usize,
            "the size or an offset of a type exceeds 4 GiB, the limit of a contract"
        );
        self.put(&(value as u32).to_le_bytes());
    }

    const fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    const fn put(&mut self, bytes: &[u8]) {
        if self.len + bytes.len() <= LEN {
            // SAFETY: `bytes.len()` bytes behind the first `self.len` are in the array, as compared above.
            let to = unsafe { self.bytes.as_mut_ptr().add(self.len) };
            // SAFETY: as above, and `bytes` is not in the array, which is borrowed mutably. A loop would be interpreted, byte
            // by byte.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        }
        self.len += bytes.len();
    }
}
