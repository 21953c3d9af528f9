//! Counts what occurred, so that a run in which something never occurred fails.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use vmffi::{ErrorKind, abi::Side};

use crate::{interface::FUNCTIONS, ops::WHYS};

#[derive(Default)]
pub struct Counts {
    pub cases: usize,
    pub steps: usize,
    pub ops: usize,
    pub calls: usize,
    /// The longest case: its number of steps, and of operations, those in handlers included.
    pub longest: (usize, usize),
    pub deepest: usize,
    /// The number of comparisons with the model.
    pub values: usize,
    pub arenas: usize,
    /// The number of sequences of allocations, and of those whose outcome the model could not predict.
    pub allocations: (usize, usize),
    kinds: BTreeMap<String, usize>,
}

impl Counts {
    pub fn add(&mut self, kind: impl Into<String>) {
        *self.kinds.entry(kind.into()).or_default() += 1;
    }
}

static COUNTS: LazyLock<Mutex<Counts>> = LazyLock::new(Mutex::default);

/// Counts something.
pub fn count<R>(with: impl FnOnce(&mut Counts) -> R) -> R {
    with(&mut COUNTS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Operations outside of calls and in handlers.
const OPS: [&str; 17] = [
    "a batch",
    "a batch that is not sent",
    "a call",
    "a call of no function",
    "a call with forged words",
    "a late mark",
    "a look at an arena",
    "adding to it",
    "asking for the optional function",
    "dropping",
    "dropping it unsent",
    "dropping on another thread",
    "making something",
    "reading",
    "reading on another thread",
    "shortening it",
    "writing over it",
];

/// What happens in batches.
const BATCHES: [&str; 4] = [
    "a call that is not added",
    "a call that takes results",
    "none of its calls is made",
    "results that are not read",
];

/// Errors of calls that do not reach their function, and of readings.
const ALONE: [ErrorKind; 7] = [
    ErrorKind::Cancelled,
    ErrorKind::UnknownFunction,
    ErrorKind::BadPointer,
    ErrorKind::BadValue,
    ErrorKind::OutOfMemory,
    ErrorKind::TooDeep,
    ErrorKind::Stale,
];

/// The names of everything that is counted.
fn all() -> impl Iterator<Item = String> {
    let functions = FUNCTIONS.iter().flat_map(|entry| {
        let by = [Side::Guest, Side::Host].into_iter().filter(|side| entry.served[*side as usize]);
        by.map(|side| format!("to the {side}: {}", entry.function.name))
    });
    OPS.iter()
        .flat_map(|op| [format!("op: {op}"), format!("op: {op}, in a handler")])
        .chain(["op: a reset".into(), "error: declared by the function".into()])
        .chain(BATCHES.map(|what| format!("batch: {what}")))
        .chain(ALONE.map(|why| format!("error: {why:?}")))
        .chain(WHYS.map(|why| format!("error: {why:?}, reached")))
        .chain(functions)
}

/// Prints the counts. With `enough` cases, it fails if something never occurred.
pub fn report(time: Duration, enough: bool) {
    count(|counts| {
        let Counts { cases, steps, ops, calls, longest, deepest, values, arenas, .. } = counts;
        let (allocations, open) = counts.allocations;
        println!(
            "{cases} cases in {:.1} s: {steps} steps, {ops} operations with those in handlers, {calls} \
             calls, up to {deepest} in each other\nthe longest case: {} steps, {} operations\n\
             compared: {values} values, {arenas} arenas, {allocations} sequences of allocations \
             ({open} might have ended either way)",
            time.as_secs_f64(),
            longest.0,
            longest.1,
        );
        for (kind, count) in &counts.kinds {
            println!("{count:9} {kind}");
        }
        for kind in all().filter(|_| enough) {
            assert!(counts.kinds.contains_key(&kind), "`{kind}` never occurred");
        }
    });
}
