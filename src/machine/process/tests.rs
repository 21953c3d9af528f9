//! How many instructions a guest takes for a call: one step after the other.

use std::{borrow::ToOwned, io::BufRead, string::String};

use super::*;
use crate::{
    abi::{Side, answer, pointer, signature, trap},
    machine::{Image, Machine},
};

#[path = "../../../examples/guests/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "each kind of machine's tests build their own guest")]
mod guests;
#[path = "../../../benches/common/meter.rs"]
mod meter;

use meter::{
    ParamsLoadEcho, ParamsLoadScalars, ParamsLoadThrees, ParamsMeterScalar, ParamsMeterThree,
};

impl Process {
    /// Goes on behind a trap with an answer, and counts the instructions up to the next trap, both traps
    /// included.
    fn step_on(&mut self, kind: u64, word: u64, primary: u64) -> (u32, Registers) {
        let user_regs_struct { rip, .. } = self.registers;
        let registers = &mut self.registers;
        (registers.rax, registers.rbx, registers.r8, registers.r9) = (kind, word, primary, 0);
        (registers.rip, registers.orig_rax) = (rip + code::DOORBELL.len() as u64, u64::MAX);
        self.traced.set(*registers).unwrap();
        let mut steps = 1;
        while {
            ptrace::step(self.traced.pid, None).unwrap();
            let status = self.traced.wait().unwrap();
            self.registers = self.traced.registers().unwrap();
            matches!(status, WaitStatus::Stopped(_, Signal::SIGTRAP))
        } {
            steps += 1;
        }
        assert!(self.rings(), "{:?}", self.fault(Signal::SIGSEGV));
        let user_regs_struct { rax, rbx, r8, r9, .. } = self.registers;
        let transport = Transport { primary: r8, secondary: r9 };
        (steps, Registers { kind: rax, word: rbx, transport })
    }
}

/// Started, and parked.
fn process() -> (Process, Arc<Loaded>) {
    let image = Image::open(guests::build("examples/guests/meter", "meter").unwrap()).unwrap();
    let loaded = Arc::new(Machine::new(&image).arenas(1 << 20, 1 << 20).load().unwrap());
    let base = loaded.ram.at(loaded.region);
    // SAFETY: a region has more than a page.
    unsafe { loaded.layout.write_header(base) };
    let mut process = start(&loaded, 0, false).unwrap();
    let meets = process.run(None).unwrap();
    assert_eq!((meets.kind, meets.word), (trap::CALL, signature::MEET));
    give_back(&loaded, meets.transport.primary);
    let (_, ready) = process.step_on(answer::ANSWER, 0, 0);
    assert_eq!(ready.kind, trap::READY);
    (process, loaded)
}

/// Leaves a mark for a loan, as a host does that has copied it.
fn give_back(loaded: &Loaded, word: u64) {
    let layout = &loaded.layout;
    let within = pointer::offset(word).wrapping_sub(layout.arena(Side::Guest).0);
    if pointer::loan(word) != 0 && within < layout.arena(Side::Guest).1 {
        let mark = layout.release_map(Side::Guest) + within / crate::GRANULE as u64;
        loaded.ram.write(loaded.region + mark, &[pointer::loan(word)]);
    }
}

#[test]
fn a_hypercall_takes_few_instructions() {
    let (mut process, loaded) = process();
    for (many, one, most) in [
        (ParamsLoadScalars::FUNCTION, ParamsMeterScalar::FUNCTION, 20),
        (ParamsLoadThrees::FUNCTION, ParamsMeterThree::FUNCTION, 100),
    ] {
        let (_, call) = process.step_on(answer::UPCALL, many.signature, 5);
        give_back(&loaded, call.transport.primary);
        for i in 1..5 {
            let (steps, call) = process.step_on(answer::ANSWER, 0, i);
            assert_eq!((call.kind, call.word), (trap::CALL, one.signature));
            std::println!("{one}: {steps} instructions");
            give_back(&loaded, call.transport.primary);
            assert!(steps <= most, "{one}: {steps}, more than {most}");
        }
        let (_, done) = process.step_on(answer::ANSWER, 0, 5);
        assert_eq!((done.kind, done.word, done.transport.primary), (trap::RETURN, 0, 15));
    }
    let (steps, done) = process.step_on(answer::UPCALL, ParamsLoadEcho::FUNCTION.signature, 7);
    assert_eq!((done.kind, done.word, done.transport.primary), (trap::RETURN, 0, 7));
    std::println!("Load::echo, an upcall: {steps} instructions");
}

/// What the process has is what it was given: no other memory, no descriptor, no system call.
#[test]
fn a_process_has_nothing_else() {
    let (process, loaded) = process();
    let look = |file: &str| std::format!("/proc/{}/{file}", process.traced.pid);
    let maps = match std::fs::read_to_string(look("maps")) {
        // It says of itself that nobody looks in, and then only root does.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            std::println!("skipped: {}: {error}", look("maps"));
            return;
        }
        maps => maps.unwrap(),
    };
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| !line.ends_with("[vsyscall]")) {
        let (range, rest) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        found.push((number(from), number(to), rest[..3].to_owned()));
    }
    let of = |part: &Part| {
        let may = |yes, letter| if yes { letter } else { '-' };
        let may = ['r', may(part.write, 'w'), may(part.execute, 'x')].iter().collect::<String>();
        (part.address, part.address + part.len, may)
    };
    let mut right: Vec<_> = loaded.parts.iter().map(of).collect();
    right.sort();
    // The kernel makes one of two that lie side by side.
    right.dedup_by(|next, before| {
        let one = before.1 == next.0 && before.2 == next.2;
        if one {
            before.1 = next.1;
        }
        one
    });
    assert_eq!(found, right);
    assert_eq!(std::fs::read_dir(look("fd")).unwrap().count(), 0);
    let status = std::fs::read_to_string(look("status")).unwrap();
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "Threads:\t1"] {
        assert!(status.contains(line), "no {line:?} in {status}");
    }
}

/// When its host is killed, so is the guest.
#[test]
fn a_process_dies_with_its_host() {
    const HOST: &str = "VMFFI_TEST_IS_HOST";
    if std::env::var_os(HOST).is_some() {
        let (process, _loaded) = process();
        std::println!("guest {}", process.traced.pid);
        loop {
            thread::park();
        }
    }
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "machine::process::tests::a_process_dies_with_its_host", "--nocapture"])
        .env(HOST, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = io::BufReader::new(host.stdout.take().unwrap());
    let guest = output
        .lines()
        .map(Result::unwrap)
        .find_map(|line| Some(line.split_once("guest ")?.1.parse::<u32>().unwrap()));
    let guest = std::path::PathBuf::from(std::format!("/proc/{}", guest.unwrap()));
    assert!(guest.exists());
    host.kill().unwrap();
    host.wait().unwrap();
    let gone = (0..500).any(|_| {
        thread::sleep(std::time::Duration::from_millis(10));
        // Whoever adopts it may take a while to notice.
        !guest.exists()
            || std::fs::read_to_string(guest.join("stat")).is_ok_and(|stat| stat.contains(") Z "))
    });
    assert!(gone, "{} is still there", guest.display());
}
