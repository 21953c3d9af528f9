/* The traps of each architecture; see vmffi.h. */
#include "vmffi.h"

struct vm_method vm_method;

#if defined(__x86_64__)

struct vm_words vm_trap(struct vm_words w)
{
    /* TR-6 */
    register uint64_t primary __asm__("r8") = w.primary;
    register uint64_t secondary __asm__("r9") = w.secondary;
    uint64_t address = vm_method.gate;
    if (address != 0) {
        /* TR-19, TR-20: beyond the red zone, of which the compiler makes use. */
        __asm__ volatile("leaq -128(%%rsp), %%rsp\n\tcall *%%rdx\n\tleaq 128(%%rsp), %%rsp"
                         : "+a"(w.kind), "+b"(w.word), "+r"(primary), "+r"(secondary), "+d"(address)
                         :
                         : "rcx", "rsi", "rdi", "r10", "r11", "cc", "memory"); /* TR-13 */
    } else {
        /* TR-7, TR-9 */
        __asm__ volatile("movq %%rax, (%%rdx)"
                         : "+a"(w.kind), "+b"(w.word), "+r"(primary), "+r"(secondary)
                         : "d"(vm_method.doorbell)
                         : "memory"); /* TR-13 */
    }
    return (struct vm_words){w.kind, w.word, primary, secondary};
}

#elif defined(__aarch64__) || defined(__riscv)

/* TR-14: aligned, so that it lies in one page. */
struct frame {
    _Alignas(32) struct vm_words words;
};

#if defined(__aarch64__)

/* TR-21 */
static void ring(struct frame *frame)
{
    register struct frame *at __asm__("x0") = frame;
    register uint64_t doorbell __asm__("x1") = vm_method.doorbell;
    __asm__ volatile("str x0, [x1]" : : "r"(at), "r"(doorbell) : "memory"); /* TR-13 */
}

/* TR-24 */
static struct vm_words call_gate(struct vm_words w)
{
    register uint64_t kind __asm__("x0") = w.kind;
    register uint64_t word __asm__("x1") = w.word;
    register uint64_t primary __asm__("x2") = w.primary;
    register uint64_t secondary __asm__("x3") = w.secondary;
    register uint64_t address __asm__("x16") = vm_method.gate;
    __asm__ volatile("blr x16"
                     : "+r"(kind), "+r"(word), "+r"(primary), "+r"(secondary), "+r"(address)
                     :
                     : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
                       "x17", "x30", "cc", "memory"); /* TR-13 */
    return (struct vm_words){kind, word, primary, secondary};
}

#else

/* TR-21 */
static void ring(struct frame *frame)
{
    register struct frame *at __asm__("a0") = frame;
    register uint64_t doorbell __asm__("a1") = vm_method.doorbell;
    __asm__ volatile(".option push\n\t.option norvc\n\tsd a0, 0(a1)\n\t.option pop"
                     :
                     : "r"(at), "r"(doorbell)
                     : "memory"); /* TR-13 */
}

/* TR-24 */
static struct vm_words call_gate(struct vm_words w)
{
    register uint64_t kind __asm__("a0") = w.kind;
    register uint64_t word __asm__("a1") = w.word;
    register uint64_t primary __asm__("a2") = w.primary;
    register uint64_t secondary __asm__("a3") = w.secondary;
    register uint64_t address __asm__("t1") = vm_method.gate;
    /* The accrued exceptions are not kept either; C makes no promise about them without its pragma. */
    __asm__ volatile("jalr t1"
                     : "+r"(kind), "+r"(word), "+r"(primary), "+r"(secondary), "+r"(address)
                     :
                     : "a4", "a5", "a6", "a7", "t0", "t2", "t3", "t4", "t5", "t6", "ra",
                       "memory"); /* TR-13 */
    return (struct vm_words){kind, word, primary, secondary};
}

#endif

struct vm_words vm_trap(struct vm_words w)
{
    if (vm_method.gate != 0) return call_gate(w);
    struct frame frame = {w};
    ring(&frame);
    return frame.words;
}

#else
#error "docs/abi.md has no traps for this architecture"
#endif
