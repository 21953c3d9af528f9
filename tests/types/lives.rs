//! Handles that outlive their call or their connection, and handles on other threads.

use std::sync::Mutex;

use vmffi::{
    CallError, ErrorKind, Failure, Foreign, ForeignBuf, ForeignSlice, ForeignStr, Peer, Shared,
    SharedBuf, SharedSlice, SharedStr, loopback::Loopback,
};

use crate::{assert_clean, both_ways};

vmffi::ffi_interface! {
    pub struct Note { nr: u8, text: ForeignStr, body: Option<ForeignBuf> }

    pub interface Keeper {
        fn keep(bytes: ForeignBuf) -> u32;
        fn size(nr: u32) -> u64;
        fn drop_all() -> u32;
        fn give(text: ForeignStr) -> ForeignStr;
        fn buf(bytes: ForeignBuf) -> u64;
        fn letter(letter: Foreign<char>) -> char;
        fn many(nr: u8, one: ForeignBuf, two: ForeignStr, three: ForeignSlice<u32>, four: Foreign<char>);
        fn note(note: Note) -> u8;
        fn option(note: Option<ForeignBuf>) -> bool;
        fn wrong() -> ForeignBuf;
        fn wrong_note() -> Result<Note, ForeignStr>;
    }
}

/// Keeps its arguments, and returns blocks that were made on another connection.
#[derive(Default)]
struct Server {
    kept: Mutex<Vec<ForeignBuf>>,
    elsewhere: Option<Loopback>,
}

impl Keeper for Server {
    fn keep(&self, _: &Peer, bytes: ForeignBuf) -> Result<u32, CallError> {
        let mut kept = self.kept.lock().unwrap();
        kept.push(bytes);
        Ok(kept.len() as u32)
    }
    fn size(&self, _: &Peer, nr: u32) -> Result<u64, CallError> {
        let kept = self.kept.lock().unwrap();
        let bytes = kept.get(nr as usize).ok_or(CallError::refused())?.read_vec()?;
        Ok(bytes.iter().map(|byte| u64::from(*byte)).sum())
    }
    fn drop_all(&self, _: &Peer) -> Result<u32, CallError> {
        Ok(self.kept.lock().unwrap().drain(..).count() as u32)
    }
    fn give(&self, peer: &Peer, text: ForeignStr) -> Result<SharedStr, CallError> {
        SharedStr::copy_from(peer, &text.read_string()?)
    }
    fn buf(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        Ok(bytes.len() as u64)
    }
    fn letter(&self, _: &Peer, letter: Foreign<char>) -> Result<char, CallError> {
        letter.read()
    }
    fn many(
        &self,
        _: &Peer,
        _: u8,
        _: ForeignBuf,
        _: ForeignStr,
        _: ForeignSlice<u32>,
        _: Foreign<char>,
    ) -> Result<(), CallError> {
        Ok(())
    }
    fn note(&self, _: &Peer, note: Note) -> Result<u8, CallError> {
        Ok(note.nr)
    }
    fn option(&self, _: &Peer, note: Option<ForeignBuf>) -> Result<bool, CallError> {
        Ok(note.is_some())
    }
    fn wrong(&self, _: &Peer) -> Result<SharedBuf, CallError> {
        SharedBuf::copy_from(self.elsewhere.as_ref().unwrap().host(), b"another's")
    }
    fn wrong_note(&self, peer: &Peer) -> Result<SharedNote, Failure<SharedStr>> {
        let text = SharedStr::copy_from(peer, "ours")?;
        let body = Some(SharedBuf::copy_from(self.elsewhere.as_ref().unwrap().host(), b"theirs")?);
        Ok(SharedNote { nr: 1, text, body })
    }
}

vmffi::serve!(Server: Keeper);

#[test]
fn a_handler_keeps_its_handles() {
    both_ways(Server::default, |peer| {
        let keeper = KeeperClient::from(peer);
        for nr in 1..=10 {
            assert_eq!(keeper.keep(&vec![nr as u8; 100]), Ok(nr));
        }
        assert_eq!(peer.arena_stats().blocks, 10);
        assert_eq!(keeper.size(4), Ok(500));
        assert_eq!(keeper.drop_all(), Ok(10));
        assert_eq!(peer.arena_stats().blocks, 0);
    });
}

#[test]
fn handles_outlive_their_connection() {
    for host in [true, false] {
        let (text, unsent) = {
            let pair = Loopback::new(Server::default(), Server::default()).unwrap();
            let peer = if host { pair.host() } else { pair.guest() };
            let keeper = KeeperClient::from(peer);
            keeper.keep(b"kept by a server that ends with its connection").unwrap();
            (keeper.give("still here").unwrap(), SharedBuf::copy_from(peer, b"unsent").unwrap())
        };
        assert_eq!(text.read_string().unwrap(), "still here");
        assert_eq!(unsent.as_slice(), b"unsent");
    }
}

#[test]
fn handles_go_to_other_threads() {
    both_ways(Server::default, |peer| {
        let text = KeeperClient::from(peer).give("far away").unwrap();
        let mut shared = SharedBuf::with_capacity(peer, 3).unwrap();
        std::thread::spawn(move || assert_eq!(text.read_string().unwrap(), "far away"))
            .join()
            .unwrap();
        let shared = std::thread::spawn(move || {
            shared.extend_from_slice(b"abc").unwrap();
            shared
        });
        assert_eq!(KeeperClient::from(peer).buf(shared.join().unwrap()), Ok(3));
    });
}

#[test]
fn several_threads_call_at_once() {
    both_ways(Server::default, |peer| {
        std::thread::scope(|scope| {
            for nr in 0..4 {
                scope.spawn(move || {
                    let keeper = KeeperClient::from(peer);
                    for round in 0..200 {
                        let text = format!("thread {nr}, round {round}");
                        assert_eq!(keeper.give(&text).unwrap().read_string().unwrap(), text);
                    }
                });
            }
        });
    });
}

/// Two connections: a block that is made for any other end is not accepted by the first one's
/// host.
#[test]
fn memory_of_another_connection_is_refused_and_freed() {
    let pair = Loopback::new(Server::default(), Server::default()).unwrap();
    let other = Loopback::new(Server::default(), Server::default()).unwrap();
    let peer = pair.host();
    let keeper = KeeperClient::from(peer);
    for wrong in [other.host(), other.guest(), pair.guest()] {
        let buf = || SharedBuf::copy_from(wrong, b"bytes").unwrap();
        let text = || SharedStr::copy_from(wrong, "text").unwrap();
        let slice = || SharedSlice::copy_from(wrong, &[1_u32, 2]).unwrap();
        let letter = || Shared::new(wrong, 'x').unwrap();
        let check = |error: CallError| {
            assert_eq!((error.kind(), error.reached()), (ErrorKind::BadPointer, false));
            assert_eq!(error.side(), Some(peer.side()), "it never left");
            assert!(error.function().is_some());
            assert_clean(&pair);
            assert_clean(&other);
        };
        check(keeper.buf(buf()).unwrap_err());
        check(keeper.give(text()).unwrap_err());
        check(keeper.letter(letter()).unwrap_err());
        check(keeper.option(Some(buf())).unwrap_err());
        check(keeper.many(1, buf(), "text", &[1], Shared::new(peer, 'x').unwrap()).unwrap_err());
        check(keeper.many(1, b"x", text(), &[1], Shared::new(peer, 'x').unwrap()).unwrap_err());
        check(keeper.many(1, b"x", "text", slice(), Shared::new(peer, 'x').unwrap()).unwrap_err());
        check(keeper.many(1, b"x", "text", &[1], letter()).unwrap_err());
        let ours = SharedStr::copy_from(peer, "text").unwrap();
        check(keeper.note(SharedNote { nr: 1, text: ours, body: Some(buf()) }).unwrap_err());
        check(keeper.note(SharedNote { nr: 1, text: text(), body: None }).unwrap_err());
    }
    assert_eq!(keeper.buf(SharedBuf::copy_from(peer, b"bytes").unwrap()), Ok(5));
}

#[test]
fn a_handler_cannot_return_memory_of_another_connection() {
    let server =
        || Server { elsewhere: Some(Loopback::new((), ()).unwrap()), kept: Mutex::default() };
    both_ways(server, |peer| {
        let keeper = KeeperClient::from(peer);
        let error = keeper.wrong().unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::BadPointer, true));
        let Err(Failure::Call(error)) = keeper.wrong_note() else { panic!() };
        assert_eq!(error.kind(), ErrorKind::BadPointer);
    });
}

/// A place in the arena is lent repeatedly, and a handle of an old loan cannot end a new one.
#[test]
fn memory_is_lent_again_many_times() {
    let pair = Loopback::builder().arenas(4096, 4096).build((), Server::default()).unwrap();
    let keeper = KeeperClient::from(pair.host());
    for nr in 0..2000_u32 {
        let text = format!("{nr:_>50}");
        assert_eq!(keeper.give(&text).unwrap().read_string().unwrap(), text);
    }
    assert_clean(&pair);
}
