//! What a guest can find of its earlier lives.

use vmffi::{
    ForeignBuf,
    abi::{Side, Transport},
};

use super::{
    Came, Case,
    connection::Target,
    list::{List, region},
    ops::Op,
};

pub fn cases() -> Vec<Case> {
    vec![Case::new("a_search_for_secrets_after_a_reset", secrets)]
}

const SECRET: &[u8] = b"the last guest's secret, of forty bytes.";

/// All memory of its region that a guest can read.
pub fn seen(target: &Target) -> Vec<Vec<u8>> {
    let (own, len) = target.layout.arena(Side::Guest);
    let (theirs, most) = target.layout.arena(Side::Host);
    let part = len / 4;
    let mut parts = Vec::new();
    // Its own arena and the maps directly; the host's arena in parts that fit into its own.
    let words = Transport { primary: target.lent(0), secondary: len };
    let whole = target.told().bytes(List::new().returns(0, words).bytes());
    let mut places = vec![(4096, own - 4096)];
    places.extend((0..most / part).map(|nr| (theirs + nr * part, part)));
    parts.push(whole.and_then(|whole: ForeignBuf| whole.read_vec()).unwrap());
    for (from, len) in places {
        let copy = Op::Copy { to: region(target.own(0)), from: region(from), len };
        let words = Transport { primary: target.lent(0), secondary: len };
        let bytes = target.told().bytes(List::new().op(copy).returns(0, words).bytes());
        parts.push(bytes.and_then(|bytes| bytes.read_vec()).unwrap());
    }
    parts
}

fn finds(target: &Target) -> usize {
    let holds = |part: &Vec<u8>| part.windows(SECRET.len()).any(|bytes| bytes == SECRET);
    seen(target).iter().filter(|part| holds(part)).count()
}

fn secrets(target: &Target) -> Came {
    // The host has lent it within the list, which the guest keeps, and as a copy.
    target.does(&List::new().hold().write(region(target.own(0x8000)), SECRET));
    assert!(finds(target) >= 2, "in both arenas");
    assert_eq!(target.host.reset(), Ok(()));
    assert_eq!(finds(target), 0);
    // Also if the guest never released a block, and if the secret was in its exit.
    for last in [List::new(), List::new().trap(7, 0, Transport::EMPTY, &List::new())] {
        let list = List::new().hold().write(region(target.own(0x8000)), SECRET).and(&last);
        for _ in 0..5 {
            let _ = target.told().does(list.bytes());
        }
        assert_eq!(target.host.reset(), Ok(()));
        assert_eq!(finds(target), 0);
    }
    Came::Lives("nothing is found".into())
}
