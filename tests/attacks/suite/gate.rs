//! Attacks on the gate, the only code in a guest's process that may make system calls, and on the memory that it uses. The
//! worst outcome is the end of that guest, reported correctly, and a reset makes the guest work again.

mod lives;

use std::{
    collections::BTreeMap,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use vmffi::{
    ErrorKind,
    abi::Transport,
    host::{FaultCause, GuestExit, ProtocolViolation},
};

use super::{
    Came, Case,
    connection::{On, REGION, Setup, Target, ToldClient},
    crimes::{Dies, dies},
    list::{List, at, deed, region},
    ops::{At, Base, Deed, Op},
};

/// Addresses in a guest's process (`src/machine/process/gate.rs`).
const GATE: u64 = 0x1f0_0000_0000;
const CALL: u64 = GATE + 0x100;
/// The trap, its `syscall`, and the instruction after that.
const TRAP: u64 = GATE + 0x11b;
const SYSCALL: u64 = TRAP + 5;
const TRAPPED: u64 = TRAP + 7;
/// An instruction that raises an exception.
const UD2: u64 = GATE + 0x13b;
const CONTROL: u64 = GATE + 0x10_0000;
const SLOT: u64 = CONTROL + 0x1000;
const SLOT_LEN: u64 = 0x8000;
const SCRATCH: u64 = GATE + 0x80_0000;
/// The first signal stack.
const STACK: u64 = SCRATCH + 0x1000;
const STACK_LEN: u64 = 0x1_0000;

/// No flags are set in RFLAGS of a guest.
const PLAIN: u64 = 0x202;
const SINGLE_STEP: u64 = 0x100;
/// `SIGUSR1`, which stops a vCPU.
const STOP: u64 = 10;

/// The general registers, in the order of [`Op::Jump`].
type General = [u64; 15];
const RAX: usize = 0;
const RDX: usize = 3;
const RSI: usize = 4;
const RDI: usize = 5;
const R8: usize = 7;
const R10: usize = 9;

pub fn cases() -> Vec<Case> {
    let cases = vec![
        Case::other("jumps_to_every_byte_of_the_gate", jumps),
        Case::other("system_calls_by_the_gates_own", system_calls),
        Case::other("system_calls_from_elsewhere", elsewhere),
        Case::other("forged_commands", commands),
        Case::new("forged_signals_with_frames_elsewhere", signals_elsewhere),
        Case::new("forged_signals_with_frames", forged_frames),
        Case::other("writes_to_the_gates_memory", writes),
    ];
    cases.into_iter().chain(lives::cases()).map(|case| case.only(On::is_process)).collect()
}

/// Registers for a trap by a jump to its system call.
fn trap_by_jump(kind: u64, number: u64) -> General {
    let mut registers = [0; 15];
    (registers[RAX], registers[RDI], registers[R8]) = (24, kind, number);
    registers
}

/// Aborts the program if this takes too long: after a lost stop, the host would wait forever.
fn watched<R>(run: impl FnOnce() -> R) -> R {
    let (done, wait) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(Duration::from_secs(120)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("a stop was lost: the guest still runs");
                std::process::abort();
            }
        });
        let result = run();
        drop(done);
        result
    })
}

/// A reset, and then honest code that must run exactly once.
#[track_caller]
fn assert_anew(target: &Target) {
    assert_eq!(target.host.reset(), Ok(()));
    let count = region(target.own(0x100));
    let word = Transport { primary: target.lent(0x100), secondary: 8 };
    let list = deed(Deed::Add, count, 1).returns(0, word);
    let bytes = target.told().bytes(list.bytes()).and_then(|bytes| bytes.read_vec());
    assert_eq!(bytes, Ok(1_u64.to_le_bytes().to_vec()), "{:?}", target.end());
    assert_eq!(target.end(), None);
}

/// How often each outcome occurred.
#[derive(Default)]
struct Counts(BTreeMap<&'static str, u32>);

impl Counts {
    fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    fn text(&self) -> String {
        let each = self.0.iter().map(|(what, count)| format!("{count} {what}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// A guest that is attacked repeatedly, and its neighbour.
struct Victims {
    target: Target,
    neighbour: Target,
    counts: Counts,
    done: u32,
}

impl Victims {
    fn new(on: On) -> Self {
        let [target, neighbour] = [(); 2].map(|()| Target::new(on, &Setup::PLAIN));
        Self { target, neighbour, counts: Counts::default(), done: 0 }
    }

    /// Executes a list in the guest. The outcome is counted, and a reset ends it.
    #[track_caller]
    fn attempt(&mut self, list: &List) -> Option<GuestExit> {
        let target = &self.target;
        let within = target.host.with_deadline(Duration::from_millis(10));
        let done = ToldClient::from(within.guest()).does(list.bytes());
        let end = target.end();
        let what = match (&done, &end) {
            (Ok(_), None) => "results",
            (Err(error), None) => {
                assert!(error.reached(), "{error:?}");
                "bad results"
            }
            (Err(error), Some(end)) => {
                assert_eq!((error.kind(), error.reached()), (end.kind(), true), "{end:?}");
                match end {
                    GuestExit::Fault(fault) => match fault.cause {
                        FaultCause::Exception(14) => "page faults",
                        FaultCause::Exception(_) => "other exceptions",
                        FaultCause::SystemCall(_) => "denied system calls",
                        FaultCause::Signal(_) => "forged signals",
                        _ => "other faults",
                    },
                    GuestExit::Protocol(_) => "unknown traps",
                    GuestExit::Deadline => "stopped",
                    GuestExit::Exited { .. } => "exits",
                    end => panic!("{end:?}"),
                }
            }
            (Ok(_), Some(end)) => panic!("{end:?}"),
        };
        self.counts.add(what);
        assert_eq!(target.host.reset(), Ok(()));
        let plain = List::new().returns(0, Transport::word(77));
        assert_eq!(target.told().does(plain.bytes()), Ok(77), "{:?} after {end:?}", target.end());
        self.done += 1;
        if self.done % 500 == 0 {
            self.assert_well();
        }
        end
    }

    #[track_caller]
    fn assert_well(&self) {
        self.target.assert_works();
        self.target.assert_treasure();
        self.neighbour.assert_works();
        self.neighbour.assert_treasure();
    }

    fn text(self) -> String {
        self.assert_well();
        format!("in {} attempts: {}", self.done, self.counts.text())
    }
}

/// The code of the gate, as the guest reads it, from its offset in the page on.
fn code(target: &Target) -> Vec<u8> {
    let copy = Op::Copy { to: region(target.own(0x1000)), from: at(CALL), len: 0xf00 };
    let words = Transport { primary: target.lent(0x1000), secondary: 0xf00 };
    let list = List::new().op(copy).returns(0, words);
    let mut code = target.told().bytes(list.bytes()).unwrap().read_vec().unwrap();
    // The rest of the page is `int3`.
    code.truncate(code.iter().rposition(|byte| *byte != 0xcc).unwrap() + 1);
    assert!((0x200..0x400).contains(&code.len()), "{:#x}", code.len());
    code
}

/// The address after each `syscall` in the gate.
fn after_system_calls(code: &[u8]) -> Vec<u64> {
    let found = code.windows(2).enumerate().filter(|(_, bytes)| *bytes == [0x0f, 0x05]);
    found.map(|(nr, _)| CALL + nr as u64 + 2).collect()
}

/// All registers hold an address in the guest's memory; the words there point to this memory in turn.
fn own_memory(target: &Target) -> (List, u64) {
    let place = target.own(0x1000);
    let list = List::new().write(region(place), &(REGION + place).to_le_bytes().repeat(64));
    (list, REGION + place + 0x100)
}

fn jumps(on: On) -> String {
    let mut victims = Victims::new(on);
    let code = code(&victims.target);
    let (prepare, own) = own_memory(&victims.target);
    let sets = [
        ([0; 15], PLAIN, at(0)),
        ([u64::MAX; 15], PLAIN, at(u64::MAX)),
        ([SCRATCH + 0x100; 15], PLAIN, at(STACK + STACK_LEN)),
        ([SCRATCH; 15], PLAIN | 0x47c00, at(STACK + 512)),
        ([SLOT; 15], PLAIN, at(SLOT + 0x100)),
        ([SLOT | 2; 15], PLAIN | SINGLE_STEP, At(Base::Boot, 0)),
        ([GATE + 0x100; 15], PLAIN, at(GATE + 0x200)),
        ([own; 15], PLAIN, at(own)),
        // Numbers of system calls that the gate makes, and arguments that they may have.
        ([24, 2, 14, 0, CONTROL, 2, SLOT, 7, 8, 8, 14, 24, 0, 0, SLOT], PLAIN, At(Base::Boot, 0)),
    ];
    for byte in 0..code.len() as u64 {
        for (registers, flags, stack) in sets {
            let list = prepare.clone().jump(at(CALL + byte), registers, flags, stack);
            victims.attempt(&list);
        }
    }
    // From the header on, in steps.
    for byte in (0..0x100).step_by(3) {
        victims.attempt(&List::new().jump(at(GATE + byte), [own; 15], PLAIN, at(own)));
    }
    victims.text()
}

/// Every number, also those of x32 and undefined ones, at every `syscall` of the gate.
fn system_calls(on: On) -> String {
    let mut victims = Victims::new(on);
    let places = after_system_calls(&code(&victims.target));
    assert!(places.len() >= 5 && places[0] == TRAPPED, "{places:x?}");
    let x32 = 0x4000_0000;
    let numbers =
        (0..=480).chain((512..548).map(|nr| nr | x32)).chain([24 | x32, 14 | x32, 131 | x32]);
    let mut passed = 0;
    let others = [u64::from(u32::MAX), 0x8000_0000, 1 << 32 | 24, 24 << 32, u64::MAX];
    for number in numbers.chain(others) {
        // At three of them, one number each is the one that the gate uses.
        let arguments = [2, CONTROL, 0, 8];
        for place in &places {
            let mut registers = [0; 15];
            registers[RAX] = number;
            for (register, value) in [RDI, RSI, RDX, R10].into_iter().zip(arguments) {
                registers[register] = value;
            }
            let list = List::new().jump(at(place - 2), registers, PLAIN, At(Base::Boot, 0));
            let end = victims.attempt(&list).unwrap();
            // seccomp(2) compares 32 bits of the number, and the kernel uses the same 32 bits.
            let call = GuestExit::Protocol(ProtocolViolation::Order(2));
            if number as u32 == 24 && *place == TRAPPED {
                assert_eq!(end, call, "{number:#x} at {place:#x}");
                continue;
            }
            let GuestExit::Fault(fault) = &end else {
                panic!("{number:#x} at {place:#x}: {end:?}")
            };
            // Since Linux 6.11 and 6.18, filters do not see these two: uretprobe and uprobe. They serve only code that the
            // kernel itself has mapped for tracing; otherwise they raise SIGILL, or return an error.
            if matches!(number as u32, 335 | 336) && fault.cause != FaultCause::SystemCall(number) {
                passed += 1;
                continue;
            }
            if matches!(number as u32, 14) && fault.cause == FaultCause::Exception(14) {
                // The signal mask is unchanged, and the gate continues with R15, which is 0.
                assert_eq!(fault.address, Some(0x40), "{place:#x}");
                continue;
            }
            let told = number as u32 as i32 as u64;
            assert_eq!(fault.cause, FaultCause::SystemCall(told), "{number:#x} at {place:#x}");
        }
    }
    format!("{}; {passed} that no filter sees", victims.text())
}

/// System calls of the gate and others, from other places, and by the 32-bit entries.
fn elsewhere(on: On) -> String {
    let mut victims = Victims::new(on);
    // rt_sigprocmask, rt_sigreturn, sched_yield, exit, kill, exit_group, sigaltstack, tgkill, mmap, clone, execve.
    for number in [14, 15, 24, 60, 62, 231, 131, 234, 9, 56, 59] {
        for deed in [Deed::Syscall, Deed::Int80, Deed::Compat] {
            let list = List::new().deed(deed, at(0), number);
            let end = victims.attempt(&list);
            let Some(GuestExit::Fault(fault)) = end else { panic!("{end:?}") };
            assert_eq!(fault.cause, FaultCause::SystemCall(number), "{deed:?}");
        }
        // Also by `sysenter`, if the processor has it.
        let end = victims.attempt(&List::new().deed(Deed::Sysenter, at(0), number));
        let Some(GuestExit::Fault(fault)) = end else { panic!("{end:?}") };
        let known = [FaultCause::SystemCall(number), FaultCause::Exception(6)];
        assert!(
            known.contains(&fault.cause) || fault.address == Some(fault.instruction),
            "{fault:?}"
        );
    }
    victims.text()
}

/// Forged messages of the host to the gate: for its slot, for no slot, and for memory of the guest.
fn commands(on: On) -> String {
    let mut victims = Victims::new(on);
    let (prepare, own) = own_memory(&victims.target);
    let slots = [SLOT, SLOT + SLOT_LEN, CONTROL, SCRATCH, STACK, GATE, own & !7, 0, 1 << 63, 8];
    for slot in slots {
        for command in 0..8 {
            for (stack, flags) in [
                (At(Base::Boot, 0), PLAIN),
                (At(Base::Boot, 0), PLAIN | SINGLE_STEP),
                (at(STACK + 64), PLAIN | 0x44400),
                (at(own), PLAIN),
            ] {
                let mut registers = [own; 15];
                registers[RAX] = slot | command;
                for to in [TRAPPED, TRAPPED + 5] {
                    victims.attempt(&prepare.clone().jump(at(to), registers, flags, stack));
                }
            }
        }
    }
    victims.text()
}

/// Kinds of traps that only the gate's handler uses, made by the guest, with pointers to memory that the kernel has not written.
fn signals_elsewhere(target: &Target) -> Came {
    let own = REGION + target.own(0x1000);
    let mut came = None;
    for kind in (0xff..=0x142).chain([0x180, 0x181, 0x182]) {
        for place in [0, own, SCRATCH, STACK - 32, STACK + 1, STACK + STACK_LEN, SLOT, u64::MAX, !7]
        {
            let words = Transport { primary: place, secondary: 0 };
            let list = List::new().trap(kind, place, words, &List::new());
            came = Some(dies(target, &list, &[Dies::Order(kind)]));
            assert_eq!(target.host.reset(), Ok(()));
        }
    }
    let list = List::new().trap(0x10b, 0, Transport::EMPTY, &List::new());
    dies(target, &list, &[Dies::Order(0x10b)]);
    came.unwrap()
}

/// A trap of the handler for a signal, with a forged frame.
fn forged_signal(signal: u64, code: u64, call: u64, rip: u64, vector: u64, cr2: u64) -> List {
    let (info, context) = (STACK + 0x2000, STACK + 0x1000);
    let words = [
        (info + 8, code),
        (info + 24, call),
        (context + 168, rip),
        (context + 200, vector),
        (context + 216, cr2),
    ];
    let list = words
        .into_iter()
        .fold(List::new(), |list, (place, word)| list.write(at(place), &word.to_le_bytes()));
    let words = Transport { primary: context, secondary: 0 };
    list.trap(0x100 + signal, info, words, &List::new())
}

/// A guest that forges its own end is reported with that end.
fn forged_frames(target: &Target) -> Came {
    let numbers = [0, 1, 6, 13, 14, 17, 31, 32, 255, u64::MAX];
    for signal in 1..=64 {
        for number in numbers {
            let rip = [0x1234, TRAPPED, u64::MAX][(signal % 3) as usize];
            let list = forged_signal(signal, 1, number, rip, number, 0x5678);
            let error = target.told().does(list.bytes()).unwrap_err();
            assert_eq!((error.kind(), error.reached()), (ErrorKind::PeerDied, true));
            let Some(GuestExit::Fault(fault)) = target.end() else { panic!("{:?}", target.end()) };
            let (cause, address) = match (signal, number) {
                (31, number) => (FaultCause::SystemCall(number as i32 as u64), None),
                (7 | 11, 14) => (FaultCause::Exception(14), Some(0x5678)),
                (4, 6) | (5, 1) | (7, 17) | (8, 0) | (11, 0..32) => {
                    (FaultCause::Exception(number as u8), None)
                }
                _ => (FaultCause::Signal(signal as i32), None),
            };
            assert_eq!((fault.cause, fault.address, fault.instruction), (cause, address, rip));
            assert_anew(target);
        }
        // The signal code of a program, not of the kernel.
        let list = forged_signal(signal, 0, 0, 0, 0, 0);
        target.told().does(list.bytes()).unwrap_err();
        let Some(GuestExit::Fault(fault)) = target.end() else { panic!("{:?}", target.end()) };
        assert_eq!(fault.cause, FaultCause::Signal(signal as i32));
        assert_anew(target);
        // After the first trap of a life, the gate jumps back to the life's beginning: forever, or once.
        if matches!(signal, STOP | 11) {
            assert_eq!(target.host.reset(), Ok(()));
            let list = forged_signal(signal, 1, 0, TRAPPED, 0, 0);
            let within = target.host.with_deadline(Duration::from_millis(20));
            watched(|| ToldClient::from(within.guest()).does(list.bytes()).unwrap_err());
            // The memory of that time is not restored, so the guest may end in any way.
            let ended = target.end();
            assert!(
                matches!(
                    ended,
                    Some(GuestExit::Fault(_) | GuestExit::Deadline | GuestExit::Exited { .. })
                ),
                "{ended:?}"
            );
            assert_anew(target);
        }
    }
    dies(target, &forged_signal(8, 1, 0, 0, 0, 0), &[Dies::Exception(0, None)])
}

/// The guest can read the gate and the control memory, but cannot write them.
fn writes(on: On) -> String {
    let mut victims = Victims::new(on);
    let last = GATE + 4096 - 8;
    let places =
        [GATE, CALL, TRAP, UD2, last, CONTROL, CONTROL + 16, SLOT, SLOT + 64, SLOT + SLOT_LEN - 8];
    for place in places {
        for deed in [Deed::Store1, Deed::Store8, Deed::Store16, Deed::StoreX87, Deed::Add] {
            let end = victims.attempt(&List::new().deed(deed, at(place), 1));
            assert_page_fault(end, place);
        }
        assert_eq!(victims.attempt(&List::new().op(Op::Read { at: at(place) })), None);
    }
    // The pages around them are not mapped.
    for place in
        [GATE - 8, GATE + 4096, CONTROL - 8, SLOT + SLOT_LEN, SCRATCH - 8, STACK + STACK_LEN]
    {
        let end = victims.attempt(&List::new().deed(Deed::Store8, at(place), 1));
        assert_page_fault(end, place);
        let end = victims.attempt(&List::new().op(Op::Read { at: at(place) }));
        assert_page_fault(end, place);
    }
    // Neither the control memory nor a signal stack is executable.
    for place in [CONTROL, SLOT, SCRATCH, STACK] {
        let end = victims.attempt(&List::new().jump(at(place), [0; 15], PLAIN, At(Base::Boot, 0)));
        assert_page_fault(end, place);
    }
    victims.text()
}

#[track_caller]
fn assert_page_fault(end: Option<GuestExit>, place: u64) {
    let Some(GuestExit::Fault(fault)) = end else { panic!("{end:?} at {place:#x}") };
    assert_eq!((fault.cause, fault.address), (FaultCause::Exception(14), Some(place)));
}
