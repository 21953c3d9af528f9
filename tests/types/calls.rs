//! Interfaces: several on one type, functions that the other side lacks, and calls without a declaration.

use vmffi::{
    CallError, ErrorKind, FfiType, ForeignBuf, ForeignStr, Peer, SendAs, SharedBuf,
    abi::{Answer, Transport, signature},
    loopback::Loopback,
};

use crate::{assert_clean, both_ways};

/// The server's declaration.
mod old {
    use vmffi::ForeignBuf;
    vmffi::ffi_interface! {
        pub struct Item { size: u32 }
        pub interface Store {
            fn size(nr: u32) -> u32;
            fn item(nr: u32) -> Item;
            fn put(nr: u32, bytes: ForeignBuf) -> u32;
        }
    }
}

/// The client's declaration: the same functions in another order, one with changed parameters, one
/// with a changed type, and two new ones.
mod new {
    use vmffi::{ForeignBuf, ForeignStr};
    vmffi::ffi_interface! {
        pub struct Item { size: u32, more: u32 }
        pub interface Store {
            fn store(text: ForeignStr, bytes: ForeignBuf, letters: ForeignStr) -> ForeignBuf;
            #[optional]
            fn put(nr: u64, bytes: ForeignBuf) -> u32;
            fn item(nr: u32) -> Item;
            #[optional]
            fn size(nr: u32) -> u32;
            /// In the client's documentation too.
            #[optional]
            fn drain() -> u32;
        }
    }
}

struct Old;

impl old::Store for Old {
    fn size(&self, _: &Peer, nr: u32) -> Result<u32, CallError> {
        Ok(nr * 2)
    }
    fn item(&self, _: &Peer, nr: u32) -> Result<old::Item, CallError> {
        Ok(old::Item { size: nr })
    }
    fn put(&self, _: &Peer, nr: u32, bytes: ForeignBuf) -> Result<u32, CallError> {
        Ok(nr + bytes.len() as u32)
    }
}

vmffi::serve!(Old: old::Store);

#[test]
fn the_loans_of_an_unknown_function_end() {
    both_ways(
        || Old,
        |peer| {
            let store = new::StoreClient::from(peer);
            let error = store.store("text", &[7; 1000], "letters").unwrap_err();
            assert_eq!((error.kind(), error.reached()), (ErrorKind::UnknownFunction, false));
            assert_eq!(error.function(), Some(new::ParamsStoreStore::FUNCTION));
            assert_eq!(error.side(), Some(peer.side().other()));
            assert_eq!(peer.arena_stats().blocks, 0, "at once, not when memory is short");
            // A changed parameter or type makes another function, never a wrong call.
            assert_eq!(store.put(1, b"bytes").unwrap_err().kind(), ErrorKind::UnknownFunction);
            let error = store.item(1).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::UnknownFunction);
            assert_eq!(store.size(21), Ok(42), "the same function in another order is the same");
            assert_eq!(old::StoreClient::from(peer).put(1, b"bytes"), Ok(6));
        },
    );
}

#[test]
fn a_side_without_functions_refuses_all_calls() {
    let pair = Loopback::new((), ()).unwrap();
    let store = new::StoreClient::from(pair.host());
    assert_eq!(store.size(1).unwrap_err().kind(), ErrorKind::UnknownFunction);
    assert_eq!(store.has_size(), Ok(false));
    assert_clean(&pair);
}

#[test]
fn the_client_of_an_optional_function_asks() {
    both_ways(
        || Old,
        |peer| {
            let store = new::StoreClient::from(peer);
            assert_eq!(store.has_size(), Ok(true));
            assert_eq!(store.has_drain(), Ok(false));
            assert_eq!(store.has_put(), Ok(false), "the peer's has another parameter");
            assert_eq!(peer.has(old::ParamsStorePut::FUNCTION), Ok(true));
        },
    );
}

vmffi::ffi_interface! {
    pub interface Clock { fn now() -> u64; fn reset(to: u64); }
    pub interface Console { fn print(text: ForeignStr) -> u32; fn reset(); }
    /// A side without functions.
    pub interface Nothing {}
    pub interface Disk {
        fn read(sector: u64, count: u8) -> ForeignBuf;
        fn write(sector: u64, bytes: ForeignBuf);
    }
}

struct Machine;

impl Clock for Machine {
    fn now(&self, _: &Peer) -> Result<u64, CallError> {
        Ok(12)
    }
    fn reset(&self, _: &Peer, to: u64) -> Result<(), CallError> {
        assert_eq!(to, 5);
        Ok(())
    }
}

impl Console for Machine {
    fn print(&self, _: &Peer, text: ForeignStr) -> Result<u32, CallError> {
        Ok(text.len() as u32)
    }
    fn reset(&self, _: &Peer) -> Result<(), CallError> {
        Err(CallError::refused())
    }
}

impl Nothing for Machine {}

vmffi::serve!(Machine: Clock, Console, Nothing);

#[test]
fn one_type_serves_several_interfaces() {
    both_ways(
        || Machine,
        |peer| {
            let (clock, console) = (ClockClient::from(peer), ConsoleClient::from(peer));
            assert_eq!(clock.now(), Ok(12));
            assert_eq!(clock.reset(5), Ok(()));
            assert_eq!(console.print("four"), Ok(4));
            assert_eq!(console.reset().unwrap_err().kind(), ErrorKind::Refused);
            let error = DiskClient::from(peer).read(0, 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnknownFunction);
        },
    );
}

struct Idle;
impl Nothing for Idle {}
vmffi::serve!(Idle: Nothing);

#[test]
fn an_interface_may_be_empty() {
    both_ways(
        || Idle,
        |peer| {
            let _client = NothingClient::from(peer);
            assert_eq!(
                ClockClient::from(peer).now().unwrap_err().kind(),
                ErrorKind::UnknownFunction
            );
        },
    );
}

trait Sectors: Send + Sync {
    fn get(&self, sector: u64) -> u8;
}

struct Same(u8);
struct Counted;

impl Sectors for Same {
    fn get(&self, _: u64) -> u8 {
        self.0
    }
}

impl Sectors for Counted {
    fn get(&self, sector: u64) -> u8 {
        sector as u8
    }
}

struct Drive<T, const SIZE: usize>(T);

impl<T: Sectors + 'static, const SIZE: usize> Disk for Drive<T, SIZE> {
    fn read(&self, peer: &Peer, sector: u64, count: u8) -> Result<SharedBuf, CallError> {
        let mut buf = SharedBuf::with_capacity(peer, SIZE * usize::from(count))?;
        for sector in sector..sector + u64::from(count) {
            buf.extend_from_slice(&[self.0.get(sector); SIZE])?;
        }
        Ok(buf)
    }
    fn write(&self, _: &Peer, _: u64, _: ForeignBuf) -> Result<(), CallError> {
        Err(CallError::refused())
    }
}

vmffi::serve!([T: Sectors + 'static, const SIZE: usize] Drive<T, SIZE>: Disk);

#[test]
fn a_generic_type_serves() {
    let read = |peer: &Peer| DiskClient::from(peer).read(4, 2).unwrap().read_vec().unwrap();
    both_ways(|| Drive::<_, 2>(Same(9)), |peer| assert_eq!(read(peer), [9; 4]));
    both_ways(|| Drive::<_, 3>(Counted), |peer| assert_eq!(read(peer), [4, 4, 4, 5, 5, 5]));
}

vmffi::ffi_interface! {
    #[derive(Debug, PartialEq)]
    pub struct Pair { left: i32, right: char }
    pub interface Raw {
        fn swap(pair: Pair) -> Result<Pair, i16>;
        fn negate(value: i16) -> i16;
        fn size(bytes: ForeignBuf) -> u64;
    }
}

struct Swapper;

impl Raw for Swapper {
    fn swap(&self, _: &Peer, pair: Pair) -> Result<Pair, vmffi::Failure<i16>> {
        let right = u32::try_from(pair.left).ok().and_then(char::from_u32).ok_or(-1_i16)?;
        Ok(Pair { left: u32::from(pair.right) as i32, right })
    }
    fn negate(&self, _: &Peer, value: i16) -> Result<i16, CallError> {
        Ok(-value)
    }
    fn size(&self, _: &Peer, bytes: ForeignBuf) -> Result<u64, CallError> {
        Ok(bytes.len() as u64)
    }
}

vmffi::serve!(Swapper: Raw);

/// A raw call, with words that were lent for it, or that are refused before memory is read.
fn raw(peer: &Peer, signature: u64, transport: Transport) -> Answer {
    // SAFETY: no call of this file passes a word that refers to memory which this side still uses.
    unsafe { peer.call(signature, transport) }
}

#[test]
fn a_call_can_be_made_by_signature_and_transport() {
    both_ways(
        || Swapper,
        |peer| {
            let swap = |left, right| {
                let mut out = peer.outgoing();
                let transport = SendAs::<Pair>::into_transport(Pair { left, right }, &mut out);
                // SAFETY: the answer to this call is decoded once, as its declared type.
                let from = unsafe { out.incoming() };
                (raw(peer, ParamsRawSwap::FUNCTION.signature, transport.unwrap()), from)
            };
            let (answer, from) = swap(97, 'b');
            assert_eq!(answer.status, 0);
            let back = Pair::from_transport(answer.transport, from);
            assert_eq!(back, Ok(Pair { left: 98, right: 'a' }));
            let (answer, from) = swap(-5, 'b');
            assert_eq!((answer.status, answer.transport), (1, Transport::word(u64::MAX)));
            assert_eq!(i16::from_transport(answer.transport, from), Ok(-1));
        },
    );
}

/// A block of another connection stays there: no call is made, and no block is lost.
#[test]
fn loans_of_another_connection_are_refused() {
    let pairs = [(); 2].map(|()| Loopback::new(Swapper, Swapper).unwrap());
    let mut out = pairs[1].host().outgoing();
    let bytes = SendAs::<ForeignBuf>::into_transport(b"bytes", &mut out).unwrap();
    let (peer, size) = (pairs[0].host(), ParamsRawSize::FUNCTION.signature);
    // SAFETY: the words were lent through `out`.
    let answer = unsafe { peer.call_with(out, size, bytes) };
    assert_eq!(answer, Answer::status(ErrorKind::BadPointer as u64));
    // So does a block of the other side of the same connection.
    let mut out = pairs[0].guest().outgoing();
    let bytes = SendAs::<ForeignBuf>::into_transport(b"bytes", &mut out).unwrap();
    // SAFETY: as above.
    let answer = unsafe { peer.call_with(out, size, bytes) };
    assert_eq!(answer, Answer::status(ErrorKind::BadPointer as u64));
    for pair in &pairs {
        assert_eq!((pair.host().arena_stats().blocks, pair.guest().arena_stats().blocks), (0, 0));
    }
}

#[test]
fn a_register_holds_nothing_but_the_value() {
    both_ways(
        || Swapper,
        |peer| {
            let negate = |primary, secondary| {
                let transport = Transport { primary, secondary };
                raw(peer, ParamsRawNegate::FUNCTION.signature, transport)
            };
            // Sign-extended in the parameter and in the result.
            assert_eq!(negate(5, 0).transport, Transport::word((-5_i64) as u64));
            assert_eq!(negate((-5_i64) as u64, 0).transport, Transport::word(5));
            for (primary, secondary) in [(0xfffb, 0), (1 << 16, 0), (5, 1), (5 | 1 << 63, 0)] {
                let answer = negate(primary, secondary);
                assert_eq!(answer.status, ErrorKind::BadValue as u64, "{primary:#x}, {secondary}");
            }
        },
    );
}

#[test]
fn the_pointer_of_an_empty_buffer_is_ignored() {
    both_ways(
        || Swapper,
        |peer| {
            for primary in [0, 1, 0xdead_beef, u64::MAX] {
                let transport = Transport { primary, secondary: 0 };
                let answer = raw(peer, ParamsRawSize::FUNCTION.signature, transport);
                assert_eq!((answer.status, answer.transport), (0, Transport::EMPTY));
            }
            for (primary, secondary) in [(0, 1), (1, 1), (64, 4096), (u64::MAX, u64::MAX)] {
                let transport = Transport { primary, secondary };
                let answer = raw(peer, ParamsRawSize::FUNCTION.signature, transport);
                assert_eq!(
                    answer.status,
                    ErrorKind::BadPointer as u64,
                    "{primary:#x}, {secondary}"
                );
            }
        },
    );
}

#[test]
fn signatures_depend_on_names_and_types() {
    assert_eq!(old::ParamsStoreSize::FUNCTION.signature, new::ParamsStoreSize::FUNCTION.signature);
    let all = [
        old::ParamsStoreSize::FUNCTION,
        old::ParamsStoreItem::FUNCTION,
        new::ParamsStoreItem::FUNCTION,
        old::ParamsStorePut::FUNCTION,
        new::ParamsStorePut::FUNCTION,
        ParamsClockReset::FUNCTION,
        ParamsConsoleReset::FUNCTION,
        ParamsRawNegate::FUNCTION,
    ];
    for (nr, function) in all.iter().enumerate() {
        assert!(function.signature >= signature::FIRST_FREE);
        for other in &all[..nr] {
            assert_ne!(function.signature, other.signature, "{function} and {other}");
        }
    }
    let texts = [ParamsRawSwap::FUNCTION.interface, ParamsRawSwap::FUNCTION.name];
    assert_eq!(texts, ["Raw", "swap"]);
}

#[test]
fn a_client_and_a_peer_can_be_shown() {
    let pair = Loopback::new((), Machine).unwrap();
    assert_eq!(format!("{:?}", pair.host()), "Peer { side: Host, depth: 0 }");
    let client = ClockClient::from(pair.host());
    let copy = client;
    assert_eq!((client.now(), copy.now()), (Ok(12), Ok(12)));
    assert!(format!("{client:?}").starts_with("ClockClient"));
    assert!(format!("{pair:?}").starts_with("Loopback"));
}
