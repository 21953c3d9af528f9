//! Arenas that are too small: a call that finds no memory changes nothing.

use vmffi::{
    CallError, ErrorKind, ForeignBuf, ForeignStr, GRANULE_SIZE, Peer, Shared, SharedBuf,
    SharedSlice, SharedStr, loopback::Loopback,
};

use crate::assert_clean;

vmffi::ffi_interface! {
    pub interface Sink {
        fn take(nr: u32, one: ForeignBuf, two: ForeignStr) -> u64;
        fn wide(value: u128) -> u128;
        fn lend(count: u32) -> ForeignBuf;
    }
}

struct Server;

impl Sink for Server {
    fn take(&self, _: &Peer, nr: u32, one: ForeignBuf, two: ForeignStr) -> Result<u64, CallError> {
        Ok(u64::from(nr) + (one.len() + two.len()) as u64)
    }
    fn wide(&self, _: &Peer, value: u128) -> Result<u128, CallError> {
        Ok(value)
    }
    fn lend(&self, peer: &Peer, count: u32) -> Result<SharedBuf, CallError> {
        SharedBuf::zeroed(peer, count as usize)
    }
}

vmffi::serve!(Server: Sink);

fn small() -> Loopback {
    Loopback::builder().arenas(4096, 4096).build(Server, Server).unwrap()
}

fn both(pair: &Loopback, test: impl Fn(&Peer)) {
    test(pair.host());
    test(pair.guest());
}

#[test]
fn a_call_without_memory_changes_nothing() {
    let pair = small();
    both(&pair, |peer| {
        let sink = SinkClient::from(peer);
        // The first argument fits and the second does not, or the parameters do not.
        for (one, two) in [(4097, 0), (4096, 1), (2048, 2049), (4032, 64), (64, 4032)] {
            let text = "x".repeat(two);
            let error = sink.take(1, &vec![0; one], &text).unwrap_err();
            assert_eq!((error.kind(), error.reached()), (ErrorKind::OutOfMemory, false));
            assert_eq!(error.side(), Some(peer.side()));
            assert_ne!(error.bytes(), 0);
            assert!(error.to_string().contains(" bytes) [found by"), "{error}");
            assert_eq!(peer.arena_stats().blocks, 0, "{one}, {two}");
        }
        assert_eq!(sink.take(1, &vec![0; 3968], "x"), Ok(3970), "all of the arena");
        assert_eq!(peer.arena_stats().blocks, 0);
    });
    assert_clean(&pair);
}

#[test]
fn a_full_arena_serves_again_when_a_block_is_freed() {
    let pair = small();
    both(&pair, |peer| {
        let sink = SinkClient::from(peer);
        let mut full: Vec<_> = (0..4096 / GRANULE_SIZE)
            .map(|_| SharedBuf::copy_from(peer, b"a granule").unwrap())
            .collect();
        let stats = peer.arena_stats();
        assert_eq!((stats.blocks, stats.used, stats.capacity), (4096 / GRANULE_SIZE, 4096, 4096));
        let why = |error: CallError| error.kind();
        assert_eq!(SharedBuf::zeroed(peer, 1).map_err(why).err(), Some(ErrorKind::OutOfMemory));
        assert_eq!(
            SharedStr::copy_from(peer, "x").map_err(why).err(),
            Some(ErrorKind::OutOfMemory)
        );
        assert_eq!(
            SharedSlice::copy_from(peer, &[1_u8]).map_err(why).err(),
            Some(ErrorKind::OutOfMemory)
        );
        assert_eq!(Shared::new(peer, 1_u8).map_err(why).err(), Some(ErrorKind::OutOfMemory));
        assert_eq!(sink.wide(1).map_err(why), Err(ErrorKind::OutOfMemory));
        assert_eq!(sink.take(1, b"x", "").map_err(why), Err(ErrorKind::OutOfMemory));
        // Values without a block still work.
        assert!(SharedBuf::copy_from(peer, b"").is_ok());
        assert_eq!(peer.arena_stats(), stats);
        full.truncate(full.len() - 1);
        assert_eq!(sink.wide(u128::MAX), Ok(u128::MAX));
        full.truncate(full.len() - 2);
        assert_eq!(sink.take(1, b"x", "y"), Ok(3));
    });
    assert_clean(&pair);
}

#[test]
fn the_memory_of_an_answer_is_the_servers() {
    let pair = small();
    both(&pair, |peer| {
        let sink = SinkClient::from(peer);
        let held = sink.lend(4096).unwrap();
        assert_eq!(held.len(), 4096);
        let error = sink.lend(1).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::OutOfMemory, true));
        assert_eq!(error.side(), Some(peer.side().other()));
        drop(held);
        assert_eq!(sink.lend(1).unwrap().len(), 1);
    });
    assert_clean(&pair);
}

#[test]
fn overflowing_lengths_are_too_long() {
    let pair = small();
    let peer = pair.host();
    for len in [4097, usize::MAX / 2, usize::MAX - 63, usize::MAX] {
        assert_eq!(SharedBuf::with_capacity(peer, len).unwrap_err().kind(), ErrorKind::OutOfMemory);
    }
    assert_clean(&pair);
}
