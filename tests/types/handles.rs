//! Structs with handles: the sender fills the generated twin, and the receiver owns the handles.

use vmffi::{
    CallError, Foreign, ForeignBuf, ForeignSlice, ForeignStr, Peer, Shared, SharedBuf, SharedSlice,
    SharedStr,
};

use crate::both_ways;

vmffi::ffi_interface! {
    #[derive(Clone, Debug, PartialEq)]
    pub struct Point { x: i32, y: i32 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Verb: u8 { Get = 1, Put = 2 }

    /// Every kind of handle, and plain fields between them.
    #[derive(Debug)]
    pub struct Request {
        verb: Verb,
        path: ForeignStr,
        flag: bool,
        body: ForeignBuf,
        points: ForeignSlice<Point>,
        origin: Foreign<Point>,
        wide: u128,
    }

    #[derive(Debug)]
    pub struct Maybe {
        nr: u8,
        text: Option<ForeignStr>,
        body: Option<ForeignBuf>,
        point: Option<Foreign<Point>>,
        points: Option<ForeignSlice<u16>>,
        number: Option<u32>,
    }

    #[derive(Debug)]
    pub struct Outer { before: u8, request: Request, maybe: Option<Maybe>, after: u16 }

    pub interface Echo {
        fn request(request: Request) -> Request;
        fn among(nr: u8, request: Request, more: ForeignBuf) -> Option<Request>;
        fn maybe(maybe: Maybe) -> Maybe;
        fn maybe_not(nr: u8, maybe: Option<Maybe>) -> Option<Maybe>;
        fn outer(outer: Outer) -> Outer;
        fn forget(outer: Outer);
    }
}

struct Server;

fn request_again(peer: &Peer, request: &Request) -> Result<SharedRequest, CallError> {
    Ok(SharedRequest {
        verb: request.verb,
        path: SharedStr::copy_from(peer, &request.path.read_string()?)?,
        flag: request.flag,
        body: SharedBuf::copy_from(peer, &request.body.read_vec()?)?,
        points: SharedSlice::copy_from(peer, &request.points.read_vec()?)?,
        origin: Shared::new(peer, request.origin.read()?)?,
        wide: request.wide,
    })
}

fn maybe_again(peer: &Peer, maybe: &Maybe) -> Result<SharedMaybe, CallError> {
    Ok(SharedMaybe {
        nr: maybe.nr,
        text: match &maybe.text {
            Some(text) => Some(SharedStr::copy_from(peer, &text.read_string()?)?),
            None => None,
        },
        body: match &maybe.body {
            Some(body) => Some(SharedBuf::copy_from(peer, &body.read_vec()?)?),
            None => None,
        },
        point: match &maybe.point {
            Some(point) => Some(Shared::new(peer, point.read()?)?),
            None => None,
        },
        points: match &maybe.points {
            Some(points) => Some(SharedSlice::copy_from(peer, &points.read_vec()?)?),
            None => None,
        },
        number: maybe.number,
    })
}

impl Echo for Server {
    fn request(&self, peer: &Peer, request: Request) -> Result<SharedRequest, CallError> {
        request_again(peer, &request)
    }
    fn among(
        &self,
        peer: &Peer,
        nr: u8,
        request: Request,
        more: ForeignBuf,
    ) -> Result<Option<SharedRequest>, CallError> {
        assert_eq!(more.read_vec()?, [nr; 3]);
        if nr == 0 { Ok(None) } else { request_again(peer, &request).map(Some) }
    }
    fn maybe(&self, peer: &Peer, maybe: Maybe) -> Result<SharedMaybe, CallError> {
        maybe_again(peer, &maybe)
    }
    fn maybe_not(
        &self,
        peer: &Peer,
        nr: u8,
        maybe: Option<Maybe>,
    ) -> Result<Option<SharedMaybe>, CallError> {
        assert_eq!(nr, u8::from(maybe.is_some()));
        maybe.map(|maybe| maybe_again(peer, &maybe)).transpose()
    }
    fn outer(&self, peer: &Peer, outer: Outer) -> Result<SharedOuter, CallError> {
        Ok(SharedOuter {
            before: outer.before,
            request: request_again(peer, &outer.request)?,
            maybe: outer.maybe.map(|maybe| maybe_again(peer, &maybe)).transpose()?,
            after: outer.after,
        })
    }
    fn forget(&self, _: &Peer, _: Outer) -> Result<(), CallError> {
        Ok(())
    }
}

vmffi::serve!(Server: Echo);

const POINTS: [Point; 3] =
    [Point { x: 1, y: -1 }, Point { x: i32::MIN, y: 0 }, Point { x: 0, y: 7 }];

fn request(peer: &Peer) -> SharedRequest {
    SharedRequest {
        verb: Verb::Put,
        path: SharedStr::copy_from(peer, "/etc/motd").unwrap(),
        flag: true,
        body: SharedBuf::copy_from(peer, b"welcome").unwrap(),
        points: SharedSlice::copy_from(peer, &POINTS).unwrap(),
        origin: Shared::new(peer, Point { x: -3, y: 4 }).unwrap(),
        wide: u128::MAX - 1,
    }
}

#[track_caller]
fn check_request(request: &Request) {
    assert_eq!((request.verb, request.flag, request.wide), (Verb::Put, true, u128::MAX - 1));
    assert_eq!(request.path.read_string().unwrap(), "/etc/motd");
    assert_eq!(request.body.read_vec().unwrap(), b"welcome");
    assert_eq!(request.points.read_vec().unwrap(), POINTS);
    assert_eq!(request.origin.read(), Ok(Point { x: -3, y: 4 }));
}

/// Every field is present, and empty if possible.
fn all(peer: &Peer, empty: bool) -> SharedMaybe {
    SharedMaybe {
        nr: 1,
        text: Some(SharedStr::copy_from(peer, if empty { "" } else { "text" }).unwrap()),
        body: Some(SharedBuf::copy_from(peer, if empty { b"" } else { b"body" }).unwrap()),
        point: Some(Shared::new(peer, Point { x: 1, y: 2 }).unwrap()),
        points: Some(SharedSlice::copy_from(peer, if empty { &[] } else { &[1, 2, 3] }).unwrap()),
        number: Some(0),
    }
}

const NONE: SharedMaybe =
    SharedMaybe { nr: 0, text: None, body: None, point: None, points: None, number: None };

#[track_caller]
fn check_all(maybe: &Maybe, empty: bool) {
    let (text, body) = (maybe.text.as_ref().unwrap(), maybe.body.as_ref().unwrap());
    assert_eq!(text.read_string().unwrap(), if empty { "" } else { "text" });
    assert_eq!(body.len(), if empty { 0 } else { 4 });
    assert_eq!(maybe.points.as_ref().unwrap().len(), if empty { 0 } else { 3 });
    assert_eq!(maybe.point.as_ref().unwrap().read(), Ok(Point { x: 1, y: 2 }));
    assert_eq!((maybe.nr, maybe.number), (1, Some(0)));
}

#[track_caller]
fn check_none(maybe: &Maybe) {
    assert!(maybe.text.is_none() && maybe.body.is_none() && maybe.points.is_none());
    assert!(maybe.point.is_none() && maybe.number.is_none());
    assert_eq!(maybe.nr, 0);
}

#[test]
fn a_struct_of_handles_crosses() {
    both_ways(
        || Server,
        |peer| {
            let echo = EchoClient::from(peer);
            check_request(&echo.request(request(peer)).unwrap());
            check_request(&echo.among(9, request(peer), &[9; 3]).unwrap().unwrap());
            assert!(echo.among(0, request(peer), &[0; 3]).unwrap().is_none());
        },
    );
}

#[test]
fn handles_that_may_be_missing_cross() {
    both_ways(
        || Server,
        |peer| {
            let echo = EchoClient::from(peer);
            check_none(&echo.maybe(NONE).unwrap());
            for empty in [false, true] {
                check_all(&echo.maybe(all(peer, empty)).unwrap(), empty);
                let maybe = echo.maybe_not(1, Some(all(peer, empty))).unwrap();
                check_all(&maybe.unwrap(), empty);
            }
            check_none(&echo.maybe_not(1, Some(NONE)).unwrap().unwrap());
            assert!(echo.maybe_not(0, None::<SharedMaybe>).unwrap().is_none());
        },
    );
}

#[test]
fn structs_of_handles_nest() {
    both_ways(
        || Server,
        |peer| {
            let echo = EchoClient::from(peer);
            for empty in [false, true] {
                let maybe = Some(all(peer, empty));
                let outer = SharedOuter { before: 1, request: request(peer), maybe, after: 2 };
                let outer = echo.outer(outer).unwrap();
                check_request(&outer.request);
                check_all(outer.maybe.as_ref().unwrap(), empty);
                assert_eq!((outer.before, outer.after), (1, 2));
            }
            let outer = SharedOuter { before: 1, request: request(peer), maybe: None, after: 2 };
            assert!(echo.outer(outer).unwrap().maybe.is_none());
        },
    );
}

#[test]
fn handles_that_a_handler_ignores_are_released() {
    both_ways(
        || Server,
        |peer| {
            let maybe = Some(all(peer, false));
            let outer = SharedOuter { before: 1, request: request(peer), maybe, after: 2 };
            EchoClient::from(peer).forget(outer).unwrap();
        },
    );
}

#[test]
fn values_that_are_never_sent_are_freed() {
    both_ways(
        || Server,
        |peer| {
            let before = peer.arena_stats().blocks;
            let request = request(peer);
            assert_eq!(peer.arena_stats().blocks, before + 4);
            drop(request);
            assert_eq!(peer.arena_stats().blocks, before);
        },
    );
}

#[test]
fn a_struct_can_be_kept_in_parts() {
    both_ways(
        || Server,
        |peer| {
            let Request { path, body, .. } = EchoClient::from(peer).request(request(peer)).unwrap();
            drop(path);
            assert_eq!(body.read_vec().unwrap(), b"welcome");
        },
    );
}
