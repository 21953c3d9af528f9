//! A region's header from a host that is hostile, faulty, or newer.

use vmffi::{
    GRANULE_SIZE, PAGE_SIZE, RegionError, RegionLayout, RegionMemory, SharedBuf,
    abi::{ABI_VERSION, Registers, Side, Transport, answer},
    arch::Trap,
    guest::{Guest, GuestStorage},
};

use super::{
    feed::Feed,
    world::{Pages, header},
};

/// A host that answers every trap with success.
#[derive(Clone, Copy)]
struct Host;

impl Trap for Host {
    fn trap(&self, _: Registers) -> Registers {
        Registers { kind: answer::ANSWER, word: 0, transport: Transport::EMPTY }
    }
}

const PAGES: u64 = 16;
const GRANULES: usize = 256;

/// Whether these words describe a region of at most `len` bytes (ABI, "Region header"); if not, the
/// expected error.
fn validate(words: &[u64; 9], len: u64) -> Result<(), RegionError> {
    let [magic, version, region_len, _, guest, _, host, ..] = *words;
    if magic != u64::from_le_bytes(*b"VMFFI\0\0\0") {
        return Err(RegionError::NotARegion { found: magic });
    }
    if version as u32 != ABI_VERSION {
        return Err(RegionError::Version { found: version as u32, expected: ABI_VERSION });
    }
    if region_len > len {
        return Err(RegionError::TooSmall { len, needed: region_len });
    }
    if guest == 0 || host == 0 {
        return Err(RegionError::TooSmall { len: 0, needed: PAGE_SIZE });
    }
    if guest.max(host) >= 1 << 37 {
        return Err(RegionError::TooLarge { len: guest.max(host) });
    }
    let right = header(guest, host);
    let whole = guest % PAGE_SIZE == 0 && host % PAGE_SIZE == 0;
    if whole && right[2..] == words[2..] {
        return Ok(());
    }
    Err(RegionError::BadHeader { field: "", value: 0 })
}

/// Runs an input.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let pages = Pages::new((PAGES * PAGE_SIZE) as usize);
    let sizes = [(); 2].map(|()| PAGE_SIZE * (1 + feed.below(5) as u64));
    let mut words = header(sizes[0], sizes[1]);
    let mut len = PAGES * PAGE_SIZE;
    let mut skip = 0;
    while !feed.is_empty() {
        match feed.below(12) {
            nth @ 0..9 => {
                words[nth] = match feed.below(8) {
                    0 => feed.number(8),
                    1 => feed.scalar(),
                    2 => words[nth] ^ 1 << feed.below(64),
                    3 => words[nth].wrapping_add(PAGE_SIZE),
                    4 => words[nth].wrapping_sub(PAGE_SIZE),
                    5 => words[feed.below(9)],
                    6 => words[nth].wrapping_add(feed.scalar()),
                    _ => 1 << feed.below(64),
                };
            }
            9 => {
                len = feed.pick(&[
                    0,
                    8,
                    PAGE_SIZE - 1,
                    PAGE_SIZE,
                    PAGE_SIZE + 1,
                    words[2].wrapping_sub(1),
                    words[2],
                ])
            }
            // The header that a host writes for other sizes.
            10 => {
                words = header(
                    feed.scalar() % (1 << 28) * PAGE_SIZE,
                    feed.scalar() % (1 << 28) * PAGE_SIZE,
                )
            }
            _ => skip = feed.below(64),
        }
    }
    let len = len.min(PAGES * PAGE_SIZE - skip as u64);
    let base = pages.base().wrapping_add(skip);
    for (i, word) in words.into_iter().enumerate() {
        // SAFETY: within the first two pages.
        unsafe { base.cast::<u64>().add(i).write_unaligned(word) };
    }
    // SAFETY: there are so many bytes.
    let found = unsafe { RegionLayout::read_header(base, len) };
    if skip != 0 {
        let address = base.addr() as u64;
        if address % PAGE_SIZE != 0 {
            assert_eq!(found, Err(RegionError::Misaligned { address }));
        }
        return;
    }
    if len < PAGE_SIZE {
        assert_eq!(found, Err(RegionError::TooSmall { len, needed: PAGE_SIZE }));
        return;
    }
    match (validate(&words, len), found) {
        (Ok(()), Ok(layout)) => connect(&pages, layout, len),
        (Err(RegionError::BadHeader { .. }), Err(RegionError::BadHeader { field, value })) => {
            assert!(words[2..].contains(&value), "{field} is not {value:#x}");
        }
        (right, found) => assert_eq!(found.map(drop), right),
    }
    if let Err(error) = found {
        assert!(!error.to_string().is_empty());
    }
}

/// Connects a guest to a header that was accepted, and checks that its whole arena can be used.
fn connect(pages: &Pages, layout: RegionLayout, len: u64) {
    let place = Box::into_raw(Box::new(GuestStorage::<(), Host, GRANULES>::new()));
    // SAFETY: the storage is freed below, when nothing refers to it any more.
    let fixed = unsafe { &*place };
    // SAFETY: the pages outlive this function, and nothing else uses them.
    let region = unsafe { RegionMemory::permanent(pages.base(), len) };
    let end = Guest::connect(fixed, region, Host, ());
    let granules = layout.granules(Side::Guest).min(GRANULES);
    match end {
        Ok(end) => {
            let stats = end.host().arena_stats();
            // The contract lies in the first granule.
            assert_eq!((stats.used, stats.blocks), (GRANULE_SIZE, 1));
            assert_eq!(stats.capacity, granules * GRANULE_SIZE);
            let rest = stats.capacity - stats.used;
            let mut buf = SharedBuf::zeroed(end.host(), rest).expect("the rest of the arena");
            buf.as_mut_slice().fill(1);
            let place = buf.as_slice().as_ptr().addr() - pages.base().addr() - GRANULE_SIZE;
            assert_eq!(place as u64, layout.arena(Side::Guest).0);
            drop(buf);
            // SAFETY: as above.
            let region = unsafe { RegionMemory::permanent(pages.base(), len) };
            let again = Guest::connect(fixed, region, Host, ());
            assert_eq!(again.map(drop), Err(RegionError::Taken.into()));
        }
        Err(error) => panic!("{error}"),
    }
    // SAFETY: made by `into_raw`; the guest's end is gone.
    drop(unsafe { Box::from_raw(place) });
}
