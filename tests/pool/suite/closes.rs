//! Closing a pool while it is in use.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use futures_executor::block_on;
use sides::host::Host;
use vmffi::{
    host::GuestExit,
    machine::{Backend, PoolError},
};

use super::{Case, adds_up, builder, control, pool, settled, spinner};

pub const CASES: &[Case] = &[
    ("the_end_of_a_busy_pool", everything),
    ("a_closed_pool", closed),
    ("a_lease_outlives_its_pool", outlives),
    ("the_end_does_not_wait_for_users", users),
    ("the_end_from_a_call_of_its_own", from_a_call),
];

/// Leases are held, callers wait, guests loop, on threads and for tasks.
fn everything(backend: Backend) {
    let mut times: Vec<_> = (0..10).map(|_| ends(backend)).collect();
    times.sort_unstable();
    println!("{backend}: the end took {:?}, at most {:?}", times[5], times[9]);
    // About 100 ms on an idle machine.
    assert!(times[9] < Duration::from_secs(20));
}

fn ends(backend: Backend) -> Duration {
    let (begun, begins) = mpsc::channel();
    let server = move || {
        let begun = begun.clone();
        Host::on_spin(move || begun.send(()).unwrap())
    };
    let pool = builder(backend).size(10).build(server).unwrap();
    settled(&pool, |metrics| metrics.idle == 10);
    let leases: Vec<_> = (0..2).map(|_| pool.get().unwrap()).collect();
    let took = thread::scope(|scope| {
        let loops: Vec<_> =
            (0..3).map(|_| scope.spawn(|| pool.call(|guest| control(guest).spin()))).collect();
        let tasks: Vec<_> =
            (0..3).map(|_| pool.call_async(|guest| control(guest).spin())).collect();
        (0..6).for_each(|_| begins.recv().unwrap());
        // Two guests are left for the threads that call.
        let busy = || {
            let mut calls = 0;
            loop {
                match pool.call(|guest| control(guest).sum(100)) {
                    Ok(_) => calls += 1,
                    Err(error) => return (calls, error),
                }
            }
        };
        let busy: Vec<_> = (0..4).map(|_| scope.spawn(busy)).collect();
        let waits: Vec<_> =
            (0..20).map(|_| pool.call_async(|guest| control(guest).spin())).collect();
        thread::sleep(Duration::from_millis(20));
        let began = Instant::now();
        pool.close();
        let took = began.elapsed();
        for thread in loops {
            let error = thread.join().unwrap().unwrap().unwrap_err();
            assert_eq!(error.guest_exit(), Some(&GuestExit::Stopped));
        }
        for task in tasks.into_iter().chain(waits) {
            match block_on(task) {
                Ok(error) => assert_eq!(error.unwrap_err().guest_exit(), Some(&GuestExit::Stopped)),
                Err(error) => assert!(matches!(error, PoolError::Closed), "{error:?}"),
            }
        }
        for thread in busy {
            let (_, error) = thread.join().unwrap();
            assert!(matches!(error, PoolError::Closed), "{error:?}");
        }
        took
    });
    let metrics = settled(&pool, |metrics| metrics.in_use == 2);
    assert_eq!((metrics.idle, metrics.waiting, metrics.resetting), (0, 0, 0));
    adds_up(&metrics);
    assert!(leases.iter().all(|lease| control(lease.guest()).sum(3) == Ok(6)));
    drop(leases);
    let metrics = pool.metrics();
    assert_eq!((metrics.in_use, metrics.made, metrics.discarded), (0, 10, 10));
    took
}

fn closed(backend: Backend) {
    let pool = pool(backend, 2);
    pool.close();
    pool.close();
    assert!(matches!(pool.get(), Err(PoolError::Closed)));
    assert!(matches!(pool.get_timeout(Duration::ZERO), Err(PoolError::Closed)));
    assert!(matches!(pool.call(|_| ()), Err(PoolError::Closed)));
    assert!(matches!(block_on(pool.call_async(|_| ())), Err(PoolError::Closed)));
    assert_eq!(PoolError::Closed.to_string(), "the pool is closed");
    assert_eq!((pool.metrics().made, pool.metrics().discarded), (2, 2));
}

fn outlives(backend: Backend) {
    let pool = pool(backend, 2);
    let lease = pool.get().unwrap();
    let future = pool.call_async(|guest| control(guest).sum(3));
    drop(pool);
    assert_eq!(control(lease.guest()).sum(3), Ok(6));
    lease.reset().unwrap();
    assert_eq!(control(lease.guest()).sum(3), Ok(6));
    drop(lease);
    let _ = block_on(future);
}

fn users(backend: Backend) {
    let (go, goes) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    let pool = pool(backend, 1);
    let call = pool.call_async(move |_| {
        begun.send(()).unwrap();
        let _ = goes.recv();
        7
    });
    begins.recv().unwrap();
    let began = Instant::now();
    drop(pool);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    drop(go);
    assert_eq!(block_on(call).unwrap(), 7);
}

fn from_a_call(backend: Backend) {
    let (pool, begins) = spinner(backend);
    drop(begins);
    let pool = Arc::new(pool);
    let (send, took) = mpsc::channel();
    let (own, later) = (pool.clone(), Arc::new(std::sync::Barrier::new(2)));
    let wait = later.clone();
    let call = pool.call_async(move |_| {
        wait.wait();
        let began = Instant::now();
        drop(own);
        send.send(began.elapsed()).unwrap();
    });
    drop(pool);
    later.wait();
    assert!(took.recv().unwrap() < Duration::from_secs(20));
    block_on(call).unwrap();
}
