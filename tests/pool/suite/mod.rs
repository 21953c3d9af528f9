//! The type of a case, the list of all cases, and their shared code.
//!
//! If a backend cannot be used, its cases are listed as ignored, and the last lines say why. With `CI=true` in the environment
//! only `/dev/kvm` may be missing.

mod closes;
mod failures;
mod forks;
mod leases;
mod order;
mod speed;
mod storms;
mod tasks;
mod traces;

use std::{
    process::ExitCode,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Trial};
use sides::{host::Host, shared::control::ControlClient};
use support::{guests, left, skips::may_skip};
use vmffi::{
    Peer,
    machine::{Backend, Image, MachineBuilder, Metrics, Pool, PoolBuilder},
};

/// A name, and the function to run on each backend.
type Case = (&'static str, fn(Backend));

pub fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One after the other, since each case checks what it leaves behind.
    arguments.test_threads = Some(1);
    let cases = [
        leases::CASES,
        order::CASES,
        tasks::CASES,
        failures::CASES,
        closes::CASES,
        forks::CASES,
        traces::CASES,
        storms::CASES,
        speed::CASES,
    ];
    let (mut trials, mut missing) = (Vec::new(), Vec::new());
    for &backend in Backend::ALL {
        let error = backend.check().err();
        for &(name, run) in cases.iter().copied().flatten() {
            let trial = Trial::test(format!("{backend}: {name}"), move || {
                // The image is parsed once, and stays in memory.
                image();
                left::nothing(|| run(backend));
                Ok(())
            });
            trials.push(trial.with_ignored_flag(error.is_some()));
        }
        missing.extend(error.map(|error| (backend, error)));
    }
    let listed = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if listed {
        return ExitCode::SUCCESS;
    }
    let mut may_be_missing = true;
    for (backend, error) in missing {
        println!("{backend}: all cases are skipped: {error}");
        may_be_missing &= may_skip(backend.name());
    }
    if !may_be_missing {
        println!("With CI=true only cases that need a missing /dev/kvm may be skipped.");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// The guest's program, parsed once.
fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let program = guests::build("tests/machines/guest", "fixed").expect("the guest's program");
        Image::open(program).expect("a valid program")
    })
}

fn machine() -> MachineBuilder {
    MachineBuilder::new(image()).arenas(1 << 20, 1 << 20)
}

fn builder(backend: Backend) -> PoolBuilder {
    Pool::builder(&machine(), backend)
}

/// A pool whose guests are all ready.
fn pool(backend: Backend, size: usize) -> Pool {
    let pool = builder(backend).size(size).build(Host::default).unwrap();
    settled(&pool, |metrics| metrics.idle == size);
    pool
}

/// A pool of one guest, and a channel with a message when the guest runs forever.
fn spinner(backend: Backend) -> (Pool, mpsc::Receiver<()>) {
    let (begun, begins) = mpsc::channel();
    let server = move || {
        let begun = begun.clone();
        Host::on_spin(move || begun.send(()).unwrap())
    };
    (builder(backend).build(server).unwrap(), begins)
}

fn control(guest: &Peer) -> ControlClient<'_> {
    ControlClient::from(guest)
}

/// Sets a flag when it is dropped, so that other threads end even if this one panics.
struct SetAtEnd<'f>(&'f AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until the pool's thread has no work left.
#[track_caller]
fn settled(pool: &Pool, is: impl Fn(&Metrics) -> bool) -> Metrics {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = pool.metrics();
        if is(&metrics) {
            return metrics;
        }
        assert!(Instant::now() < patience, "{metrics:?}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Every guest is either ready or leased.
#[track_caller]
fn adds_up(metrics: &Metrics) {
    let now = metrics.in_use + metrics.idle + metrics.resetting;
    assert_eq!(metrics.made, metrics.discarded + now as u64, "{metrics:?}");
}
