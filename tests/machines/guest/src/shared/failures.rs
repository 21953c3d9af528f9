//! Calls that fail, and arenas that fill up.

use alloc::vec::Vec;

use vmffi::{CallError, ErrorKind, ForeignBuf, ForeignStr, Peer, SharedBuf, abi::Transport};

use super::{Check, Side};

vmffi::ffi_interface! {
    pub interface Failing {
        fn refuses(text: ForeignStr, bytes: ForeignBuf) -> u32;
        fn makes(len: u64) -> ForeignBuf;
        fn takes(text: ForeignStr, bytes: ForeignBuf) -> u64;
        fn reads(text: ForeignStr) -> u64;
        fn keep(bytes: ForeignBuf) -> u64;
        fn kept() -> u64;
        fn forget() -> u64;
    }

    /// An interface that no side serves.
    pub interface Missing {
        fn missing(text: ForeignStr);
    }
}

impl<S: Side> Failing for S {
    fn refuses(&self, _: &Peer, _: ForeignStr, _: ForeignBuf) -> Result<u32, CallError> {
        Err(CallError::refused())
    }
    fn makes(&self, peer: &Peer, len: u64) -> Result<SharedBuf, CallError> {
        let _before = SharedBuf::copy_from(peer, b"released on the way out")?;
        SharedBuf::zeroed(peer, len as usize)
    }
    fn takes(&self, _: &Peer, text: ForeignStr, bytes: ForeignBuf) -> Result<u64, CallError> {
        Ok((text.len() + bytes.len()) as u64)
    }
    fn reads(&self, _: &Peer, text: ForeignStr) -> Result<u64, CallError> {
        Ok(text.read_string()?.len() as u64)
    }
    fn keep(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        let mut kept = self.kept().lock();
        kept.push(bytes);
        Ok(kept.len() as u64)
    }
    fn kept(&self, _: &Peer) -> Result<u64, CallError> {
        self.kept().lock().iter().try_fold(0, |sum, bytes| {
            Ok(sum + bytes.read_vec()?.iter().map(|byte| u64::from(*byte)).sum::<u64>())
        })
    }
    fn forget(&self, _: &Peer) -> Result<u64, CallError> {
        Ok(core::mem::take(&mut *self.kept().lock()).len() as u64)
    }
}

pub const CHECKS: &[Check] = &[
    ("a_handler_refuses", refused),
    ("bytes_that_are_not_utf8", no_text),
    ("an_unknown_function", unknown),
    ("out_of_memory_in_the_callers_arena", callers_arena),
    ("out_of_memory_in_the_callees_arena", callees_arena),
    ("a_full_arena_and_released_blocks", full),
    ("handles_outlive_their_call", kept),
];

fn refused(peer: &Peer) {
    let error = FailingClient::from(peer).refuses("text", b"bytes").unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Refused, true));
    assert_eq!(error.function(), Some(ParamsFailingRefuses::FUNCTION));
    assert_eq!(error.side(), Some(peer.side().other()));
}

fn no_text(peer: &Peer) {
    // Only a raw call can send invalid UTF-8 as text.
    let mut out = peer.outgoing();
    let bytes = SharedBuf::copy_from(peer, &[0xff, 0xfe]).unwrap();
    let bytes = vmffi::SendAs::<ForeignBuf>::into_transport(bytes, &mut out).unwrap();
    // SAFETY: the bytes were lent through `out`.
    let answer = unsafe { peer.call_with(out, ParamsFailingReads::FUNCTION.signature, bytes) };
    let error = CallError::from_status(answer.status);
    assert_eq!((error.kind(), error.reached()), (ErrorKind::BadValue, true));
    assert_eq!(FailingClient::from(peer).reads("märz"), Ok(5));
}

fn unknown(peer: &Peer) {
    let error = MissingClient::from(peer).missing("a text").unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::UnknownFunction, false));
    assert_eq!(error.side(), Some(peer.side().other()));
    assert_eq!(peer.has(ParamsMissingMissing::FUNCTION), Ok(false));
    assert_eq!(peer.has(ParamsFailingTakes::FUNCTION), Ok(true));
    let nothing = Transport { primary: 1, secondary: u64::MAX };
    // SAFETY: no function has this signature.
    let answer = unsafe { peer.call(0x1234_5678_9abc_def1, nothing) };
    assert_eq!(CallError::from_status(answer.status).kind(), ErrorKind::UnknownFunction);
}

/// More bytes than an arena has.
const TOO_MUCH: usize = 3 << 20;

fn callers_arena(peer: &Peer) {
    let error = SharedBuf::zeroed(peer, TOO_MUCH).unwrap_err();
    assert_eq!((error.kind(), error.bytes()), (ErrorKind::OutOfMemory, TOO_MUCH as u64));
    let bytes = alloc::vec![1; peer.arena_stats().capacity];
    // At that point the text has its block.
    let error = FailingClient::from(peer).takes("a text", &bytes).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::OutOfMemory, false));
    assert_eq!(error.side(), Some(peer.side()));
}

fn callees_arena(peer: &Peer) {
    let call = FailingClient::from(peer);
    let error = call.makes(TOO_MUCH as u64).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::OutOfMemory, true));
    assert_eq!(error.side(), Some(peer.side().other()));
    assert_eq!(call.makes(100_000).unwrap().len(), 100_000);
}

fn full(peer: &Peer) {
    let call = FailingClient::from(peer);
    const BLOCK: usize = 64 << 10;
    // On this side: blocks that were made and not sent.
    let mut made = Vec::new();
    let error = loop {
        match SharedBuf::zeroed(peer, BLOCK) {
            Ok(buf) => made.push(buf),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(made.len() >= 12, "an arena of 1 MiB holds {} blocks of 64 KiB", made.len());
    let error = call.takes("text", &[0; BLOCK]).unwrap_err();
    assert_eq!((error.kind(), error.side()), (ErrorKind::OutOfMemory, Some(peer.side())));
    // Two blocks, since the text needs one as well.
    made.truncate(made.len() - 2);
    assert_eq!(call.takes("text", &[0; BLOCK]), Ok(BLOCK as u64 + 4));
    drop(made);
    // On the other side: handles that were received and kept.
    let mut held = Vec::new();
    let error = loop {
        match call.makes(BLOCK as u64) {
            Ok(buf) => held.push(buf),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.side()), (ErrorKind::OutOfMemory, Some(peer.side().other())));
    assert!(held.len() >= 12, "an arena of 1 MiB holds {} blocks of 64 KiB", held.len());
    held.truncate(held.len() - 2);
    assert_eq!(call.makes(BLOCK as u64).unwrap().len(), BLOCK);
}

fn kept(peer: &Peer) {
    let call = FailingClient::from(peer);
    let before = peer.arena_stats().blocks;
    for nr in 1..=100 {
        assert_eq!(call.keep(&[nr; 10]), Ok(u64::from(nr)));
    }
    assert_eq!(peer.arena_stats().blocks, before + 100);
    assert_eq!(call.kept(), Ok(10 * 5050));
    assert_eq!(call.forget(), Ok(100));
    assert_eq!(peer.arena_stats().blocks, before);
    assert_eq!(call.kept(), Ok(0));
    // And here, in another order than they arrived.
    let mut held: Vec<_> = (1..=20).map(|len| call.makes(len).unwrap()).collect();
    while !held.is_empty() {
        let buf = held.swap_remove(held.len() / 2);
        assert_eq!(buf.read_vec().unwrap(), alloc::vec![0; buf.len()]);
    }
}
