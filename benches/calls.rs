//! Measures calls in one process, each beside a floor: the cheapest way to do the same on this
//! machine. `cargo bench` measures both in one run, and ends with a table.
//!
//! A real boundary hides the peer from the compiler. Here `black_box` hides the peer, the values and the
//! table, and caller, link and handler are never inlined into each other.

use std::{
    alloc::{Layout, alloc, dealloc},
    cell::RefCell,
    hint::black_box,
    time::Duration,
};

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use vmffi::{CallError, ForeignBuf, ForeignList, Peer, SharedBuf, loopback::Loopback};

/// The modules in the folder `benches/common`.
mod common {
    pub mod many;
    pub mod slices;
    pub mod table;
}

use common::{
    many, slices,
    table::{self, Row, Target},
};

vmffi::ffi_interface! {
    #[derive(Clone, Copy, Debug)]
    #[size(32)]
    pub struct Block { a: u64, b: u32, c: i32, d: f64, e: u16, f: u16, g: bool }

    #[derive(Clone, Copy, Debug)]
    pub struct Entry<'a> { name: &'a str, size: u64, mode: u32 }

    pub interface Calls {
        fn scalar(x: u64) -> u64;
        fn two(x: u32, on: bool) -> u64;
        fn three(x: u64, step: u8, by: f64) -> u64;
        fn borrowed(bytes: ForeignBuf) -> u64;
        fn owned(bytes: ForeignBuf) -> u64;
        fn block(block: Block) -> Block;
        fn entries(entries: ForeignList<Entry>) -> u64;
    }
}

struct Host;

thread_local! {
    /// The destination of reads of large buffers. It is allocated beforehand, so that only the copy is measured.
    static LOCAL: RefCell<[u8; 4096]> = const { RefCell::new([0; 4096]) };
}

impl Calls for Host {
    fn scalar(&self, _: &Peer, x: u64) -> Result<u64, CallError> {
        Ok(x.wrapping_add(1))
    }

    fn two(&self, _: &Peer, x: u32, on: bool) -> Result<u64, CallError> {
        Ok(u64::from(x) + u64::from(on))
    }

    fn three(&self, _: &Peer, x: u64, step: u8, by: f64) -> Result<u64, CallError> {
        Ok(x.wrapping_add(u64::from(step)) ^ by.to_bits())
    }

    fn borrowed(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        let mut few = [0; 64];
        if bytes.len() <= few.len() {
            return Ok(u64::from(black_box(bytes.read_into(&mut few)?)[0]));
        }
        LOCAL.with_borrow_mut(|local| Ok(u64::from(black_box(bytes.read_into(local)?)[0])))
    }

    fn owned(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        Ok(bytes.len() as u64)
    }

    fn block(&self, _: &Peer, block: Block) -> Result<Block, CallError> {
        Ok(Block { a: block.a + 1, ..block })
    }

    fn entries(&self, _: &Peer, entries: ForeignList<Entry>) -> Result<u64, CallError> {
        let all = entries.read()?;
        Ok(all.iter().map(|entry| black_box(entry.name).len() as u64 + entry.size).sum())
    }
}

vmffi::serve!(Host: Calls);

/// The callers: one function each, as a user would write it.
mod call {
    use super::*;

    #[inline(never)]
    pub fn scalar(peer: &Peer, x: u64) -> u64 {
        good(CallsClient::from(peer).scalar(x))
    }

    #[inline(never)]
    pub fn two(peer: &Peer, x: u32, on: bool) -> u64 {
        good(CallsClient::from(peer).two(x, on))
    }

    #[inline(never)]
    pub fn three(peer: &Peer, x: u64, step: u8, by: f64) -> u64 {
        good(CallsClient::from(peer).three(x, step, by))
    }

    #[inline(never)]
    pub fn borrowed(peer: &Peer, bytes: &[u8]) -> u64 {
        good(CallsClient::from(peer).borrowed(bytes))
    }

    #[inline(never)]
    pub fn owned(peer: &Peer, bytes: &[u8]) -> u64 {
        let mut buf = good(SharedBuf::with_capacity(peer, bytes.len()));
        good(buf.extend_from_slice(bytes));
        good(CallsClient::from(peer).owned(buf))
    }

    #[inline(never)]
    pub fn block(peer: &Peer, block: Block) -> Block {
        good(CallsClient::from(peer).block(block))
    }

    #[inline(never)]
    pub fn entries(peer: &Peer, entries: &[Entry<'_>]) -> u64 {
        good(CallsClient::from(peer).entries(entries))
    }

    #[inline(never)]
    pub fn allocate(peer: &Peer, len: usize) {
        drop(good(SharedBuf::with_capacity(peer, len)));
    }
}

/// The floors.
mod floor {
    use super::*;

    #[inline(never)]
    pub fn indirect(function: fn(u64) -> u64, x: u64) -> u64 {
        function(x)
    }

    #[inline(never)]
    pub fn next(x: u64) -> u64 {
        x.wrapping_add(1)
    }

    #[inline(never)]
    pub fn copy(to: &mut [u8], from: &[u8]) {
        to.copy_from_slice(from);
    }

    /// Records with a text and two numbers, copied and dropped.
    #[inline(never)]
    pub fn clone(records: &[(String, u64, u32)]) -> u64 {
        let all = black_box(records.to_vec());
        all.iter().map(|(name, size, _)| black_box(name.as_str()).len() as u64 + size).sum()
    }

    /// `malloc` and `free`.
    #[inline(never)]
    pub fn allocate(len: usize) {
        let layout = Layout::from_size_align(len, 8).expect("a small size");
        // SAFETY: no size here is 0.
        let block = black_box(unsafe { alloc(layout) });
        // SAFETY: allocated above with the same layout.
        unsafe { dealloc(block, layout) };
    }
}

/// Bytes that begin at a cache line, as the blocks of an arena do.
#[derive(Clone)]
#[repr(C, align(64))]
struct Line([u8; 64]);

struct Bytes(Vec<Line>, usize);

impl Bytes {
    fn new(len: usize) -> Self {
        Self(vec![Line([7; 64]); len.div_ceil(64)], len)
    }

    fn get(&mut self) -> &mut [u8] {
        // SAFETY: the vector has at least that many bytes.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.1) }
    }
}

fn measure<R>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut call: impl FnMut() -> R) {
    group.bench_function(name, |bencher| bencher.iter(&mut call));
}

/// The value of a call that succeeds, with the check that its user would make.
#[inline(always)]
fn good<R>(result: Result<R, CallError>) -> R {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// Measures each case after its floor.
fn scalars(c: &mut Criterion, rows: &mut Vec<Row>) {
    let pair = Loopback::new((), Host).expect("memory");
    let peer = || black_box(pair.host());

    let mut group = c.benchmark_group("scalar");
    let function: fn(u64) -> u64 = floor::next;
    measure(&mut group, "indirect call", || floor::indirect(black_box(function), black_box(7)));
    measure(&mut group, "(u64) -> u64", || call::scalar(peer(), black_box(7)));
    rows.push(Row::new("scalar", "(u64) -> u64", "indirect call", Target::Times(3.0)));
    group.finish();

    let mut group = c.benchmark_group("parameters");
    let target = Target::TimesOr(2.0, 25.0);
    measure(&mut group, "malloc+free 64 B", || floor::allocate(black_box(64)));
    measure(&mut group, "(u32, bool) -> u64", || call::two(peer(), black_box(7), black_box(true)));
    measure(&mut group, "(u64, u8, f64) -> u64", || {
        call::three(peer(), black_box(7), black_box(8), black_box(9.5))
    });
    for case in ["(u32, bool) -> u64", "(u64, u8, f64) -> u64"] {
        rows.push(Row::new("parameters", case, "malloc+free 64 B", target));
    }
    group.finish();

    let mut group = c.benchmark_group("struct");
    let block = Block { a: 1, b: 2, c: -3, d: 4.5, e: 5, f: 6, g: true };
    let (mut here, mut there) = (Bytes::new(32), Bytes::new(32));
    let (here, there) = (here.get(), there.get());
    // One block each way, written once and read once.
    measure(&mut group, "2 x (malloc+free, 2 x memcpy 32 B)", || {
        for _ in 0..2 {
            floor::allocate(black_box(64));
            floor::copy(black_box(there), black_box(here));
            floor::copy(black_box(here), black_box(there));
        }
    });
    measure(&mut group, "(Block of 32 B) -> Block", || call::block(peer(), black_box(block)));
    rows.push(Row::new(
        "struct",
        "(Block of 32 B) -> Block",
        "2 x (malloc+free, 2 x memcpy 32 B)",
        Target::TimesOr(2.0, 50.0),
    ));
    group.finish();
}

/// Buffers: the sender copies into its arena, and the receiver copies out of it.
fn buffers(c: &mut Criterion, rows: &mut Vec<Row>) {
    let pair = Loopback::new((), Host).expect("memory");
    let peer = || black_box(pair.host());
    let mut group = c.benchmark_group("buffer");
    for (len, shown) in [(64, "64 B"), (4096, "4 KiB"), (1 << 20, "1 MiB")] {
        let (mut from, mut to) = (Bytes::new(len), Bytes::new(len));
        let (from, to) = (from.get(), to.get());
        let memcpy = format!("memcpy {shown}");
        measure(&mut group, &memcpy, || floor::copy(black_box(to), black_box(from)));
        if len <= 4096 {
            let case = format!("borrowed {shown}, read");
            measure(&mut group, &case, || call::borrowed(peer(), black_box(from)));
            rows.push(Row::new("buffer", &case, &memcpy, Target::Copies(2)));
        }
        if len != 4096 {
            let case = format!("owned {shown}, dropped");
            measure(&mut group, &case, || call::owned(peer(), black_box(from)));
            rows.push(Row::new("buffer", &case, &memcpy, Target::Copies(1)));
        }
    }
    group.finish();

    let mut group = c.benchmark_group("packed");
    for (len, shown) in [(10, "10"), (1000, "1,000")] {
        let records: Vec<_> =
            (0..len).map(|nr| (format!("an-entry-{nr}.txt"), nr, nr as u32)).collect();
        let entries: Vec<_> = records
            .iter()
            .map(|(name, size, mode)| Entry { name, size: *size, mode: *mode })
            .collect();
        let cloned = format!("clone {shown} records");
        measure(&mut group, &cloned, || floor::clone(black_box(&records)));
        let case = format!("list of {shown} records, read");
        measure(&mut group, &case, || call::entries(peer(), black_box(&entries)));
        rows.push(Row::new("packed", &case, &cloned, Target::TimesOr(1.0, 150.0)));
    }
    group.finish();

    let mut group = c.benchmark_group("allocate and release");
    for (len, shown) in [(64, "64 B"), (4096, "4 KiB")] {
        let malloc = format!("malloc+free {shown}");
        measure(&mut group, &malloc, || floor::allocate(black_box(len)));
        measure(&mut group, shown, || call::allocate(peer(), black_box(len)));
        rows.push(Row::new("allocate and release", shown, &malloc, Target::TimesOr(2.0, 25.0)));
    }
    group.finish();
}

fn main() {
    let mut criterion = table::criterion(Duration::from_millis(300), Duration::from_millis(700));
    let mut rows = Vec::new();
    scalars(&mut criterion, &mut rows);
    many::dispatch(&mut criterion, &mut rows);
    buffers(&mut criterion, &mut rows);
    slices::slices(&mut criterion, &mut rows);
    criterion.final_summary();
    table::print(&rows);
}
