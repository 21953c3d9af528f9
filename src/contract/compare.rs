//! Compares the contracts of two sides, and reports where they differ.

use core::fmt;

use alloc::{boxed::Box, format, string::String, vec::Vec};

use super::{
    bounded::BoundedText,
    read::{Contract, FunctionRecord, RecordKind},
    walk::{BadContract, FieldRecord, Index},
};
use crate::abi::Side;

/// The maximum number of differences, and of names of each kind, that are reported one by one.
const TOLD: usize = 32;
/// The maximum number of reported places in one function, and of field names in the path to a place.
const PLACES: usize = 8;

/// Checks that each side serves what the other calls (ABI, "Contracts").
///
/// Functions that are served and not called, and optional functions that are not served, do not cause a mismatch; a
/// mismatch lists them as well.
///
/// # Errors
///
/// A [`Mismatch`] if a called function is not served under the same signature, or one of the contracts is invalid.
pub fn compare(guest: &[u8], host: &[u8]) -> Result<(), Mismatch> {
    let read = |side, bytes| {
        Contract::read(bytes).map_err(|bad| {
            Mismatch::from(Report { unreadable: Some((side, bad)), ..Report::default() })
        })
    };
    let (guest, host) = (read(Side::Guest, guest)?, read(Side::Host, host)?);
    let mut found = Report::default();
    found.calls(Side::Guest, &guest, &host);
    found.calls(Side::Host, &host, &guest);
    if found.differences.is_empty() {
        return Ok(());
    }
    found.unused(Side::Guest, &guest, &host);
    found.unused(Side::Host, &host, &guest);
    Err(found.into())
}

/// The error for contracts that do not match: the functions that one side calls and the other does not serve, or
/// declares differently.
///
/// `Display` gives several lines for diagnostics: each function with both declarations and the place where they differ,
/// such as a field of a struct in a parameter. Names from the peer are truncated and escaped.
#[derive(Clone, PartialEq, Eq)]
pub struct Mismatch {
    report: Box<Report>,
}

impl From<Report> for Mismatch {
    fn from(report: Report) -> Self {
        Self { report: Box::new(report) }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Report {
    unreadable: Option<(Side, BadContract)>,
    differences: Vec<Difference>,
    more: usize,
    /// Optional functions that are not served, by caller, and functions that are not called, by server.
    absent: [Names; 2],
    unused: [Names; 2],
}

/// Up to [`TOLD`] names, and the number of further ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    names: Vec<String>,
    more: usize,
}

impl Names {
    fn push(&mut self, name: String) {
        if self.names.len() < TOLD {
            self.names.push(name);
        } else {
            self.more += 1;
        }
    }
}

/// A function that one side calls and the other does not serve, or declares differently.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The side that calls it.
    pub caller: Side,
    /// Interface and name: `Files::open`.
    pub function: String,
    /// The declaration of the side that calls it.
    pub called: String,
    /// The declaration of the other side, if it serves a function with this name.
    pub served: Option<String>,
    /// The places where the declarations differ.
    places: Vec<Divergence>,
}

/// A place where two declarations differ, and the text of each there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Divergence {
    place: String,
    called: String,
    served: String,
}

impl Mismatch {
    /// The functions that do not match, at most 32: first those that the guest calls, then those that the host calls,
    /// each in the order of declaration.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        &self.report.differences
    }

    /// The side whose contract is invalid, and the reason; `None` if both are valid.
    #[must_use]
    pub fn unreadable(&self) -> Option<(Side, BadContract)> {
        self.report.unreadable
    }
}

impl Report {
    /// Records the called functions that are not served.
    fn calls(&mut self, caller: Side, calls: &Contract<'_>, serves: &Contract<'_>) {
        let served = signatures(serves.functions.iter().filter(|function| function.served()));
        for function in calls.functions.iter().filter(|function| function.called()) {
            if served.binary_search(&function.signature).is_ok() {
                continue;
            }
            if function.optional() {
                self.absent[caller as usize].push(path(function));
            } else if self.differences.len() < TOLD {
                self.differences.push(Difference::new(caller, calls, function, serves));
            } else {
                self.more += 1;
            }
        }
    }

    /// Records the served functions that are not called.
    fn unused(&mut self, server: Side, serves: &Contract<'_>, calls: &Contract<'_>) {
        let called = signatures(calls.functions.iter().filter(|function| function.called()));
        for function in serves.functions.iter().filter(|function| function.served()) {
            if called.binary_search(&function.signature).is_ok() {
                continue;
            }
            let path = path(function);
            let told = |told: &Difference| told.caller != server && told.function == path;
            if !self.differences.iter().any(told) {
                self.unused[server as usize].push(path);
            }
        }
    }
}

/// The signatures, sorted.
fn signatures<'f>(functions: impl Iterator<Item = &'f FunctionRecord<'f>>) -> Vec<u64> {
    let mut all: Vec<u64> = functions.map(|function| function.signature).collect();
    all.sort_unstable();
    all
}

/// Interface and name.
fn path(function: &FunctionRecord<'_>) -> String {
    let mut text = BoundedText::new();
    text.name(function.interface);
    text.put("::");
    text.name(function.name);
    text.into_string()
}

fn text(write: impl FnOnce(&mut BoundedText)) -> String {
    let mut text = BoundedText::new();
    write(&mut text);
    text.into_string()
}

impl Difference {
    fn new(
        caller: Side,
        calls: &Contract<'_>,
        of: &FunctionRecord<'_>,
        serves: &Contract<'_>,
    ) -> Self {
        let other = serves.functions.iter().find(|other| {
            other.served() && (other.interface, other.name) == (of.interface, of.name)
        });
        Self {
            caller,
            function: path(of),
            called: text(|text| calls.declaration(text, of)),
            served: other.map(|other| text(|text| serves.declaration(text, other))),
            places: other.map_or(Vec::new(), |other| places(calls, of, serves, other)),
        }
    }
}

/// The parameters and the result in which two functions differ.
fn places(
    calls: &Contract<'_>,
    called: &FunctionRecord<'_>,
    serves: &Contract<'_>,
    served: &FunctionRecord<'_>,
) -> Vec<Divergence> {
    let (here, there) = (&called.parameters, &served.parameters);
    if here.len() != there.len() {
        let count = |nr| if nr == 1 { "1 parameter".into() } else { format!("{nr} parameters") };
        let place = "the list of parameters".into();
        return Vec::from([Divergence {
            place,
            called: count(here.len()),
            served: count(there.len()),
        }]);
    }
    let parameters = here.iter().zip(there).map(|((name, a), (_, b))| {
        (
            text(|text| {
                text.put("parameter `");
                text.name(name);
                text.put("`")
            }),
            *a,
            *b,
        )
    });
    let all = parameters.chain([("the result".into(), called.returned, served.returned)]);
    let differ = all.filter(|(_, a, b)| calls.get(*a).hash != serves.get(*b).hash);
    differ.take(PLACES).map(|(place, a, b)| Descent { calls, serves }.first(place, a, b)).collect()
}

/// The search for the place where two types differ.
struct Descent<'a, 'c> {
    calls: &'a Contract<'c>,
    serves: &'a Contract<'c>,
}

/// A step of the search.
enum Step<'c> {
    /// The types differ here, at the member with this index.
    Here(usize),
    /// They differ in these types, of the field with this name; the name is empty for a type argument or a tuple value.
    In(&'c str, Index, Index),
}

impl<'c> Descent<'_, 'c> {
    /// Descends while the declarations of the two types are alike, to the place where they differ. It terminates,
    /// because each step leads to an earlier type of the contract.
    fn first(&self, start: String, mut a: Index, mut b: Index) -> Divergence {
        let mut place = BoundedText::new();
        let mut steps = 0;
        // The types of the last named field.
        let mut named = (a, b);
        loop {
            match self.step(a, b) {
                Step::In(name, next_a, next_b) => {
                    (a, b) = (next_a, next_b);
                    if !name.is_empty() {
                        named = (a, b);
                        steps += 1;
                        if steps <= PLACES {
                            place.put(".");
                            place.name(name);
                        } else if steps == PLACES + 1 {
                            place.put("…");
                        }
                    }
                }
                Step::Here(from) => {
                    let place = match steps {
                        0 => start,
                        _ => format!("{start} at `{place}`"),
                    };
                    // Shows the previous member too, which is the same on both sides.
                    let from = from.saturating_sub(1);
                    let show = |(a, b)| {
                        let called = text(|text| self.calls.definition(text, a, from));
                        (called, text(|text| self.serves.definition(text, b, from)))
                    };
                    let same_name = self.calls.get(a).name == self.serves.get(b).name;
                    let (mut called, mut served) = show(if same_name { (a, b) } else { named });
                    if called == served {
                        // They differ only in the truncated part.
                        (called, served) = show((a, b));
                    }
                    return Divergence { place, called, served };
                }
            }
        }
    }

    fn step(&self, a: Index, b: Index) -> Step<'c> {
        if !self.alike(a, b) {
            return Step::Here(0);
        }
        match (&self.calls.get(a).kind, &self.serves.get(b).kind) {
            (RecordKind::Array(a, _), RecordKind::Array(b, _)) => Step::In("", *a, *b),
            (RecordKind::Builtin(a), RecordKind::Builtin(b))
            | (RecordKind::Tuple(a), RecordKind::Tuple(b)) => {
                let mut pairs = a.iter().zip(b);
                let differ = pairs.find(|(a, b)| self.differ(**a, **b));
                differ.map_or(Step::Here(0), |(a, b)| Step::In("", *a, *b))
            }
            (RecordKind::Struct(_, a), RecordKind::Struct(_, b)) => match self.part(a, b) {
                Some(nr) => Step::Here(nr),
                None => self.within(a, b).unwrap_or(Step::Here(0)),
            },
            (RecordKind::Enum(_, _, a), RecordKind::Enum(_, _, b)) => {
                let same = |nr: &usize| {
                    let (Some(a), Some(b)) = (a.get(*nr), b.get(*nr)) else { return false };
                    (a.name, a.number) == (b.name, b.number)
                        && self.part(&a.fields, &b.fields).is_none()
                };
                if let Some(nr) = (0..a.len().max(b.len())).find(|nr| !same(nr)) {
                    return Step::Here(nr);
                }
                let mut pairs = a.iter().zip(b);
                let next = pairs.find_map(|(a, b)| {
                    let step = self.within(&a.fields, &b.fields)?;
                    Some(match step {
                        // The value of a tuple variant is named after the variant.
                        Step::In("", next_a, next_b) => Step::In(a.name, next_a, next_b),
                        step => step,
                    })
                });
                next.unwrap_or(Step::Here(0))
            }
            _ => Step::Here(0),
        }
    }

    fn differ(&self, a: Index, b: Index) -> bool {
        self.calls.get(a).hash != self.serves.get(b).hash
    }

    /// Whether two types are declared under the same name, in the same way.
    fn alike(&self, a: Index, b: Index) -> bool {
        let (a, b) = (self.calls.get(a), self.serves.get(b));
        a.name == b.name
            && match (&a.kind, &b.kind) {
                (RecordKind::Builtin(a), RecordKind::Builtin(b))
                | (RecordKind::Tuple(a), RecordKind::Tuple(b)) => a.len() == b.len(),
                (RecordKind::Array(_, a), RecordKind::Array(_, b)) => a == b,
                (RecordKind::Struct(..), RecordKind::Struct(..)) => true,
                (RecordKind::Enum(_, a, _), RecordKind::Enum(_, b, _)) => a == b,
                _ => false,
            }
    }

    /// The first field that is not declared in the same way on both sides.
    fn part(&self, a: &[FieldRecord<'_>], b: &[FieldRecord<'_>]) -> Option<usize> {
        (0..a.len().max(b.len())).find(|nr| match (a.get(*nr), b.get(*nr)) {
            (Some(a), Some(b)) => a.name != b.name || !self.alike(a.of, b.of),
            _ => true,
        })
    }

    /// The first field whose types differ.
    fn within(&self, a: &[FieldRecord<'c>], b: &[FieldRecord<'c>]) -> Option<Step<'c>> {
        let mut pairs = a.iter().zip(b);
        pairs.find(|(a, b)| self.differ(a.of, b.of)).map(|(a, b)| Step::In(a.name, a.of, b.of))
    }
}

/// A line for each side, the guest's first.
fn both(
    f: &mut fmt::Formatter<'_>,
    indent: &str,
    caller: Side,
    called: &str,
    served: &str,
) -> fmt::Result {
    let (guest, host) = match caller {
        Side::Guest => (called, served),
        Side::Host => (served, called),
    };
    writeln!(f, "{indent}guest: {guest}\n{indent}host:  {host}")
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caller = self.caller;
        writeln!(f, "{}, which the {caller} calls", self.function)?;
        let served = self.served.as_deref().unwrap_or("does not serve it");
        both(f, "    ", caller, &self.called, served)?;
        for place in &self.places {
            writeln!(f, "    they differ in {}:", place.place)?;
            both(f, "        ", caller, &place.called, &place.served)?;
        }
        Ok(())
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &*self.report;
        if let Some((side, bad)) = report.unreadable {
            return write!(
                f,
                "the contract of the {side} is invalid at byte {}: {}",
                bad.at, bad.what
            );
        }
        let count = report.differences.len() + report.more;
        let functions = if count == 1 { "function" } else { "functions" };
        writeln!(f, "guest and host do not agree on {count} {functions}")?;
        for difference in &report.differences {
            write!(f, "\n{difference}")?;
        }
        if report.more != 0 {
            writeln!(f, "\n… and {} more", report.more)?;
        }
        let lists = [
            ("optional, not served by the host:", &report.absent[Side::Guest as usize]),
            ("optional, not served by the guest:", &report.absent[Side::Host as usize]),
            ("served by the guest, not called:", &report.unused[Side::Guest as usize]),
            ("served by the host, not called:", &report.unused[Side::Host as usize]),
        ];
        for (what, list) in lists {
            if !list.names.is_empty() {
                write!(f, "\n{what} {}", list.names.join(", "))?;
                if list.more != 0 {
                    write!(f, ", and {} more", list.more)?;
                }
            }
        }
        Ok(())
    }
}

/// The text of `Display`, since a program that ends with an error prints its `Debug`.
impl fmt::Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mismatch({self})")
    }
}

impl core::error::Error for Mismatch {}
