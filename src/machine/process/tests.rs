//! Counts the instructions that a guest executes for a call, by single steps; and what its process can access.

use std::{borrow::ToOwned, io::BufRead, string::String};

use super::*;
use crate::{
    abi::{Side, answer, pointer, signature, trap},
    machine::{Image, MachineBuilder},
};

use support::{
    guests,
    meter::{
        ParamsLoadEcho, ParamsLoadScalars, ParamsLoadThrees, ParamsMeterScalar, ParamsMeterThree,
    },
};

impl Process {
    /// Completes a trap with an answer, and counts the instructions up to the next trap, both traps included.
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
        assert!(self.is_at_doorbell(), "{:?}", self.fault(Signal::SIGSEGV));
        let user_regs_struct { rax, rbx, r8, r9, .. } = self.registers;
        let transport = Transport { primary: r8, secondary: r9 };
        (steps, Registers { kind: rax, word: rbx, transport })
    }
}

/// A process that has connected and waits for upcalls.
fn process() -> (Process, Arc<Loaded>) {
    let image = Image::open(guests::build("examples/guests/meter", "meter").unwrap()).unwrap();
    let loaded = Arc::new(MachineBuilder::new(&image).arenas(1 << 20, 1 << 20).load().unwrap());
    let base = loaded.ram.at(loaded.space.region);
    // SAFETY: the region is mapped at `base`, and its header fits into the first page. The process has not started.
    unsafe { loaded.layout.write_header(base) };
    let mut process = start(&loaded, 0, false).unwrap();
    let handshake = process.run(None).unwrap();
    assert_eq!((handshake.kind, handshake.word), (trap::CALL, signature::HANDSHAKE));
    release(&loaded, handshake.transport.primary);
    let (_, ready) = process.step_on(answer::ANSWER, 0, 0);
    assert_eq!(ready.kind, trap::READY);
    (process, loaded)
}

/// Releases a loan: writes its release mark, as a host does after copying the block.
fn release(loaded: &Loaded, word: u64) {
    let layout = &loaded.layout;
    let within = pointer::offset(word).wrapping_sub(layout.arena(Side::Guest).0);
    if pointer::loan(word) != 0 && within < layout.arena(Side::Guest).1 {
        let mark = layout.release_map(Side::Guest) + within / crate::GRANULE_SIZE as u64;
        loaded.ram.write(loaded.space.region + mark, &[pointer::loan(word)]);
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
        release(&loaded, call.transport.primary);
        for i in 1..5 {
            let (steps, call) = process.step_on(answer::ANSWER, 0, i);
            assert_eq!((call.kind, call.word), (trap::CALL, one.signature));
            std::println!("{one}: {steps} instructions");
            release(&loaded, call.transport.primary);
            assert!(steps <= most, "{one}: {steps}, more than {most}");
        }
        let (_, done) = process.step_on(answer::ANSWER, 0, 5);
        assert_eq!((done.kind, done.word, done.transport.primary), (trap::RETURN, 0, 15));
    }
    let (steps, done) = process.step_on(answer::UPCALL, ParamsLoadEcho::FUNCTION.signature, 7);
    assert_eq!((done.kind, done.word, done.transport.primary), (trap::RETURN, 0, 7));
    std::println!("Load::echo, an upcall: {steps} instructions");
}

/// The process has its parts mapped and nothing else, no descriptors, and a filter for system calls.
#[test]
fn a_process_has_nothing_else() {
    let (process, loaded) = process();
    let look = |file: &str| std::format!("/proc/{}/{file}", process.traced.pid);
    let maps = match std::fs::read_to_string(look("maps")) {
        // The process is not dumpable, so only root may read its maps.
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
    let mut right: Vec<_> = loaded.space.parts.iter().map(of).collect();
    right.sort();
    // The kernel merges adjacent mappings.
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
        // It remains a zombie until its new parent reaps it.
        !guest.exists()
            || std::fs::read_to_string(guest.join("stat")).is_ok_and(|stat| stat.contains(") Z "))
    });
    assert!(gone, "{} is still there", guest.display());
}
