//! One suite over five connections: the loopback, a process, a virtual machine, and clones of these two. All of them
//! run the same guest and the same calls.
//!
//! On a clone a case cannot see what the guest does before it waits. Of the others, those about lives, memory, registers,
//! loans and stops run on clones each time, and all of them with `VMFFI_CLONES=1` in the environment.
//!
//! If a requirement of a connection is missing, its cases are listed as ignored, and the last lines say
//! why. With `CI=true` in the environment only `/dev/kvm` may be missing.

mod boot;
mod calls;
mod checkpoints;
mod connection;
mod cpu_time;
mod ends;
mod faults;
mod limits;
mod lives;
mod loads;
mod many;
mod races;
mod random;
mod resets;
mod snapshots;
mod stops;
mod suspended;
mod threads;
mod traces;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use libtest_mimic::{Arguments, Trial};
use sides::{host, shared};
use support::{
    guests, left,
    skips::{is_skipped, may_skip},
    times::{slower, timed},
};

use connection::On;

/// A case, and the connections for which it is meant.
pub struct Case {
    name: String,
    on: fn(On) -> bool,
    run: Arc<dyn Fn(On) + Send + Sync>,
}

impl Case {
    fn new(
        name: impl Into<String>,
        on: fn(On) -> bool,
        run: impl Fn(On) + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), on, run: Arc::new(run) }
    }
}

/// A connection in the summary.
struct Line {
    on: On,
    cases: usize,
    ran: Arc<AtomicUsize>,
    missing: Option<String>,
}

pub fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One after the other, since each case checks what it leaves behind.
    arguments.test_threads = Some(1);
    let all_on_clones = std::env::var_os("VMFFI_CLONES").is_some();
    // Whether the cases of a group always run on clones.
    let cases: Vec<(bool, Case)> = [
        (false, boot::cases()),
        (false, calls::cases()),
        (true, ends::cases()),
        (false, faults::cases()),
        (true, stops::cases()),
        (false, suspended::cases()),
        (true, resets::cases()),
        (true, checkpoints::cases()),
        (true, snapshots::cases()),
        (false, races::cases()),
        (false, limits::cases()),
        (false, cpu_time::cases()),
        (true, lives::cases()),
        (true, threads::cases()),
        (false, many::cases()),
        (false, loads::cases()),
        (false, random::cases()),
        (false, traces::cases()),
    ]
    .into_iter()
    .flat_map(|(clones, cases)| cases.into_iter().map(move |case| (clones, case)))
    .filter(|(_, case)| !is_skipped("machines", &case.name))
    .collect();

    let (mut trials, mut lines) = (Vec::new(), Vec::new());
    for on in On::all() {
        let missing = on.missing();
        let ran = Arc::new(AtomicUsize::new(0));
        let before = trials.len();
        let is_on = |(clones, case): &&(bool, Case)| {
            (case.on)(on) && (!on.is_clone() || *clones || all_on_clones)
        };
        for (_, case) in cases.iter().filter(is_on) {
            let (run, ran) = (case.run.clone(), ran.clone());
            let trial = Trial::test(format!("{on}: {}", case.name), move || {
                ran.fetch_add(1, Ordering::Relaxed);
                // The image is parsed once, and stays in memory.
                connection::image();
                left::nothing(|| run(on));
                Ok(())
            });
            trials.push(trial.with_ignored_flag(missing.is_some()));
        }
        lines.push(Line { on, cases: trials.len() - before, ran, missing });
    }

    let listed = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if listed {
        return ExitCode::SUCCESS;
    }
    let mut may_be_missing = true;
    for Line { on, cases, ran, missing } in &lines {
        let ran = ran.load(Ordering::Relaxed);
        match missing {
            None => println!("{on}: {ran} of {cases} cases have run"),
            Some(why) => {
                println!("{on}: all {cases} cases are skipped: {why}");
                may_be_missing &= may_skip(if on.is_kvm() { "kvm" } else { "process" });
            }
        }
    }
    if !may_be_missing {
        println!("With CI=true only cases that need a missing /dev/kvm may be skipped.");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
