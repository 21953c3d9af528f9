//! The gate: one page of code, the only code in a guest's process that may make system calls.
//!
//! The page is a complete ELF program, which the process executes. It makes the system calls of a script that the host
//! has written, and then waits for its first command. From then on a vCPU enters the page in two ways: the guest calls it
//! in order to trap (ABI, Traps TR-19), and the kernel calls the handler of signals. Both make the same system call,
//! which the host receives as a notification of seccomp(2). Its arguments are
//!
//! | register | trap of the guest | signal |
//! |---|---|---|
//! | RDI | kind | [`SIGNALLED`] plus the number of the signal |
//! | RSI | word | address of `siginfo_t` |
//! | RDX | primary | address of `ucontext_t` |
//! | R10 | secondary | 0 |
//! | R8 | number of the trap | number of the trap |
//!
//! The host answers with the sum of the address of the vCPU's slot and a [`Command`], so the gate depends on nothing
//! that the guest can write, except for the number, which only matters to the guest itself. Where a vCPU's registers
//! must not change, the gate uses only those that a call of the gate may change: RCX, RDX, RSI, RDI, R10, R11 and the
//! status flags.
//!
//! The guest can jump to any byte of the page. What the instructions there can do is limited by the filter: the
//! kernel denies all system calls but three, and those at other addresses or with other arguments.
//!
//! The kernel uses the signal stack from its top wherever the guest's RSP points, also into the signal stack itself, and
//! disables it until the handler has ended (`SS_AUTODISARM`). Otherwise a guest with RSP at the stack's low end could
//! not receive a signal, and the kernel would kill it. So the gate sets the signal stack again before it unblocks the
//! signals.

use core::arch::global_asm;

use super::super::address_space::{DOORBELL_AT, MAX_VCPUS};

/// The address of the page: behind all stacks and before the doorbell.
pub(super) const GATE_AT: u64 = 0x1f0_0000_0000;
/// The length of the page, and of the program, in bytes.
pub(super) const GATE_LEN: usize = 4096;
/// The address of the control memory, which the host writes and the guest can only read: the common part, then a slot
/// for each vCPU.
pub(super) const CONTROL_AT: u64 = GATE_AT + CONTROL;
const CONTROL: u64 = 0x10_0000;
/// Offsets in the common part, each of eight bytes: the signals that the guest's threads block; [`FSGSBASE`] and
/// [`XSAVE`]; the guest's entry point; the error of a script, and the address of its step.
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
/// Offsets from [`SAVED`], and in the save area: RBP, R12 to R15, RSP, the bases of FS and GS, RFLAGS; then the other
/// registers in the format of XSAVE, or of FXSAVE. The area is aligned to 64 bytes.
pub(super) const RSP: u64 = 40;
pub(super) const BASES: u64 = 48;
pub(super) const RFLAGS: u64 = 64;
pub(super) const VECTORS: u64 = 128;
/// The greatest length of the registers in the format of XSAVE.
pub(super) const MAX_VECTORS_LEN: u64 = 0x5000;
/// The offset in a slot at which the script of the vCPU's thread begins. It is used before the registers are.
pub(super) const SCRIPT: u64 = 0x1000;
/// The offsets in a slot at which the list of copies for [`Command::Copy`] begins, and behind it: for each three words,
/// where to, where from, and a number of words, which is 0 at the end of the list. From 0, zeros are written.
pub(super) const COPIES: u64 = 0x6000;
pub(super) const COPIES_END: u64 = SIGNAL_STACK;
const _: () = assert!(SAVED + VECTORS + MAX_VECTORS_LEN <= COPIES);

/// The addresses at which a process can read the image, and its checkpoint, each at the offsets of the machine's memory.
pub(super) const IMAGE_AT: u64 = 0x300_0000_0000;
pub(super) const CHECKPOINT_AT: u64 = 0x400_0000_0000;
const _: () = assert!(DOORBELL_AT < IMAGE_AT);

/// The address of the scratch memory, which the gate writes, and the guest can write: a page with the number of the last
/// trap, then a signal stack for each vCPU.
pub(super) const SCRATCH_AT: u64 = GATE_AT + SCRATCH;
const SCRATCH: u64 = 0x80_0000;
/// The offset of the first signal stack in the scratch memory, and the length of one. The save area is at the lower end.
pub(super) const SIGNAL_STACKS: u64 = 0x1000;
pub(super) const SIGNAL_STACK_LEN: u64 = 0x1_0000;
const _: () = {
    let vcpus = MAX_VCPUS as u64;
    assert!(CONTROL_AT + SLOTS + vcpus * SLOT_LEN <= SCRATCH_AT);
    assert!(SCRATCH_AT + SIGNAL_STACKS + vcpus * SIGNAL_STACK_LEN <= DOORBELL_AT);
};

/// In [`FEATURES`]: the instructions `rdfsbase` and its kin are available.
pub(super) const FSGSBASE: u64 = 1;
/// In [`FEATURES`]: XSAVE is available.
pub(super) const XSAVE: u64 = 2;

/// Offsets in the page: the code that the guest calls; the system call of a trap; the handler of signals; the system
/// calls that set the signal stack and the signal mask; the entry point of the program; and the length of the control
/// memory, four bytes, which the host sets in its copy of the page.
const CALL: u64 = 0x100;
const TRAP: u64 = 0x11b;
const HANDLER: u64 = 0x160;
const ALTERNATE: u64 = 0x200;
const MASK: u64 = 0x240;
const ENTRY: u64 = 0x380;
pub(super) const CONTROL_LEN_AT: usize = 0xf8;
/// The length of `mov eax, imm32` and `syscall`.
const SYSTEM_CALL_LEN: u64 = 7;

/// The instruction pointer behind the system call of a trap, which the filter compares.
pub(super) const TRAPPED_AT: u64 = GATE_AT + TRAP + SYSTEM_CALL_LEN;
/// The instruction pointer behind the system call that sets the signal stack.
pub(super) const ALTERNATED_AT: u64 = GATE_AT + ALTERNATE + SYSTEM_CALL_LEN;
/// The instruction pointer behind the system call that sets the signal mask.
pub(super) const MASKED_AT: u64 = GATE_AT + MASK + SYSTEM_CALL_LEN;
/// The address of the handler of signals.
pub(super) const HANDLER_AT: u64 = GATE_AT + HANDLER;

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

global_asm!(
    ".pushsection .rodata.vmffi_gate, \"a\", @progbits",
    concat!(".hidden ", page_name!()),
    concat!(".weak ", page_name!()),
    concat!(page_name!(), ":"),
    ".Lvmffi_gate:",
    // The ELF header: ELF64, little-endian; ET_EXEC, EM_X86_64; two program headers, no section headers.
    ".byte 0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0",
    ".zero 8",
    ".short 2, 62",
    ".long 1",
    ".quad {gate_at} + {entry}, 64, 0",
    ".long 0",
    ".short 64, 56, 2, 0, 0, 0",
    // PT_LOAD, PF_R | PF_X: the page.
    ".long 1, 5",
    ".quad 0, {gate_at}, {gate_at}, 4096, 4096, 4096",
    // PT_GNU_STACK, PF_R | PF_W. Without it, Linux before 5.8 makes all readable memory executable.
    ".long 0x6474e551, 6",
    ".quad 0, 0, 0, 0, 0, 16",
    ".org .Lvmffi_gate + {control_len_at}",
    ".long 0",

    // The guest's call.
    ".org .Lvmffi_gate + {call}, 0xcc",
    "mov rdi, rax",
    "mov rsi, rbx",
    "mov rdx, r8",
    "mov r10, r9",

    // The trap takes the next number. An error, or 0 from sched_yield itself, means that no host listens.
    ".Lvmffi_trap:",
    "mov r8d, 1",
    "lock xadd [rip + .Lvmffi_gate + {scratch}], r8",
    ".org .Lvmffi_gate + {trap}, 0x90",
    "mov eax, {trap_call}",
    "syscall",
    "test rax, rax",
    "jle .Lvmffi_unheard",
    "test al, 7",
    "jnz .Lvmffi_command",
    // `Answer`: RAX is the address of the slot.
    ".Lvmffi_answer:",
    "mov rbx, [rax + 8]",
    "mov r8, [rax + 16]",
    "mov r9, [rax + 24]",
    "mov rax, [rax]",
    "ret",
    // In a handler all signals are blocked, so an exception there ends the process.
    ".Lvmffi_unheard:",
    "ud2",

    // The handler of signals: RDI is the number, RSI `siginfo_t`, RDX `ucontext_t`.
    ".org .Lvmffi_gate + {handler}, 0xcc",
    "add edi, {signalled}",
    "xor r10d, r10d",
    "jmp .Lvmffi_trap",

    // The other commands. Until `Keep` is done, only registers change that a call may change.
    ".Lvmffi_command:",
    "mov ecx, eax",
    "and ecx, 7",
    "and rax, -8",
    "cmp ecx, {keep}",
    "je .Lvmffi_keep",
    "cmp ecx, {copy}",
    "je .Lvmffi_copy",
    // `Back` and `Enter`. RBX is the command, R15 the slot.
    "mov ebx, ecx",
    "mov r15, rax",
    "xor eax, eax",
    "mov ds, eax",
    "mov es, eax",
    "mov fs, eax",
    "mov gs, eax",
    "test byte ptr [rip + .Lvmffi_gate + {control} + {features}], {fsgsbase}",
    "jz .Lvmffi_flags",
    "mov rax, [r15 + {saved} + {bases}]",
    "wrfsbase rax",
    "mov rax, [r15 + {saved} + {bases} + 8]",
    "wrgsbase rax",
    ".Lvmffi_flags:",
    "lea rsp, [r15 + {saved} + {rflags}]",
    "popfq",
    "test byte ptr [rip + .Lvmffi_gate + {control} + {features}], {xsave}",
    "jz .Lvmffi_fxrstor",
    "mov eax, -1",
    "mov edx, -1",
    "xrstor64 [r15 + {saved} + {vectors}]",
    "jmp .Lvmffi_unblock",
    ".Lvmffi_fxrstor:",
    "fxrstor64 [r15 + {saved} + {vectors}]",
    // sigaltstack(the signal stack in the slot, null)
    ".Lvmffi_unblock:",
    "lea rdi, [r15 + {signal_stack}]",
    "xor esi, esi",
    ".org .Lvmffi_gate + {alternate}, 0x90",
    "mov eax, 131",
    "syscall",
    "test eax, eax",
    "jnz .Lvmffi_unheard",
    // rt_sigprocmask(SIG_SETMASK, the mask in the common part, null, 8)
    "mov edi, 2",
    "lea rsi, [rip + .Lvmffi_gate + {control} + {blocked}]",
    "xor edx, edx",
    "mov r10d, 8",
    ".org .Lvmffi_gate + {mask}, 0x90",
    "mov eax, 14",
    "syscall",
    "test eax, eax",
    "jnz .Lvmffi_unheard",
    "mov rax, r15",
    "mov rbp, [rax + {saved}]",
    "mov r12, [rax + {saved} + 8]",
    "mov r13, [rax + {saved} + 16]",
    "mov r14, [rax + {saved} + 24]",
    "mov r15, [rax + {saved} + 32]",
    "mov rsp, [rax + {saved} + {rsp}]",
    "cmp ebx, {enter}",
    "jne .Lvmffi_answer",
    // `Enter`: the copies, then the entry point. The stack pointer is the address of the boot block.
    "lea r10, [rip + .Lvmffi_enter]",
    "jmp .Lvmffi_copies",
    ".Lvmffi_enter:",
    "mov rdi, rsp",
    "xor eax, eax",
    "xor ebx, ebx",
    "xor ecx, ecx",
    "xor edx, edx",
    "xor esi, esi",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "xor r10d, r10d",
    "xor r11d, r11d",
    "jmp qword ptr [rip + .Lvmffi_gate + {control} + {entry_point}]",

    // `Keep`: saves the registers in the save area, and traps again.
    ".Lvmffi_keep:",
    "mov rsi, [rax + {save_area}]",
    "mov [rsi], rbp",
    "mov [rsi + 8], r12",
    "mov [rsi + 16], r13",
    "mov [rsi + 24], r14",
    "mov [rsi + 32], r15",
    "mov [rsi + {rsp}], rsp",
    "pushfq",
    "pop rax",
    "mov [rsi + {rflags}], rax",
    "test byte ptr [rip + .Lvmffi_gate + {control} + {features}], {fsgsbase}",
    "jz .Lvmffi_xsave",
    "rdfsbase rax",
    "mov [rsi + {bases}], rax",
    "rdgsbase rax",
    "mov [rsi + {bases} + 8], rax",
    ".Lvmffi_xsave:",
    "test byte ptr [rip + .Lvmffi_gate + {control} + {features}], {xsave}",
    "jz .Lvmffi_fxsave",
    "mov eax, -1",
    "mov edx, -1",
    "xsave64 [rsi + {vectors}]",
    "jmp .Lvmffi_kept",
    ".Lvmffi_fxsave:",
    "fxsave64 [rsi + {vectors}]",
    ".Lvmffi_kept:",
    "mov edi, {kept}",
    "jmp .Lvmffi_trap",

    // `Copy`: it uses no stack, since it may run in a handler. R10 says where to continue.
    ".Lvmffi_copy:",
    "lea r10, [rip + .Lvmffi_kept]",
    ".Lvmffi_copies:",
    "lea rdx, [rax + {copies}]",
    "xor eax, eax",
    "cld",
    ".Lvmffi_next_copy:",
    "mov rcx, [rdx + 16]",
    "test rcx, rcx",
    "jz .Lvmffi_copied",
    "mov rdi, [rdx]",
    "mov rsi, [rdx + 8]",
    "add rdx, 24",
    "test rsi, rsi",
    "jz .Lvmffi_clear",
    "rep movsq",
    "jmp .Lvmffi_next_copy",
    ".Lvmffi_clear:",
    "rep stosq",
    "jmp .Lvmffi_next_copy",
    ".Lvmffi_copied:",
    "jmp r10",

    // The entry point of the program. Descriptor 0 is the control memory: mmap(2), shared, at its address.
    ".org .Lvmffi_gate + {entry}, 0xcc",
    "mov eax, 9",
    "lea rdi, [rip + .Lvmffi_gate + {control}]",
    "mov esi, [rip + .Lvmffi_gate + {control_len_at}]",
    "mov edx, 3",
    "mov r10d, 0x11",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "syscall",
    "lea rbx, [rip + .Lvmffi_gate + {control} + {slots} + {script}]",
    "cmp rdi, rax",
    "jne .Lvmffi_exit",
    // A step.
    ".Lvmffi_step:",
    "mov rax, [rbx]",
    "test rax, rax",
    "js .Lvmffi_started",
    "mov r12, rax",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "mov r9, [rbx + 48]",
    "syscall",
    "cmp rax, -4096",
    "jbe .Lvmffi_done",
    "bt r12, 32",
    "jc .Lvmffi_next",
    "jmp .Lvmffi_failed",
    ".Lvmffi_done:",
    "mov rcx, [rbx + 56]",
    "test rcx, rcx",
    "jz .Lvmffi_stored",
    "mov [rcx], eax",
    ".Lvmffi_stored:",
    "cmp r12, 56",
    "jne .Lvmffi_next",
    "test rax, rax",
    "jnz .Lvmffi_next",
    "mov rbx, r9",
    "jmp .Lvmffi_step",
    ".Lvmffi_next:",
    "add rbx, 64",
    "jmp .Lvmffi_step",
    // It has failed: exit_group(1). Without the control memory, the error remains unknown.
    ".Lvmffi_failed:",
    "neg rax",
    "mov [rip + .Lvmffi_gate + {control} + {error}], rax",
    "mov [rip + .Lvmffi_gate + {control} + {failed_step}], rbx",
    ".Lvmffi_exit:",
    "mov eax, 231",
    "mov edi, 1",
    "syscall",
    "ud2",
    // The end of the script: the first trap.
    ".Lvmffi_started:",
    "mov edi, {started}",
    "jmp .Lvmffi_trap",
    ".org .Lvmffi_gate + {gate_len}, 0xcc",
    ".popsection",
    gate_at = const GATE_AT,
    gate_len = const GATE_LEN,
    control = const CONTROL,
    blocked = const BLOCKED,
    features = const FEATURES,
    entry_point = const ENTRY_POINT,
    error = const ERROR,
    failed_step = const FAILED_STEP,
    slots = const SLOTS,
    save_area = const SAVE_AREA,
    rflags = const RFLAGS,
    saved = const SAVED,
    rsp = const RSP,
    bases = const BASES,
    vectors = const VECTORS,
    script = const SCRIPT,
    fsgsbase = const FSGSBASE,
    xsave = const XSAVE,
    control_len_at = const CONTROL_LEN_AT,
    scratch = const SCRATCH,
    call = const CALL,
    trap = const TRAP,
    handler = const HANDLER,
    signal_stack = const SIGNAL_STACK,
    alternate = const ALTERNATE,
    mask = const MASK,
    entry = const ENTRY,
    trap_call = const TRAP_CALL,
    signalled = const SIGNALLED,
    kept = const KEPT,
    started = const STARTED,
    keep = const Command::Keep as u64,
    copy = const Command::Copy as u64,
    copies = const COPIES,
    enter = const Command::Enter as u64,
);

unsafe extern "C" {
    #[link_name = page_name!()]
    static PAGE: [u8; GATE_LEN];
}

/// The program, for a machine whose control memory has this length.
pub(super) fn program(control_len: u32) -> [u8; GATE_LEN] {
    // SAFETY: the assembly above defines `GATE_LEN` bytes at this symbol, in memory that nothing writes.
    let mut page = unsafe { PAGE };
    page[CONTROL_LEN_AT..][..4].copy_from_slice(&control_len.to_le_bytes());
    page
}
