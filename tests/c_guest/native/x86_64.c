/* On x86_64: a trap with a known value in everything that it must leave alone, a gate, and accesses that are no traps. */
#include "../declarations.h"

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

void ring_with_state(void);
void call_with_state(void);

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
    ".macro with_state name, trap:vararg\n"
    "\\name:\n"
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
    "  \\trap\n"
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
    "  ret\n"
    ".endm\n"
    "with_state ring_with_state, movq %rax, (%rdx)\n"
    "with_state call_with_state, call *%rdx\n");

/* Which of `before` is so in `after`. */
#define KEPT(field) (memcmp(&before.field, &after.field, sizeof before.field) == 0)

/* ABI, Traps TR-6, TR-11 and TR-12: four registers come back with the answer; all others, the flags
 * and the stack are as they were. TR-19 and TR-20: a gate keeps less. */
void test_registers(bool by_gate)
{
    const uint32_t usual = 0x1f80, towards_zero = 0x6000;
    /* Carry, parity, auxiliary carry, zero, sign and overflow; direction. */
    const uint64_t statuses = 0x8d5, down = 0x400;
    uint8_t *bytes = (uint8_t *)&before;
    for (unsigned i = 0; i < sizeof before; i++) bytes[i] = (uint8_t)(i * 37 + 1);
    before.rax = VM_CALL;
    before.rbx = Next_u64.signature;
    before.r8 = 41;
    before.r9 = 0;
    before.rdx = by_gate ? (uint64_t)gate : DOORBELL;
    before.flags = 0x202 | 0x1 | 0x4 | 0x80 | 0x800 | (by_gate ? 0 : down);
    before.mxcsr = usual | towards_zero;
    if (by_gate) call_with_state();
    else ring_with_state();
    __asm__ volatile("ldmxcsr %0" : : "m"(usual));
    report(after.rax == VM_ANSWER && after.rbx == VM_OK && after.r8 == 42 && after.r9 == 0,
           "registers: the answer, in RAX, RBX, R8 and R9");
    bool kept = KEPT(rbp) && KEPT(r12) && KEPT(r13) && KEPT(r14) && KEPT(r15);
    bool others = KEPT(rcx) && KEPT(rdx) && KEPT(rsi) && KEPT(rdi) && KEPT(r10) && KEPT(r11);
    report(kept && (by_gate || others), "registers: the other general ones");
    report(before.rsp == after.rsp, "registers: RSP");
    uint64_t changed = before.flags ^ after.flags;
    report((changed & ~(by_gate ? statuses : 0)) == 0, "registers: RFLAGS");
    report((uint32_t)before.mxcsr == (uint32_t)after.mxcsr, "registers: MXCSR");
    report(memcmp(before.xmm, after.xmm, sizeof before.xmm) == 0, "registers: XMM0 to XMM15");
    size_t below = sizeof before.below - (by_gate ? 16 : 0);
    report(memcmp(before.below, after.below, below) == 0, "the stack: %zu bytes below RSP", below);
}

/* A gate, as a host would map one (TR-19): it rings the doorbell, and changes all that a gate may
 * change (TR-20). */
__asm__(".globl gate\n.hidden gate\n.text\ngate:\n"
        "  movabs $0x100000000040, %rdx\n  movq %rax, (%rdx)\n"
        "  mov $-1, %rcx\n  mov $-2, %rdx\n  mov $-3, %rsi\n  mov $-4, %rdi\n"
        "  mov $-5, %r10\n  mov $-6, %r11\n"
        "  push %rcx\n  add $8, %rsp\n  add $1, %cl\n  ret\n");
_Static_assert(DOORBELL == 0x100000000040, "as the code above has it");

#define STORE(instruction, address) \
    __asm__ volatile(instruction : : "a"(VM_CALL), "b"(Vectors_nothing.signature), "d"(address) \
                     : "r8", "r9", "xmm0", "memory")

/* ABI, Traps TR-9 and TR-10. */
void ring_wrongly(const char *how)
{
    if (strcmp(how, "a store of 1 byte") == 0) STORE("movb %%al, (%%rdx)", DOORBELL);
    if (strcmp(how, "a store of 4 bytes") == 0) STORE("movl %%eax, (%%rdx)", DOORBELL);
    if (strcmp(how, "a store of 16 bytes") == 0) STORE("movups %%xmm0, (%%rdx)", DOORBELL);
    if (strcmp(how, "a load") == 0) STORE("movq (%%rdx), %%r8", DOORBELL);
    if (strcmp(how, "a store beside") == 0) STORE("movq %%rax, (%%rdx)", DOORBELL + 8);
    if (strcmp(how, "a store across") == 0) STORE("movq %%rax, (%%rdx)", DOORBELL + 4);
}
