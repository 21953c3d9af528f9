//! Lists the functions of a guest, and calls one by name, without a declaration of them.
//!
//! ```text
//! cargo run --example call
//! cargo run --example call -- Bill::sum 10 20 25
//! cargo run --example call -- --guest FILE --backend process Interface::function '{x: 1, y: 2}' '[a, b]' none
//! ```
//!
//! A struct is written `{name: value, …}`, a list `[value, …]`, an enum `Variant`, `Variant{…}` or `Variant(value)`, and an
//! absent option `none`. A text needs quotes only within one of these.

use std::{borrow::Cow, error::Error, path::PathBuf};

use lexopt::ValueExt;
use vmffi::{
    CallError, ForeignSlice, ForeignStr, Peer, SharedSlice,
    contract::{Contract, FieldRef, TypeKind, TypeRef},
    dynamic::Value,
    host::RunOutcome,
    machine::{Backend, Image, MachineBuilder},
};

mod guests;

// What the guest calls. A guest that calls more than this cannot be connected, and the error says what it calls.
vmffi::ffi_interface! {
    pub interface Desk {
        fn print(line: ForeignStr);
        fn prices(first: u32, count: u32) -> ForeignSlice<u32>;
    }
}

struct Shop;

impl Desk for Shop {
    fn print(&self, _guest: &Peer, line: ForeignStr) -> Result<(), CallError> {
        println!("plug-in: {:?}", line.read_string()?);
        Ok(())
    }

    fn prices(&self, guest: &Peer, first: u32, count: u32) -> Result<SharedSlice<u32>, CallError> {
        let mut prices = SharedSlice::new(guest);
        for nr in first..first.saturating_add(count) {
            prices.push(100 + nr % 7)?;
        }
        Ok(prices)
    }
}

vmffi::serve!(Shop: Desk);

fn main() -> Result<(), Box<dyn Error>> {
    let (mut guest, mut backend, mut words) = (None, Backend::best(), Vec::new());
    let mut given = lexopt::Parser::from_env();
    while let Some(argument) = given.next()? {
        match argument {
            lexopt::Arg::Long("guest") => guest = Some(PathBuf::from(given.value()?)),
            lexopt::Arg::Long("backend") => backend = Some(given.value()?.string()?.parse()?),
            // What follows the function's name may begin with a minus.
            lexopt::Arg::Value(name) => {
                words.push(name.string()?);
                for word in given.raw_args()? {
                    words.push(word.string()?);
                }
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let guest = match guest {
        Some(file) => file,
        None => guests::build("examples/guests/plugin", "plugin")?,
    };
    let backend = backend.ok_or("neither KVM nor processes can be used here")?;
    let host = MachineBuilder::new(&Image::open(guest)?).build(backend, Shop)?;
    if host.run()? != RunOutcome::Ready {
        return Err(host.guest_exit().expect("it has ended").into());
    }

    let bytes = host.guest().contract()?;
    let contract = Contract::read(&bytes)?;
    let Some((name, words)) = words.split_first() else {
        contract.functions().filter(|f| f.is_served()).for_each(|f| println!("{f}"));
        return Ok(());
    };
    let (interface, name) = name.split_once("::").ok_or("give a function as Interface::name")?;
    let function = contract.served(interface, name).ok_or("the guest does not serve this")?;
    let parameters = function.parameters().zip(words);
    let mut arguments = parameters
        .map(|((name, of), word)| argument(word, of).map_err(|bad| format!("`{name}`: {bad}")))
        .collect::<Result<Vec<_>, _>>()?;
    // Excess arguments are counted in the error that `call_dynamic` returns.
    arguments.resize(words.len(), Value::Unit);
    println!("{}", host.guest().call_dynamic(function, &arguments)?);
    Ok(())
}

/// Parses a word of the command line as a value of a type.
fn argument<'w>(word: &'w str, of: TypeRef<'_>) -> Result<Value<'w>, String> {
    match of.name() {
        "ForeignStr" => Ok(word.into()),
        "ForeignBuf" => Ok(word.as_bytes().into()),
        _ => {
            let mut text = Text(word.trim());
            let value = text.value(of)?;
            if text.0.is_empty() { Ok(value) } else { Err(format!("`{}` is too much", text.0)) }
        }
    }
}

/// The rest of a word, which is not parsed yet.
struct Text<'w>(&'w str);

impl<'w> Text<'w> {
    /// Skips a character, if it is the next one.
    fn skip(&mut self, char: char) -> bool {
        let rest = self.0.trim_start().strip_prefix(char);
        self.0 = rest.unwrap_or(self.0).trim_start();
        rest.is_some()
    }

    fn expect(&mut self, char: char) -> Result<(), String> {
        if self.skip(char) { Ok(()) } else { Err(format!("`{char}` expected at `{}`", self.0)) }
    }

    /// A word up to punctuation, or the text between quotes.
    fn word(&mut self) -> Result<&'w str, String> {
        let end = if self.skip('"') {
            self.0.find('"').ok_or("a quote is not closed")?
        } else {
            self.0.find([',', ':', '[', ']', '{', '}', '(', ')']).unwrap_or(self.0.len())
        };
        let (word, rest) = self.0.split_at(end);
        self.0 = rest.strip_prefix('"').unwrap_or(rest).trim_start();
        Ok(word.trim_end())
    }

    fn parsed<T: std::str::FromStr>(&mut self, of: TypeRef<'_>) -> Result<T, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("`{word}` is no {of}"))
    }

    fn value(&mut self, of: TypeRef<'_>) -> Result<Value<'w>, String> {
        let inner = of.arguments().next();
        match (of.kind(), of.name(), inner) {
            (TypeKind::Struct, ..) => Ok(Value::Struct(self.fields('{', '}', of.fields())?)),
            (TypeKind::Enum, ..) => {
                let name = self.word()?;
                let variant = of.variants().find(|variant| variant.name() == name);
                let fields = variant.ok_or_else(|| format!("`{name}` is no {of}"))?.fields();
                let named = self.0.starts_with('{');
                let (open, close) = if named { ('{', '}') } else { ('(', ')') };
                let some = fields.len() != 0;
                let fields = if some { self.fields(open, close, fields)? } else { Vec::new() };
                Ok(Value::Enum(name.into(), fields))
            }
            (_, "Option", Some(_)) if self.0 == "none" || self.0.starts_with("none,") => {
                self.word().map(|_| Value::None)
            }
            (_, "Option", Some(of)) => Ok(Value::Some(Box::new(self.value(of)?))),
            (_, "Foreign", Some(of)) => self.value(of),
            (_, "ForeignSlice", Some(of)) => {
                self.expect('[')?;
                let mut list = Vec::new();
                while !self.skip(']') {
                    list.push(self.value(of)?);
                    if !self.skip(',') {
                        self.expect(']')?;
                        break;
                    }
                }
                Ok(Value::List(list))
            }
            (_, "ForeignStr", _) => Ok(self.word()?.into()),
            (_, "ForeignBuf", _) => Ok(self.word()?.as_bytes().into()),
            (_, "bool", _) => Ok(Value::Bool(self.parsed(of)?)),
            (_, "char", _) => Ok(Value::Char(self.parsed(of)?)),
            (_, "f32", _) => Ok(Value::F32(self.parsed(of)?)),
            (_, "f64", _) => Ok(Value::F64(self.parsed(of)?)),
            (_, "u128", _) => Ok(Value::U128(self.parsed(of)?)),
            (_, "()", _) => Ok(Value::Unit),
            // Whether the value fits is checked when the function is called.
            _ => Ok(Value::I128(self.parsed(of)?)),
        }
    }

    fn fields<'a>(
        &mut self,
        open: char,
        close: char,
        declared: impl ExactSizeIterator<Item = FieldRef<'a>> + Clone,
    ) -> Result<Vec<(Cow<'w, str>, Value<'w>)>, String> {
        self.expect(open)?;
        let (mut fields, mut nth) = (Vec::new(), declared.clone());
        while !self.skip(close) {
            let (name, field) = if open == '{' {
                let name = self.word()?;
                self.expect(':')?;
                (name, declared.clone().find(|field| field.name() == name))
            } else {
                ("", nth.next())
            };
            let field = field.ok_or_else(|| format!("no field `{name}`"))?;
            fields.push((name.into(), self.value(field.of())?));
            if !self.skip(',') {
                self.expect(close)?;
                break;
            }
        }
        Ok(fields)
    }
}
