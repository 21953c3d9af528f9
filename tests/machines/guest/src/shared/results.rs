//! Errors that a declaration names.

use vmffi::{
    CallError, Failure, Foreign, ForeignBuf, ForeignStr, Peer, Shared, SharedBuf, SharedStr, Why,
};

use super::{Check, Side};

vmffi::ffi_interface! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Place { line: u32, column: u16 }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Kind: i8 { Worst = -128, Bad = -1, Odd = 5 }

    #[derive(Clone, Debug, PartialEq)]
    pub enum Detail: u32 { Unknown, At { place: Place, kind: Kind } }

    #[derive(Debug)]
    pub struct Report { code: u8, text: ForeignStr, more: Option<ForeignBuf> }

    pub interface Results {
        fn nothing(fail: bool) -> Result<(), ()>;
        fn number(fail: bool) -> Result<i64, Kind>;
        fn wide(fail: bool) -> Result<u128, char>;
        fn bytes(fail: bool) -> Result<ForeignBuf, Detail>;
        fn text(fail: bool) -> Result<ForeignStr, ForeignStr>;
        fn report(fail: bool) -> Result<Report, Foreign<Place>>;
        fn reported(fail: bool) -> Result<Place, Report>;
        fn option(nr: u8) -> Result<Option<ForeignBuf>, Option<u32>>;
        fn consumes(fail: u8, bytes: ForeignBuf, text: ForeignStr) -> Result<u64, Kind>;
    }
}

const PLACE: Place = Place { line: 70_000, column: 3 };

fn report(peer: &Peer) -> Result<SharedReport, CallError> {
    let more = Some(SharedBuf::copied(peer, b"more")?);
    Ok(SharedReport { code: 9, text: SharedStr::copied(peer, "report")?, more })
}

impl<S: Side> Results for S {
    fn nothing(&self, _: &Peer, fail: bool) -> Result<(), Failure<()>> {
        if fail { Err(().into()) } else { Ok(()) }
    }
    fn number(&self, _: &Peer, fail: bool) -> Result<i64, Failure<Kind>> {
        if fail { Err(Kind::Worst.into()) } else { Ok(i64::MIN) }
    }
    fn wide(&self, _: &Peer, fail: bool) -> Result<u128, Failure<char>> {
        if fail { Err('✗'.into()) } else { Ok(u128::MAX) }
    }
    fn bytes(&self, peer: &Peer, fail: bool) -> Result<SharedBuf, Failure<Detail>> {
        if fail {
            return Err(Detail::At { place: PLACE, kind: Kind::Bad }.into());
        }
        Ok(SharedBuf::copied(peer, b"bytes")?)
    }
    fn text(&self, peer: &Peer, fail: bool) -> Result<SharedStr, Failure<SharedStr>> {
        if fail {
            return Err(Failure::App(SharedStr::copied(peer, "bad")?));
        }
        Ok(SharedStr::copied(peer, "good")?)
    }
    fn report(&self, peer: &Peer, fail: bool) -> Result<SharedReport, Failure<Shared<Place>>> {
        if fail {
            return Err(Failure::App(Shared::new(peer, PLACE)?));
        }
        Ok(report(peer)?)
    }
    fn reported(&self, peer: &Peer, fail: bool) -> Result<Place, Failure<SharedReport>> {
        if fail { Err(Failure::App(report(peer)?)) } else { Ok(PLACE) }
    }
    fn option(&self, peer: &Peer, nr: u8) -> Result<Option<SharedBuf>, Failure<Option<u32>>> {
        match nr {
            0 => Ok(None),
            1 => Ok(Some(SharedBuf::copied(peer, b"")?)),
            2 => Err(Failure::App(None)),
            nr => Err(Failure::App(Some(nr.into()))),
        }
    }
    fn consumes(
        &self,
        _: &Peer,
        fail: u8,
        bytes: ForeignBuf,
        text: ForeignStr,
    ) -> Result<u64, Failure<Kind>> {
        match fail {
            0 => Ok((bytes.to_vec()?.len() + text.to_string()?.len()) as u64),
            1 => Err(Kind::Odd.into()),
            _ => Err(CallError::refused().into()),
        }
    }
}

pub const CHECKS: &[Check] = &[
    ("results_of_values", values),
    ("results_of_handles", handles),
    ("failed_calls_consume_their_arguments", consumed),
];

fn values(peer: &Peer) {
    let call = ResultsClient::from(peer);
    assert_eq!(call.nothing(false), Ok(()));
    assert_eq!(call.nothing(true), Err(Failure::App(())));
    assert_eq!(call.number(false), Ok(i64::MIN));
    assert_eq!(call.number(true), Err(Failure::App(Kind::Worst)));
    assert_eq!(call.wide(false), Ok(u128::MAX));
    assert_eq!(call.wide(true), Err(Failure::App('✗')));
    assert_eq!(call.reported(false).unwrap(), PLACE);
}

fn handles(peer: &Peer) {
    let call = ResultsClient::from(peer);
    let came = |report: Report| {
        assert_eq!((report.code, report.text.to_string().unwrap().as_str()), (9, "report"));
        assert_eq!(report.more.unwrap().to_vec().unwrap(), b"more");
    };
    assert_eq!(call.bytes(false).unwrap().to_vec().unwrap(), b"bytes");
    let detail = Detail::At { place: PLACE, kind: Kind::Bad };
    assert_eq!(call.bytes(true).unwrap_err(), Failure::App(detail));
    assert_eq!(call.text(false).unwrap().to_string().unwrap(), "good");
    assert_eq!(call.text(true).unwrap_err().app().unwrap().to_string().unwrap(), "bad");
    came(call.report(false).unwrap());
    assert_eq!(call.report(true).unwrap_err().app().unwrap().read(), Ok(PLACE));
    came(call.reported(true).unwrap_err().app().unwrap());
    assert!(call.option(0).unwrap().is_none());
    assert!(call.option(1).unwrap().unwrap().is_empty());
    assert_eq!(call.option(2).unwrap_err().app(), Some(None));
    assert_eq!(call.option(3).unwrap_err().app(), Some(Some(3)));
}

fn consumed(peer: &Peer) {
    let call = ResultsClient::from(peer);
    let before = peer.arena_stats();
    assert_eq!(call.consumes(0, b"bytes", "text"), Ok(9));
    assert_eq!(call.consumes(1, b"bytes", "text"), Err(Failure::App(Kind::Odd)));
    assert_eq!(peer.arena_stats(), before);
    let Err(Failure::Call(error)) = call.consumes(2, b"bytes", "text") else { panic!() };
    assert_eq!((error.why(), error.reached()), (Why::Refused, true));
}
