//! Counts the instructions that a guest executes for a call, by single steps of a debugger; and what its process can
//! access.

use core::cell::Cell;
use std::{
    borrow::ToOwned,
    io::BufRead,
    process::{Command as Program, Stdio},
    string::String,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::*;
use crate::{
    abi::{PAGE_SIZE, Side, answer, pointer, signature, trap},
    machine::{Image, MachineBuilder, address_space::Part},
};

use support::{
    guests,
    meter::{
        ParamsLoadEcho, ParamsLoadScalars, ParamsLoadThrees, ParamsMeterScalar, ParamsMeterThree,
    },
};

/// The instructions from one trap to the next: the guest's, and the gate's.
struct Steps {
    guest: u32,
    gate: u32,
}

impl ProcessVcpu {
    fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// Completes a trap with an answer, and runs to the next trap in single steps; `None` if there are none on this
    /// architecture.
    fn step_on(&mut self, kind: u64, word: u64, primary: u64) -> Option<(Steps, Registers)> {
        // The process stops when it has the answer.
        ptrace::interrupt(self.pid()).unwrap();
        let transport = Transport { primary, secondary: 0 };
        self.child.control.set_words(self.number, Registers { kind, word, transport });
        self.command(Command::Answer).unwrap();
        let mut steps = Steps { guest: 0, gate: 0 };
        assert!(matches!(waitpid(self.pid(), None), Ok(WaitStatus::PtraceEvent(..))));
        loop {
            let at = native::tests::program_counter(&ptrace::getregs(self.pid()).unwrap());
            match at.checked_sub(gate::GATE_AT) {
                Some(0..PAGE_SIZE) => steps.gate += 1,
                _ => steps.guest += 1,
            }
            // At the system call.
            if at == native::PLACES.trapped - native::tests::TRAPPING_LEN {
                break;
            }
            if ptrace::step(self.pid(), None) == Err(Errno::EIO) {
                return None;
            }
            let status = waitpid(self.pid(), None);
            assert!(matches!(status, Ok(WaitStatus::Stopped(_, Signal::SIGTRAP))), "{status:?}");
        }
        ptrace::cont(self.pid(), None).unwrap();
        Some((steps, self.receive().unwrap()))
    }
}

/// A process that has connected and waits for upcalls.
fn process() -> ProcessVcpu {
    let image = Image::open(guests::build("examples/guests/meter", "meter").unwrap()).unwrap();
    let plan = MachineBuilder::new(&image).arenas(1 << 20, 1 << 20).plan().unwrap();
    let Made { mut vcpus, memory, .. } = start(&plan, 0).unwrap();
    let mut process = vcpus.remove(0);
    // SAFETY: the region is mapped there, and its header fits into the first page. The guest has not started.
    unsafe { plan.layout.write_header(memory.region()) };
    let handshake = process.run(None).unwrap();
    assert_eq!((handshake.kind, handshake.word), (trap::CALL, signature::HANDSHAKE));
    release(&process, handshake.transport.primary);
    let answer = Registers { kind: answer::ANSWER, word: 0, transport: Transport::EMPTY };
    assert_eq!(process.run(Some(answer)).unwrap().kind, trap::READY);
    process
}

/// Releases a loan: writes its release mark, as a host does after copying the block.
fn release(process: &ProcessVcpu, word: u64) {
    let layout = &process.shared.plan.layout;
    let within = pointer::offset(word).wrapping_sub(layout.arena(Side::Guest).0);
    if pointer::loan(word) != 0 && within < layout.arena(Side::Guest).1 {
        let mark = layout.release_map(Side::Guest) + within / crate::GRANULE_SIZE as u64;
        process.shared.region.write(mark, &[pointer::loan(word)]);
    }
}

std::thread_local! {
    /// How many traps this thread has received again.
    pub(super) static BEGUN_AGAIN: Cell<u64> = const { Cell::new(0) };
}

/// Has a guest call its host while another thread suspends and resumes its process all the time. Each call must come, in
/// its order and once.
fn suspended() {
    let calls = std::env::var("VMFFI_RACES").map_or(2000, |races| races.parse().unwrap());
    let mut process = process();
    let (pid, over) = (process.pid(), AtomicBool::new(false));
    let answer = |kind, word, primary| {
        let transport = Transport { primary, secondary: 0 };
        Some(Registers { kind, word, transport })
    };
    thread::scope(|scope| {
        let suspends = scope.spawn(|| {
            let mut times = 0_u64;
            while !over.load(Ordering::Relaxed) {
                kill(pid, Signal::SIGSTOP).unwrap();
                // Some suspensions end before the process has noticed them.
                thread::sleep(Duration::from_micros(times % 3 * 20));
                kill(pid, Signal::SIGCONT).unwrap();
                thread::sleep(Duration::from_micros(times % 5 * 10));
                times += 1;
            }
            times
        });
        let many = ParamsLoadScalars::FUNCTION.signature;
        let mut call = process.run(answer(answer::UPCALL, many, calls)).unwrap();
        for nr in 0..calls {
            assert_eq!(call.kind, trap::CALL, "call {nr}");
            let parameter = pointer::offset(call.transport.primary);
            let seen = if pointer::loan(call.transport.primary) == 0 {
                call.transport.primary
            } else {
                let mut bytes = [0; 8];
                process.shared.region.read(parameter, &mut bytes).unwrap();
                u64::from_le_bytes(bytes)
            };
            assert_eq!(seen, nr, "call {nr}");
            release(&process, call.transport.primary);
            // The process may be suspended meanwhile.
            if nr % 8 == 0 {
                thread::sleep(Duration::from_micros(100));
            }
            call = process.run(answer(answer::ANSWER, 0, nr)).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        let sum = calls * calls.saturating_sub(1) / 2;
        assert_eq!((call.kind, call.word, call.transport.primary), (trap::RETURN, 0, sum));
        let (times, again) = (suspends.join().unwrap(), BEGUN_AGAIN.take());
        std::println!("{calls} calls, suspended {times} times, {again} began again");
    });
}

#[test]
fn suspended_guests_lose_no_call() {
    suspended();
}

#[test]
fn suspended_guests_lose_no_call_on_kernels_that_interrupt_traps() {
    listener::LIKE_AN_OLD_KERNEL.set(true);
    suspended();
}

/// A checkpoint does not take a process that has ended for a guest that has written nothing.
#[test]
fn the_memory_of_a_process_that_has_ended_is_not_saved() {
    let mut process = process();
    process.save_registers().unwrap();
    kill(process.pid(), Signal::SIGKILL).unwrap();
    let status = std::format!("/proc/{}/status", process.pid());
    while !std::fs::read_to_string(&status).unwrap().contains("zombie") {
        thread::sleep(Duration::from_micros(100));
    }
    let saved = process.save_memory(&AtomicBool::new(false));
    let error = saved.unwrap_err();
    assert!(error.to_string().contains("killed by signal 9"), "{error}");
    assert!(process.shared.checkpoint().is_none());
}

#[test]
fn a_hypercall_takes_few_instructions() {
    let mut process = process();
    // The process is not dumpable.
    if let Err(error) = ptrace::seize(process.pid(), ptrace::Options::empty()) {
        std::println!("skipped: only privileged debuggers may look at a guest's process: {error}");
        return;
    }
    let [scalar, three, of_gate] = native::tests::MOST;
    for (many, one, most) in [
        (ParamsLoadScalars::FUNCTION, ParamsMeterScalar::FUNCTION, scalar),
        (ParamsLoadThrees::FUNCTION, ParamsMeterThree::FUNCTION, three),
    ] {
        let Some((_, call)) = process.step_on(answer::UPCALL, many.signature, 5) else {
            std::println!("skipped: the kernel has no single steps on this architecture");
            return;
        };
        release(&process, call.transport.primary);
        for i in 1..5 {
            let (steps, call) = process.step_on(answer::ANSWER, 0, i).unwrap();
            assert_eq!((call.kind, call.word), (trap::CALL, one.signature));
            let Steps { guest, gate } = steps;
            std::println!("{one}: {guest} instructions, and {gate} of the gate");
            release(&process, call.transport.primary);
            assert!(guest <= most, "{one}: {guest}, more than {most}");
            assert!(gate <= of_gate, "{one}: {gate} of the gate");
        }
        let (_, done) = process.step_on(answer::ANSWER, 0, 5).unwrap();
        assert_eq!((done.kind, done.word, done.transport.primary), (trap::RETURN, 0, 15));
    }
    let (steps, done) =
        process.step_on(answer::UPCALL, ParamsLoadEcho::FUNCTION.signature, 7).unwrap();
    assert_eq!((done.kind, done.word, done.transport.primary), (trap::RETURN, 0, 7));
    std::println!("Load::echo, an upcall: {} instructions", steps.guest);
}

/// The process has its parts mapped, the gate and its memory, and nothing else; one descriptor; and a filter for system
/// calls.
#[test]
fn a_process_has_nothing_else() {
    let process = process();
    let look = |file: &str| std::format!("/proc/{}/{file}", process.pid());
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
    let mut right: Vec<_> = process.shared.plan.space.parts.iter().map(of).collect();
    let control = &process.child.control;
    let space = &process.shared.plan.space;
    right.extend([
        (gate::IMAGE_AT, gate::IMAGE_AT + space.image_len, "r--".to_owned()),
        (gate::CHECKPOINT_AT, gate::CHECKPOINT_AT + space.region, "r--".to_owned()),
        (gate::GATE_AT, gate::GATE_AT + PAGE_SIZE, "r-x".to_owned()),
        (gate::CONTROL_AT, gate::CONTROL_AT + control.len, "r--".to_owned()),
        (gate::SCRATCH_AT, gate::SCRATCH_AT + control.scratch_len, "rw-".to_owned()),
    ]);
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
    let descriptors: Vec<_> = std::fs::read_dir(look("fd")).unwrap().flatten().collect();
    assert_eq!(descriptors.len(), 1);
    let socket = std::fs::read_link(descriptors[0].path()).unwrap();
    assert!(socket.to_string_lossy().starts_with("socket:"), "{socket:?}");
    let status = std::fs::read_to_string(look("status")).unwrap();
    // SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGUSR1, SIGSEGV and SIGSYS are not blocked, nor are SIGKILL and SIGSTOP.
    for line in [
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
        "Threads:\t1",
        "TracerPid:\t0",
        "SigBlk:\tffffffffbffbf827",
    ] {
        assert!(status.contains(line), "no {line:?} in {status}");
    }
}

/// When its host is killed, so is the guest.
#[test]
fn a_process_dies_with_its_host() {
    const HOST: &str = "VMFFI_TEST_IS_HOST";
    if std::env::var_os(HOST).is_some() {
        let process = process();
        std::println!("guest {}", process.pid());
        loop {
            thread::park();
        }
    }
    let mut host = Program::new(std::env::current_exe().unwrap())
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
        thread::sleep(Duration::from_millis(10));
        // It remains a zombie until its new parent reaps it.
        !guest.exists()
            || std::fs::read_to_string(guest.join("stat")).is_ok_and(|stat| stat.contains(") Z "))
    });
    assert!(gone, "{} is still there", guest.display());
}

/// The system calls of the page are where the filter and the host expect them.
#[test]
fn the_page_is_a_program() {
    let page = start::page(0x9000);
    assert_eq!(&page[..4], b"\x7fELF");
    for (behind, number) in [
        (native::PLACES.trapped, gate::TRAP_CALL),
        (native::PLACES.alternated, libc::SYS_sigaltstack),
        (native::PLACES.masked, libc::SYS_rt_sigprocmask),
    ] {
        let code = native::tests::system_call(number as u32);
        assert_eq!(page[(behind - gate::GATE_AT) as usize - code.len()..][..code.len()], code);
    }
    assert_eq!(page[gate::CONTROL_LEN_AT..][..4], 0x9000_u32.to_le_bytes());
}
