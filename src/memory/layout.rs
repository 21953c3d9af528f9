//! The layout of a region, and the header that stores it (ABI, "Region header").

use crate::{
    abi::{ABI_VERSION, PAGE_SIZE, Side},
    error::RegionError,
    memory::arena::GRANULE_SIZE,
};

/// `"VMFFI\0\0\0"`, the first eight bytes of a region.
pub const MAGIC: u64 = u64::from_le_bytes(*b"VMFFI\0\0\0");

/// The offsets and lengths, in bytes, of the parts of a region (ABI, "Region header").
///
/// The parts are, in this order, the header page, the release map of the host's arena, the release map of the guest's
/// arena, the guest's arena and the host's arena. The guest may write all parts but the first and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionLayout {
    len: u64,
    /// The offset and length of each side's arena, indexed by [`Side`].
    arenas: [(u64, u64); 2],
    /// The offset of the release map of each side's arena, indexed by [`Side`].
    maps: [u64; 2],
}

impl RegionLayout {
    /// The layout of a region with arenas of these sizes in bytes, rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// [`RegionError::TooSmall`] if an arena has 0 bytes, [`RegionError::TooLarge`] if it has 128 GiB (2^37 bytes) or
    /// more (ABI, R-5).
    pub const fn new(guest_arena: u64, host_arena: u64) -> Result<Self, RegionError> {
        const MOST: u64 = 1 << 37;
        if guest_arena == 0 || host_arena == 0 {
            return Err(RegionError::TooSmall { len: 0, needed: PAGE_SIZE });
        }
        if guest_arena >= MOST || host_arena >= MOST {
            return Err(RegionError::TooLarge {
                len: if guest_arena > host_arena { guest_arena } else { host_arena },
            });
        }
        let guest = guest_arena.next_multiple_of(PAGE_SIZE);
        let host = host_arena.next_multiple_of(PAGE_SIZE);
        let host_map = PAGE_SIZE;
        let guest_map = host_map + (host / GRANULE_SIZE as u64).next_multiple_of(PAGE_SIZE);
        let guest_at = guest_map + (guest / GRANULE_SIZE as u64).next_multiple_of(PAGE_SIZE);
        let host_at = guest_at + guest;
        Ok(Self {
            len: host_at + host,
            arenas: [(guest_at, guest), (host_at, host)],
            maps: [guest_map, host_map],
        })
    }

    /// The length of the region in bytes, a multiple of [`PAGE_SIZE`].
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// The offset and the length of a side's arena, both in bytes and multiples of [`PAGE_SIZE`].
    #[must_use]
    pub const fn arena(&self, side: Side) -> (u64, u64) {
        self.arenas[side as usize]
    }

    /// The offset of the release map of a side's arena, in bytes. The map has one byte for each granule of 64 bytes.
    #[must_use]
    pub const fn release_map(&self, side: Side) -> u64 {
        self.maps[side as usize]
    }

    /// The number of granules in a side's arena. Its release map has as many bytes, and its allocator metadata as many
    /// slots.
    #[must_use]
    pub const fn granules(&self, side: Side) -> usize {
        (self.arenas[side as usize].1 / GRANULE_SIZE as u64) as usize
    }

    /// The names and values of the header's words after magic and version (ABI, R-2).
    const fn words(&self) -> [(&'static str, u64); 7] {
        let [guest, host] = self.arenas;
        [
            ("region_len", self.len),
            ("guest_arena", guest.0),
            ("guest_arena_len", guest.1),
            ("host_arena", host.0),
            ("host_arena_len", host.1),
            ("guest_release_map", self.maps[0]),
            ("host_release_map", self.maps[1]),
        ]
    }

    /// Writes the header page.
    ///
    /// # Safety
    ///
    /// `base` is valid for writes of [`PAGE_SIZE`] bytes, and nothing else accesses them during the call.
    pub(crate) unsafe fn write_header(&self, base: *mut u8) {
        // SAFETY: the caller promises that `base` is valid for writes of a page.
        unsafe { base.write_bytes(0, PAGE_SIZE as usize) };
        let put = |at: usize, value: u64| {
            // SAFETY: `at` is at most 64, so the word is in the page for which the caller vouches.
            unsafe { base.add(at).cast::<u64>().write_unaligned(value) }
        };
        put(0, MAGIC);
        put(8, u64::from(ABI_VERSION));
        for (i, (_, value)) in self.words().into_iter().enumerate() {
            put(16 + 8 * i, value);
        }
    }

    /// Reads and validates the header that the host has written at `base`, where `len` bytes are mapped. Each field is
    /// read once. [`Guest::connect`](crate::guest::Guest::connect) calls it first.
    ///
    /// # Safety
    ///
    /// `base` is valid for reads of `len` bytes.
    ///
    /// # Errors
    ///
    /// The first check of ABI, R-6, that fails: [`RegionError::Misaligned`], [`RegionError::TooSmall`],
    /// [`RegionError::NotARegion`], [`RegionError::Version`], [`RegionError::TooLarge`] or [`RegionError::BadHeader`].
    pub unsafe fn read_header(base: *const u8, len: u64) -> Result<Self, RegionError> {
        check_place(base, len, PAGE_SIZE)?;
        let take = |at: usize| {
            // SAFETY: `at` is at most 64 and a multiple of 8, and `check_place` found `base` page-aligned and a page
            // within `len`, for which the caller vouches; so the word is aligned and valid for reads.
            unsafe { base.add(at).cast::<u64>().read_volatile() }
        };
        let found = take(0);
        if found != MAGIC {
            return Err(RegionError::NotARegion { found });
        }
        let found = take(8) as u32;
        if found != ABI_VERSION {
            return Err(RegionError::Version { found, expected: ABI_VERSION });
        }
        let words: [u64; 7] = core::array::from_fn(|i| take(16 + 8 * i));
        if words[0] > len {
            return Err(RegionError::TooSmall { len, needed: words[0] });
        }
        // The two arena sizes determine all other fields (ABI, R-6).
        let layout = Self::new(words[2], words[4])?;
        for ((field, right), found) in layout.words().into_iter().zip(words) {
            if right != found {
                return Err(RegionError::BadHeader { field, value: found });
            }
        }
        Ok(layout)
    }
}

/// The fields of the header that belong to one life of a guest.
#[allow(
    dead_code,
    reason = "the hosts of machines write them, and guests with the crate's entry point read them"
)]
impl RegionLayout {
    /// The offset of the header's `generation`; its `seed` follows (ABI, R-2).
    const LIFE_AT: usize = 72;

    /// Writes the generation and the seed of a life to the header (ABI, R-9). A generation of 0 stands for none.
    ///
    /// # Safety
    ///
    /// `base` is page-aligned and valid for writes of [`PAGE_SIZE`] bytes. Nothing else in this program accesses them
    /// during the call, and no vCPU of the guest runs.
    pub(crate) unsafe fn write_life(base: *mut u8, generation: u64, seed: &[u8; 32]) {
        let put = |word: usize, value: u64| {
            // SAFETY: `word` is at most 4, so the word is in the page for which the caller vouches, and aligned like
            // the page.
            unsafe { base.add(Self::LIFE_AT + 8 * word).cast::<u64>().write_volatile(value) }
        };
        put(0, generation);
        let words: [[u8; 8]; 4] = bytemuck::cast(*seed);
        for (word, bytes) in (1..).zip(words) {
            put(word, u64::from_le_bytes(bytes));
        }
    }

    /// Reads the generation and the seed of the life (ABI, R-9); `None` if the host does not tell lives apart.
    ///
    /// # Safety
    ///
    /// `base` is page-aligned and valid for reads of [`PAGE_SIZE`] bytes, to which only the host writes.
    pub(crate) unsafe fn read_life(base: *const u8) -> Option<(u64, [u8; 32])> {
        let take = |word: usize| {
            // SAFETY: `word` is at most 4, so the word is in the page for which the caller vouches, and aligned like
            // the page.
            unsafe { base.add(Self::LIFE_AT + 8 * word).cast::<u64>().read_volatile() }
        };
        let generation = take(0);
        let words: [[u8; 8]; 4] = core::array::from_fn(|word| take(1 + word).to_le_bytes());
        (generation != 0).then(|| (generation, bytemuck::cast(words)))
    }
}

/// Checks that `base` is page-aligned, and that `len` is at least `needed` bytes.
pub(super) fn check_place(base: *const u8, len: u64, needed: u64) -> Result<(), RegionError> {
    if base.addr() as u64 % PAGE_SIZE != 0 {
        return Err(RegionError::Misaligned { address: base.addr() as u64 });
    }
    if len < needed {
        return Err(RegionError::TooSmall { len, needed });
    }
    Ok(())
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    fn aligned(len: usize) -> (Vec<u8>, *mut u8) {
        let mut memory = vec![0_u8; len + PAGE_SIZE as usize];
        let skip = memory.as_ptr().align_offset(PAGE_SIZE as usize);
        let base = memory[skip..].as_mut_ptr();
        (memory, base)
    }

    /// ABI, Region header, Versioning V-1: the header that is written is read back, and every field is
    /// validated.
    #[test]
    fn header_round_trip_and_refusals() {
        let layout = RegionLayout::new(8192, 4096).unwrap();
        let len = layout.len() as usize;
        let (_memory, base) = aligned(len);
        // SAFETY: `aligned` allocated more than a page at `base`, which this test alone uses.
        unsafe { layout.write_header(base) };
        let read = |base: *const u8, len: usize| {
            // SAFETY: each call below has a `base` that is valid for `len` bytes, or one that is misaligned.
            unsafe { RegionLayout::read_header(base, len as u64) }
        };
        assert_eq!(read(base, len), Ok(layout));
        assert!(matches!(read(base, 100), Err(RegionError::TooSmall { len: 100, .. })));
        assert!(matches!(read(base, len - 1), Err(RegionError::TooSmall { .. })));
        assert!(matches!(read(base.wrapping_add(8), len), Err(RegionError::Misaligned { .. })));
        for word in 0..9 {
            // SAFETY: `base` is valid for more than a page, and `word` is below 9.
            let at = unsafe { base.add(8 * word).cast::<u64>() };
            // SAFETY: `at` is an aligned word of the header page.
            let old = unsafe { at.read() };
            for bad in [0, 1, old ^ 1, old + 4096, u64::MAX] {
                // SAFETY: `at` is an aligned word of the header page, which this thread alone uses.
                unsafe { at.write(bad) };
                let found = read(base, len);
                match word {
                    _ if bad == old => assert_eq!(found, Ok(layout)),
                    0 => assert_eq!(found, Err(RegionError::NotARegion { found: bad })),
                    1 if bad as u32 == ABI_VERSION => assert_eq!(found, Ok(layout)),
                    1 => assert!(matches!(found, Err(RegionError::Version { .. }))),
                    _ => assert!(found.is_err(), "word {word} = {bad:#x}"),
                }
            }
            // SAFETY: `at` is an aligned word of the header page, which this thread alone uses.
            unsafe { at.write(old) };
        }
        assert_eq!(read(base, len), Ok(layout));
    }

    /// ABI, Region header: a life is read as it was written, beside the other fields, which stay.
    #[test]
    fn lives() {
        let layout = RegionLayout::new(8192, 4096).unwrap();
        let (_memory, base) = aligned(PAGE_SIZE as usize);
        // SAFETY: `aligned` allocated more than a page at `base`, which this test alone uses.
        unsafe { layout.write_header(base) };
        // SAFETY: `base` is page-aligned and valid for a page, which this test alone uses.
        let life = || unsafe { RegionLayout::read_life(base) };
        assert_eq!(life(), None, "a new header tells no lives apart");
        let seed = core::array::from_fn(|byte| byte as u8 + 1);
        for generation in [1, 2, u64::MAX] {
            // SAFETY: `base` is page-aligned and valid for a page, which this test alone uses.
            unsafe { RegionLayout::write_life(base, generation, &seed) };
            assert_eq!(life(), Some((generation, seed)));
        }
        // SAFETY: `base` is valid for reads of a page.
        let page = unsafe { base.cast::<[u8; PAGE_SIZE as usize]>().read() };
        assert_eq!(page[72..80], [0xff; 8]);
        assert_eq!(page[80..112], seed);
        assert_eq!(page[112..], [0; PAGE_SIZE as usize - 112]);
        // SAFETY: `base` is valid for reads of a page; the rest of the region is not read.
        assert_eq!(unsafe { RegionLayout::read_header(base, layout.len()) }, Ok(layout));
        // SAFETY: `base` is page-aligned and valid for a page, which this test alone uses.
        unsafe { RegionLayout::write_life(base, 0, &seed) };
        assert_eq!(life(), None, "without a generation there is no seed");
    }

    #[test]
    fn sizes_that_cannot_be() {
        assert!(matches!(RegionLayout::new(0, 4096), Err(RegionError::TooSmall { .. })));
        assert!(matches!(RegionLayout::new(4096, u64::MAX), Err(RegionError::TooLarge { .. })));
    }
}
