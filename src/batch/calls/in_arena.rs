//! The calls of a batch in this side's arena. This side is a guest, which trusts its host not to write there (ABI, O-5).

use super::Call;
use crate::{call::Peer, error::CallError, shared::SharedBuf};

/// As the calls on the heap are.
pub(in crate::batch) struct Calls(SharedBuf);

impl Calls {
    const SIZE: usize = size_of::<Call>();

    pub(in crate::batch) fn new(peer: &Peer) -> Self {
        Self(SharedBuf::new(peer))
    }

    pub(in crate::batch) fn reserve(&mut self) -> Result<(), CallError> {
        self.0.reserve(Self::SIZE)
    }

    pub(in crate::batch) fn push(&mut self, call: Call) -> Result<(), CallError> {
        let nr = self.len();
        self.0.extend_from_slice(&[0; Self::SIZE])?;
        self.put(nr, call);
        Ok(())
    }

    pub(in crate::batch) fn len(&self) -> usize {
        self.0.len() / Self::SIZE
    }

    pub(in crate::batch) fn get(&self, nr: usize) -> Option<Call> {
        let bytes = self.0.as_slice().get(nr.checked_mul(Self::SIZE)?..)?.get(..Self::SIZE)?;
        // SAFETY: `push` has put a `Call` there when it made the buffer that long, and a buffer that grows copies its bytes
        // as they are. They are aligned: a block is aligned to 64 bytes, and the size of a `Call` is a multiple of its
        // alignment.
        Some(unsafe { bytes.as_ptr().cast::<Call>().read() })
    }

    pub(in crate::batch) fn set_read(&mut self, nr: usize) {
        if let Some(call) = self.get(nr) {
            self.put(nr, Call { release: None, ..call });
        }
    }

    fn put(&mut self, nr: usize, call: Call) {
        let start = nr * Self::SIZE;
        let Some(bytes) = self.0.as_mut_slice().get_mut(start..start + Self::SIZE) else { return };
        // SAFETY: `bytes` is as long as a `Call`, and aligned, as in `get`.
        unsafe { bytes.as_mut_ptr().cast::<Call>().write(call) };
    }
}

#[cfg(all(test, feature = "std", not(loom)))]
mod tests {
    use super::*;
    use crate::{loopback::Loopback, memory::arena::Allocated};

    /// The buffer grows several times, and each call is what it was.
    #[test]
    fn calls_are_kept_while_the_buffer_grows() {
        fn call(nr: usize) -> Call {
            let latest = Allocated { index: nr as u32, serial: !(nr as u32) };
            let (signature, params) = (nr as u64 | 1 << 63, nr as u64 * 64);
            Call { signature, params, release: Some(|_, _| ()), latest, loans: 7, entry: nr as u32 }
        }
        let pair = Loopback::new((), ()).unwrap();
        let mut calls = Calls::new(pair.host());
        assert!(calls.get(0).is_none());
        for nr in 0..1000 {
            calls.reserve().unwrap();
            calls.push(call(nr)).unwrap();
        }
        for nr in (0..1000).step_by(2) {
            calls.set_read(nr);
        }
        assert_eq!(calls.len(), 1000);
        for nr in 0..1000 {
            let (is, was) = (calls.get(nr).unwrap(), call(nr));
            assert_eq!((is.signature, is.params, is.loans), (was.signature, was.params, was.loans));
            assert_eq!((is.latest.index, is.latest.serial), (was.latest.index, was.latest.serial));
            assert_eq!((is.entry, is.release.is_some()), (was.entry, nr % 2 == 1));
        }
        assert!(calls.get(1000).is_none() && calls.get(usize::MAX).is_none());
        drop(calls);
        assert_eq!(pair.host().arena_stats().blocks, 0);
    }
}
