//! `Option` of handles, alone and among others: `None`, `Some`, and `Some` of an empty handle.

use vmffi::{
    CallError, Foreign, ForeignBuf, ForeignSlice, ForeignStr, Peer, Shared, SharedBuf, SharedSlice,
    SharedStr,
};

use crate::both_ways;

vmffi::ffi_interface! {
    pub interface Echo {
        fn buf(value: Option<ForeignBuf>) -> Option<ForeignBuf>;
        fn text(value: Option<ForeignStr>) -> Option<ForeignStr>;
        fn slice(value: Option<ForeignSlice<i64>>) -> Option<ForeignSlice<i64>>;
        fn foreign(value: Option<Foreign<char>>) -> Option<Foreign<char>>;
        fn twice(value: Option<Option<ForeignBuf>>) -> Option<Option<ForeignBuf>>;
        fn thrice(value: Option<Option<Option<Foreign<u8>>>>) -> u8;
        fn among(nr: u8, one: Option<ForeignBuf>, two: Option<ForeignStr>, three: Option<Option<ForeignBuf>>) -> u8;
    }
}

struct Server;

fn again(peer: &Peer, value: &ForeignBuf) -> Result<SharedBuf, CallError> {
    SharedBuf::copy_from(peer, &value.read_vec()?)
}

impl Echo for Server {
    fn buf(&self, peer: &Peer, value: Option<ForeignBuf>) -> Result<Option<SharedBuf>, CallError> {
        value.map(|value| again(peer, &value)).transpose()
    }
    fn text(&self, peer: &Peer, value: Option<ForeignStr>) -> Result<Option<SharedStr>, CallError> {
        value.map(|value| SharedStr::copy_from(peer, &value.read_string()?)).transpose()
    }
    fn slice(
        &self,
        peer: &Peer,
        value: Option<ForeignSlice<i64>>,
    ) -> Result<Option<SharedSlice<i64>>, CallError> {
        value.map(|value| SharedSlice::copy_from(peer, &value.read_vec()?)).transpose()
    }
    fn foreign(
        &self,
        peer: &Peer,
        value: Option<Foreign<char>>,
    ) -> Result<Option<Shared<char>>, CallError> {
        value.map(|value| Shared::new(peer, value.read()?)).transpose()
    }
    fn twice(
        &self,
        peer: &Peer,
        value: Option<Option<ForeignBuf>>,
    ) -> Result<Option<Option<SharedBuf>>, CallError> {
        value.map(|value| value.map(|value| again(peer, &value)).transpose()).transpose()
    }
    fn thrice(
        &self,
        _: &Peer,
        value: Option<Option<Option<Foreign<u8>>>>,
    ) -> Result<u8, CallError> {
        Ok(match value {
            None => 0,
            Some(None) => 1,
            Some(Some(None)) => 2,
            Some(Some(Some(value))) => value.read()?,
        })
    }
    fn among(
        &self,
        _: &Peer,
        nr: u8,
        one: Option<ForeignBuf>,
        two: Option<ForeignStr>,
        three: Option<Option<ForeignBuf>>,
    ) -> Result<u8, CallError> {
        let one = u8::from(one.is_some());
        let two = u8::from(two.is_some());
        let three = u8::from(three.is_some()) + u8::from(three.flatten().is_some());
        Ok(nr + one + 2 * two + 4 * three)
    }
}

vmffi::serve!(Server: Echo);

#[test]
fn none_and_some_and_some_of_an_empty_handle_differ() {
    both_ways(
        || Server,
        |peer| {
            let echo = EchoClient::from(peer);
            for sent in [None, Some(""), Some("a text")] {
                let back = echo.text(sent).unwrap();
                assert_eq!(back.map(|text| text.read_string().unwrap()).as_deref(), sent);
                let bytes = sent.map(str::as_bytes);
                let back = echo.buf(bytes).unwrap();
                assert_eq!(back.map(|buf| buf.read_vec().unwrap()).as_deref(), bytes);
                let shared = bytes.map(|bytes| SharedBuf::copy_from(peer, bytes).unwrap());
                let back = echo.buf(shared).unwrap();
                assert_eq!(back.map(|buf| buf.len()), bytes.map(<[u8]>::len));
            }
            for sent in [None, Some(&[][..]), Some(&[-1, i64::MIN])] {
                let back = echo.slice(sent).unwrap();
                assert_eq!(back.map(|slice| slice.read_vec().unwrap()).as_deref(), sent);
            }
            for sent in [None, Some('\0'), Some(char::MAX)] {
                let back = echo.foreign(sent.map(|sent| Shared::new(peer, sent).unwrap())).unwrap();
                assert_eq!(back.map(|back| back.read().unwrap()), sent);
            }
        },
    );
}

#[test]
fn options_of_options_keep_their_depth() {
    both_ways(
        || Server,
        |peer| {
            let echo = EchoClient::from(peer);
            for sent in [None, Some(None), Some(Some(&b""[..])), Some(Some(b"bytes"))] {
                let back = echo.twice(sent).unwrap();
                let back = back.map(|back| back.map(|back| back.read_vec().unwrap()));
                assert_eq!(back.as_ref().map(|back| back.as_deref()), sent);
            }
            type Thrice = Option<Option<Option<Shared<u8>>>>;
            assert_eq!(echo.thrice(None as Thrice), Ok(0));
            assert_eq!(echo.thrice(Some(None) as Thrice), Ok(1));
            assert_eq!(echo.thrice(Some(Some(None)) as Thrice), Ok(2));
            let value = Shared::new(peer, 77_u8).unwrap();
            assert_eq!(echo.thrice(Some(Some(Some(value)))), Ok(77));
        },
    );
}

#[test]
fn options_cross_among_others() {
    both_ways(
        || Server,
        |peer| {
            let echo = EchoClient::from(peer);
            for (nr, three) in [(0, None), (4, Some(None)), (8, Some(Some(b"")))] {
                assert_eq!(echo.among(100, None::<&[u8]>, None::<&str>, three), Ok(100 + nr));
                assert_eq!(echo.among(100, Some(b""), None::<&str>, three), Ok(101 + nr));
                assert_eq!(echo.among(100, Some(b"x"), Some(""), three), Ok(103 + nr));
            }
        },
    );
}
