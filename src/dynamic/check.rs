//! Compares values with the types of parameters, before anything is written.

use core::fmt;

use alloc::{borrow::Cow, format, string::String};

use super::{BadArgument, DynamicError, Value};
use crate::contract::{BoundedText, FieldRef, Form, FunctionRef, TypeRef, VariantRef};

/// Checks the number of arguments, and each of them.
pub(super) fn arguments(
    function: FunctionRef<'_>,
    arguments: &[Value<'_>],
) -> Result<(), DynamicError> {
    let (expected, given) = (function.parameters().len(), arguments.len());
    if expected != given {
        return Err(DynamicError::Count { function: format!("{function}"), expected, given });
    }
    for ((name, of), given) in function.parameters().zip(arguments) {
        if of.layout().is_none_or(|layout| layout.form == Form::Result || layout.data) {
            return Err(DynamicError::unknown(of));
        }
        value(given, of)
            .map_err(|bad| DynamicError::Argument(bad.within(format_args!("{}", shown(name)))))?;
    }
    Ok(())
}

/// A name of the peer's, truncated and escaped.
fn shown(name: &str) -> BoundedText {
    let mut text = BoundedText::new();
    text.name(name);
    text
}

/// The type argument of an `Option`, a `Foreign`, a `ForeignSlice`, a `ForeignPacked` or a `List`.
pub(super) fn argument<'a>(of: TypeRef<'a>) -> Option<TypeRef<'a>> {
    of.arguments().next()
}

/// Whether a type is `u8`, an array of which is bytes.
pub(super) fn is_byte(of: TypeRef<'_>) -> bool {
    of.layout().is_some_and(|of| of.size == 1 && of.form == Form::Int { signed: false })
}

/// Whether an integer is a value of `size` bytes.
fn fits((negative, magnitude): (bool, u128), size: usize, signed: bool) -> bool {
    let bits = size as u32 * 8 - u32::from(signed);
    match (negative, signed) {
        (true, false) => magnitude == 0,
        // The least value of a signed type is one more than its greatest away from 0.
        (true, true) => magnitude <= 1 << bits,
        (false, _) => magnitude <= u128::MAX >> (128 - bits),
    }
}

/// Compares a value with a type, and returns how many bytes of data it has in a packed value (ABI, PK-2).
pub(super) fn value(given: &Value<'_>, of: TypeRef<'_>) -> Result<usize, BadArgument> {
    let bad = || Err(BadArgument::new(of, given));
    let Some(layout) = of.layout() else { return bad() };
    let good = match (layout.form, given) {
        (Form::Unit, Value::Unit)
        | (Form::Bool, Value::Bool(_))
        | (Form::Char, Value::Char(_))
        | (Form::Float, Value::F32(_))
        | (Form::Buf, Value::Bytes(_))
        | (Form::Str, Value::Str(_))
        | (Form::Nullable | Form::Tagged(_), Value::None) => true,
        (Form::Int { signed }, given) => {
            given.integer().is_some_and(|given| fits(given, layout.size, signed))
        }
        (Form::Float, Value::F64(given)) => layout.size == 8 || narrow(*given).is_some(),
        (Form::Nullable | Form::Tagged(_), Value::Some(given)) => match argument(of) {
            Some(of) => return value(given, of),
            None => false,
        },
        (Form::One | Form::Packed, given) => match argument(of) {
            Some(of) => return value(given, of),
            None => false,
        },
        (Form::Text, Value::Str(text)) => return Ok(text.len()),
        (Form::Bytes, Value::Bytes(bytes)) => return Ok(bytes.len()),
        (Form::List, Value::Bytes(bytes)) if argument(of).is_some_and(is_byte) => {
            return Ok(bytes.len());
        }
        (Form::List, Value::List(list)) => {
            let Some(of) = argument(of) else { return bad() };
            let size = of.layout().map_or(0, |of| of.size);
            let data = elements(list.iter().map(|given| (given, of)))?;
            return Ok(data.saturating_add(list.len().saturating_mul(size)));
        }
        (Form::Slice, Value::Bytes(_)) => argument(of).is_some_and(is_byte),
        (Form::Slice, Value::List(list)) => match argument(of) {
            Some(of) => return elements(list.iter().map(|given| (given, of))),
            None => false,
        },
        (Form::Array(len), Value::Bytes(bytes)) if argument(of).is_some_and(is_byte) => {
            return count(bytes.len(), len, of);
        }
        (Form::Array(len), Value::List(list)) => {
            count(list.len(), len, of)?;
            let Some(of) = argument(of) else { return bad() };
            return elements(list.iter().map(|given| (given, of)));
        }
        (Form::Tuple, Value::List(list)) => {
            count(list.len(), of.arguments().len(), of)?;
            return elements(list.iter().zip(of.arguments()));
        }
        (Form::Struct, Value::Struct(given)) => return fields(given, of.fields(), of),
        (Form::Enum { .. }, Value::Enum(name, given)) => {
            let Some(variant) = variant(of, name) else {
                return Err(BadArgument::because(of, format!("has no variant {}", shown(name))));
            };
            return fields(given, variant.fields(), of)
                .map_err(|bad| bad.within(format_args!(".{}", shown(name))));
        }
        _ => false,
    };
    if good { Ok(0) } else { bad() }
}

/// Checks the elements of a list, each with its type.
fn elements<'v, 'a>(
    given: impl Iterator<Item = (&'v Value<'v>, TypeRef<'a>)>,
) -> Result<usize, BadArgument> {
    given.enumerate().try_fold(0_usize, |sum, (nr, (given, of))| {
        let data = value(given, of).map_err(|bad| bad.within(format_args!("[{nr}]")))?;
        Ok(sum.saturating_add(data))
    })
}

/// Checks the number of values for an array or a tuple.
fn count(given: usize, expected: usize, of: TypeRef<'_>) -> Result<usize, BadArgument> {
    if given == expected {
        return Ok(0);
    }
    let values = if given == 1 { "value was" } else { "values were" };
    Err(BadArgument::because(of, format!("{given} {values} given for {expected}")))
}

/// The variant with a name.
pub(super) fn variant<'a>(of: TypeRef<'a>, name: &str) -> Option<VariantRef<'a>> {
    of.variants().find(|variant| variant.name() == name)
}

/// A float of 8 bytes as one of 4, if that is exact.
pub(super) fn narrow(value: f64) -> Option<f32> {
    let narrow = value as f32;
    (f64::from(narrow).to_bits() == value.to_bits() || value.is_nan()).then_some(narrow)
}

/// The value that is given for a field: by its name, or by its place if it has none.
pub(super) fn given_for<'v, 'g>(
    given: &'g [(Cow<'v, str>, Value<'v>)],
    nr: usize,
    field: FieldRef<'_>,
) -> Option<&'g Value<'v>> {
    if field.name().is_empty() {
        return given.get(nr).map(|(_, value)| value);
    }
    // Mostly they are in the order of the declaration.
    let here = given.get(nr).filter(|(name, _)| name == field.name());
    here.or_else(|| given.iter().find(|(name, _)| name == field.name())).map(|(_, value)| value)
}

fn fields<'a>(
    given: &[(Cow<'_, str>, Value<'_>)],
    declared: impl ExactSizeIterator<Item = FieldRef<'a>>,
    of: TypeRef<'_>,
) -> Result<usize, BadArgument> {
    let (count, mut data) = (declared.len(), 0_usize);
    for (nr, field) in declared.enumerate() {
        let Some(given) = given_for(given, nr, field) else {
            let missing = format!("the field {} is missing", label(nr, field.name()));
            return Err(BadArgument::because(of, missing));
        };
        let of_field = value(given, field.of())
            .map_err(|bad| bad.within(format_args!(".{}", label(nr, field.name()))))?;
        data = data.saturating_add(of_field);
    }
    if given.len() > count {
        let names = given.iter().map(|(name, _)| &**name);
        let text = format!("{} fields were given: {}", given.len(), List(names));
        return Err(BadArgument::because(of, text));
    }
    Ok(data)
}

/// The name of a field, or its place if it has none.
fn label(nr: usize, name: &str) -> String {
    if name.is_empty() { format!("{nr}") } else { format!("{}", shown(name)) }
}

/// At most eight names, with commas.
struct List<I>(I);

impl<'n, I: Iterator<Item = &'n str> + Clone> fmt::Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nr, name) in self.0.clone().enumerate().take(9) {
            match nr {
                0 => write!(f, "{}", shown(name))?,
                8 => f.write_str(", …")?,
                _ => write!(f, ", {}", shown(name))?,
            }
        }
        Ok(())
    }
}
