//! Reads results: copies what the peer has sent, validates the copy, and releases all of it.
//!
//! As in a declared call, every handle is looked at before a bad value fails the result, so that its loan is released
//! (ABI, PS-5). The size of the result, which the peer chooses, is counted against a maximum.

use alloc::{borrow::Cow, boxed::Box, string::String, vec::Vec};

use super::{
    Value,
    check::{argument, is_byte},
};
use crate::{
    abi::Transport,
    contract::{FieldRef, Form, Layout, TypeRef},
    error::{CallError, ErrorKind},
    foreign::ForeignBuf,
    memory::Incoming,
    types::{FfiType, no_secondary},
};

/// Memory for a wire form of `size` bytes, if that and the `values` that may be in it take at most `max` bytes.
pub(super) fn room(size: usize, values: usize, max: usize) -> Result<Vec<u8>, CallError> {
    let all = values.saturating_mul(size_of::<Value<'_>>()).saturating_add(size);
    if all > max {
        return Err(CallError::large_result(all, max));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| CallError::no_heap(size))?;
    bytes.resize(size, 0);
    Ok(bytes)
}

/// Decodes a result or an error that is alone in a transport. `form` has room for its wire form.
pub(super) fn result(
    of: TypeRef<'_>,
    transport: Transport,
    from: Incoming<'_>,
    mut form: Vec<u8>,
    max: usize,
) -> Result<Value<'static>, CallError> {
    let left = max.saturating_sub(form.len());
    let mut decoder = Decoder { from, left, error: None, data: &[] };
    let value = decoder.alone(of, transport, &mut form);
    match (value, decoder.error) {
        (Some(value), None) => Ok(value),
        (_, error) => Err(error.unwrap_or(CallError::new(ErrorKind::BadValue))),
    }
}

type Fields = Vec<(Cow<'static, str>, Value<'static>)>;

struct Decoder<'p> {
    from: Incoming<'p>,
    /// How many bytes the rest of the result may take.
    left: usize,
    /// The first error. After it only handles are looked at.
    error: Option<CallError>,
    /// The data of a packed value that is not read yet.
    data: &'p [u8],
}

impl Decoder<'_> {
    /// The value; or nothing and, if it is the first, its error.
    fn good<T>(&mut self, result: Result<T, CallError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }

    fn bad<T>(&mut self) -> Option<T> {
        self.good(Err(CallError::new(ErrorKind::BadValue)))
    }

    /// Counts `size` bytes.
    fn count(&mut self, size: usize) -> Option<()> {
        match self.left.checked_sub(size) {
            Some(left) => self.left = left,
            None => return self.good(Err(CallError::large_result(size, self.left))),
        }
        Some(())
    }

    /// A vector with room for `count` values, which count.
    fn vec<T>(&mut self, count: usize) -> Option<Vec<T>> {
        let size = count.saturating_mul(size_of::<T>());
        self.count(size)?;
        let mut vec = Vec::new();
        self.good(vec.try_reserve_exact(count).map_err(|_| CallError::no_heap(size)))?;
        Some(vec)
    }

    fn name(&mut self, name: &str) -> Option<Cow<'static, str>> {
        let mut bytes = self.vec::<u8>(name.len())?;
        bytes.extend_from_slice(name.as_bytes());
        self.text(bytes).map(Cow::Owned)
    }

    fn text(&mut self, bytes: Vec<u8>) -> Option<String> {
        self.good(String::from_utf8(bytes).map_err(|_| CallError::new(ErrorKind::BadValue)))
    }

    fn boxed(&mut self, value: Value<'static>) -> Option<Value<'static>> {
        let mut one = self.vec(1)?;
        one.push(value);
        let one: *mut [Value<'static>] = Box::into_raw(one.into_boxed_slice());
        // SAFETY: it was a box of a slice of one value, which has the address and the layout of a box of that value.
        Some(Value::Some(unsafe { Box::from_raw(one.cast::<Value<'static>>()) }))
    }

    fn alone(
        &mut self,
        of: TypeRef<'_>,
        transport: Transport,
        form: &mut [u8],
    ) -> Option<Value<'static>> {
        let Some(layout) = of.layout() else { return self.bad() };
        let Layout { size, align, .. } = layout;
        let (from, word) = (self.from, transport.primary);
        match layout.form {
            Form::Buf | Form::Str | Form::One | Form::Slice | Form::Packed => {
                return self.handle(of, transport);
            }
            Form::Nullable if word == 0 => {
                return self.good(no_secondary(transport)).map(|()| Value::None);
            }
            Form::Nullable => return self.present(of, transport),
            _ => {}
        }
        self.good(no_secondary(transport))?;
        // What is in the register, with the extension that its type has (ABI, TY-3).
        let (signed, width) = match layout.form {
            Form::Int { signed } if size <= 8 => (signed, size),
            Form::Enum { tag, signed, plain: true } => (signed, tag),
            Form::Bool | Form::Char | Form::Float => (false, size),
            _ if size == 0 => {
                self.good(<()>::from_transport(transport, from))?;
                return self.wire(of, &[]);
            }
            _ => {
                let form = form.get_mut(..size)?;
                self.good(from.copy_form(word, align, form))?;
                return self.wire(of, form);
            }
        };
        let unused = 64 - width as u32 * 8;
        let extended = if signed {
            ((word << unused) as i64 >> unused) as u64
        } else {
            word << unused >> unused
        };
        if extended != word {
            return self.bad();
        }
        self.wire(of, word.to_le_bytes().get(..width)?)
    }

    /// A handle in an `Option` that is not `None`.
    fn present(&mut self, of: TypeRef<'_>, transport: Transport) -> Option<Value<'static>> {
        let Some(of) = argument(of) else { return self.bad() };
        let value = self.handle(of, transport)?;
        self.boxed(value)
    }

    /// Takes over a loan, and copies what it has, unless there is an error already. Returning releases it.
    fn handle(&mut self, of: TypeRef<'_>, transport: Transport) -> Option<Value<'static>> {
        let Some(layout) = of.layout() else { return self.bad() };
        // What it refers to: bytes, or values of this type.
        let inner = match layout.form {
            Form::One | Form::Slice | Form::Packed => argument(of),
            _ => None,
        };
        let inner = inner.and_then(|of| Some((of, of.layout()?)));
        let align = match (layout.form, inner) {
            (Form::One | Form::Slice, Some((_, inner))) => inner.align,
            _ => 1,
        };
        let mut sent = transport;
        if let (Form::One, Some((_, inner))) = (layout.form, inner) {
            self.good(no_secondary(transport))?;
            // A value without bytes has a block of one byte (ABI, TY-5).
            sent.secondary = inner.size.max(1) as u64;
        }
        let loan = self.good(ForeignBuf::received(sent, self.from, align))?;
        if self.error.is_some() {
            return None;
        }
        self.count(loan.len())?;
        let bytes = self.good(loan.read_vec())?;
        match (layout.form, inner) {
            (Form::Buf, _) => Some(Value::Bytes(Cow::Owned(bytes))),
            (Form::Str, _) => self.text(bytes).map(|text| Value::Str(Cow::Owned(text))),
            (Form::One, Some((of, inner))) => self.wire(of, bytes.get(..inner.size)?),
            (Form::Slice, Some((_, inner))) if bytes.len() % inner.size != 0 => self.bad(),
            (Form::Slice, Some((of, _))) if is_byte(of) => Some(Value::Bytes(Cow::Owned(bytes))),
            (Form::Slice, Some((of, inner))) => {
                let mut list = self.vec(bytes.len() / inner.size)?;
                for form in bytes.chunks_exact(inner.size) {
                    list.push(self.wire(of, form)?);
                }
                Some(Value::List(list))
            }
            (Form::Packed, Some((of, inner))) => self.packed(of, inner, &bytes),
            _ => self.bad(),
        }
    }

    /// Decodes a local copy of a packed value, which must end with the bytes.
    fn packed(&mut self, of: TypeRef<'_>, layout: Layout, bytes: &[u8]) -> Option<Value<'static>> {
        let Some((fixed, data)) = bytes.split_at_checked(layout.size) else { return self.bad() };
        let Self { from, left, .. } = *self;
        let mut within = Decoder { from, left, error: None, data };
        let value = within.wire(of, fixed);
        let Decoder { left, error, data, .. } = within;
        self.left = left;
        match (value, error) {
            (Some(value), None) if data.is_empty() => Some(value),
            (_, error) => self.good(Err(error.unwrap_or(CallError::new(ErrorKind::BadValue)))),
        }
    }

    /// A copy of the next `len` bytes of data.
    fn next(&mut self, len: u64) -> Option<Vec<u8>> {
        let at = usize::try_from(len).ok().and_then(|len| self.data.split_at_checked(len));
        let Some((bytes, rest)) = at else { return self.bad() };
        let mut copy = self.vec(bytes.len())?;
        copy.extend_from_slice(bytes);
        self.data = rest;
        Some(copy)
    }

    /// The elements of a list in a packed value, which must end where its byte count says.
    fn elements(&mut self, of: TypeRef<'_>, bytes: &[u8]) -> Option<Value<'static>> {
        let Transport { primary: count, secondary: len } = words(bytes);
        let Some(of) = argument(of) else { return self.bad() };
        let size = of.layout().map_or(0, |layout| layout.size);
        let at = usize::try_from(len).ok().and_then(|len| self.data.split_at_checked(len));
        let Some((data, rest)) = at else { return self.bad() };
        // An element has at least its fixed part, so the bytes bound the number of rounds.
        if size == 0 || count > (data.len() / size) as u64 {
            return self.bad();
        }
        if is_byte(of) {
            let all = if count == len { self.next(len) } else { self.bad() };
            return all.map(|bytes| Value::Bytes(Cow::Owned(bytes)));
        }
        self.data = data;
        let mut list = self.vec(count as usize)?;
        for _ in 0..count {
            let Some((fixed, data)) = self.data.split_at_checked(size) else { return self.bad() };
            self.data = data;
            list.push(self.wire(of, fixed)?);
        }
        if !self.data.is_empty() {
            return self.bad();
        }
        self.data = rest;
        Some(Value::List(list))
    }

    /// Decodes a local copy of a wire form.
    fn wire(&mut self, of: TypeRef<'_>, bytes: &[u8]) -> Option<Value<'static>> {
        let Some(layout) = of.layout() else { return self.bad() };
        if self.error.is_some() && !layout.handles {
            return None;
        }
        let from = self.from;
        let value = match layout.form {
            Form::Unit => Ok(Value::Unit),
            Form::Bool => bool::decode(bytes, from).map(Value::Bool),
            Form::Char => char::decode(bytes, from).map(Value::Char),
            Form::Int { signed } => match (signed, layout.size) {
                (false, 1) => u8::decode(bytes, from).map(Value::U8),
                (false, 2) => u16::decode(bytes, from).map(Value::U16),
                (false, 4) => u32::decode(bytes, from).map(Value::U32),
                (false, 8) => u64::decode(bytes, from).map(Value::U64),
                (false, _) => u128::decode(bytes, from).map(Value::U128),
                (true, 1) => i8::decode(bytes, from).map(Value::I8),
                (true, 2) => i16::decode(bytes, from).map(Value::I16),
                (true, 4) => i32::decode(bytes, from).map(Value::I32),
                (true, 8) => i64::decode(bytes, from).map(Value::I64),
                (true, _) => i128::decode(bytes, from).map(Value::I128),
            },
            Form::Float if layout.size == 4 => f32::decode(bytes, from).map(Value::F32),
            Form::Float => f64::decode(bytes, from).map(Value::F64),
            Form::Buf | Form::Str | Form::One | Form::Slice | Form::Packed => {
                return self.handle(of, words(bytes));
            }
            Form::Text => {
                let text = self.next(words(bytes).primary)?;
                return self.text(text).map(|text| Value::Str(Cow::Owned(text)));
            }
            Form::Bytes => {
                return self
                    .next(words(bytes).primary)
                    .map(|bytes| Value::Bytes(Cow::Owned(bytes)));
            }
            Form::List => return self.elements(of, bytes),
            Form::Nullable => {
                let sent = words(bytes);
                return match sent.primary {
                    0 => self.good(no_secondary(sent)).map(|()| Value::None),
                    _ => self.present(of, sent),
                };
            }
            Form::Tagged(at) => {
                let Some(of) = argument(of) else { return self.bad() };
                let tag = u32::decode(bytes.get(..4)?, from);
                return match self.good(tag)? {
                    0 => Some(Value::None),
                    1 => {
                        let value = self.part(of, at, bytes)?;
                        self.boxed(value)
                    }
                    _ => self.bad(),
                };
            }
            Form::Array(_) if argument(of).is_some_and(is_byte) => {
                let mut copy = self.vec(bytes.len())?;
                copy.extend_from_slice(bytes);
                return Some(Value::Bytes(Cow::Owned(copy)));
            }
            Form::Array(len) => {
                let Some(of) = argument(of) else { return self.bad() };
                let size = of.layout().map_or(0, |layout| layout.size);
                return self.list(layout.handles, (0..len).map(|nr| (nr * size, of)), bytes);
            }
            Form::Tuple => return self.list(layout.handles, of.tuple_fields(), bytes),
            Form::Struct => return self.fields(of.fields(), bytes).map(Value::Struct),
            Form::Enum { tag, signed, .. } => {
                let mut word = [0; 8];
                word[..tag].copy_from_slice(bytes.get(..tag)?);
                let unused = 64 - tag as u32 * 8;
                let number = u64::from_le_bytes(word) << unused;
                let number =
                    if signed { (number as i64 >> unused) as u64 } else { number >> unused };
                let place = of.variants().position(|variant| variant.number() == number);
                // The search counts too: the peer chooses the numbers, and how many there are.
                self.count(place.unwrap_or(of.variants().len()) / 8)?;
                let Some(variant) = place.and_then(|place| of.variants().nth(place)) else {
                    return self.bad();
                };
                let fields = self.fields(variant.fields(), bytes)?;
                return Some(Value::Enum(self.name(variant.name())?, fields));
            }
            // It is in no other type, and `call_dynamic` takes it apart.
            Form::Result => return self.bad(),
        };
        self.good(value)
    }

    /// Decodes the type at an offset of a wire form.
    fn part(&mut self, of: TypeRef<'_>, at: usize, bytes: &[u8]) -> Option<Value<'static>> {
        let size = of.layout().map_or(0, |layout| layout.size);
        match bytes.get(at..).and_then(|bytes| bytes.get(..size)) {
            Some(bytes) => self.wire(of, bytes),
            None => self.bad(),
        }
    }

    /// Decodes the values at these offsets, also after an error if there are handles among them.
    fn list<'a>(
        &mut self,
        handles: bool,
        places: impl ExactSizeIterator<Item = (usize, TypeRef<'a>)>,
        bytes: &[u8],
    ) -> Option<Value<'static>> {
        let mut list = if self.error.is_none() { self.vec(places.len()) } else { None };
        for (at, of) in places {
            if list.is_none() && !handles {
                break;
            }
            match (&mut list, self.part(of, at, bytes)) {
                (Some(list), Some(value)) => list.push(value),
                _ => list = None,
            }
        }
        list.map(Value::List)
    }

    /// Decodes all fields, also after an error.
    fn fields<'a>(
        &mut self,
        declared: impl ExactSizeIterator<Item = FieldRef<'a>>,
        bytes: &[u8],
    ) -> Option<Fields> {
        let mut fields = if self.error.is_none() { self.vec(declared.len()) } else { None };
        for field in declared {
            let value = self.part(field.of(), field.offset(), bytes);
            let (Some(all), Some(value)) = (&mut fields, value) else {
                fields = None;
                continue;
            };
            match self.name(field.name()) {
                Some(name) => all.push((name, value)),
                None => fields = None,
            }
        }
        fields
    }
}

/// The pointer word and the byte count of a handle's wire form. A `Foreign<T>` has no byte count.
fn words(bytes: &[u8]) -> Transport {
    let word = |at: usize| match bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
        Some(Ok(word)) => u64::from_le_bytes(word),
        _ => 0,
    };
    Transport { primary: word(0), secondary: word(8) }
}
