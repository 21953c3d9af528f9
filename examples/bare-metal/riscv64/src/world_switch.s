# The boot code, the trap vectors of M-mode and HS-mode, and the world switch of each.

.option arch, +zicsr

.section .text.boot, "ax"
.globl _start
_start:
    # Only the first hart is used. Guests may read counters, of instructions for example.
    csrr    t0, mhartid
    bnez    t0, park
    li      t0, -1
    csrw    mcounteren, t0
    # First as a host in M-mode, ...
    la      t0, __data_copy
    la      t1, __data
    la      t2, __data_end
    sub     t2, t2, t1
    call    copy_words
    la      sp, __stack
    csrw    mscratch, zero
    la      t0, machine_trap
    csrw    mtvec, t0
    call    host_in_machine_mode
    mv      s0, a0
    # ... and then, below a firmware that does nothing, as one in HS-mode. All exceptions go there, except for its own calls.
    li      t0, -1
    csrw    pmpaddr0, t0
    li      t0, 0x1f
    csrw    pmpcfg0, t0
    sfence.vma
    li      t0, ~(1 << 9)
    csrw    medeleg, t0
    li      t0, 3 << 11
    csrc    mstatus, t0
    li      t0, 1 << 11
    csrs    mstatus, t0
    li      t0, 1 << 20 | 1 << 21
    csrc    mstatus, t0
    la      t0, 5f
    csrw    mepc, t0
    mret
5:  la      sp, __stack
    # All variables begin anew.
    la      t0, __data
    la      t1, __data_copy
    la      t2, __data_end
    sub     t2, t2, t0
    call    copy_words
    la      t0, __bss
    la      t1, __bss_end
6:  sd      zero, 0(t0)
    addi    t0, t0, 8
    bltu    t0, t1, 6b
    csrw    sscratch, zero
    la      t0, hypervisor_trap
    csrw    stvec, t0
    mv      a0, s0
    call    host_in_hypervisor_mode
park:
    wfi
    j       park

# Copies t2 bytes, a multiple of eight, from t1 to t0.
copy_words:
    add     t2, t2, t1
1:  bgeu    t1, t2, 2f
    ld      t3, 0(t1)
    sd      t3, 0(t0)
    addi    t0, t0, 8
    addi    t1, t1, 8
    j       1b
2:  ret

.text

# extern "C" fn enter_…(context: *mut Context)
#
# Runs the guest until it traps. In `context` are x0 to x31, the program counter and the status of the guest, and the host's stack
# pointer meanwhile, at these offsets. While the host runs, the scratch register is 0.
.set PC, 32 * 8
.set STATUS, 33 * 8
.set STACK, 34 * 8

# Loads or stores those registers of the guest that need no care: all but x0 and a0, which holds the address of the context.
.macro guest_registers instruction
    .irp register, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    \instruction x\register, 8 * \register(a0)
    .endr
.endm

# Loads or stores the registers that a function preserves: ra, gp, tp, s0 to s11.
.macro host_registers instruction
    .irp register, 1, 3, 4, 8, 9
    \instruction x\register, 8 * \register(sp)
    .endr
    .irp register, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27
    \instruction x\register, 8 * (\register - 8)(sp)
    .endr
.endm

.macro world_switch mode, scratch, epc, status, return
.globl enter_from_\mode\()_mode
enter_from_\mode\()_mode:
    addi    sp, sp, -160
    host_registers sd
    sd      sp, STACK(a0)
    csrw    \scratch, a0
    ld      t0, PC(a0)
    csrw    \epc, t0
    ld      t0, STATUS(a0)
    csrw    \status, t0
    guest_registers ld
    ld      a0, 80(a0)
    \return

.balign 4
\mode\()_trap:
    csrrw   a0, \scratch, a0
    beqz    a0, \mode\()_fault
    guest_registers sd
    csrrw   t0, \scratch, zero
    sd      t0, 80(a0)
    csrr    t0, \epc
    sd      t0, PC(a0)
    csrr    t0, \status
    sd      t0, STATUS(a0)
    ld      sp, STACK(a0)
    host_registers ld
    addi    sp, sp, 160
    ret
.endm

world_switch machine, mscratch, mepc, mstatus, mret
world_switch hypervisor, sscratch, sepc, sstatus, sret

# Exceptions of the host itself end it.
machine_fault:
    csrr    a0, mcause
    csrr    a1, mepc
    csrr    a2, mtval
    j       host_fault
hypervisor_fault:
    csrr    a0, scause
    csrr    a1, sepc
    csrr    a2, stval
    j       host_fault

# extern "C" fn save_floating_point(state: *mut [u64; 33]), and its inverse: f0 to f31, and fcsr.
.option push
.option arch, +d
.macro every_f instruction
    .irp register, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    \instruction f\register, 8 * \register(a0)
    .endr
.endm

.globl save_floating_point
save_floating_point:
    every_f fsd
    frcsr   t0
    sd      t0, 256(a0)
    ret

.globl load_floating_point
load_floating_point:
    every_f fld
    ld      t0, 256(a0)
    fscsr   t0
    ret
.option pop
