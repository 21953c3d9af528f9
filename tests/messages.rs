//! What a person reads who declares what cannot be: every file in `tests/messages` fails to compile.
//!
//! The texts beside the files are those of one compiler; with any other, only that it fails is checked.
//! In `tests/messages/once` each mistake is one error, at its line and column, with any compiler. In `tests/messages/types`
//! one mistake may have several errors: there, each line says what must be among the errors at it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The compiler whose messages are in `tests/messages/*.stderr`. To write them anew:
/// `TRYBUILD=overwrite cargo test --test messages`.
const COMPILER: &str = "rustc 1.95.0 ";

const VMFFI: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn mistakes_are_refused() {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("rustc can be started");
    let version = String::from_utf8_lossy(&output.stdout);
    if version.starts_with(COMPILER) {
        trybuild::TestCases::new().compile_fail("tests/messages/*.rs");
        return;
    }
    println!("skipped: the messages themselves, which are those of {COMPILER}; this is {version}");
    assert_ne!(std::env::var_os("CI"), Some("true".into()), "with CI=true nothing may be skipped");
    let project = Project::new("messages");
    for case in cases("tests/messages") {
        assert!(!project.check(&case).status.success(), "{} compiles", case.display());
    }
}

#[test]
fn types_that_cannot_cross_are_refused() {
    let project = Project::new("types");
    for case in cases("tests/messages/types") {
        let output = project.check(&case);
        assert!(!output.status.success(), "{} compiles", case.display());
        let errors = String::from_utf8_lossy(&output.stderr);
        let mut expected = 0;
        for (nr, line) in fs::read_to_string(&case).unwrap().lines().enumerate() {
            let Some((_, sentence)) = line.split_once("//~ ") else { continue };
            let place = format!(".rs:{}:", nr + 1);
            let said = |error: &str| error.contains(&place) && error.contains(sentence);
            assert!(
                errors.lines().any(said),
                "{}, line {}: {sentence}\n{errors}",
                case.display(),
                nr + 1
            );
            expected += 1;
        }
        println!("{}: {expected} mistakes, each with its sentence", case.display());
        assert!(expected > 0);
    }
}

/// In `tests/messages/once`, there are as many errors as comments, each on its line. If the sentence names what is in the
/// line, the error is there; otherwise a number before the sentence is the column.
#[test]
fn a_mistake_is_one_error() {
    let project = Project::new("once");
    for case in cases("tests/messages/once") {
        let output = project.check(&case);
        let text = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<_> = text.lines().filter(|line| line.contains(".rs:")).collect();
        let source = fs::read_to_string(&case).unwrap();
        let mut expected = 0;
        for (nr, line) in source.lines().enumerate() {
            let Some((code, sentence)) = line.split_once("//~ ") else { continue };
            // A type inside of another one: the error is at the outer one.
            let named = sentence.split('`').nth(1).and_then(|named| code.rfind(named));
            let start = named.map(|at| code[..at].rfind([' ', '(']).map_or(0, |space| space + 1));
            let (column, sentence) = match sentence.split_once(": ") {
                Some((column, rest)) if column.parse::<usize>().is_ok() => (Some(column), rest),
                _ => (None, sentence),
            };
            let column =
                column.map_or_else(|| start.map_or(1, |at| at + 1).to_string(), str::to_owned);
            let place = format!(".rs:{}:{column}:", nr + 1);
            let said = |error: &&str| error.contains(&place) && error.contains(sentence);
            assert_eq!(
                errors.iter().copied().filter(said).count(),
                1,
                "{place}: {sentence}\n{text}"
            );
            expected += 1;
        }
        assert!(expected > 0);
        assert_eq!(errors.len(), expected, "{}\n{text}", case.display());
    }
}

fn cases(folder: &str) -> Vec<PathBuf> {
    let all =
        fs::read_dir(Path::new(VMFFI).join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let all: Vec<_> = all.filter(|path| path.extension().is_some_and(|end| end == "rs")).collect();
    assert!(all.len() > 2, "{folder}: {all:?}");
    all
}

/// A crate that depends on this one, with a program for each case.
struct Project(PathBuf);

impl Project {
    fn new(name: &str) -> Self {
        let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("messages").join(name);
        fs::create_dir_all(project.join("src/bin")).unwrap();
        let manifest = format!(
            "[package]\nname = {name:?}\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n\
             [dependencies]\nvmffi = {{ path = {VMFFI:?} }}\n"
        );
        fs::write(project.join("Cargo.toml"), manifest).unwrap();
        fs::copy(Path::new(VMFFI).join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
        let nothing = project.join("nothing.rs");
        fs::write(&nothing, "fn main() {}").unwrap();
        let project = Self(project);
        let output = project.check(&nothing);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        project
    }

    fn check(&self, case: &Path) -> Output {
        let bins = self.0.join("src/bin");
        fs::copy(case, bins.join(case.file_name().unwrap())).unwrap();
        Command::new(env!("CARGO"))
            .args(["check", "--quiet", "--message-format", "short", "--bin"])
            .arg(case.file_stem().unwrap())
            .current_dir(&self.0)
            .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("crates"))
            .env("CARGO_NET_OFFLINE", "true")
            .env_remove("RUSTFLAGS")
            .output()
            .expect("cargo can be started")
    }
}
