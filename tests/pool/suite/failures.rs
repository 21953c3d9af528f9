//! Machines that cannot be made.

use std::{
    error::Error,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use futures_executor::block_on;
use sides::{host::Host, shared::control::Crime};
use vmffi::{
    ConnectError,
    host::{GuestExit, Limits},
    machine::{Backend, MachineBuilder, Pool, PoolError},
};

use super::{Case, adds_up, builder, control, forks::forked, machine, pool, settled};

pub const CASES: &[Case] = &[
    ("a_first_guest_that_cannot_be_made", first),
    ("a_guest_that_does_not_start", does_not_start),
    ("a_guest_that_never_gets_ready", never_ready),
    ("more_guests_than_descriptors", few_descriptors),
    ("all_guests_die_at_once", all_die),
    ("no_guest_can_be_made_any_more", none_any_more),
    ("a_server_that_panics", server_panics),
    ("guests_that_cannot_be_reset", cannot_be_reset),
    ("threads_cannot_be_spawned", no_threads),
    ("no_further_thread_can_be_spawned", one_thread),
    ("a_lease_without_a_thread_for_its_deadline", no_deadlines),
];

/// Uses all descriptors but some, under a low limit, until it is dropped.
struct Descriptors(libc::rlimit, #[expect(dead_code, reason = "for its destructor")] Vec<OwnedFd>);

impl Descriptors {
    fn room_for(more: usize) -> Self {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the call writes to a valid struct.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut before) }, 0);
        Self::set(&libc::rlimit { rlim_cur: 200, ..before });
        let mut used: Vec<_> =
            std::iter::from_fn(|| io::stdin().as_fd().try_clone_to_owned().ok()).collect();
        used.truncate(used.len() - more);
        Self(before, used)
    }

    fn set(limit: &libc::rlimit) {
        // SAFETY: the call reads a valid struct.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) }, 0);
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        Self::set(&self.0);
    }
}

/// The host of a guest that panics during its startup while the flag is set.
fn unwilling(flag: &Arc<AtomicBool>) -> impl Fn() -> Host + Send + Sync + use<> {
    let flag = flag.clone();
    move || {
        let flag = flag.clone();
        Host::default().while_it_is_made(move || {
            if flag.load(Ordering::Relaxed) {
                std::panic::resume_unwind(Box::new("quietly"));
            }
        })
    }
}

fn first(backend: Backend) {
    let error = Pool::builder(&machine().vcpus(65), backend).build(Host::default).unwrap_err();
    assert!(matches!(error, PoolError::Machine(_)), "{error:?}");
    assert!(error.to_string().contains("vCPU"), "{error}");
    assert!(error.to_string().contains(&error.source().unwrap().to_string()));
    let few = Descriptors::room_for(0);
    let error = builder(backend).build(Host::default).unwrap_err();
    drop(few);
    assert!(error.to_string().contains("os error 24"), "{error}");
    drop(pool(backend, 1));
}

fn does_not_start(backend: Backend) {
    let flag = Arc::new(AtomicBool::new(true));
    let error = builder(backend).build(unwilling(&flag)).unwrap_err();
    let PoolError::Start(ConnectError::Exited(exit)) = &error else { panic!("{error:?}") };
    assert!(error.to_string().contains("panicked"), "{error}");
    assert!(matches!(exit, GuestExit::Exited { .. }));
    assert!(error.source().is_some());
}

/// The deadline of a call covers the start of a guest, too; and without one the pool can still be closed.
fn never_ready(backend: Backend) {
    let flag = Arc::new(AtomicBool::new(true));
    let stays = move || {
        let flag = flag.clone();
        Host::default().while_it_is_made(move || {
            if flag.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(40));
            }
        })
    };
    let limits = Limits::new().deadline(Duration::from_millis(10));
    let error = Pool::builder(&machine().limits(limits), backend).build(stays).unwrap_err();
    assert!(
        matches!(error, PoolError::Start(ConnectError::Exited(GuestExit::Deadline))),
        "{error:?}"
    );

    let (first, flag) = (AtomicBool::new(true), Arc::new(AtomicBool::new(true)));
    let goes_on = flag.clone();
    let (begun, begins) = mpsc::channel();
    let stays = move || {
        if first.swap(false, Ordering::Relaxed) {
            return Host::default();
        }
        let (flag, begun) = (flag.clone(), begun.clone());
        Host::default().while_it_is_made(move || {
            let _ = begun.send(());
            while flag.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let pool = builder(backend).size(2).build(stays).unwrap();
    begins.recv().unwrap();
    assert_eq!(pool.call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
    let began = Instant::now();
    drop(pool);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    goes_on.store(false, Ordering::Relaxed);
}

fn few_descriptors(backend: Backend) {
    let pool = pool(backend, 2);
    let few = Descriptors::room_for(1);
    let more = builder(backend).size(1).build(Host::default);
    assert!(more.is_err());
    drop(few);
    drop(pool);

    let pool = builder(backend).size(1).grow_to(50).build(Host::default).unwrap();
    let few = Descriptors::room_for(2);
    // A pool that cannot grow works with the guests that it has.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(pool.call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
                }
            });
        }
    });
    let metrics = pool.metrics();
    assert!((1..400).contains(&metrics.failures), "{metrics:?}");
    assert_eq!((metrics.made, metrics.leases), (1, 400));
    drop(few);
    let leases: Vec<_> =
        (0..10).map(|_| pool.get_timeout(Duration::from_secs(20)).unwrap()).collect();
    assert!(leases.iter().all(|lease| control(lease.guest()).sum(3) == Ok(6)));
}

fn all_die(backend: Backend) {
    let pool = pool(backend, 4);
    for _ in 0..5 {
        let leases: Vec<_> = (0..4).map(|_| pool.get().unwrap()).collect();
        for lease in &leases {
            control(lease.guest()).commit(Crime::Undefined, 0).unwrap_err();
        }
        drop(leases);
        assert_eq!(pool.call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
    }
    let metrics = settled(&pool, |metrics| metrics.idle == 4);
    assert_eq!((metrics.exits.fault, metrics.leases), (20, 25));
    adds_up(&metrics);
}

/// A pool without guests that cannot make any: callers get the error, waiting ones too, and the pool recovers.
fn none_any_more(backend: Backend) {
    let flag = Arc::new(AtomicBool::new(false));
    // The snapshot exceeds the memory, so no guest can be reset: each is replaced.
    let made = Arc::new(AtomicU32::new(0));
    let (server, count) = (unwilling(&flag), made.clone());
    let pool = Pool::builder(&no_snapshot(backend), backend).size(2);
    let pool = pool.build(move || (count.fetch_add(1, Ordering::Relaxed), server()).1).unwrap();
    settled(&pool, |metrics| metrics.idle == 2);
    let leases = vec![pool.get().unwrap(), pool.get().unwrap()];
    flag.store(true, Ordering::Relaxed);
    thread::scope(|scope| {
        let waits: Vec<_> = (0..4).map(|_| scope.spawn(|| pool.get())).collect();
        let task = pool.call_async(|_| ());
        settled(&pool, |metrics| metrics.waiting == 5);
        drop(leases);
        for waits in waits {
            assert!(matches!(waits.join().unwrap(), Err(PoolError::Start(_))));
        }
        assert!(matches!(block_on(task), Err(PoolError::Start(_))));
    });
    // Neither the callers nor the pool's thread spin.
    let (began, before) = (Instant::now(), made.load(Ordering::Relaxed));
    let mut errors = 0;
    while errors <= 20 || began.elapsed() < Duration::from_millis(500) {
        let error = pool.get().unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        errors += 1;
        thread::sleep(Duration::from_millis(1));
    }
    let tries = made.load(Ordering::Relaxed) - before;
    let most = 8 + 8 * began.elapsed().as_secs();
    assert!(u64::from(tries) <= most, "{tries} of {most}");
    flag.store(false, Ordering::Relaxed);
    let metrics = settled(&pool, |metrics| metrics.idle == 2);
    assert_eq!(pool.call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
    adds_up(&metrics);
}

fn server_panics(backend: Backend) {
    let flag = Arc::new(AtomicBool::new(false));
    let panics = flag.clone();
    let server = move || {
        if panics.load(Ordering::Relaxed) {
            std::panic::resume_unwind(Box::new("quietly"));
        }
        Host::default()
    };
    let pool = Pool::builder(&no_snapshot(backend), backend).build(server).unwrap();
    flag.store(true, Ordering::Relaxed);
    pool.call(|guest| control(guest).sum(3)).unwrap().unwrap();
    let error = pool.get().unwrap_err();
    assert!(matches!(error, PoolError::Server), "{error:?}");
    flag.store(false, Ordering::Relaxed);
    settled(&pool, |metrics| metrics.idle == 1);
}

fn cannot_be_reset(backend: Backend) {
    let pool = Pool::builder(&no_snapshot(backend), backend).size(2).build(Host::default).unwrap();
    for _ in 0..20 {
        assert_eq!(pool.call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
    }
    let metrics = settled(&pool, |metrics| metrics.idle == 2);
    assert_eq!((metrics.leases, metrics.resets, metrics.discarded, metrics.made), (20, 0, 20, 22));
    adds_up(&metrics);
}

/// A machine whose memory limit is too low for the snapshot.
fn no_snapshot(backend: Backend) -> MachineBuilder {
    // The least memory with which a machine can be built, to 4 KiB.
    let (mut less, mut enough) = (0_u64, 1 << 30);
    while enough - less > 4096 {
        let middle = (less + enough) / 2;
        match machine().memory(middle).build(backend, Host::default()) {
            Ok(_) => enough = middle,
            Err(_) => less = middle,
        }
    }
    machine().memory(enough)
}

/// This process, which runs only this case, can spawn no more threads.
fn spawn_no_more_threads() {
    // The limit does not apply to root.
    // SAFETY: the call takes an integer.
    let root = unsafe { libc::geteuid() } == 0;
    // SAFETY: the call takes an integer, and applies to all threads of this process.
    assert!(!root || unsafe { libc::setuid(65534) } == 0);
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call reads a valid struct.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &limit) }, 0);
}

/// No thread for tasks can be spawned: tasks get the error, and callers on their own threads are served.
fn no_threads(backend: Backend) {
    forked(|| {
        let pool = pool(backend, 1);
        spawn_no_more_threads();
        let lease = pool.get().unwrap();
        let calls = [(); 3].map(|()| pool.call_async(|guest| control(guest).sum(3)));
        drop(lease);
        for call in calls {
            let outcome = block_on(call);
            assert!(matches!(outcome, Err(PoolError::Thread(_))), "{outcome:?}");
        }
        let outcome = block_on(pool.call_async(|guest| control(guest).sum(3)));
        assert!(outcome.unwrap_err().to_string().contains("thread"));
        assert_eq!(pool.call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
        let metrics = pool.metrics();
        assert_eq!((metrics.idle, metrics.waiting, metrics.leases), (1, 0, 2));
    });
}

/// There is one thread for tasks, which is busy: no other task holds a guest while it waits for that thread.
fn one_thread(backend: Backend) {
    forked(|| {
        let pool = pool(backend, 2);
        let ((begun, begins), (end, ends)) = (mpsc::channel(), mpsc::channel());
        let lasts = pool.call_async(move |guest| {
            begun.send(()).unwrap();
            ends.recv().unwrap();
            control(guest).sum(3)
        });
        begins.recv().unwrap();
        spawn_no_more_threads();
        let outcome = block_on(pool.call_async(|guest| control(guest).sum(3)));
        assert!(matches!(outcome, Err(PoolError::Thread(_))), "{outcome:?}");
        // The same for waiting tasks: the guest goes to the next one.
        let lease = pool.get().unwrap();
        let tasks = [(); 1000].map(|()| pool.call_async(|guest| control(guest).sum(3)));
        drop(lease);
        for task in tasks {
            let outcome = block_on(task);
            assert!(matches!(outcome, Err(PoolError::Thread(_))), "{outcome:?}");
        }
        assert_eq!(pool.call(|guest| control(guest).sum(3)).unwrap(), Ok(6));
        end.send(()).unwrap();
        assert_eq!(block_on(lasts).unwrap(), Ok(6));
    });
}

/// A guest does not run if its limit cannot be set.
fn no_deadlines(backend: Backend) {
    forked(|| {
        let pool = builder(backend).lease_time(Duration::from_secs(20)).build(Host::default);
        let pool = pool.unwrap();
        spawn_no_more_threads();
        let lease = pool.get().unwrap();
        assert_eq!(lease.guest_exit(), Some(GuestExit::Deadline));
        drop(lease);
        // The guest's process was killed, since another user may not signal it, and cannot be replaced.
        let metrics = settled(&pool, |metrics| metrics.idle as u64 + metrics.discarded == 1);
        assert_eq!(metrics.leases, 1);
    });
}
