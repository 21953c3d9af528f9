//! Crates of strangers: they know nothing of the inside of vmffi, have it as their only dependency,
//! and are as strict with what is expanded in them as a crate can be.
//!
//! Their workspace is in `tests/stranger`; it is built with the versions that this test was built
//! with, so that nothing has to be fetched.

use std::{
    path::Path,
    process::{Command, Output},
    sync::Once,
};

/// Runs cargo among the strangers.
fn try_cargo(arguments: &[&str]) -> Output {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let strangers = here.join("tests/stranger");
    static LOCK: Once = Once::new();
    LOCK.call_once(|| {
        let lock = here.join("Cargo.lock");
        if lock.exists() {
            std::fs::copy(lock, strangers.join("Cargo.lock")).expect("a place for the lock file");
        }
    });
    Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(strangers)
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("stranger"))
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo can be started")
}

/// The same; where it fails, the output is shown.
fn cargo(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = try_cargo(arguments);
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "cargo {}: {status}\n{out}\n{err}", arguments.join(" "));
    out.into_owned()
}

/// Each by itself, so that none of them turns on a feature that another one lacks.
#[test]
fn strict_crates_compile() {
    for name in ["stranger-2021", "stranger-2024", "stranger-renamed"] {
        cargo(&["check", "--package", name]);
    }
}

#[test]
fn clippy_has_nothing_to_say() {
    if !try_cargo(&["clippy", "--version"]).status.success() {
        println!("skipped: clippy is not installed");
        return;
    }
    cargo(&["clippy", "--workspace", "--", "-D", "warnings"]);
}

/// Functions that are declared alike have the same signature, and calls between them work.
#[test]
fn equal_functions_meet_across_crates_and_editions() {
    assert_eq!(cargo(&["run", "--package", "stranger-meet"]), "met\n");
}
