//! The cases, each on the one KVM of this machine.

use std::{
    error::Error,
    fmt, fs,
    path::PathBuf,
    process::{self, Command, ExitCode},
};

use bare_metal::{
    conformance::{OTHER_GUEST, mode},
    host::{Platform, Storage},
};
use libtest_mimic::{Arguments, Trial};
use support::{
    guests,
    meter::{Load, LoadClient, Meter},
};
use vmffi::{
    CallError, Peer, RegionMemory,
    abi::{Registers, Transport, answer, trap},
    host::{GuestMemory, RunOutcome, Vcpu},
    machine::{Backend, Image, MachineBuilder},
};

use super::machine::{Machine, SlotMemory, missing, native};

/// The guest's program, built if it must be.
pub fn program(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    guests::build_for(native::FOLDER, name, Some(native::TARGET))
}

/// Why the guests cannot be built: this compiler has no standard library for them.
fn no_target() -> Option<&'static str> {
    let arguments = ["--print", "target-libdir", "--target", native::TARGET];
    let output = Command::new("rustc").args(arguments).output().ok()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    (!folder.is_dir()).then_some("the guest's target is not installed (rustup target add)")
}

pub fn main() -> ExitCode {
    let bare = missing().or_else(no_target);
    let counted = missing().or_else(no_counts);
    let cases: [(&str, fn(), Option<&str>); 3] = [
        ("hosts_without_an_operating_system_serve_their_guests", serves, bare),
        ("exactly_the_ranges_of_vendors_are_forwarded", conforms, bare),
        ("a_call_of_a_machine_is_one_exit", one_exit_a_call, counted),
    ];
    let trials = cases.map(|(name, case, missing)| {
        if let Some(missing) = missing {
            println!("skipped: kvm: {name}: {missing}");
        }
        let trial = Trial::test(format!("kvm: {name}"), move || {
            case();
            Ok(())
        });
        trial.with_ignored_flag(missing.is_some())
    });
    let mut arguments = Arguments::from_args();
    // All use the same memory.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

struct OnKvm;

impl Platform for OnKvm {
    type Vcpu = Machine;

    // A bare trap is a call that KVM itself answers, so it says nothing of this crate.
    const CALL_LIMIT: u64 = 1 << 20;

    fn print(line: fmt::Arguments<'_>) {
        let line = line.to_string();
        if line.ends_with("FAILED") || line.ends_with(" failed") {
            println!("{line}");
        }
    }

    fn machine(&mut self, slot: usize, mode: u64) -> (Machine, RegionMemory) {
        (Machine::new(slot, mode), Machine::region(slot))
    }

    fn address_of_host(&self) -> u64 {
        native::ADDRESS_OF_HOST
    }
}

/// Two guests make calls of all kinds, and are called; one calls the other; guests forge words, reach for memory that is not
/// theirs, panic, and return from nothing.
fn serves() {
    static STORAGE: Storage<Machine> = Storage::new();
    assert_eq!(bare_metal::host::main(&mut OnKvm, &STORAGE), 0, "checks have failed");
}

/// ABI, Traps TR-22 and TR-23: the guest calls functions of this host, identifiers beside them, those of other vendors, and some that
/// KVM answers itself. It checks all registers after each.
fn conforms() {
    let answered = Registers { kind: answer::ANSWER, word: 0, transport: Transport::EMPTY };
    let mut guest = Machine::new(0, mode::CONFORMS);
    let (mut names, mut answer) = (Vec::new(), None);
    loop {
        let words = guest.run(answer).expect("a trap");
        match words {
            Registers { kind: trap::CALL, word: OTHER_GUEST, .. } => {
                // It changes the floating-point registers, on the processor that the first guest has used.
                let mut other = Machine::new(1, mode::DISTURBS);
                for answer in [None, Some(answered)] {
                    let trapped = other.run(answer);
                    assert!(matches!(trapped, Ok(Registers { kind: trap::CALL, .. })));
                }
            }
            Registers { kind: trap::CALL, word: passed, transport } => {
                let Transport { primary, secondary } = transport;
                let mut name = vec![0; secondary as usize];
                SlotMemory(0).read(primary, &mut name).expect("a text");
                let name = String::from_utf8(name).expect("a text");
                let of_kvm = native::OF_KVM.contains(&name.as_str());
                assert!(passed == 1 || of_kvm, "{name}");
                names.push(name);
            }
            Registers { kind: trap::EXIT, word: 0, .. } => break,
            other => panic!("{other:?}"),
        }
        answer = Some(answered);
    }
    assert_eq!(names.len(), native::CHECKS, "{names:?}");
    assert!(native::OF_KVM.iter().all(|name| names.iter().any(|made| made == name)));
    let traffic = &guest.traffic;
    assert_eq!(traffic.others, native::FORWARDED);
    assert_eq!(traffic.runs, traffic.traps + traffic.others.len(), "one run of the vCPU a call");
    let mut changed = traffic.changed.iter();
    assert!(changed.all(|nr| native::MAY_CHANGE.contains(nr)), "{:?}", traffic.changed);
}

/// KVM's counts of exits, a folder a virtual machine (Linux, "KVM statistics").
const COUNTS: &str = "/sys/kernel/debug/kvm";

/// Why KVM's counts cannot be read.
fn no_counts() -> Option<&'static str> {
    fs::read_dir(COUNTS).is_err().then_some("KVM's counts are in debugfs, which is for root")
}

/// How many exits of one kind all machines of this program have had.
fn exits(kind: &str) -> u64 {
    let own = format!("{}-", process::id());
    let machines = fs::read_dir(COUNTS).expect("debugfs").map(|entry| entry.expect("debugfs"));
    let counts = machines.filter(|entry| entry.file_name().to_string_lossy().starts_with(&own));
    let counts: Vec<u64> = counts
        .map(|entry| fs::read_to_string(entry.path().join(kind)).expect("a count"))
        .map(|count| count.trim().parse().expect("a number"))
        .collect();
    assert!(!counts.is_empty(), "there is a machine");
    counts.iter().sum()
}

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

/// A vCPU of a machine returns to this program once a hypercall, and once an upcall, by the store to the doorbell.
fn one_exit_a_call() {
    const CALLS: u64 = 1000;
    let program = guests::build("examples/guests/meter", "meter").expect("a guest");
    let machine =
        MachineBuilder::new(&Image::open(program).expect("an image")).arenas(1 << 20, 1 << 20);
    let host = machine.build(Backend::Kvm, Server).expect("a machine");
    assert_eq!(host.run(), Ok(RunOutcome::Ready));
    let load = LoadClient::from(host.guest());
    let count = |calls: &dyn Fn()| {
        // Once before, so that all pages are there.
        calls();
        let before = ["mmio_exit_user", "signal_exits"].map(exits);
        calls();
        let after = ["mmio_exit_user", "signal_exits"].map(exits);
        [after[0] - before[0], after[1] - before[1]]
    };
    let down = count(&|| assert_eq!(load.scalars(CALLS), Ok((0..CALLS).sum())));
    assert_eq!(down, [CALLS + 1, 0], "hypercalls, in one upcall");
    let threes = count(&|| assert!(load.threes(CALLS).is_ok()));
    assert_eq!(threes, [CALLS + 1, 0], "hypercalls with parameters in memory, in one upcall");
    let up = count(&|| (0..CALLS).for_each(|nr| assert_eq!(load.echo(nr), Ok(nr))));
    assert_eq!(up, [CALLS, 0], "upcalls");
}
