//! Packed values: every type in them, both ways, lists that grow, and what becomes of them after a reset.

use vmffi::{
    CallError, ErrorKind, ForeignBuf, ForeignPacked, ForeignStr, List, Peer, SharedList,
    SharedPacked, loopback::Loopback,
};

use crate::{
    assert_clean, both_ways, run_all,
    shared::{
        Side,
        packed::{CHECKS, Entry, Packs, PacksClient, REQUEST, Request},
    },
};

struct Server;

impl Side for Server {}

vmffi::serve!(Server: Packs);

#[test]
fn packed_values_cross() {
    run_all(|| Server, CHECKS);
}

const ENTRY: Entry<'_> = Entry { name: "name", target: "t", size: 1, modified: 2, mode: 3 };

/// A list that grows is one block, moves as a buffer does, and is as it was if the arena is full.
#[test]
fn lists_grow_until_the_arena_is_full() {
    let pair = Loopback::builder().arenas(1 << 16, 1 << 16).build((), Server).unwrap();
    let peer = pair.host();
    let mut list = SharedList::<Entry<'_>>::new(peer).unwrap();
    assert!(list.is_empty());
    let error = loop {
        let before = (list.len(), list.byte_len());
        match list.push(&ENTRY) {
            Ok(()) => assert_eq!((list.len(), list.byte_len()), (before.0 + 1, before.1 + 45)),
            Err(error) => {
                assert_eq!((list.len(), list.byte_len()), before);
                break error;
            }
        }
    };
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(list.len() > 700, "{}", list.len());
    assert_eq!(peer.arena_stats().blocks, 1);
    drop(list);
    // A value that is larger than the arena, and one of 4 GiB: nothing is allocated.
    let large = vec![0; 1 << 20];
    let many = vec![&large[..]; 1 << 12];
    let error = SharedPacked::<List<'_, &[u8]>>::copy_from(peer, &List::from(&many)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    let error = PacksClient::from(peer).serve(&Request { body: &large, ..REQUEST });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_clean(&pair);
}

vmffi::ffi_interface! {
    pub interface Kept {
        fn keep(list: ForeignPacked<List<&str>>) -> u64;
        fn bytes(bytes: ForeignBuf) -> ForeignStr;
    }
}

#[derive(Default)]
struct Keeper(std::sync::Mutex<Vec<ForeignPacked<List<'static, &'static str>>>>);

impl Kept for Keeper {
    fn keep(&self, _: &Peer, list: ForeignPacked<List<&str>>) -> Result<u64, CallError> {
        let mut kept = self.0.lock().unwrap();
        if list.read()?.is_empty() {
            kept.clear();
            return Ok(0);
        }
        kept.push(list);
        kept.iter().try_fold(0, |sum, list| Ok(sum + list.read()?.len() as u64))
    }
    /// The first error of a text that is no list of texts.
    fn bytes(&self, peer: &Peer, bytes: ForeignBuf) -> Result<vmffi::SharedStr, CallError> {
        let list = ForeignPacked::<List<'_, &str>>::from(bytes);
        let errors = [list.read().map(drop), list.read().map(drop)];
        assert_eq!(errors[0], errors[1]);
        vmffi::SharedStr::copy_from(peer, &format!("{errors:?}"))
    }
}

vmffi::serve!(Keeper: Kept);

/// A handle outlives its call, is one loan whatever it holds, and reads the same bytes each time.
#[test]
fn a_handle_is_one_loan() {
    both_ways(Keeper::default, |peer| {
        let client = KeptClient::from(peer);
        for nr in 1..=3 {
            assert_eq!(client.keep(&List::from(&["a", "b", "c"])), Ok(nr * 3));
            assert_eq!(peer.arena_stats().blocks, nr as usize);
        }
        assert_eq!(client.keep(&List::<&str>::default()), Ok(0));
        let text = client.bytes(b"far too short").unwrap().read_string().unwrap();
        assert!(text.contains("BadValue") || text.contains("bad value"), "{text}");
    });
}

#[test]
fn a_reset_ends_what_was_received() {
    let mut pair = Loopback::new(Server, ()).unwrap();
    let dirs = [(), ()].map(|()| PacksClient::from(pair.guest()).read_dir("d", 3).unwrap());
    assert_eq!(dirs[0].read().unwrap().len(), 3);
    pair.reset();
    for dir in &dirs {
        assert_eq!(dir.read().unwrap_err().kind(), ErrorKind::Stale);
        let error = dir.read_into(&mut vec![0; dir.byte_len()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stale);
    }
    drop(dirs);
    assert_clean(&pair);
}
