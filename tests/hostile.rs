//! A hostile guest against its host, and a hostile host against its guest: whatever is written into
//! the region and whatever words a call has, a side answers correctly or with an error,
//! reads nothing outside, does not panic, and loses no block of its own.
#![cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

/// The modules in the folder `tests/hostile`.
mod hostile {
    mod aimed;
    pub mod attack;
    mod forged;
    mod storms;
}

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use support::{interface, liar, region};
use vmffi::abi::Side;

use hostile::attack::{CALLS, Field, GOOD, ops};

/// Prints the totals of all tests so far.
fn report(what: &str) {
    let all = [&CALLS, &GOOD, &region::WRITES, &interface::READ, &liar::LIES];
    let [calls, good, writes, read, lies] =
        all.map(|count: &AtomicUsize| count.load(Ordering::Relaxed));
    println!(
        "{what}; in this program so far: {calls} raw calls ({good} good), {writes} writes by \
         attackers, {read} bytes and values read by handlers, {lies} answers by liars"
    );
}

fn attack(victim: Side) {
    let config = Config { cases: 800, failure_persistence: None, ..Config::default() };
    let cases = config.cases;
    let mut steps = 0;
    let steps_of = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&(ops(), any::<u64>()), |(ops, seed)| {
            let field = Field::new(victim, (32 << 10, 32 << 10), seed);
            for op in &ops {
                field.step(op);
            }
            steps_of.set(steps_of.get() + ops.len());
            field.assert_restored();
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    steps += steps_of.get();
    report(&format!("a hostile {}: {cases} attacks, {steps} steps", victim.other()));
}

#[test]
fn a_hostile_guest() {
    attack(Side::Host);
}

#[test]
fn a_hostile_host() {
    attack(Side::Guest);
}
