//! The copy of a loan's bytes that the guest's half of a loopback borrows, since the host's half may end the loan.

use core::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use alloc::{boxed::Box, vec::Vec};

use crate::error::CallError;

/// A copy of as many bytes as its loan has, made when it is first asked for; null before. It is constant from then on.
pub(super) struct PrivateCopy(AtomicPtr<u8>);

impl PrivateCopy {
    pub(super) const fn none() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The copy, which `fill` writes over zeros if there is none yet. All calls pass the same `len`.
    pub(super) fn get(
        &self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), CallError>,
    ) -> Result<&[u8], CallError> {
        if len == 0 {
            return Ok(&[]);
        }
        let mut at = self.0.load(Ordering::Acquire);
        if at.is_null() {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len).map_err(|_| CallError::no_heap(len))?;
            bytes.resize(len, 0);
            fill(&mut bytes)?;
            at = Box::into_raw(bytes.into_boxed_slice()).cast::<u8>();
            let set =
                self.0.compare_exchange(ptr::null_mut(), at, Ordering::AcqRel, Ordering::Acquire);
            if let Err(other) = set {
                // SAFETY: `at` was leaked from a box of `len` bytes above, and was not stored.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(at, len)) });
                at = other;
            }
        }
        // SAFETY: whoever stored `at` leaked it from a box of `len` initialised bytes. Nothing writes to them, and only
        // `free` frees them, with `self` borrowed mutably.
        Ok(unsafe { core::slice::from_raw_parts(at, len) })
    }

    /// Frees the copy, if there is one; `len` is that of `get`.
    #[inline]
    pub(super) fn free(&mut self, len: usize) {
        let at = core::mem::replace(self.0.get_mut(), ptr::null_mut());
        if !at.is_null() {
            // SAFETY: `get` leaked `at` from a box of `len` bytes, and it is taken out here, so this happens once.
            drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(at, len)) });
        }
    }
}
