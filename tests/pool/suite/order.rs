//! Waiting callers get guests in the order of their arrival.

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use sides::host::Host;
use vmffi::machine::{Backend, PoolError};

use super::{Case, builder, pool, settled};

pub const CASES: &[Case] = &[
    ("threads_and_tasks_in_one_order", one_order),
    ("a_cancelled_waiter_delays_no_other", who_leaves),
    ("no_thread_starves", no_thread_starves),
];

fn one_order(backend: Backend) {
    let pool = pool(backend, 1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let lease = pool.get().unwrap();
    let mut tasks = Vec::new();
    thread::scope(|scope| {
        for nr in 0..30_usize {
            let (order, pool) = (order.clone(), &pool);
            match nr % 3 {
                0 => drop(
                    scope.spawn(move || pool.call(|_| order.lock().unwrap().push(nr)).unwrap()),
                ),
                1 => drop(scope.spawn(move || {
                    let _lease = pool.get_timeout(Duration::from_secs(20)).unwrap();
                    order.lock().unwrap().push(nr);
                })),
                _ => tasks.push(pool.call_async(move |_| order.lock().unwrap().push(nr))),
            }
            settled(pool, |metrics| metrics.waiting == nr + 1);
        }
        drop(lease);
    });
    tasks.into_iter().for_each(|task| futures_executor::block_on(task).unwrap());
    assert_eq!(*order.lock().unwrap(), (0..30).collect::<Vec<_>>());
    assert_eq!(pool.metrics().leases, 31);
}

fn who_leaves(backend: Backend) {
    let pool = pool(backend, 1);
    let lease = pool.get().unwrap();
    let (order, ran) = (Mutex::new(Vec::new()), Arc::new(Mutex::new(0)));
    thread::scope(|scope| {
        let mut tasks = Vec::new();
        let mut leave = Vec::new();
        for nr in 0..10 {
            let (order, pool) = (&order, &pool);
            scope.spawn(move || pool.call(|_| order.lock().unwrap().push(nr)).unwrap());
            settled(pool, |metrics| metrics.waiting == 3 * nr + 1);
            leave.push(scope.spawn(|| pool.get_timeout(Duration::from_secs(5))));
            settled(pool, |metrics| metrics.waiting == 3 * nr + 2);
            let ran = ran.clone();
            tasks.push(pool.call_async(move |_| *ran.lock().unwrap() += 1));
            settled(pool, |metrics| metrics.waiting == 3 * nr + 3);
        }
        drop(tasks);
        for left in leave {
            assert!(matches!(left.join().unwrap(), Err(PoolError::Timeout)));
        }
        assert_eq!(pool.metrics().waiting, 10);
        drop(lease);
    });
    assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
    assert_eq!(*ran.lock().unwrap(), 0);
}

/// Eight threads take two guests repeatedly: each gets its share.
fn no_thread_starves(backend: Backend) {
    let pool = builder(backend).size(2).build(Host::default).unwrap();
    let (begin, calls) = (Barrier::new(8), AtomicU32::new(0));
    let mut counts: Vec<u32> = thread::scope(|scope| {
        let take = || {
            begin.wait();
            let more = || calls.fetch_add(1, Ordering::Relaxed) < 4000;
            (0..).take_while(|_| more() && pool.call(|_| ()).is_ok()).count() as u32
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    counts.sort_unstable();
    assert!(counts[0] * 2 + 20 >= counts[7], "{counts:?}");
}
