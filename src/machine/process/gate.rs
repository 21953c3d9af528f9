//! The gate: one page of code, the only code in a guest's process that may make system calls.
//!
//! The page is a complete ELF program, which the process executes. It makes the system calls of a script that the host
//! has written, and then waits for its first command. From then on a vCPU enters the page in two ways: the guest calls it
//! in order to trap (ABI, Traps TR-19), and the kernel calls the handler of signals. Both make the same system call,
//! which the host receives as a notification of seccomp(2). The arguments are the four words and the number of the trap; or
//! [`SIGNALLED`] plus the number of the signal, the addresses of `siginfo_t` and `ucontext_t`, 0, and the number of the trap.
//! The code is in one file for each architecture (`native`), which says in which registers these are.
//!
//! The host answers with the sum of the address of the vCPU's slot and a [`Command`], so the gate depends on nothing
//! that the guest can write, except for the number, which only matters to the guest itself.
//!
//! The guest can jump to any byte of the page. What the instructions there can do is limited by the filter: the
//! kernel denies all system calls but three, and those at other addresses or with other arguments.
//!
//! The kernel uses the signal stack from its top wherever the guest's RSP points, also into the signal stack itself, and
//! disables it until the handler has ended (`SS_AUTODISARM`). Otherwise a guest with RSP at the stack's low end could
//! not receive a signal, and the kernel would kill it. So the gate sets the signal stack again before it unblocks the
//! signals.

use super::super::address_space::{DOORBELL_AT, MAX_VCPUS};

/// The address of the page: behind all stacks and before the doorbell.
pub(super) const GATE_AT: u64 = 0x1f0_0000_0000;
/// The length of the page, and of the program, in bytes.
pub(super) const GATE_LEN: usize = 4096;
/// The address of the control memory, which the host writes and the guest can only read: the common part, then a slot
/// for each vCPU.
pub(super) const CONTROL_AT: u64 = GATE_AT + CONTROL;
pub(super) const CONTROL: u64 = 0x10_0000;
/// Offsets in the common part, each of eight bytes: the signals that the guest's threads block; bits for what
/// the processor has (`Features`); the guest's entry point; the error of a script, and the address of its step.
pub(super) const BLOCKED: u64 = 0;
pub(super) const FEATURES: u64 = 8;
pub(super) const ENTRY_POINT: u64 = 16;
pub(super) const ERROR: u64 = 24;
pub(super) const FAILED_STEP: u64 = 32;
/// The path of the directory to which the process changes: `/`.
pub(super) const ROOT: u64 = 40;
/// The offset of the first slot in the control memory, and the length of a slot.
pub(super) const SLOTS: u64 = 0x1000;
pub(super) const SLOT_LEN: u64 = 0x8000;
/// Offsets in a slot: the four words of an answer, the address of the area into which [`Command::Keep`] saves the
/// registers, and the registers that [`Command::Back`] restores.
pub(super) const WORDS: u64 = 0;
pub(super) const SAVE_AREA: u64 = 32;
pub(super) const SAVED: u64 = 64;
/// The offset in a slot of the vCPU's signal stack, a `stack_t` of 24 bytes.
pub(super) const SIGNAL_STACK: u64 = SLOT_LEN - 24;
/// The offset in a slot at which the script of the vCPU's thread begins. It is used before the registers are.
pub(super) const SCRIPT: u64 = 0x1000;
/// The offsets in a slot at which the list of copies for [`Command::Copy`] begins, and behind it: for each three words,
/// where to, where from, and a number of words, which is 0 at the end of the list. From 0, zeros are written.
pub(super) const COPIES: u64 = 0x6000;
pub(super) const COPIES_END: u64 = SIGNAL_STACK;

/// The addresses at which a process can read the image, and its checkpoint, each at the offsets of the machine's memory.
pub(super) const IMAGE_AT: u64 = 0x300_0000_0000;
pub(super) const CHECKPOINT_AT: u64 = 0x400_0000_0000;
const _: () = assert!(DOORBELL_AT < IMAGE_AT);

/// The address of the scratch memory, which the gate writes, and the guest can write: a page with the number of the last
/// trap, then a signal stack for each vCPU.
pub(super) const SCRATCH_AT: u64 = GATE_AT + SCRATCH;
pub(super) const SCRATCH: u64 = 0x80_0000;
/// The offset of the first signal stack in the scratch memory, and the length of one. The save area is at the lower end.
pub(super) const SIGNAL_STACKS: u64 = 0x1000;
pub(super) const SIGNAL_STACK_LEN: u64 = 0x1_0000;
const _: () = {
    let vcpus = MAX_VCPUS as u64;
    assert!(CONTROL_AT + SLOTS + vcpus * SLOT_LEN <= SCRATCH_AT);
    assert!(SCRATCH_AT + SIGNAL_STACKS + vcpus * SIGNAL_STACK_LEN <= DOORBELL_AT);
};

/// Offsets in the page: the code that the guest calls, and the length of the control memory, four bytes, which the host
/// sets in its copy of the page.
pub(super) const CALL: u64 = 0x100;
pub(super) const CONTROL_LEN_AT: usize = 0xf8;

/// Addresses in the gate that depend on the architecture.
pub(super) struct Places {
    /// The instruction pointer behind the system call of a trap, which the filter compares.
    pub(super) trapped: u64,
    /// The instruction pointer behind the system call that sets the signal stack.
    pub(super) alternated: u64,
    /// The instruction pointer behind the system call that sets the signal mask.
    pub(super) masked: u64,
    /// The handler of signals.
    pub(super) handler: u64,
    /// The entry point of the program.
    pub(super) entry: u64,
}

impl Places {
    /// From the offsets of the system calls, whose length is `call_len` bytes, of the handler and of the entry point.
    pub(super) const fn new(
        trap: u64,
        handler: u64,
        alternate: u64,
        mask: u64,
        entry: u64,
        call_len: u64,
    ) -> Self {
        // A vCPU that goes back to the guest, or is in the handler, is between these two.
        assert!(trap < handler && handler < alternate && alternate < mask);
        Self {
            trapped: GATE_AT + trap + call_len,
            alternated: GATE_AT + alternate + call_len,
            masked: GATE_AT + mask + call_len,
            handler: GATE_AT + handler,
            entry: GATE_AT + entry,
        }
    }
}

/// The address that the guest calls in order to trap.
pub(super) const CALL_AT: u64 = GATE_AT + CALL;

/// The system call of traps: sched_yield(2). A number that no kernel knows would not do, since filters of containers
/// refuse it; where there is no filter, sched_yield returns 0, by which the gate detects that.
pub(super) const TRAP_CALL: i64 = nix::libc::SYS_sched_yield;

/// The kind of trap by which a handler reports a signal, less the signal's number.
pub(super) const SIGNALLED: u64 = 0x100;
/// The kind of trap that follows [`Command::Keep`] and [`Command::Copy`].
pub(super) const KEPT: u64 = 0x180;
/// The kind of the first trap, at the end of the script.
pub(super) const STARTED: u64 = 0x181;

/// What the host tells a vCPU to do, in the low three bits of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Command {
    /// Return from the call of the gate, with the four words in the slot.
    Answer = 0,
    /// Save all registers that a call of the gate preserves, and trap again, with [`KEPT`].
    Keep = 1,
    /// Restore the registers in the slot, then do as for `Answer`.
    Back = 2,
    /// Restore the registers in the slot, make the copies in the slot, clear the other registers, and begin at the guest's
    /// entry point.
    Enter = 3,
    /// Make the copies in the slot, and trap again, with [`KEPT`]. It changes the direction flag, so the next command but
    /// another `Copy` is `Back` or `Enter`.
    Copy = 4,
}

/// In the number of a [`Step`]: it may fail. The kernel ignores the bit.
pub(super) const MAY_FAIL: i64 = 1 << 32;

/// A step of a script: a system call. If `number` is negative, the script is at its end. A thread that clone(2) makes continues with the step at the address in the sixth
/// argument, which clone(2) does not read.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Step {
    pub(super) number: i64,
    pub(super) arguments: [u64; 6],
    /// The address at which the low half of the result is stored, or 0.
    pub(super) store: u64,
}

/// The symbol of the page. A program can contain this crate twice: two versions have two symbols, and of one version
/// the linker takes one definition, since it is weak.
macro_rules! page_name {
    () => {
        concat!(
            "vmffi_gate_",
            env!("CARGO_PKG_VERSION_MAJOR"),
            "_",
            env!("CARGO_PKG_VERSION_MINOR"),
            "_",
            env!("CARGO_PKG_VERSION_PATCH")
        )
    };
}
pub(super) use page_name;
