//! Runs every input of `fuzz/corpus` through the fuzz targets, on stable Rust and without the fuzzer.
//! `fuzz/README.md` says how the inputs were chosen.
#![cfg(all(feature = "std", target_pointer_width = "64"))]

// By its path: the package of the fuzz targets depends on libFuzzer, which the tests do not need.
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::{fs, panic, path::Path};

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).expect("a corpus") {
        let path = entry.expect("an entry").path();
        let input = fs::read(&path).expect("an input");
        let ran = panic::catch_unwind(|| run(&input));
        assert!(ran.is_ok(), "{}", path.display());
        inputs += 1;
    }
    assert!(inputs > 20, "{} has but {inputs} inputs", corpus.display());
    println!("{target}: {inputs} inputs");
}

/// What batches of either side do, by the names of `fuzz/src/batch`.
const BATCHES: [&str; 15] = [
    "served: a batch",
    "served: a bad TAKE",
    "served: a handler in a batch",
    "served: a handler that takes results",
    "served: a pointer word of the victim's is taken",
    "served: a reserved signature in a batch",
    "served: a result that there is not is taken",
    "served: a result without a place",
    "served: an entry is changed meanwhile",
    "made: a batch with answers",
    "made: a batch without answers",
    "made: a batch that is not sent",
    "made: a call that takes results",
    "made: a result",
    "made: a result that is not read",
];

/// Replays a target, whose inputs must reach all of this.
fn reaches(target: &str, run: fn(&[u8]), all: &[&str]) {
    fuzz::counts::take();
    replay(target, run);
    let counts = fuzz::counts::take();
    println!("{counts:#?}");
    let never: Vec<_> = all.iter().filter(|what| !counts.contains_key(**what)).collect();
    assert!(never.is_empty(), "{target}: never {never:?}");
}

#[test]
fn hostile_guests() {
    let ends = "served: a batch whose guest has ended";
    reaches("host", fuzz::host::run, &[&BATCHES[..], &[ends]].concat());
}

#[test]
fn hostile_hosts() {
    let full = "served: a batch without room for its answers";
    reaches("guest", fuzz::guest::run, &[&BATCHES[..], &[full]].concat());
}

#[test]
fn headers() {
    replay("header", fuzz::header::run);
}

#[test]
fn loans_and_marks() {
    replay("release", fuzz::release::run);
}

#[test]
fn contracts() {
    replay("contract", fuzz::contract::run);
}

#[test]
fn packed_values() {
    replay("packed", fuzz::packed::run);
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn programs() {
    if let Err(error) = vmffi::machine::Backend::Process.check() {
        support::skips::skip("process", error);
        return;
    }
    replay("image", fuzz::image::run);
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn hostile_processes() {
    if let Err(error) = vmffi::machine::Backend::Process.check() {
        support::skips::skip("process", error);
        return;
    }
    reaches("machine", fuzz::machine::process, &["a batch"]);
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn hostile_virtual_machines() {
    if let Err(error) = vmffi::machine::Backend::Kvm.check() {
        support::skips::skip("kvm", error);
        return;
    }
    reaches("kvm", fuzz::machine::kvm, &["a batch"]);
}
