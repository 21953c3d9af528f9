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
    crimes::{Dies, UNDEFINED, dies, is_page_fault},
    list::{List, at, deed, region},
    native::{self, GENERAL, PLAIN, SINGLE_STEP, TRAPPED, UNHEARD},
    ops::{At, Base, Deed, Op},
    slower,
};

/// Addresses in a guest's process (`src/machine/process/gate.rs`).
const GATE: u64 = 0x1f0_0000_0000;
const CALL: u64 = GATE + 0x100;
const CONTROL: u64 = GATE + 0x10_0000;
const SLOT: u64 = CONTROL + 0x1000;
const SLOT_LEN: u64 = 0x8000;
const SCRATCH: u64 = GATE + 0x80_0000;
/// The first signal stack.
const STACK: u64 = SCRATCH + 0x1000;
const STACK_LEN: u64 = 0x1_0000;

/// `SIGUSR1`, which stops a vCPU.
const STOP: u64 = 10;

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
        self.attempt_within(Duration::from_millis(10) * slower(), list)
    }

    /// The same with a limit of time, where the guest must come to another end.
    #[track_caller]
    fn attempt_within(&mut self, limit: Duration, list: &List) -> Option<GuestExit> {
        let target = &self.target;
        let within = target.host.with_deadline(limit);
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
                        cause if is_page_fault(cause) => "page faults",
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
    // The rest of the page is filled.
    code.truncate(code.iter().rposition(|byte| *byte != native::FILL).unwrap() + 1);
    code.resize(code.len().next_multiple_of(native::STEP as usize), native::FILL);
    assert!((0x200..0x600).contains(&code.len()), "{:#x}", code.len());
    code
}

/// The address after each system call in the gate.
fn after_system_calls(code: &[u8]) -> Vec<u64> {
    let len = native::SYSTEM_CALL.len();
    let found = code.windows(len).enumerate().filter(|(_, bytes)| *bytes == native::SYSTEM_CALL);
    found.map(|(nr, _)| CALL + (nr + len) as u64).collect()
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
        ([0; GENERAL], PLAIN, at(0)),
        ([u64::MAX; GENERAL], PLAIN, at(u64::MAX)),
        ([SCRATCH + 0x100; GENERAL], PLAIN, at(STACK + STACK_LEN)),
        ([SCRATCH; GENERAL], PLAIN | native::OTHERS, at(STACK + 512)),
        ([SLOT; GENERAL], PLAIN, at(SLOT + 0x100)),
        ([SLOT | 2; GENERAL], PLAIN | SINGLE_STEP, At(Base::Boot, 0)),
        ([GATE + 0x100; GENERAL], PLAIN, at(GATE + 0x200)),
        ([own; GENERAL], PLAIN, at(own)),
        // Numbers of system calls that the gate makes, and arguments that they may have.
        (native::of_the_gate(CONTROL, SLOT), PLAIN, At(Base::Boot, 0)),
    ];
    for byte in (0..code.len() as u64).step_by(native::STEP as usize) {
        for (registers, flags, stack) in sets {
            let list = prepare.clone().jump(at(CALL + byte), registers, flags, stack);
            victims.attempt(&list);
        }
    }
    // From the header on, in steps.
    for byte in (0..0x100).step_by(3) {
        victims.attempt(&List::new().jump(at(GATE + byte), [own; GENERAL], PLAIN, at(own)));
    }
    victims.text()
}

/// Every number, also those of x32 and undefined ones, at every system call of the gate.
fn system_calls(on: On) -> String {
    let mut victims = Victims::new(on);
    let places = after_system_calls(&code(&victims.target));
    assert!(places.len() >= 5 && places[0] == TRAPPED, "{places:x?}");
    let [trap, alternate, mask] = native::NUMBERS;
    let x32 = 0x4000_0000;
    let numbers = (0..=480)
        .chain((512..548).map(|nr| nr | x32))
        .chain([trap, mask, alternate].map(|nr| nr | x32));
    let mut passed = 0;
    let others = [u64::from(u32::MAX), 0x8000_0000, 1 << 32 | trap, trap << 32, u64::MAX];
    for number in numbers.chain(others) {
        // At three of them, one number each is the one that the gate uses.
        let arguments = [2, CONTROL, 0, 8];
        for place in &places {
            let registers = native::system_call(number, arguments);
            let call = place - native::SYSTEM_CALL.len() as u64;
            let list = List::new().jump(at(call), registers, PLAIN, At(Base::Boot, 0));
            let end = victims.attempt_within(Duration::from_secs(1) * slower(), &list).unwrap();
            // seccomp(2) compares 32 bits of the number, and the kernel uses the same 32 bits.
            let call = GuestExit::Protocol(ProtocolViolation::Order(2));
            if u64::from(number as u32) == trap && *place == TRAPPED {
                assert_eq!(end, call, "{number:#x} at {place:#x}");
                continue;
            }
            let GuestExit::Fault(fault) = &end else {
                panic!("{number:#x} at {place:#x}: {end:?}")
            };
            // Since Linux 6.11 and 6.18, filters do not see these two of x86_64: uretprobe and uprobe. They serve only code that
            // the kernel itself has mapped for tracing; otherwise they raise SIGILL, or return an error.
            if matches!(number as u32, 335 | 336) && fault.cause != FaultCause::SystemCall(number) {
                passed += 1;
                continue;
            }
            if u64::from(number as u32) == mask && is_page_fault(fault.cause) {
                // The signal mask is unchanged, and the gate continues with a slot at 0.
                assert_eq!(fault.address, Some(native::AFTER_MASK), "{place:#x}");
                continue;
            }
            let told = number as u32 as i32 as u64;
            assert_eq!(fault.cause, FaultCause::SystemCall(told), "{number:#x} at {place:#x}");
        }
    }
    format!("{}; {passed} that no filter sees", victims.text())
}

/// System calls of the gate and others, from other places, and by the other entries of the kernel.
fn elsewhere(on: On) -> String {
    let mut victims = Victims::new(on);
    for number in native::DENIED {
        for deed in native::SYSTEM_CALLS {
            let list = List::new().deed(deed, at(0), number);
            let end = victims.attempt(&list);
            let Some(GuestExit::Fault(fault)) = end else { panic!("{end:?}") };
            assert_eq!(fault.cause, FaultCause::SystemCall(number), "{deed:?}");
        }
        if let Some(deed) = native::PERHAPS_A_SYSTEM_CALL {
            let end = victims.attempt(&List::new().deed(deed, at(0), number));
            let Some(GuestExit::Fault(fault)) = end else { panic!("{end:?}") };
            let known = [FaultCause::SystemCall(number), FaultCause::Exception(native::UNDEFINED)];
            assert!(
                known.contains(&fault.cause) || fault.address == Some(fault.instruction),
                "{fault:?}"
            );
        }
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
                (at(STACK + 64), PLAIN | native::OTHERS),
                (at(own), PLAIN),
            ] {
                let registers = native::answered([own; GENERAL], slot | command);
                for to in native::ANSWERS {
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
fn forged_signal(signal: u64, code: u64, call: u64, pc: u64, number: u64, address: u64) -> List {
    let (info, context) = (STACK + 0x2000, STACK + 0x1000);
    let words = [(info + 8, code), (info + 24, call)].into_iter();
    let list = words
        .chain(native::signal_frame(info, context, pc, number, address))
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
            let cause = match (signal, native::exception(signal, number)) {
                (31, _) => FaultCause::SystemCall(number as i32 as u64),
                (_, Some(exception)) => FaultCause::Exception(exception),
                _ => FaultCause::Signal(signal as i32),
            };
            let address = is_page_fault(cause).then_some(0x5678);
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
    dies(target, &forged_signal(4, 1, 0, 0, native::UNDEFINED.into(), 0), &[UNDEFINED])
}

/// The guest can read the gate and the control memory, but cannot write them.
fn writes(on: On) -> String {
    let mut victims = Victims::new(on);
    let last = GATE + 4096 - 8;
    let places = [
        GATE,
        CALL,
        native::TRAP,
        UNHEARD,
        last,
        CONTROL,
        CONTROL + 16,
        SLOT,
        SLOT + 64,
        SLOT + SLOT_LEN - 8,
    ];
    for place in places {
        for deed in native::STORES {
            // An atomic addition may have to be aligned.
            let place = if deed == Deed::Add { place & !7 } else { place };
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
        let end =
            victims.attempt(&List::new().jump(at(place), [0; GENERAL], PLAIN, At(Base::Boot, 0)));
        assert_page_fault(end, place);
    }
    victims.text()
}

#[track_caller]
fn assert_page_fault(end: Option<GuestExit>, place: u64) {
    let Some(GuestExit::Fault(fault)) = end else { panic!("{end:?} at {place:#x}") };
    assert!(is_page_fault(fault.cause), "{fault}");
    assert_eq!(fault.address, Some(place), "{fault}");
}
