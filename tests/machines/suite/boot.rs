//! The state in which a guest is entered, as a program finds it that only checks that.

use vmffi::{
    RegionLayout,
    host::{GuestExit, RunOutcome},
    machine::{Image, LogLevel, MachineBuilder},
};

use support::elf::ELF_MACHINE;

use super::{Case, connection::On};

#[cfg_attr(target_arch = "aarch64", path = "boot/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "boot/riscv64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "boot/x86_64.rs")]
mod native;

pub fn cases() -> Vec<Case> {
    vec![Case::new("registers_and_words_at_the_entry", On::is_new_machine, entered)]
}

/// A program that exits with this word of its boot block.
fn probe(word: u32) -> Image {
    const HEAD: u64 = 64 + 56;
    const AT: u64 = 0x1_0000;
    let mut code = native::code().to_vec();
    let number = code.windows(4).position(|bytes| bytes == [0x55; 4]).unwrap();
    code[number..number + 4].copy_from_slice(&word.to_le_bytes());
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    file.extend(ELF_MACHINE.to_le_bytes());
    file.extend([1, 0, 0, 0]);
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

/// ABI, Boot block B-1, B-2; in a process the guest exits through its gate (ABI, Traps TR-19, TR-24).
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
