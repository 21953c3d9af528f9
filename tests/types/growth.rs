//! Buffers, texts and slices that grow: their contents, the bytes that they move, and what the peer finds in the arena.

use std::{fmt::Write as _, io::Write as _};

use vmffi::{
    CallError, ErrorKind, ForeignBuf, ForeignSlice, ForeignStr, Peer, SharedBuf, SharedSlice,
    SharedStr, loopback::Loopback,
};

use crate::{assert_clean, both_ways};

vmffi::ffi_interface! {
    #[derive(Clone, Copy)]
    pub struct Pair { small: u8, large: u64 }

    pub interface Grown {
        fn keep(bytes: ForeignBuf) -> u64;
        fn sum(pairs: ForeignSlice<Pair>) -> u64;
        fn made(count: u32) -> ForeignStr;
    }
}

#[derive(Default)]
struct Server(std::sync::Mutex<Vec<ForeignBuf>>);

impl Grown for Server {
    fn keep(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        let mut kept = self.0.lock().unwrap();
        if bytes.is_empty() {
            kept.clear();
        }
        kept.push(bytes);
        // The earlier loan is unchanged.
        kept.iter().try_fold(0, |sum, buf| {
            Ok(sum + buf.read_vec()?.iter().map(|byte| u64::from(*byte)).sum::<u64>())
        })
    }
    fn sum(&self, _: &Peer, pairs: ForeignSlice<Pair>) -> Result<u64, CallError> {
        pairs
            .iter()
            .try_fold(0, |sum, pair| pair.map(|pair| sum + pair.large + u64::from(pair.small)))
    }
    fn made(&self, peer: &Peer, count: u32) -> Result<SharedStr, CallError> {
        let mut text = SharedStr::new(peer);
        for nr in 0..count {
            write!(text, "{nr},").map_err(|_| CallError::new(ErrorKind::OutOfMemory))?;
        }
        Ok(text)
    }
}

vmffi::serve!(Server: Grown);

#[test]
fn every_kind_grows_to_many_times_its_capacity() {
    both_ways(Server::default, |peer| {
        let mut buf = SharedBuf::with_capacity(peer, 1).unwrap();
        let mut expected = Vec::new();
        for nr in 0..2000_u32 {
            match nr % 4 {
                0 => buf.push(nr as u8).unwrap(),
                1 => buf.extend_from_slice(&[nr as u8; 3]).unwrap(),
                2 => buf.write_all(&[nr as u8; 70]).unwrap(),
                _ => write!(&mut buf as &mut dyn std::fmt::Write, "{nr}").unwrap(),
            }
            match nr % 4 {
                0 => expected.push(nr as u8),
                1 => expected.extend([nr as u8; 3]),
                2 => expected.extend([nr as u8; 70]),
                _ => expected.extend(nr.to_string().bytes()),
            }
            assert_eq!(buf.len(), expected.len());
            assert!(buf.capacity() >= buf.len() && buf.capacity() <= 2 * buf.len() + 192);
        }
        assert_eq!(buf.as_slice(), expected);
        assert_eq!(peer.arena_stats().blocks, 1, "the blocks that it left are free");

        let mut pairs = SharedSlice::new(peer);
        for nr in 0..500 {
            pairs.push(Pair { small: 1, large: nr }).unwrap();
        }
        pairs.extend_from_slice(&[Pair { small: 0, large: 7 }; 3]).unwrap();
        assert_eq!((pairs.len(), pairs.capacity() >= 503), (503, true));
        assert_eq!(GrownClient::from(peer).sum(pairs), Ok(500 + 499 * 500 / 2 + 21));
        let text = GrownClient::from(peer).made(300).unwrap().read_string().unwrap();
        assert_eq!(text, (0..300).map(|nr| format!("{nr},")).collect::<String>());
    });
}

/// Appending n bytes one by one moves fewer than 2n bytes, not n times n.
#[test]
fn growth_is_amortised() {
    both_ways(Server::default, |peer| {
        let mut buf = SharedBuf::new(peer);
        // It cannot grow in place, since there is a block after it whenever it has moved.
        let (mut moves, mut at, mut fence) = (0, buf.as_slice().as_ptr(), Vec::new());
        for nr in 0..100_000 {
            buf.push(nr as u8).unwrap();
            if buf.as_slice().as_ptr() != at {
                at = buf.as_slice().as_ptr();
                moves += 1;
                fence.push(SharedBuf::with_capacity(peer, 1).unwrap());
            }
        }
        assert!((1..=12).contains(&moves), "{moves} moves");
        let mut buf = SharedBuf::new(peer);
        buf.reserve(5000).unwrap();
        let at = buf.as_slice().as_ptr();
        let capacity = buf.capacity();
        buf.extend_from_slice(&vec![1; capacity]).unwrap();
        assert_eq!((buf.as_slice().len(), buf.capacity()), (capacity, capacity));
        assert!(at.is_null() || capacity >= 5000);
    });
}

/// Where the arena has no room for twice as much, a buffer grows by less, but not by a granule at a time.
#[test]
fn growth_in_an_arena_that_is_almost_full_is_amortised() {
    let pair = Loopback::builder().arenas(1 << 16, 16 << 20).build((), ()).unwrap();
    let peer = pair.guest();
    let _fence = SharedBuf::with_capacity(peer, 7 << 20).unwrap();
    let mut buf = SharedBuf::copy_from(peer, &vec![1; 7 << 20]).unwrap();
    let (mut growths, mut capacity) = (0, buf.capacity());
    while buf.extend_from_slice(&[2; 16]).is_ok() {
        growths += usize::from(buf.capacity() != capacity);
        capacity = buf.capacity();
    }
    assert!(capacity > 8 << 20, "{capacity}");
    assert!(growths < 30, "{growths} growths");
}

/// What a buffer that has grown does not use is not lent.
#[test]
fn a_grown_buffer_lends_what_it_uses() {
    both_ways(Server::default, |peer| {
        let client = GrownClient::from(peer);
        let mut buf = SharedBuf::copy_from(peer, &[0; 100_000]).unwrap();
        buf.push(7).unwrap();
        assert!(buf.capacity() >= 200_000);
        assert_eq!(client.keep(buf), Ok(7));
        assert_eq!(peer.arena_stats().used, 100_001_usize.next_multiple_of(64));
        // One that has the capacity which its owner has chosen is lent as it is.
        let mut buf = SharedBuf::with_capacity(peer, 1000).unwrap();
        buf.push(7).unwrap();
        assert_eq!(client.keep(buf), Ok(14));
        assert_eq!(peer.arena_stats().used, 100_001_usize.next_multiple_of(64) + 1024);
        assert_eq!(client.keep(SharedBuf::new(peer)), Ok(0));
    });
}

/// The block after it was free, dropped, or released by the peer.
#[test]
fn growth_in_place_keeps_the_address() {
    both_ways(Server::default, |peer| {
        let mut buf = SharedBuf::copy_from(peer, &[1; 64]).unwrap();
        let at = buf.as_slice().as_ptr();
        drop(SharedBuf::copy_from(peer, &[2; 64]).unwrap());
        assert_eq!(GrownClient::from(peer).sum(&[Pair { small: 3, large: 0 }; 4]), Ok(12));
        buf.extend_from_slice(&[4; 10_000]).unwrap();
        assert_eq!(buf.as_slice().as_ptr(), at);
        assert_eq!((buf.as_slice()[63], buf.as_slice()[64]), (1, 4));
        drop(buf);
        assert_eq!(peer.arena_stats().blocks, 0);
    });
}

#[test]
fn a_loan_never_moves() {
    both_ways(Server::default, |peer| {
        let client = GrownClient::from(peer);
        let mut sum = 0;
        for nr in 1..=20_u8 {
            let mut buf = SharedBuf::new(peer);
            for _ in 0..u32::from(nr) * 50 {
                buf.push(nr).unwrap();
            }
            sum += u64::from(nr) * u64::from(nr) * 50;
            assert_eq!(client.keep(buf), Ok(sum));
        }
        assert_eq!(client.keep(b""), Ok(0));
    });
}

#[test]
fn a_full_arena_is_reported_with_its_size_and_changes_nothing() {
    let pair = Loopback::builder().arenas(8192, 8192).build(Server::default(), ()).unwrap();
    for peer in [pair.host(), pair.guest()] {
        let mut buf = SharedBuf::copy_from(peer, b"begin").unwrap();
        let error = buf.extend_from_slice(&[0; 8188]).unwrap_err();
        assert_eq!((error.kind(), error.side()), (ErrorKind::OutOfMemory, Some(peer.side())));
        assert!(error.to_string().contains("of 8192 bytes)"), "{error}");
        let error = buf.write_all(&[0; 8188]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("the arena has no free block"), "{error}");
        assert!(buf.write_str(&"x".repeat(8188)).is_err());
        for len in [usize::MAX, usize::MAX - 5, usize::MAX / 2] {
            assert_eq!(buf.reserve(len).unwrap_err().kind(), ErrorKind::OutOfMemory);
        }
        assert_eq!((buf.as_slice(), buf.capacity()), (&b"begin"[..], 5));
        // If it cannot double its capacity, it takes what it needs, up to the whole arena.
        buf.extend_from_slice(&[1; 5000]).unwrap();
        buf.extend_from_slice(&[2; 3187]).unwrap();
        assert_eq!((buf.len(), buf.capacity()), (8192, 8192));
        assert_eq!(buf.push(3).unwrap_err().kind(), ErrorKind::OutOfMemory);
        drop(buf);
        let mut pairs = SharedSlice::<Pair>::with_capacity(peer, 3).unwrap();
        let many = vec![Pair { small: 1, large: 1 }; 513];
        assert_eq!(pairs.extend_from_slice(&many).unwrap_err().kind(), ErrorKind::OutOfMemory);
        assert_eq!((pairs.len(), pairs.is_empty()), (0, true));
    }
    assert_clean(&pair);
}

/// A destination with a fixed capacity is reported differently from a full arena.
#[test]
fn a_destination_that_is_too_short_is_reported_with_its_size() {
    both_ways(Server::default, |peer| {
        let text = GrownClient::from(peer).made(10).unwrap();
        let error = text.read_into(&mut [0; 7]).unwrap_err();
        assert_eq!((error.kind(), error.bytes()), (ErrorKind::OutOfMemory, 20));
        let said = "the destination of 7 bytes is too short; 20 bytes are needed";
        assert_eq!(error.to_string(), said);
    });
}

/// The peer can read the whole arena: a moved value leaves only zeros behind, and new memory shows only the value.
#[cfg(target_os = "linux")]
#[test]
fn a_move_leaves_zeros() {
    for side in [vmffi::abi::Side::Guest, vmffi::abi::Side::Host] {
        let (pair, attacker) = support::region::pair(side, (1 << 16, 1 << 16), |_| {}, (), ());
        let peer = attacker.to_attacker(&pair);
        let (start, len) = attacker.layout.arena(side);
        let found = || {
            let bytes = |at| attacker.byte(at).load(std::sync::atomic::Ordering::Acquire);
            let all: Vec<u8> = (start..start + len).map(bytes).collect();
            all.windows(6).any(|bytes| bytes == b"secret")
        };
        let mut secret = SharedBuf::copy_from(peer, b"the secret is here").unwrap();
        let fence = SharedBuf::with_capacity(peer, vmffi::GRANULE_SIZE).unwrap();
        let old = secret.as_slice().as_ptr();
        assert!(found());
        secret.extend_from_slice(&[0; 200]).unwrap();
        assert_ne!(secret.as_slice().as_ptr(), old, "it has moved");
        secret.as_mut_slice()[..18].fill(0);
        assert!(!found(), "the old bytes are still in the region");
        drop((secret, fence));
        assert_clean(&pair);
    }
}
