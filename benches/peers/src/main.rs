//! The same work through this crate and through its peers, interleaved in one run:
//!
//!     cargo run --release --manifest-path benches/peers/Cargo.toml
//!
//! It prints a table and writes `docs/peers.svg`. This crate's calls go through a loopback. As in the peers, caller and
//! handler are never inlined into each other. A line that is given as an argument selects the works whose names contain it;
//! the plot is written only when all are measured.

mod component;
mod encodings;
mod floors;
mod hyperlight;
mod measure;
mod ours;
mod plot;
mod random;
mod table;
mod wasm;

use measure::Work;

/// Two texts and three numbers.
#[derive(
    Clone,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    wasmtime::component::ComponentType,
    wasmtime::component::Lift,
    wasmtime::component::Lower,
)]
#[component(record)]
pub struct Entry {
    name: String,
    path: String,
    size: u64,
    mode: u32,
    links: u32,
}

/// The list that crosses; `component.wat` has the same.
fn entries() -> Vec<Entry> {
    let entry = |nr| Entry {
        name: "an-entry.txt".into(),
        path: "/the/place/where/it/is".into(),
        size: nr,
        mode: 0o644,
        links: 1,
    };
    (0..1000).map(entry).collect()
}

const TO_HOST: &str = "component model, guest to host";
const TO_GUEST: &str = "component model, host to guest";
const BEST_COMPONENT: &[&str] = &[TO_HOST, TO_GUEST];

/// One work a statement: how this crate does it, how peers do, the floors, and what the ratios should be.
fn works() -> Vec<Work> {
    vec![
        Work::new("scalar")
            .ours(ours::scalar())
            .peer("wasmtime, import, guest to host", wasm::import_scalar())
            .peer("wasmtime, typed call, host to guest", wasm::typed_scalar())
            .peer("Hyperlight, encoding alone", hyperlight::encoding())
            .peer("Hyperlight, encoding and virtqueue", hyperlight::virtqueue())
            .floor("indirect call", floors::indirect_call())
            .at_most(1.0, &["wasmtime, import, guest to host"])
            .at_most(2.5, &["indirect call"]),
        Work::new("three parameters")
            .ours(ours::three())
            .peer("wasmtime, import, guest to host", wasm::import_three())
            .peer("wasmtime, typed call, host to guest", wasm::typed_three())
            .peer("postcard, both ways", encodings::postcard_three())
            .at_most(0.8, &["wasmtime, typed call, host to guest"]),
        Work::new("64 B borrowed, read into a vector")
            .ours(ours::borrowed(64))
            .peer(TO_HOST, component::taken(64))
            .peer(TO_GUEST, component::given(64))
            .floor("Vec::clone", floors::clone(64))
            .at_most(0.6, BEST_COMPONENT)
            .at_most(2.5, &["Vec::clone"]),
        Work::new("4,096 B borrowed, read into a vector")
            .ours(ours::borrowed(4096))
            .peer(TO_HOST, component::taken(4096))
            .peer(TO_GUEST, component::given(4096))
            .floor("memcpy twice, and the vector", floors::two_copies(4096))
            .floor("Vec::clone", floors::clone(4096))
            .at_most(1.15, &["memcpy twice, and the vector"]),
        Work::new("4,096 B made in place, handed over, read into a vector")
            .ours(ours::made(4096))
            .peer(TO_HOST, component::made(4096))
            .at_most(0.9, &[TO_HOST]),
        Work::new("4,096 B returned, read into a vector")
            .ours(ours::returned())
            .peer(TO_GUEST, component::returned_to_guest())
            .peer(TO_HOST, component::returned_to_host()),
        Work::new("record of 32 B in and out")
            .ours(ours::record())
            .peer(TO_HOST, component::record_to_host())
            .peer(TO_GUEST, component::record_to_guest())
            .peer("postcard, both ways", encodings::postcard_record())
            .peer("rkyv, both ways", encodings::rkyv_record())
            .at_most(0.2, BEST_COMPONENT),
        Work::new("1 MiB of numbers borrowed, read into a vector")
            .ours(ours::numbers())
            .peer(TO_HOST, component::numbers_to_host())
            .floor("vmffi, 1 MiB of bytes", ours::borrowed(1 << 20))
            .floor("memcpy twice, and the vector", floors::two_copies(1 << 20))
            .at_most(1.2, &["vmffi, 1 MiB of bytes"]),
        Work::new("1,000 records of two texts and three numbers, read in place")
            .ours(ours::entries_in_place())
            .peer(TO_HOST, component::entries_to_host())
            .peer(TO_GUEST, component::entries_to_guest())
            .peer("postcard", encodings::postcard_entries())
            .peer("rkyv, read in place", encodings::rkyv_entries_in_place())
            .at_most(0.5, &["postcard"])
            .at_most(0.2, BEST_COMPONENT),
        Work::new("1,000 records of two texts and three numbers, read into a vector")
            .ours(ours::owned_entries())
            .peer(TO_HOST, component::entries_to_host())
            .peer(TO_GUEST, component::entries_to_guest())
            .peer("postcard", encodings::postcard_entries())
            .peer("rkyv", encodings::rkyv_entries()),
        Work::new("random among 1,024 functions")
            .ours(random::calls())
            .floor("indirect call, random", random::indirect_calls())
            .at_most(1.5, &["indirect call, random"]),
    ]
}

fn main() -> std::io::Result<()> {
    // The allocator keeps the memory that it has, so that no case pays for the kernel's pages by chance.
    for option in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: it changes a setting of the allocator, and no other thread runs.
        assert_eq!(unsafe { libc::mallopt(option, 32 << 20) }, 1);
    }
    let part = std::env::args().nth(1);
    let mut works = works();
    works.retain(|work| part.as_ref().is_none_or(|part| work.name.contains(part.as_str())));
    measure::run(&mut works);
    table::print(&works);
    if part.is_none() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/peers.svg");
        std::fs::write(path, plot::svg(&works))?;
    }
    Ok(())
}
