//! A region that is mapped twice, between pages without permissions: the first mapping is for the
//! crate, the second for the attacker.

use std::{
    io::Error,
    ptr::null_mut,
    sync::atomic::{AtomicU8, AtomicUsize, Ordering},
};

use vmffi::{PAGE_SIZE, Peer, RegionLayout, RegionMemory, Serve, abi::Side, loopback::Loopback};

/// The length of the pages without permissions before and after each mapping.
const GUARD: usize = 16 * PAGE_SIZE as usize;

/// The number of bytes and words that attackers have written, over all tests.
pub static WRITES: AtomicUsize = AtomicUsize::new(0);

/// One shared mapping of a file, between guards.
struct Mapping {
    reserved: *mut u8,
    len: usize,
}

// SAFETY: the mapping belongs to the process, and any thread may use it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: i32, len: usize) -> Self {
        let none = libc::PROT_NONE;
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let reserved = unsafe { libc::mmap(null_mut(), len + 2 * GUARD, none, private, -1, 0) };
        assert_ne!(reserved, libc::MAP_FAILED, "{}", Error::last_os_error());
        let mapping = Self { reserved: reserved.cast(), len };
        let (both, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let at = mapping.base().cast();
        // SAFETY: it replaces a part of the mapping above, which nothing uses.
        let base = unsafe { libc::mmap(at, len, both, shared | libc::MAP_FIXED, fd, 0) };
        assert_eq!(base, at, "{}", Error::last_os_error());
        mapping
    }

    fn base(&self) -> *mut u8 {
        self.reserved.wrapping_add(GUARD)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` has mapped it, and every user borrows or owns `self`.
        unsafe { libc::munmap(self.reserved.cast(), self.len + 2 * GUARD) };
    }
}

/// The attacker's mapping of a region.
pub struct Attacker {
    mapping: Mapping,
    pub layout: RegionLayout,
    /// The side under attack.
    pub victim: Side,
}

impl Attacker {
    /// A byte of the region.
    pub fn byte(&self, at: u64) -> &AtomicU8 {
        assert!(at < self.layout.len());
        // SAFETY: the byte is within the mapping, and all accesses to it are atomic.
        unsafe { AtomicU8::from_ptr(self.mapping.base().add(at as usize)) }
    }

    /// Writes the bytes that are outside of the victim's arena.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        WRITES.fetch_add(1, Ordering::Relaxed);
        let (start, len) = self.layout.arena(self.victim);
        for (at, byte) in (at..self.layout.len()).zip(bytes) {
            if !(start..start + len).contains(&at) {
                self.byte(at).store(*byte, Ordering::Release);
            }
        }
    }

    /// The ranges that the attacker may write, as offsets and lengths: header, both release maps, its own arena.
    pub fn places(&self) -> [(u64, u64); 4] {
        let map = |side| (self.layout.release_map(side), self.layout.granules(side) as u64);
        [
            (0, PAGE_SIZE),
            map(self.victim),
            map(self.victim.other()),
            self.layout.arena(self.victim.other()),
        ]
    }

    /// Writes one number into every byte of the release map for a side's arena.
    pub fn fill_marks(&self, side: Side, loan: u8) {
        let (map, granules) = (self.layout.release_map(side), self.layout.granules(side) as u64);
        WRITES.fetch_add(1, Ordering::Relaxed);
        for at in map..map + granules {
            self.byte(at).store(loan, Ordering::Release);
        }
    }

    /// Releases every loan of a side, whatever its number.
    pub fn release_all(&self, pair: &Loopback, side: Side) {
        let owner = match side {
            Side::Guest => pair.host(),
            Side::Host => pair.guest(),
        };
        for loan in 1..=u8::MAX {
            self.fill_marks(side, loan);
            if owner.arena_stats().blocks == 0 {
                break;
            }
        }
    }

    /// The peer through which the attacker calls.
    pub fn to_victim<'p>(&self, pair: &'p Loopback) -> &'p Peer {
        match self.victim {
            Side::Host => pair.host(),
            Side::Guest => pair.guest(),
        }
    }

    /// The peer through which the victim calls and allocates.
    pub fn to_attacker<'p>(&self, pair: &'p Loopback) -> &'p Peer {
        match self.victim {
            Side::Host => pair.guest(),
            Side::Guest => pair.host(),
        }
    }

    /// The address of the mapping, for a child process.
    pub fn raw(&self) -> *mut u8 {
        self.mapping.base()
    }
}

/// A pair in a region that is mapped twice.
pub fn pair(
    victim: Side,
    arenas: (u64, u64),
    observe: impl Fn(&vmffi::CallError) + Send + Sync + 'static,
    guest: impl Serve,
    host: impl Serve,
) -> (Loopback, Attacker) {
    let layout = RegionLayout::new(arenas.0, arenas.1).expect("sizes");
    let len = layout.len() as usize;
    // SAFETY: the call takes a name and flags, and returns a new file.
    let fd = unsafe { libc::memfd_create(c"region".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "{}", Error::last_os_error());
    // SAFETY: the descriptor is that of the new file.
    assert_eq!(unsafe { libc::ftruncate(fd, len as i64) }, 0, "{}", Error::last_os_error());
    let (first, second) = (Mapping::new(fd, len), Mapping::new(fd, len));
    // SAFETY: the mappings keep the file; the descriptor is closed once.
    unsafe { libc::close(fd) };
    let builder = Loopback::builder().arenas(arenas.0, arenas.1).observe(victim, observe);
    let base = first.base();
    // SAFETY: the memory is mapped until `first` is dropped; all other writes go through the second mapping.
    let memory = unsafe { RegionMemory::new(base, len as u64, Box::new(first)) };
    let pair = builder.memory(memory).build(guest, host);
    (pair.expect("a region"), Attacker { mapping: second, layout, victim })
}
