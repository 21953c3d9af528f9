//! A hostile guest against its host, and a hostile host against its guest: whatever is written into
//! the region and whatever is called with whatever words, a side answers with an error or rightly,
//! reads nothing outside, does not panic, and loses no block of its own.
#![cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

#[path = "hostile/aimed.rs"]
mod aimed;
#[path = "hostile/attack.rs"]
mod attack;
#[path = "hostile/forged.rs"]
mod forged;
#[path = "hostile/interface.rs"]
mod interface;
#[path = "hostile/liar.rs"]
mod liar;
#[path = "hostile/region.rs"]
mod region;
#[path = "hostile/storms.rs"]
mod storms;

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use vmffi::abi::Side;

use attack::{CALLS, Field, GOOD, ops};

/// Prints what all tests together have done so far.
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
