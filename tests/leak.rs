//! A million calls of every kind, successful and failing, from two threads at once, lose no block of either
//! arena.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

use std::{
    panic,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use vmffi::{
    CallError, ErrorKind, Failure, ForeignBuf, ForeignSlice, ForeignStr, Outgoing, Peer, SendAs,
    SharedBuf, SharedSlice, SharedStr,
    abi::{Answer, Function, Transport},
    loopback::Loopback,
};

vmffi::ffi_interface! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Fault: u8 { Empty = 1, Odd = 2 }

    pub struct Parcel { id: u64, body: ForeignBuf, label: Option<ForeignStr> }

    /// The parameters of `Depot::odd`, with a flag that takes any bit pattern.
    pub struct FalseOdd { body: ForeignBuf, text: ForeignStr, flag: u8 }

    pub interface Depot {
        fn add(a: u32, b: u32) -> u32;
        fn echo(value: ForeignBuf) -> ForeignBuf;
        fn parcel(value: Parcel) -> Result<Parcel, Fault>;
        fn sum(values: ForeignSlice<u32>) -> u64;
        fn text(value: ForeignStr) -> u64;
        fn odd(body: ForeignBuf, text: ForeignStr, flag: bool) -> u64;
        fn refuse(body: ForeignBuf, text: ForeignStr) -> u64;
        fn panic(body: ForeignBuf, text: ForeignStr) -> ForeignBuf;
        fn keep(body: ForeignBuf) -> u64;
        fn ask(text: ForeignStr, depth: u32) -> ForeignBuf;
        /// Its result is larger than an arena.
        fn large(body: ForeignBuf) -> Parcel;
    }

    /// An interface that no side serves.
    pub interface Nowhere {
        fn gone(body: ForeignBuf, text: ForeignStr, parcel: Parcel) -> u64;
    }
}

/// Serves on both sides, so that calls nest.
#[derive(Default)]
struct Server {
    /// Handles that are kept after their calls.
    kept: Arc<Mutex<Vec<ForeignBuf>>>,
}

vmffi::serve!(Server: Depot);

impl Depot for Server {
    fn add(&self, _: &Peer, a: u32, b: u32) -> Result<u32, CallError> {
        Ok(a.wrapping_add(b))
    }

    fn echo(&self, peer: &Peer, value: ForeignBuf) -> Result<SharedBuf, CallError> {
        SharedBuf::copy_from(peer, &value.read_vec()?)
    }

    fn parcel(&self, peer: &Peer, value: Parcel) -> Result<SharedParcel, Failure<Fault>> {
        if value.body.is_empty() {
            return Err(Fault::Empty.into());
        }
        let body = SharedBuf::copy_from(peer, &value.body.read_vec()?)?;
        let label = SharedStr::copy_from(peer, "back")?;
        if value.id % 2 == 1 {
            // The buffer for the result is dropped.
            return Err(Fault::Odd.into());
        }
        Ok(SharedParcel { id: value.id, body, label: value.label.map(|_| label) })
    }

    fn sum(&self, _: &Peer, values: ForeignSlice<u32>) -> Result<u64, CallError> {
        values.iter().try_fold(0, |sum, value| Ok(sum + u64::from(value?)))
    }

    fn text(&self, _: &Peer, value: ForeignStr) -> Result<u64, CallError> {
        Ok(value.read_string()?.len() as u64)
    }

    fn odd(
        &self,
        _: &Peer,
        body: ForeignBuf,
        text: ForeignStr,
        flag: bool,
    ) -> Result<u64, CallError> {
        Ok((body.len() + text.len()) as u64 + u64::from(flag))
    }

    fn refuse(&self, _: &Peer, _: ForeignBuf, _: ForeignStr) -> Result<u64, CallError> {
        Err(CallError::refused())
    }

    fn panic(&self, peer: &Peer, body: ForeignBuf, _: ForeignStr) -> Result<SharedBuf, CallError> {
        let _answer = SharedBuf::copy_from(peer, &body.read_vec()?)?;
        panic!("as asked for")
    }

    fn keep(&self, _: &Peer, body: ForeignBuf) -> Result<u64, CallError> {
        let mut kept = self.kept.lock().map_err(|_| CallError::refused())?;
        kept.push(body);
        if kept.len() > 20 {
            kept.remove(7);
        }
        Ok(kept.len() as u64)
    }

    fn ask(&self, peer: &Peer, text: ForeignStr, depth: u32) -> Result<SharedBuf, CallError> {
        match depth {
            0 => SharedBuf::copy_from(peer, text.read_string()?.as_bytes()),
            _ => {
                let other = DepotClient::from(peer);
                let inner = other.ask(text.read_string()?.as_str(), depth - 1)?;
                SharedBuf::copy_from(peer, &inner.read_vec()?)
            }
        }
    }

    fn large(&self, peer: &Peer, body: ForeignBuf) -> Result<SharedParcel, CallError> {
        let label = Some(SharedStr::copy_from(peer, "a label")?);
        let body = SharedBuf::zeroed(peer, body.len() << 20)?;
        Ok(SharedParcel { id: 0, body, label })
    }
}

#[derive(Default)]
struct Counts {
    kinds: [AtomicU64; 14],
}

const KINDS: [&str; 14] = [
    "scalars",
    "buffers",
    "structs of handles",
    "application errors",
    "slices",
    "bad UTF-8",
    "bad values",
    "refused",
    "panicked",
    "kept",
    "nested calls",
    "not served",
    "too large for the caller",
    "too large for the callee",
];

fn expect<T>(result: Result<T, CallError>, why: ErrorKind) {
    match result {
        Ok(_) => panic!("no error, {why:?} expected"),
        Err(error) => assert_eq!(error.kind(), why, "{error}"),
    }
}

/// Larger than an arena.
static LARGE: LazyLock<String> = LazyLock::new(|| "x".repeat(1 << 20));

/// Makes one call of a kind; returns the number of calls, nested ones included.
fn call(peer: &Peer, kind: usize, nr: u64) -> u64 {
    let depot = DepotClient::from(peer);
    let bytes = [nr as u8; 300];
    let bytes = &bytes[..1 + (nr % 299) as usize];
    let parcel = |id: u64, body: &[u8]| -> Result<SharedParcel, CallError> {
        let label = (nr % 3 != 0).then(|| SharedStr::copy_from(peer, "label")).transpose()?;
        Ok(SharedParcel { id, body: SharedBuf::copy_from(peer, body)?, label })
    };
    match kind {
        0 => assert_eq!(depot.add(nr as u32, 1).ok(), Some((nr as u32).wrapping_add(1))),
        1 => {
            // Another thread's failing calls must not touch this thread's buffers.
            let answer = depot.echo(bytes).expect("room");
            assert_eq!(answer.read_vec().expect("bytes"), bytes);
        }
        2 => {
            let answer = depot.parcel(parcel(nr & !1, bytes).expect("room")).expect("room");
            assert_eq!(answer.body.read_vec().expect("bytes"), bytes);
            assert_eq!(answer.label.is_some(), nr % 3 != 0);
        }
        3 => {
            let (id, body, fault) =
                if nr % 2 == 0 { (2, &[][..], Fault::Empty) } else { (1, bytes, Fault::Odd) };
            let error = depot.parcel(parcel(id, body).expect("room")).map(drop).expect_err("odd");
            assert_eq!(error, Failure::App(fault));
        }
        4 => {
            let values = SharedSlice::copy_from(peer, &[nr as u32, 1, 2]).expect("room");
            assert_eq!(depot.sum(values).ok(), Some(u64::from(nr as u32) + 3));
        }
        5 => {
            let mut out = peer.outgoing();
            let t = SendAs::<ForeignBuf>::into_transport(b"caf\xe9 ", &mut out);
            let answer = raw(peer, out, ParamsDepotText::FUNCTION, t.expect("room"));
            assert_eq!(CallError::from_status(answer.status).kind(), ErrorKind::BadValue);
        }
        6 => {
            // The callee decodes and releases the handles, and the caller takes its loans back: each block is freed once.
            let mut out = peer.outgoing();
            let odd = SharedFalseOdd {
                body: SharedBuf::copy_from(peer, bytes).expect("room"),
                text: SharedStr::copy_from(peer, "text").expect("room"),
                flag: 2 + (nr % 200) as u8,
            };
            let t = odd.into_transport(&mut out);
            let answer = raw(peer, out, ParamsDepotOdd::FUNCTION, t.expect("room"));
            assert_eq!(CallError::from_status(answer.status).kind(), ErrorKind::BadValue);
        }
        7 => expect(depot.refuse(bytes, "text"), ErrorKind::Refused),
        8 => expect(depot.panic(bytes, "text"), ErrorKind::PeerPanicked),
        9 => assert!(depot.keep(bytes).is_ok()),
        10 => {
            let depth = (nr % 20) as u32;
            let answer = depot.ask("nested", depth);
            if depth >= vmffi::MAX_DEPTH {
                expect(answer, ErrorKind::TooDeep);
                return u64::from(vmffi::MAX_DEPTH);
            }
            assert_eq!(answer.and_then(|buf| buf.read_vec()).as_deref(), Ok(&b"nested"[..]));
            return u64::from(depth) + 1;
        }
        11 => {
            let parcel = parcel(nr, bytes).expect("room");
            expect(
                NowhereClient::from(peer).gone(bytes, "text", parcel),
                ErrorKind::UnknownFunction,
            );
        }
        12 => expect(depot.refuse(bytes, LARGE.as_str()), ErrorKind::OutOfMemory),
        _ => expect(depot.large(bytes), ErrorKind::OutOfMemory),
    }
    1
}

fn work(pair: &Loopback, thread: u64, calls: u64, counts: &Counts) {
    // 24 of 25 calls are of the kinds below, in turn; large ones are rare.
    let order = [0, 1, 2, 3, 4, 5, 6, 7, 9, 1, 6, 2, 11, 0, 1, 6, 3, 10, 5, 7, 4, 13, 0, 8];
    let (mut nr, mut done) = (thread, 0);
    while done < calls {
        nr += 1;
        let kind = if nr % 25 == 0 && nr % 40 == 0 { 12 } else { order[(nr % 24) as usize] };
        // The guest's calls to the host, and the host's to the guest.
        let peer = if nr / 24 % 2 == thread % 2 { pair.host() } else { pair.guest() };
        let made = call(peer, kind, nr);
        counts.kinds[kind].fetch_add(made, Ordering::Relaxed);
        done += made;
    }
}

#[test]
fn a_million_calls() {
    const CALLS: u64 = if cfg!(miri) { 500 } else { 1_000_000 };
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref() != Some(&"as asked for") {
            hook(info);
        }
    }));
    const ARENA: usize = 256 << 10;
    let servers = [Server::default(), Server::default()];
    let kept = servers.each_ref().map(|server| server.kept.clone());
    let [guest, host] = servers;
    let builder = Loopback::builder().arenas(ARENA as u64, ARENA as u64);
    let pair = builder.build(guest, host).expect("a region");
    let counts = Counts::default();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (pair, counts) = (&pair, &counts);
            scope.spawn(move || work(pair, thread, CALLS / 2, counts));
        }
    });
    let all: u64 = counts.kinds.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    println!("{all} calls from 2 threads in {:.1} s:", start.elapsed().as_secs_f64());
    for (kind, count) in KINDS.iter().zip(&counts.kinds) {
        let count = count.load(Ordering::Relaxed);
        println!("{count:9} {kind}");
        assert!(count > 0, "{kind}");
    }
    assert!(all >= CALLS);
    // Only the handles that the servers keep are in use.
    let sides = [pair.host(), pair.guest()];
    for peer in sides {
        assert_eq!(peer.arena_stats().blocks, 20, "{peer:?}");
    }
    for kept in kept {
        kept.lock().expect("no panic while it is held").clear();
    }
    for peer in sides {
        let stats = peer.arena_stats();
        assert_eq!((stats.capacity, stats.used, stats.blocks), (ARENA, 0, 0), "{peer:?}");
        let whole = SharedBuf::zeroed(peer, ARENA).expect("all memory as one block");
        assert!(SharedBuf::with_capacity(peer, 1).is_err());
        drop(whole);
        assert_eq!(peer.arena_stats().blocks, 0);
    }
}

/// The raw call, with words that were lent for it.
fn raw(peer: &Peer, out: Outgoing<'_>, function: &Function, transport: Transport) -> Answer {
    // SAFETY: each word was lent through `out`, as the type that the function takes.
    unsafe { peer.call_with(out, function.signature, transport) }
}
