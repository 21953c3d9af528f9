// The boot code, the exception vectors of EL2, and the world switch.

.section .text.boot, "ax"
.globl _start
_start:
    mrs     x0, CurrentEL
    cmp     x0, #(2 << 2)
    b.ne    3f
    adrp    x1, __stack
    add     x1, x1, :lo12:__stack
    mov     sp, x1
    mov     x29, xzr
    adrp    x1, vectors
    add     x1, x1, :lo12:vectors
    msr     vbar_el2, x1
    isb
    bl      hypervisor
3:  wfi
    b       3b

.text

// extern "C" fn enter_guest(context: *mut Context) -> u64
//
// Runs the guest until it exits, and returns which entry of the vectors it came by: 0 for a synchronous exception, 1 for
// any other. X0 to X30, the program counter and PSTATE of the guest are in `context`, at these offsets.
.set PC, 31 * 8
.set PSTATE, 32 * 8

.globl enter_guest
enter_guest:
    stp     x19, x20, [sp, #-96]!
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    stp     x29, x30, [sp, #80]
    msr     tpidr_el2, x0
    ldp     x2, x3, [x0, #PC]
    msr     elr_el2, x2
    msr     spsr_el2, x3
    ldp     x2, x3, [x0, #16]
    ldp     x4, x5, [x0, #32]
    ldp     x6, x7, [x0, #48]
    ldp     x8, x9, [x0, #64]
    ldp     x10, x11, [x0, #80]
    ldp     x12, x13, [x0, #96]
    ldp     x14, x15, [x0, #112]
    ldp     x16, x17, [x0, #128]
    ldp     x18, x19, [x0, #144]
    ldp     x20, x21, [x0, #160]
    ldp     x22, x23, [x0, #176]
    ldp     x24, x25, [x0, #192]
    ldp     x26, x27, [x0, #208]
    ldp     x28, x29, [x0, #224]
    ldr     x30, [x0, #240]
    ldp     x0, x1, [x0]
    eret
    // No processor speculates past the instruction above.
    dsb     nsh
    isb

// Ends `enter_guest`. The host's stack pointer is where `enter_guest` left it.
.macro leave_guest reason
    stp     x0, x1, [sp, #-16]!
    mrs     x0, tpidr_el2
    stp     x2, x3, [x0, #16]
    ldp     x2, x3, [sp], #16
    stp     x2, x3, [x0]
    stp     x4, x5, [x0, #32]
    stp     x6, x7, [x0, #48]
    stp     x8, x9, [x0, #64]
    stp     x10, x11, [x0, #80]
    stp     x12, x13, [x0, #96]
    stp     x14, x15, [x0, #112]
    stp     x16, x17, [x0, #128]
    stp     x18, x19, [x0, #144]
    stp     x20, x21, [x0, #160]
    stp     x22, x23, [x0, #176]
    b       leave_guest_\reason
.endm

leave_guest_0:
    mov     x1, #0
    b       1f
leave_guest_1:
    mov     x1, #1
1:  stp     x24, x25, [x0, #192]
    stp     x26, x27, [x0, #208]
    stp     x28, x29, [x0, #224]
    str     x30, [x0, #240]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    stp     x2, x3, [x0, #PC]
    mov     x0, x1
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x29, x30, [sp, #80]
    ldp     x19, x20, [sp], #96
    ret

// Exceptions of the hypervisor itself end it; those of a guest end `enter_guest`.
.balign 2048
vectors:
.rept 8
    b       unexpected
    .balign 128
.endr
    leave_guest 0
    .balign 128
.rept 3
    leave_guest 1
    .balign 128
.endr
.rept 4
    b       unexpected
    .balign 128
.endr

unexpected:
    mrs     x0, esr_el2
    mrs     x1, elr_el2
    mrs     x2, far_el2
    b       hypervisor_fault

// extern "C" fn save_floating_point(state: *mut [u64; 66]), and its inverse: Q0 to Q31, FPSR and FPCR.
.arch_extension fp
.arch_extension simd
.macro every_q instruction
    \instruction q0, q1, [x0]
    \instruction q2, q3, [x0, #32]
    \instruction q4, q5, [x0, #64]
    \instruction q6, q7, [x0, #96]
    \instruction q8, q9, [x0, #128]
    \instruction q10, q11, [x0, #160]
    \instruction q12, q13, [x0, #192]
    \instruction q14, q15, [x0, #224]
    \instruction q16, q17, [x0, #256]
    \instruction q18, q19, [x0, #288]
    \instruction q20, q21, [x0, #320]
    \instruction q22, q23, [x0, #352]
    \instruction q24, q25, [x0, #384]
    \instruction q26, q27, [x0, #416]
    \instruction q28, q29, [x0, #448]
    \instruction q30, q31, [x0, #480]
.endm

.globl save_floating_point
save_floating_point:
    every_q stp
    mrs     x1, fpsr
    mrs     x2, fpcr
    str     x1, [x0, #512]
    str     x2, [x0, #520]
    ret

.globl load_floating_point
load_floating_point:
    every_q ldp
    ldr     x1, [x0, #512]
    ldr     x2, [x0, #520]
    msr     fpsr, x1
    msr     fpcr, x2
    ret
