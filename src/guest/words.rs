//! Memory functions in Rust, for architectures without instructions that copy: eight bytes at a time, in general
//! registers.
//!
//! All accesses are volatile, since a compiler may replace a copy loop in `memcpy` by a call of `memcpy`, and may copy by
//! vector registers, which a guest's target may not have. Where the processor has no unaligned accesses, the compiler
//! makes single bytes of those words that may not be aligned.

/// Eight bytes at any address.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned(u64);

/// Copies words of type `W` upwards, as long as at least one fits, and returns how many bytes it has copied.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of `len` bytes, and both are aligned for `W`. If the ranges overlap, `to`
/// is less than `from`.
#[inline(always)]
unsafe fn copy_up<W: Copy>(to: *mut u8, from: *const u8, len: usize) -> usize {
    let size = size_of::<W>();
    let mut at = 0;
    while len - at >= 4 * size {
        // SAFETY: `4 * size` bytes remain behind `at`, of the `len` that the caller has promised, aligned for `W`.
        unsafe {
            let from = from.add(at).cast::<W>();
            let to = to.add(at).cast::<W>();
            let (a, b) = (from.read_volatile(), from.add(1).read_volatile());
            let (c, d) = (from.add(2).read_volatile(), from.add(3).read_volatile());
            to.write_volatile(a);
            to.add(1).write_volatile(b);
            to.add(2).write_volatile(c);
            to.add(3).write_volatile(d);
        }
        at += 4 * size;
    }
    while len - at >= size {
        // SAFETY: `size` bytes remain behind `at`, of the `len` that the caller has promised, aligned for `W`.
        unsafe { to.add(at).cast::<W>().write_volatile(from.add(at).cast::<W>().read_volatile()) };
        at += size;
    }
    at
}

/// `memcpy`: copies `len` bytes. The ranges must not overlap, unless the destination begins before the source. Returns
/// `to`.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of `len` bytes.
#[allow(clippy::cast_ptr_alignment, reason = "each cast to u64 is behind a check of the alignment")]
pub unsafe fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    let mut done = 0;
    if (to.addr() ^ from.addr()) % 8 == 0 {
        let head = (to.addr().wrapping_neg() % 8).min(len);
        // SAFETY: `head` is at most `len`, and a byte has no alignment. Behind it, `len - head` bytes remain, at multiples of
        // eight on both sides, unless none remains.
        unsafe {
            done += copy_up::<u8>(to, from, head);
            done += copy_up::<u64>(to.add(done), from.add(done), len - done);
        }
    } else {
        // SAFETY: the caller has promised `len` bytes, and `Unaligned` has no alignment.
        unsafe { done += copy_up::<Unaligned>(to, from, len) };
    }
    // SAFETY: `len - done` bytes remain.
    unsafe { copy_up::<u8>(to.add(done), from.add(done), len - done) };
    to
}

/// Copies words of type `W` downwards from the ends, as long as at least one fits, and returns how many bytes remain.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of `len` bytes, and both ends are aligned for `W`. If the ranges overlap,
/// `to` is not less than `from`.
#[inline(always)]
unsafe fn copy_down<W: Copy>(to: *mut u8, from: *const u8, mut len: usize) -> usize {
    let size = size_of::<W>();
    while len >= size {
        len -= size;
        // SAFETY: `size` bytes are behind `len` now, of those that the caller has promised, aligned for `W`.
        unsafe {
            to.add(len).cast::<W>().write_volatile(from.add(len).cast::<W>().read_volatile())
        };
    }
    len
}

/// `memmove`: copies `len` bytes, which may overlap. Returns `to`.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of `len` bytes.
pub unsafe fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= len {
        // SAFETY: the caller has promised that both ranges are valid. The destination begins before the source, or at least
        // `len` bytes behind it.
        return unsafe { memcpy(to, from, len) };
    }
    let mut left = len;
    if (to.addr() ^ from.addr()) % 8 == 0 {
        let tail = (to.addr().wrapping_add(len) % 8).min(len);
        // SAFETY: `tail` is at most `len`. Before it, `left` bytes remain, which end at multiples of eight on both sides,
        // unless none remains.
        unsafe {
            left -= tail;
            copy_down::<u8>(to.add(left), from.add(left), tail);
            left = copy_down::<u64>(to, from, left);
        }
    } else {
        // SAFETY: the caller has promised `len` bytes, and `Unaligned` has no alignment.
        unsafe { left = copy_down::<Unaligned>(to, from, left) };
    }
    // SAFETY: the first `left` bytes remain.
    unsafe { copy_down::<u8>(to, from, left) };
    to
}

/// `memset`: fills `len` bytes with one value. Returns `to`.
///
/// # Safety
///
/// `to` is valid for writes of `len` bytes.
#[allow(
    clippy::cast_ptr_alignment,
    reason = "the cast to u64 is behind `head` bytes, to a multiple of eight"
)]
pub unsafe fn memset(to: *mut u8, byte: u8, len: usize) -> *mut u8 {
    let word = u64::from(byte) * 0x0101_0101_0101_0101;
    let head = (to.addr().wrapping_neg() % 8).min(len);
    let mut at = 0;
    while at < head {
        // SAFETY: `at` is less than `head`, which is at most `len`.
        unsafe { to.add(at).write_volatile(byte) };
        at += 1;
    }
    while len - at >= 8 {
        // SAFETY: eight bytes remain behind `at`, at a multiple of eight.
        unsafe { to.add(at).cast::<u64>().write_volatile(word) };
        at += 8;
    }
    while at < len {
        // SAFETY: `at` is less than `len`.
        unsafe { to.add(at).write_volatile(byte) };
        at += 1;
    }
    to
}

/// `memcmp`: returns 0 if all `len` bytes are equal; otherwise a negative number if the first byte that differs is less
/// in `a` than in `b`, and a positive number if it is greater.
///
/// # Safety
///
/// `a` and `b` are valid for reads of `len` bytes.
#[must_use]
pub unsafe fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut at = 0;
    if a.addr() % 8 == 0 && b.addr() % 8 == 0 {
        // Equal words only, up to the first that differs.
        while len - at >= 8 {
            // SAFETY: eight bytes remain behind `at`, at multiples of eight on both sides.
            let words = unsafe {
                (a.add(at).cast::<u64>().read_volatile(), b.add(at).cast::<u64>().read_volatile())
            };
            if words.0 != words.1 {
                break;
            }
            at += 8;
        }
    }
    while at < len {
        // SAFETY: `at` is less than `len`.
        let bytes = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if bytes.0 != bytes.1 {
            return i32::from(bytes.0) - i32::from(bytes.1);
        }
        at += 1;
    }
    0
}
