//! Attacks of a guest on its host, on each kind of machine. Each case states its exact outcome: the error of a call
//! that is refused, or the end of the guest.
//!
//! This module checks what must hold after every attack: no panic, no lost block, unchanged memory that was not lent, a
//! guest that still works or whose calls fail with the right error, and that works after a reset; no resources left
//! behind, and a new guest that works.
//!
//! Attacks on state that outlives a guest run on clones as well; with `ATTACKS_CLONES=1` in the environment all attacks do.
//!
//! With `ATTACKS_TABLE=1` in the environment, the last lines are a table of all outcomes; `ATTACKS_ROUNDS` is the number
//! of times that the last case repeats all others.

mod batches;
mod boot;
mod connection;
mod crimes;
mod endless;
mod exits;
mod forgeries;
mod gate;
mod images;
mod loans;
#[cfg_attr(target_arch = "aarch64", path = "native/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "native/riscv64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "native/x86_64/mod.rs")]
mod native;
mod neighbours;
mod races;
mod resets;
mod returns;
mod rounds;
mod snapshots;
mod traps;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use libtest_mimic::{Arguments, Trial};
use support::{
    forged, guests, interface, left, liar, list, ops, panics, region, skips, times::slower,
};

use connection::{On, Setup, Target};

/// The outcome of an attack.
pub enum Came {
    /// The guest still runs; the text describes the answers that it got.
    Lives(String),
    /// The guest has ended; the text describes its end.
    Ended(String),
}

type Attack = dyn Fn(&Target) -> Came + Send + Sync;

enum Run {
    /// An attack on a host whose guest has this setup.
    Attack(Setup, Box<Attack>),
    /// A case that makes its own guests.
    Other(fn(On) -> String),
}

pub struct Case {
    name: &'static str,
    on: fn(On) -> bool,
    run: Run,
    /// Whether the case always runs on clones.
    on_clones: bool,
}

impl Case {
    pub fn new(
        name: &'static str,
        attack: impl Fn(&Target) -> Came + Send + Sync + 'static,
    ) -> Self {
        let run = Run::Attack(Setup::PLAIN, Box::new(attack));
        Self { name, on: On::any, run, on_clones: false }
    }

    pub fn other(name: &'static str, run: fn(On) -> String) -> Self {
        Self { name, on: On::any, run: Run::Other(run), on_clones: false }
    }

    pub fn only(mut self, on: fn(On) -> bool) -> Self {
        self.on = on;
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Setup)) -> Self {
        if let Run::Attack(setup, _) = &mut self.run {
            change(setup);
        }
        self
    }

    fn is_on(&self, on: On) -> bool {
        // A guest that attacks before it is ready has no clone.
        let scripted = matches!(&self.run, Run::Attack(setup, _) if setup.script.is_some());
        let all = std::env::var_os("ATTACKS_CLONES").is_some();
        (self.on)(on) && (!on.is_clone || !scripted && (self.on_clones || all))
    }

    /// Runs the attack, and checks what it leaves behind.
    fn run(&self, on: On) -> String {
        panics::count_everywhere();
        let mut text = String::new();
        // The image is parsed once, and stays in memory.
        connection::image();
        left::nothing(|| {
            text = match &self.run {
                Run::Other(run) => run(on),
                Run::Attack(setup, attack) => {
                    let target = Target::new(on, setup);
                    let came = attack(&target);
                    target.assert_treasure();
                    let text = match came {
                        Came::Lives(text) => {
                            assert_eq!(target.end(), None);
                            target.settle();
                            target.assert_works();
                            assert_eq!(target.end(), None);
                            text
                        }
                        Came::Ended(text) => {
                            target.assert_ended();
                            text
                        }
                    };
                    target.assert_treasure();
                    target.assert_resets(setup.script.is_some());
                    text
                }
            };
            Target::new(on, &Setup::PLAIN).assert_works();
        });
        panics::assert_none_anywhere();
        text
    }
}

fn cases() -> Vec<Case> {
    [
        (false, forgeries::cases()),
        (false, batches::cases()),
        (true, loans::cases()),
        (false, traps::cases()),
        (false, returns::cases()),
        (false, crimes::cases()),
        (false, races::cases()),
        (true, endless::cases()),
        (false, exits::cases()),
        (false, boot::cases()),
        (true, resets::cases()),
        (false, neighbours::cases()),
        (true, snapshots::cases()),
        (false, native::cases()),
        (false, images::cases()),
        (false, gate::cases()),
    ]
    .into_iter()
    .flat_map(|(on_clones, cases)| {
        cases.into_iter().map(move |case| {
            let on_clones = case.on_clones || on_clones;
            Case { on_clones, ..case }
        })
    })
    .filter(|case| !skips::is_skipped("attacks", case.name))
    .collect()
}

/// The outcomes, by attack and machine.
type Table = Arc<Mutex<BTreeMap<(usize, &'static str, &'static str), String>>>;

pub fn main() -> ExitCode {
    rounds::prepare();
    let mut arguments = Arguments::from_args();
    // One after the other, since each case checks what it leaves behind.
    arguments.test_threads = Some(1);
    let cases = Arc::new(cases());
    let table = Table::default();
    let (mut trials, mut missing) = (Vec::new(), Vec::new());
    for on in On::all() {
        let why = on.backend.check().err();
        for nr in 0..cases.len() {
            if !cases[nr].is_on(on) {
                continue;
            }
            let (cases, table) = (cases.clone(), table.clone());
            let trial = Trial::test(format!("{on}: {}", cases[nr].name), move || {
                let came = cases[nr].run(on);
                table.lock().unwrap().insert((nr, cases[nr].name, on.name()), came);
                Ok(())
            });
            trials.push(trial.with_ignored_flag(why.is_some()));
        }
        missing.extend(why.map(|why| (on, why)));
    }
    if !skips::is_skipped("attacks", rounds::NAME) {
        trials.push(Trial::test(rounds::NAME, move || {
            rounds::run(&cases);
            Ok(())
        }));
    }
    let listed = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if listed {
        return ExitCode::SUCCESS;
    }
    for (on, why) in missing {
        skips::skip(if on.is_kvm() { "kvm" } else { "process" }, why);
    }
    if std::env::var_os("ATTACKS_TABLE").is_some() {
        println!("| attack | backend | outcome |\n|---|---|---|");
        for ((_, name, backend), came) in &*table.lock().unwrap() {
            println!("| {} | {backend} | {} |", name.replace('_', " "), came.replace('|', "\\|"));
        }
    }
    conclusion.exit_code()
}
