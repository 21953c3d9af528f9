//! Leased guests: what a holder may do, and the state that the next holder finds.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use sides::{host::Host, shared::state::StateClient};
use vmffi::{
    ErrorKind, ForeignBuf,
    host::{GuestExit, Limits},
    machine::{Backend, PoolError},
};

use super::{Case, adds_up, builder, control, machine, pool, settled};

pub const CASES: &[Case] = &[
    ("a_call_in_a_few_lines", few_lines),
    ("a_lease_is_a_machine", is_a_machine),
    ("each_lease_finds_a_new_life", new_life),
    ("no_lease_begins_at_the_checkpoint_of_another", checkpoints),
    ("handles_are_stale_after_the_call", stale),
    ("a_panic_is_passed_on", panics),
    ("a_guest_that_died_is_replaced", died),
    ("each_exit_is_counted", exits),
    ("limits_apply_to_each_call", limits),
    ("the_time_of_a_lease_is_limited", lease_time),
    ("the_time_of_a_lease_ends_with_it", lease_time_ends),
    ("a_late_stopper_has_no_effect", late_stopper),
    ("a_wait_ends_in_time", timeout),
    ("invalid_sizes", sizes),
    ("the_pool_grows_and_shrinks", grows),
    ("the_last_used_guest_is_next", warmest),
];

fn few_lines(backend: Backend) {
    let pool = builder(backend).size(2).build(Host::default).unwrap();
    let sum = pool.call(|guest| control(guest).sum(3)).unwrap().unwrap();
    assert_eq!(sum, 6);
}

fn checkpoints(backend: Backend) {
    let pool = pool(backend, 1);
    let count = |by| pool.call(|guest| StateClient::from(guest).count(by)).unwrap();
    assert_eq!(count(5), Ok(8));
    // A call that does not change the state.
    drop(pool.get().unwrap().snapshot().unwrap());
    assert_eq!(count(5), Ok(8));
    assert_eq!(pool.metrics().discarded, 0);
    for (number, dies) in [(1, false), (2, true)] {
        let lease = pool.get().unwrap();
        assert_eq!(StateClient::from(lease.guest()).count(5), Ok(8));
        lease.checkpoint().unwrap();
        lease.reset().unwrap();
        assert_eq!(StateClient::from(lease.guest()).count(5), Ok(13));
        if dies {
            lease.stopper().stop();
        }
        drop(lease);
        assert_eq!(count(5), Ok(8));
        let metrics = settled(&pool, |metrics| metrics.idle == 1);
        assert_eq!((metrics.discarded, metrics.made), (number, 1 + number));
        adds_up(&metrics);
    }
}

fn is_a_machine(backend: Backend) {
    let pool = pool(backend, 1);
    let lease = pool.get().unwrap();
    assert_eq!(StateClient::from(lease.guest()).count(5), Ok(8));
    lease.reset().unwrap();
    assert_eq!(StateClient::from(lease.guest()).count(5), Ok(8));
    let guest = lease.with_deadline(Duration::from_secs(20));
    assert_eq!(StateClient::from(guest.guest()).count(5), Ok(13));
    let metrics = pool.metrics();
    assert_eq!((metrics.in_use, metrics.idle, metrics.leases), (1, 0, 0));
    // A lease may be dropped on another thread.
    thread::spawn(move || drop(lease)).join().unwrap();
    let metrics = pool.metrics();
    assert_eq!((metrics.in_use, metrics.idle, metrics.leases, metrics.resets), (0, 1, 1, 1));
    assert!(metrics.lease_time > Duration::ZERO);
    adds_up(&metrics);
}

fn new_life(backend: Backend) {
    let pool = pool(backend, 1);
    for _ in 0..100 {
        let count = pool.call(|guest| StateClient::from(guest).count(1)).unwrap();
        assert_eq!(count, Ok(4));
    }
    assert_eq!((pool.metrics().leases, pool.metrics().resets, pool.metrics().made), (100, 100, 1));
}

fn stale(backend: Backend) {
    let server = || Host::with_gift(b"a gift");
    let pool = builder(backend).build(server).unwrap();
    let gift = |guest: &vmffi::Peer| -> ForeignBuf {
        let gift = StateClient::from(guest).gift().unwrap();
        assert_eq!(gift.read_vec().unwrap(), b"a gift");
        gift
    };
    let gift = pool.call(gift).unwrap();
    assert_eq!(gift.read_vec().unwrap_err().kind(), ErrorKind::Stale);
}

fn panics(backend: Backend) {
    let pool = pool(backend, 1);
    for _ in 0..3 {
        let call = || {
            pool.call(|guest| {
                StateClient::from(guest).count(1).unwrap();
                panic::resume_unwind(Box::new("quietly"))
            })
        };
        let panic = panic::catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"quietly"));
        assert_eq!(pool.call(|guest| StateClient::from(guest).count(0)).unwrap(), Ok(3));
    }
    assert_eq!((pool.metrics().resets, pool.metrics().made), (6, 1));
}

fn died(backend: Backend) {
    let pool = pool(backend, 1);
    for _ in 0..10 {
        let error = pool.call(|guest| control(guest).panics("no milk")).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerDied);
        assert!(error.to_string().contains("no milk"), "{error}");
        // The next caller waits for the replacement.
        assert_eq!(pool.call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
    }
    let metrics = pool.metrics();
    assert_eq!((metrics.leases, metrics.exits.exited, metrics.exits.total()), (20, 10, 10));
    adds_up(&metrics);
}

fn exits(backend: Backend) {
    use sides::shared::control::Crime;

    let limits = Limits::new().calls(20).deadline(Duration::from_secs(20));
    let pool = super::Pool::builder(&machine().limits(limits), backend);
    let pool = pool.build(Host::default).unwrap();
    let lease = pool.get().unwrap();
    control(lease.guest()).panics("no milk").unwrap_err();
    drop(lease);
    let lease = pool.get().unwrap();
    control(lease.guest()).commit(Crime::Undefined, 0).unwrap_err();
    assert!(matches!(lease.guest_exit(), Some(GuestExit::Fault(_))));
    drop(lease);
    let lease = pool.get().unwrap();
    control(lease.guest()).sum(21).unwrap_err();
    drop(lease);
    let lease = pool.get().unwrap();
    lease.stopper().stop();
    assert_eq!(lease.guest_exit(), Some(GuestExit::Stopped));
    drop(lease);
    let lease = pool.get().unwrap();
    control(lease.with_deadline(Duration::from_millis(1)).guest()).spin().unwrap_err();
    drop(lease);
    let metrics = settled(&pool, |metrics| metrics.idle == 1);
    let exits = &metrics.exits;
    let counts = [exits.exited, exits.fault, exits.too_many_calls, exits.stopped, exits.deadline];
    assert_eq!((counts, exits.total(), metrics.leases), ([1; 5], 5, 5));
    adds_up(&metrics);
}

fn limits(backend: Backend) {
    let limits = Limits::new().calls(10).deadline(Duration::from_secs(1));
    let pool = super::Pool::builder(&machine().limits(limits), backend);
    let pool = pool.build(Host::default).unwrap();
    // Each call has the full limits.
    let sums = pool.call(|guest| [(); 5].map(|()| control(guest).sum(10))).unwrap();
    assert_eq!(sums, [Ok(55), Ok(55), Ok(55), Ok(55), Ok(55)]);
    let began = Instant::now();
    let error = pool.call(|guest| control(guest).spin()).unwrap().unwrap_err();
    assert_eq!(error.guest_exit(), Some(&GuestExit::Deadline));
    assert!(began.elapsed() >= Duration::from_secs(1));
}

fn lease_time(backend: Backend) {
    let pool = builder(backend).lease_time(Duration::from_secs(1)).build(Host::default).unwrap();
    // One long call, and many short ones.
    let began = Instant::now();
    let error = pool.call(|guest| control(guest).spin()).unwrap().unwrap_err();
    assert_eq!(error.guest_exit(), Some(&GuestExit::Deadline));
    let lease = pool.get().unwrap();
    let error = loop {
        if let Err(error) = control(lease.guest()).sum(3) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(lease.guest_exit(), Some(GuestExit::Deadline));
    assert!(began.elapsed() >= Duration::from_secs(2));
    drop(lease);
    assert_eq!(pool.call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
    assert_eq!(pool.metrics().exits.deadline, 2);
}

/// A lease that ends at its time limit has no effect on the next one.
fn lease_time_ends(backend: Backend) {
    let limit = Duration::from_micros(500);
    let pool = builder(backend).lease_time(limit).build(Host::default).unwrap();
    let (mut good, mut late) = (0, 0);
    for round in 0.. {
        if good == 250 {
            break;
        }
        let lease = pool.get().unwrap();
        let until =
            Instant::now() + limit + Duration::from_micros(round % 50) - Duration::from_micros(45);
        while Instant::now() < until {}
        drop(lease);
        let began = Instant::now();
        let lease = pool.get().unwrap();
        let sum = control(lease.guest()).sum(1);
        good += u32::from(sum.is_ok());
        late += u32::from(sum.is_err());
        // Its own time may be over, if this thread was not scheduled.
        assert!(sum.is_ok() || began.elapsed() >= limit, "{sum:?}");
        assert!(late < 20_000, "{good} in time");
    }
}

fn late_stopper(backend: Backend) {
    let pool = pool(backend, 1);
    let lease = pool.get().unwrap();
    let stopper = lease.stopper();
    drop(lease);
    let lease = pool.get().unwrap();
    stopper.stop();
    assert_eq!(control(lease.guest()).sum(3), Ok(6));
    drop((lease, pool));
    stopper.stop();
}

fn timeout(backend: Backend) {
    let pool = pool(backend, 1);
    let lease = pool.get_timeout(Duration::ZERO).unwrap();
    for wait in [0, 1, 30] {
        let (wait, began) = (Duration::from_millis(wait), Instant::now());
        assert!(matches!(pool.get_timeout(wait), Err(PoolError::Timeout)));
        assert!(began.elapsed() >= wait);
    }
    assert_eq!(pool.metrics().waiting, 0);
    thread::scope(|scope| {
        let waits = scope.spawn(|| pool.get_timeout(Duration::MAX).unwrap());
        settled(&pool, |metrics| metrics.waiting == 1);
        drop(lease);
        waits.join().unwrap();
    });
    assert_eq!((pool.metrics().waiting, pool.metrics().idle), (0, 1));
}

fn sizes(backend: Backend) {
    for builder in [builder(backend).size(0), builder(backend).size(3).grow_to(2)] {
        let error = builder.build(Host::default).unwrap_err();
        assert!(matches!(error, PoolError::Config(_)), "{error:?}");
        assert!(error.to_string().contains("PoolBuilder::size"), "{error}");
    }
}

fn grows(backend: Backend) {
    let pool = builder(backend).size(2).grow_to(5).build(Host::default).unwrap();
    let leases: Vec<_> =
        (0..5).map(|_| pool.get_timeout(Duration::from_secs(20)).unwrap()).collect();
    assert!(matches!(pool.get_timeout(Duration::from_millis(20)), Err(PoolError::Timeout)));
    let metrics = pool.metrics();
    assert_eq!((metrics.made, metrics.in_use), (5, 5));
    drop(leases);
    let metrics = settled(&pool, |metrics| metrics.idle == 2);
    assert_eq!((metrics.made, metrics.discarded), (5, 3));
    adds_up(&metrics);
    // The remaining guests are the most recently used ones, and work.
    let leases = [pool.get().unwrap(), pool.get().unwrap()];
    assert!(leases.iter().all(|lease| control(lease.guest()).sum(3) == Ok(6)));
}

fn warmest(backend: Backend) {
    let texts = Mutex::new([b"first".as_slice(), b"second"].into_iter());
    let server = move || Host::with_gift(texts.lock().unwrap().next().unwrap());
    let pool = builder(backend).size(2).build(server).unwrap();
    settled(&pool, |metrics| metrics.idle == 2);
    let name = |guest: &vmffi::Peer| StateClient::from(guest).gift().unwrap().read_vec().unwrap();
    let (a, b) = (pool.get().unwrap(), pool.get().unwrap());
    let (first, second) = (name(a.guest()), name(b.guest()));
    assert_ne!(first, second);
    drop(b);
    drop(a);
    for _ in 0..3 {
        assert_eq!(pool.call(name).unwrap(), first);
    }
}
