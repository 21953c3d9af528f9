//! `docs/abi.md` against the crate. Numbers in the document's tables are read from the document;
//! hashes are computed by the document's rules, not with the crate's own hasher. Clauses are
//! cited by their numbers, and `citations` checks that each one is.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::alloc::{Layout as HeapLayout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Barrier, Mutex};

use vmffi::abi::{ABI_VERSION, Answer, Side, Transport, answer, pointer, signature, trap};
use vmffi::contract::Contract;
use vmffi::loopback::Loopback;
use vmffi::{
    CallError, ConnectError, ErrorKind, Failure, FfiType, Foreign, ForeignBuf, ForeignPacked,
    ForeignSlice, ForeignStr, GRANULE_SIZE, List, MAX_DEPTH, PAGE_SIZE, Peer, RegionError,
    RegionLayout, RegionMemory, SendAs, Serve, Shared, SharedBuf, SharedStr,
};

mod batches;
mod calls;
mod citations;
mod document;
mod guest;
mod hash;
mod memory;
mod packed;
mod types;

const DOCUMENT: &str = include_str!("../../docs/abi.md");

/// The rows of the table in a section whose heading row begins with `heading`, without that row.
fn table(section: &str, heading: &[&str]) -> Vec<Vec<String>> {
    let (_, text) = DOCUMENT.split_once(&format!("\n## {section}\n")).expect(section);
    let text = text.split("\n## ").next().unwrap();
    let mut rows = text
        .lines()
        .map(|line| match line.trim().strip_prefix('|') {
            Some(cells) => cells.strip_suffix('|').unwrap_or(cells).split('|').map(plain).collect(),
            None => Vec::new(),
        })
        .skip_while(|row: &Vec<String>| *row != heading);
    assert!(rows.next().is_some(), "{section} has no table {heading:?}");
    let rows: Vec<_> = rows.skip(1).take_while(|row| !row.is_empty()).collect();
    assert!(rows.iter().all(|row| row.len() == heading.len()), "{section}: {rows:?}");
    rows
}

/// A cell without the marks of a code span.
fn plain(cell: &str) -> String {
    let cell = cell.trim();
    match cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) {
        Some(code) if !code.contains('`') => code.to_owned(),
        _ => cell.to_owned(),
    }
}

fn number(cell: &str) -> u64 {
    match cell.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => cell.parse(),
    }
    .unwrap_or_else(|error| panic!("{cell}: {error}"))
}

vmffi::ffi_interface! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Stat { size: u64, mode: u32, links: u32 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Mixed { a: u8, b: u32, c: u16, d: u128, e: bool }

    #[derive(Debug)]
    pub struct File {
        name: ForeignStr,
        stat: Stat,
        body: Option<ForeignBuf>,
        meta: Option<Foreign<Stat>>,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum OpenError: u32 { NotFound = 1, Denied = 2 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Level: i8 { Low = -1, High = 1 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Event: u16 { Quit, Key { code: u32, down: bool } = 5, Moved(u64) }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Braced: u16 { First {}, Second {} }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Nothing {}

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Entry<'a> { name: &'a str, size: u64, mode: Option<u32>, tags: List<'a, &'a [u8]> }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Cell<'a>: u8 { Null, Int(i64), Text(&'a str) = 9 }

    #[allow(clippy::too_many_arguments, reason = "a parameter struct with all scalars")]
    pub interface Vectors {
        fn nothing();
        fn scalars(a: u8, b: i16, c: u32, d: i64, e: usize, f: isize, g: f32, h: f64, i: bool, j: char) -> u64;
        fn narrow(value: i8) -> u16;
        fn word(value: i32) -> char;
        fn wide(value: u128) -> i128;
        fn stat(file: u64) -> Foreign<Stat>;
        fn read(file: u64, max: u32) -> ForeignBuf;
        fn open(path: ForeignStr, flags: u32) -> Result<u64, OpenError>;
        fn sum(values: ForeignSlice<u16>) -> u64;
        fn total(files: ForeignSlice<Stat>, mixed: Mixed) -> Mixed;
        fn event(event: Event) -> Option<Event>;
        fn send(file: File) -> Result<(), Level>;
        fn maybe(buf: Option<ForeignBuf>, meta: Option<Foreign<Stat>>, nested: Option<Option<u8>>) -> Option<bool>;
    }

    /// Served by both sides: each calls the other until the calls are `left` deep.
    pub interface Ladder {
        fn climb(left: u32) -> u32;
    }
}

const FUNCTIONS: [&vmffi::abi::Function; 13] = [
    ParamsVectorsNothing::FUNCTION,
    ParamsVectorsScalars::FUNCTION,
    ParamsVectorsNarrow::FUNCTION,
    ParamsVectorsWord::FUNCTION,
    ParamsVectorsWide::FUNCTION,
    ParamsVectorsStat::FUNCTION,
    ParamsVectorsRead::FUNCTION,
    ParamsVectorsOpen::FUNCTION,
    ParamsVectorsSum::FUNCTION,
    ParamsVectorsTotal::FUNCTION,
    ParamsVectorsEvent::FUNCTION,
    ParamsVectorsSend::FUNCTION,
    ParamsVectorsMaybe::FUNCTION,
];

/// What a handler has kept.
#[derive(Default)]
struct Kept {
    files: Vec<File>,
    bufs: Vec<ForeignBuf>,
}

#[derive(Default)]
struct Host {
    kept: Mutex<Kept>,
    /// Where threads with nested calls wait for each other before they return.
    top: Option<Barrier>,
}

impl Vectors for Host {
    fn nothing(&self, _: &Peer) -> Result<(), CallError> {
        Ok(())
    }
    #[rustfmt::skip]
    fn scalars(
        &self, _: &Peer, a: u8, b: i16, c: u32, d: i64, e: usize, f: isize, g: f32, h: f64, i: bool, j: char,
    ) -> Result<u64, CallError> {
        let right = (a, b, c, d, e, f) == (1, -2, 3, -4, 5, -6) && (g, h, i, j) == (1.5, -2.5, true, 'ä');
        Ok(u64::from(right))
    }
    fn narrow(&self, _: &Peer, value: i8) -> Result<u16, CallError> {
        match value {
            // Refuses, and panics: two ways to fail that are reached.
            0 => Err(CallError::refused()),
            1 => panic!("asked to"),
            _ => Ok(value.unsigned_abs().into()),
        }
    }
    fn word(&self, _: &Peer, value: i32) -> Result<char, CallError> {
        char::from_u32(value as u32).ok_or(CallError::refused())
    }
    fn wide(&self, _: &Peer, value: u128) -> Result<i128, CallError> {
        Ok(value as i128)
    }
    fn stat(&self, guest: &Peer, file: u64) -> Result<Shared<Stat>, CallError> {
        Shared::new(guest, Stat { size: file, mode: 2, links: 3 })
    }
    fn read(&self, guest: &Peer, file: u64, max: u32) -> Result<SharedBuf, CallError> {
        SharedBuf::copy_from(guest, &vec![file as u8; max as usize])
    }
    fn open(&self, _: &Peer, path: ForeignStr, flags: u32) -> Result<u64, Failure<OpenError>> {
        match flags {
            0 => Ok(path.read_string()?.len() as u64),
            _ => Err(OpenError::Denied.into()),
        }
    }
    fn sum(&self, _: &Peer, values: ForeignSlice<u16>) -> Result<u64, CallError> {
        Ok(values.read_vec()?.into_iter().map(u64::from).sum())
    }
    fn total(&self, _: &Peer, _: ForeignSlice<Stat>, mixed: Mixed) -> Result<Mixed, CallError> {
        Ok(mixed)
    }
    fn event(&self, _: &Peer, event: Event) -> Result<Option<Event>, CallError> {
        Ok(Some(event))
    }
    fn send(&self, _: &Peer, file: File) -> Result<(), Failure<Level>> {
        self.kept.lock().unwrap().files.push(file);
        Err(Level::Low.into())
    }
    fn maybe(
        &self,
        _: &Peer,
        buf: Option<ForeignBuf>,
        meta: Option<Foreign<Stat>>,
        nested: Option<Option<u8>>,
    ) -> Result<Option<bool>, CallError> {
        let found = meta.map(|meta| meta.read()).transpose()?.is_some() && nested == Some(None);
        self.kept.lock().unwrap().bufs.extend(buf);
        Ok(Some(found))
    }
}

impl Ladder for Host {
    fn climb(&self, guest: &Peer, left: u32) -> Result<u32, CallError> {
        if let (1, Some(top)) = (left, &self.top) {
            top.wait();
        }
        climb(guest, left)
    }
}

struct Guest;

impl Ladder for Guest {
    fn climb(&self, host: &Peer, left: u32) -> Result<u32, CallError> {
        climb(host, left)
    }
}

/// The number of calls so far, this one included.
fn climb(peer: &Peer, left: u32) -> Result<u32, CallError> {
    match left {
        1 => Ok(1),
        _ => Ok(LadderClient::from(peer).climb(left - 1)? + 1),
    }
}

vmffi::serve!(Host: Vectors, Ladder);
vmffi::serve!(Guest: Ladder);

/// Zeroed memory that begins at a page.
struct Pages(*mut u8, HeapLayout);

// SAFETY: plain memory, owned.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `Region::with` with the same layout.
        unsafe { dealloc(self.0, self.1) }
    }
}

/// A connection, and a view of its region through the shared memory.
struct Region {
    pair: Loopback,
    base: *mut u8,
}

impl Region {
    fn new() -> Self {
        Self::with(0, Host::default())
    }

    /// A region in memory that is filled with one byte.
    fn with(fill: u8, server: Host) -> Self {
        let (guest, host) = (3 * PAGE_SIZE, 75 * PAGE_SIZE);
        let len = RegionLayout::new(guest, host).unwrap().len();
        let heap = HeapLayout::from_size_align(len as usize, PAGE_SIZE as usize).unwrap();
        // SAFETY: `heap` has a size.
        let base = unsafe { alloc_zeroed(heap) };
        assert!(!base.is_null());
        // SAFETY: `base` has `len` bytes, and nothing else refers to them yet.
        unsafe { base.write_bytes(fill, len as usize) };
        let builder = Loopback::builder().arenas(guest, host);
        // SAFETY: `base` has `len` bytes for as long as the `Pages` live, and no reference covers
        // them; the only other accesses are those of this thread through `self.base`, between calls.
        let memory = unsafe { RegionMemory::new(base, len, Box::new(Pages(base, heap))) };
        let pair = builder.memory(memory).build(Guest, server);
        Self { pair: pair.unwrap(), base }
    }

    fn at(&self, offset: u64, len: usize) -> *mut u8 {
        assert!(offset + len as u64 <= self.pair.layout().len());
        // SAFETY: the offset is within the region, by the assertion above.
        unsafe { self.base.add(offset as usize) }
    }

    fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: `at` has checked the range, and nothing writes to it now.
        unsafe { self.at(offset, len).copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        bytes
    }

    fn poke(&self, offset: u64, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: `at` has checked the range, and nothing reads it now.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn u64(&self, offset: u64) -> u64 {
        u64::from_le_bytes(self.bytes(offset, 8).try_into().unwrap())
    }

    /// The offsets of the guest's arena and of the host's.
    fn arena(&self, side: Side) -> u64 {
        self.pair.layout().arena(side).0
    }

    /// The byte of a release map for the granule of an offset in that side's arena.
    fn mark(&self, side: Side, offset: u64) -> &AtomicU8 {
        let granule = (offset - self.arena(side)) / GRANULE_SIZE as u64;
        let byte = self.at(self.pair.layout().release_map(side) + granule, 1);
        // SAFETY: a byte of a release map, only ever used as an atomic.
        unsafe { AtomicU8::from_ptr(byte) }
    }

    /// All marks in the map of the guest's arena: granules and loan numbers.
    fn marks(&self) -> Vec<(u64, u8)> {
        let arena = self.arena(Side::Guest);
        (0..self.pair.layout().granules(Side::Guest) as u64)
            .map(|i| (i, self.mark(Side::Guest, arena + 64 * i).load(Ordering::Acquire)))
            .filter(|(_, mark)| *mark != 0)
            .collect()
    }

    /// What the guest sends for a value that is alone in a transport.
    fn sent<T: FfiType>(&self, value: impl SendAs<T>) -> Transport {
        let mut out = self.pair.host().outgoing();
        let transport = value.into_transport(&mut out).unwrap();
        // The block is kept, as if a call had lent it.
        std::mem::forget(out);
        transport
    }

    /// The wire form that the guest sends for a value.
    fn wire<T: FfiType>(&self, value: impl SendAs<T>) -> Vec<u8> {
        let mut wire = vec![0; size_of::<T::Wire>()];
        value.encode(&mut wire, &mut self.pair.host().outgoing()).unwrap();
        wire
    }

    /// The wire form of a value that is sent behind a pointer.
    fn behind<T: FfiType>(&self, value: impl SendAs<T>) -> Vec<u8> {
        let Transport { primary, secondary } = self.sent::<T>(value);
        assert_eq!(secondary, 0);
        assert!(pointer::loan(primary) != 0);
        self.bytes(pointer::offset(primary), size_of::<T::Wire>())
    }

    /// A hypercall, by its words.
    fn call(&self, function: &vmffi::abi::Function, primary: u64, secondary: u64) -> Answer {
        raw(self.pair.host(), function.signature, Transport { primary, secondary })
    }
}

const EMPTY: Transport = Transport { primary: 0, secondary: 0 };

fn scalar(value: impl SendAs<u64>) -> Transport {
    Region::new().sent::<u64>(value)
}

/// Joins bytes that are easier to read in parts.
fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A raw call, by its words.
fn raw(peer: &vmffi::Peer, signature: u64, transport: Transport) -> Answer {
    // SAFETY: no test holds a reference to memory that its words name while the peer has handles to it.
    unsafe { peer.call(signature, transport) }
}

/// The value that `peer` has sent, as its other side decodes it.
fn incoming(peer: &vmffi::Peer) -> vmffi::Incoming<'_> {
    // SAFETY: each test decodes a word that it has lent once, as the type that it has lent.
    unsafe { peer.outgoing().incoming() }
}
