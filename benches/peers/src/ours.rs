//! This crate, through a loopback.

use std::hint::black_box;

use vmffi::{
    CallError, ForeignBuf, ForeignList, ForeignSlice, Peer, SharedBuf, loopback::Loopback,
};

use crate::{
    Entry, entries,
    measure::{Run, each},
};

vmffi::ffi_interface! {
    #[derive(Clone, Copy)]
    #[size(32)]
    pub struct Block { a: u64, b: u32, c: i32, d: f64, e: u16, f: u16, g: bool }

    pub struct EntryView<'a> { name: &'a str, path: &'a str, size: u64, mode: u32, links: u32 }

    pub interface Calls {
        fn scalar(x: u64) -> u64;
        fn three(x: u64, step: u32, by: f64) -> u64;
        fn bytes(bytes: ForeignBuf) -> u64;
        fn returned() -> ForeignBuf;
        fn numbers(numbers: ForeignSlice<u64>) -> u64;
        fn record(block: Block) -> Block;
        fn entries(entries: ForeignList<EntryView>) -> u64;
        fn owned_entries(entries: ForeignList<EntryView>) -> u64;
    }
}

struct Host(Vec<u8>);

impl Calls for Host {
    fn scalar(&self, _: &Peer, x: u64) -> Result<u64, CallError> {
        Ok(x.wrapping_add(1))
    }

    fn three(&self, _: &Peer, x: u64, step: u32, by: f64) -> Result<u64, CallError> {
        Ok(x.wrapping_add(u64::from(step)) ^ by.to_bits())
    }

    fn bytes(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        Ok(black_box(bytes.read_vec()?).len() as u64)
    }

    fn returned(&self, guest: &Peer) -> Result<SharedBuf, CallError> {
        SharedBuf::copy_from(guest, &self.0)
    }

    fn numbers(&self, _: &Peer, numbers: ForeignSlice<u64>) -> Result<u64, CallError> {
        Ok(black_box(numbers.read_vec()?).len() as u64)
    }

    fn record(&self, _: &Peer, block: Block) -> Result<Block, CallError> {
        Ok(Block { a: block.a.wrapping_add(1), ..block })
    }

    fn entries(&self, _: &Peer, entries: ForeignList<EntryView>) -> Result<u64, CallError> {
        let read = |entry: EntryView| (entry.name.len() + entry.path.len()) as u64 + entry.size;
        Ok(entries.read()?.iter().map(read).sum())
    }

    fn owned_entries(&self, _: &Peer, entries: ForeignList<EntryView>) -> Result<u64, CallError> {
        let own = |entry: EntryView| Entry {
            name: entry.name.to_owned(),
            path: entry.path.to_owned(),
            size: entry.size,
            mode: entry.mode,
            links: entry.links,
        };
        Ok(black_box(entries.read()?.iter().map(own).collect::<Vec<_>>()).len() as u64)
    }
}

vmffi::serve!(Host: Calls);

/// The host, as the guest sees it. The connection stays as long as the process.
fn host() -> &'static Peer {
    let pair = Loopback::builder().arenas(4 << 20, 4 << 20).build((), Host(vec![7; 4096]));
    let pair = pair.expect("memory for a loopback");
    Box::leak(Box::new(pair)).host()
}

/// The callers: one function each, as a user would write it.
mod call {
    use super::*;

    #[inline(never)]
    pub fn scalar(peer: &Peer, x: u64) -> Result<u64, CallError> {
        CallsClient::from(peer).scalar(x)
    }

    #[inline(never)]
    pub fn three(peer: &Peer, x: u64, step: u32, by: f64) -> Result<u64, CallError> {
        CallsClient::from(peer).three(x, step, by)
    }

    #[inline(never)]
    pub fn borrowed(peer: &Peer, bytes: &[u8]) -> Result<u64, CallError> {
        CallsClient::from(peer).bytes(bytes)
    }

    #[inline(never)]
    pub fn made(peer: &Peer, len: usize) -> Result<u64, CallError> {
        let bytes = SharedBuf::zeroed(peer, len)?;
        CallsClient::from(peer).bytes(bytes)
    }

    #[inline(never)]
    pub fn returned(peer: &Peer) -> Result<Vec<u8>, CallError> {
        CallsClient::from(peer).returned()?.read_vec()
    }

    #[inline(never)]
    pub fn numbers(peer: &Peer, numbers: &[u64]) -> Result<u64, CallError> {
        CallsClient::from(peer).numbers(numbers)
    }

    #[inline(never)]
    pub fn entries(peer: &Peer, entries: &[EntryView]) -> Result<u64, CallError> {
        CallsClient::from(peer).entries(entries)
    }

    #[inline(never)]
    pub fn owned_entries(peer: &Peer, entries: &[EntryView]) -> Result<u64, CallError> {
        CallsClient::from(peer).owned_entries(entries)
    }

    #[inline(never)]
    pub fn record(peer: &Peer, block: Block) -> Result<Block, CallError> {
        CallsClient::from(peer).record(block)
    }
}

/// A call whose failure ends the run.
fn calls<R>(mut call: impl FnMut(&Peer) -> Result<R, CallError> + 'static) -> Run {
    let peer = host();
    each(move || call(black_box(peer)).unwrap_or_else(|error| panic!("{error}")))
}

pub fn scalar() -> Run {
    calls(|peer| call::scalar(peer, black_box(7)))
}

pub fn three() -> Run {
    calls(|peer| call::three(peer, black_box(7), black_box(8), black_box(9.5)))
}

pub fn borrowed(len: usize) -> Run {
    let bytes = vec![7; len];
    calls(move |peer| call::borrowed(peer, black_box(&bytes)))
}

pub fn made(len: usize) -> Run {
    calls(move |peer| call::made(peer, black_box(len)))
}

pub fn returned() -> Run {
    calls(call::returned)
}

pub fn numbers() -> Run {
    let numbers = vec![7; 1 << 17];
    calls(move |peer| call::numbers(peer, black_box(&numbers)))
}

impl<'a> From<&'a Entry> for EntryView<'a> {
    fn from(entry: &'a Entry) -> Self {
        let Entry { name, path, size, mode, links } = entry;
        Self { name, path, size: *size, mode: *mode, links: *links }
    }
}

/// What a caller sends who has the entries with text of its own.
fn views(entries: &[Entry]) -> Vec<EntryView<'_>> {
    entries.iter().map(EntryView::from).collect()
}

/// The receiver checks the bytes and reads each entry, but keeps nothing.
pub fn entries_in_place() -> Run {
    let entries = entries();
    calls(move |peer| call::entries(peer, &views(black_box(&entries))))
}

pub fn owned_entries() -> Run {
    let entries = entries();
    calls(move |peer| call::owned_entries(peer, &views(black_box(&entries))))
}

pub fn record() -> Run {
    let block = Block { a: 1, b: 2, c: -3, d: 4.5, e: 5, f: 6, g: true };
    calls(move |peer| call::record(peer, black_box(block)))
}
