//! Calls of tasks, on several runtimes, and their cancellation.

use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use futures_executor::block_on;
use sides::{host::Host, shared::state::StateClient};
use vmffi::{
    ErrorKind,
    host::GuestExit,
    machine::{Backend, Pool, PoolError},
};

use super::{Case, SetAtEnd, adds_up, builder, control, pool, settled, spinner};

pub const CASES: &[Case] = &[
    ("tasks_of_futures_executor", executor),
    ("tasks_of_tokio", tokio),
    ("no_more_threads_than_guests", threads),
    ("a_panic_reaches_the_task", panics),
    ("a_call_of_a_guest_that_dies", dies),
    ("a_future_that_is_polled_again", polled_again),
    ("a_cancelled_call_that_waits_never_runs", cancelled_while_waiting),
    ("a_cancelled_call_is_stopped", cancelled),
    ("a_cancelled_guest_is_free_soon", free_soon),
    ("no_task_waits_for_a_cancelled_closure", closure_goes_on),
    ("cancelled_at_any_moment", any_moment),
];

fn executor(backend: Backend) {
    let pool = pool(backend, 2);
    let calls = |nr| pool.call_async(move |guest| control(guest).sum(nr));
    let calls: Vec<_> = (0..100).map(calls).collect();
    for (nr, call) in (0..).zip(calls) {
        assert_eq!(block_on(call).unwrap(), Ok(nr * (nr + 1) / 2));
    }
    let metrics = settled(&pool, |metrics| metrics.idle == 2);
    assert_eq!((metrics.leases, metrics.resets), (100, 100));
    adds_up(&metrics);
}

fn tokio(backend: Backend) {
    let current = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let several =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    for runtime in [current, several.unwrap()] {
        let pool = Arc::new(builder(backend).size(3).build(Host::default).unwrap());
        runtime.block_on(async {
            let tasks: Vec<_> = (0..50)
                .map(|nr| {
                    let pool = pool.clone();
                    tokio::spawn(async move {
                        pool.call_async(move |guest| control(guest).sum(nr)).await
                    })
                })
                .collect();
            for (nr, task) in (0..).zip(tasks) {
                assert_eq!(task.await.unwrap().unwrap(), Ok(nr * (nr + 1) / 2));
            }
            // The timeout drops the future.
            let spins = pool.call_async(|guest| control(guest).spin());
            let limit = Duration::from_millis(20);
            tokio::time::timeout(limit, spins).await.unwrap_err();
            let sum = pool.call_async(|guest| control(guest).sum(3)).await;
            assert_eq!(sum.unwrap(), Ok(6));
        });
        let metrics = settled(&pool, |metrics| metrics.idle == 3);
        assert_eq!((metrics.leases, metrics.exits.stopped), (52, 1));
    }
}

fn threads(backend: Backend) {
    let named = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.flat_map(|task| std::fs::read_to_string(task.path().join("comm")));
        names.filter(|name| name.trim() == "vmffi calls").count()
    };
    let pool = builder(backend).size(1).grow_to(3).build(Host::default).unwrap();
    assert_eq!(named(), 0, "no thread before the first call");
    let (go, goes) = mpsc::channel::<()>();
    let goes = Arc::new(std::sync::Mutex::new(goes));
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let goes = goes.clone();
            pool.call_async(move |_| goes.lock().unwrap().recv().unwrap_or_default())
        })
        .collect();
    settled(&pool, |metrics| (metrics.in_use, metrics.waiting) == (3, 17));
    assert!((1..=3).contains(&named()), "{}", named());
    drop(go);
    calls.into_iter().for_each(|call| block_on(call).unwrap());
    assert!(named() <= 3);
    drop(pool);
    // The kernel lists a thread for a short time after it has ended.
    let patience = Instant::now() + Duration::from_secs(20);
    while named() != 0 {
        assert!(Instant::now() < patience, "the threads end with the pool");
        thread::sleep(Duration::from_micros(200));
    }
}

fn panics(backend: Backend) {
    let pool = pool(backend, 1);
    let call = pool.call_async(|guest| {
        StateClient::from(guest).count(1).unwrap();
        panic::resume_unwind(Box::new("quietly"))
    });
    let panic = panic::catch_unwind(AssertUnwindSafe(|| block_on(call))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"quietly"));
    let count = block_on(pool.call_async(|guest| StateClient::from(guest).count(0)));
    assert_eq!(count.unwrap(), Ok(3));
}

fn dies(backend: Backend) {
    let pool = pool(backend, 1);
    let error = block_on(pool.call_async(|guest| control(guest).panics("no milk")));
    assert!(matches!(error.unwrap().unwrap_err().guest_exit(), Some(GuestExit::Exited { .. })));
    assert_eq!(block_on(pool.call_async(|guest| control(guest).sum(3))).unwrap(), Ok(6));
}

fn polled_again(backend: Backend) {
    let pool = pool(backend, 1);
    let mut call = pin!(pool.call_async(|guest| control(guest).sum(3)));
    assert_eq!(block_on(call.as_mut()).unwrap(), Ok(6));
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(call.as_mut().poll(&mut context), Poll::Pending));
}

fn cancelled_while_waiting(backend: Backend) {
    let pool = pool(backend, 1);
    let ran = Arc::new(AtomicBool::new(false));
    let lease = pool.get().unwrap();
    let held = Arc::new(());
    let (runs, holds) = (ran.clone(), held.clone());
    let call = pool.call_async(move |_| (runs.store(true, Ordering::Relaxed), drop(holds)));
    assert_eq!(pool.metrics().waiting, 1);
    drop(call);
    assert_eq!((pool.metrics().waiting, Arc::strong_count(&held)), (0, 1));
    drop(lease);
    pool.call(|_| ()).unwrap();
    assert!(!ran.load(Ordering::Relaxed));
}

fn cancelled(backend: Backend) {
    let (pool, begins) = spinner(backend);
    let (send, error) = mpsc::channel();
    let call = pool.call_async(move |guest| {
        send.send(control(guest).spin().unwrap_err()).unwrap();
        // Then no other call to it is possible.
        send.send(control(guest).sum(3).unwrap_err()).unwrap();
    });
    begins.recv().unwrap();
    drop(call);
    for _ in 0..2 {
        let error = error.recv().unwrap();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(error.guest_exit(), Some(&GuestExit::Stopped));
    }
    assert_eq!(pool.call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
    assert_eq!(pool.metrics().exits.stopped, 1);
}

/// The time from the drop of the future to when the looping guest can be used again.
fn free_soon(backend: Backend) {
    let (pool, begins) = spinner(backend);
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let call = pool.call_async(|guest| control(guest).spin());
            begins.recv().unwrap();
            thread::sleep(Duration::from_micros(300));
            let began = Instant::now();
            drop(call);
            drop(pool.get().unwrap());
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!(
        "{backend}: from the drop to a free guest, median {:?}, most {:?}",
        times[100], times[199]
    );
    // The fastest, since any of them may have waited for a processor.
    assert!(times[0] < Duration::from_millis(2), "{:?}", times[0]);
}

/// A closure that does not return holds its guest, and nothing else.
fn closure_goes_on(backend: Backend) {
    let pool = pool(backend, 2);
    let (go, goes) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    let call = pool.call_async(move |_| {
        begun.send(()).unwrap();
        let _ = goes.recv();
    });
    begins.recv().unwrap();
    drop(call);
    for _ in 0..10 {
        assert_eq!(pool.call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
    }
    assert_eq!(pool.metrics().in_use, 1);
    drop(go);
    settled(&pool, |metrics| metrics.idle == 2);
}

/// Futures are dropped before, during and after their calls, and the next user of the guest is never stopped.
fn any_moment(backend: Backend) {
    let pool = pool(backend, 2);
    let rounds: u32 = std::env::var("VMFFI_CANCELS").map_or(10_000, |text| text.parse().unwrap());
    let ran = Arc::new(AtomicU32::new(0));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut calls = 0_u64;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(pool.call(|guest| control(guest).sum(2)).unwrap(), Ok(3));
                calls += 1;
            }
            calls
        });
        let end = SetAtEnd(&done);
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..rounds {
            let runs = ran.clone();
            let call = pool.call_async(move |guest| {
                runs.fetch_add(1, Ordering::Relaxed);
                control(guest).sum(3)
            });
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let until = Instant::now() + Duration::from_nanos((random >> 33) % 60_000);
            match round % 8 {
                // Some run to completion.
                0 => assert_eq!(block_on(call).unwrap(), Ok(6)),
                _ => {
                    while Instant::now() < until {
                        core::hint::spin_loop();
                    }
                    drop(call);
                }
            }
        }
        drop(end);
        assert!(others.join().unwrap() > 0);
    });
    let metrics = settled(&pool, |metrics| metrics.idle == 2);
    assert_eq!(metrics.exits.stopped, metrics.exits.total(), "{metrics:?}");
    println!(
        "{backend}: of {rounds} calls {} ran, {} were stopped",
        ran.load(Ordering::Relaxed),
        metrics.exits.stopped
    );
    adds_up(&metrics);
}

/// The future is `Send`, and can be held by any task.
const _: fn() = || {
    fn is<T: Send + Unpin + 'static>(_: impl FnOnce(Pool) -> T) {}
    is(|pool| pool.call_async(|_| Ok::<u32, PoolError>(1)));
};
