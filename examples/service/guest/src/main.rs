//! Parses JSON from untrusted clients, and searches it for forbidden terms.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{vec, vec::Vec};
use core::hint::black_box;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use serde_json::{Value, error::Category};
use spin::Once;
use vmffi::{CallError, Failure, ForeignBuf, ForeignStr, Peer, SharedSlice};

mod interface;

use interface::{Attack, Finding, ScanError, Scanner, SharedReport};

/// The index of the terms. The snapshot is taken after it was built, so every clone has it.
struct Guest(Once<AhoCorasick>);

/// Counts while a document is parsed.
struct Count<'t> {
    terms: &'t AhoCorasick,
    values: u64,
    depth: u32,
    strings: Vec<u32>,
}

impl Count<'_> {
    fn value(&mut self, value: &Value, depth: u32) {
        self.values += 1;
        self.depth = self.depth.max(depth);
        match value {
            Value::String(text) => self.text(text),
            Value::Array(values) => values.iter().for_each(|value| self.value(value, depth + 1)),
            Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                self.text(key);
                self.value(value, depth + 1);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&mut self, text: &str) {
        let mut found: Vec<_> =
            self.terms.find_overlapping_iter(text).map(|found| found.pattern()).collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().for_each(|term| self.strings[term] += 1);
    }
}

impl Scanner for Guest {
    fn configure(&self, _: &Peer, terms: ForeignStr) -> Result<u32, CallError> {
        let terms = terms.read_string()?;
        let mut builder = AhoCorasick::builder();
        let builder = builder.kind(Some(AhoCorasickKind::DFA)).ascii_case_insensitive(true);
        let index = builder.build(terms.lines()).map_err(|_| CallError::refused())?;
        if self.0.is_completed() {
            return Err(CallError::refused());
        }
        Ok(self.0.call_once(|| index).patterns_len() as u32)
    }

    fn scan(&self, host: &Peer, document: ForeignBuf) -> Result<SharedReport, Failure<ScanError>> {
        let terms = self.0.get().ok_or(ScanError::NotConfigured)?;
        let document = document.read_vec()?;
        let value: Value = serde_json::from_slice(&document).map_err(|error| {
            let (line, column) = (error.line() as u32, error.column() as u32);
            match error.classify() {
                Category::Eof => ScanError::Truncated { line, column },
                _ => ScanError::Syntax { line, column },
            }
        })?;
        let mut count =
            Count { terms, values: 0, depth: 0, strings: vec![0; terms.patterns_len()] };
        count.value(&value, 0);
        let findings = (0..).zip(count.strings).filter(|(_, strings)| *strings > 0);
        let findings: Vec<_> = findings.map(|(term, strings)| Finding { term, strings }).collect();
        let findings = SharedSlice::copy_from(host, &findings)?;
        Ok(SharedReport { values: count.values, depth: count.depth, findings })
    }

    fn attack(&self, _: &Peer, attack: Attack) -> Result<(), CallError> {
        match attack {
            Attack::Loop => loop {
                core::hint::spin_loop();
            },
            Attack::Panic => panic!("a client has sent an untested document"),
            Attack::Overflow => {
                black_box(overflow(1));
                Ok(())
            }
        }
    }
}

fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if black_box(depth) == 0 { 0 } else { overflow(depth + 1) + frame[7] }
}

vmffi::serve!(Guest: Scanner);
vmffi::entry! { server: Guest = Guest(Once::new()), arena: 1 << 16 }
vmffi::heap!(8 << 20);
vmffi::panic_handler!();
vmffi::memory_functions!();
