//! The trap instructions of x86_64 by themselves.

use std::hint::black_box;

use vmffi::abi::{Registers, trap};
use vmffi::arch::{
    Trap,
    x86_64::{Doorbell, Out, Vmcall, Vmmcall, code},
};

use super::{
    super::machine::{PORT, as_guest, doorbell, doorbell_address, gate, plain_gate, usual},
    Model, mix, words,
};

std::arch::global_asm!(
    // fn(rdi: extern "C" fn(), rsi: *mut [u64; 6]): calls rdi with 1 to 6 in the registers that a
    // callee must preserve, and stores their values after the call.
    ".pushsection .text.vmffi_traps_preserved, \"ax\", @progbits",
    ".globl vmffi_traps_preserved",
    ".hidden vmffi_traps_preserved",
    "vmffi_traps_preserved:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rsi",
    "mov ebx, 1",
    "mov ebp, 2",
    "mov r12d, 3",
    "mov r13d, 4",
    "mov r14d, 5",
    "mov r15d, 6",
    "call rdi",
    "pop rsi",
    "mov [rsi], rbx",
    "mov [rsi + 8], rbp",
    "mov [rsi + 16], r12",
    "mov [rsi + 24], r13",
    "mov [rsi + 32], r14",
    "mov [rsi + 40], r15",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".popsection",
);

unsafe extern "C" {
    fn vmffi_traps_preserved(callee: extern "C" fn(), left: *mut [u64; 6]);
}

/// Functions that only trap: the compiler does not use RBX in them, so only the second exchange
/// restores it for the caller.
#[test]
fn callee_saved_registers_are_preserved() {
    #[inline(never)]
    extern "C" fn by_port() {
        black_box(usual().trap(black_box(words(!0, !0, !0, !0))));
    }
    #[inline(never)]
    extern "C" fn by_doorbell() {
        black_box(doorbell().trap(black_box(words(!0, !0, !0, !0))));
    }
    #[inline(never)]
    extern "C" fn by_gate() {
        black_box(gate().trap(black_box(words(!0, !0, !0, !0))));
    }
    #[inline(never)]
    extern "C" fn by_plain_gate() {
        black_box(plain_gate().trap(black_box(words(!0, !0, !0, !0))));
    }

    for callee in [by_port, by_doorbell, by_gate, by_plain_gate] as [extern "C" fn(); 4] {
        let mut left = [0; 6];
        as_guest(mix, || {
            // SAFETY: the routine follows the C calling convention, `callee` is a function of the
            // type that it calls, and `left` has room for the six words that it stores.
            unsafe { vmffi_traps_preserved(callee, &mut left) };
        });
        assert_eq!(left, [1, 2, 3, 4, 5, 6], "RBX, RBP, R12 to R15");
    }
}

/// ABI, Traps TR-20: a gate writes below RSP, where a function without other calls keeps its variables, if its compiler
/// uses the red zone.
#[test]
fn locals_survive_a_gate() {
    #[inline(never)]
    fn leaf(way: &impl Trap, seed: u64) -> u64 {
        let mut locals: [u64; 12] = std::array::from_fn(|i| seed.rotate_left(i as u32));
        // They are in memory, since their addresses escape.
        let locals = black_box(&mut locals);
        let back = way.trap(words(trap::CALL, seed, 0, 0));
        locals.iter().fold(back.word, |sum, local| sum.rotate_left(3) ^ local)
    }

    for seed in 1..100 {
        let right = leaf(&Model, seed);
        assert_eq!(as_guest(mix, || leaf(&gate(), seed)), right);
        assert_eq!(as_guest(mix, || leaf(&plain_gate(), seed)), right);
    }
}

/// ABI, Traps TR-8 to TR-10: only an access of the negotiated width and address is a trap; a similar
/// one ends the program as it would without the handler. Otherwise the tests above would prove
/// little.
#[test]
fn other_accesses_than_traps_still_crash() {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    const CASE: &str = "VMFFI_TRAPS_CRASH";
    let host = |_| -> Registers { unreachable!("the host was called") };
    let some = words(trap::CALL, 1, 2, 3);
    let address = doorbell_address();
    let crashes: [(&str, &dyn Fn()); 6] = [
        ("no guest", &|| _ = black_box(usual().trap(some))),
        ("other port", &|| {
            // SAFETY: without special permission a process reaches no device; the access is a crash.
            let other = unsafe { Out::<{ PORT + 4 }>::new() };
            as_guest(host, || _ = black_box(other.trap(some)));
        }),
        ("other address", &|| {
            // SAFETY: the doorbell's page is not accessible; the access is a crash.
            let other = unsafe { Doorbell::new(address + 8) };
            as_guest(host, || _ = black_box(other.trap(some)));
        }),
        ("other width at the port", &|| {
            // SAFETY: without special permission a process reaches no device; the access is a crash.
            as_guest(host, || unsafe {
                std::arch::asm!("out dx, al", in("dx") PORT, in("al") 0_u8);
            });
        }),
        ("other width at the doorbell", &|| {
            // SAFETY: the doorbell's page is not accessible; the access is a crash.
            as_guest(host, || unsafe {
                std::arch::asm!("mov [rdx], eax", in("rdx") address, in("eax") 0);
            });
        }),
        ("load", &|| {
            // SAFETY: the doorbell's page is not accessible; the access is a crash.
            as_guest(host, || unsafe {
                std::arch::asm!("mov rax, [rdx]", in("rdx") address, out("rax") _);
            });
        }),
    ];

    if let Ok(case) = std::env::var(CASE) {
        let (_, crash) = crashes.iter().find(|(name, _)| *name == case).unwrap();
        crash();
        return;
    }
    for (case, _) in &crashes {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "instructions::native::other_accesses_than_traps_still_crash"])
            .env(CASE, case)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(libc::SIGSEGV), "{case}: {status}");
    }
}

/// ABI, Traps TR-7: the instruction in each `trap` is the one that [`code`] specifies for hosts,
/// between the two exchanges of RBX.
#[test]
fn encodings_are_as_documented() {
    fn check<T: Trap>(_: &T, code: &[u8]) {
        let function = <T as Trap>::trap as fn(&T, Registers) -> Registers as *const u8;
        // SAFETY: code is readable, and the search below ends within the function, or shortly
        // after it, within the code of this program.
        let byte = |i: usize| unsafe { function.add(i).read() };
        const XCHG: u8 = 0x87; // after its REX prefix, before its operands
        let found = (3..400).any(|at| {
            let end = at + code.len();
            (at..end).map(byte).eq(code.iter().copied())
                && byte(at - 2) == XCHG
                && byte(end + 1) == XCHG
        });
        assert!(found, "{} has no {code:x?}", std::any::type_name::<T>());
    }

    check(&usual(), &code::OUT);
    check(&doorbell(), &code::DOORBELL);
    // SAFETY: this value is never used to trap.
    check(&unsafe { Vmcall::new() }, &code::VMCALL);
    // SAFETY: this value is never used to trap.
    check(&unsafe { Vmmcall::new() }, &code::VMMCALL);
}
