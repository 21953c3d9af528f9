/* A trap with a known value in everything that it must leave alone. */
#include "declarations.h"

#include <string.h>

/* All that a trap could change, in the order in which the code below loads and stores it. */
struct state {
    uint64_t rax, rbx, r8, r9; /* the four words */
    uint64_t rcx, rdx, rsi, rdi, rbp, r10, r11, r12, r13, r14, r15;
    uint64_t rsp, flags, mxcsr;
    uint8_t xmm[16][16], below[128];
};
struct state before __attribute__((visibility("hidden")));
struct state after __attribute__((visibility("hidden")));
_Static_assert(sizeof(struct state) == 18 * 8 + 256 + 128, "as the code below has it");

void trap_with_state(void);

__asm__(
    ".macro each_register do\n"
    "  .set at, 0\n"
    "  .irp register, rax, rbx, r8, r9, rcx, rdx, rsi, rdi, rbp, r10, r11, r12, r13, r14, r15\n"
    "    \\do %\\register\n"
    "    .set at, at + 8\n"
    "  .endr\n"
    ".endm\n"
    ".macro load register\n  mov before+at(%rip), \\register\n.endm\n"
    ".macro store register\n  mov \\register, after+at(%rip)\n.endm\n"
    ".text\n"
    "trap_with_state:\n"
    "  .irp register, rbx, rbp, r12, r13, r14, r15\n    push %\\register\n  .endr\n"
    "  pushq before+128(%rip)\n  popfq\n"
    "  ldmxcsr before+136(%rip)\n"
    /* Below the stack pointer, by way of one register: nothing from here on changes a flag. */
    "  .set at, 0\n"
    "  .rept 8\n"
    "    movups before+400+at(%rip), %xmm0\n    movups %xmm0, -128+at(%rsp)\n"
    "    .set at, at + 16\n"
    "  .endr\n"
    "  .set at, 144\n"
    "  .irp nr, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    "    movups before+at(%rip), %xmm\\nr\n"
    "    .set at, at + 16\n"
    "  .endr\n"
    "  mov %rsp, before+120(%rip)\n"
    "  each_register load\n"
    "  movq %rax, (%rdx)\n"
    "  each_register store\n"
    "  mov %rsp, after+120(%rip)\n"
    "  mov before+120(%rip), %rsp\n"
    "  .set at, 144\n"
    "  .irp nr, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    "    movups %xmm\\nr, after+at(%rip)\n"
    "    .set at, at + 16\n"
    "  .endr\n"
    "  .set at, 0\n"
    "  .rept 8\n"
    "    movups -128+at(%rsp), %xmm0\n    movups %xmm0, after+400+at(%rip)\n"
    "    .set at, at + 16\n"
    "  .endr\n"
    "  pushfq\n  popq after+128(%rip)\n"
    "  cld\n"
    "  stmxcsr after+136(%rip)\n"
    "  .irp register, r15, r14, r13, r12, rbp, rbx\n    pop %\\register\n  .endr\n"
    "  ret\n");

/* ABI, Traps TR-6, TR-11 and TR-12: four registers come back with the answer; all others, the flags
 * and the stack are as they were. */
void test_registers(void)
{
    const uint32_t usual = 0x1f80, towards_zero = 0x6000;
    uint8_t *bytes = (uint8_t *)&before;
    for (unsigned i = 0; i < sizeof before; i++) bytes[i] = (uint8_t)(i * 37 + 1);
    before.rax = VM_CALL;
    before.rbx = Next_u64.signature;
    before.r8 = 41;
    before.r9 = 0;
    before.rdx = DOORBELL;
    /* Carry, parity, sign, direction, overflow. */
    before.flags = 0x202 | 0x1 | 0x4 | 0x80 | 0x400 | 0x800;
    before.mxcsr = usual | towards_zero;
    trap_with_state();
    __asm__ volatile("ldmxcsr %0" : : "m"(usual));
    report(after.rax == VM_ANSWER && after.rbx == VM_OK && after.r8 == 42 && after.r9 == 0,
           "registers: the answer, in RAX, RBX, R8 and R9");
    report(memcmp(&before.rcx, &after.rcx, 11 * 8) == 0, "registers: the other general ones");
    report(before.rsp == after.rsp, "registers: RSP");
    report(before.flags == after.flags, "registers: RFLAGS");
    report((uint32_t)before.mxcsr == (uint32_t)after.mxcsr, "registers: MXCSR");
    report(memcmp(before.xmm, after.xmm, sizeof before.xmm) == 0, "registers: XMM0 to XMM15");
    report(memcmp(before.below, after.below, sizeof before.below) == 0,
           "the stack: 128 bytes below RSP");
}
