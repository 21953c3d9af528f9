//! A guest's physical memory, as its hypervisor reaches it.

use core::ptr::{self, NonNull};

use crate::error::{CallError, ErrorKind};

/// Bytes of a guest's memory that are contiguous in the host's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the host reaches the first byte.
    pub at: NonNull<u8>,
    /// The number of bytes, at least 1.
    pub len: usize,
}

/// A guest's physical memory: the interface that a hypervisor implements for what lies outside of the region, such as the
/// frames of traps (ABI, Traps TR-14 and TR-23), and to find the region.
///
/// # Safety
///
/// For each [`Piece`] that [`translate`](Self::translate) returns, as long as the value on which it was called is not used
/// mutably and not dropped: `at` is valid for reads and writes of `len` bytes, which are memory that the guest can write. No Rust
/// reference covers them, since the guest may write to them at any time.
pub unsafe trait GuestMemory {
    /// The bytes from a guest-physical address on, at most `len` of them and at least one: as many as are contiguous in the host's
    /// address space. `None` if the guest has no memory there that it can write. `len` is at least 1.
    fn translate(&self, address: u64, len: usize) -> Option<Piece>;

    /// Copies bytes of the guest, each of them once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadPointer`] with the address and the length, if the guest has no memory for one of the bytes. The bytes of
    /// `out` before it have been written.
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), CallError> {
        let mut at = out.as_mut_ptr();
        self.each_piece(address, out.len(), |piece| {
            // SAFETY: the implementation promises that the piece is valid for reads. `at` is in `out`, which has as many bytes
            // left, since the pieces are `out.len()` bytes together; and `out` does not overlap the guest's memory, which no
            // reference covers.
            unsafe { ptr::copy_nonoverlapping(piece.at.as_ptr(), at, piece.len) };
            at = at.wrapping_add(piece.len);
        })
    }

    /// Copies bytes to the guest.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read). The bytes before the first one without memory have been written.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), CallError> {
        let mut from = bytes.as_ptr();
        self.each_piece(address, bytes.len(), |piece| {
            // SAFETY: the implementation promises that the piece is valid for writes. `from` is in `bytes`, which has as many
            // bytes left, and which does not overlap the guest's memory, which no reference covers.
            unsafe { ptr::copy_nonoverlapping(from, piece.at.as_ptr(), piece.len) };
            from = from.wrapping_add(piece.len);
        })
    }

    /// Calls `each` for the pieces of a range of guest-physical addresses, in their order; together they are `len` bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadPointer`] with the address and the length, if the guest has no memory for one of the bytes. `each` has been
    /// called for the pieces before it.
    fn each_piece(
        &self,
        address: u64,
        len: usize,
        mut each: impl FnMut(Piece),
    ) -> Result<(), CallError> {
        let bad = || CallError::new(ErrorKind::BadPointer).at(address, len as u64);
        let mut done = 0;
        while done < len {
            let next = address.checked_add(done as u64).ok_or_else(bad)?;
            let left = len - done;
            let piece = self.translate(next, left).ok_or_else(bad)?;
            if piece.len == 0 {
                return Err(bad());
            }
            let len = piece.len.min(left);
            each(Piece { len, ..piece });
            done += len;
        }
        Ok(())
    }

    /// The address at which the host reaches a range, if it is contiguous in the host's address space: for
    /// [`RegionMemory`](crate::RegionMemory), whose region is. A host that maps a guest's memory in pieces maps the region
    /// once more, in one piece.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadPointer`] with the address and the length, if it is not, or if the guest has no memory for one of the bytes.
    fn contiguous(&self, address: u64, len: usize) -> Result<NonNull<u8>, CallError> {
        let bad = CallError::new(ErrorKind::BadPointer).at(address, len as u64);
        let piece = self.translate(address, len.max(1)).filter(|piece| piece.len >= len);
        piece.map(|piece| piece.at).ok_or(bad)
    }
}

/// The memory of a virtual machine monitor of rust-vmm.
#[cfg(feature = "vm-memory")]
mod rust_vmm {
    use core::ptr::NonNull;

    use vm_memory::{GuestAddress, GuestMemoryBackend, bitmap::Bitmap};

    use super::{GuestMemory, Piece};

    /// Each piece is marked as dirty, since the host may write to it.
    // SAFETY: a `VolatileSlice` is memory that is valid for reads and writes as long as what it was borrowed from, which its
    // unsafe constructor requires, and which the guest may write to, so that no reference covers it.
    unsafe impl<M: GuestMemoryBackend> GuestMemory for M {
        fn translate(&self, address: u64, len: usize) -> Option<Piece> {
            let slice = self.get_slices(GuestAddress(address), len).next()?.ok()?;
            slice.bitmap().mark_dirty(0, slice.len());
            Some(Piece { at: NonNull::new(slice.ptr_guard_mut().as_ptr())?, len: slice.len() })
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use std::{boxed::Box, vec, vec::Vec};

    use super::*;

    /// Memory at 0x1000 in pages of 16 bytes, each of which lies elsewhere, but for one that is missing.
    struct Pages(Vec<Option<NonNull<[u8; 16]>>>);

    impl Pages {
        fn new() -> Self {
            let page = |nr: u8| Some(NonNull::from(Box::leak(Box::new([nr; 16]))));
            Self(vec![page(0), page(1), None, page(3)])
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            for page in self.0.iter().flatten() {
                // SAFETY: `new` leaked it, and this is its only owner.
                drop(unsafe { Box::from_raw(page.as_ptr()) });
            }
        }
    }

    // SAFETY: the pages are leaked boxes until `drop`, to which only these pieces refer.
    unsafe impl GuestMemory for Pages {
        fn translate(&self, address: u64, len: usize) -> Option<Piece> {
            let within = usize::try_from(address.checked_sub(0x1000)?).ok()?;
            let page = (*self.0.get(within / 16)?)?;
            let (start, at) = (page.cast::<u8>(), within % 16);
            // SAFETY: `at` is below 16, the size of the page.
            Some(Piece { at: unsafe { start.add(at) }, len: len.min(16 - at) })
        }
    }

    #[test]
    fn ranges_in_pieces() {
        let pages = Pages::new();
        let mut out = [9; 20];
        pages.read(0x1006, &mut out).unwrap();
        assert_eq!(out, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        pages.write(0x100f, &[5, 6]).unwrap();
        let mut out = [0; 3];
        pages.read(0x100e, &mut out).unwrap();
        assert_eq!(out, [0, 5, 6]);
        pages.read(0x1000, &mut []).unwrap();
        pages.read(u64::MAX, &mut []).unwrap();
    }

    #[test]
    fn ranges_that_are_not_there() {
        let pages = Pages::new();
        let bad = |address, len| {
            let mut out = vec![0; len];
            let error = pages.read(address, &mut out).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadPointer, "{address:#x} {len}");
            assert_eq!(pages.write(address, &out).unwrap_err().kind(), ErrorKind::BadPointer);
            assert!(pages.contiguous(address, len).is_err());
        };
        bad(0, 1);
        bad(0xfff, 2);
        bad(0x101f, 2);
        bad(0x1020, 1);
        bad(0x103f, 2);
        bad(u64::MAX, 1);
        bad(u64::MAX, 2);
        assert!(pages.contiguous(0x1000, 16).is_ok());
        assert!(pages.contiguous(0x100f, 2).is_err());
        assert!(pages.contiguous(0x1010, 16).is_ok());
    }

    /// Memory of rust-vmm, in two regions with a gap between them.
    #[cfg(feature = "vm-memory")]
    #[test]
    fn memory_of_rust_vmm() {
        use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

        let (first, second) = (GuestAddress(0x1000), GuestAddress(0x2000));
        let memory = GuestMemoryMmap::<()>::from_ranges(&[
            (first, 0x1000),
            (second, 0x1000),
            (GuestAddress(0x4000), 0x1000),
        ]);
        let memory = memory.unwrap();
        // Across two regions that are neighbours only for the guest.
        memory.write_slice(&[1, 2], GuestAddress(0x1ffe)).unwrap();
        GuestMemory::write(&memory, 0x2000, &[3, 4]).unwrap();
        let mut out = [0; 4];
        GuestMemory::read(&memory, 0x1ffe, &mut out).unwrap();
        assert_eq!(out, [1, 2, 3, 4]);
        let mut out = [0; 2];
        memory.read_slice(&mut out, second).unwrap();
        assert_eq!(out, [3, 4]);
        let bad = |address, len| {
            let error = GuestMemory::read(&memory, address, &mut vec![0; len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadPointer);
        };
        bad(0, 1);
        bad(0x2fff, 2);
        bad(0x3000, 1);
        bad(0x4fff, 2);
        bad(u64::MAX, 1);
        assert!(memory.contiguous(0x1800, 0x800).is_ok());
        assert!(memory.contiguous(0x1800, 0x1801).is_err());
    }
}
