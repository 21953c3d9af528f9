//! Tells a process from the one that it was forked from.
//!
//! A page that the kernel gives to a forked child as zeros (madvise(2), `MADV_WIPEONFORK`) holds this process's
//! number, so that one load answers, whichever way the program was forked.

/// The number of a process, of which no ancestor has the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessId(u32);

impl ProcessId {
    /// The number of the process that runs this.
    #[inline]
    pub(crate) fn current() -> Self {
        #[cfg(not(all(feature = "machine", target_os = "linux", target_arch = "x86_64")))]
        return Self(std::process::id());
        #[cfg(all(feature = "machine", target_os = "linux", target_arch = "x86_64"))]
        match page::get() {
            Some(page) => match page.load(core::sync::atomic::Ordering::Relaxed) {
                0 => Self(page::begin(page)),
                number => Self(number),
            },
            None => Self(std::process::id()),
        }
    }
}

#[cfg(all(feature = "machine", target_os = "linux", target_arch = "x86_64"))]
mod page {
    use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

    use nix::libc;

    /// Numbers this process, whose page is still zeros.
    #[cold]
    pub(super) fn begin(page: &AtomicU32) -> u32 {
        // The child inherits it, so each generation counts on from its parent's number.
        static LAST: AtomicU32 = AtomicU32::new(0);
        let new = LAST.load(Ordering::Relaxed) + 1;
        // Before the page has it: a fork in between must not begin at the same number.
        LAST.store(new, Ordering::Relaxed);
        match page.compare_exchange(0, new, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => new,
            Err(number) => number,
        }
    }

    /// The page's word, or `None` where the kernel does not know such pages.
    pub(super) fn get() -> Option<&'static AtomicU32> {
        // No lock: one that a thread holds during a fork would be held for ever in the child.
        static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::null_mut());
        let known = PAGE.load(Ordering::Acquire);
        let page = if known.is_null() { make(&PAGE)? } else { known };
        // SAFETY: the page stays mapped for as long as the process lives, is aligned and holds zeros or a number, and
        // is only ever used as an atomic.
        Some(unsafe { &*page })
    }

    #[cold]
    fn make(known: &AtomicPtr<AtomicU32>) -> Option<*mut AtomicU32> {
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let len = crate::memory::PAGE as usize;
        // SAFETY: a new mapping, at an address of the kernel's choice, disturbs no other one.
        let at = unsafe { libc::mmap(core::ptr::null_mut(), len, access, kind, -1, 0) };
        if at == libc::MAP_FAILED {
            return None;
        }
        let new = at.cast::<AtomicU32>();
        // SAFETY: the page was mapped above, and nobody else knows it.
        let wiped = unsafe { libc::madvise(at, len, libc::MADV_WIPEONFORK) } == 0;
        let null = core::ptr::null_mut();
        let mut other = None;
        if wiped {
            match known.compare_exchange(null, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(new),
                Err(earlier) => other = Some(earlier),
            }
        }
        // SAFETY: as above, and it was not published.
        unsafe { libc::munmap(at, len) };
        other
    }
}
