//! Random sequences of calls, failures, drops, resets and nested calls on the loopback, against
//! a plain model of the things that must exist on each side, and of every value that must arrive.
//!
//! `PROPTEST_CASES` makes a run longer, and `PROPTEST_RNG_SEED` repeats one. With `--nocapture` it
//! prints how often each operation occurred.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod act;
mod batch;
mod calls;
mod counts;
mod forge;
mod interface;
mod model;
mod ops;
mod reset;
mod value;
mod world;

use std::{
    cell::{Cell, RefCell},
    env,
    hash::{BuildHasher, RandomState},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Once},
    time::Instant,
};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use vmffi::{ErrorKind, PAGE_SIZE, Peer, SharedBuf, abi::Side, loopback::Loopback};

use counts::count;
use interface::Server;
use model::{Id, Place};
use ops::{Case, Top};
use world::{Error, World};

/// The number of cases if none is given, and the most steps of one.
const CASES: u32 = 256;
const LONGEST: usize = 400;

thread_local! {
    /// Whether this thread runs a case, and the first panic in it: a handler's panic comes before its
    /// caller's, who only learns that it occurred.
    static IN_CASE: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a case; returns the first panic. Nothing is printed while proptest reduces a case.
fn caught(case: &Case) -> Result<(), String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let old = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IN_CASE.get() {
                PANIC.with_borrow_mut(|first| _ = first.get_or_insert_with(|| info.to_string()));
            } else {
                old(info);
            }
        }));
    });
    IN_CASE.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| run(case)));
    IN_CASE.set(false);
    match (result, PANIC.take()) {
        (Ok(()), None) => Ok(()),
        (_, Some(panic)) => Err(panic),
        (Err(_), None) => Err("a panic has left its handler".into()),
    }
}

fn run(case: &Case) {
    let world = Arc::new(World::new(case.pages));
    let observe = |side| {
        let world = world.clone();
        move |error: &_| world.with(|state| state.told.push((side, Error::of(error))))
    };
    let [guest, host] = case.pages.map(|pages| pages * PAGE_SIZE);
    let mut pair = Loopback::builder()
        .arenas(guest, host)
        .observe(Side::Guest, observe(Side::Guest))
        .observe(Side::Host, observe(Side::Host))
        .build(Server::<false>(world.clone()), Server::<true>(world.clone()))
        .expect("a region");
    let compare = |pair: &Loopback| {
        world.compare(pair.host());
        world.compare(pair.guest());
    };
    let reset = |pair: &mut Loopback| {
        pair.reset();
        world.with(|state| state.model.reset());
    };
    for (nr, step) in case.steps.iter().enumerate() {
        match step {
            Top::By(Side::Guest, op) => _ = world.act(pair.host(), op),
            Top::By(Side::Host, op) => _ = world.act(pair.guest(), op),
            Top::Reset => {
                reset(&mut pair);
                count(|counts| counts.add("op: a reset"));
            }
        }
        PANIC.with_borrow(|first| assert!(first.is_none(), "in a handler"));
        if nr % case.every == 0 {
            compare(&pair);
        }
    }
    compare(&pair);

    // All handles are read once more and dropped, in some order; then all memory is free.
    for nth in case.last.iter().cycle() {
        let left: Vec<Id> = world.with(|state| state.reals.keys().copied().collect());
        if left.is_empty() {
            break;
        }
        world.drop_any(left[nth % left.len()]);
    }
    compare(&pair);
    let lost = world.with(|state| {
        let mut left = state.model.things.values();
        assert!(
            left.all(|thing| thing.place == Place::Lost),
            "the model has things that the crate does not have"
        );
        !state.model.things.is_empty()
    });
    if lost {
        reset(&mut pair);
    }
    let whole = |peer: &Peer| {
        let all = peer.arena_stats();
        assert_eq!((all.blocks, all.used), (0, 0));
        let whole = SharedBuf::zeroed(peer, all.capacity).expect("all memory as one block");
        let error = SharedBuf::zeroed(peer, 1).expect_err("no memory is left");
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        drop(whole);
    };
    whole(pair.host());
    whole(pair.guest());
    let ops = world.with(|state| state.ops);
    count(|counts| {
        counts.cases += 1;
        counts.steps += case.steps.len();
        counts.longest = counts.longest.max((case.steps.len(), ops));
    });
}

#[test]
fn the_crate_agrees_with_the_model() {
    // Failures are not saved to a file: a bug becomes a test with a name, or its seed repeats it.
    let mut config = Config { failure_persistence: None, ..Config::default() };
    config.max_shrink_time = 60_000;
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let enough = config.cases >= CASES;
    let seed = env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    // Each choice has its own generator, so that must be cheap to create.
    let bytes = [seed.to_le_bytes(), 1_u64.to_le_bytes()].concat();
    let rng = TestRng::from_seed(RngAlgorithm::XorShift, &bytes);
    let start = Instant::now();
    TestRunner::new_with_rng(config, rng)
        .run(&ops::cases(LONGEST), |case| caught(&case).map_err(TestCaseError::fail))
        .unwrap_or_else(|error| panic!("PROPTEST_RNG_SEED={seed}: {error}"));
    counts::report(start.elapsed(), enough);
}
