//! `vmffi::build`: a host's build script builds a guest if and only if it must, in any environment.

use std::{fs, time::Duration};

use crate::project::{Project, Said};

const HOST: &str = r#"
[package]
name = "outer"
version = "0.1.0"
edition = "2024"

[build-dependencies]
vmffi = { version = "0.1", default-features = false, features = ["build"] }

[profile.release]
opt-level = 0
"#;

/// A guest that uses only the linking of the crate, so that it is built quickly.
const GUEST: &str = r#"
[package]
name = "inner-guest"
version = "0.1.0"
edition = "2024"

[features]
loud = []

[dependencies]
part = { path = "../part" }

[build-dependencies]
vmffi = { version = "0.1", default-features = false, features = ["build"] }

[workspace]
"#;

const MAIN: &str = r#"
#![no_std]
#![no_main]
#![allow(unexpected_cfgs)]
#[cfg(of_the_host)]
compile_error!("flags of the host");
#[cfg(not(panic = "abort"))]
compile_error!("unwinds");
#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    static TEXT: &str = concat!("text=", include_str!("../data.txt"));
    core::hint::black_box(TEXT);
    core::hint::black_box(part::part());
    #[cfg(feature = "loud")]
    core::hint::black_box("loud=1");
    loop {}
}
"#;

const HOST_MAIN: &str = r#"
static GUEST: &[u8] = include_bytes!(env!("GUEST_INNER_GUEST"));
fn main() {
    let found: Vec<_> = ["text=", "part=", "loud="].iter().filter_map(|name| {
        let at = GUEST.windows(5).position(|bytes| bytes == name.as_bytes())?;
        Some(String::from_utf8_lossy(&GUEST[at..at + 6]).into_owned())
    }).collect();
    println!("{} {}", env!("GUEST_INNER_GUEST"), found.join(" "));
}
"#;

fn project(name: &str) -> Project {
    let project = Project::new(name);
    // A unique name: in a shared target folder, packages with the same name and relative path are the same.
    project.write("host/Cargo.toml", &HOST.replace("outer", &format!("outer-{name}")));
    project.write("host/build.rs", "fn main() { vmffi::build::guest(\"../guest\"); }");
    project.write("host/src/main.rs", HOST_MAIN);
    project.write("guest/Cargo.toml", GUEST);
    project.write("guest/build.rs", "fn main() { vmffi::build::link(); }");
    project.write("guest/src/main.rs", MAIN);
    project.write("guest/data.txt", "1");
    let part = "[package]\nname = \"part\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    project.write("part/Cargo.toml", part);
    project.write("part/src/lib.rs", "#![no_std]\npub fn part() -> &'static str { \"part=1\" }");
    project
}

const RUN: &str = "cd host && cargo run -v";

/// Whether cargo has rebuilt the host.
fn built(said: &Said) -> bool {
    assert!(said.err.contains(" outer-"), "{}", said.err);
    !said.err.contains("Fresh outer-")
}

/// Changes a file, at a later time of the file system than cargo's last look at it.
fn change(project: &Project, file: &str, text: &str) {
    std::thread::sleep(Duration::from_millis(20));
    fs::write(project.path(file), text).expect("a file");
}

#[test]
fn a_guest_is_built_again_when_something_has_changed() {
    let project = project("changes");
    // Cargo writes this file, which does not count as a change.
    fs::remove_file(project.path("guest/Cargo.lock")).expect("a lock file");
    let first = project.must(RUN);
    assert!(built(&first) && first.out.ends_with("/inner-guest text=1 part=1\n"), "{}", first.out);
    assert!(project.path("guest/Cargo.lock").exists());
    let again = project.must(RUN);
    assert!(!built(&again), "{}", again.err);

    let twice = ["guest/src/main.rs", "guest/build.rs", "part/Cargo.toml", "guest/Cargo.lock"];
    for file in twice {
        let text = fs::read_to_string(project.path(file)).expect("a file");
        change(&project, file, &(text + "\n"));
        assert!(built(&project.must(RUN)), "{file}");
    }
    change(&project, "guest/data.txt", "2");
    let said = project.must(RUN);
    assert!(said.out.ends_with(" text=2 part=1\n"), "{}", said.out);
    change(&project, "part/src/lib.rs", "#![no_std]\nmod new;\npub use new::part;");
    let text = "pub fn part() -> &'static str { \"part=2\" }";
    change(&project, "part/src/new.rs", text);
    assert!(project.must(RUN).out.ends_with(" text=2 part=2\n"));
    change(&project, "part/src/new.rs", &text.replace('2', "3"));
    let last = project.must(RUN);
    assert!(last.out.ends_with(" text=2 part=3\n"), "{}", last.out);
    let again = project.must(RUN);
    assert!(!built(&again), "{}", again.err);

    // The lock file is deleted, so none fits.
    change(
        &project,
        "host/build.rs",
        "fn main() { vmffi::build::Guest::new(\"../guest\").locked().build(); }",
    );
    fs::remove_file(project.path("guest/Cargo.lock")).expect("a lock file");
    let said = project.fails(RUN);
    assert!(said.err.contains("--locked"), "{}", said.err);
    let options =
        "vmffi::build::Guest::new(\"../guest\").profile(\"dev\").features([\"loud\"]).build();";
    change(&project, "host/build.rs", &format!("fn main() {{ {options} }}"));
    let said = project.must(RUN);
    assert!(said.out.ends_with("/debug/inner-guest text=2 part=3 loud=1\n"), "{}", said.out);
}

/// Each variable is set at once, in a release build: values that would break a guest or make cargo wait for itself.
#[test]
#[ignore = "the compiler builds all anew for it; `.ci/deep newcomer` runs it"]
fn the_hosts_environment_does_not_reach_the_guest() {
    let project = project("environment");
    project
        .write("wrapper", "#!/bin/sh\ncase \"$*\" in *inner_guest*) exit 1; esac\nexec \"$@\"\n");
    project.must("chmod +x wrapper");
    let wrapper = project.path("wrapper");
    let wrapper = wrapper.to_str().expect("text");
    // A configuration in the folders of both applies to both.
    let config = "[build]\nbuild-dir = \"built\"\ndep-info-basedir = \".\"\nrustflags = [\"--cfg\", \"of_the_host\"]\n";
    project.write("host/.cargo/config.toml", config);
    let variables = [
        ("RUSTC_WRAPPER", wrapper),
        ("RUSTC_WORKSPACE_WRAPPER", wrapper),
        ("RUSTFLAGS", "--cfg of_the_host"),
        ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "--cfg of_the_host"),
        ("CARGO_PROFILE_RELEASE_PANIC", "unwind"),
        ("CARGO_TERM_VERBOSE", "true"),
    ];
    let release = format!("timeout 1800 sh -c '{RUN} --release'");
    let said = project.must_with(&release, &variables);
    assert!(said.out.ends_with("/release/inner-guest text=1 part=1\n"), "{}", said.out);
    assert!(!built(&project.must_with(&release, &variables)));
    // The files of the guest are watched, and the variables of its profile.
    change(&project, "guest/data.txt", "2");
    let said = project.must_with(&release, &variables);
    assert!(said.out.ends_with(" text=2 part=1\n"), "{}", said.out);
    let with_debug = [&variables[..], &[("CARGO_PROFILE_RELEASE_DEBUG", "1")]].concat();
    assert!(built(&project.must_with(&release, &with_debug)));
}

#[test]
fn build_errors_of_a_guest_are_shown() {
    let project = project("problems");
    change(&project, "guest/src/main.rs", &format!("{MAIN}\nfn wrong() -> u32 {{ \"text\" }}\n"));
    let said = project.fails(RUN);
    let expected = ["  error[E0308]: mismatched types", "--> src/main.rs:21:21", "cannot be built"];
    for part in expected {
        assert!(said.err.contains(part), "{part}\n{}", said.err);
    }
    assert!(!said.err.contains("panicked at"), "{}", said.err);

    change(&project, "guest/src/main.rs", &format!("{MAIN}\nfn unused() {{}}\n"));
    let warned = project.must(RUN);
    let warning = "warning: outer-problems@0.1.0: warning: function `unused` is never used";
    assert!(warned.err.contains(warning), "{}", warned.err);

    for (script, expected) in [
        ("guest(\"../gust\")", "the guest's folder /"),
        ("guest(\"../gust\")", "host/../gust has no Cargo.toml"),
        ("guest(\"../part\")", "host/../part has no program that is built"),
        ("Guest::new(\"../guest\").features([\"quiet\"]).build()", "quiet"),
        (
            "guest(\"../guest\"); vmffi::build::guest(\"../guest\")",
            "a second program of guests has the name `inner-guest`: rename one of the two",
        ),
    ] {
        change(&project, "host/build.rs", &format!("fn main() {{ vmffi::build::{script}; }}"));
        let said = project.fails(RUN);
        assert!(said.err.contains(expected), "{script}: {expected}\n{}", said.err);
    }
    let part = fs::read_to_string(project.path("part/Cargo.toml")).expect("a file");
    change(&project, "part/Cargo.toml", &part.replace("name = \"part\"", "name = "));
    change(&project, "host/build.rs", "fn main() { vmffi::build::guest(\"../guest\"); }");
    let said = project.fails(RUN);
    assert!(said.err.contains("part/Cargo.toml"), "{}", said.err);
}
