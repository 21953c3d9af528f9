//! How the host starts: from the 32-bit entry point of PVH to long mode, and what reports its own exceptions.

use core::{
    arch::{asm, global_asm},
    cell::UnsafeCell,
};

use crate::platform::fail;

// QEMU and Xen enter a kernel with this note in 32-bit protected mode, without pages and without interrupts. The code
// maps the addresses from 2 MiB to 1 GiB to themselves, and enters long mode.
global_asm!(
    r#"
.section .note.pvh, "a", @note
    .long 4, 4, 18              // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long start

.section .text
.code32
.global start
start:
    mov esp, offset stack_top
    mov eax, offset directory_pointers + 3      // 3: present, writable
    mov dword ptr [page_map], eax
    mov eax, offset directory + 3
    mov dword ptr [directory_pointers], eax
    mov ecx, 1
2:  mov eax, ecx
    shl eax, 21
    or  eax, 0x83               // present, writable, a page of 2 MiB
    mov dword ptr [directory + ecx * 8], eax
    inc ecx
    cmp ecx, 512
    jne 2b
    mov eax, offset page_map
    mov cr3, eax
    mov eax, 0x20               // PAE
    mov cr4, eax
    mov ecx, 0xc0000080         // EFER
    rdmsr
    or  eax, 0x900              // NXE, LME
    wrmsr
    mov eax, 0x80010033         // PG, WP, NE, ET, MP, PE
    mov cr0, eax
    lgdt [gdt_register]
    .byte 0xea                  // a far jump to 64-bit code
    .long long_mode
    .word 8

.code64
long_mode:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    lea rsp, [rip + stack_top]
    call main
    ud2

// Each exception calls `exception`, whose return address tells which one it is.
.balign 16
.global exception_entries
exception_entries:
.rept 32
    .balign 16
    call exception_common
.endr
exception_common:
    pop rdi
    mov rsi, rsp
    and rsp, -16
    call exception
    ud2

.section .rodata
.balign 16
gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_register:
    .word 23
    .quad gdt

.section .bss
.balign 4096
page_map: .skip 4096
directory_pointers: .skip 4096
directory: .skip 4096

.section .stack, "aw", @nobits
    .skip 0x80000
stack_top:
"#
);

unsafe extern "C" {
    /// 32 pieces of code of 16 bytes each.
    static exception_entries: [[u8; 16]; 32];
}

/// The interrupt descriptor table: two words for each vector.
struct Table(UnsafeCell<[[u64; 2]; 32]>);

// SAFETY: only `report_exceptions` accesses it, once and before there are exceptions, and the host has one processor.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; 32]));

/// From now on, an exception of the host is reported, and ends it.
pub fn report_exceptions() {
    let entries = (&raw const exception_entries).addr() as u64;
    let table = TABLE.0.get();
    for vector in 0..32 {
        let entry = entries + 16 * vector;
        // An interrupt gate, present, in the code segment 8 (AMD APM, volume 2, "Interrupt-Gate Descriptors").
        let low = entry & 0xffff | 8 << 16 | 0x8e00 << 32 | (entry >> 16 & 0xffff) << 48;
        // SAFETY: the static has 32 entries, and nothing else accesses it.
        unsafe { (*table)[vector as usize] = [low, entry >> 32] };
    }
    #[repr(C, packed)]
    struct Register {
        limit: u16,
        base: u64,
    }
    let register = Register { limit: 32 * 16 - 1, base: table.addr() as u64 };
    // SAFETY: the table is a static, its entries are gates to the code above, which does not return.
    unsafe { asm!("lidt [{}]", in(reg) &raw const register, options(readonly, nostack)) };
}

/// Reports an exception of the host. `at` is the address behind the entry's call, and `stack` is what the processor has
/// pushed: an error code for some vectors, then RIP.
#[unsafe(no_mangle)]
extern "C" fn exception(at: u64, stack: *const [u64; 2]) -> ! {
    let vector = (at - (&raw const exception_entries).addr() as u64) / 16;
    // SAFETY: the processor has pushed at least five words there.
    let [first, second] = unsafe { stack.read() };
    let instruction =
        if matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30) { second } else { first };
    fail(format_args!("the host has an exception with vector {vector}, at {instruction:#x}"))
}
