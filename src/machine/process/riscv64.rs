//! A guest's process on riscv64: the code of the gate, the registers that it keeps, and the frames of signals.
//!
//! The system call of a trap has its arguments in these registers. A call of the gate has its words in the same ones (ABI,
//! Traps TR-24).
//!
//! | register | trap of the guest | signal |
//! |---|---|---|
//! | a0 | kind | [`SIGNALLED`] plus the number of the signal |
//! | a1 | word | address of `siginfo_t` |
//! | a2 | primary | address of `ucontext_t` |
//! | a3 | secondary | 0 |
//! | a4 | number of the trap | number of the trap |
//!
//! Where a vCPU's registers must not change, the gate uses only those that a call of the gate may change: a4 to a7, t0 to
//! t6 and ra. It uses no stack.
//!
//! A system call discards the vector registers, so what a life leaves in registers besides the ones that the gate restores is
//! `vcsr`, which the gate clears.

use core::arch::global_asm;
use std::io;

use nix::libc;

use super::{
    Interrupted,
    control::Frame,
    gate::{
        BLOCKED, CALL, CONTROL_AT, CONTROL_LEN_AT, COPIES, Command, ENTRY_POINT, ERROR,
        FAILED_STEP, FEATURES, GATE_AT, GATE_LEN, KEPT, Places, SAVE_AREA, SAVED, SCRATCH_AT,
        SCRIPT, SIGNAL_STACK, SIGNALLED, SLOTS, STARTED, TRAP_CALL, page_name,
    },
};

/// `AUDIT_ARCH_RISCV64`: 64 bits, little-endian, `EM_RISCV`.
pub(super) const AUDIT_ARCH: u32 = 0xc000_00f3;

/// Steps of the script that fail where the processor has nothing that they set: names, numbers, arguments.
pub(super) const OPTIONAL_STEPS: [(&str, libc::c_long, [u64; 3]); 1] = {
    const PR_RISCV_V_SET_CONTROL: u64 = 69;
    const PR_RISCV_V_VSTATE_CTRL_ON: u64 = 2;
    let arguments = [PR_RISCV_V_SET_CONTROL, PR_RISCV_V_VSTATE_CTRL_ON, 0];
    [("permitting vector instructions (prctl)", libc::SYS_prctl, arguments)]
};

/// The ends of the address spaces that a process may have, by the modes Sv57 and Sv48.
pub(super) const ENDS: [u64; 2] = [1 << 56, 1 << 47];

/// `struct sigaction` of the kernel, for a handler that blocks all signals: handler, flags, mask.
pub(super) fn signal_action(flags: u64) -> [u64; 3] {
    [PLACES.handler, flags, !0]
}

/// Offsets from [`SAVED`], and in the save area: ra, sp, gp, tp, s0 to s11, and `fcsr`; then the registers f0 to f31.
const SP: u64 = 8;
const FCSR: u64 = 128;
pub(super) const VECTORS: u64 = 136;
pub(super) const MAX_VECTORS_LEN: u64 = 32 * 8;

/// In [`FEATURES`]: the vector extension is available.
const VECTOR: u64 = 1;

/// Offsets in the page: the system call of a trap; the handler of signals; the system calls that set the signal stack
/// and the signal mask; the entry point of the program.
const TRAP: u64 = 0x120;
const HANDLER: u64 = 0x180;
const ALTERNATE: u64 = 0x280;
const MASK: u64 = 0x2c0;
const ENTRY: u64 = 0x600;
/// The length of `li a7, number` and `ecall`.
const SYSTEM_CALL_LEN: u64 = 8;
pub(super) const PLACES: Places =
    Places::new(TRAP, HANDLER, ALTERNATE, MASK, ENTRY, SYSTEM_CALL_LEN);

global_asm!(
    ".pushsection .rodata.vmffi_gate, \"a\", @progbits",
    ".option push",
    // All instructions have four bytes, and the linker changes none.
    ".option norvc",
    ".option norelax",
    ".option arch, +zicsr, +a, +f, +d",
    // `\instruction` for each register with its offset from `\base`.
    ".macro vmffi_general instruction, base",
    "\\instruction ra, 0(\\base)",
    "\\instruction gp, 16(\\base)",
    "\\instruction tp, 24(\\base)",
    "\\instruction s0, 32(\\base)",
    "\\instruction s1, 40(\\base)",
    "\\instruction s2, 48(\\base)",
    "\\instruction s3, 56(\\base)",
    "\\instruction s4, 64(\\base)",
    "\\instruction s5, 72(\\base)",
    "\\instruction s6, 80(\\base)",
    "\\instruction s7, 88(\\base)",
    "\\instruction s8, 96(\\base)",
    "\\instruction s9, 104(\\base)",
    "\\instruction s10, 112(\\base)",
    "\\instruction s11, 120(\\base)",
    ".endm",
    ".macro vmffi_floats instruction, base",
    ".irp number, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "\\instruction f\\number, 8 * \\number + {vectors}(\\base)",
    ".endr",
    ".endm",
    concat!(".hidden ", page_name!()),
    concat!(".weak ", page_name!()),
    concat!(page_name!(), ":"),
    ".Lvmffi_gate:",

    // The guest's call.
    ".org .Lvmffi_gate + {call}",
    // The trap takes the next number. An error, or 0 from sched_yield itself, means that no host listens.
    ".Lvmffi_trap:",
    "li t0, {scratch}",
    "li t1, 1",
    "amoadd.d.aqrl a4, t1, (t0)",
    "j .Lvmffi_call",
    ".org .Lvmffi_gate + {trap}",
    ".Lvmffi_call:",
    "li a7, {trap_call}",
    "ecall",
    "blez a0, .Lvmffi_unheard",
    "andi t1, a0, 7",
    "andi t0, a0, -8",
    "bnez t1, .Lvmffi_command",
    // `Answer`: t0 is the address of the slot.
    ".Lvmffi_answer:",
    "ld a0, 0(t0)",
    "ld a1, 8(t0)",
    "ld a2, 16(t0)",
    "ld a3, 24(t0)",
    "ret",
    // In a handler all signals are blocked, so an exception there ends the process.
    ".Lvmffi_unheard:",
    "unimp",

    // The handler of signals: a0 is the number, a1 `siginfo_t`, a2 `ucontext_t`.
    ".org .Lvmffi_gate + {handler}",
    "addi a0, a0, {signalled}",
    "li a3, 0",
    "j .Lvmffi_trap",

    // The other commands: t1 is the command, t0 the slot. Until `Keep` is done, only registers change that a call may
    // change.
    ".Lvmffi_command:",
    "li t2, {keep}",
    "beq t1, t2, .Lvmffi_keep",
    "li t2, {copy}",
    "beq t1, t2, .Lvmffi_copy",
    // `Back` and `Enter`. s1 is the command, s2 the slot.
    "mv s1, t1",
    "mv s2, t0",
    "addi t3, s2, {saved}",
    "vmffi_floats fld, t3",
    "ld t2, {fcsr}(t3)",
    "fscsr t2",
    "li t2, {control}",
    "ld t2, {features}(t2)",
    "andi t2, t2, {vector}",
    "beqz t2, .Lvmffi_unblock",
    // `csrw vcsr, zero`
    "csrw 0x00f, zero",
    // sigaltstack(the signal stack in the slot, null)
    ".Lvmffi_unblock:",
    "li a0, {signal_stack}",
    "add a0, a0, s2",
    "li a1, 0",
    "j .Lvmffi_alternate",
    ".org .Lvmffi_gate + {alternate}",
    ".Lvmffi_alternate:",
    "li a7, 132",
    "ecall",
    "bnez a0, .Lvmffi_unheard",
    // rt_sigprocmask(SIG_SETMASK, the mask in the common part, null, 8)
    "li a0, 2",
    "li a1, {control} + {blocked}",
    "li a2, 0",
    "li a3, 8",
    "j .Lvmffi_mask",
    ".org .Lvmffi_gate + {mask}",
    ".Lvmffi_mask:",
    "li a7, 135",
    "ecall",
    "bnez a0, .Lvmffi_unheard",
    "mv t0, s2",
    "addi t1, s1, -{enter}",
    "addi t2, s2, {saved}",
    "ld sp, {sp}(t2)",
    "vmffi_general ld, t2",
    "li a4, 0",
    "li a5, 0",
    "li a6, 0",
    "li a7, 0",
    "li t2, 0",
    "li t3, 0",
    "li t4, 0",
    "li t5, 0",
    "li t6, 0",
    "bnez t1, .Lvmffi_answer",
    // `Enter`: the copies, then the entry point. The stack pointer is the address of the boot block. The entry point is in
    // t1.
    "li a7, 1",
    "j .Lvmffi_copies",
    ".Lvmffi_enter:",
    "li t1, {control}",
    "ld t1, {entry_point}(t1)",
    "mv a0, sp",
    "li a1, 0",
    "li a2, 0",
    "li a3, 0",
    "li a4, 0",
    "li a5, 0",
    "li a6, 0",
    "li a7, 0",
    "li t0, 0",
    "li t2, 0",
    "jr t1",

    // `Keep`: saves the registers in the save area, and traps again.
    ".Lvmffi_keep:",
    "ld t2, {save_area}(t0)",
    "vmffi_general sd, t2",
    "sd sp, {sp}(t2)",
    "frcsr t1",
    "sd t1, {fcsr}(t2)",
    "vmffi_floats fsd, t2",
    ".Lvmffi_kept:",
    "li a0, {kept}",
    "j .Lvmffi_trap",

    // `Copy`. a7 is 1 if the guest begins then.
    ".Lvmffi_copy:",
    "li a7, 0",
    ".Lvmffi_copies:",
    "li t1, {copies}",
    "add t0, t0, t1",
    ".Lvmffi_next_copy:",
    "ld t1, 0(t0)",
    "ld t2, 8(t0)",
    "ld a4, 16(t0)",
    "addi t0, t0, 24",
    "beqz a4, .Lvmffi_copied",
    "beqz t2, .Lvmffi_clear",
    ".Lvmffi_word:",
    "ld a5, 0(t2)",
    "sd a5, 0(t1)",
    "addi t1, t1, 8",
    "addi t2, t2, 8",
    "addi a4, a4, -1",
    "bnez a4, .Lvmffi_word",
    "j .Lvmffi_next_copy",
    ".Lvmffi_clear:",
    "sd zero, 0(t1)",
    "addi t1, t1, 8",
    "addi a4, a4, -1",
    "bnez a4, .Lvmffi_clear",
    "j .Lvmffi_next_copy",
    ".Lvmffi_copied:",
    "bnez a7, .Lvmffi_enter",
    "j .Lvmffi_kept",

    // The entry point of the program. Descriptor 0 is the control memory: mmap(2), shared, at its address.
    ".org .Lvmffi_gate + {entry}",
    "li s1, {control}",
    "mv a0, s1",
    // The address of the page.
    "li a1, {gate}",
    "lwu a1, {control_len_at}(a1)",
    "li a2, 3",
    "li a3, 0x11",
    "li a4, 0",
    "li a5, 0",
    "li a7, 222",
    "ecall",
    "bne a0, s1, .Lvmffi_exit",
    "li t0, {slots} + {script}",
    "add s1, s1, t0",
    // A step.
    ".Lvmffi_step:",
    "ld s2, 0(s1)",
    "bltz s2, .Lvmffi_started",
    "ld a0, 8(s1)",
    "ld a1, 16(s1)",
    "ld a2, 24(s1)",
    "ld a3, 32(s1)",
    "ld a4, 40(s1)",
    "ld a5, 48(s1)",
    "sext.w a7, s2",
    "ecall",
    "li t0, -4095",
    "bltu a0, t0, .Lvmffi_done",
    "srli t0, s2, 32",
    "andi t0, t0, 1",
    "bnez t0, .Lvmffi_next",
    "j .Lvmffi_failed",
    ".Lvmffi_done:",
    "ld t0, 56(s1)",
    "beqz t0, .Lvmffi_stored",
    "sw a0, 0(t0)",
    ".Lvmffi_stored:",
    "li t0, 220",
    "bne s2, t0, .Lvmffi_next",
    "bnez a0, .Lvmffi_next",
    "mv s1, a5",
    "j .Lvmffi_step",
    ".Lvmffi_next:",
    "addi s1, s1, 64",
    "j .Lvmffi_step",
    // It has failed: exit_group(1). Without the control memory, the error remains unknown.
    ".Lvmffi_failed:",
    "neg a0, a0",
    "li t0, {control}",
    "sd a0, {error}(t0)",
    "sd s1, {failed_step}(t0)",
    ".Lvmffi_exit:",
    "li a0, 1",
    "li a7, 94",
    "ecall",
    "unimp",
    // The end of the script: the first trap.
    ".Lvmffi_started:",
    "li a0, {started}",
    "j .Lvmffi_trap",
    ".org .Lvmffi_gate + {gate_len}",
    ".purgem vmffi_general",
    ".purgem vmffi_floats",
    ".option pop",
    ".popsection",
    gate = const GATE_AT,
    gate_len = const GATE_LEN,
    control = const CONTROL_AT,
    blocked = const BLOCKED,
    features = const FEATURES,
    entry_point = const ENTRY_POINT,
    error = const ERROR,
    failed_step = const FAILED_STEP,
    slots = const SLOTS,
    save_area = const SAVE_AREA,
    saved = const SAVED,
    sp = const SP,
    fcsr = const FCSR,
    vectors = const VECTORS,
    script = const SCRIPT,
    vector = const VECTOR,
    control_len_at = const CONTROL_LEN_AT,
    scratch = const SCRATCH_AT,
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

/// What the processor has.
#[derive(Clone, Copy)]
pub(super) struct Features {
    /// [`VECTOR`].
    pub(super) bits: u64,
    /// The length of the registers f0 to f31, in bytes.
    pub(super) len: usize,
}

impl Features {
    /// Those of this machine.
    pub(super) fn here() -> io::Result<Self> {
        // SAFETY: getauxval(3) only reads the auxiliary vector of the process.
        if unsafe { libc::getauxval(libc::AT_RANDOM) } < GATE_AT {
            // This is an address of the stack, which is at the end of the address space.
            let what =
                "addresses have fewer than 42 bits here: boot a kernel with larger address spaces";
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        // SAFETY: getauxval(3) only reads the auxiliary vector of the process.
        let hwcap = unsafe { libc::getauxval(libc::AT_HWCAP) };
        // A bit for each letter of an extension.
        let has_vector = hwcap >> (b'V' - b'A') & 1 != 0;
        Ok(Self { bits: if has_vector { VECTOR } else { 0 }, len: MAX_VECTORS_LEN as usize })
    }
}

impl Frame {
    /// The registers at the guest's entry point (ABI, "Boot block").
    pub(super) fn entry(stack: u64, features: Features) -> Self {
        let mut this = Self::zeros(features.len);
        this.general[(SP / 8) as usize] = stack;
        this
    }

    /// Changes what the gate could not restore in a frame that the guest may have written: it can restore any.
    pub(super) fn make_valid(&mut self, _: Features) {}
}

/// The offset of the address of a fault in `siginfo_t`, and that of pc in `ucontext_t`.
const INFO_ADDRESS: u64 = 16;
const CONTEXT_PC: u64 = 176;

/// Causes (RISC-V Privileged Architecture, `scause`).
const ILLEGAL_INSTRUCTION: u8 = 2;
const BREAKPOINT: u8 = 3;
const LOAD_MISALIGNED: u8 = 4;
const STORE_MISALIGNED: u8 = 6;
const INSTRUCTION_PAGE_FAULT: u8 = 12;
const LOAD_PAGE_FAULT: u8 = 13;
const STORE_PAGE_FAULT: u8 = 15;

/// What a signal has interrupted, as its frame says; `None` if there is no frame. `info` and `context` read words of
/// `siginfo_t` and of `ucontext_t`, and `code` reads the instruction at an address. The kernel says where an access was, but
/// not of which kind.
pub(super) fn interrupted(
    signal: i32,
    info: impl Fn(u64) -> Option<u64>,
    context: impl Fn(u64) -> Option<u64>,
    code: impl Fn(u64) -> Option<u32>,
) -> Option<Interrupted> {
    let (instruction, address) = (context(CONTEXT_PC)?, info(INFO_ADDRESS)?);
    let stores = || code(instruction).map(is_store);
    let exception = match signal {
        libc::SIGILL => Some(ILLEGAL_INSTRUCTION),
        libc::SIGTRAP => Some(BREAKPOINT),
        libc::SIGSEGV => Some(match stores() {
            Some(true) => STORE_PAGE_FAULT,
            // The second half of an instruction may be in the next page.
            Some(false) if address.wrapping_sub(instruction) > 2 => LOAD_PAGE_FAULT,
            _ => INSTRUCTION_PAGE_FAULT,
        }),
        libc::SIGBUS => {
            Some(if stores() == Some(true) { STORE_MISALIGNED } else { LOAD_MISALIGNED })
        }
        _ => None,
    };
    Some(Interrupted { instruction, exception, address })
}

/// Whether an instruction that accesses memory stores to it.
fn is_store(code: u32) -> bool {
    let (funct3, quadrant) = (code >> 13 & 7, code & 3);
    match quadrant {
        // `c.fsd`, `c.sw` and `c.sd`; `c.sb` and `c.sh`.
        0 => funct3 >= 5 || funct3 == 4 && matches!(code >> 10 & 7, 2 | 3),
        // Those relative to the stack pointer.
        2 => funct3 >= 5,
        1 => false,
        _ => match code & 0x7f {
            // STORE, STORE-FP, which includes vector stores, and the instructions that manage cache blocks.
            0x23 | 0x27 | 0x0f => true,
            // AMO, except for `lr`.
            0x2f => code >> 27 != 2,
            _ => false,
        },
    }
}

/// What tests know of the architecture.
#[cfg(test)]
pub(super) mod tests {
    use super::libc::user_regs_struct;

    /// `li a7, number` and `ecall`.
    pub(in super::super) fn system_call(number: u32) -> [u8; 8] {
        let [li, ecall] = [number << 20 | 17 << 7 | 0x13, 0x73].map(u32::to_le_bytes);
        [li[0], li[1], li[2], li[3], ecall[0], ecall[1], ecall[2], ecall[3]]
    }

    /// The length of `ecall`.
    pub(in super::super) const TRAPPING_LEN: u64 = 4;

    pub(in super::super) fn program_counter(registers: &user_regs_struct) -> u64 {
        registers.pc
    }

    /// The greatest numbers of instructions between two traps: of a guest that calls with one scalar, with three, and of the gate.
    pub(in super::super) const MOST: [u32; 3] = [25, 120, 19];
}
