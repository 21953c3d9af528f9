//! Detects that a process is a fork of another.
//!
//! The number of the process is in a page that the kernel zeroes in a forked child (madvise(2), `MADV_WIPEONFORK`), so
//! that one load detects every kind of fork.

/// A number that differs from that of every ancestor of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessId(u32);

impl ProcessId {
    /// The number of the calling process.
    #[inline]
    pub(crate) fn current() -> Self {
        #[cfg(not(all(feature = "machine", target_os = "linux")))]
        return Self(std::process::id());
        #[cfg(all(feature = "machine", target_os = "linux"))]
        match page::get() {
            Some(page) => match page.load(core::sync::atomic::Ordering::Relaxed) {
                0 => Self(page::begin(page)),
                number => Self(number),
            },
            None => Self(std::process::id()),
        }
    }
}

#[cfg(all(feature = "machine", target_os = "linux"))]
mod page {
    use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

    use nix::libc;

    /// Assigns a number to this process, whose page holds zeros.
    #[cold]
    pub(super) fn begin(page: &AtomicU32) -> u32 {
        // A child inherits the counter, so its number is greater than its parent's.
        static LAST: AtomicU32 = AtomicU32::new(0);
        let new = LAST.load(Ordering::Relaxed) + 1;
        // Before the store to the page: a child that is forked in between must not get the same number.
        LAST.store(new, Ordering::Relaxed);
        match page.compare_exchange(0, new, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => new,
            Err(number) => number,
        }
    }

    /// The word in the page, or `None` if the kernel does not support such pages or has no memory.
    pub(super) fn get() -> Option<&'static AtomicU32> {
        // Lock-free: a lock that another thread holds during a fork would never be released in the child.
        static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::null_mut());
        let known = PAGE.load(Ordering::Acquire);
        let page = if known.is_null() { make(&PAGE)? } else { known };
        // SAFETY: `make` published `page` after it mapped it. It is page-aligned, is never unmapped after that, and
        // every access to it is atomic.
        Some(unsafe { &*page })
    }

    /// Maps a page and publishes it in `known`, or returns the one that another thread has published.
    #[cold]
    fn make(known: &AtomicPtr<AtomicU32>) -> Option<*mut AtomicU32> {
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let len = crate::abi::PAGE_SIZE as usize;
        // SAFETY: without MAP_FIXED the kernel chooses an unused range, so no existing mapping changes.
        let at = unsafe { libc::mmap(core::ptr::null_mut(), len, access, kind, -1, 0) };
        if at == libc::MAP_FAILED {
            return None;
        }
        let new = at.cast::<AtomicU32>();
        // SAFETY: `at` is the page mapped above, and no other thread has its address before it is published.
        let wiped = unsafe { libc::madvise(at, len, libc::MADV_WIPEONFORK) } == 0;
        let null = core::ptr::null_mut();
        let mut other = None;
        if wiped {
            match known.compare_exchange(null, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(new),
                Err(earlier) => other = Some(earlier),
            }
        }
        // SAFETY: `at` is the page mapped above. It was not published, so no reference to it exists.
        unsafe { libc::munmap(at, len) };
        other
    }
}
