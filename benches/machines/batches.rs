//! Calls in a batch beside as many single calls, interleaved.

use std::time::{Duration, Instant};

use support::meter::{BATCH, LoadClient};
use vmffi::{Pending, machine::Backend};

use super::linux::{machine, started};

const ROUNDS: usize = 41;
/// How many batches one measurement has, and how many times as many single calls.
const AT_ONCE: u64 = 8;

/// The name of a row, single calls, and as many in batches.
type Row<'r> = (&'static str, Box<dyn Fn() + 'r>, Box<dyn Fn() + 'r>);

pub fn table(backend: Backend, title: &str) {
    let host = started(&machine(), backend);
    let load = &LoadClient::from(host.guest());
    let guest = host.guest();
    let calls = AT_ONCE * BATCH;
    let sum = (0..BATCH).sum::<u64>() * AT_ONCE;
    let rows: [Row<'_>; 4] = [
        (
            "hypercalls, a scalar",
            Box::new(move || assert_eq!(load.scalars(calls), Ok((0..calls).sum()))),
            Box::new(move || assert_eq!(load.scalars_in_batches(AT_ONCE), Ok(sum))),
        ),
        (
            "hypercalls, three parameters",
            Box::new(move || {
                assert_eq!(load.threes(calls), Ok((0..calls).sum::<u64>() + 3 * calls))
            }),
            Box::new(move || assert_eq!(load.threes_in_batches(AT_ONCE), Ok(sum + 3 * calls))),
        ),
        (
            "upcalls, a scalar",
            Box::new(move || (0..calls).for_each(|nr| assert_eq!(load.echo(nr), Ok(nr)))),
            Box::new(move || {
                for _ in 0..AT_ONCE {
                    let batch = guest.batch().expect("a batch");
                    let load = LoadClient::from(&batch);
                    let add = |nr| load.echo(nr).expect("a call");
                    let added: [Pending<u64>; BATCH as usize] =
                        std::array::from_fn(|nr| add(nr as u64));
                    let mut results = batch.send().expect("results");
                    for (nr, pending) in (0..).zip(added) {
                        assert_eq!(results.get(pending), Ok(nr));
                    }
                }
            }),
        ),
        (
            "upcalls, three parameters",
            Box::new(move || {
                (0..calls).for_each(|nr| assert_eq!(load.sum(nr, 1_u32, 2_u8), Ok(nr + 3)))
            }),
            Box::new(move || {
                for _ in 0..AT_ONCE {
                    let batch = guest.batch().expect("a batch");
                    let load = LoadClient::from(&batch);
                    let add = |nr| load.sum(nr, 1_u32, 2_u8).expect("a call");
                    let added: [Pending<u64>; BATCH as usize] =
                        std::array::from_fn(|nr| add(nr as u64));
                    let mut results = batch.send().expect("results");
                    for (nr, pending) in (0..).zip(added) {
                        assert_eq!(results.get(pending), Ok(nr + 3));
                    }
                }
            }),
        ),
    ];
    let mut times = vec![[const { Vec::new() }; 2]; rows.len()];
    for _ in 0..ROUNDS {
        for ((_, single, batched), times) in rows.iter().zip(&mut times) {
            for (run, times) in [single, batched].into_iter().zip(times) {
                let start = Instant::now();
                run();
                times.push(start.elapsed() / AT_ONCE as u32);
            }
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[ROUNDS / 2].as_secs_f64() * 1e6
    };
    println!(
        "\n| {backend}, {BATCH} calls{title} | one by one | in a batch | ratio |\n|---|---:|---:|---:|"
    );
    for ((name, ..), times) in rows.iter().zip(times) {
        let [single, batched] = times.map(median);
        println!("| {name} | {single:.1} µs | {batched:.1} µs | 1/{:.1} |", single / batched);
    }
}
