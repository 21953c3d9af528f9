//! The trap instructions of aarch64 by themselves.

use vmffi::abi::{Registers, trap};
use vmffi::arch::{
    Trap,
    aarch64::{Hvc, Smc, code},
};

use super::{
    super::machine::doorbell, as_guest, every_register_crosses, memory_is_read_again, words,
};

fn hvc() -> Hvc {
    // SAFETY: the signal handler claims `hvc` with the functions of this ABI on threads with a host; elsewhere it ends the
    // program.
    unsafe { Hvc::new() }
}

fn smc() -> Smc {
    // SAFETY: as for `hvc`.
    unsafe { Smc::new() }
}

/// ABI, Traps TR-22 and TR-25: the handler changes all that SMCCC lets it change.
#[test]
fn every_register_crosses_by_smccc() {
    every_register_crosses(hvc());
    every_register_crosses(smc());
    memory_is_read_again(hvc());
    memory_is_read_again(smc());
}

/// ABI, Traps TR-22 and TR-4: a hypervisor that does not know the call returns -1.
#[test]
fn an_unknown_call_is_no_answer() {
    let unknown = |seen: Registers| Registers { kind: u64::MAX, ..seen };
    let back = as_guest(unknown, || hvc().trap(words(trap::READY, 2, 3, 4)));
    assert_eq!(back.kind, u64::MAX);
}

/// ABI, Traps TR-21: the instruction in each `trap` is the one that [`code`] specifies for hosts.
#[test]
fn encodings_are_as_documented() {
    super::has_instruction(&doorbell(), &code::DOORBELL);
    super::has_instruction(&hvc(), &code::HVC);
    super::has_instruction(&smc(), &code::SMC);
}
