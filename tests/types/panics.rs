//! User code that panics while the crate calls it, with handles in use: no block is lost.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use vmffi::{
    CallError, ErrorKind, FfiType, ForeignBuf, ForeignStr, Outgoing, Peer, SendAs, SharedBuf,
    SharedStr, loopback::Loopback,
};

use crate::assert_clean;

vmffi::ffi_interface! {
    pub struct Pair { first: ForeignStr, second: u32 }

    pub interface Takes {
        fn alone(value: Option<u32>) -> u32;
        fn deep(value: Option<Option<ForeignStr>>) -> u32;
        fn beside(text: ForeignStr, value: Option<u32>, bytes: ForeignBuf) -> u32;
        fn pair(first: ForeignStr, value: u32) -> u32;
        fn gives() -> ForeignBuf;
    }
}

struct Server;

impl Takes for Server {
    fn alone(&self, _: &Peer, value: Option<u32>) -> Result<u32, CallError> {
        Ok(value.unwrap_or(1))
    }
    fn deep(&self, _: &Peer, _: Option<Option<ForeignStr>>) -> Result<u32, CallError> {
        Ok(2)
    }
    fn beside(
        &self,
        _: &Peer,
        _: ForeignStr,
        _: Option<u32>,
        _: ForeignBuf,
    ) -> Result<u32, CallError> {
        Ok(3)
    }
    fn pair(&self, _: &Peer, _: ForeignStr, value: u32) -> Result<u32, CallError> {
        Ok(value)
    }
    fn gives(&self, guest: &Peer) -> Result<SharedBuf, CallError> {
        SharedBuf::copy_from(guest, &[7; 3000])
    }
}

vmffi::serve!(Server: Takes);

/// A value that panics while it is encoded.
struct Panics;

// SAFETY: the implementation writes no word.
unsafe impl<T: FfiType> SendAs<T> for Panics {
    fn encode(self, _: &mut [u8], _: &mut Outgoing<'_>) -> Result<(), CallError> {
        resume_unwind(Box::new("quietly"))
    }
}

#[test]
fn an_encoder_that_panics() {
    let pair = Loopback::new((), Server).unwrap();
    let takes = TakesClient::from(pair.host());
    let panics = |call: &dyn Fn() -> Result<u32, CallError>| {
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
        assert_clean(&pair);
    };
    for _ in 0..3 {
        panics(&|| takes.alone(Some(Panics)));
        panics(&|| takes.deep(Some(Some(Panics))));
        panics(&|| takes.beside("a text", Some(Panics), &[1, 2, 3]));
        panics(&|| {
            takes.beside(SharedStr::copy_from(pair.host(), "made")?, Some(Panics), &[1, 2, 3])
        });
        panics(&|| takes.pair("a text", Panics));
        panics(&|| takes.pair(Panics, 5));
    }
    assert_eq!(takes.alone(Some(9)), Ok(9));
    assert_clean(&pair);
}

/// Handles are read on another thread while the loopback is reset and their memory is written anew: a reader gets the
/// bytes of its loan, or an error. Within one program, the accesses must not race either (`.ci/sanitize threads`).
#[test]
fn handles_are_read_while_the_loopback_is_reset() {
    let mut pair = Loopback::builder().arenas(1 << 16, 1 << 16).build((), Server).unwrap();
    let mut stale = 0;
    for _ in 0..200 {
        let bufs: Vec<_> =
            (0..3).map(|_| TakesClient::from(pair.host()).gives().unwrap()).collect();
        let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut out = [0; 3000];
                let mut stale = 0;
                while !over.load(Ordering::Acquire) {
                    for buf in &bufs {
                        match buf.read_at(0, &mut out) {
                            Ok(()) => assert_eq!(out, [7; 3000]),
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Stale);
                                stale += 1;
                            }
                        }
                    }
                    begun.store(true, Ordering::Release);
                }
                drop(bufs);
                stale
            });
            while !begun.load(Ordering::Acquire) {
                thread::yield_now();
            }
            pair.reset();
            // Writes other bytes to the memory of the handles.
            for _ in 0..6 {
                let mut new = SharedBuf::with_capacity(pair.guest(), 3000).unwrap();
                new.extend_from_slice(&[8; 3000]).unwrap();
            }
            over.store(true, Ordering::Release);
            stale += reader.join().unwrap();
        });
        assert_clean(&pair);
    }
    assert!(stale > 0);
}
