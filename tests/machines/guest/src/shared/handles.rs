//! Every kind of handle: alone, among others, in structs, and absent.

use alloc::vec::Vec;

use vmffi::{
    CallError, Foreign, ForeignBuf, ForeignSlice, ForeignStr, Peer, Shared, SharedBuf, SharedSlice,
    SharedStr,
};

use super::{Check, Side};

vmffi::ffi_interface! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Point { x: i32, y: i64 }

    #[derive(Debug)]
    pub struct Request {
        flag: bool,
        path: ForeignStr,
        body: ForeignBuf,
        points: ForeignSlice<Point>,
        origin: Foreign<Point>,
        wide: u128,
        more: Option<ForeignBuf>,
        no: Option<Foreign<Point>>,
    }

    #[derive(Debug)]
    pub struct Outer { before: u8, request: Request, maybe: Option<Request>, after: u16 }

    pub interface Handles {
        fn buf(value: ForeignBuf) -> ForeignBuf;
        fn text(value: ForeignStr) -> ForeignStr;
        fn slice(value: ForeignSlice<Point>) -> ForeignSlice<Point>;
        fn words(value: ForeignSlice<u64>) -> u64;
        fn foreign(value: Foreign<Point>) -> Foreign<Point>;
        fn all(nr: u8, buf: ForeignBuf, text: ForeignStr, points: ForeignSlice<Point>, at: Foreign<Point>) -> i64;
        fn maybe_buf(value: Option<ForeignBuf>) -> Option<ForeignBuf>;
        fn maybe_text(value: Option<ForeignStr>) -> Option<ForeignStr>;
        fn maybe_slice(value: Option<ForeignSlice<Point>>) -> Option<ForeignSlice<Point>>;
        fn maybe_foreign(value: Option<Foreign<Point>>) -> Option<Foreign<Point>>;
        fn deep(value: Option<Option<ForeignBuf>>) -> Option<Option<ForeignBuf>>;
        fn request(request: Request) -> Request;
        fn maybe_request(nr: u8, request: Option<Request>) -> Option<Request>;
        fn outer(outer: Outer, forget: bool) -> Option<Outer>;
    }
}

fn buf(peer: &Peer, value: &ForeignBuf) -> Result<SharedBuf, CallError> {
    SharedBuf::copy_from(peer, &value.read_vec()?)
}

fn text(peer: &Peer, value: &ForeignStr) -> Result<SharedStr, CallError> {
    SharedStr::copy_from(peer, &value.read_string()?)
}

fn slice(peer: &Peer, value: &ForeignSlice<Point>) -> Result<SharedSlice<Point>, CallError> {
    let one_by_one = value.iter().collect::<Result<Vec<_>, _>>()?;
    SharedSlice::copy_from(peer, &one_by_one)
}

fn foreign(peer: &Peer, value: &Foreign<Point>) -> Result<Shared<Point>, CallError> {
    Shared::new(peer, value.read()?)
}

fn request(peer: &Peer, value: &Request) -> Result<SharedRequest, CallError> {
    Ok(SharedRequest {
        flag: value.flag,
        path: text(peer, &value.path)?,
        body: buf(peer, &value.body)?,
        points: slice(peer, &value.points)?,
        origin: foreign(peer, &value.origin)?,
        wide: value.wide,
        more: value.more.as_ref().map(|more| buf(peer, more)).transpose()?,
        no: value.no.as_ref().map(|no| foreign(peer, no)).transpose()?,
    })
}

impl<S: Side> Handles for S {
    fn buf(&self, peer: &Peer, value: ForeignBuf) -> Result<SharedBuf, CallError> {
        buf(peer, &value)
    }
    fn text(&self, peer: &Peer, value: ForeignStr) -> Result<SharedStr, CallError> {
        text(peer, &value)
    }
    fn slice(
        &self,
        peer: &Peer,
        value: ForeignSlice<Point>,
    ) -> Result<SharedSlice<Point>, CallError> {
        slice(peer, &value)
    }
    fn words(&self, _: &Peer, value: ForeignSlice<u64>) -> Result<u64, CallError> {
        value.iter().try_fold(0_u64, |sum, word| Ok(sum.wrapping_add(word?)))
    }
    fn foreign(&self, peer: &Peer, value: Foreign<Point>) -> Result<Shared<Point>, CallError> {
        foreign(peer, &value)
    }
    fn all(
        &self,
        _: &Peer,
        nr: u8,
        buf: ForeignBuf,
        text: ForeignStr,
        points: ForeignSlice<Point>,
        at: Foreign<Point>,
    ) -> Result<i64, CallError> {
        let sum = points.read_vec()?.iter().map(|point| point.y).sum::<i64>() + at.read()?.y;
        Ok(sum + i64::from(nr) + (buf.read_vec()?.len() + text.read_string()?.len()) as i64)
    }
    fn maybe_buf(
        &self,
        peer: &Peer,
        value: Option<ForeignBuf>,
    ) -> Result<Option<SharedBuf>, CallError> {
        value.map(|value| buf(peer, &value)).transpose()
    }
    fn maybe_text(
        &self,
        peer: &Peer,
        value: Option<ForeignStr>,
    ) -> Result<Option<SharedStr>, CallError> {
        value.map(|value| text(peer, &value)).transpose()
    }
    fn maybe_slice(
        &self,
        peer: &Peer,
        value: Option<ForeignSlice<Point>>,
    ) -> Result<Option<SharedSlice<Point>>, CallError> {
        value.map(|value| slice(peer, &value)).transpose()
    }
    fn maybe_foreign(
        &self,
        peer: &Peer,
        value: Option<Foreign<Point>>,
    ) -> Result<Option<Shared<Point>>, CallError> {
        value.map(|value| foreign(peer, &value)).transpose()
    }
    fn deep(
        &self,
        peer: &Peer,
        value: Option<Option<ForeignBuf>>,
    ) -> Result<Option<Option<SharedBuf>>, CallError> {
        value.map(|value| value.map(|value| buf(peer, &value)).transpose()).transpose()
    }
    fn request(&self, peer: &Peer, value: Request) -> Result<SharedRequest, CallError> {
        request(peer, &value)
    }
    fn maybe_request(
        &self,
        peer: &Peer,
        nr: u8,
        value: Option<Request>,
    ) -> Result<Option<SharedRequest>, CallError> {
        if nr != u8::from(value.is_some()) {
            return Err(CallError::refused());
        }
        value.map(|value| request(peer, &value)).transpose()
    }
    fn outer(
        &self,
        peer: &Peer,
        outer: Outer,
        forget: bool,
    ) -> Result<Option<SharedOuter>, CallError> {
        if forget {
            return Ok(None);
        }
        Ok(Some(SharedOuter {
            before: outer.before,
            request: request(peer, &outer.request)?,
            maybe: outer.maybe.map(|maybe| request(peer, &maybe)).transpose()?,
            after: outer.after,
        }))
    }
}

pub const CHECKS: &[Check] = &[
    ("buffers", buffers),
    ("texts", texts),
    ("slices", slices),
    ("foreign_values", foreign_values),
    ("all_kinds_in_one_call", all_kinds),
    ("options_of_handles", options),
    ("structs_with_handles", structs),
];

const POINTS: [Point; 3] =
    [Point { x: 1, y: -1 }, Point { x: i32::MIN, y: 0 }, Point { x: 0, y: i64::MAX }];

fn buffers(peer: &Peer) {
    let call = HandlesClient::from(peer);
    for len in [0, 1, 63, 64, 65, 4095, 4096, 4097, 100_000] {
        let sent: Vec<u8> = (0..len).map(|nr: u32| (nr % 251) as u8).collect();
        let back = call.buf(&sent).unwrap();
        assert_eq!((back.len(), back.read_vec().unwrap() == sent), (sent.len(), true));
        let back = call.buf(SharedBuf::copy_from(peer, &sent).unwrap()).unwrap();
        let mut part = [0; 7];
        if len > 70 {
            back.read_at(60, &mut part).unwrap();
            assert_eq!(part, sent[60..67]);
        }
    }
}

fn texts(peer: &Peer) {
    let call = HandlesClient::from(peer);
    for sent in ["", "x", "märz ✗ 🦀", "\0"] {
        assert_eq!(call.text(sent).unwrap().read_string().unwrap(), sent);
        let shared = SharedStr::copy_from(peer, sent).unwrap();
        let mut into = [0; 32];
        assert_eq!(call.text(shared).unwrap().read_into(&mut into).unwrap(), sent);
    }
}

fn slices(peer: &Peer) {
    let call = HandlesClient::from(peer);
    for len in [0, 1, 3, 1000] {
        let sent: Vec<Point> = POINTS.iter().copied().cycle().take(len).collect();
        let back = call.slice(&sent).unwrap();
        assert_eq!((back.len(), back.read_vec().unwrap() == sent), (len, true));
        assert_eq!(back.get(len), Ok(None));
        let shared = SharedSlice::copy_from(peer, &sent).unwrap();
        assert_eq!(call.slice(shared).unwrap().get(0), Ok(sent.first().copied()));
    }
    assert_eq!(call.words(&[u64::MAX, 2, 3]), Ok(4));
}

fn foreign_values(peer: &Peer) {
    let call = HandlesClient::from(peer);
    for point in POINTS {
        let back = call.foreign(Shared::new(peer, point).unwrap()).unwrap();
        assert_eq!(back.read(), Ok(point));
        assert_eq!(back.read(), Ok(point), "a handle can be read again");
    }
}

fn all_kinds(peer: &Peer) {
    let at = Shared::new(peer, Point { x: 0, y: -100 }).unwrap();
    let sum = HandlesClient::from(peer).all(5, b"bytes", "text", &POINTS[..2], at);
    assert_eq!(sum, Ok(-1 - 100 + 5 + 5 + 4));
}

fn options(peer: &Peer) {
    let call = HandlesClient::from(peer);
    for sent in [None, Some(""), Some("a text")] {
        let bytes = sent.map(str::as_bytes);
        let back = call.maybe_text(sent).unwrap();
        assert_eq!(back.map(|text| text.read_string().unwrap()).as_deref(), sent);
        let back = call.maybe_buf(bytes).unwrap();
        assert_eq!(back.map(|buf| buf.read_vec().unwrap()).as_deref(), bytes);
        let back = call.deep(Some(bytes)).unwrap();
        assert_eq!(back.unwrap().map(|buf| buf.read_vec().unwrap()).as_deref(), bytes);
    }
    assert!(call.deep(None::<Option<&[u8]>>).unwrap().is_none());
    for sent in [None, Some(&[][..]), Some(&POINTS[..])] {
        let back = call.maybe_slice(sent).unwrap();
        assert_eq!(back.map(|slice| slice.read_vec().unwrap()).as_deref(), sent);
    }
    for sent in [None, Some(POINTS[1])] {
        let shared = sent.map(|point| Shared::new(peer, point).unwrap());
        let back = call.maybe_foreign(shared).unwrap();
        assert_eq!(back.map(|back| back.read().unwrap()), sent);
    }
}

fn sent(peer: &Peer) -> SharedRequest {
    SharedRequest {
        flag: true,
        path: SharedStr::copy_from(peer, "/etc/motd").unwrap(),
        body: SharedBuf::copy_from(peer, b"welcome").unwrap(),
        points: SharedSlice::copy_from(peer, &POINTS).unwrap(),
        origin: Shared::new(peer, POINTS[2]).unwrap(),
        wide: u128::MAX - 1,
        more: Some(SharedBuf::copy_from(peer, b"").unwrap()),
        no: None,
    }
}

#[track_caller]
fn came(request: &Request) {
    assert_eq!((request.flag, request.wide), (true, u128::MAX - 1));
    assert_eq!(request.path.read_string().unwrap(), "/etc/motd");
    assert_eq!(request.body.read_vec().unwrap(), b"welcome");
    assert_eq!(request.points.read_vec().unwrap(), POINTS);
    assert_eq!(request.origin.read(), Ok(POINTS[2]));
    assert_eq!(request.more.as_ref().map(ForeignBuf::len), Some(0));
    assert!(request.no.is_none());
}

fn structs(peer: &Peer) {
    let call = HandlesClient::from(peer);
    came(&call.request(sent(peer)).unwrap());
    came(&call.maybe_request(1, Some(sent(peer))).unwrap().unwrap());
    assert!(call.maybe_request(0, None::<SharedRequest>).unwrap().is_none());
    let outer = |maybe| SharedOuter { before: 1, request: sent(peer), maybe, after: u16::MAX };
    let back = call.outer(outer(Some(sent(peer))), false).unwrap().unwrap();
    assert_eq!((back.before, back.after), (1, u16::MAX));
    came(&back.request);
    came(&back.maybe.unwrap());
    let back = call.outer(outer(None), false).unwrap().unwrap();
    assert!(back.maybe.is_none());
    assert!(call.outer(outer(Some(sent(peer))), true).unwrap().is_none());
}
