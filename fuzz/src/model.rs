//! A second implementation of the receiver's half of the ABI, from `docs/abi.md` and not from the crate: the meaning of a
//! transport, the marks that it leaves, and why it is refused. The targets compare the crate with it.

use vmffi::{
    ErrorKind,
    abi::{Transport, pointer},
};

use super::packed;

/// A type in the ABI.
#[derive(Debug)]
pub enum Ty {
    /// Bytes with any bit pattern, and how they are extended in a transport.
    Number {
        size: usize,
        signed: bool,
    },
    Bool,
    Char,
    /// The size of the integer, and the values of the variants.
    Enum {
        size: usize,
        signed: bool,
        numbers: &'static [i64],
    },
    /// The same, and the fields of each variant.
    Data {
        size: usize,
        variants: &'static [(i64, &'static [Ty])],
    },
    /// A struct or a tuple.
    Struct(&'static [Ty]),
    /// An array, with its length.
    Array(&'static Ty, usize),
    /// A type that crosses as another one: whether a value of that one converts to it.
    Converted(&'static Ty, fn(&[u8]) -> bool),
    Foreign(&'static Ty),
    /// A buffer or a string. The content of a string is validated when it is read.
    Buffer {
        text: bool,
    },
    Slice(&'static Ty),
    /// A packed value, which is validated when it is read.
    Packed(&'static packed::Ty),
    Option(&'static Ty),
}

/// A buffer's wire form: the pointer word, then the byte count.
const BUFFER: (usize, usize) = (16, 8);

impl Ty {
    /// Size and alignment of the wire form (ABI, "Layout").
    pub fn layout(&self) -> (usize, usize) {
        match *self {
            Self::Number { size, .. } | Self::Enum { size, .. } => (size, size),
            Self::Bool => (1, 1),
            Self::Char => (4, 4),
            Self::Data { size, variants } => {
                let (mut len, mut most) = (size, size);
                for (_, fields) in variants {
                    let (end, align) = fields.iter().fold((size, size), |(end, most), field| {
                        let (size, align) = field.layout();
                        (end.next_multiple_of(align) + size, most.max(align))
                    });
                    (len, most) = (len.max(end.next_multiple_of(align)), most.max(align));
                }
                (len.next_multiple_of(most), most)
            }
            Self::Struct(fields) => {
                let (mut end, mut most) = (0_usize, 1);
                for field in fields {
                    let (size, align) = field.layout();
                    (end, most) = (end.next_multiple_of(align) + size, most.max(align));
                }
                (end.next_multiple_of(most), most)
            }
            Self::Array(of, len) => (of.layout().0 * len, of.layout().1),
            Self::Converted(as_ty, _) => as_ty.layout(),
            Self::Foreign(_) => (8, 8),
            Self::Buffer { .. } | Self::Slice(_) | Self::Packed(_) => BUFFER,
            Self::Option(inner) if inner.nullable() => inner.layout(),
            Self::Option(inner) => {
                let (size, align) = inner.layout();
                let most = align.max(4);
                ((4_usize.next_multiple_of(align) + size).next_multiple_of(most), most)
            }
        }
    }

    /// Whether a pointer word of 0 is `None`.
    pub fn nullable(&self) -> bool {
        matches!(self, Self::Foreign(_) | Self::Buffer { .. } | Self::Slice(_) | Self::Packed(_))
    }
}

/// The offset of each field, after `end` bytes that are taken.
pub fn places(fields: &'static [Ty], mut end: usize) -> impl Iterator<Item = (usize, &'static Ty)> {
    fields.iter().map(move |field| {
        let (size, align) = field.layout();
        let at = end.next_multiple_of(align);
        end = at + size;
        (at, field)
    })
}

/// The arena of the sender.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The beginning of the region.
    pub base: *const u8,
    /// The arena's offset and length.
    pub start: u64,
    pub len: u64,
}

impl View {
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        assert!(offset >= self.start && offset + len as u64 <= self.start + self.len);
        let mut bytes = vec![0; len];
        // SAFETY: the region is mapped until the run ends, and the range is within it.
        let from = unsafe { self.base.add(offset as usize) };
        // SAFETY: as above; no other thread runs.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        bytes
    }

    /// Validates a pointer (ABI, "Checks" C-3 and C-4).
    pub fn check(&self, word: u64, len: u64, align: usize) -> Result<u64, ErrorKind> {
        let offset = u128::from(word & 0x00ff_ffff_ffff_ffff);
        let (start, end) = (u128::from(self.start), u128::from(self.start) + u128::from(self.len));
        if offset < start || offset + u128::from(len) > end || offset % align as u128 != 0 {
            return Err(ErrorKind::BadPointer);
        }
        Ok(offset as u64)
    }
}

/// A handle that the receiver has.
#[derive(Clone, Copy, Debug)]
pub struct Lent {
    pub ty: &'static Ty,
    /// 0 for an empty buffer.
    pub word: u64,
    pub len: usize,
}

impl Lent {
    /// What a reader of the handle sees now.
    pub fn look(&self, view: View, seen: &mut Vec<u8>) {
        let bytes = match self.word {
            0 => Vec::new(),
            word => view.read(pointer::offset(word), self.len),
        };
        let mut one = |ty: &'static Ty, wire: &[u8]| {
            let mut validator = Validator::new(view);
            match validator.value(ty, wire) {
                Ok(()) => seen.extend(validator.seen),
                Err(why) => seen.extend([0xee, why as u8]),
            }
        };
        match *self.ty {
            Ty::Foreign(inner) => one(inner, &bytes[..inner.layout().0]),
            Ty::Slice(inner) => {
                let size = inner.layout().0;
                bytes.chunks(size).for_each(|wire| one(inner, wire));
                seen.extend((bytes.len() / size).to_le_bytes());
            }
            Ty::Packed(of) => {
                match of.seen(&bytes) {
                    Some(right) => seen.extend(right),
                    None => seen.extend([0xee, ErrorKind::BadValue as u8]),
                }
                seen.extend(bytes.len().to_le_bytes());
            }
            Ty::Buffer { text: true } if std::str::from_utf8(&bytes).is_err() => {
                seen.extend([0xee, ErrorKind::BadValue as u8]);
            }
            _ => {
                seen.extend(&bytes);
                seen.extend(bytes.len().to_le_bytes());
            }
        }
    }
}

/// Validates what one side has sent, and records what the receiver sees.
#[derive(Debug)]
pub struct Validator {
    view: View,
    /// Every value as bytes, in the form of [`Look`](super::types::Look).
    pub seen: Vec<u8>,
    /// The handles in the order of their fields.
    pub lent: Vec<Lent>,
    /// Loans that are released at once: pointer words and byte counts.
    pub given: Vec<(u64, usize)>,
    /// Unused bytes must be 0: the sender keeps the rules.
    pub strict: bool,
    /// The results of a batch that the parameter struct takes: an offset, and the bytes that are written there.
    pub taken: Vec<(usize, Vec<u8>)>,
}

impl Validator {
    pub fn new(view: View) -> Self {
        let (seen, lent, given, taken) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { view, seen, lent, given, strict: false, taken }
    }

    /// All blocks that the sender has lent: pointer words and byte counts.
    pub fn blocks(&self) -> Vec<(u64, usize)> {
        let lent = self.lent.iter().map(|lent| (lent.word, lent.len));
        self.given.iter().copied().chain(lent).filter(|(word, _)| *word != 0).collect()
    }

    fn padding(&self, bytes: &[u8]) {
        assert!(!self.strict || bytes.iter().all(|byte| *byte == 0), "padding is not zero");
    }

    /// The parameters of a call (ABI, "Parameter structs"). On an error all handles are released.
    pub fn parameters(&mut self, list: &'static [Ty], t: Transport) -> Result<(), ErrorKind> {
        let validated = match list {
            [] if t == Transport::EMPTY => Ok(()),
            [] => Err(ErrorKind::BadValue),
            [one] => return self.transport(one, t),
            _ => self.block(t, Ty::Struct(list).layout(), |me, wire| me.fields(list, 0, wire)),
        };
        self.close(validated)
    }

    /// A value alone in a transport. On an error all handles are released.
    pub fn transport(&mut self, ty: &'static Ty, t: Transport) -> Result<(), ErrorKind> {
        let validated = self.alone(ty, t);
        self.close(validated)
    }

    fn close(&mut self, validated: Result<(), ErrorKind>) -> Result<(), ErrorKind> {
        if validated.is_err() {
            self.given.extend(self.lent.drain(..).map(|lent| (lent.word, lent.len)));
        }
        validated
    }

    fn alone(&mut self, ty: &'static Ty, t: Transport) -> Result<(), ErrorKind> {
        let register = |signed: bool, size: usize| {
            let shift = 64 - 8 * size as u32;
            let extended = match signed {
                true => ((t.primary << shift) as i64 >> shift) as u64,
                false => t.primary << shift >> shift,
            };
            if t.secondary == 0 && extended == t.primary {
                Ok(())
            } else {
                Err(ErrorKind::BadValue)
            }
        };
        let bytes = t.primary.to_le_bytes();
        match *ty {
            Ty::Number { size, .. } if size > 8 => self.behind(ty, t),
            Ty::Number { size, signed } => {
                register(signed, size)?;
                self.value(ty, &bytes[..size])
            }
            Ty::Bool => register(false, 1).and_then(|()| self.value(ty, &bytes[..1])),
            Ty::Char => register(false, 4).and_then(|()| self.value(ty, &bytes[..4])),
            Ty::Enum { size, signed, .. } => {
                register(signed, size)?;
                self.value(ty, &bytes[..size])
            }
            Ty::Foreign(_) if t.secondary != 0 => Err(ErrorKind::BadValue),
            Ty::Foreign(_) | Ty::Buffer { .. } | Ty::Slice(_) | Ty::Packed(_) => {
                self.handle(ty, t.primary, t.secondary)
            }
            Ty::Option(inner) if inner.nullable() && t.primary == 0 => {
                self.seen.push(0);
                if t.secondary == 0 { Ok(()) } else { Err(ErrorKind::BadValue) }
            }
            Ty::Option(inner) if inner.nullable() => {
                self.seen.push(1);
                self.alone(inner, t)
            }
            Ty::Converted(as_ty, valid) => self.converted(valid, |me| me.alone(as_ty, t)),
            Ty::Data { .. } | Ty::Struct(_) | Ty::Array(..) | Ty::Option(_) => self.behind(ty, t),
        }
    }

    fn behind(&mut self, ty: &'static Ty, t: Transport) -> Result<(), ErrorKind> {
        self.block(t, ty.layout(), |me, wire| me.value(ty, wire))
    }

    /// A wire form in a block of its own, which is released (ABI, "Types" TY-2).
    fn block(
        &mut self,
        t: Transport,
        (size, align): (usize, usize),
        validate: impl FnOnce(&mut Self, &[u8]) -> Result<(), ErrorKind>,
    ) -> Result<(), ErrorKind> {
        if t.secondary != 0 || size == 0 && t.primary != 0 {
            return Err(ErrorKind::BadValue);
        }
        let mut wire = Vec::new();
        if size != 0 {
            let offset = self.view.check(t.primary, size as u64, align)?;
            wire = self.view.read(offset, size);
            self.given.push((t.primary, size));
        }
        // In the copy, before it is validated (ABI, "Batches" BT-6 and BT-8).
        for (at, bytes) in std::mem::take(&mut self.taken) {
            let place = wire.get_mut(at..).and_then(|wire| wire.get_mut(..bytes.len()));
            place.ok_or(ErrorKind::BadValue)?.copy_from_slice(&bytes);
        }
        validate(self, &wire)
    }

    /// All fields are validated before the first bad one is reported.
    fn fields(&mut self, list: &'static [Ty], from: usize, wire: &[u8]) -> Result<(), ErrorKind> {
        let (mut validated, mut end) = (Ok(()), from);
        for (at, ty) in places(list, from) {
            self.padding(&wire[end..at]);
            end = at + ty.layout().0;
            validated = validated.and(self.value(ty, &wire[at..end]));
        }
        self.padding(&wire[end..]);
        validated
    }

    /// A wire form.
    fn value(&mut self, ty: &'static Ty, wire: &[u8]) -> Result<(), ErrorKind> {
        let word = |at: usize| u64::from_le_bytes(wire[at..at + 8].try_into().expect("8 bytes"));
        match *ty {
            Ty::Number { .. } => self.see(wire, true),
            Ty::Bool => self.see(wire, wire[0] <= 1),
            Ty::Char => {
                let bits = u32::from_le_bytes(wire.try_into().expect("4 bytes"));
                self.see(wire, bits <= 0x10_ffff && !(0xd800..=0xdfff).contains(&bits))
            }
            Ty::Enum { size, numbers, .. } => {
                let known = numbers.iter().any(|number| number.to_le_bytes()[..size] == *wire);
                self.see(wire, known)
            }
            Ty::Data { size, variants } => {
                let tag = |number: i64| number.to_le_bytes()[..size] == wire[..size];
                let found = variants.iter().find(|(number, _)| tag(*number));
                self.see(&wire[..size], found.is_some())?;
                found.map_or(Ok(()), |(_, fields)| self.fields(fields, size, wire))
            }
            Ty::Struct(fields) => self.fields(fields, 0, wire),
            Ty::Array(of, len) => {
                // Every element is validated before the first bad one is reported.
                let size = of.layout().0;
                let mut validated = Ok(());
                for nth in 0..len {
                    validated = validated.and(self.value(of, &wire[nth * size..(nth + 1) * size]));
                }
                validated
            }
            Ty::Converted(as_ty, valid) => self.converted(valid, |me| me.value(as_ty, wire)),
            Ty::Foreign(_) => self.handle(ty, word(0), 0),
            Ty::Buffer { .. } | Ty::Slice(_) | Ty::Packed(_) => self.handle(ty, word(0), word(8)),
            Ty::Option(inner) if inner.nullable() => {
                let none = word(0) == 0;
                self.seen.push(u8::from(!none));
                match none {
                    true if wire.iter().any(|byte| *byte != 0) => Err(ErrorKind::BadValue),
                    true => Ok(()),
                    false => self.value(inner, wire),
                }
            }
            Ty::Option(inner) => {
                let (size, align) = inner.layout();
                let at = 4_usize.next_multiple_of(align);
                self.padding(&wire[4..at]);
                self.padding(&wire[at + size..]);
                match u32::from_le_bytes(wire[..4].try_into().expect("4 bytes")) {
                    0 => {
                        self.padding(&wire[at..]);
                        self.see(&[0], true)
                    }
                    1 => {
                        self.seen.push(1);
                        self.value(inner, &wire[at..at + size])
                    }
                    _ => Err(ErrorKind::BadValue),
                }
            }
        }
    }

    /// A value of another type, and the value that it converts to.
    fn converted(
        &mut self,
        valid: fn(&[u8]) -> bool,
        validate: impl FnOnce(&mut Self) -> Result<(), ErrorKind>,
    ) -> Result<(), ErrorKind> {
        let from = self.seen.len();
        validate(self)?;
        if valid(&self.seen[from..]) { Ok(()) } else { Err(ErrorKind::BadValue) }
    }

    fn see(&mut self, bytes: &[u8], good: bool) -> Result<(), ErrorKind> {
        self.seen.extend(bytes);
        if good { Ok(()) } else { Err(ErrorKind::BadValue) }
    }

    fn handle(&mut self, ty: &'static Ty, word: u64, count: u64) -> Result<(), ErrorKind> {
        let (len, align, size) = match *ty {
            Ty::Foreign(inner) => (inner.layout().0.max(1) as u64, inner.layout().1, 1),
            Ty::Slice(inner) => (count, inner.layout().1, inner.layout().0 as u64),
            _ => (count, 1, 1),
        };
        let word = if len == 0 { 0 } else { word };
        if len != 0 {
            self.view.check(word, len, align)?;
            if pointer::loan(word) == 0 {
                return Err(ErrorKind::BadPointer);
            }
        }
        if len % size != 0 {
            // The handle was valid, so it is released.
            self.given.push((word, len as usize));
            return Err(ErrorKind::BadValue);
        }
        let lent = Lent { ty, word, len: len as usize };
        lent.look(self.view, &mut self.seen);
        self.lent.push(lent);
        Ok(())
    }
}
