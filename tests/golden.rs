//! The machine code of a guest's hypercall and of a host's dispatch, beside what is kept of it in `tests/golden`.
//!
//! The code depends on the compiler: each file names the version that it was made with, and another one compares nothing.
//! After a change that is intended, `VMFFI_GOLDEN=renew cargo test --test golden` writes the files anew; their difference
//! shows what the change costs.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Builds a package of `tests/golden` as guests and hosts are built, and says where its programs are.
fn build(package: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("tests/golden").join(package);
    // The versions that this crate is tested with.
    if !folder.join("Cargo.lock").exists() {
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).expect("a lock file");
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder).args(["build", "--quiet", "--release"]);
    cargo.arg("--target-dir").arg(&target);
    // What is said to the compiler of this test would change the code.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(variable);
    }
    assert!(cargo.status().expect("cargo").success(), "{package} cannot be built");
    target.join("release")
}

/// The first line of a program's output; empty without the program.
fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

/// The functions of a program, disassembled: name and instructions, without what depends on their places.
fn functions(program: &Path) -> Vec<(String, Vec<String>)> {
    let mut objdump = Command::new("objdump");
    objdump.args(["--disassemble", "--demangle", "--no-addresses", "--no-show-raw-insn"]);
    let output = objdump.arg("--disassembler-options=intel").arg(program).output();
    let text = output.expect("objdump").stdout;
    let mut functions = Vec::new();
    for line in String::from_utf8_lossy(&text).lines() {
        if let Some(name) = line.strip_prefix('<').and_then(|name| name.strip_suffix(">:")) {
            functions.push((name.to_owned(), Vec::new()));
        } else if let (Some(code), Some((_, lines))) =
            (line.strip_prefix('\t'), functions.last_mut())
        {
            lines.push(placeless(code.trim_end()));
        }
    }
    for (_, lines) in &mut functions {
        // What aligns the next function.
        while lines.last().is_some_and(|line| line == "int3" || line.starts_with("nop")) {
            lines.pop();
        }
    }
    functions
}

/// An instruction without distances from itself, and without comments.
fn placeless(code: &str) -> String {
    let code = code.split(" # ").next().unwrap_or_default().trim_end();
    match code.split_once("[rip+").and_then(|(before, rest)| Some((before, rest.split_once(']')?)))
    {
        Some((before, (_, after))) => format!("{before}[rip]{after}"),
        None => code.to_owned(),
    }
}

/// A function of a program: its title in the file, and how its name and its code are recognised.
type Wanted<'w> = (&'w str, &'w dyn Fn(&str, &[String]) -> bool);

/// Compares functions with the file of that name, or writes it.
fn compare(file: &str, program: &Path, wanted: &[Wanted<'_>]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let functions = functions(program);
    let mut text = format!("{}\n", version("rustc"));
    for (title, is) in wanted {
        let mut found = functions.iter().filter(|(name, lines)| is(name, lines));
        let (Some((_, lines)), None) = (found.next(), found.next()) else {
            panic!("there is no such function, or more than one: {title}");
        };
        text += &format!("\n{title}: {} instructions\n", lines.len());
        for line in lines {
            text += &format!("    {line}\n");
        }
    }
    if env::var("VMFFI_GOLDEN").is_ok_and(|what| what == "renew") {
        fs::write(path, text).expect("the file of the code");
        return;
    }
    let kept = fs::read_to_string(&path).expect("the file of the code");
    if kept != text {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
        fs::write(&new, &text).expect("a file beside it");
        let counts = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.ends_with(" instructions")).map(str::to_owned).collect()
        };
        panic!(
            "the code is not that of {}.\nbefore: {:#?}\nnow: {:#?}\nThe code of now is in {}. If that is intended:\n    VMFFI_GOLDEN=renew cargo test --test golden",
            path.display(),
            counts(&kept),
            counts(&text),
            new.display(),
        );
    }
}

/// Whether the code can be compared with what is kept of it.
fn comparable(file: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let kept = fs::read_to_string(path).unwrap_or_default();
    let (before, now) = (kept.lines().next().unwrap_or_default().to_owned(), version("rustc"));
    if version("objdump").is_empty() {
        println!("skipped: {file}: there is no objdump");
        return false;
    }
    if before != now && env::var_os("VMFFI_GOLDEN").is_none() {
        println!("skipped: {file} is of {before}, and this is {now}");
        return false;
    }
    true
}

/// A guest's hypercall with a scalar: by `out` or a call of a gate in its own code, by a doorbell through its link.
#[test]
fn a_hypercall_of_a_guest() {
    if comparable("guest.txt") {
        let program = build("guest").join("one");
        compare(
            "guest.txt",
            &program,
            &[
                ("a hypercall", &|name, _| name == "hypercall"),
                ("hypercalls in a loop", &|name, _| name == "hypercalls"),
                ("the link, by which a doorbell is rung", &|name, _| {
                    name.contains("TrapLink") && name.ends_with("RemoteLink>::call")
                }),
            ],
        );
    }
}

/// A host's dispatch of a call with a scalar, and the client of a loopback that makes it.
#[test]
fn a_call_of_a_host() {
    if comparable("host.txt") {
        let program = build("host").join("libgolden_host.so");
        compare(
            "host.txt",
            &program,
            &[
                ("a call through a loopback", &|name, _| name == "call"),
                ("dispatch", &|name, _| name.ends_with("Endpoint::serve_local")),
                ("the entry of the function", &|_, lines| {
                    lines.iter().any(|line| line.starts_with("xor") && line.ends_with("0x601d"))
                }),
            ],
        );
    }
}
