//! Writes values that `check` has accepted as wire forms (ABI, "Types").

use super::{
    Value,
    check::{argument, given_for, narrow, value, variant},
};
use crate::{
    abi::{Transport, pointer},
    contract::{Form, FunctionRef, Layout, TypeRef},
    error::{CallError, ErrorKind},
    memory::Outgoing,
};

/// The error for a value that `check` would have refused.
fn unchecked() -> CallError {
    CallError::new(ErrorKind::BadValue)
}

fn layout(of: TypeRef<'_>) -> Result<Layout, CallError> {
    of.layout().ok_or_else(unchecked)
}

/// Encodes the parameters of a call (ABI, "Parameter structs").
pub(super) fn arguments(
    function: FunctionRef<'_>,
    arguments: &[Value<'_>],
    out: &mut Outgoing<'_>,
) -> Result<Transport, CallError> {
    let types = || function.parameters().map(|(_, of)| of);
    match arguments {
        [] => return Ok(Transport::EMPTY),
        [given] => return types().next().map_or(Err(unchecked()), |of| alone(given, of, out)),
        _ => {}
    }
    // Where the next parameter is, in a struct of them.
    let place = |end: usize, of| -> Result<(usize, usize), CallError> {
        let Layout { size, align, .. } = layout(of)?;
        let start = end.next_multiple_of(align);
        Ok((start, start + size))
    };
    let (mut size, mut align) = (0, 1);
    for of in types() {
        size = place(size, of)?.1;
        align = layout(of)?.align.max(align);
    }
    let size = size.next_multiple_of(align);
    if size == 0 {
        return Ok(Transport::EMPTY);
    }
    let word = out.lend_form(size, |bytes, out| {
        let mut end = 0;
        for (of, given) in types().zip(arguments) {
            let at = place(end, of)?;
            whole(given, of, bytes.get_mut(at.0..at.1).ok_or_else(unchecked)?, out)?;
            end = at.1;
        }
        Ok(())
    })?;
    Ok(Transport::word(word))
}

/// Encodes a value alone in a transport.
fn alone(
    given: &Value<'_>,
    of: TypeRef<'_>,
    out: &mut Outgoing<'_>,
) -> Result<Transport, CallError> {
    let Layout { size, form, .. } = layout(of)?;
    match form {
        Form::Buf | Form::Str | Form::One | Form::Slice | Form::Packed | Form::Nullable => {
            handle(given, of, out)
        }
        Form::Int { .. } if size <= 8 => Ok(Transport::word(integer(given)? as u64)),
        Form::Enum { plain: true, .. } => number(given, of).map(Transport::word),
        Form::Bool | Form::Char | Form::Float => {
            let mut word = [0; 8];
            whole(given, of, &mut word[..size], out)?;
            Ok(Transport::word(u64::from_le_bytes(word)))
        }
        _ if size == 0 => Ok(Transport::EMPTY),
        _ => out.lend_form(size, |bytes, out| whole(given, of, bytes, out)).map(Transport::word),
    }
}

/// The bits of an integer, sign-extended.
fn integer(given: &Value<'_>) -> Result<u128, CallError> {
    let (negative, magnitude) = given.integer().ok_or_else(unchecked)?;
    Ok(if negative { magnitude.wrapping_neg() } else { magnitude })
}

/// The number of an enum's variant.
fn number(given: &Value<'_>, of: TypeRef<'_>) -> Result<u64, CallError> {
    let Value::Enum(name, _) = given else { return Err(unchecked()) };
    Ok(variant(of, name).ok_or_else(unchecked)?.number())
}

/// Lends what a handle refers to.
fn handle(
    given: &Value<'_>,
    of: TypeRef<'_>,
    out: &mut Outgoing<'_>,
) -> Result<Transport, CallError> {
    match (layout(of)?.form, given) {
        (Form::Buf | Form::Slice, Value::Bytes(bytes)) => out.lend_bytes(bytes),
        (Form::Str, Value::Str(text)) => out.lend_bytes(text.as_bytes()),
        (Form::Nullable, Value::None) => Ok(Transport::EMPTY),
        (Form::Nullable, Value::Some(given)) => {
            let of = argument(of).ok_or_else(unchecked)?;
            let sent = handle(given, of, out)?;
            // An empty buffer that is present has a word other than 0 (ABI, P-3).
            let primary = if sent.primary == 0 { pointer::EMPTY } else { sent.primary };
            Ok(Transport { primary, ..sent })
        }
        (Form::One, given) => {
            let of = argument(of).ok_or_else(unchecked)?;
            let size = layout(of)?.size;
            // A value without bytes has a block of one byte (TY-5).
            out.lend_form(size.max(1), |bytes, out| {
                whole(given, of, bytes.get_mut(..size).unwrap_or_default(), out)
            })
            .map(Transport::word)
        }
        (Form::Slice, Value::List(list)) => {
            let of = argument(of).ok_or_else(unchecked)?;
            let size = layout(of)?.size;
            let len = list.len().saturating_mul(size);
            if len == 0 {
                return Ok(Transport::EMPTY);
            }
            let primary = out.lend_form(len, |bytes, out| {
                let mut forms = bytes.chunks_exact_mut(size).zip(list);
                forms.try_for_each(|(bytes, given)| whole(given, of, bytes, out))
            })?;
            Ok(Transport { primary, secondary: len as u64 })
        }
        (Form::Packed, given) => {
            let of = argument(of).ok_or_else(unchecked)?;
            let data = value(given, of).map_err(|_| unchecked())?;
            let len = layout(of)?.size.saturating_add(data);
            if len == 0 {
                return Ok(Transport::EMPTY);
            }
            let primary = out.lend_form(len, |mut bytes, out| {
                let fixed = take(&mut bytes, layout(of)?.size)?;
                wire(given, of, fixed, &mut bytes, out)
            })?;
            Ok(Transport { primary, secondary: len as u64 })
        }
        _ => Err(unchecked()),
    }
}

/// Writes a wire form, behind which there is no data, over zeros.
fn whole(
    given: &Value<'_>,
    of: TypeRef<'_>,
    bytes: &mut [u8],
    out: &mut Outgoing<'_>,
) -> Result<(), CallError> {
    wire(given, of, bytes, &mut <&mut [u8]>::default(), out)
}

/// Takes bytes from the beginning of those that are not written yet.
fn take<'b>(rest: &mut &'b mut [u8], len: usize) -> Result<&'b mut [u8], CallError> {
    let all = core::mem::take(rest);
    let (taken, left) = all.split_at_mut_checked(len).ok_or_else(unchecked)?;
    *rest = left;
    Ok(taken)
}

/// Writes a wire form over zeros, and its data, if it is a part of a packed value, to the beginning of `data`.
fn wire(
    given: &Value<'_>,
    of: TypeRef<'_>,
    bytes: &mut [u8],
    data: &mut &mut [u8],
    out: &mut Outgoing<'_>,
) -> Result<(), CallError> {
    match (layout(of)?.form, given) {
        (Form::Unit, _) => {}
        (Form::Bool, Value::Bool(value)) => put(bytes, &[u8::from(*value)]),
        (Form::Char, Value::Char(value)) => put(bytes, &u32::from(*value).to_le_bytes()),
        (Form::Int { .. }, given) => put(bytes, &integer(given)?.to_le_bytes()),
        (Form::Float, given) => match (bytes.len(), given) {
            (4, Value::F32(value)) => put(bytes, &value.to_le_bytes()),
            (4, Value::F64(value)) => {
                put(bytes, &narrow(*value).ok_or_else(unchecked)?.to_le_bytes());
            }
            (_, Value::F32(value)) => put(bytes, &f64::from(*value).to_le_bytes()),
            (_, Value::F64(value)) => put(bytes, &value.to_le_bytes()),
            _ => return Err(unchecked()),
        },
        (
            Form::Buf | Form::Str | Form::One | Form::Slice | Form::Packed | Form::Nullable,
            given,
        ) => {
            let Transport { primary, secondary } = handle(given, of, out)?;
            // A `Foreign<T>` has the pointer word only.
            let mut words = [0; 16];
            put(&mut words, &primary.to_le_bytes());
            put(&mut words[8..], &secondary.to_le_bytes());
            put(bytes, &words);
        }
        (Form::Text, Value::Str(given)) => {
            put(bytes, &(given.len() as u64).to_le_bytes());
            put(take(data, given.len())?, given.as_bytes());
        }
        (Form::Bytes, Value::Bytes(given)) => {
            put(bytes, &(given.len() as u64).to_le_bytes());
            put(take(data, given.len())?, given);
        }
        (Form::List, given) => {
            let before = data.len();
            let count = match given {
                Value::Bytes(given) => {
                    put(take(data, given.len())?, given);
                    given.len()
                }
                Value::List(given) => {
                    let of = argument(of).ok_or_else(unchecked)?;
                    let size = layout(of)?.size;
                    for given in given {
                        wire(given, of, take(data, size)?, data, out)?;
                    }
                    given.len()
                }
                _ => return Err(unchecked()),
            };
            put(bytes, &(count as u64).to_le_bytes());
            let len = (before - data.len()) as u64;
            put(bytes.get_mut(8..).unwrap_or_default(), &len.to_le_bytes());
        }
        (Form::Tagged(_), Value::None) => {}
        (Form::Tagged(at), Value::Some(given)) => {
            put(bytes, &1_u32.to_le_bytes());
            let of = argument(of).ok_or_else(unchecked)?;
            let end = at + layout(of)?.size;
            wire(given, of, bytes.get_mut(at..end).ok_or_else(unchecked)?, data, out)?;
        }
        (Form::Array(_), Value::Bytes(given)) => put(bytes, given),
        (Form::Array(_), Value::List(given)) => {
            let of = argument(of).ok_or_else(unchecked)?;
            let size = layout(of)?.size;
            if size != 0 {
                let mut forms = bytes.chunks_exact_mut(size).zip(given);
                forms.try_for_each(|(bytes, given)| wire(given, of, bytes, data, out))?;
            }
        }
        (Form::Tuple, Value::List(given)) => {
            for ((at, of), given) in of.tuple_fields().zip(given) {
                part(given, of, at, bytes, data, out)?;
            }
        }
        (Form::Struct, Value::Struct(given)) => {
            for (nr, field) in of.fields().enumerate() {
                let given = given_for(given, nr, field).ok_or_else(unchecked)?;
                part(given, field.of(), field.offset(), bytes, data, out)?;
            }
        }
        (Form::Enum { tag, .. }, Value::Enum(name, given)) => {
            let variant = variant(of, name).ok_or_else(unchecked)?;
            put(&mut bytes[..tag], &variant.number().to_le_bytes());
            for (nr, field) in variant.fields().enumerate() {
                let given = given_for(given, nr, field).ok_or_else(unchecked)?;
                part(given, field.of(), field.offset(), bytes, data, out)?;
            }
        }
        _ => return Err(unchecked()),
    }
    Ok(())
}

/// Writes a field at its offset.
fn part(
    given: &Value<'_>,
    of: TypeRef<'_>,
    at: usize,
    bytes: &mut [u8],
    data: &mut &mut [u8],
    out: &mut Outgoing<'_>,
) -> Result<(), CallError> {
    let end = at + layout(of)?.size;
    wire(given, of, bytes.get_mut(at..end).ok_or_else(unchecked)?, data, out)
}

/// Copies as many bytes as fit.
fn put(to: &mut [u8], from: &[u8]) {
    let len = to.len().min(from.len());
    to[..len].copy_from_slice(&from[..len]);
}
