//! `memcpy`, `memmove`, `memset` and `memcmp` for guests without a C library: those of the guest's architecture.

pub use super::native::{memcmp, memcpy, memmove, memset};

// Those of other architectures, which run on this one as well.
#[cfg(all(test, feature = "std"))]
#[path = "words.rs"]
mod words;

#[cfg(all(test, feature = "std"))]
mod tests {
    fn lengths() -> impl Iterator<Item = usize> {
        (0..200).chain([255, 256, 1000, 1023, 1024, 1025, 1040, 4096, 5001])
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 256 + 1) as u8).collect()
    }

    /// The tests, for one implementation.
    macro_rules! tests {
        ($name:ident: $($functions:tt)+) => {
            mod $name {
                use super::{lengths, pattern, $($functions)+::{memcmp, memcpy, memmove, memset}};

                #[test]
                fn copies_are_exact() {
                    for len in lengths() {
                        for skip in 0..3 {
                            let from = pattern(len + skip);
                            let mut to = vec![0xee; len + 32];
                            // SAFETY: `from` has `len` bytes behind `skip`, and `to`, another vector, more than `len` behind 16.
                            let back = unsafe { memcpy(to[16..].as_mut_ptr(), from[skip..].as_ptr(), len) };
                            assert_eq!(back, to[16..].as_mut_ptr());
                            assert_eq!(to[16..16 + len], from[skip..]);
                            assert!(to[..16].iter().chain(&to[16 + len..]).all(|byte| *byte == 0xee), "{len}");
                        }
                    }
                }

                #[test]
                fn overlapping_bytes_are_moved() {
                    for len in lengths() {
                        for (from, to) in [(0, 0), (0, 1), (1, 0), (3, 20), (20, 3), (0, 64), (64, 0)] {
                            let mut bytes = pattern(len + 100);
                            let mut right = bytes.clone();
                            right.copy_within(from..from + len, to);
                            let base = bytes.as_mut_ptr();
                            // SAFETY: `from` and `to` are at most 64, and the vector has `len` + 100 bytes.
                            unsafe { memmove(base.add(to), base.add(from), len) };
                            assert_eq!(bytes, right, "{len} bytes from {from} to {to}");
                        }
                    }
                }

                #[test]
                fn fills_are_exact() {
                    for len in lengths() {
                        let mut to = vec![0xee; len + 32];
                        // SAFETY: the vector has `len` + 16 bytes behind the 16th.
                        unsafe { memset(to[16..].as_mut_ptr(), 0x5a, len) };
                        assert!(to[16..16 + len].iter().all(|byte| *byte == 0x5a), "{len}");
                        assert!(to[..16].iter().chain(&to[16 + len..]).all(|byte| *byte == 0xee), "{len}");
                    }
                }

                #[test]
                fn comparisons_have_the_right_sign() {
                    for len in lengths() {
                        let a = pattern(len);
                        // SAFETY: `a` has `len` bytes, and is passed as both arguments.
                        assert_eq!(unsafe { memcmp(a.as_ptr(), a.as_ptr(), len) }, 0);
                        for at in (0..len).step_by(1 + len / 50) {
                            for byte in [0, 127, 128, 255] {
                                let mut b = a.clone();
                                b[at] = byte;
                                // SAFETY: `a` and its copy `b` have `len` bytes.
                                let found = unsafe { memcmp(a.as_ptr(), b.as_ptr(), len) };
                                assert_eq!(found.cmp(&0), a.cmp(&b), "{len} bytes, the {at}th is {byte}");
                            }
                        }
                    }
                }
            }
        };
    }

    tests!(native: super::super::native);
    tests!(words: super::words);
}
