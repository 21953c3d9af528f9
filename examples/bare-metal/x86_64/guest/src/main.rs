//! Stand-in guest.
#![no_std]
#![no_main]
use core::arch::{asm, global_asm};
use vmffi::abi::{Registers, Transport, trap};
use vmffi::arch::{
    Trap,
    x86_64::{Out, Vmmcall},
};

global_asm!(
    r#"
.section .text.start, "ax"
.global start
start:
    lea rsp, [rip + stack_top]
    call guest_main
    ud2
.section .bss
.balign 16
    .skip 0x10000
stack_top:
"#
);
static mut COUNT: u64 = 0;
#[unsafe(no_mangle)]
extern "C" fn guest_main(mode: u64, region: u64) -> ! {
    unsafe {
        if mode >> 63 == 0 {
            run(&Vmmcall::new(), mode, region)
        } else {
            run(&Out::<0x5658>::new(), mode & 0xff, region)
        }
    }
}
fn run(t: &impl Trap, mode: u64, region: u64) -> ! {
    let call = |kind, word, primary, secondary| {
        t.trap(Registers { kind, word, transport: Transport { primary, secondary } })
    };
    unsafe {
        match mode {
            0 => {}
            1 => {
                (0x20_0000 as *const u64).read_volatile();
            }
            2 => {
                (0x80_0000 as *mut u64).write_volatile(1);
            }
            3 => {
                (region as *mut u64).write_volatile(1);
            }
            4 => {
                asm!("jmp {}", in(reg) region + 8192)
            }
            5 => {
                asm!("hlt")
            }
            6 => {
                asm!("rdmsr", in("ecx") 0xc0000080u32, out("eax") _, out("edx") _)
            }
            7 => {
                asm!("in al, dx", in("dx") 0x3fdu16, out("al") _)
            }
            8 => {
                asm!("out dx, al", in("dx") 0x5658u16, in("al") 0u8)
            }
            9 => {
                asm!("ud2")
            }
            10 => {
                asm!("mov cr0, {}", in(reg) 0x8001_0033u64)
            }
            11 => {
                asm!(".byte 0x0f, 0x28, 0xc0")
            } // movaps xmm0, xmm0
            12 => {
                asm!("vmrun rax", in("rax") 0x40_0000u64)
            }
            13 => {
                asm!("mov rsp, 0x123456789000", "push rax", "mov rax, [rsp]")
            }
            14 => {
                asm!("mov cr3, {}", in(reg) 0x7000_0000u64)
            }
            15 => loop {
                asm!("push rax")
            },
            16 => {
                asm!("vmmcall", inout("rax") 7u64 => _);
                asm!("out dx, eax", in("dx") 0x5658u16, inout("rax") 7u64 => _)
            }
            _ => {
                asm!("mov dr0, {}", in(reg) 0u64)
            }
        }
        if mode != 0 {
            loop {
                call(trap::EXIT, 0xbad, mode, region);
            }
        }
        let mut r = call(trap::CALL, 1, mode, region);
        loop {
            if r.kind == vmffi::abi::answer::UPCALL {
                let inner = call(trap::CALL, 2, r.word, r.transport.secondary);
                r = call(trap::RETURN, inner.word, inner.transport.primary * 2, 0);
            } else {
                COUNT += 1;
                r = call(trap::EXIT, COUNT, r.transport.primary, r.transport.secondary);
            }
        }
    }
}
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {
        unsafe { asm!("ud2") }
    }
}
