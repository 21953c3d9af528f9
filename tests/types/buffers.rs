//! Buffers and strings: every source of one, and every way to read one.

use std::{fmt::Write as _, io::Read as _, io::Write as _};

use vmffi::{CallError, ErrorKind, ForeignBuf, ForeignStr, Peer, SharedBuf, SharedStr};

use crate::both_ways;

vmffi::ffi_interface! {
    pub interface Echo {
        fn buf(bytes: ForeignBuf) -> ForeignBuf;
        fn text(text: ForeignStr) -> ForeignStr;
        fn both(nr: u8, bytes: ForeignBuf, text: ForeignStr, end: u64) -> ForeignBuf;
        fn sizes(bytes: ForeignBuf) -> u64;
    }
}

struct Server;

impl Echo for Server {
    fn buf(&self, peer: &Peer, bytes: ForeignBuf) -> Result<SharedBuf, CallError> {
        SharedBuf::copy_from(peer, &bytes.read_vec()?)
    }
    fn text(&self, peer: &Peer, text: ForeignStr) -> Result<SharedStr, CallError> {
        SharedStr::copy_from(peer, &text.read_string()?)
    }
    fn both(
        &self,
        peer: &Peer,
        nr: u8,
        bytes: ForeignBuf,
        text: ForeignStr,
        end: u64,
    ) -> Result<SharedBuf, CallError> {
        assert_eq!((nr, end), (0x7f, u64::MAX));
        let mut all = bytes.read_vec()?;
        ForeignBuf::from(text).append_to(&mut all)?;
        SharedBuf::copy_from(peer, &all)
    }
    fn sizes(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        Ok(bytes.len() as u64)
    }
}

vmffi::serve!(Server: Echo);

fn on_both_ways(test: impl Fn(&Peer, EchoClient<'_>)) {
    both_ways(|| Server, |peer| test(peer, EchoClient::from(peer)));
}

#[test]
fn bytes_of_every_kind_are_sent() {
    on_both_ways(|peer, echo| {
        let sent = |buf: Result<ForeignBuf, CallError>| buf.unwrap().read_vec().unwrap();
        assert_eq!(sent(echo.buf(b"an array")), b"an array");
        assert_eq!(sent(echo.buf(&b"a slice"[..])), b"a slice");
        assert_eq!(sent(echo.buf(&b"a vector".to_vec())), b"a vector");
        assert_eq!(sent(echo.buf(SharedBuf::copy_from(peer, b"shared").unwrap())), b"shared");
        assert_eq!(sent(echo.buf(b"")), b"");
        assert_eq!(sent(echo.buf(&Vec::new())), b"");
        assert_eq!(sent(echo.buf(SharedBuf::with_capacity(peer, 0).unwrap())), b"");
        // Memory that was allocated and never filled: the receiver sees an empty buffer.
        assert_eq!(sent(echo.buf(SharedBuf::with_capacity(peer, 100).unwrap())), b"");
        assert_eq!(sent(echo.both(0x7f, b"by", "tes", u64::MAX)), b"bytes");
        assert_eq!(sent(echo.both(0x7f, b"", "", u64::MAX)), b"");
    });
}

#[test]
fn text_of_every_kind_is_sent() {
    on_both_ways(|peer, echo| {
        let sent = |text: Result<ForeignStr, CallError>| text.unwrap().read_string().unwrap();
        assert_eq!(sent(echo.text("a text, märchenhaft")), "a text, märchenhaft");
        assert_eq!(sent(echo.text(&String::from("a string"))), "a string");
        assert_eq!(sent(echo.text(SharedStr::copy_from(peer, "shared").unwrap())), "shared");
        assert_eq!(sent(echo.text("")), "");
        let mut text = SharedStr::with_capacity(peer, 20).unwrap();
        write!(text, "{} of {}", 1, 2).unwrap();
        text.push_str("!").unwrap();
        assert_eq!(text.as_str(), "1 of 2!");
        text.push('→').unwrap();
        text.push_str(&"x".repeat(100)).unwrap();
        assert_eq!(text.as_str(), format!("1 of 2!→{}", "x".repeat(100)));
        text.clear();
        text.push_str("grün").unwrap();
        assert_eq!(sent(echo.text(text)), "grün");
    });
}

#[test]
fn every_length_crosses() {
    on_both_ways(|_, echo| {
        let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        for len in (0..200).chain([1000, 4095, 4096, 4097, 10_000]) {
            let back = echo.buf(&bytes[..len]).unwrap();
            assert_eq!((back.len(), back.is_empty()), (len, len == 0));
            assert_eq!(back.read_vec().unwrap(), bytes[..len]);
        }
    });
}

#[test]
fn a_shared_buffer_is_filled_in_every_way() {
    on_both_ways(|peer, echo| {
        let mut buf = SharedBuf::with_capacity(peer, 12).unwrap();
        assert_eq!((buf.len(), buf.is_empty(), buf.capacity()), (0, true, 12));
        buf.extend_from_slice(b"one").unwrap();
        write!(&mut buf as &mut dyn std::fmt::Write, "{:>2}", 2).unwrap();
        assert_eq!(buf.as_slice(), b"one 2");
        assert_eq!(buf.write(b"three and more").unwrap(), 14);
        buf.flush().unwrap();
        assert_eq!(buf.as_slice(), b"one 2three and more");
        buf.as_mut_slice()[4] = b'-';
        buf.truncate(100);
        buf.truncate(10);
        assert_eq!((buf.len(), buf.capacity()), (10, 64));
        let back = echo.buf(buf).unwrap();
        assert_eq!(back.read_vec().unwrap(), b"one -three");

        let mut zeros = SharedBuf::zeroed(peer, 70).unwrap();
        assert_eq!(zeros.as_slice(), [0; 70]);
        zeros.as_mut_slice()[69] = 1;
        assert_eq!(echo.sizes(zeros), Ok(70));
        // Memory that was used before is zeroed, too, and never shows its old contents.
        assert_eq!(SharedBuf::zeroed(peer, 70).unwrap().as_slice(), [0; 70]);
        assert_eq!(SharedBuf::with_capacity(peer, 70).unwrap().as_slice(), [0_u8; 0]);
    });
}

#[test]
fn a_foreign_buffer_is_read_in_every_way() {
    on_both_ways(|_, echo| {
        let buf = echo.buf(b"0123456789").unwrap();
        let mut out = [b'.'; 4];
        buf.read_at(3, &mut out).unwrap();
        assert_eq!(&out, b"3456");
        for (offset, len) in [(7, 4), (10, 1), (11, 0), (usize::MAX, 1), (usize::MAX, 0)] {
            let error = buf.read_at(offset, &mut vec![0; len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadPointer, "{len} bytes at {offset}");
        }
        buf.read_at(10, &mut []).unwrap();
        assert_eq!(buf.read_into(&mut [b'.'; 4]).unwrap(), b"0123");
        assert_eq!(buf.read_into(&mut [b'.'; 20]).unwrap(), b"0123456789");
        assert_eq!(buf.read_into(&mut []).unwrap(), b"");
        let mut bytes = b"before ".to_vec();
        buf.append_to(&mut bytes).unwrap();
        assert_eq!(bytes, b"before 0123456789");
        // SAFETY: the peer's call is over, and this is the only thread.
        assert_eq!(unsafe { buf.as_slice_unchecked() }, Ok(&b"0123456789"[..]));

        let mut reader = buf.reader();
        let mut three = [0; 3];
        assert_eq!(reader.read(&mut three).unwrap(), 3);
        assert_eq!(&three, b"012");
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "3456789");
        assert_eq!(reader.read(&mut three).unwrap(), 0);
        assert_eq!(std::io::copy(&mut buf.reader(), &mut std::io::sink()).unwrap(), 10);

        let text = echo.text("grün").unwrap();
        assert_eq!((text.len(), text.is_empty()), (5, false));
        assert_eq!(text.read_into(&mut [0; 5]), Ok("grün"));
        let error = text.read_into(&mut [0; 4]).unwrap_err();
        assert_eq!((error.kind(), error.bytes()), (ErrorKind::OutOfMemory, 5));
        // SAFETY: as above.
        assert_eq!(unsafe { text.as_str_unchecked() }, Ok("grün"));
        assert_eq!(ForeignBuf::from(text).read_vec().unwrap(), "grün".as_bytes());
    });
}

#[test]
fn debug_shows_lengths_and_no_contents() {
    on_both_ways(|peer, echo| {
        let texts = [
            format!("{:?}", echo.buf(b"secret").unwrap()),
            format!("{:?}", echo.text("secret").unwrap()),
            format!("{:?}", echo.buf(b"secret").unwrap().reader()),
            format!("{:?}", SharedBuf::copy_from(peer, b"secret").unwrap()),
            format!("{:?}", SharedStr::copy_from(peer, "secret").unwrap()),
            format!("{:?}", vmffi::Shared::new(peer, u64::from_le_bytes(*b"secret..")).unwrap()),
            format!("{:?}", vmffi::SharedSlice::copy_from(peer, b"secret").unwrap()),
        ];
        for text in &texts {
            assert!(!text.contains("secret") && !text.contains("115"), "{text}");
            assert!(text.contains("..") && text.is_ascii(), "{text}");
        }
        assert_eq!(texts[0], "ForeignBuf { len: 6, .. }");
        assert_eq!(texts[3], "SharedBuf { len: 6, capacity: 6, .. }");
    });
}
