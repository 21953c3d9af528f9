//! Guests that do what they may not, each beside another one that goes on.

use vmffi::{
    abi::{Registers, Transport, answer},
    host::{FaultCause, GuestExit, ProtocolViolation, Vcpu},
};

use crate::{
    glue::Method,
    guest,
    mode::{self, PORT},
    platform::print,
    svm::REGION,
};

/// How the guest is to end.
enum End {
    /// By the exception with this vector.
    Exception(u8),
    /// By a page fault at this address.
    PageFault(u64),
    /// By an access to this port.
    Port(u16),
    /// By the other trap than that of its method: an exception, or an access to its port.
    OtherTrap,
}

const INVALID: u8 = 6;
const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;

/// The modes of the attackers.
const ATTACKS: &[(&str, u64, End)] = &[
    ("writes to the region's header", mode::WRITES_HEADER, End::PageFault(REGION.start)),
    ("runs code in the region", mode::EXECUTES_REGION, End::PageFault(REGION.start + 0x2000)),
    ("has page tables elsewhere", mode::CHANGES_TABLES, End::PageFault(0x100_0000)),
    ("changes CR0", mode::WRITES_CR0, End::Exception(GENERAL_PROTECTION)),
    ("executes a vector instruction", mode::USES_VECTORS, End::Exception(INVALID)),
    ("writes to a debug register", mode::WRITES_DR0, End::Exception(GENERAL_PROTECTION)),
    ("reads a model-specific register", mode::READS_MSR, End::Exception(GENERAL_PROTECTION)),
    ("writes a model-specific register", mode::WRITES_MSR, End::Exception(GENERAL_PROTECTION)),
    ("halts", mode::HALTS, End::Exception(GENERAL_PROTECTION)),
    ("runs a guest of its own", mode::RUNS_GUEST, End::Exception(GENERAL_PROTECTION)),
    ("reads from a port", mode::READS_PORT, End::Port(0x3fd)),
    ("writes one byte to the port of traps", mode::WRITES_BYTE, End::Port(PORT)),
    ("traps by the other instruction", mode::TRAPS_OTHERWISE, End::OtherTrap),
];

/// Checks all of them, and returns the number of checks that have failed.
pub fn check(method: Method) -> u32 {
    let mut failed = 0;
    let mut check = |what: &str, passed: bool| {
        failed += u32::from(!passed);
        print(format_args!("a guest that {what} ... {}", if passed { "ok" } else { "FAILED" }));
    };
    let (mut neighbour, _) = guest(1, mode::KEEPS_REGISTERS, method);
    let mut traps = 0;
    let mut go_on = |rounds: u64| {
        (0..rounds).all(|_| {
            let words = Registers { kind: answer::ANSWER, word: !0, transport: Transport::EMPTY };
            let trap = neighbour.run((traps > 0).then_some(words));
            traps += 1;
            trap.is_ok_and(|trap| trap.transport.secondary == traps - 1)
        })
    };
    check("keeps its registers", go_on(100));
    for (what, mode, end) in ATTACKS {
        let (mut attacker, _) = guest(0, *mode, method);
        let ended = attacker.run(None);
        let passed = match (end, &ended) {
            (End::Exception(vector), Err(GuestExit::Fault(fault))) => {
                fault.cause == FaultCause::Exception(*vector)
            }
            (End::PageFault(address), Err(GuestExit::Fault(fault))) => {
                fault.cause == FaultCause::Exception(PAGE_FAULT) && fault.address == Some(*address)
            }
            (End::OtherTrap, Err(GuestExit::Fault(fault))) => {
                method != Method::Vmmcall
                    && fault.cause == FaultCause::Exception(GENERAL_PROTECTION)
            }
            (End::OtherTrap, Err(exit)) => method == Method::Vmmcall && is_access(exit, PORT),
            (End::Port(port), Err(exit)) => is_access(exit, *port),
            _ => false,
        };
        if !passed {
            print(format_args!("    {ended:?}"));
        }
        check(what, passed);
    }
    check("goes on beside all these", go_on(2));
    failed
}

fn is_access(exit: &GuestExit, port: u16) -> bool {
    *exit == GuestExit::Protocol(ProtocolViolation::Access { at: port.into() })
}
