//! The guest with many crates that the chapter on crates describes.

use std::{collections::HashMap, fs};

use support::skips::skip;
use vmffi::{
    host::RunOutcome,
    machine::{Backend, Image, MachineBuilder},
};

use crate::project::{Project, VMFFI};

// By its path: guest and host share one declaration, as the guide shows.
#[path = "crates/src/interface.rs"]
mod interface;

use interface::CratesClient;

const CHAPTER: &str = include_str!("../../docs/guide/crates.md");
const MANIFEST: &str = include_str!("crates/Cargo.toml");

fn read(file: &str) -> Vec<u8> {
    fs::read(format!("{VMFFI}/{file}")).expect(file)
}

/// The metadata of a package in cargo's format, with the names of its targets.
fn metadata() -> (Vec<u8>, String) {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version=1", "--no-deps", "--offline"]);
    // One package with many targets.
    cargo.current_dir(format!("{VMFFI}/fuzz"));
    let output = cargo.output().expect("cargo");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let (_, targets) = text.split_once("\"targets\":[").expect("targets");
    let names = targets.split("\"name\":\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let count = targets.matches("\"src_path\"").count();
    let names = names.take(count).collect::<Vec<_>>().join(" ");
    (text.into_bytes(), names)
}

/// An image of 3 by 2 pixels, as PNG.
fn picture() -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |name: &[u8; 4], data: &[u8]| {
        png.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        png.extend(name);
        png.extend(data);
        png.extend(crc32fast::hash(&[name, data].concat()).to_be_bytes());
    };
    chunk(b"IHDR", &[0, 0, 0, 3, 0, 0, 0, 2, 8, 0, 0, 0, 0]);
    let rows = [0, 10, 20, 30, 0, 40, 50, 60];
    chunk(b"IDAT", &miniz_oxide::deflate::compress_to_vec_zlib(&rows, 6));
    chunk(b"IEND", &[]);
    png
}

/// A WebAssembly module: `(func (export "double") (param i32) (result i32) local.get 0 i32.const 1 i32.shl)`.
const MODULE: &[u8] = b"\0asm\x01\0\0\0\x01\x06\x01\x60\x01\x7f\x01\x7f\x03\x02\x01\0\x07\x0a\x01\
    \x06double\0\0\x0a\x09\x01\x07\0\x20\0\x41\x01\x74\x0b";

fn most_frequent(text: &str) -> String {
    let mut counts = HashMap::new();
    text.split_whitespace().for_each(|word| *counts.entry(word).or_insert(0) += 1);
    let (word, count) = counts.into_iter().max_by_key(|(word, count)| (*count, *word)).unwrap();
    format!("{word} {count}")
}

fn works(features: &[&str]) {
    let Some(backend) = Backend::best() else {
        skip("the guest", "neither KVM nor processes can be used here");
        return;
    };
    let readme = read("README.md");
    let text = String::from_utf8(readme.clone()).expect("text");
    let gzip = read("examples/sandbox/sample.txt.gz");
    // Its header has a name or not; its body is everything before the checksum and the length.
    let body =
        if gzip[3] == 8 { 11 + gzip[10..].iter().position(|b| *b == 0).unwrap() } else { 10 };
    let sample = miniz_oxide::inflate::decompress_to_vec(&gzip[body..gzip.len() - 8]).unwrap();
    let (json, targets) = metadata();
    let lines = text.lines().count();
    let postcard = text.lines().enumerate().map(|(number, line)| {
        let long = |number: usize| if number < 128 { 1 } else { 2 };
        long(number) + long(line.len()) + line.len()
    });
    let postcard = postcard.sum::<usize>() + if lines < 128 { 1 } else { 2 };
    let links = text.match_indices("](").filter(|(at, _)| !text[at + 2..].starts_with(')')).count();

    let target = format!("{}/../guests", env!("CARGO_TARGET_TMPDIR"));
    let build = format!(
        "cd {VMFFI:?}/tests/newcomer/crates && cargo build --release --locked --quiet --target-dir {target:?} --features {:?}",
        features.join(",")
    );
    // Its crates are in a lock file of their own, and nobody may have fetched them yet.
    Project::new("crates").must_with(&build, &[("CARGO_NET_OFFLINE", "false")]);
    let image = Image::open(format!("{target}/release/crates")).unwrap();
    let machine = MachineBuilder::new(&image).arenas(4 << 20, 1 << 20);
    let host = machine.build(backend, ()).unwrap();
    assert_eq!(host.run(), Ok(RunOutcome::Ready), "{:?}", host.guest_exit());
    let guest = CratesClient::from(host.guest());
    let work = |name: &str, input: &[u8]| {
        let result = guest.work(name, input).and_then(|text| text.read_string());
        result.unwrap_or_else(|error| panic!("{name}: {error}: {:?}", host.guest_exit()))
    };
    let mut done = 0;
    let mut check = |name: &str, input: &[u8], expected: &str| {
        assert!(MANIFEST.contains(&format!("\n{name} = ")), "{name} is not in the manifest");
        assert!(CHAPTER.contains(&format!("`{name}`")), "the chapter does not name {name}");
        assert_eq!(work(name, input), expected, "{name}");
        done += 1;
    };
    check("base64", b"foobar", "Zm9vYmFy");
    check("hashbrown", &readme, &most_frequent(&text));
    check("libm", b"2", "1.414213562");
    check("minicbor", b"1 23 24 1000000", "84011718181a000f4240");
    check("miniz_oxide", &gzip, &String::from_utf8(sample).unwrap());
    check("postcard", &readme, &postcard.to_string());
    check("regex-automata", &readme, &links.to_string());
    check("serde_json", &json, &targets);
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    check("sha2", b"abc", abc);
    check("time", b"2024-02-28T23:59:59+01:00", "1709247599");
    check("uuid", b"python.org", "886313e1-3b8a-5372-9b90-0c9aee199e5d");
    check("winnow", b"1, 20, 300", "321");
    check("zune-png", &picture(), "3 2 60");
    let packed: usize = work("lz4_flex", &readme).parse().unwrap();
    assert!((readme.len() / 4..readme.len()).contains(&packed), "{packed}");
    if features.contains(&"interpreters") {
        check("rhai", b"let sum = 0; for i in 0..100 { sum += i } sum", "4950");
        check("wasmi", MODULE, "42");
    }
    assert!(done >= 12, "{done}");
}

#[test]
fn crates_work_in_a_guest() {
    works(&[]);
}

#[test]
#[ignore = "the compiler takes a minute for them; `.ci/deep newcomer` runs it"]
fn interpreters_work_in_a_guest() {
    works(&["interpreters"]);
}
