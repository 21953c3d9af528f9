//! The state in which a guest is entered, as a program finds it that only checks that.

use std::arch::global_asm;

use vmffi::{
    RegionLayout, abi,
    host::{GuestExit, RunOutcome},
    machine::{Image, LogLevel, MachineBuilder},
};

use super::{Case, connection::On};

pub fn cases() -> Vec<Case> {
    vec![Case::new("registers_and_words_at_the_entry", On::is_new_machine, entered)]
}

// Exits with a word of the boot block as its status; or, with bit 63 set, with the bits that are not as specified.
global_asm!(
    ".pushsection .rodata",
    "vmffi_probe:",
    // The number of the word is written into the second instruction; the first one has read the register before.
    "or rbx, rcx",
    "mov ecx, 0x55555555",
    "or rbx, rax; or rbx, rdx; or rbx, rsi; or rbx, rbp; or rbx, r8; or rbx, r9; or rbx, r10",
    "or rbx, r11; or rbx, r12; or rbx, r13; or rbx, r14; or rbx, r15",
    "por xmm0, xmm1; por xmm0, xmm2; por xmm0, xmm3; por xmm0, xmm4; por xmm0, xmm5",
    "por xmm0, xmm6; por xmm0, xmm7; por xmm0, xmm8; por xmm0, xmm9; por xmm0, xmm10",
    "por xmm0, xmm11; por xmm0, xmm12; por xmm0, xmm13; por xmm0, xmm14; por xmm0, xmm15",
    "movq rax, xmm0; or rbx, rax; punpckhqdq xmm0, xmm0; movq rax, xmm0; or rbx, rax",
    "mov rax, rsp; xor rax, rdi; or rbx, rax",
    "mov eax, edi; and eax, 63; or rbx, rax",
    "pushfq; pop rax; and eax, 0x400; or rbx, rax",
    "push 0; stmxcsr [rsp]; pop rax; xor eax, 0x1f80; or rbx, rax",
    "mov rax, fs:[rdi]; xor rax, [rdi]; or rbx, rax",
    "mov rax, gs:[rdi]; xor rax, [rdi]; or rbx, rax",
    "bts rbx, 63",
    "mov rax, 0x8000000000000000; cmp rbx, rax; cmove rbx, [rdi + rcx * 8]",
    "mov rax, {exit}",
    "xor r8d, r8d; xor r9d, r9d",
    "mov rdx, [rdi + 32]",
    "cmp qword ptr [rdi + 24], 2",
    "je 2f",
    "ja 3f",
    "out dx, eax",
    "ud2",
    "2: mov [rdx], rax",
    "ud2",
    "3: call rdx",
    "ud2",
    "vmffi_probe_end:",
    ".popsection",
    exit = const abi::trap::EXIT,
);

unsafe extern "C" {
    static vmffi_probe: u8;
    static vmffi_probe_end: u8;
}

/// A program that exits with this word of its boot block.
fn probe(word: u32) -> Image {
    const HEAD: u64 = 64 + 56;
    const AT: u64 = 0x1_0000;
    let (from, to) = (&raw const vmffi_probe, &raw const vmffi_probe_end);
    // SAFETY: the bytes between the two symbols are constant.
    let mut code = unsafe { std::slice::from_raw_parts(from, to.addr() - from.addr()) }.to_vec();
    let number = code.windows(4).position(|bytes| bytes == [0x55; 4]).unwrap();
    code[number..number + 4].copy_from_slice(&word.to_le_bytes());
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [AT + HEAD, 64, 0, 64 << 32 | 56 << 48, 1, 1 | 5 << 32, 0, AT, AT] {
        file.extend(word.to_le_bytes());
    }
    let len = HEAD + code.len() as u64;
    for word in [len, len, 4096] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    Image::parse(&file).unwrap()
}

/// ABI, Boot block B-1, B-2; in a process the guest exits through its gate (ABI, Traps TR-19).
fn entered(on: On) {
    let word = |nr, log| {
        let machine = MachineBuilder::new(&probe(nr)).arenas(1 << 20, 3 << 20).log(log);
        let host = machine.build(on.backend(), ()).unwrap();
        match host.run() {
            Ok(RunOutcome::Exited(status)) => status,
            ran => panic!("{ran:?}: {:?}", host.guest_exit().as_ref().map(GuestExit::to_string)),
        }
    };
    assert_eq!(word(0, LogLevel::Off), u64::from_le_bytes(*b"VMFFIBB\x01"));
    assert_eq!(word(1, LogLevel::Off), 0x10_0000_0000);
    assert_eq!(word(2, LogLevel::Off), RegionLayout::new(1 << 20, 3 << 20).unwrap().len());
    let (way, operand) = (word(3, LogLevel::Off), word(4, LogLevel::Off));
    match way {
        1 => assert!(on.is_kvm() && operand <= 0xffff),
        2 => assert!(on.is_kvm() && operand % 8 == 0),
        way => assert!(way == 3 && on.is_process() && operand != 0),
    }
    assert_eq!(word(5, LogLevel::Off), 1 << 32, "number 0 of 1");
    assert_eq!((word(6, LogLevel::Off), word(6, LogLevel::Debug)), (0, 4));
    assert_eq!(word(7, LogLevel::Off), 0);
}
