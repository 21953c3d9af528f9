//! Crates of users: they use only the public API of vmffi, have it as their only dependency,
//! and apply every strict lint to the code that is expanded in them.
//!
//! Their workspace is in `tests/stranger`; it is built with the dependencies of this test, so that
//! nothing has to be downloaded.

use std::{
    path::Path,
    process::{Command, Output},
    sync::Once,
};

/// Runs cargo in the users' workspace.
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
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("crates"))
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo")
}

/// Runs cargo there; on a failure, shows its output.
fn cargo(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = try_cargo(arguments);
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "cargo {}: {status}\n{out}\n{err}", arguments.join(" "));
    out.into_owned()
}

/// Each crate by itself, so that none enables a feature that another one needs.
#[test]
fn strict_crates_compile() {
    for name in ["stranger-2021", "stranger-2024", "stranger-renamed"] {
        cargo(&["check", "--package", name]);
    }
}

#[test]
fn clippy_reports_nothing() {
    if !try_cargo(&["clippy", "--version"]).status.success() {
        println!("skipped: clippy is not installed");
        return;
    }
    cargo(&["clippy", "--workspace", "--", "-D", "warnings"]);
}

/// Functions with equal declarations have equal signatures, and calls between them succeed.
#[test]
fn equal_functions_match_across_crates_and_editions() {
    assert_eq!(cargo(&["run", "--package", "stranger-meet"]), "met\n");
}
