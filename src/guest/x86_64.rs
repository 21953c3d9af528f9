//! What is x86_64 in a guest's program: the entry point, an instruction that ends the guest, and the memory functions.
//!
//! The memory functions are in assembly, since a compiler may replace a copy loop in `memcpy` by a call of `memcpy`. They
//! use general registers only, since a guest's target may have no vector registers. All of them rely on a clear direction
//! flag, as the System V ABI requires at function calls.

use core::arch::asm;

/// The entry point of the program, which calls `$main` with the address of the boot block, in RDI.
#[doc(hidden)]
#[macro_export]
macro_rules! __start {
    ($main:path) => {
        $crate::__private::core::arch::global_asm! {
            ".globl _start",
            ".type _start, @function",
            "_start:",
            "xor ebp, ebp",
            "call {main}",
            "ud2",
            main = sym $main,
        }
    };
}

/// Raises an exception.
#[inline(always)]
pub(super) fn invalid_instruction() {
    // SAFETY: `ud2` raises an exception and has no other effect.
    unsafe { asm!("ud2", options(nomem, nostack)) }
}

/// The maximum length, in bytes, that is copied or filled in a loop. For more, string instructions are faster in spite
/// of their start-up time.
const LONG: usize = 1024;

/// `memcpy`: copies `len` bytes. The ranges must not overlap, unless the destination begins before the source. Returns
/// `to`.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of `len` bytes.
pub unsafe fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if len < 16 {
        // SAFETY: the caller has promised that both ranges of `len` bytes are valid, and `len` is less than 16.
        unsafe { copy_short(to, from, len) }
    } else if len <= LONG {
        // SAFETY: all accesses are within the `len` bytes at `from` and `to`, which the caller has promised to be
        // valid: the loop copies 16 bytes at a time while at least 16 remain, and the last 16, which `len >= 16` has,
        // are read first and written last.
        unsafe {
            asm!(
                "mov {y}, [{from} + {len} - 16]",
                "mov {z}, [{from} + {len} - 8]",
                "lea {end}, [{to} + {len} - 16]",
                "2:",
                "mov {a}, [{from}]",
                "mov {b}, [{from} + 8]",
                "mov [{to}], {a}",
                "mov [{to} + 8], {b}",
                "add {from}, 16",
                "add {to}, 16",
                "cmp {to}, {end}",
                "jb 2b",
                "mov [{end}], {y}",
                "mov [{end} + 8], {z}",
                from = inout(reg) from => _,
                to = inout(reg) to => _,
                len = in(reg) len,
                end = out(reg) _,
                a = out(reg) _,
                b = out(reg) _,
                y = out(reg) _,
                z = out(reg) _,
                options(nostack),
            );
        }
    } else {
        // SAFETY: `rep movsb` copies RCX = `len` bytes upwards, since the direction flag is clear, within the ranges
        // that the caller has promised to be valid.
        unsafe {
            asm!(
                "rep movsb",
                inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags),
            );
        }
    }
    to
}

/// Copies fewer than 16 bytes, which may overlap: all are read before any is written.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of `len` bytes, and `len` is less than 16.
unsafe fn copy_short(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: each branch accesses the first and the last 8, 4 or 2 bytes of `len`, after comparing that `len` has as
    // many, or a single byte if `len` is 1. The caller has promised `len` valid bytes.
    unsafe {
        asm!(
            "cmp {len}, 8",
            "jb 2f",
            "mov {a}, [{from}]",
            "mov {b}, [{from} + {len} - 8]",
            "mov [{to}], {a}",
            "mov [{to} + {len} - 8], {b}",
            "jmp 5f",
            "2:",
            "cmp {len}, 4",
            "jb 3f",
            "mov {a:e}, [{from}]",
            "mov {b:e}, [{from} + {len} - 4]",
            "mov [{to}], {a:e}",
            "mov [{to} + {len} - 4], {b:e}",
            "jmp 5f",
            "3:",
            "cmp {len}, 2",
            "jb 4f",
            "movzx {a:e}, word ptr [{from}]",
            "movzx {b:e}, word ptr [{from} + {len} - 2]",
            "mov [{to}], {a:x}",
            "mov [{to} + {len} - 2], {b:x}",
            "jmp 5f",
            "4:",
            "test {len}, {len}",
            "jz 5f",
            "movzx {a:e}, byte ptr [{from}]",
            "mov [{to}], {a:l}",
            "5:",
            from = in(reg) from,
            to = in(reg) to,
            len = in(reg) len,
            a = out(reg) _,
            b = out(reg) _,
            options(nostack),
        );
    }
}

/// `memmove`: copies `len` bytes, which may overlap. Returns `to`.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of `len` bytes.
pub unsafe fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if len < 16 || to.addr().wrapping_sub(from.addr()) >= len {
        // SAFETY: the caller has promised that both ranges are valid. Either `len` is less than 16, for which `memcpy`
        // allows any overlap, or the destination begins before the source or at least `len` bytes behind it.
        return unsafe { memcpy(to, from, len) };
    }
    // SAFETY: all accesses are within the `len` bytes at `from` and `to`, which the caller has promised to be valid:
    // the loop copies 16 bytes at a time from the ends downwards while more than 16 remain, and the first 16, which
    // `len >= 16` has, are read first and written last.
    unsafe {
        asm!(
            "mov {y}, [{from}]",
            "mov {z}, [{from} + 8]",
            "2:",
            "mov {a}, [{from} + {len} - 16]",
            "mov {b}, [{from} + {len} - 8]",
            "mov [{to} + {len} - 16], {a}",
            "mov [{to} + {len} - 8], {b}",
            "sub {len}, 16",
            "cmp {len}, 16",
            "ja 2b",
            "mov [{to}], {y}",
            "mov [{to} + 8], {z}",
            from = in(reg) from,
            to = in(reg) to,
            len = inout(reg) len => _,
            a = out(reg) _,
            b = out(reg) _,
            y = out(reg) _,
            z = out(reg) _,
            options(nostack),
        );
    }
    to
}

/// `memset`: fills `len` bytes with one value. Returns `to`.
///
/// # Safety
///
/// `to` is valid for writes of `len` bytes.
pub unsafe fn memset(to: *mut u8, byte: u8, len: usize) -> *mut u8 {
    let word = u64::from(byte) * 0x0101_0101_0101_0101;
    if len > LONG {
        // SAFETY: `rep stosb` writes RCX = `len` bytes upwards, since the direction flag is clear, within the range
        // that the caller has promised to be valid.
        unsafe {
            asm!(
                "rep stosb",
                inout("rcx") len => _, inout("rdi") to => _, in("al") byte,
                options(nostack, preserves_flags),
            );
        }
    } else if len >= 8 {
        // SAFETY: all writes are within the `len` bytes that the caller has promised to be valid: the last 8, which
        // `len >= 8` has, and 8 at a time while the address is below those.
        unsafe {
            asm!(
                "lea {end}, [{to} + {len} - 8]",
                "mov [{end}], {word}",
                "2:",
                "mov [{to}], {word}",
                "add {to}, 8",
                "cmp {to}, {end}",
                "jb 2b",
                to = inout(reg) to => _,
                len = in(reg) len,
                end = out(reg) _,
                word = in(reg) word,
                options(nostack),
            );
        }
    } else {
        // SAFETY: the loop writes the bytes from `len - 1` down to 0, within the range that the caller has promised.
        unsafe {
            asm!(
                "2:",
                "sub {len}, 1",
                "jb 3f",
                "mov [{to} + {len}], {word:l}",
                "jmp 2b",
                "3:",
                to = in(reg) to,
                len = inout(reg) len => _,
                word = in(reg) word,
                options(nostack),
            );
        }
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
    let result: u64;
    // SAFETY: all reads are within the `len` bytes that the caller has promised to be valid: 8 at a time while at least
    // 8 remain, then single bytes until none remains.
    unsafe {
        asm!(
            "2:",
            "cmp {len}, 8",
            "jb 4f",
            "mov {x}, [{a}]",
            "mov {y}, [{b}]",
            "cmp {x}, {y}",
            "jne 3f",
            "add {a}, 8",
            "add {b}, 8",
            "sub {len}, 8",
            "jmp 2b",
            "3:",
            "bswap {x}",
            "bswap {y}",
            "cmp {x}, {y}",
            "sbb {x:e}, {x:e}",
            "or {x:e}, 1",
            "jmp 5f",
            "4:",
            "xor {x:e}, {x:e}",
            "sub {len}, 1",
            "jb 5f",
            "movzx {x:e}, byte ptr [{a}]",
            "movzx {y:e}, byte ptr [{b}]",
            "add {a}, 1",
            "add {b}, 1",
            "sub {x:e}, {y:e}",
            "je 4b",
            "5:",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            len = inout(reg) len => _,
            x = out(reg) result,
            y = out(reg) _,
            options(nostack, readonly),
        );
    }
    result as i32
}
