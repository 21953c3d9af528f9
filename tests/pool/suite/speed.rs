//! The cost of a lease, compared with a pool that is written by hand.

use std::{
    sync::{Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use sides::host::Host;
use vmffi::{
    Peer,
    host::RunOutcome,
    machine::{Backend, Machine},
};

use super::{Case, control, machine, pool};

pub const CASES: &[Case] = &[("as_fast_as_one_by_hand", by_hand)];

const THREADS: u32 = 4;
const TEXT: &str = "31 bytes, as in a short request";

/// A minimal pool.
struct ByHand {
    idle: Mutex<Vec<Machine>>,
    freed: Condvar,
}

impl ByHand {
    fn new(backend: Backend) -> Self {
        let make = |_| {
            let host = machine().build(backend, Host::default()).unwrap();
            assert_eq!(host.run(), Ok(RunOutcome::Ready));
            host
        };
        Self { idle: Mutex::new((0..THREADS).map(make).collect()), freed: Condvar::new() }
    }

    fn call<R>(&self, call: impl FnOnce(&Peer) -> R) -> R {
        let mut idle =
            self.freed.wait_while(self.idle.lock().unwrap(), |idle| idle.is_empty()).unwrap();
        let machine = idle.pop().unwrap();
        drop(idle);
        let result = call(machine.guest());
        machine.reset().unwrap();
        self.idle.lock().unwrap().push(machine);
        self.freed.notify_one();
        result
    }
}

/// The time of a call while this many threads call.
fn time(threads: u32, call: impl Fn() + Sync) -> Duration {
    let calls = 800 / threads;
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..calls).for_each(|_| call()));
        }
    });
    began.elapsed() / (calls * threads)
}

fn by_hand(backend: Backend) {
    assert_eq!(TEXT.len(), 31);
    let (pool, by_hand) = (pool(backend, THREADS as usize), ByHand::new(backend));
    let says = |guest: &Peer| assert!(control(guest).says(TEXT).is_ok());
    for threads in [1, THREADS] {
        let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
        for _ in 0..10 {
            ours = ours.min(time(threads, || pool.call(says).unwrap()));
            theirs = theirs.min(time(threads, || by_hand.call(says)));
        }
        println!("{backend}, {threads} threads: a call {ours:?}, of a pool by hand {theirs:?}");
        // Other programs vary the time by more than the difference.
        assert!(ours < theirs * 2, "{ours:?} {theirs:?}");
    }
}
