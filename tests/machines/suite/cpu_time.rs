//! A guest's limit of processor time: it stops guests that use more, and no others.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    ErrorKind,
    host::{GuestExit, Limits, RunOutcome},
};

use super::{
    Case,
    connection::{Built, On, machine},
    host::Host,
    shared::control::ControlClient,
    slower,
};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(On)| Case::new(name, On::is_machine, run);
    vec![
        case("a_guest_that_loops_uses_up_its_processor_time", looping),
        case("a_guest_that_calls_for_ever_uses_up_its_processor_time", calling),
        case("each_call_begins_with_all_of_its_processor_time", each_call),
        case("a_busy_machine_uses_up_no_processor_time", busy),
        case("a_handler_uses_up_no_processor_time", handler),
        case("start_up_has_its_processor_time", start_up),
        case("nested_upcalls_use_up_processor_time", nested),
        case("each_vcpu_has_its_processor_time", vcpus),
        case("a_vcpu_that_loops_among_others", one_of_several),
        case("processor_time_of_an_earlier_life", lives),
        case("a_deadline_and_processor_time", both),
        case("least_and_greatest_processor_time", extremes),
    ]
}

/// The limit of most cases.
fn limit() -> Duration {
    Duration::from_millis(100) * slower()
}

fn built(on: On, vcpus: u32, limits: Limits, host: Host) -> Built {
    let host = machine().vcpus(vcpus).limits(limits).build(on.backend(), host).unwrap();
    assert_eq!(host.run(), Ok(RunOutcome::Ready), "{:?}", host.guest_exit());
    host
}

fn limited(on: On, host: Host) -> Built {
    built(on, 1, Limits::new().cpu_time(limit()), host)
}

/// The number of rounds of work that take at most about this time on an idle processor: other load can only lengthen them.
fn rounds(on: On, time: Duration) -> u64 {
    const ROUNDS: u64 = 2_000_000;
    let host = built(on, 1, Limits::new(), Host::default());
    let once = || {
        let began = Instant::now();
        ControlClient::from(host.guest()).work(ROUNDS).unwrap();
        began.elapsed()
    };
    let fastest = (0..10).map(|_| once()).min().unwrap();
    (ROUNDS as f64 * time.as_secs_f64() / fastest.as_secs_f64()) as u64
}

#[track_caller]
fn exceeded(host: &Built, error: vmffi::CallError) {
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, true));
    assert_eq!(host.guest_exit(), Some(GuestExit::CpuTime));
}

fn looping(on: On) {
    let host = limited(on, Host::default());
    let control = ControlClient::from(host.guest());
    for _ in 0..3 {
        let began = Instant::now();
        exceeded(&host, control.spin().unwrap_err());
        let took = began.elapsed();
        assert!(took >= limit(), "stopped after {took:?}");
        assert!(took < 50 * limit(), "stopped after {took:?}");
        println!("{on}: stopped after {took:?}");
        let error = control.sum(1).unwrap_err();
        assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, false));
        assert_eq!(host.reset(), Ok(()));
        assert_eq!((control.sum(20), host.guest_exit()), (Ok(210), None));
    }
    exceeded(&host, control.spin().unwrap_err());
    let text = host.guest_exit().unwrap().to_string();
    assert!(text.contains("processor time") && text.contains("Limits::cpu_time"), "{text}");
}

/// The time between hypercalls adds up.
fn calling(on: On) {
    let limits = Limits::new().cpu_time(limit()).deadline(limit() * 600);
    let host = built(on, 1, limits, Host::default());
    for _ in 0..2 {
        let began = Instant::now();
        exceeded(&host, ControlClient::from(host.guest()).sum(u64::MAX).unwrap_err());
        assert!(began.elapsed() >= limit(), "{:?}", began.elapsed());
        assert_eq!(host.reset(), Ok(()));
    }
}

fn each_call(on: On) {
    // Together more than the limit. The clock of an emulated processor goes on while it waits for a real one.
    let part = rounds(on, limit() / if slower() == 1 { 5 } else { 10 });
    let host = limited(on, Host::default());
    let control = ControlClient::from(host.guest());
    for _ in 0..12 {
        control.work(part).unwrap();
    }
    for _ in 0..2000 {
        assert_eq!(control.sum(2), Ok(3));
    }
    exceeded(&host, control.work(u64::MAX).unwrap_err());
}

/// Threads that keep all processors busy until this value is dropped.
struct Busy(Arc<AtomicBool>, Vec<thread::JoinHandle<()>>);

impl Busy {
    fn new(for_each_processor: usize) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let processors = thread::available_parallelism().unwrap().get();
        let spins = || {
            let ends = ends.clone();
            thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            })
        };
        let threads = (0..for_each_processor * processors).map(|_| spins()).collect();
        Self(ends, threads)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        for thread in self.1.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// The guest gets a fraction of a processor, and is not stopped, as a deadline would have stopped it.
fn busy(on: On) {
    let part = rounds(on, limit() / 4);
    let host = limited(on, Host::default());
    let busy = Busy::new(12);
    for _ in 0..2 {
        let began = Instant::now();
        ControlClient::from(host.guest()).work(part).unwrap();
        let took = began.elapsed();
        println!("{on}: a quarter of the limit took {took:?}");
        assert!(took > limit() * 2, "only {took:?}: the machine was not busy");
        assert_eq!(host.guest_exit(), None);
    }
    let within = host.with_deadline(limit());
    let error = ControlClient::from(within.guest()).work(part).unwrap_err();
    assert_eq!(
        (error.kind(), host.guest_exit()),
        (ErrorKind::Cancelled, Some(GuestExit::Deadline))
    );
    // A guest that loops is stopped nevertheless.
    assert_eq!(host.reset(), Ok(()));
    exceeded(&host, ControlClient::from(host.guest()).spin().unwrap_err());
    drop(busy);
}

/// A handler sleeps and computes for longer than the guest's limit, on the thread of its vCPU.
fn handler(on: On) {
    let host = limited(
        on,
        Host::on_call(|_| {
            thread::sleep(limit() * 2);
            let began = Instant::now();
            while began.elapsed() < limit() * 2 {
                hint::spin_loop();
            }
        }),
    );
    let control = ControlClient::from(host.guest());
    let part = rounds(on, limit() / 5);
    assert_eq!(control.calls_back(), Ok(1000));
    control.work(part).unwrap();
    assert_eq!(control.calls_back(), Ok(1000));
    exceeded(&host, control.spin().unwrap_err());
}

/// The same while the guest starts up, in `Host::run`.
fn start_up(on: On) {
    let slow = || Host::with_gift(b"a gift").while_it_is_made(|| thread::sleep(limit() * 2));
    let host = limited(on, slow());
    let control = ControlClient::from(host.guest());
    assert_eq!(control.sum(4), Ok(10));
    // A limit longer than any startup, and a shorter one: then the guest does not reach its request for the gift.
    for (limit, exit) in [(limit(), None), (Duration::ZERO, Some(GuestExit::CpuTime))] {
        let limits = Limits::new().cpu_time(limit);
        let host = machine().limits(limits).build(on.backend(), slow()).unwrap();
        assert_eq!(host.run().is_ok(), exit.is_none());
        assert_eq!(host.guest_exit(), exit);
    }
}

/// Calls that are each below the limit and together above it, within one outermost call.
fn nested(on: On) {
    let part = rounds(on, limit() / 3);
    let done = Arc::new(AtomicU64::new(0));
    let counts = done.clone();
    let host = limited(
        on,
        Host::on_call(move |guest| {
            for _ in 0..20 {
                if ControlClient::from(guest).work(part).is_ok() {
                    counts.fetch_add(1, Ordering::Relaxed);
                }
            }
        }),
    );
    let control = ControlClient::from(host.guest());
    for _ in 0..6 {
        control.work(part).unwrap();
    }
    exceeded(&host, control.calls_back().unwrap_err());
    let done = done.load(Ordering::Relaxed);
    assert!((1..20).contains(&done), "{done} parts of a third");
    assert_eq!(host.reset(), Ok(()));
    control.work(part).unwrap();
}

fn vcpus(on: On) {
    const VCPUS: u32 = 8;
    // As in `each_call`.
    let part = rounds(on, limit() / if slower() == 1 { 4 } else { 12 });
    let host = built(on, VCPUS, Limits::new().cpu_time(limit()), Host::default());
    for _ in 0..2 {
        thread::scope(|scope| {
            for _ in 0..VCPUS {
                scope.spawn(|| {
                    for _ in 0..2 {
                        ControlClient::from(host.guest()).work(part).unwrap();
                    }
                });
            }
        });
        assert_eq!(host.reset(), Ok(()));
    }
    assert_eq!(host.guest_exit(), None);
    exceeded(&host, ControlClient::from(host.guest()).spin().unwrap_err());
    assert_eq!(host.reset(), Ok(()));
    assert_eq!(ControlClient::from(host.guest()).sum(4), Ok(10));
}

/// A looping guest ends with the limit, and so do the calls on its other vCPUs.
fn one_of_several(on: On) {
    let host = built(on, 2, Limits::new().cpu_time(limit()), Host::default());
    for _ in 0..3 {
        let ends = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let control = ControlClient::from(host.guest());
                while !ends.load(Ordering::Relaxed) {
                    if let Err(error) = control.sum(3) {
                        assert_eq!(error.kind(), ErrorKind::Cancelled);
                        break;
                    }
                }
            });
            let error = ControlClient::from(host.guest()).spin().unwrap_err();
            exceeded(&host, error);
            ends.store(true, Ordering::Relaxed);
        });
        assert_eq!(host.reset(), Ok(()));
    }
}

/// A limit that has ended a life, or a call, ends no later one.
fn lives(on: On) {
    let host = limited(on, Host::default());
    let control = ControlClient::from(host.guest());
    for _ in 0..10 {
        exceeded(&host, control.spin().unwrap_err());
        assert_eq!(host.reset(), Ok(()));
        for _ in 0..5 {
            assert_eq!(control.sum(3), Ok(6));
        }
    }
}

/// The limit that is reached first applies.
fn both(on: On) {
    let limits = Limits::new().cpu_time(limit()).deadline(Duration::from_secs(60));
    let host = built(on, 1, limits, Host::default());
    exceeded(&host, ControlClient::from(host.guest()).spin().unwrap_err());
    assert_eq!(host.reset(), Ok(()));
    let within = host.with_deadline(limit() / 4);
    assert!(ControlClient::from(within.guest()).spin().is_err());
    assert_eq!(host.guest_exit(), Some(GuestExit::Deadline));
    assert_eq!(host.reset(), Ok(()));
    exceeded(&host, ControlClient::from(host.guest()).spin().unwrap_err());
}

fn extremes(on: On) {
    let host = built(on, 1, Limits::new().cpu_time(Duration::MAX), Host::default());
    assert_eq!(ControlClient::from(host.guest()).sum(20), Ok(210));
    let none = Limits::new().cpu_time(Duration::ZERO);
    let host = machine().limits(none).build(on.backend(), Host::default()).unwrap();
    drop(host);
}
