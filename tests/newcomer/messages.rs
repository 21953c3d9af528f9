//! The chapter on what goes wrong: each mistake is made, and its message must be in the chapter.

use std::{collections::BTreeSet, process::Command};

use support::skips::skip;
use vmffi::{
    CallError, Peer,
    host::RunOutcome,
    machine::{Backend, Image, MachineBuilder},
};

use crate::project::Project;

const CHAPTER: &str = include_str!("../../docs/guide/what-goes-wrong.md");

vmffi::ffi_interface! {
    pub interface Ping {
        fn recurse(depth: u64) -> u64;
        fn allocate(bytes: u64) -> u64;
    }
    pub interface Other { fn other(); }
}

/// A guest in parts, each of which can be omitted.
const PARTS: [&str; 7] = [
    "#![no_std]",
    "#![no_main]",
    "extern crate alloc;
     vmffi::ffi_interface! {
         pub interface Ping {
             fn recurse(depth: u64) -> u64;
             fn allocate(bytes: u64) -> u64;
         }
     }
     struct Guest;
     impl Ping for Guest {
         fn recurse(&self, host: &vmffi::Peer, depth: u64) -> Result<u64, vmffi::CallError> {
             let bytes = core::hint::black_box([depth; 100]);
             Ok(bytes[7] + if depth == 0 { 0 } else { self.recurse(host, depth - 1)? })
         }
         fn allocate(&self, _: &vmffi::Peer, bytes: u64) -> Result<u64, vmffi::CallError> {
             Ok(core::hint::black_box(alloc::vec![1_u8; bytes as usize]).len() as u64)
         }
     }
     vmffi::serve!(Guest: Ping);",
    "vmffi::entry! { server: Guest = Guest, arena: 1 << 16 }",
    "vmffi::panic_handler!();",
    "vmffi::memory_functions!();",
    "vmffi::heap!(1 << 20);",
];

const MANIFEST: &str = r#"
[package]
name = "wrong"
version = "0.1.0"
edition = "2024"

[features]
std = ["vmffi/std"]

[dependencies]
vmffi = { version = "0.1", default-features = false, features = ["guest", "heap"] }

[build-dependencies]
vmffi = { version = "0.1", default-features = false, features = ["build"] }

[profile.dev]
panic = "abort"

[workspace]
"#;

const LINK: &str = "fn main() { vmffi::build::link(); }";

/// The messages that were seen, each of which is in the chapter.
#[derive(Default)]
struct Seen(BTreeSet<&'static str>);

impl Seen {
    fn check(&mut self, said: &str, message: &'static str) {
        assert!(said.contains(message), "{message}\nis not in\n{said}");
        self.0.insert(message);
    }
}

/// The messages of the chapter: a list item that is code, without the text after it.
fn messages() -> BTreeSet<&'static str> {
    let entries = CHAPTER.split("\n- ``").skip(1);
    entries.map(|rest| rest.split("``").next().expect("its end").trim_end()).collect()
}

/// Whether this is the compiler whose messages the chapter quotes.
fn is_known() -> bool {
    let output = Command::new("rustc").arg("--version").output().expect("a compiler");
    String::from_utf8_lossy(&output.stdout).starts_with("rustc 1.95.")
}

#[test]
fn messages_are_those_of_the_chapter() {
    if !is_known() {
        skip("the messages", "they are those of Rust 1.95");
        return;
    }
    let mut seen = Seen::default();
    building_a_guest(&mut seen);
    building_a_host(&mut seen);
    if let Some(backend) = Backend::best() {
        running(&mut seen, backend);
    } else {
        skip("the guest", "neither KVM nor processes can be used here");
        return;
    }
    // This one waits forever, so no test makes it.
    let mut all = messages();
    assert!(all.remove("Blocking waiting for file lock on build directory"));
    assert_eq!(seen.0, all);
}

fn source(without: &[usize], more: &str) -> String {
    let parts = PARTS.iter().enumerate().filter(|(at, _)| !without.contains(at));
    parts.map(|(_, part)| *part).collect::<Vec<_>>().join("\n") + more
}

fn guest() -> Project {
    let project = Project::new("wrong");
    project.write("Cargo.toml", MANIFEST);
    project.write("build.rs", LINK);
    project.write("src/main.rs", &source(&[], ""));
    project
}

fn building_a_guest(seen: &mut Seen) {
    let project = guest();
    let build = "cargo build --quiet";
    for (without, message) in [
        (0, "error[E0152]: found duplicate lang item `panic_impl`"),
        (1, "error: using `fn main` requires the standard library"),
        (4, "error: `#[panic_handler]` function required, but not found"),
        (5, "rust-lld: error: undefined symbol: memcpy"),
        (6, "error: no global memory allocator found but one is required"),
    ] {
        let more = if without == 1 { "\nfn main() {}" } else { "" };
        project.write("src/main.rs", &source(&[without], more));
        seen.check(&project.fails(build).err, message);
    }
    let float = "\npub fn root(of: f64) -> f64 { of.sqrt() }";
    project.write("src/main.rs", &source(&[], float));
    let sqrt = "error[E0599]: no method named `sqrt` found for type `f64` in the current scope";
    seen.check(&project.fails(build).err, sqrt);

    project.write("src/main.rs", &source(&[], ""));
    project.write("build.rs", "fn main() {}");
    seen.check(&project.fails(build).err, "rust-lld: error: duplicate symbol: _start");
    project.write("build.rs", LINK);
    let unwinds = format!("{build} --config 'profile.dev.panic=\"unwind\"'");
    let message = "error: unwinding panics are not supported without std";
    seen.check(&project.fails(&unwinds).err, message);
    let said = project.fails(&format!("{build} --features std"));
    let message = "error: a guest has no `std`, but vmffi has its feature `std`";
    seen.check(&said.err, message);
}

fn building_a_host(seen: &mut Seen) {
    let project = Project::new("misled");
    let manifest = "[package]\nname = \"misled\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
         [build-dependencies]\n\
         vmffi = { version = \"0.1\", default-features = false, features = [\"build\"] }\n";
    project.write("Cargo.toml", manifest);
    project.write("src/main.rs", "static GUEST: &str = env!(\"GUEST_PLUGIN\");\nfn main() {}\n");
    project.write("build.rs", "fn main() { vmffi::build::guest(\"../plugin\"); }");
    seen.check(&project.fails("cargo build --quiet").err, "has no Cargo.toml");
    project.write("build.rs", "fn main() {}");
    let message = "error: environment variable `GUEST_PLUGIN` not defined at compile time";
    seen.check(&project.fails("cargo build --quiet").err, message);
}

fn running(seen: &mut Seen, backend: Backend) {
    let error = Image::open("no/such/file").expect_err("the file does not exist");
    // The output of a `main` that returns the error.
    let message =
        "the guest's file no/such/file cannot be read: No such file or directory (os error 2)";
    seen.check(&format!("{error:?}"), message);
    let itself = std::env::current_exe().expect("a program");
    let error = Image::open(itself).expect_err("no guest");
    seen.check(&error.to_string(), "the guest needs a dynamic linker");

    let project = guest();
    let built = |source: &str| {
        project.write("src/main.rs", source);
        project.must("cargo build --quiet --target-dir built");
        Image::open(project.path("built/debug/wrong"))
    };
    let error = built(&source(&[3], "")).expect_err("a program without an entry point");
    seen.check(&format!("{error:?}"), "its entry point 0x0 is not in an executable segment");

    let image = built(&source(&[], "")).expect("a guest");
    let error = MachineBuilder::new(&image).memory(1 << 20).build(backend, ()).unwrap_err();
    let message = "image, stacks and arenas exceed the machine's memory limit: raise `MachineBuilder::memory`";
    seen.check(&format!("{error:?}"), message);

    let host = MachineBuilder::new(&image).build(backend, ()).expect("a machine");
    let ping = PingClient::from(host.guest());
    let early = ping.recurse(1).expect_err("the guest has not started");
    seen.check(
        &early.to_string(),
        "no vCPU can run the call: all run other calls, or the guest was not run yet",
    );
    assert_eq!(host.run(), Ok(RunOutcome::Ready));
    assert_eq!((ping.recurse(2), ping.allocate(1000)), (Ok(3), Ok(1000)));
    ping.recurse(1 << 20).expect_err("the stack is too small");
    let exit = host.guest_exit().expect("an exit");
    seen.check(&format!("{exit:?}"), "the guest crashed: stack overflow");
    host.reset().expect("a reset");
    ping.allocate(2_000_000).expect_err("the heap is too small");
    let exit = host.guest_exit().expect("an exit").to_string();
    seen.check(&exit, "memory allocation of 2000000 bytes failed");

    struct Stranger;
    impl Other for Stranger {
        fn other(&self, _: &Peer) -> Result<(), CallError> {
            Ok(())
        }
    }
    vmffi::serve!(Stranger: Other; calls Other);
    let host = MachineBuilder::new(&image).build(backend, Stranger).expect("a machine");
    let error = host.run().map(|_| host.guest_exit());
    seen.check(&format!("{error:?}"), "guest and host do not agree on 1 function");
}
