//! Replays what the fuzzer has found worth keeping: every input of `fuzz/corpus`, on stable Rust and
//! without the fuzzer. `fuzz/README.md` says how the inputs came there.
#![cfg(all(feature = "std", target_pointer_width = "64"))]

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

#[test]
fn a_guest_that_does_as_it_likes() {
    replay("host", fuzz::host::run);
}

#[test]
fn a_host_that_does_as_it_likes() {
    replay("guest", fuzz::guest::run);
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

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn programs() {
    if let Err(error) = vmffi::machine::Backend::Process.check() {
        println!("skipped: process: {error}");
        return;
    }
    replay("image", fuzz::image::run);
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn a_process_that_does_as_it_likes() {
    if let Err(error) = vmffi::machine::Backend::Process.check() {
        println!("skipped: process: {error}");
        return;
    }
    replay("machine", fuzz::machine::process);
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn a_virtual_machine_that_does_as_it_likes() {
    replay("kvm", fuzz::machine::kvm);
}
