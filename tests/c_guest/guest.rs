//! The host's half of each case.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use support::skips::skip;
use vmffi::{
    CallError, ConnectError, ErrorKind, Failure, List, MAX_DEPTH, NONE, Peer, RegionLayout,
    RegionMemory,
    abi::{Answer, Side, Transport, signature},
    host::{Host, HostBuilder, RunOutcome},
};

use super::{
    process::{ENDS as NATIVE_ENDS, GUESTS_REGION, Output, Process, Region},
    server::*,
};

/// The program, compiled once; nothing where there is no C compiler.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let compiled = PROGRAM.get_or_init(|| {
        let compiler = std::env::var_os("CC").unwrap_or("cc".into());
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c_guest");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c_guest");
        let native = format!("native/{}.c", std::env::consts::ARCH);
        let files = [
            &native,
            "vmffi.c",
            "vmffi_trap.c",
            "vmffi_batch.c",
            "declarations.c",
            "guest.c",
            "calls.c",
            "batches.c",
            "hostile.c",
        ];
        let mut command = Command::new(&compiler);
        command.args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
        match command.args(files.map(|file| sources.join(file))).status() {
            Ok(status) => {
                assert!(status.success(), "{compiler:?}: {status}");
                Some(program)
            }
            Err(error) => {
                skip("the guest in C", format!("no C compiler, {compiler:?}: {error}"));
                None
            }
        }
    });
    compiled.as_deref()
}

/// A host with its C guest, not yet started.
struct Machine {
    host: Host<Process>,
    output: Output,
    /// What the host has refused or failed.
    refused: Arc<Mutex<Vec<CallError>>>,
    /// How often the guest was resumed.
    runs: Arc<AtomicUsize>,
}

impl Machine {
    fn new(arguments: &[&str]) -> Option<Self> {
        let program = program()?;
        let layout = RegionLayout::new(256 << 10, 512 << 10).unwrap();
        let region = Region::new(&layout);
        assert_ne!(region.base.addr(), GUESTS_REGION, "O-2: another address");
        let runs = Arc::<AtomicUsize>::default();
        let (process, output) = Process::start(program, &region, arguments, runs.clone()).unwrap();
        let refused: Arc<Mutex<Vec<CallError>>> = Arc::default();
        let seen = refused.clone();
        let observer = move |error: &CallError| seen.lock().unwrap().push(error.clone());
        let (base, len) = (region.base, region.len as u64);
        // SAFETY: mapped until `region` is dropped, and no reference covers it. The guest maps the
        // header and the host's arena for reading only.
        let memory = unsafe { RegionMemory::new(base, len, Box::new(region)) };
        let builder = HostBuilder::new(memory, layout).observe(observer);
        let host = builder.build(Server::default(), [process]);
        Some(Self { host: host.unwrap(), output, refused, runs })
    }

    /// Prints what the guest has printed; each line must begin with "ok".
    fn check(&self, title: &str) -> Vec<String> {
        let lines = self.output.lines();
        println!("== {title}");
        for line in &lines {
            println!("{line}");
        }
        let wrong: Vec<_> = lines.iter().filter(|line| !line.starts_with("ok ")).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        lines
    }

    fn blocks(&self) -> usize {
        self.host.guest().arena_stats().blocks
    }
}

/// Honest calls of every kind, to the host and nested. Guest and host have the region at different
/// addresses (ABI, Overview O-2).
#[test]
fn calls() {
    honest_calls("calls");
}

/// ABI, Traps TR-19 and TR-20: the same by way of a gate.
#[test]
fn calls_by_gate() {
    honest_calls("gate-calls");
}

fn honest_calls(mode: &str) {
    let Some(machine) = Machine::new(&[mode]) else { return };
    let ran = machine.host.run();
    let lines = machine.check("honest calls");
    assert_eq!(ran, Ok(RunOutcome::Exited(0)));
    assert!(lines.len() > 150, "{}", lines.len());
    assert_eq!(machine.blocks(), 0);
}

/// ABI, Traps TR-2 and TR-15 to TR-18, Arenas and loans A-6: upcalls from outside of any hypercall, on a guest
/// that is parked, goes on, is parked again, and ends.
#[test]
fn upcalls() {
    upcalls_on("upcalls");
}

/// ABI, Traps TR-19: the same by way of a gate.
#[test]
fn upcalls_by_gate() {
    upcalls_on("gate-upcalls");
}

fn upcalls_on(mode: &str) {
    let Some(machine) = Machine::new(&[mode]) else { return };
    let plugin = PluginClient::from(machine.host.guest());
    assert_eq!(plugin.add(1, 2_u64).unwrap_err().kind(), ErrorKind::Busy, "it has not started");
    assert_eq!(machine.host.run(), Ok(RunOutcome::Ready));
    honest_upcalls(&machine);
    hostile_upcalls(&machine);
    assert_eq!(machine.host.run(), Ok(RunOutcome::Ready), "it was let go, and is parked again");
    honest_upcalls(&machine);
    assert_eq!(plugin.keep(b"for good"), Ok(()));
    assert_eq!(machine.blocks(), 1);
    assert_eq!(machine.host.run(), Ok(RunOutcome::Ready), "with words that are not looked at");
    assert_eq!(machine.blocks(), 1);
    let runs = machine.runs.load(Ordering::Relaxed);
    assert_eq!(machine.host.run(), Ok(RunOutcome::Exited(7)));
    assert_eq!(machine.blocks(), 0, "A-6: it is gone, and its host takes back all");
    assert_eq!(machine.runs.load(Ordering::Relaxed), runs + 1);

    assert_eq!(machine.host.run(), Ok(RunOutcome::Exited(7)));
    let error = plugin.nothing().unwrap_err();
    assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, false));
    assert_eq!(machine.runs.load(Ordering::Relaxed), runs + 1, "TR-18: it is never resumed");
    assert_eq!(machine.check("upcalls, as the guest saw them").len(), 6);
}

/// ABI, Overview O-1, Nesting N-1: an upcall carries what a hypercall does, and counts as one.
fn honest_upcalls(machine: &Machine) {
    let guest = machine.host.guest();
    let plugin = PluginClient::from(guest);
    assert_eq!(plugin.nothing(), Ok(()));
    assert_eq!(plugin.add(u32::MAX, 5_u64), Ok(u64::from(u32::MAX) + 5));
    for len in [0, 1, 64, 65, 100_000] {
        assert_eq!(plugin.total(&vec![3; len]), Ok(3 * len as u64));
        assert_eq!(machine.blocks(), 0, "blocks in use");
    }
    assert_eq!(plugin.shout("quiet").unwrap().read_string().unwrap(), "QUIET");
    assert_eq!(plugin.shout("").unwrap().read_string().unwrap(), "");
    for (sent, back) in [
        (Stroke::Lift, Stroke::Lift),
        (Stroke::Line(7, 1 << 31, true), Stroke::Line(8, u32::MAX >> 1, false)),
        (Stroke::Dash(Level::Low, 0x1234), Stroke::Dash(Level::High, 0x1235)),
        (Stroke::Dash(Level::High, 0), Stroke::Dash(Level::Low, 1)),
    ] {
        let (time, other) = (Duration::new(7, 999_999_999), Duration::new(8, 0));
        assert_eq!(plugin.draw(sent, time), Ok((back, other)));
    }
    assert_eq!(plugin.maybe(NONE), Ok(None));
    assert_eq!(plugin.maybe(Some(&[])), Ok(Some(0)));
    assert_eq!(plugin.maybe(Some(b"abc")), Ok(Some(3)));
    assert_eq!(plugin.halve(-8), Ok(-4));
    assert_eq!(plugin.halve(7), Err(Failure::App(OpenError::Denied)));
    let records = [
        Record { name: "a", size: 1, body: b"" },
        Record { name: "\u{e9}", size: 9, body: b"xyz" },
        Record { name: "", size: 2, body: b"" },
    ];
    let largest = plugin.largest(&List::from(&records)).unwrap();
    assert_eq!(largest.read(), Ok(List::from(&records[1..2])));
    let none = plugin.largest(&List::<Record<'_>>::default()).unwrap();
    assert_eq!(none.read().map(|list| list.len()), Ok(0));
    drop((largest, none));
    batches(guest);
    // Two calls a step, and the first counts.
    assert_eq!(plugin.climb(MAX_DEPTH - 1), Ok(MAX_DEPTH - 1));
    assert_eq!(plugin.climb(MAX_DEPTH).unwrap_err().kind(), ErrorKind::TooDeep);
    assert_eq!(guest.has(ParamsPluginAdd::FUNCTION), Ok(true));
    assert_eq!(guest.has(ParamsDeskClimb::FUNCTION), Ok(false));
    assert_eq!(plugin.has_missing(), Ok(false));
    assert_eq!(plugin.missing().unwrap_err().kind(), ErrorKind::UnknownFunction);
    assert_eq!(machine.blocks(), 0);
}

/// ABI, Batches BT-1 to BT-7: many calls of the host's in one upcall.
fn batches(guest: &Peer) {
    let batch = guest.batch().unwrap();
    let plugin = PluginClient::from(&batch);
    let sum = plugin.add(1, 2_u64).unwrap();
    let twice = plugin.add(5, &sum).unwrap();
    let eight = plugin.halve(16).unwrap();
    let four = plugin.halve(&eight).unwrap();
    let odd = plugin.halve(7).unwrap();
    let takes_odd = plugin.halve(&odd).unwrap();
    let loud = plugin.shout("quiet").unwrap();
    let unread = plugin.shout("not read").unwrap();
    let missing = plugin.missing().unwrap();
    let total = plugin.total(&[3; 100]).unwrap();
    let climbed = plugin.climb(3).unwrap();
    let mut results = batch.send().unwrap();
    assert_eq!((results.get(sum), results.get(twice)), (Ok(3), Ok(8)));
    assert_eq!((results.get(eight), results.get(four)), (Ok(8), Ok(4)));
    assert_eq!(results.get(odd), Err(Failure::App(OpenError::Denied)));
    let Err(Failure::Call(error)) = results.get(takes_odd) else { panic!("it took an error") };
    assert_eq!((error.kind(), error.reached()), (ErrorKind::Cancelled, false));
    assert_eq!(results.get(loud).unwrap().read_string().unwrap(), "QUIET");
    assert_eq!(results.get(missing).unwrap_err().kind(), ErrorKind::UnknownFunction);
    assert_eq!((results.get(total), results.get(climbed)), (Ok(300), Ok(3)));
    drop(unread);
    drop(results);
}

/// ABI, Overview O-5: the guest makes the same checks.
fn hostile_upcalls(machine: &Machine) {
    let guest = machine.host.guest();
    let layout = RegionLayout::new(256 << 10, 512 << 10).unwrap();
    let ((own, len), (other, _)) = (layout.arena(Side::Host), layout.arena(Side::Guest));
    let lent = own | 1 << 56;
    for (name, function, primary, secondary, status) in [
        ("C-2", ParamsPluginNothing::FUNCTION, 1, 0, 4),
        ("C-2", ParamsPluginNothing::FUNCTION, 0, 1, 4),
        ("C-2", ParamsPluginAdd::FUNCTION, lent, 1, 4),
        ("P-2", ParamsPluginAdd::FUNCTION, 0, 0, 3),
        ("C-3", ParamsPluginAdd::FUNCTION, own + len - 8, 0, 3),
        ("P-4", ParamsPluginAdd::FUNCTION, other, 0, 3),
        ("P-1", ParamsPluginAdd::FUNCTION, lent | 1 << 50, 0, 3),
        ("C-4", ParamsPluginAdd::FUNCTION, lent + 4, 0, 3),
        ("C-3", ParamsPluginTotal::FUNCTION, lent, len + 1, 3),
        ("C-3", ParamsPluginTotal::FUNCTION, lent, u64::MAX, 3),
        ("C-5", ParamsPluginTotal::FUNCTION, own, 4, 3),
        ("T-4", ParamsPluginTotal::FUNCTION, u64::MAX, 0, 0),
        ("TY-3", ParamsPluginHalve::FUNCTION, 0xffff_fff0, 0, 4),
        ("TY-10", ParamsPluginMaybe::FUNCTION, 0, 4, 4),
    ] {
        let answer = raw(guest, function.signature, Transport { primary, secondary });
        assert_eq!(answer.status, status, "{name}: {function} with {primary:#x}, {secondary:#x}");
    }
    for unknown in [0, signature::HANDSHAKE, 15, 16, u64::MAX] {
        assert_eq!(raw(guest, unknown, Transport::EMPTY).status, 2);
    }
    let twice = Transport { primary: 1, secondary: 1 };
    assert_eq!(raw(guest, signature::HAS, twice).status, 4);
    // Batches: BT-1 and BT-4.
    for (primary, secondary, status) in [
        (lent, 25, 4),
        (0, 24, 3),
        (own + len - 16, 24, 3),
        (lent + 4, 24, 3),
        (other, 24, 3),
        (own, len / 24 * 24, 5),
        (u64::MAX, 0, 0),
    ] {
        let answer = raw(guest, signature::BATCH, Transport { primary, secondary });
        assert_eq!(answer, Answer::status(status), "{primary:#x}, {secondary}");
    }
}

/// A batch of hostile calls, by a guest that never says what it is (ABI, Contracts CT-3), after which
/// the host still serves and holds nothing, and knows of each call that it refused which function and
/// which field was bad.
#[test]
fn hostile() {
    let Some(machine) = Machine::new(&["hostile"]) else { return };
    let ran = machine.host.run();
    let lines = machine.check("a hostile batch");
    assert_eq!(ran, Ok(RunOutcome::Exited(0)));
    assert!(lines.len() > 150, "{}", lines.len());
    assert_eq!(machine.blocks(), 0);

    // What the guest says of each call that it sent, and what the host was told of those it refused.
    let sent: Vec<_> = lines.iter().filter_map(|line| line.split_once(" => ")).collect();
    assert!(sent.len() > 100, "{}", sent.len());
    let told = machine.refused.lock().unwrap();
    let mut told = told.iter().map(|error| {
        let function = error.function().map_or("-".to_owned(), ToString::to_string);
        format!("{function}({}) {}", error.field().unwrap_or("-"), status(error))
    });
    for (case, expected) in sent {
        if !expected.ends_with(" 0") {
            assert_eq!(told.next().as_deref(), Some(expected), "{case}");
        }
    }
    assert_eq!(told.next(), None, "the host failed a call that the guest knows nothing of");
}

/// ABI, Contracts CT-1 to CT-3 and CT-5 to CT-8: what the C guest says of itself is read, and what does
/// not fit is told; then it is not resumed.
#[test]
fn a_guest_that_does_not_fit() {
    let Some(machine) = Machine::new(&["misfit"]) else { return };
    for _ in 0..2 {
        let Err(ConnectError::Contract(mismatch)) = machine.host.run() else { panic!("it fits") };
        println!("== a guest that does not fit\n{mismatch}");
        let all: Vec<_> = mismatch.differences().iter().map(|one| &*one.function).collect();
        let liar = ["Liar::nothing", "Liar::truth", "Liar::bytes", "Liar::stat", "Liar::file"];
        assert_eq!(all[..2], ["Desk::held", "Desk::turn"]);
        assert!(liar.iter().all(|name| all.contains(name)) && all.len() == 8, "{all:?}");
        let text = mismatch.to_string();
        for says in ["guest: fn held() -> u32", "host:  fn held() -> u64", "b: i8 at 4"] {
            assert!(text.contains(says), "{says}");
        }
    }
    assert_eq!(machine.runs.load(Ordering::Relaxed), 1);
    assert_eq!(machine.output.lines().len(), 1, "the header is all that it came to");
}

/// How a guest ends that does something that it must not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// The VM is poisoned.
    Poisoned,
    /// The process crashed.
    Died,
    Exited,
}

/// In the middle of nothing, of an upcall in a hypercall, and of an upcall while it is parked.
const ANYWHERE: &[&str] = &["outside", "in-upcall", "parked"];

/// Each in a process of its own.
const ENDS: [(&str, &[&str], End); 15] = [
    ("kind 0", ANYWHERE, End::Poisoned),
    ("a kind that is none", ANYWHERE, End::Poisoned),
    ("all bits as kind", ANYWHERE, End::Poisoned),
    ("an answer's kind", ANYWHERE, End::Poisoned),
    // In an upcall it is its end, as it should be.
    ("RETURN", &["outside", "behind-a-call"], End::Poisoned),
    ("RETURN twice", &["in-upcall"], End::Poisoned),
    // Outside of any call it is in order.
    ("READY", &["in-upcall", "parked"], End::Poisoned),
    ("EXIT", ANYWHERE, End::Exited),
    ("a store of 1 byte", ANYWHERE, End::Poisoned),
    ("a store of 4 bytes", ANYWHERE, End::Poisoned),
    ("a load", ANYWHERE, End::Poisoned),
    ("a store beside", ANYWHERE, End::Poisoned),
    ("a store across", ANYWHERE, End::Poisoned),
    ("a store to the header", ANYWHERE, End::Died),
    ("a store to the host's arena", ANYWHERE, End::Died),
];

/// ABI, Traps TR-5, TR-10 and TR-18, Region header R-4, Statuses S-3, S-4 and S-6: what ends a guest
/// ends it wherever it is, and what it had is its host's again.
#[test]
fn ends() {
    println!("== what ends a guest");
    let native = NATIVE_ENDS.iter().map(|(how, end)| (*how, ANYWHERE, *end));
    for (how, places, end) in ENDS.into_iter().chain(native) {
        for place in places {
            let Some(machine) = Machine::new(&[place, how]) else { return };
            ends_so(&machine, place, how, end);
            println!("ok     {place}: {how}: {end:?}");
        }
    }
}

fn ends_so(machine: &Machine, place: &str, how: &str, end: End) {
    let why = match end {
        End::Poisoned => ErrorKind::Protocol,
        End::Died | End::Exited => ErrorKind::PeerDied,
    };
    let plugin = PluginClient::from(machine.host.guest());
    if place == "parked" {
        assert_eq!(machine.host.run(), Ok(RunOutcome::Ready), "{how}");
        plugin.keep(b"kept").unwrap();
        assert_eq!(machine.blocks(), 1);
        let error = plugin.misbehave().unwrap_err();
        assert_eq!((error.kind(), error.reached()), (why, true), "{how}");
    }
    let mut runs = (place == "parked").then(|| machine.runs.load(Ordering::Relaxed));
    for _ in 0..2 {
        match machine.host.run() {
            Ok(RunOutcome::Exited(5)) if end == End::Exited => {}
            Err(ConnectError::Exited(ended)) if matches!(end, End::Poisoned | End::Died) => {
                assert_eq!(ended.kind(), why, "{place}: {how}");
            }
            other => panic!("{place}: {how}: {other:?}"),
        }
        assert_eq!(machine.blocks(), 0, "{place}: {how}");
        let error = plugin.keep(b"more").unwrap_err();
        assert_eq!((error.kind(), error.reached()), (why, false), "{place}: {how}");
        assert_eq!(machine.blocks(), 0, "{place}: {how}");
        let now = machine.runs.load(Ordering::Relaxed);
        assert_eq!(*runs.get_or_insert(now), now, "{place}: {how}: it was resumed");
    }
    let last = machine.output.lines().pop();
    assert_eq!(last, Some(format!("now    {how}")), "it did not come further");
}

/// The raw call.
fn raw(guest: &Peer, signature: u64, transport: Transport) -> Answer {
    // SAFETY: the guest is another program, which validates every word.
    unsafe { guest.call(signature, transport) }
}
