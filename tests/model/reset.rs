//! The effects of a reset, step by step, and while other threads have handles.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use vmffi::{
    CallError, ErrorKind, Foreign, ForeignBuf, ForeignSlice, ForeignStr, Peer, SendAs, Shared,
    SharedBuf, SharedSlice, SharedStr, abi::pointer, loopback::Loopback,
};

vmffi::ffi_interface! {
    pub struct Record { nr: u32, name: ForeignStr, body: Option<ForeignBuf> }

    pub interface Store {
        fn keep(body: ForeignBuf) -> u64;
        fn kept() -> ForeignBuf;
        fn fill(len: u64, byte: u8) -> ForeignBuf;
        fn record(nr: u32) -> Record;
        fn numbers(count: u32) -> ForeignSlice<u32>;
        fn number(value: u64) -> Foreign<u64>;
    }
}

/// Keeps the handles that it receives.
#[derive(Default)]
struct Server(Mutex<Vec<ForeignBuf>>);

vmffi::serve!(Server: Store);

impl Store for Server {
    fn keep(&self, _: &Peer, body: ForeignBuf) -> Result<u64, CallError> {
        let mut kept = self.0.lock().expect("no panics");
        kept.push(body);
        Ok(kept.len() as u64)
    }
    fn kept(&self, peer: &Peer) -> Result<SharedBuf, CallError> {
        let kept = self.0.lock().expect("no panics");
        SharedBuf::copy_from(peer, &kept.last().ok_or(CallError::refused())?.read_vec()?)
    }
    fn fill(&self, peer: &Peer, len: u64, byte: u8) -> Result<SharedBuf, CallError> {
        let mut buf = SharedBuf::zeroed(peer, len as usize)?;
        buf.as_mut_slice().fill(byte);
        Ok(buf)
    }
    fn record(&self, peer: &Peer, nr: u32) -> Result<SharedRecord, CallError> {
        let (name, body) = (SharedStr::copy_from(peer, "name")?, SharedBuf::copy_from(peer, b"")?);
        Ok(SharedRecord { nr, name, body: Some(body) })
    }
    fn numbers(&self, peer: &Peer, count: u32) -> Result<SharedSlice<u32>, CallError> {
        SharedSlice::copy_from(peer, &Vec::from_iter(0..count))
    }
    fn number(&self, peer: &Peer, value: u64) -> Result<Shared<u64>, CallError> {
        Shared::new(peer, value)
    }
}

const STALE: CallError = CallError::new(ErrorKind::Stale);

fn blocks(pair: &Loopback) -> [usize; 2] {
    [pair.host(), pair.guest()].map(|peer| peer.arena_stats().blocks)
}

/// ABI, Arenas and loans: every loan ends, whoever has a handle to it; the handle
/// cannot be read, and dropping it ends no later loan.
#[test]
fn loans_end_and_handles_are_stale() {
    let mut pair = Loopback::new(Server::default(), Server::default()).expect("a region");
    let store = StoreClient::from(pair.host());
    let (bytes, record) = (store.fill(100, 1).expect("room"), store.record(7).expect("room"));
    let (numbers, number) = (store.numbers(9).expect("room"), store.number(9).expect("room"));
    let empty = store.fill(0, 1).expect("no room is needed");
    assert_eq!(store.keep(b"kept by the host"), Ok(1));
    assert_eq!(blocks(&pair), [1, 4]);
    pair.reset();
    assert_eq!(blocks(&pair), [0, 0]);

    assert_eq!(bytes.read_vec(), Err(STALE));
    assert_eq!(bytes.read_at(99, &mut [0]), Err(STALE));
    assert_eq!(bytes.len(), 100);
    assert_eq!(record.name.read_string(), Err(STALE));
    assert_eq!(
        record.body.expect("an empty one").read_vec(),
        Ok(vec![]),
        "there is nothing to read"
    );
    assert_eq!(numbers.get(3), Err(STALE));
    assert_eq!(number.read(), Err(STALE));
    assert_eq!(empty.read_vec(), Ok(vec![]));
    let store = StoreClient::from(pair.host());
    let error = store.kept().expect_err("what the server has kept is stale as well");
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Stale, true));

    // The same places are lent again, and then the old handles are dropped.
    let again = store.fill(100, 2).expect("room");
    let numbers_again = store.numbers(9).expect("room");
    assert_eq!(store.keep(b"kept again"), Ok(2));
    drop((bytes, record.name, numbers, number));
    assert_eq!(blocks(&pair), [1, 2]);
    assert_eq!(again.read_vec(), Ok(vec![2; 100]));
    assert_eq!(numbers_again.read_vec(), Ok(Vec::from_iter(0..9)));
    drop((again, numbers_again));
    assert_eq!(blocks(&pair), [1, 0]);
}

/// ABI, Arenas and loans A-9: a block that was not sent is not a loan.
#[test]
fn unsent_blocks_can_be_sent_after_a_reset() {
    let mut pair = Loopback::new((), Server::default()).expect("a region");
    let mut buf = SharedBuf::with_capacity(pair.host(), 20).expect("room");
    buf.extend_from_slice(b"before").expect("room");
    let unsent = Shared::new(pair.host(), 1_u8).expect("room");
    for _ in 0..3 {
        pair.reset();
        assert_eq!(blocks(&pair), [2, 0]);
    }
    buf.extend_from_slice(b" and after").expect("room");
    let store = StoreClient::from(pair.host());
    assert_eq!(store.keep(buf), Ok(1));
    let kept = store.kept().and_then(|kept| kept.read_vec());
    assert_eq!(kept.as_deref(), Ok(&b"before and after"[..]));
    assert_eq!(blocks(&pair), [2, 0]);
    drop(unsent);
    pair.reset();
    assert_eq!(blocks(&pair), [0, 0]);
}

/// ABI, Arenas and loans A-9: the numbers of loans continue after a reset.
#[test]
fn numbers_of_loans_continue() {
    let mut pair = Loopback::new((), ()).expect("a region");
    let mut last = None;
    for _ in 0..600 {
        let mut out = pair.host().outgoing();
        let lent = SendAs::<ForeignBuf>::into_transport(b"x", &mut out).expect("room");
        std::mem::forget(out);
        let (place, loan) = (pointer::offset(lent.primary), pointer::loan(lent.primary));
        if let Some((old_place, old_loan)) = last.replace((place, loan)) {
            assert_eq!((place, loan), (old_place, old_loan % 255 + 1));
        }
        assert_eq!(blocks(&pair), [1, 0]);
        pair.reset();
    }
}

/// A copy during which a reset occurs is discarded: the holder of an old handle never sees bytes of a later
/// loan. (The bytes are read and written at the same time, which is the purpose of this test.)
#[test]
fn a_read_during_a_reset_is_stale() {
    const LEN: usize = 1 << 20;
    const ROUNDS: usize = 60;
    let builder = Loopback::builder().arenas(4096, LEN as u64);
    let mut pair = builder.build((), Server::default()).expect("a region");
    let (ones, mut whole) = (vec![1; LEN], 0);
    for _ in 0..ROUNDS {
        let old = StoreClient::from(pair.host()).fill(LEN as u64, 1).expect("room");
        let reading = AtomicBool::new(false);
        whole += std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut whole = 0;
                loop {
                    reading.store(true, Ordering::Relaxed);
                    match old.read_vec() {
                        Ok(bytes) => assert!(bytes == ones, "bytes of the new loan"),
                        Err(error) => {
                            assert_eq!(error, STALE);
                            return whole;
                        }
                    }
                    whole += 1;
                }
            });
            while !reading.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            pair.reset();
            let new = StoreClient::from(pair.host()).fill(LEN as u64, 2).expect("the same block");
            let whole = reader.join().expect("no panic");
            assert_eq!(new.read_vec(), Ok(vec![2; LEN]));
            whole
        });
    }
    println!("{ROUNDS} resets into reads of 1 MiB, {whole} more of which were over before");
}

/// Handles that are dropped on another thread during a reset end no later loan, whether their marks
/// arrive late or not at all.
#[test]
fn a_drop_during_a_reset_ends_no_new_loan() {
    const COUNT: usize = 24;
    let mut pair = Loopback::new((), Server::default()).expect("a region");
    for round in 0..120_usize {
        let fill = |pair: &Loopback, byte| -> Vec<_> {
            let store = StoreClient::from(pair.host());
            (0..COUNT).map(|_| store.fill(64, byte).expect("room")).collect()
        };
        let old = fill(&pair, 1);
        let dropping = AtomicBool::new(false);
        let new = std::thread::scope(|scope| {
            scope.spawn(|| {
                for (nr, handle) in old.into_iter().enumerate() {
                    dropping.fetch_or(nr >= round % COUNT, Ordering::Relaxed);
                    drop(handle);
                }
            });
            while !dropping.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            pair.reset();
            fill(&pair, 2)
        });
        assert_eq!(blocks(&pair), [0, COUNT]);
        assert!(new.iter().all(|new| new.read_vec() == Ok(vec![2; 64])));
        drop(new);
        pair.reset();
        assert_eq!(blocks(&pair), [0, 0]);
    }
}
