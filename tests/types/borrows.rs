//! Borrows of the peer's loans: a guest may make them, a host may not.

use vmffi::{
    CallError, ErrorKind, ForeignBuf, ForeignStr, Peer, SharedBuf, SharedStr, loopback::Loopback,
};

use crate::assert_clean;

vmffi::ffi_interface! {
    pub interface Lend {
        fn bytes(len: u32) -> ForeignBuf;
        fn text() -> ForeignStr;
        fn look(bytes: ForeignBuf, text: ForeignStr) -> u64;
    }
}

/// The result of a handler depends on its side.
struct Server;

impl Lend for Server {
    fn bytes(&self, peer: &Peer, len: u32) -> Result<SharedBuf, CallError> {
        let bytes: Vec<u8> = (0..len).map(|nr| nr as u8).collect();
        SharedBuf::copy_from(peer, &bytes)
    }
    fn text(&self, peer: &Peer) -> Result<SharedStr, CallError> {
        SharedStr::copy_from(peer, "größer")
    }
    fn look(&self, _: &Peer, bytes: ForeignBuf, text: ForeignStr) -> Result<u64, CallError> {
        Ok((bytes.as_slice()?.len() + text.as_str()?.len()) as u64)
    }
}

vmffi::serve!(Server: Lend);

fn pair() -> Loopback {
    Loopback::new(Server, Server).unwrap()
}

#[test]
fn a_guest_borrows_what_it_receives() {
    let pair = pair();
    let host = LendClient::from(pair.host());
    for len in [0, 1, 63, 64, 5000] {
        let bytes = host.bytes(len).unwrap();
        assert_eq!(bytes.as_slice().unwrap(), bytes.read_vec().unwrap());
        let both = (bytes.as_slice().unwrap(), bytes.as_slice().unwrap());
        assert_eq!(both.0.as_ptr(), both.1.as_ptr());
    }
    let text = host.text().unwrap();
    assert_eq!(text.as_str(), Ok("größer"));
    assert_eq!(text.as_str().map(str::parse::<f32>).unwrap().ok(), None);
    // A handler of the guest: an upcall.
    assert_eq!(LendClient::from(pair.guest()).look(b"four", "five!"), Ok(9));
    // Text that is not UTF-8 is refused.
    let bytes = ForeignStr::from(host.bytes(200).unwrap());
    assert_eq!(bytes.as_str().map_err(|error| error.kind()), Err(ErrorKind::BadValue));
    drop((text, bytes));
    assert_eq!(pair.guest().arena_stats().blocks, 0);
}

/// A host cannot borrow, whatever the features of its program: neither from a result, nor in a handler.
#[test]
fn a_host_is_refused() {
    let pair = pair();
    let guest = LendClient::from(pair.guest());
    let bytes = guest.bytes(10).unwrap();
    let error = bytes.as_slice().unwrap_err();
    assert_eq!(
        (error.kind(), error.side()),
        (ErrorKind::Unsupported, Some(vmffi::abi::Side::Host))
    );
    assert!(error.to_string().starts_with("only a guest can borrow"), "{error}");
    assert_eq!(guest.text().unwrap().as_str().unwrap_err().kind(), ErrorKind::Unsupported);
    let error = LendClient::from(pair.host()).look(b"four", "five!").unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Unsupported, true));
    drop(bytes);
    assert_clean(&pair);
}

/// Borrowed bytes are unchanged, although a reset has ended the loan and its memory was lent again.
#[test]
fn a_borrow_outlives_a_reset() {
    let mut pair = pair();
    let bytes = LendClient::from(pair.host()).bytes(1000).unwrap();
    let unread = LendClient::from(pair.host()).bytes(1000).unwrap();
    let borrowed = bytes.as_slice().unwrap();
    let before = borrowed.to_vec();
    pair.reset();
    let all: Vec<_> =
        (0..100).map(|_| SharedBuf::copy_from(pair.guest(), &[0xee; 1000]).unwrap()).collect();
    assert_eq!(borrowed, before);
    assert_eq!(bytes.as_slice().unwrap_err().kind(), ErrorKind::Stale);
    assert_eq!(unread.as_slice().unwrap_err().kind(), ErrorKind::Stale);
    drop(all);
}

/// Threads of a guest, each of which is a vCPU, borrow the same handle.
#[test]
fn threads_borrow_one_handle() {
    let pair = pair();
    for _ in 0..50 {
        let bytes = LendClient::from(pair.host()).bytes(3000).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(bytes.as_slice().unwrap()[2999], (2999 % 256) as u8));
            }
        });
    }
    assert_clean(&pair);
}
