//! Batches: many calls for one trap.

use alloc::{string::String, vec, vec::Vec};

use vmffi::{CallError, ErrorKind, Failure, ForeignStr, Peer, Pending, SharedBuf, SharedStr};

use super::{
    Check, Side,
    failures::{FailingClient, MissingClient, ParamsFailingRefuses},
    handles::{HandlesClient, Point, SharedRequest},
    nesting::NestingClient,
};

vmffi::ffi_interface! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Parity: i8 { Even = -1, Odd = 1 }

    pub interface Counting {
        fn add(a: u64, b: u64) -> u64;
        fn half(of: u32) -> Result<u32, Parity>;
        fn halves(of: u32) -> Result<ForeignStr, Parity>;
        fn parity(of: u32) -> Parity;
        /// Returns what it is given, as it is in memory.
        fn mixed(a: u8, b: i16, c: bool, d: char, e: f64, parity: Parity, text: ForeignStr) -> ForeignStr;
        fn narrow(of: i64) -> i16;
        fn letter(of: u32) -> char;
        fn float(of: u32) -> f64;
        fn is_odd(of: u32) -> bool;
        fn pair(of: (u64, u64)) -> u64;
        fn row(of: [u64; 16], more: (u64, u64)) -> u64;
        fn twice(of: u64) -> u64;
        fn order() -> u64;
        fn wide(of: u128) -> u128;
    }
}

fn is_even(of: u32) -> bool {
    of & 1 == 0
}

impl<S: Side> Counting for S {
    fn add(&self, _: &Peer, a: u64, b: u64) -> Result<u64, CallError> {
        a.checked_add(b).ok_or(CallError::refused())
    }
    fn half(&self, _: &Peer, of: u32) -> Result<u32, Failure<Parity>> {
        if is_even(of) { Ok(of / 2) } else { Err(Parity::Odd.into()) }
    }
    fn halves(&self, peer: &Peer, of: u32) -> Result<SharedStr, Failure<Parity>> {
        if !is_even(of) {
            return Err(Parity::Odd.into());
        }
        Ok(SharedStr::copy_from(peer, &"x".repeat(of as usize / 2))?)
    }
    fn parity(&self, _: &Peer, of: u32) -> Result<Parity, CallError> {
        Ok(if is_even(of) { Parity::Even } else { Parity::Odd })
    }
    fn mixed(
        &self,
        peer: &Peer,
        a: u8,
        b: i16,
        c: bool,
        d: char,
        e: f64,
        parity: Parity,
        text: ForeignStr,
    ) -> Result<SharedStr, CallError> {
        let text = text.read_string()?;
        SharedStr::copy_from(peer, &alloc::format!("{a} {b} {c} {d} {e} {parity:?} {text}"))
    }
    fn narrow(&self, _: &Peer, of: i64) -> Result<i16, CallError> {
        i16::try_from(of).map_err(|_| CallError::refused())
    }
    fn letter(&self, _: &Peer, of: u32) -> Result<char, CallError> {
        char::from_u32(of).ok_or(CallError::refused())
    }
    fn float(&self, _: &Peer, of: u32) -> Result<f64, CallError> {
        Ok(f64::from(of) / 2.0)
    }
    fn is_odd(&self, _: &Peer, of: u32) -> Result<bool, CallError> {
        Ok(!is_even(of))
    }
    fn pair(&self, _: &Peer, of: (u64, u64)) -> Result<u64, CallError> {
        Ok(of.0 + of.1)
    }
    fn row(&self, _: &Peer, of: [u64; 16], more: (u64, u64)) -> Result<u64, CallError> {
        Ok(of.iter().sum::<u64>() + more.0 + more.1)
    }
    fn twice(&self, peer: &Peer, of: u64) -> Result<u64, CallError> {
        // A batch of its own, while another one is served.
        let batch = peer.batch()?;
        let one = OrderedClient::from(&batch).echo(of)?;
        let two = OrderedClient::from(&batch).echo(&one)?;
        let mut results = batch.send()?;
        Ok(results.get(one)? + results.get(two)?)
    }
    fn order(&self, _: &Peer) -> Result<u64, CallError> {
        self.kept().lock().len().try_into().map_err(|_| CallError::refused())
    }
    fn wide(&self, _: &Peer, of: u128) -> Result<u128, CallError> {
        Ok(of + 1)
    }
}

vmffi::ffi_interface! {
    pub interface Ordered { fn echo(of: u64) -> u64; }
}

impl<S: Side> Ordered for S {
    fn echo(&self, _: &Peer, of: u64) -> Result<u64, CallError> {
        Ok(of)
    }
}

pub const CHECKS: &[Check] = &[
    ("a_batch", scalars),
    ("a_batch_of_all_handles", handles),
    ("calls_of_a_batch_take_results", takes),
    ("results_of_every_width_are_taken", widths),
    ("what_cannot_be_taken", not_taken),
    ("calls_of_a_batch_fail_one_by_one", fails),
    ("a_batch_that_is_dropped", dropped),
    ("results_that_are_not_read", unread),
    ("a_batch_that_fills_the_callers_arena", callers_arena),
    ("a_batch_for_which_the_callee_has_no_room", callees_arena),
    ("a_thousand_calls_in_a_batch", many),
    ("batches_in_handlers_of_batches", nested),
    ("results_of_another_batch", foreign),
    ("a_batch_is_one_call_of_many_clients", clients),
];

fn scalars(peer: &Peer) {
    let batch = peer.batch().unwrap();
    assert!(batch.is_empty());
    let call = CountingClient::from(&batch);
    let sums: Vec<_> = (0..64).map(|nr| call.add(nr, 1000).unwrap()).collect();
    assert_eq!(batch.len(), 64);
    let mut results = batch.send().unwrap();
    assert_eq!(results.len(), 64);
    for (nr, sum) in sums.into_iter().enumerate().rev() {
        assert_eq!(results.get(sum), Ok(nr as u64 + 1000));
    }
    // Without calls there is nothing to send.
    let results = peer.batch().unwrap().send().unwrap();
    assert!(results.is_empty());
}

fn handles(peer: &Peer) {
    let batch = peer.batch().unwrap();
    let call = HandlesClient::from(&batch);
    let point = Point { x: -1, y: 2 };
    let buf = call.buf(b"bytes").unwrap();
    let text = call.text("text").unwrap();
    let points = call.slice(&[point, point]).unwrap();
    let foreign = call.foreign(vmffi::Shared::new(peer, point).unwrap()).unwrap();
    let none = call.maybe_buf(None::<&[u8]>).unwrap();
    let empty = call.maybe_buf(Some(&[])).unwrap();
    let request = call
        .request(SharedRequest {
            flag: true,
            path: SharedStr::copy_from(peer, "path").unwrap(),
            body: SharedBuf::copy_from(peer, b"body").unwrap(),
            points: vmffi::SharedSlice::copy_from(peer, &[point]).unwrap(),
            origin: vmffi::Shared::new(peer, point).unwrap(),
            wide: 1 << 100,
            more: Some(SharedBuf::copy_from(peer, b"more").unwrap()),
            no: None,
        })
        .unwrap();
    let mut results = batch.send().unwrap();
    let request = results.get(request).unwrap();
    assert_eq!(results.get(buf).unwrap().read_vec().unwrap(), b"bytes");
    assert_eq!(results.get(text).unwrap().read_string().unwrap(), "text");
    assert_eq!(results.get(points).unwrap().read_vec().unwrap(), vec![point, point]);
    assert_eq!(results.get(foreign).unwrap().read(), Ok(point));
    assert!(results.get(none).unwrap().is_none());
    assert_eq!(results.get(empty).unwrap().map(|buf| buf.len()), Some(0));
    drop(results);
    // A handle outlives the results.
    assert_eq!(request.path.read_string().unwrap(), "path");
    assert_eq!(request.more.unwrap().read_vec().unwrap(), b"more");
}

fn takes(peer: &Peer) {
    let batch = peer.batch().unwrap();
    let call = CountingClient::from(&batch);
    // Fibonacci's numbers: each call takes two results.
    let mut all = vec![call.add(0, 1).unwrap(), call.add(1, 0).unwrap()];
    for nr in 2..60 {
        let next = call.add(&all[nr - 2], &all[nr - 1]).unwrap();
        all.push(next);
    }
    // Alone in the transport, the `Ok` of a result, and among several in one parameter.
    let eight = call.half(16).unwrap();
    let four = call.half(&eight).unwrap();
    let text = call.halves(&four).unwrap();
    let last = all.pop().unwrap();
    // Within parameters of a call that has several.
    let row = call.row([&all[5]; 16], (1, 2)).unwrap();
    let mixed = call.row([1; 16], (&all[5], &all[6])).unwrap();
    let mut results = batch.send().unwrap();
    assert_eq!(results.get(last), Ok(1_548_008_755_920));
    assert_eq!((results.get(row), results.get(mixed)), (Ok(8 * 16 + 3), Ok(16 + 8 + 13)));
    assert_eq!(results.get(four), Ok(4));
    assert_eq!(results.get(eight), Ok(8));
    assert_eq!(results.get(text).unwrap().read_string().unwrap(), "xx");
}

fn widths(peer: &Peer) {
    let batch = peer.batch().unwrap();
    let call = CountingClient::from(&batch);
    let narrow = call.narrow(-300).unwrap();
    let odd = call.is_odd(7).unwrap();
    let letter = call.letter(0xe4).unwrap();
    let float = call.float(5).unwrap();
    let parity = call.parity(4).unwrap();
    let all = call.mixed(200, &narrow, &odd, &letter, &float, &parity, "text").unwrap();
    let some = call.mixed(1, 2, false, &letter, 0.5, &parity, "").unwrap();
    let mut results = batch.send().unwrap();
    let all = results.get(all).unwrap().read_string().unwrap();
    assert_eq!(all, "200 -300 true ä 2.5 Even text");
    let some = results.get(some).unwrap().read_string().unwrap();
    assert_eq!(some, "1 2 false ä 0.5 Even ");
}

fn not_taken(peer: &Peer) {
    let batch = peer.batch().unwrap();
    let call = CountingClient::from(&batch);
    let one = call.add(0, 1).unwrap();
    // Within a parameter that travels in memory of its own.
    let error = call.pair((&one, 2)).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::BadValue, false));
    assert_eq!(error.side(), Some(peer.side()));
    // More than 16.
    let error = call.row([&one; 16], (&one, &one)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadValue);
    // In a call that is made alone.
    let error = CountingClient::from(peer).add(&one, 1).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::BadValue, false));
    // In a call of another batch.
    let other = peer.batch().unwrap();
    let error = CountingClient::from(&other).add(&one, 1).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::BadValue, false));
    // The batch is as it was.
    let two = call.add(&one, &one).unwrap();
    assert_eq!(batch.len(), 2);
    let mut results = batch.send().unwrap();
    assert_eq!((results.get(one), results.get(two)), (Ok(1), Ok(2)));
}

fn fails(peer: &Peer) {
    let batch = peer.batch().unwrap();
    let (call, failing) = (CountingClient::from(&batch), FailingClient::from(&batch));
    let first = call.add(1, 2).unwrap();
    let refused = failing.refuses("text", b"bytes").unwrap();
    let missing = MissingClient::from(&batch).missing("a text that comes back").unwrap();
    let over = call.add(u64::MAX, 1).unwrap();
    let takes_over = call.add(&over, 1).unwrap();
    let takes_that = call.add(1, &takes_over).unwrap();
    let odd = call.half(7).unwrap();
    let takes_odd = call.halves(&odd).unwrap();
    let large = failing.makes(3 << 20).unwrap();
    let no_letter = call.letter(0xd800).unwrap();
    let last = call.add(&first, 4).unwrap();
    let mut results = batch.send().unwrap();
    assert_eq!(results.get(first), Ok(3));
    let error = results.get(refused).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Refused, true));
    assert_eq!(error.function(), Some(ParamsFailingRefuses::FUNCTION));
    assert_eq!(error.side(), Some(peer.side().other()));
    let error = results.get(missing).unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::UnknownFunction, false));
    let ends = |error: CallError| (error.kind(), error.reached());
    assert_eq!(results.get(over).map_err(ends), Err((ErrorKind::Refused, true)));
    let cancelled = Err((ErrorKind::Cancelled, false));
    assert_eq!(results.get(takes_over).map_err(ends), cancelled);
    assert_eq!(results.get(takes_that).map_err(ends), cancelled);
    assert_eq!(results.get(odd), Err(Failure::App(Parity::Odd)));
    let Err(Failure::Call(error)) = results.get(takes_odd) else { panic!("it has no result") };
    assert_eq!(ends(error), (ErrorKind::Cancelled, false));
    assert_eq!(results.get(large).map(drop).map_err(ends), Err((ErrorKind::OutOfMemory, true)));
    assert_eq!(results.get(no_letter).map_err(ends), Err((ErrorKind::Refused, true)));
    assert_eq!(results.get(last), Ok(7));
}

fn dropped(peer: &Peer) {
    let before = peer.arena_stats();
    let batch = peer.batch().unwrap();
    let call = HandlesClient::from(&batch);
    for nr in 0..100 {
        call.buf(&[nr; 200]).map(drop).unwrap();
        let sum = CountingClient::from(&batch).add(1, 2).unwrap();
        CountingClient::from(&batch).add(&sum, 2).map(drop).unwrap();
    }
    assert!(peer.arena_stats().blocks > before.blocks + 100);
    drop(batch);
    assert_eq!(peer.arena_stats(), before);
}

/// The bytes of the other side's arena that its handlers can use.
fn room(peer: &Peer) -> usize {
    let call = FailingClient::from(peer);
    let mut held = Vec::new();
    while let Ok(buf) = call.makes(4096) {
        held.push(buf);
    }
    held.len()
}

fn unread(peer: &Peer) {
    let before = room(peer);
    for _ in 0..20 {
        let batch = peer.batch().unwrap();
        let call = FailingClient::from(&batch);
        let mut all: Vec<_> = (0..10).map(|_| call.makes(8192).unwrap()).collect();
        HandlesClient::from(&batch).maybe_text(Some("text")).map(drop).unwrap();
        CountingClient::from(&batch).halves(6).map(drop).unwrap();
        let mut results = batch.send().unwrap();
        let read = results.get(all.swap_remove(3)).unwrap();
        drop(results);
        assert_eq!(read.len(), 8192);
    }
    // A block that is in use for something else splits free memory, at one place or another. What is not released is missing:
    // the answers of the batches alone would be 20 blocks.
    let after = room(peer);
    assert!(after + 5 > before, "all of it was released: {after} of {before}");
}

fn callers_arena(peer: &Peer) {
    let batch = peer.batch().unwrap();
    let call = FailingClient::from(&batch);
    let bytes = vec![7; 60_000];
    let mut all = Vec::new();
    let error = loop {
        match call.takes("text", &bytes) {
            Ok(len) => all.push(len),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.reached()), (ErrorKind::OutOfMemory, false));
    assert_eq!(error.side(), Some(peer.side()));
    assert!(all.len() >= 12, "an arena of 1 MiB has {} blocks of 60,000 bytes", all.len());
    // Those that were added before are made.
    assert_eq!(batch.len(), all.len());
    let mut results = batch.send().unwrap();
    for len in all {
        assert_eq!(results.get(len), Ok(60_004));
    }
}

fn callees_arena(peer: &Peer) {
    let handles = FailingClient::from(peer);
    let mut held = Vec::new();
    for len in [64 << 10, 4096, 64] {
        while let Ok(buf) = handles.makes(len) {
            held.push(buf);
        }
    }
    let batch = peer.batch().unwrap();
    // Their answers do not fit into what is left for a handler that needs two blocks.
    let kept: Vec<_> =
        (0..12).map(|_| FailingClient::from(&batch).keep(b"not kept").unwrap()).collect();
    let error = batch.send().unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::OutOfMemory, false));
    assert_eq!(error.side(), Some(peer.side().other()));
    drop((kept, held));
    assert_eq!(handles.kept(), Ok(0), "it was not called");
}

fn many(peer: &Peer) {
    let batch = peer.batch().unwrap();
    let call = CountingClient::from(&batch);
    let mut sum = call.add(0, 0).unwrap();
    for nr in 1..=1000 {
        sum = call.add(&sum, nr).unwrap();
    }
    assert_eq!(batch.send().unwrap().get(sum), Ok(500_500));
}

fn nested(peer: &Peer) {
    let batch = peer.batch().unwrap();
    let call = CountingClient::from(&batch);
    let one = call.twice(20).unwrap();
    let two = call.twice(&one).unwrap();
    // At the depth of the batch, as if each was made alone.
    let most = vmffi::MAX_DEPTH - u32::from(peer.side() == vmffi::abi::Side::Guest);
    let down = NestingClient::from(&batch).down(most - 1, 0).unwrap();
    let deeper = NestingClient::from(&batch).down(most, 0).unwrap();
    let spelt = NestingClient::from(&batch).spell(3, "").unwrap();
    let takes = NestingClient::from(&batch).down(3, 0).unwrap();
    let takes = NestingClient::from(&batch).down(&takes, 0).unwrap();
    let mut results = batch.send().unwrap();
    assert_eq!((results.get(one), results.get(two)), (Ok(40), Ok(80)));
    assert_eq!(results.get(down), Ok(most));
    assert_eq!(results.get(deeper).unwrap_err().kind(), ErrorKind::TooDeep);
    assert_eq!(results.get(spelt).unwrap().read_string().map(|text| text.len()), Ok(4));
    assert_eq!(results.get(takes), Ok(5), "a handler whose parameters were taken calls back");
}

fn foreign(peer: &Peer) {
    fn one(peer: &Peer) -> (Pending<u64>, vmffi::Results<'_>) {
        let batch = peer.batch().unwrap();
        let sum = CountingClient::from(&batch).add(1, 2).unwrap();
        (sum, batch.send().unwrap())
    }
    let (first, mut its) = one(peer);
    let (second, mut others) = one(peer);
    let error = others.get(first).unwrap_err();
    assert_eq!((error.kind(), error.side()), (ErrorKind::BadValue, Some(peer.side())));
    assert_eq!(its.get(second).unwrap_err().kind(), ErrorKind::BadValue);
}

fn clients(peer: &Peer) {
    let batch = peer.batch().unwrap();
    let before = FailingClient::from(&batch).kept().unwrap();
    let kept: Vec<_> =
        (1..=5).map(|nr| FailingClient::from(&batch).keep(&[nr; 3]).unwrap()).collect();
    let sum = FailingClient::from(&batch).kept().unwrap();
    let order = CountingClient::from(&batch).order().unwrap();
    let forgotten = FailingClient::from(&batch).forget().unwrap();
    let wide = CountingClient::from(&batch).wide(1 << 90).unwrap();
    // One call is made alone, before those.
    assert_eq!(FailingClient::from(peer).kept(), Ok(0));
    let mut results = batch.send().unwrap();
    assert_eq!(results.get(before), Ok(0));
    for (nr, kept) in (1..).zip(kept) {
        assert_eq!(results.get(kept), Ok(nr), "in their order");
    }
    assert_eq!(results.get(sum), Ok(3 * 15));
    assert_eq!((results.get(order), results.get(forgotten)), (Ok(5), Ok(5)));
    assert_eq!(results.get(wide), Ok((1 << 90) + 1));
    let _: String = alloc::format!("{results:?}");
}
