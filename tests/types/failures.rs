//! Calls that fail: the caller's error, and that no block is lost.

use std::sync::{Arc, Mutex, atomic::AtomicU32, atomic::Ordering};

use vmffi::{
    CallError, CrossesAs, ErrorKind, Failure, ForeignBuf, ForeignStr, MAX_DEPTH, Peer, SharedBuf,
    SharedStr,
    abi::{Answer, Side, Transport},
    loopback::Loopback,
};

use crate::{assert_clean, both_ways};

vmffi::ffi_interface! {
    #[derive(Debug)]
    pub enum Cause: u8 { Sleepy = 1 }

    pub struct Note { urgent: bool, text: ForeignStr, more: ForeignBuf }

    pub interface Fails {
        fn refuses(text: ForeignStr, bytes: ForeignBuf) -> u32;
        fn reads(text: ForeignStr) -> u32;
        fn panics(text: ForeignStr, bytes: ForeignBuf) -> ForeignBuf;
        fn panics_or_fails(text: ForeignStr) -> Result<(), Cause>;
        fn runs_out(len: u64) -> ForeignBuf;
        fn takes(flag: bool, letter: char, text: ForeignStr, cause: Cause);
        fn notes(nr: u8, note: Note);
        fn works() -> u32;
    }

    interface Fragile {
        fn alone(value: Mine) -> u32;
        fn beside(first: Mine, text: ForeignStr, second: Mine, bytes: ForeignBuf) -> u32;
        fn in_arrays(pairs: [(Mine, ForeignBuf); 3]) -> u32;
    }
}

/// A type whose validation panics for one value.
struct Mine(u8);

impl CrossesAs for Mine {
    type Wire = u8;
    fn to_wire(&self) -> u8 {
        self.0
    }
    fn from_wire(wire: u8) -> Option<Self> {
        if wire == 13 {
            std::panic::resume_unwind(Box::new("quietly"));
        }
        Some(Self(wire))
    }
}

vmffi::crosses_as!(Mine);

impl Fragile for Server {
    fn alone(&self, _: &Peer, value: Mine) -> Result<u32, CallError> {
        Ok(value.0.into())
    }
    fn beside(
        &self,
        _: &Peer,
        first: Mine,
        text: ForeignStr,
        second: Mine,
        bytes: ForeignBuf,
    ) -> Result<u32, CallError> {
        Ok(u32::from(first.0 + second.0) + (text.len() + bytes.len()) as u32)
    }
    fn in_arrays(&self, _: &Peer, pairs: [(Mine, ForeignBuf); 3]) -> Result<u32, CallError> {
        Ok(pairs.iter().map(|(mine, bytes)| u32::from(mine.0) + bytes.len() as u32).sum())
    }
}

struct Server;

impl Fails for Server {
    fn refuses(&self, _: &Peer, _: ForeignStr, _: ForeignBuf) -> Result<u32, CallError> {
        Err(CallError::refused())
    }
    fn reads(&self, _: &Peer, text: ForeignStr) -> Result<u32, CallError> {
        Ok(text.read_string()?.len() as u32)
    }
    fn panics(&self, peer: &Peer, _: ForeignStr, _: ForeignBuf) -> Result<SharedBuf, CallError> {
        let _made = SharedBuf::copy_from(peer, b"never sent")?;
        std::panic::resume_unwind(Box::new("quietly"))
    }
    fn panics_or_fails(&self, _: &Peer, _: ForeignStr) -> Result<(), Failure<Cause>> {
        std::panic::resume_unwind(Box::new(Bomb))
    }
    fn runs_out(&self, peer: &Peer, len: u64) -> Result<SharedBuf, CallError> {
        let _before = SharedBuf::copy_from(peer, b"freed on the way out")?;
        SharedBuf::zeroed(peer, len as usize)
    }
    fn takes(&self, _: &Peer, _: bool, _: char, _: ForeignStr, _: Cause) -> Result<(), CallError> {
        Ok(())
    }
    fn notes(&self, _: &Peer, _: u8, _: Note) -> Result<(), CallError> {
        Ok(())
    }
    fn works(&self, _: &Peer) -> Result<u32, CallError> {
        Ok(7)
    }
}

vmffi::serve!(Server: Fails, Fragile);

/// A panic whose payload panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("again"));
    }
}

#[test]
fn a_handler_refuses() {
    both_ways(
        || Server,
        |peer| {
            let error = FailsClient::from(peer).refuses("text", b"bytes").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert_eq!(error.function(), Some(ParamsFailsRefuses::FUNCTION));
            assert_eq!(error.function().unwrap().to_string(), "Fails::refuses");
            assert_eq!(error.side(), Some(peer.side().other()));
            assert!(error.reached());
            assert_eq!(error.field(), None);
            assert_eq!((error.offset(), error.bytes()), (0, 0));
            let side = peer.side().other();
            let text = format!("Fails::refuses: the called function refused [found by the {side}]");
            assert_eq!(error.to_string(), text);
            assert_eq!(format!("{error:?}"), format!("CallError(Refused: {text})"));
        },
    );
}

/// A raw call, with words that were lent for it.
fn raw(peer: &Peer, signature: u64, transport: Transport) -> Answer {
    // SAFETY: the words were lent for this call, and nothing else uses them.
    unsafe { peer.call(signature, transport) }
}

#[test]
fn a_bad_string_fails_its_reader() {
    both_ways(
        || Server,
        |peer| {
            // A raw call can send invalid UTF-8 as text.
            let mut out = peer.outgoing();
            let bytes = SharedBuf::copy_from(peer, &[0xff, 0xfe]).unwrap();
            let transport = vmffi::SendAs::<ForeignBuf>::into_transport(bytes, &mut out).unwrap();
            let answer = raw(peer, ParamsFailsReads::FUNCTION.signature, transport);
            assert_eq!(
                answer.status,
                ErrorKind::BadValue as u64 | 64,
                "the handler's `?` was reached"
            );
            assert_eq!(answer.transport, Transport::EMPTY);
            assert_eq!(FailsClient::from(peer).reads("märz"), Ok(5));
        },
    );
}

/// A user's validation that panics: the function was not reached, and every handle of the call is released.
#[test]
fn a_panic_during_validation_loses_no_handle() {
    both_ways(
        || Server,
        |peer| {
            let call = FragileClient::from(peer);
            let bytes = || SharedBuf::copy_from(peer, b"abc").unwrap();
            let pairs = |bad: usize| {
                std::array::from_fn(|nr| (Mine(if nr == bad { 13 } else { 1 }), bytes()))
            };
            for _ in 0..300 {
                for failed in [
                    call.alone(Mine(13)),
                    call.beside(Mine(13), "text", Mine(1), b"bytes"),
                    call.beside(Mine(1), "text", Mine(13), b"bytes"),
                    call.in_arrays(pairs(0)),
                    call.in_arrays(pairs(1)),
                    call.in_arrays(pairs(2)),
                ] {
                    let error = failed.unwrap_err();
                    assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerPanicked, false));
                    assert_eq!(peer.arena_stats().blocks, 0);
                }
            }
            assert_eq!(call.alone(Mine(5)), Ok(5));
            assert_eq!(call.beside(Mine(1), "text", Mine(2), b"bytes"), Ok(12));
            assert_eq!(call.in_arrays(pairs(9)), Ok(12));
        },
    );
}

#[test]
fn a_panic_fails_the_call_and_nothing_else() {
    both_ways(
        || Server,
        |peer| {
            let call = FailsClient::from(peer);
            for _ in 0..3 {
                let error = call.panics("text", b"bytes").unwrap_err();
                assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerPanicked, true));
                assert_eq!(error.function(), Some(ParamsFailsPanics::FUNCTION));
                let Err(Failure::Call(error)) = call.panics_or_fails("text") else { panic!() };
                assert_eq!(error.kind(), ErrorKind::PeerPanicked);
                assert_eq!(call.works(), Ok(7));
                assert_eq!(peer.arena_stats().blocks, 0);
            }
        },
    );
}

#[test]
fn a_handler_runs_out_of_memory() {
    let pair = Loopback::builder().arenas(4096, 8192).build((), Server).unwrap();
    let call = FailsClient::from(pair.host());
    assert_eq!(call.runs_out(8150).unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_eq!(call.runs_out(9000).unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_eq!(call.runs_out(u64::MAX).unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_clean(&pair);
    assert_eq!(call.runs_out(7000).unwrap().len(), 7000);
    assert_clean(&pair);
}

/// A pair whose observers record refused calls.
fn observed(side: Side) -> (Loopback, Arc<Mutex<Vec<CallError>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let builder =
        Loopback::builder().observe(side, move |error| sink.lock().unwrap().push(error.clone()));
    (builder.build(Server, Server).unwrap(), seen)
}

#[test]
fn the_server_knows_which_field_was_bad() {
    for side in [Side::Guest, Side::Host] {
        let (pair, seen) = observed(side);
        let peer = if side == Side::Host { pair.host() } else { pair.guest() };
        // `takes(flag, letter, text, cause)`: a struct of 1 + 4 + 16 + 1 bytes with padding.
        let good = |text: &Transport| -> [u8; 32] {
            let mut wire = [0; 32];
            wire[0] = 1;
            wire[4..8].copy_from_slice(&u32::from('x').to_le_bytes());
            wire[8..16].copy_from_slice(&text.primary.to_le_bytes());
            wire[16..24].copy_from_slice(&text.secondary.to_le_bytes());
            wire[24] = 1;
            wire
        };
        let call = |change: &dyn Fn(&mut [u8; 32])| {
            let mut out = peer.outgoing();
            let text = SharedStr::copy_from(peer, "text").unwrap();
            let text = vmffi::SendAs::<ForeignStr>::into_transport(text, &mut out).unwrap();
            let mut wire = good(&text);
            change(&mut wire);
            let wire = vmffi::SendAs::<ForeignBuf>::into_transport(&wire, &mut out).unwrap();
            let (function, transport) = (ParamsFailsTakes::FUNCTION, Transport::word(wire.primary));
            // SAFETY: the words were lent through `out`, or are refused.
            unsafe { peer.call_with(out, function.signature, transport) }.status
        };
        assert_eq!(call(&|_| {}), 0);
        assert!(seen.lock().unwrap().is_empty());
        assert_clean(&pair);
        for (field, at, value, why) in [
            ("flag", 0, 2, ErrorKind::BadValue),
            ("letter", 6, 0xff, ErrorKind::BadValue),
            ("cause", 24, 0, ErrorKind::BadValue),
            ("text", 14, 1, ErrorKind::BadPointer),
            ("text", 23, 1, ErrorKind::BadPointer),
        ] {
            let status = call(&|wire| wire[at] = value);
            assert_eq!(status, why as u64, "{field}: not reached");
            let error = seen.lock().unwrap().pop().unwrap();
            assert_eq!((error.kind(), error.field()), (why, Some(field)));
            assert_eq!(error.function(), Some(ParamsFailsTakes::FUNCTION));
            assert_eq!((error.side(), error.reached()), (Some(side), false));
            let start = format!("Fails::takes: {why} (`{field}`)");
            assert!(error.to_string().starts_with(&start), "{error}");
            assert_clean(&pair);
        }
    }
}

#[test]
fn every_field_is_validated_before_the_call_fails() {
    let (pair, seen) = observed(Side::Host);
    let peer = pair.host();
    // `notes(nr, note)`: the note's first field is invalid, and the handles after it must be released.
    let mut out = peer.outgoing();
    let text = SharedStr::copy_from(peer, "text").unwrap();
    let text = vmffi::SendAs::<ForeignStr>::into_transport(text, &mut out).unwrap();
    let more = SharedBuf::copy_from(peer, b"more").unwrap();
    let more = vmffi::SendAs::<ForeignBuf>::into_transport(more, &mut out).unwrap();
    let mut wire = [0; 48];
    wire[8] = 3;
    for (at, word) in
        [text.primary, text.secondary, more.primary, more.secondary].iter().enumerate()
    {
        wire[16 + at * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }
    let wire = vmffi::SendAs::<ForeignBuf>::into_transport(&wire, &mut out).unwrap();
    assert_eq!(peer.arena_stats().blocks, 3);
    // This side takes nothing back, so that only releases by the callee end its loans.
    std::mem::forget(out);
    let transport = Transport::word(wire.primary);
    let answer = raw(peer, ParamsFailsNotes::FUNCTION.signature, transport);
    assert_eq!(answer.status, ErrorKind::BadValue as u64);
    assert_eq!(seen.lock().unwrap()[0].field(), Some("urgent"), "the innermost field is named");
    assert_clean(&pair);
}

#[test]
fn an_observer_sees_every_refusal() {
    let (pair, seen) = observed(Side::Guest);
    let call = FailsClient::from(pair.guest());
    call.refuses("", b"").unwrap_err();
    call.panics("", b"").unwrap_err();
    assert_eq!(raw(pair.guest(), 0x1234_5678, Transport::EMPTY).status, 2);
    call.works().unwrap();
    let seen: Vec<_> = seen.lock().unwrap().iter().map(CallError::kind).collect();
    assert_eq!(seen, [ErrorKind::Refused, ErrorKind::PeerPanicked, ErrorKind::UnknownFunction]);
}

/// A panic of an observer affects neither the call nor the thread that runs the guest.
#[test]
fn an_observer_that_panics_changes_nothing() {
    let pair = Loopback::builder()
        .observe(Side::Host, |_| std::panic::resume_unwind(Box::new("an observer's")))
        .build(Server, Server)
        .unwrap();
    let call = FailsClient::from(pair.host());
    assert_eq!(call.refuses("", b"").unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(call.panics("", b"").unwrap_err().kind(), ErrorKind::PeerPanicked);
    assert_eq!(raw(pair.host(), 0x1234_5678, Transport::EMPTY).status, 2);
    assert_eq!(call.works(), Ok(7));
    assert_clean(&pair);
}

vmffi::ffi_interface! {
    /// Served by both sides: each calls the other until `left` is 0.
    pub interface Bounce {
        fn bounce(left: u32, text: ForeignStr) -> ForeignStr;
    }
}

struct Player(Arc<AtomicU32>);

impl Bounce for Player {
    fn bounce(&self, peer: &Peer, left: u32, text: ForeignStr) -> Result<SharedStr, CallError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let text = text.read_string()?;
        if left == 0 {
            return SharedStr::copy_from(peer, &text);
        }
        let back = BounceClient::from(peer).bounce(left - 1, &format!("{text}."))?;
        SharedStr::copy_from(peer, &back.read_string()?)
    }
}

vmffi::serve!(Player: Bounce);

#[test]
fn calls_nest_to_the_declared_depth_and_no_deeper() {
    let calls = [Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0))];
    let player = |side: Side| Player(Arc::clone(&calls[side as usize]));
    let pair = Loopback::new(player(Side::Guest), player(Side::Host)).unwrap();
    let counted = || [&calls[0], &calls[1]].map(|count| count.swap(0, Ordering::Relaxed));
    for peer in [pair.host(), pair.guest()] {
        let call = BounceClient::from(peer);
        let back = call.bounce(MAX_DEPTH - 1, "").unwrap().read_string().unwrap();
        assert_eq!(back.len() as u32, MAX_DEPTH - 1);
        assert_eq!(counted(), [MAX_DEPTH / 2; 2]);
        assert_clean(&pair);
        for more in [MAX_DEPTH, MAX_DEPTH + 5] {
            let error = call.bounce(more, "").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooDeep);
            assert!(error.reached(), "the first of them was");
            assert_eq!(counted(), [MAX_DEPTH / 2; 2]);
            assert_clean(&pair);
        }
    }
    assert_eq!(BounceClient::from(pair.host()).bounce(0, "x").unwrap().len(), 1);
    assert_eq!(counted(), [0, 1]);
}
