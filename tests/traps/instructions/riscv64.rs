//! The trap instructions of riscv64 by themselves.

use vmffi::abi::trap;
use vmffi::arch::{
    Trap,
    riscv64::{Ecall, code},
};

use super::{super::machine::doorbell, words};

fn ecall() -> Ecall {
    // SAFETY: in a process it is a system call whose number Linux does not know: it changes a0 only.
    unsafe { Ecall::new() }
}

/// ABI, Traps TR-23 and TR-4: who does not know the extension leaves the frame as it is.
#[test]
fn an_unknown_extension_is_no_answer() {
    let sent = words(trap::READY, 2, 3, 4);
    assert_eq!(ecall().trap(sent), sent);
}

/// ABI, Traps TR-21: the instruction in each `trap` is the one that [`code`] specifies for hosts.
#[test]
fn encodings_are_as_documented() {
    super::has_instruction(&doorbell(), &code::DOORBELL);
    super::has_instruction(&ecall(), &code::ECALL);
}
