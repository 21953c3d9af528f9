use std::time::{Duration, Instant};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};
use support::{
    guests,
    meter::{Load, LoadClient, Meter},
};
use vmffi::{
    CallError, Peer,
    host::RunOutcome,
    machine::{Backend, Image, MachineBuilder},
};

use super::{batches, floor_kvm as kvm, floor_process as process, lives};

/// How often each case is measured, in turn, and how many round trips one measurement has.
const ROUNDS: usize = 41;
const AT_ONCE: u64 = 250;

struct Server;

impl Meter for Server {
    fn scalar(&self, _: &Peer, x: u64) -> Result<u64, CallError> {
        Ok(x)
    }

    fn three(&self, _: &Peer, a: u64, b: u32, c: u8) -> Result<u64, CallError> {
        Ok(a + u64::from(b) + u64::from(c))
    }
}

vmffi::serve!(Server: Meter; calls Load);

/// The name of a case, and a function that makes this many round trips.
type Case<'c> = (&'static str, Box<dyn FnMut() + 'c>);

type Guest = vmffi::machine::Machine;

pub fn machine() -> MachineBuilder {
    let program = guests::build("examples/guests/meter", "meter").expect("a guest");
    let image = Image::open(program).expect("an image");
    MachineBuilder::new(&image).arenas(1 << 20, 1 << 20)
}

pub fn started(machine: &MachineBuilder, backend: Backend) -> Guest {
    let host = machine.build(backend, Server).expect("a machine");
    assert_eq!(host.run(), Ok(RunOutcome::Ready), "a guest that parks");
    host
}

fn guest(backend: Backend) -> Guest {
    started(&machine(), backend)
}

pub fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["calls", name] => calls(name.parse().expect("kvm or process")),
        ["round-trips"] => Backend::ALL.iter().for_each(|backend| match backend.check() {
            Ok(()) => table(*backend, ""),
            Err(error) => println!("skipped: {backend}: {error}"),
        }),
        ["batches"] => Backend::ALL.iter().for_each(|backend| match backend.check() {
            Ok(()) => {
                batches::table(*backend, "");
                on_one_processor(|| batches::table(*backend, ", on one processor"));
            }
            Err(error) => println!("skipped: {backend}: {error}"),
        }),
        ["calls", name, "within"] => calls_within(name.parse().expect("kvm or process")),
        _ => Backend::ALL.iter().for_each(|backend| match backend.check() {
            Ok(()) => {
                table(*backend, "");
                on_one_processor(|| {
                    table(*backend, ", on one processor");
                    batches::table(*backend, ", on one processor");
                });
                lives::table(*backend);
            }
            Err(error) => println!("skipped: {backend}: {error}"),
        }),
    }
}

/// 10,000 calls each way.
fn calls(backend: Backend) {
    let host = guest(backend);
    let load = LoadClient::from(host.guest());
    assert_eq!(load.scalars(10_000_u64), Ok(49_995_000));
    for i in 0..10_000 {
        assert_eq!(load.echo(i), Ok(i));
    }
}

/// The same, with a deadline for each call of the host.
fn calls_within(backend: Backend) {
    let host = guest(backend);
    let within = host.with_deadline(Duration::from_secs(60));
    let load = LoadClient::from(within.guest());
    assert_eq!(load.scalars(10_000_u64), Ok(49_995_000));
    for i in 0..10_000 {
        assert_eq!(load.echo(i), Ok(i));
    }
}

/// Runs `run` while this thread, and processes and threads that it makes, stay on one processor.
fn on_one_processor(run: impl FnOnce()) {
    let here = Pid::from_raw(0);
    let all = sched_getaffinity(here).expect("processors");
    let mut one = CpuSet::new();
    one.set(sched_getcpu().expect("a processor")).expect("a processor");
    sched_setaffinity(here, &one).expect("a processor");
    run();
    sched_setaffinity(here, &all).expect("processors");
}

fn table(backend: Backend, title: &str) {
    let host = guest(backend);
    let load = LoadClient::from(host.guest());
    let (name, mut floor, mut tracing): (_, Box<dyn FnMut(u64)>, Option<_>) = match backend {
        Backend::Kvm => {
            let (name, floor) = kvm::floor();
            (name, Box::new(floor), None)
        }
        Backend::Process => {
            ("bare round trip", Box::new(process::notification()), Some(process::tracing()))
        }
        other => panic!("{other} has no floor"),
    };
    let many = |call: &dyn Fn()| (0..AT_ONCE).for_each(|_| call());
    let within = host.with_deadline(Duration::from_secs(1));
    let timed = LoadClient::from(within.guest());
    let mut cases: Vec<Case<'_>> = vec![
        (name, Box::new(|| floor(AT_ONCE))),
        (
            "hypercall, a scalar",
            Box::new(|| {
                load.scalars(AT_ONCE).expect("a sum");
            }),
        ),
        (
            "hypercall, three parameters",
            Box::new(|| {
                load.threes(AT_ONCE).expect("a sum");
            }),
        ),
        (
            "upcall, a scalar",
            Box::new(|| {
                many(&|| {
                    load.echo(1_u64).expect("an echo");
                })
            }),
        ),
        (
            "upcall, three parameters",
            Box::new(|| {
                many(&|| {
                    load.sum(1_u64, 2_u32, 3_u8).expect("a sum");
                })
            }),
        ),
        (
            "upcall, a scalar, with a deadline",
            Box::new(|| {
                many(&|| {
                    timed.echo(1_u64).expect("an echo");
                })
            }),
        ),
    ];
    if let Some(tracing) = &mut tracing {
        cases.push(("bare round trip by ptrace", Box::new(|| tracing(AT_ONCE))));
    }
    let mut times = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for ((_, case), times) in cases.iter_mut().zip(&mut times) {
            let start = Instant::now();
            case();
            times.push(start.elapsed() / AT_ONCE as u32);
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[ROUNDS / 2].as_secs_f64() * 1e6
    };
    let medians: Vec<f64> = times.into_iter().map(median).collect();
    println!("\n| {backend}{title} | median | ratio |\n|---|---:|---:|");
    for ((name, _), median) in cases.iter().zip(&medians) {
        println!("| {name} | {median:.2} µs | {:.3} |", median / medians[0]);
    }
}
