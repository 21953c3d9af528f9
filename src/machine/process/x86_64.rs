//! A guest's process on x86_64: the code of the gate, the registers that it keeps, and the frames of signals.
//!
//! The system call of a trap has its arguments in these registers. A call of the gate has its words in those of the ABI
//! (ABI, Traps TR-6).
//!
//! | register | trap of the guest | signal |
//! |---|---|---|
//! | RDI | kind | [`SIGNALLED`] plus the number of the signal |
//! | RSI | word | address of `siginfo_t` |
//! | RDX | primary | address of `ucontext_t` |
//! | R10 | secondary | 0 |
//! | R8 | number of the trap | number of the trap |
//!
//! Where a vCPU's registers must not change, the gate uses only those that a call of the gate may change: RCX, RDX, RSI,
//! RDI, R10, R11 and the status flags.

use core::arch::global_asm;
use std::io;

use nix::libc;

use super::{
    Interrupted,
    control::Frame,
    gate::{
        BLOCKED, CALL, CONTROL, CONTROL_LEN_AT, COPIES, Command, ENTRY_POINT, ERROR, FAILED_STEP,
        FEATURES, GATE_AT, GATE_LEN, KEPT, Places, SAVE_AREA, SAVED, SCRATCH, SCRIPT, SIGNAL_STACK,
        SIGNALLED, SLOTS, STARTED, TRAP_CALL, page_name,
    },
};

/// `AUDIT_ARCH_X86_64`: 64 bits, little-endian, `EM_X86_64`.
pub(super) const AUDIT_ARCH: u32 = 0xc000_003e;
/// Steps of the script that fail where the system has nothing that they set: names, numbers, arguments.
pub(super) const OPTIONAL_STEPS: [(&str, libc::c_long, [u64; 3]); 0] = [];

/// The end of a process's address space with four levels of page tables.
pub(super) const ENDS: [u64; 1] = [0x7fff_ffff_f000];

/// `struct sigaction` of the kernel, for a handler that blocks all signals: handler, flags, restorer, mask.
pub(super) fn signal_action(flags: u64) -> [u64; 4] {
    /// It announces a restorer, without which the kernel delivers no signal (Linux, `SA_RESTORER`).
    const SA_RESTORER: u64 = 0x0400_0000;
    [PLACES.handler, flags | SA_RESTORER, GATE_AT, !0]
}

/// Offsets from [`SAVED`], and in the save area: RBP, R12 to R15, RSP, the bases of FS and GS, RFLAGS; then the other
/// registers in the format of XSAVE, or of FXSAVE. The area is aligned to 64 bytes.
const RSP: u64 = 40;
const BASES: u64 = 48;
const RFLAGS: u64 = 64;
pub(super) const VECTORS: u64 = 128;
/// The greatest length of the registers in the format of XSAVE.
pub(super) const MAX_VECTORS_LEN: u64 = 0x5000;

/// In [`FEATURES`]: the instructions `rdfsbase` and its kin are available.
const FSGSBASE: u64 = 1;
/// In [`FEATURES`]: XSAVE is available.
const XSAVE: u64 = 2;

/// Offsets in the page: the system call of a trap; the handler of signals; the system calls that set the signal stack
/// and the signal mask; the entry point of the program.
const TRAP: u64 = 0x11b;
const HANDLER: u64 = 0x160;
const ALTERNATE: u64 = 0x200;
const MASK: u64 = 0x240;
const ENTRY: u64 = 0x380;
/// The length of `mov eax, imm32` and `syscall`.
const SYSTEM_CALL_LEN: u64 = 7;
pub(super) const PLACES: Places =
    Places::new(TRAP, HANDLER, ALTERNATE, MASK, ENTRY, SYSTEM_CALL_LEN);

global_asm!(
    ".pushsection .rodata.vmffi_gate, \"a\", @progbits",
    concat!(".hidden ", page_name!()),
    concat!(".weak ", page_name!()),
    concat!(page_name!(), ":"),
    ".Lvmffi_gate:",
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

/// The offset of MXCSR and of XSTATE_BV in the format of XSAVE, and the end of its header (Intel SDM, volume 1, "XSAVE
/// Area").
const MXCSR: usize = 24;
const XSTATE: usize = 512;
const HEADER_END: usize = 576;
/// In XSTATE_BV: PKRU. It gets its initial value, with which all memory is accessible, since the gate still needs the
/// control memory when it has restored the registers.
const PKRU: u64 = 1 << 9;

/// How the processor and the kernel save registers.
#[derive(Clone, Copy)]
pub(super) struct Features {
    /// [`FSGSBASE`] and [`XSAVE`].
    pub(super) bits: u64,
    /// The length of the format of XSAVE or FXSAVE, in bytes, and the components that it may have.
    pub(super) len: usize,
    components: u64,
}

impl Features {
    /// Those of this machine.
    pub(super) fn here() -> io::Result<Self> {
        /// In AT_HWCAP2: the kernel has enabled `rdfsbase` and its kin (Linux, `HWCAP2_FSGSBASE`).
        const HWCAP2_FSGSBASE: u64 = 2;
        // SAFETY: getauxval(3) only reads the auxiliary vector of the process.
        let hwcap2 = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        let mut this = Self { bits: 0, len: XSTATE, components: 3 };
        if hwcap2 & HWCAP2_FSGSBASE != 0 {
            this.bits |= FSGSBASE;
        }
        if std::is_x86_feature_detected!("xsave") {
            // SAFETY: a processor with XSAVE has CPUID leaf 0xd, and the kernel has enabled XGETBV, since
            // `is_x86_feature_detected` checks OSXSAVE.
            let (leaf, components) =
                unsafe { (core::arch::x86_64::__cpuid_count(0xd, 0), enabled_components()) };
            this = Self { bits: this.bits | XSAVE, len: leaf.ebx as usize, components };
        }
        if this.len as u64 > MAX_VECTORS_LEN {
            let what = std::format!("the registers of this processor take {} bytes", this.len);
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        Ok(this)
    }
}

/// XCR0.
///
/// # Safety
///
/// The operating system has enabled XGETBV.
#[target_feature(enable = "xsave")]
unsafe fn enabled_components() -> u64 {
    // SAFETY: the caller guarantees that XGETBV is enabled, and XCR0 exists then.
    unsafe { core::arch::x86_64::_xgetbv(0) }
}

impl Frame {
    /// The registers at the guest's entry point (ABI, "Boot block").
    pub(super) fn entry(stack: u64, features: Features) -> Self {
        let mut this = Self::zeros(features.len);
        this.general[(RSP / 8) as usize] = stack;
        this.general[(RFLAGS / 8) as usize] = RFLAGS_SET;
        // XSTATE_BV is 0, so all components get their initial values, except for MXCSR, which XRSTOR always loads.
        this.vectors[MXCSR / 8] = 0x1f80;
        if features.bits & XSAVE == 0 {
            // FXRSTOR loads everything: the x87 control word is 0x37f.
            this.vectors[0] = 0x37f;
        }
        this
    }

    /// Changes what the gate could not restore in a frame that the guest may have written.
    pub(super) fn make_valid(&mut self, features: Features) {
        // `wrfsbase` raises an exception for an address that is not canonical.
        for base in &mut self.general[(BASES / 8) as usize..][..2] {
            *base = ((*base << 16) as i64 >> 16) as u64;
        }
        let rflags = &mut self.general[(RFLAGS / 8) as usize];
        *rflags = *rflags & RFLAGS_KEPT | RFLAGS_SET;
        self.vectors[MXCSR / 8] &= MXCSR_BITS;
        if let Some(header) = self.vectors.get_mut(XSTATE / 8..HEADER_END / 8) {
            header[1..].fill(0);
            header[0] &= features.components & !PKRU;
        }
    }
}

/// The flag that is always set, and those that are kept: DF, AC and ID, and the status flags (Intel SDM, volume 1, "EFLAGS
/// Register"). A guest that is kept in single steps does not go on in them.
const RFLAGS_SET: u64 = 2;
const RFLAGS_KEPT: u64 = 0x24_0cd5;
/// The bits of MXCSR that are not reserved; its mask follows in the same eight bytes, and is ignored by XRSTOR.
const MXCSR_BITS: u64 = 0xffff;

/// Offsets in `ucontext_t`: RIP, the vector of the last exception, and CR2, the address of the last page fault.
const CONTEXT_RIP: u64 = 168;
const CONTEXT_VECTOR: u64 = 200;
const CONTEXT_CR2: u64 = 216;

/// What a signal has interrupted, as its frame says; `None` if there is no frame. `_info` and `context` read words of
/// `siginfo_t` and of `ucontext_t`, and `_code` reads the instruction at an address.
pub(super) fn interrupted(
    signal: i32,
    _info: impl Fn(u64) -> Option<u64>,
    context: impl Fn(u64) -> Option<u64>,
    _code: impl Fn(u64) -> Option<u32>,
) -> Option<Interrupted> {
    let (instruction, vector) = (context(CONTEXT_RIP)?, context(CONTEXT_VECTOR)?);
    let address = context(CONTEXT_CR2)?;
    // Else the vector is that of an earlier exception: the kernel sends some of these signals without one.
    let exception = match (signal, vector) {
        (libc::SIGSEGV, 0..32)
        | (libc::SIGILL, 6)
        | (libc::SIGTRAP, 1 | 3)
        | (libc::SIGFPE, 0 | 9 | 16 | 19)
        | (libc::SIGBUS, 11 | 12 | 14 | 17) => Some(vector as u8),
        _ => None,
    };
    Some(Interrupted { instruction, exception, address })
}

/// What tests know of the architecture.
#[cfg(test)]
pub(super) mod tests {
    use super::libc::user_regs_struct;

    /// `mov eax, number` and `syscall`.
    pub(in super::super) fn system_call(number: u32) -> [u8; 7] {
        let number = number.to_le_bytes();
        [0xb8, number[0], number[1], number[2], number[3], 0x0f, 0x05]
    }

    /// The length of `syscall`.
    pub(in super::super) const TRAPPING_LEN: u64 = 2;

    pub(in super::super) fn program_counter(registers: &user_regs_struct) -> u64 {
        registers.rip
    }

    /// The greatest numbers of instructions between two traps: of a guest that calls with one scalar, with three, and of the gate.
    pub(in super::super) const MOST: [u32; 3] = [18, 93, 17];
}
