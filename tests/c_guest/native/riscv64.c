/* On riscv64: a trap with a known value in everything that it must leave alone, a gate, and accesses that are no traps. */
#include "frames.h"

#include <string.h>

/* All that a trap could change, in the order in which the code below loads and stores it. In place of x0, which is 0, there is
 * `fcsr`. */
struct state {
    uint64_t x[32], f[32];
    uint8_t below[128];
};
struct state before __attribute__((visibility("hidden")));
struct state after __attribute__((visibility("hidden")));
_Static_assert(sizeof(struct state) == 64 * 8 + 128, "as the code below has it");

/* The words of a trap by the doorbell (TR-14). */
static _Alignas(32) struct vm_words frame;

void ring_with_state(void);
void call_with_state(void);

/* Without sp, gp and tp, which have their values, and t6, by which all others are reached. */
#define GENERAL "1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30"
#define FLOATING "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31"
#define SAVED "8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27"

__asm__(
    ".text\n"
    ".option push\n"
    ".option norelax\n"
    ".option norvc\n"
    ".macro with_state name, trap:vararg\n"
    "\\name:\n"
    "  addi sp, sp, -512\n"
    "  sd ra, 8(sp)\n"
    "  .irp nr, " SAVED "\n    sd x\\nr, \\nr * 8(sp)\n    fsd f\\nr, \\nr * 8 + 240(sp)\n  .endr\n"
    "  lla t6, before\n"
    "  .irp nr, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    "    ld t0, \\nr * 8 + 512(t6)\n    sd t0, \\nr * 8 - 128(sp)\n"
    "  .endr\n"
    "  ld t0, 0(t6)\n  fscsr t0\n"
    "  sd sp, 16(t6)\n  sd gp, 24(t6)\n  sd tp, 32(t6)\n"
    "  .irp nr, " FLOATING "\n    fld f\\nr, \\nr * 8 + 256(t6)\n  .endr\n"
    "  .irp nr, " GENERAL "\n    ld x\\nr, \\nr * 8(t6)\n  .endr\n"
    "  ld t6, 248(t6)\n"
    "  \\trap\n"
    /* Above the stack pointer, since no register is free. */
    "  sd t6, 0(sp)\n"
    "  lla t6, after\n"
    "  .irp nr, " GENERAL "\n    sd x\\nr, \\nr * 8(t6)\n  .endr\n"
    "  ld t0, 0(sp)\n  sd t0, 248(t6)\n"
    "  sd sp, 16(t6)\n  sd gp, 24(t6)\n  sd tp, 32(t6)\n"
    "  frcsr t0\n  sd t0, 0(t6)\n  fscsr zero\n"
    "  .irp nr, " FLOATING "\n    fsd f\\nr, \\nr * 8 + 256(t6)\n  .endr\n"
    "  .irp nr, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    "    ld t0, \\nr * 8 - 128(sp)\n    sd t0, \\nr * 8 + 512(t6)\n"
    "  .endr\n"
    "  .irp nr, " SAVED "\n    ld x\\nr, \\nr * 8(sp)\n    fld f\\nr, \\nr * 8 + 240(sp)\n  .endr\n"
    "  ld ra, 8(sp)\n"
    "  addi sp, sp, 512\n"
    "  ret\n"
    ".endm\n"
    "with_state ring_with_state, sd a0, 0(a1)\n"
    "with_state call_with_state, jalr t1\n"
    ".option pop\n");

enum { RA = 1, SP = 2, GP = 3, TP = 4, T0 = 5, T1 = 6, T2 = 7, A0 = 10, A1 = 11, A7 = 17, T3 = 28, T6 = 31 };

/* Whether a gate may change a general register (TR-24), or has the answer there. */
static bool of_the_gate(unsigned nr)
{
    return nr == RA || (nr >= T0 && nr <= T2) || (nr >= A0 && nr <= A7) || nr >= T3;
}

/* ABI, Traps TR-14 and TR-25: the answer comes back in the frame, and all registers are as they were. TR-24: with a gate,
 * it comes back in a0 to a3, and the gate keeps less; it changes no memory. */
void test_registers(bool by_gate)
{
    const uint64_t towards_zero = 1 << 5, accrued = 0x15;
    const struct vm_words words = {VM_CALL, Next_u64.signature, 41, 0};
    uint8_t *bytes = (uint8_t *)&before;
    for (unsigned i = 0; i < sizeof before; i++) bytes[i] = (uint8_t)(i * 37 + 1);
    before.x[0] = towards_zero | accrued;
    struct vm_words answer;
    if (by_gate) {
        memcpy(before.x + A0, &words, sizeof words);
        before.x[T1] = (uint64_t)gate;
        call_with_state();
        memcpy(&answer, after.x + A0, sizeof answer);
    } else {
        frame = words;
        before.x[A0] = (uint64_t)&frame;
        before.x[A1] = DOORBELL;
        ring_with_state();
        answer = frame;
    }
    bool right = answer.kind == VM_ANSWER && answer.word == VM_OK && answer.primary == 42;
    report(right && answer.secondary == 0, "registers: the answer");
    bool kept = true;
    for (unsigned nr = TP + 1; nr < 32; nr++)
        kept &= before.x[nr] == after.x[nr] || (by_gate && of_the_gate(nr));
    report(kept && (by_gate || before.x[RA] == after.x[RA]), "registers: the other general ones");
    report(memcmp(before.x + SP, after.x + SP, 24) == 0, "registers: sp, gp and tp");
    report(((before.x[0] ^ after.x[0]) & ~(by_gate ? UINT64_C(0x1f) : 0)) == 0, "registers: fcsr");
    report(memcmp(before.f, after.f, sizeof before.f) == 0, "registers: f0 to f31");
    report(memcmp(before.below, after.below, sizeof before.below) == 0, "the stack: 128 bytes below sp");
}

/* A gate, as a host would map one, with memory of its own: it rings the doorbell, and changes all registers that a gate may
 * change (TR-24). */
__asm__(".local gates_frame\n.comm gates_frame, 32, 32\n"
        ".globl gate\n.hidden gate\n.text\n"
        ".option push\n.option norvc\n"
        "gate:\n"
        "  mv t0, ra\n  lla a4, gates_frame\n"
        "  sd a0, 0(a4)\n  sd a1, 8(a4)\n  sd a2, 16(a4)\n  sd a3, 24(a4)\n"
        "  mv a0, a4\n  li a1, 0x100000000040\n"
        "  sd a0, 0(a1)\n"
        "  ld a0, 0(a4)\n  ld a1, 8(a4)\n  ld a2, 16(a4)\n  ld a3, 24(a4)\n"
        "  .irp register, a4, a5, a6, a7, ra, t1, t2, t3, t4, t5, t6\n    li \\register, -7\n  .endr\n"
        "  csrs fflags, 0xa\n"
        "  jr t0\n"
        ".option pop\n");
_Static_assert(DOORBELL == 0x100000000040, "as the code above has it");

#define STORE(instruction, address, frame) \
    do { \
        register uint64_t at __asm__("a0") = (uint64_t)(frame); \
        register uint64_t doorbell __asm__("a1") = (address); \
        __asm__ volatile(".option push\n\t.option norvc\n\t" instruction "\n\t.option pop" \
                         : \
                         : "r"(at), "r"(doorbell) \
                         : "a2", "fa0", "memory"); \
    } while (0)

/* ABI, Traps TR-9, TR-10 and TR-14. */
void ring_wrongly(const char *how)
{
    const uint64_t good = good_frame();
    if (strcmp(how, "a store of 1 byte") == 0) STORE("sb a0, 0(a1)", DOORBELL, good);
    if (strcmp(how, "a store of 4 bytes") == 0) STORE("sw a0, 0(a1)", DOORBELL, good);
    if (strcmp(how, "a store of a floating-point register") == 0)
        STORE("fmv.d.x fa0, a0\n\tfsd fa0, 0(a1)", DOORBELL, good);
    if (strcmp(how, "a compressed store") == 0)
        STORE(".option rvc\n\tc.sd a0, 0(a1)", DOORBELL, good);
    if (strcmp(how, "a load") == 0) STORE("ld a2, 0(a1)", DOORBELL, good);
    if (strcmp(how, "a store beside") == 0) STORE("sd a0, 0(a1)", DOORBELL + 8, good);
    if (strcmp(how, "a store across") == 0) STORE("sd a0, 0(a1)", DOORBELL + 4, good);
    if (strncmp(how, "a frame ", 8) == 0) STORE("sd a0, 0(a1)", DOORBELL, bad_frame(how + 8));
}
