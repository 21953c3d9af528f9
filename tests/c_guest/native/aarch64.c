/* On aarch64: a trap with a known value in everything that it must leave alone, a gate, and accesses that are no traps. */
#include "frames.h"

#include <string.h>

/* All that a trap could change, in the order in which the code below loads and stores it. */
struct state {
    uint64_t x[31], sp, nzcv, fpcr, fpsr, tpidr;
    _Alignas(16) uint8_t v[32][16];
    uint8_t below[128];
};
struct state before __attribute__((visibility("hidden")));
struct state after __attribute__((visibility("hidden")));
_Static_assert(sizeof(struct state) == 36 * 8 + 512 + 128, "as the code below has it");

/* The words of a trap by the doorbell (TR-14). */
static _Alignas(32) struct vm_words frame;

void ring_with_state(void);
void call_with_state(void);

#define GENERAL "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29"

__asm__(
    ".text\n"
    ".macro with_state name, trap:vararg\n"
    "\\name:\n"
    "  stp x29, x30, [sp, #-176]!\n"
    "  .irp nr, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28\n    str x\\nr, [sp, #(\\nr - 17) * 8]\n  .endr\n"
    "  .irp nr, 8, 9, 10, 11, 12, 13, 14, 15\n    str d\\nr, [sp, #(\\nr + 4) * 8]\n  .endr\n"
    "  adrp x30, before\n  add x30, x30, :lo12:before\n"
    "  .irp nr, 0, 1, 2, 3, 4, 5, 6, 7\n"
    "    ldr q0, [x30, #800 + \\nr * 16]\n    stur q0, [sp, #\\nr * 16 - 128]\n"
    "  .endr\n"
    "  mov x0, sp\n  str x0, [x30, #248]\n"
    "  ldr x0, [x30, #256]\n  msr nzcv, x0\n"
    "  ldr x0, [x30, #264]\n  msr fpcr, x0\n"
    "  ldr x0, [x30, #272]\n  msr fpsr, x0\n"
    "  mrs x0, tpidr_el0\n  str x0, [x30, #280]\n"
    "  .irp nr, " GENERAL ", 30, 31\n    ldr q\\nr, [x30, #288 + \\nr * 16]\n  .endr\n"
    "  .irp nr, " GENERAL ", 30\n    ldr x\\nr, [x30, #\\nr * 8]\n  .endr\n"
    "  \\trap\n"
    /* Above the stack pointer, since no register is free. */
    "  str x30, [sp, #160]\n"
    "  adrp x30, after\n  add x30, x30, :lo12:after\n"
    "  .irp nr, " GENERAL "\n    str x\\nr, [x30, #\\nr * 8]\n  .endr\n"
    "  ldr x0, [sp, #160]\n  str x0, [x30, #240]\n"
    "  mov x0, sp\n  str x0, [x30, #248]\n"
    "  mrs x0, nzcv\n  str x0, [x30, #256]\n"
    "  mrs x0, fpcr\n  str x0, [x30, #264]\n"
    "  mrs x0, fpsr\n  str x0, [x30, #272]\n"
    "  mrs x0, tpidr_el0\n  str x0, [x30, #280]\n"
    "  msr fpcr, xzr\n"
    "  .irp nr, " GENERAL ", 30, 31\n    str q\\nr, [x30, #288 + \\nr * 16]\n  .endr\n"
    "  .irp nr, 0, 1, 2, 3, 4, 5, 6, 7\n"
    "    ldur q0, [sp, #\\nr * 16 - 128]\n    str q0, [x30, #800 + \\nr * 16]\n"
    "  .endr\n"
    "  .irp nr, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28\n    ldr x\\nr, [sp, #(\\nr - 17) * 8]\n  .endr\n"
    "  .irp nr, 8, 9, 10, 11, 12, 13, 14, 15\n    ldr d\\nr, [sp, #(\\nr + 4) * 8]\n  .endr\n"
    "  ldp x29, x30, [sp], #176\n"
    "  ret\n"
    ".endm\n"
    "with_state ring_with_state, str x0, [x1]\n"
    "with_state call_with_state, blr x16\n");

/* ABI, Traps TR-14 and TR-25: the answer comes back in the frame, and all registers are as they were. TR-24: with a gate,
 * it comes back in X0 to X3, and the gate keeps less; it changes no memory. */
void test_registers(bool by_gate)
{
    const struct vm_words words = {VM_CALL, Next_u64.signature, 41, 0};
    uint8_t *bytes = (uint8_t *)&before;
    for (unsigned i = 0; i < sizeof before; i++) bytes[i] = (uint8_t)(i * 37 + 1);
    before.nzcv = UINT64_C(0xa0000000);
    before.fpcr = 3 << 22; /* towards zero */
    before.fpsr = UINT64_C(1) << 27 | 0x15;
    struct vm_words answer;
    if (by_gate) {
        memcpy(before.x, &words, sizeof words);
        before.x[16] = (uint64_t)gate;
        call_with_state();
        memcpy(&answer, after.x, sizeof answer);
    } else {
        frame = words;
        before.x[0] = (uint64_t)&frame;
        before.x[1] = DOORBELL;
        ring_with_state();
        answer = frame;
    }
    bool right = answer.kind == VM_ANSWER && answer.word == VM_OK && answer.primary == 42;
    report(right && answer.secondary == 0, "registers: the answer");
    bool kept = true;
    for (unsigned nr = by_gate ? 18 : 0; nr < (by_gate ? 30 : 31); nr++)
        kept &= before.x[nr] == after.x[nr];
    report(kept, "registers: the other general ones");
    report(before.sp == after.sp, "registers: SP");
    report(by_gate || before.nzcv == after.nzcv, "registers: the condition flags");
    report(before.fpcr == after.fpcr && before.fpsr == after.fpsr, "registers: FPCR and FPSR");
    report(before.tpidr == after.tpidr, "registers: TPIDR_EL0");
    report(memcmp(before.v, after.v, sizeof before.v) == 0, "registers: V0 to V31");
    report(memcmp(before.below, after.below, sizeof before.below) == 0, "the stack: 128 bytes below SP");
}

/* A gate, as a host would map one, with memory of its own: it rings the doorbell, and changes all registers that a gate may
 * change (TR-24). */
__asm__(".local gates_frame\n.comm gates_frame, 32, 32\n"
        ".globl gate\n.hidden gate\n.text\ngate:\n"
        "  adrp x4, gates_frame\n  add x4, x4, :lo12:gates_frame\n"
        "  stp x0, x1, [x4]\n  stp x2, x3, [x4, #16]\n"
        "  mov x0, x4\n  mov x1, #0x40\n  movk x1, #0x1000, lsl #32\n"
        "  str x0, [x1]\n"
        "  ldp x0, x1, [x4]\n  ldp x2, x3, [x4, #16]\n"
        "  mov x17, x30\n"
        "  .irp nr, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 30\n    mov x\\nr, #-\\nr\n  .endr\n"
        "  adds x16, x4, x5\n"
        "  ret x17\n");
_Static_assert(DOORBELL == 0x100000000040, "as the code above has it");

#define STORE(instruction, address, frame) \
    do { \
        register uint64_t at __asm__("x0") = (uint64_t)(frame); \
        register uint64_t doorbell __asm__("x1") = (address); \
        __asm__ volatile(instruction : : "r"(at), "r"(doorbell) : "x2", "v0", "memory"); \
    } while (0)

/* ABI, Traps TR-9, TR-10 and TR-14. */
void ring_wrongly(const char *how)
{
    const uint64_t good = good_frame();
    if (strcmp(how, "a store of 1 byte") == 0) STORE("strb w0, [x1]", DOORBELL, good);
    if (strcmp(how, "a store of 4 bytes") == 0) STORE("str w0, [x1]", DOORBELL, good);
    if (strcmp(how, "a store of 16 bytes") == 0) STORE("stp x0, x0, [x1]", DOORBELL, good);
    if (strcmp(how, "a store of a vector register") == 0)
        STORE("fmov d0, x0\n\tstr d0, [x1]", DOORBELL, good);
    if (strcmp(how, "a load") == 0) STORE("ldr x2, [x1]", DOORBELL, good);
    if (strcmp(how, "a store beside") == 0) STORE("str x0, [x1]", DOORBELL + 8, good);
    if (strcmp(how, "a store across") == 0) STORE("str x0, [x1]", DOORBELL + 4, good);
    if (strncmp(how, "a frame ", 8) == 0) STORE("str x0, [x1]", DOORBELL, bad_frame(how + 8));
}
