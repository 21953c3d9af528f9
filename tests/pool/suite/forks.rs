//! A child that was forked from the process of a pool.

use std::{
    io, panic,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use futures_executor::block_on;
use sides::host::Host;
use vmffi::machine::{Backend, Metrics, PoolError};

use super::{Case, SetAtEnd, builder, control, pool};

pub const CASES: &[Case] = &[
    ("a_child_cannot_use_the_pool", cannot_use),
    ("forks_while_threads_call", while_threads_call),
];

/// Runs `child` in a forked process.
#[track_caller]
pub fn forked(child: impl FnOnce()) {
    // SAFETY: the child does what this C library permits after fork(2), including the use of the
    // heap, and exits without returning.
    let pid = unsafe { libc::fork() };
    assert_ne!(pid, -1, "{}", io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: alarm(2) takes an integer; the child does not handle the signal, which therefore ends it.
        unsafe { libc::alarm(20) };
        let failed = panic::catch_unwind(AssertUnwindSafe(child)).is_err();
        // SAFETY: the call ends this process.
        unsafe { libc::_exit(i32::from(failed)) }
    }
    let mut status = 0;
    // SAFETY: the pointer to the status is valid.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the child's exit status");
}

fn cannot_use(backend: Backend) {
    let pool = pool(backend, 3);
    let (mut pool, mut lease, mut future) = (Some(pool), None, None);
    let here = pool.as_ref().unwrap();
    lease.replace(here.get().unwrap());
    future.replace(here.call_async(|guest| control(guest).sum(3)));
    forked(|| {
        let here = pool.as_ref().unwrap();
        assert!(matches!(here.get(), Err(PoolError::Forked)));
        assert!(matches!(here.get_timeout(Duration::ZERO), Err(PoolError::Forked)));
        assert!(matches!(here.call(|_| ()), Err(PoolError::Forked)));
        assert!(matches!(block_on(here.call_async(|_| ())), Err(PoolError::Forked)));
        assert_eq!(here.metrics(), Metrics::default());
        assert!(matches!(block_on(future.as_mut().unwrap()), Err(PoolError::Forked)));
        here.close();
        drop(lease.take());
        drop(future.take());
        drop(pool.take());
        // A new pool of the child works.
        let own = builder(backend).build(Host::default).unwrap();
        assert_eq!(own.call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
        assert_eq!(block_on(own.call_async(|guest| control(guest).sum(3))).unwrap(), Ok(6));
    });
    assert_eq!(control(lease.as_ref().unwrap().guest()).sum(3), Ok(6));
    assert_eq!(block_on(future.take().unwrap()).unwrap(), Ok(6));
    assert_eq!(pool.as_ref().unwrap().call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
}

/// Other threads hold locks at the moment of the fork.
fn while_threads_call(backend: Backend) {
    let mut pool = Some(pool(backend, 2));
    let done = AtomicBool::new(false);
    for _ in 0..20 {
        let here = pool.as_ref().unwrap();
        done.store(false, Ordering::Relaxed);
        let mut future = None;
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        here.call(|guest| control(guest).sum(3)).unwrap().unwrap();
                        block_on(here.call_async(|guest| control(guest).sum(3))).unwrap().unwrap();
                    }
                });
            }
            let _end = SetAtEnd(&done);
            thread::sleep(Duration::from_millis(3));
            future.replace(here.call_async(|guest| control(guest).sum(3)));
            forked(|| {
                assert!(matches!(here.get(), Err(PoolError::Forked)));
                drop(future.take());
                here.close();
            });
        });
    }
    forked(|| drop(pool.take()));
}
