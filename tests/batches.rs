//! Batches whose guest answers with anything, that are reset in between, or whose arguments misbehave. `machines` runs batches
//! on all connections, and `attacks` those of hostile guests.
#![cfg(not(miri))]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::{
    alloc::{Layout as HeapLayout, alloc_zeroed, dealloc},
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use vmffi::{
    Batch, CallError, CrossesAs, ErrorKind, ForeignBuf, ForeignStr, PAGE_SIZE, Peer, RegionLayout,
    RegionMemory, SharedBuf,
    abi::{
        Registers, Side, Transport, answer,
        batch::{Entry, TAKE},
        pointer, signature, trap,
    },
    host::{GuestExit, Host, HostBuilder, RunOutcome, Vcpu},
    loopback::Loopback,
};

/// A number whose conversion does something else as well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Odd(u32);

thread_local! {
    static WHEN_SENT: Cell<Option<fn()>> = const { Cell::new(None) };
}

impl CrossesAs for Odd {
    type Wire = u32;
    fn to_wire(&self) -> u32 {
        if let Some(does) = WHEN_SENT.take() {
            does();
        }
        self.0
    }
    fn from_wire(wire: u32) -> Option<Self> {
        Some(Self(wire))
    }
}

vmffi::crosses_as!(Odd);

vmffi::ffi_interface! {
    pub interface Store {
        fn add(a: u64, b: u64) -> u64;
        fn make(len: u32) -> ForeignBuf;
        fn keep(bytes: ForeignBuf, text: ForeignStr) -> u64;
        fn panics(bytes: ForeignBuf) -> u64;
        fn odd(bytes: ForeignBuf, odd: Odd) -> u32;
    }
}

#[derive(Default)]
struct Server {
    kept: Mutex<Vec<(ForeignBuf, ForeignStr)>>,
}

impl Store for Server {
    fn add(&self, _: &Peer, a: u64, b: u64) -> Result<u64, CallError> {
        Ok(a + b)
    }
    fn make(&self, peer: &Peer, len: u32) -> Result<SharedBuf, CallError> {
        SharedBuf::zeroed(peer, len as usize)
    }
    fn keep(&self, _: &Peer, bytes: ForeignBuf, text: ForeignStr) -> Result<u64, CallError> {
        let mut kept = self.kept.lock().unwrap();
        kept.push((bytes, text));
        Ok(kept.len() as u64)
    }
    fn panics(&self, peer: &Peer, _: ForeignBuf) -> Result<u64, CallError> {
        let _made = SharedBuf::zeroed(peer, 100)?;
        resume_unwind(Box::new("quietly"))
    }
    fn odd(&self, _: &Peer, _: ForeignBuf, odd: Odd) -> Result<u32, CallError> {
        Ok(odd.0)
    }
}

vmffi::serve!(Server: Store; calls Store);

fn pair() -> Loopback {
    Loopback::builder()
        .arenas(256 << 10, 256 << 10)
        .build(Server::default(), Server::default())
        .unwrap()
}

/// The blocks in use on both sides.
fn blocks(pair: &Loopback) -> [usize; 2] {
    [pair.host(), pair.guest()].map(|peer| peer.arena_stats().blocks)
}

#[test]
fn a_handler_that_panics_in_the_middle() {
    let pair = pair();
    for peer in [pair.host(), pair.guest()] {
        let batch = peer.batch().unwrap();
        let store = StoreClient::from(&batch);
        let before = store.add(1, 2).unwrap();
        let panics = store.panics(b"bytes").unwrap();
        let takes = store.add(&panics, 1).unwrap();
        let after = store.make(100).unwrap();
        let mut results = batch.send().unwrap();
        assert_eq!(results.get(before), Ok(3));
        let error = results.get(panics).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerPanicked, true));
        assert_eq!(results.get(takes).unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(results.get(after).unwrap().len(), 100);
        drop(results);
        assert_eq!(blocks(&pair), [0, 0]);
    }
}

/// An argument that panics while it is sent takes only its call with it, and closes the batch for further ones.
#[test]
fn an_argument_that_panics() {
    let pair = pair();
    let batch = pair.host().batch().unwrap();
    let store = StoreClient::from(&batch);
    let sum = store.add(1, 2).unwrap();
    let before = blocks(&pair);
    WHEN_SENT.set(Some(|| resume_unwind(Box::new("quietly"))));
    assert!(catch_unwind(AssertUnwindSafe(|| store.odd(b"lent before", Odd(1)))).is_err());
    assert_eq!((batch.len(), blocks(&pair)), (1, before));
    let error = store.odd(b"bytes", Odd(1)).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Busy, false));
    let mut results = batch.send().unwrap();
    assert_eq!(results.get(sum), Ok(3));
    drop(results);
    assert_eq!(blocks(&pair), [0, 0]);
}

thread_local! {
    static CURRENT: Cell<Option<&'static Batch<'static>>> = const { Cell::new(None) };
    static FAILED: Cell<Option<ErrorKind>> = const { Cell::new(None) };
}

/// An argument that adds a call while its own is being added.
#[test]
fn an_argument_that_uses_the_batch() {
    let pair: &'static Loopback = Box::leak(Box::new(pair()));
    let batch: &'static Batch<'static> = Box::leak(Box::new(pair.host().batch().unwrap()));
    CURRENT.set(Some(batch));
    let store = StoreClient::from(batch);
    let one = store.add(0, 1).unwrap();
    WHEN_SENT.set(Some(|| {
        let store = StoreClient::from(CURRENT.get().unwrap());
        FAILED.set(store.keep(b"bytes", "text").err().map(|error| error.kind()));
    }));
    let odd = store.odd(b"bytes", Odd(5)).unwrap();
    assert_eq!(FAILED.get(), Some(ErrorKind::Busy));
    let sum = store.add(&one, &one).unwrap();
    assert_eq!(batch.len(), 3);
    // SAFETY: the only other reference, in `CURRENT`, is not used any more.
    let batch = unsafe { std::ptr::from_ref(batch).read() };
    let mut results = batch.send().unwrap();
    assert_eq!((results.get(odd), results.get(sum)), (Ok(5), Ok(2)));
    drop(results);
    assert_eq!(blocks(pair), [0, 0]);
}

/// Handles of several batches that are kept, and that outlive batch, results and loans beside them.
#[test]
fn handles_outlive_their_batch() {
    let pair = pair();
    let mut kept = Vec::new();
    for round in 1..=5_u32 {
        let batch = pair.host().batch().unwrap();
        let store = StoreClient::from(&batch);
        let made = store.make(round * 10).unwrap();
        let count = store.keep(&[round as u8; 100], "text").unwrap();
        let mut results = batch.send().unwrap();
        kept.push(results.get(made).unwrap());
        assert_eq!(results.get(count), Ok(u64::from(round)));
    }
    assert_eq!(blocks(&pair), [10, 5]);
    drop(kept);
    assert_eq!(blocks(&pair), [10, 0]);
}

/// Zeroed memory that begins at a page.
struct Pages(*mut u8, HeapLayout);

// SAFETY: the memory is owned, and any thread may use it.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `host` with the same layout.
        unsafe { dealloc(self.0, self.1) }
    }
}

/// How the guest answers a batch: a status, where the answers are, how many bytes it says that they have, and the answers.
struct Forged {
    status: u64,
    at: u64,
    len: u64,
    answers: Vec<Entry>,
}

type Script = Arc<Mutex<Vec<Forged>>>;

/// A guest that answers batches by a script.
struct Liar {
    base: usize,
    layout: RegionLayout,
    script: Script,
    /// The entries of the batches.
    seen: Arc<Mutex<Vec<Vec<Entry>>>>,
}

impl Liar {
    fn memory(&self, offset: u64, len: u64) -> *mut u8 {
        assert!(offset + len <= self.layout.len());
        std::ptr::with_exposed_provenance_mut(self.base + offset as usize)
    }
}

impl Vcpu for Liar {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        let Some(Registers { kind: answer::UPCALL, word: called, transport }) = answer else {
            return Ok(Registers { kind: trap::READY, word: 0, transport: Transport::EMPTY });
        };
        assert_eq!(called, signature::BATCH);
        let (at, len) = (pointer::offset(transport.primary), transport.secondary);
        let from = self.memory(at, len);
        let entries = (0..len as usize / Entry::LEN).map(|nr| {
            // SAFETY: `memory` has checked that there are `len` bytes.
            Entry::from_bytes(unsafe { from.add(nr * Entry::LEN).cast::<[u8; 24]>().read() })
        });
        self.seen.lock().unwrap().push(entries.collect());
        let forged = self.script.lock().unwrap().remove(0);
        let (arena, _) = self.layout.arena(Side::Guest);
        for (nr, answer) in (0..).zip(&forged.answers) {
            let to = self.memory(arena + nr * 24, 24).cast::<[u8; 24]>();
            // SAFETY: `memory` has checked the place, and no reference covers it.
            unsafe { to.write(answer.to_bytes()) };
        }
        let transport = Transport { primary: forged.at, secondary: forged.len };
        Ok(Registers { kind: trap::RETURN, word: forged.status, transport })
    }

    fn snapshot(&mut self, _: &AtomicBool) -> std::io::Result<()> {
        Ok(())
    }

    fn restore(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Lied {
    host: Host<Liar>,
    script: Script,
    seen: Arc<Mutex<Vec<Vec<Entry>>>>,
    arena: u64,
}

fn lied() -> Lied {
    let layout = RegionLayout::new(PAGE_SIZE, 16 * PAGE_SIZE).unwrap();
    let heap = HeapLayout::from_size_align(layout.len() as usize, PAGE_SIZE as usize).unwrap();
    // SAFETY: the layout of a region has more than 0 bytes.
    let base = unsafe { alloc_zeroed(heap) };
    assert!(!base.is_null());
    let keep = Box::new(Pages(base, heap));
    // SAFETY: the memory lives until `keep` is dropped, and `Liar` writes to the guest's arena only.
    let memory = unsafe { RegionMemory::new(base, layout.len(), keep) };
    let (script, seen) = (Script::default(), Arc::default());
    let (arena, base) = (layout.arena(Side::Guest).0, base.expose_provenance());
    let liar = Liar { base, layout, script: script.clone(), seen: Arc::clone(&seen) };
    let host = HostBuilder::new(memory, layout).build(Server::default(), [liar]).unwrap();
    assert_eq!(host.run(), Ok(RunOutcome::Ready));
    Lied { host, script, seen, arena }
}

fn says(status: u64, primary: u64, secondary: u64) -> Entry {
    Entry { word: status, transport: Transport { primary, secondary } }
}

/// The answer to a batch as a whole is forged: its status, its place, its length.
#[test]
fn forged_answers_to_a_batch() {
    let Lied { host, script, seen, arena } = lied();
    let lent = arena | 1 << 56;
    for (status, at, len, expected, reached) in [
        (0, lent, 48, ErrorKind::BadValue, true),
        (0, lent, 71, ErrorKind::BadValue, true),
        (0, lent, 96, ErrorKind::BadValue, true),
        (0, 0, 0, ErrorKind::BadValue, true),
        (0, lent, u64::MAX, ErrorKind::BadValue, true),
        (0, 0, 72, ErrorKind::BadPointer, true),
        (0, arena - 64, 72, ErrorKind::BadPointer, true),
        (0, arena + PAGE_SIZE - 64, 72, ErrorKind::BadPointer, true),
        (0, lent + 4, 72, ErrorKind::BadPointer, true),
        // Not a loan.
        (0, arena, 72, ErrorKind::BadPointer, true),
        (1, lent, 72, ErrorKind::Protocol, true),
        (2, lent, 72, ErrorKind::UnknownFunction, false),
        (5, lent, 72, ErrorKind::OutOfMemory, false),
        (64 + 4, lent, 72, ErrorKind::BadValue, true),
        (999, lent, 72, ErrorKind::Protocol, true),
    ] {
        let before = host.guest().arena_stats().blocks;
        let batch = host.guest().batch().unwrap();
        let store = StoreClient::from(&batch);
        let kept = store.keep(b"bytes", "text").unwrap();
        let made = store.make(5).unwrap();
        let sum = store.add(1, 2).unwrap();
        script.lock().unwrap().push(Forged { status, at, len, answers: Vec::new() });
        let error = batch.send().unwrap_err();
        assert_eq!(
            (error.kind(), error.reached()),
            (expected, reached),
            "{status}, {at:#x}, {len}"
        );
        drop((kept, made, sum));
        // What was not reached comes back; the guest has the rest.
        let lost = host.guest().arena_stats().blocks - before;
        assert_eq!(lost, if reached { 2 } else { 0 });
    }
    assert!(seen.lock().unwrap().iter().all(|entries| entries.len() == 3));
}

/// The answers to single calls are forged: each fails by itself, what was not reached comes back, and what is not a value is
/// refused.
#[test]
fn forged_answers_in_a_batch() {
    let Lied { host, script, seen, arena } = lied();
    let lent = |offset: u64| (arena + offset) | 1 << 56;
    let batch = host.guest().batch().unwrap();
    let store = StoreClient::from(&batch);
    let sums: Vec<_> = (0..3).map(|nr| store.add(nr, 1).unwrap()).collect();
    let makes: Vec<_> = (0..4).map(|len| store.make(len).unwrap()).collect();
    let keeps: Vec<_> = (0..4).map(|_| store.keep(b"bytes", "text").unwrap()).collect();
    let takes = store.add(&sums[0], 1).unwrap();
    let answers = vec![
        says(0, 7, 0),
        says(0, 7, 1),
        says(1, 7, 0),
        says(0, lent(1024), 64),
        says(0, arena + 1024, 64),
        says(0, lent(1 << 20), 64),
        says(0, lent(2048), u64::MAX),
        says(4, u64::MAX, u64::MAX),
        says(64 + 11, 0, 0),
        says(77777, 0, 0),
        says(0, 3, 0),
        // To the `TAKE`, and to the call.
        says(1 << 63, 5, 5),
        says(8, 0, 0),
    ];
    script.lock().unwrap().push(Forged { status: 0, at: lent(0), len: 13 * 24, answers });
    let mut results = batch.send().unwrap();
    let why = |error: CallError| (error.kind(), error.reached());
    let mut sums = sums.into_iter().map(|sum| results.get(sum).map_err(why));
    assert_eq!(sums.next(), Some(Ok(7)));
    assert_eq!(sums.next(), Some(Err((ErrorKind::BadValue, true))));
    assert_eq!(sums.next(), Some(Err((ErrorKind::Protocol, true))));
    drop(sums);
    let mut makes = makes.into_iter().map(|made| results.get(made).map_err(why));
    assert_eq!(makes.next().unwrap().unwrap().read_vec().unwrap().len(), 64);
    for _ in 0..3 {
        let made = makes.next().unwrap().map(|made| made.len());
        assert_eq!(made, Err((ErrorKind::BadPointer, true)));
    }
    drop(makes);
    let keeps: Vec<_> = keeps.into_iter().map(|kept| results.get(kept).map_err(why)).collect();
    let [unread, panicked, unknown, kept] = &keeps[..] else { panic!() };
    assert_eq!(*unread, Err((ErrorKind::BadValue, false)));
    assert_eq!(*panicked, Err((ErrorKind::PeerPanicked, true)));
    assert_eq!(*unknown, Err((ErrorKind::Protocol, true)));
    assert_eq!(*kept, Ok(3));
    assert_eq!(results.get(takes).map_err(why), Err((ErrorKind::Cancelled, false)));
    drop(results);
    // Two loans each of three calls that were reached.
    assert_eq!(host.guest().arena_stats().blocks, 6);
    let seen = seen.lock().unwrap();
    assert_eq!((seen[0].len(), seen[0][11].word, seen[0][11].transport.primary), (13, TAKE, 0));
}

/// A batch belongs to the life of the guest in which it was begun, and so do its results.
#[test]
fn a_reset_in_between() {
    let Lied { host, script, arena, .. } = lied();
    // What is lent is stale.
    let batch = host.guest().batch().unwrap();
    let kept = StoreClient::from(&batch).keep(b"bytes", "text").unwrap();
    host.reset().unwrap();
    let more = StoreClient::from(&batch).keep(b"more bytes", "text").unwrap();
    let error = batch.send().unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Stale, false));
    drop((kept, more));
    assert_eq!(host.guest().arena_stats().blocks, 0);
    // And so is what an answer lends, whether or not it was read.
    let answers = vec![says(0, (arena + 1024) | 1 << 56, 64); 2];
    let forged = Forged { status: 0, at: arena | 1 << 56, len: 48, answers };
    script.lock().unwrap().push(forged);
    let batch = host.guest().batch().unwrap();
    let store = StoreClient::from(&batch);
    let made = [1, 2].map(|len| store.make(len).unwrap());
    let mut results = batch.send().unwrap();
    let [read, unread] = made;
    let read = results.get(read).unwrap();
    host.reset().unwrap();
    assert_eq!(read.read_vec().unwrap_err().kind(), ErrorKind::Stale);
    let late = results.get(unread).unwrap();
    assert_eq!(late.read_vec().unwrap_err().kind(), ErrorKind::Stale);
    drop((late, results, read));
    assert_eq!(host.guest().arena_stats().blocks, 0);
    // A batch that is dropped after a reset.
    let batch = host.guest().batch().unwrap();
    StoreClient::from(&batch).keep(b"bytes", "text").map(drop).unwrap();
    host.reset().unwrap();
    drop(batch);
    assert_eq!(host.guest().arena_stats().blocks, 0);
}

/// A guest that has exited gets nothing.
#[test]
fn a_guest_that_is_stopped() {
    let Lied { host, .. } = lied();
    let batch = host.guest().batch().unwrap();
    StoreClient::from(&batch).keep(b"bytes", "text").map(drop).unwrap();
    host.stopper().stop();
    let error = batch.send().unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, false));
    assert_eq!(host.guest().arena_stats().blocks, 0);
}
