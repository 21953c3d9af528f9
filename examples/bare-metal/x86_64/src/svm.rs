//! Guests by AMD's SVM with nested pages: a guest's memory and tables, and the world switch (AMD APM, volume 2, chapter 15).
//!
//! There are two slots, each for one guest of one vCPU. A guest has `GUEST_LEN` bytes of memory at the guest-physical
//! address `GUEST_BASE`, and nothing else: what it does with other addresses, ports, model-specific registers, and with
//! instructions that a guest has no need of, ends it.
//!
//! Neither the host nor its guests use x87 and vector registers: the host is built for a target without them, and a guest
//! runs with CR0.EM, which it cannot change. So the world switch leaves them alone.

use core::{
    arch::{asm, global_asm, x86_64::__cpuid},
    cell::UnsafeCell,
    mem::offset_of,
    ops::Range,
    ptr::NonNull,
};

use vmffi::host::registers::x86_64::GeneralRegisters;

/// The guest-physical address of a guest's memory, a multiple of 2 MiB.
pub const GUEST_BASE: u64 = 0x40_0000;
/// The length of a guest's memory in bytes.
pub const GUEST_LEN: u64 = 0x40_0000;
/// The guest-physical addresses of the region.
pub const REGION: Range<u64> = 0x60_0000..0x70_0000;
/// The guest's page tables are in the last three pages of its memory.
const GUEST_TABLES: u64 = GUEST_BASE + GUEST_LEN - 3 * PAGE;
const PAGE: u64 = 4096;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// Why a guest has left for the host.
#[derive(Clone, Copy, Debug)]
pub enum Exit {
    /// By `vmmcall`. The guest will resume behind it.
    Vmmcall,
    /// By an instruction that accesses an I/O port. The guest will resume behind it.
    Port {
        /// The port.
        port: u16,
        /// It is `out dx, eax`, or has the same effect.
        is_out_dword: bool,
    },
    /// By an access to guest-physical memory that it does not have, or cannot access so.
    NestedPageFault {
        /// The guest-physical address.
        address: u64,
    },
    /// By an access that its own page tables do not permit.
    PageFault {
        /// The guest's virtual address.
        address: u64,
    },
    /// By another exception, with this vector.
    Exception(u8),
    /// By an instruction that is not for guests.
    Forbidden,
    /// By a triple fault.
    Shutdown,
    /// By something else, with this exit code: an interrupt, or a VMCB that the processor refuses.
    Other(u64),
}

/// A segment register, as the VMCB has it.
#[repr(C)]
struct Segment {
    selector: u16,
    attributes: u16,
    limit: u32,
    base: u64,
}

impl Segment {
    const fn flat(selector: u16, attributes: u16) -> Self {
        Self { selector, attributes, limit: u32::MAX, base: 0 }
    }

    const EMPTY: Self = Self { selector: 0, attributes: 0, limit: 0, base: 0 };
}

/// A virtual machine control block (AMD APM, volume 2, appendix B). What is reserved or unused here is 0.
#[repr(C, align(4096))]
struct Vmcb {
    control_reads: u16,
    control_writes: u16,
    debug_reads: u16,
    debug_writes: u16,
    exceptions: u32,
    intercepts: u32,
    svm_intercepts: u32,
    reserved_0: [u8; 0x2c],
    port_map: u64,
    register_map: u64,
    tsc_offset: u64,
    address_space: u32,
    tlb_control: u32,
    interrupts: u64,
    interrupt_shadow: u64,
    exit_code: u64,
    exit_info: [u64; 2],
    exit_interrupt: u64,
    nested_paging: u64,
    reserved_1: [u8; 0x18],
    nested_tables: u64,
    reserved_2: [u8; 0x348],
    es: Segment,
    cs: Segment,
    ss: Segment,
    ds: Segment,
    fs: Segment,
    gs: Segment,
    gdtr: Segment,
    ldtr: Segment,
    idtr: Segment,
    tr: Segment,
    reserved_3: [u8; 0x30],
    efer: u64,
    reserved_4: [u8; 0x70],
    cr4: u64,
    cr3: u64,
    cr0: u64,
    dr7: u64,
    dr6: u64,
    rflags: u64,
    rip: u64,
    reserved_5: [u8; 0x58],
    rsp: u64,
    reserved_6: [u8; 0x18],
    rax: u64,
    reserved_7: [u8; 0x68],
    pat: u64,
}

const _: () = {
    assert!(offset_of!(Vmcb, port_map) == 0x40);
    assert!(offset_of!(Vmcb, exit_code) == 0x70);
    assert!(offset_of!(Vmcb, nested_paging) == 0x90);
    assert!(offset_of!(Vmcb, nested_tables) == 0xb0);
    assert!(offset_of!(Vmcb, es) == 0x400);
    assert!(offset_of!(Vmcb, efer) == 0x4d0);
    assert!(offset_of!(Vmcb, cr4) == 0x548);
    assert!(offset_of!(Vmcb, rip) == 0x578);
    assert!(offset_of!(Vmcb, rsp) == 0x5d8);
    assert!(offset_of!(Vmcb, rax) == 0x5f8);
    assert!(offset_of!(Vmcb, pat) == 0x668);
    assert!(size_of::<Vmcb>() == 0x1000);
};

/// A page table, or another page for the processor.
#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u64; 512]);

impl Page {
    const ZEROED: Self = Self([0; 512]);
    const ONES: Self = Self([u64::MAX; 512]);
}

/// What the host has for one guest.
#[repr(C, align(4096))]
struct Slot {
    memory: [u8; GUEST_LEN as usize],
    vmcb: Vmcb,
    /// The nested tables: one of each upper level, and two of pages.
    tables: [Page; 5],
    /// Counts the guests that this slot has had.
    generation: u64,
}

/// A static that this host's only processor accesses by raw pointers.
#[repr(transparent)]
struct Static<T>(UnsafeCell<T>);

// SAFETY: the host has one processor and no interrupts, and each access is by a raw pointer and says what excludes others.
unsafe impl<T> Sync for Static<T> {}

// SAFETY: `Slot` is made of integers, for which zeros are a value.
static SLOTS: Static<[Slot; 2]> = Static(UnsafeCell::new(unsafe { core::mem::zeroed() }));
/// Where the processor saves the host's state while a guest runs.
static HOST_SAVE: Static<Page> = Static(UnsafeCell::new(Page::ZEROED));
/// All ports are intercepted, and so are all model-specific registers.
static ALL: Static<[Page; 4]> = Static(UnsafeCell::new([Page::ONES; 4]));

/// Makes the processor run guests.
///
/// # Errors
///
/// What it lacks.
#[allow(
    unused_unsafe,
    reason = "newer compilers know that these functions are safe where there is CPUID"
)]
pub fn enable() -> Result<(), &'static str> {
    const EFER: u32 = 0xc000_0080;
    const SVME: u64 = 1 << 12;
    const VM_CR: u32 = 0xc001_0114;
    const VM_HSAVE_PA: u32 = 0xc001_0117;
    // SAFETY: all processors with long mode have CPUID, and these functions where the first one says so.
    let has_svm =
        unsafe { __cpuid(0x8000_0000).eax >= 0x8000_000a && __cpuid(0x8000_0001).ecx & 4 != 0 };
    if !has_svm {
        return Err("this processor has no SVM");
    }
    // SAFETY: a processor with SVM has this function.
    if unsafe { __cpuid(0x8000_000a) }.edx & 1 == 0 {
        return Err("this processor has no nested pages");
    }
    // SAFETY: a processor with SVM has the three registers; the page at `HOST_SAVE` is for nothing else.
    unsafe {
        if read_register(VM_CR) & 1 << 4 != 0 {
            return Err("the firmware has disabled SVM");
        }
        write_register(EFER, read_register(EFER) | SVME);
        write_register(VM_HSAVE_PA, address_of(&HOST_SAVE));
    }
    Ok(())
}

/// Reads a model-specific register.
///
/// # Safety
///
/// The processor has it.
unsafe fn read_register(number: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller says that the register exists.
    unsafe {
        asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
///
/// The processor has it, and the value does what the caller needs.
unsafe fn write_register(number: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the caller says that the register exists, and answers for the value.
    unsafe { asm!("wrmsr", in("ecx") number, in("eax") low, in("edx") high, options(nostack)) }
}

/// The physical address of a static, which the host maps at its own address.
fn address_of<T>(of: &Static<T>) -> u64 {
    of.0.get().addr() as u64
}

/// A guest in a slot.
#[derive(Debug)]
pub struct Machine {
    slot: *mut Slot,
    generation: u64,
    /// The guest's general registers: those with which it is entered next, or with which it has left.
    pub registers: GeneralRegisters,
}

// SAFETY: `slot` is one of `SLOTS`, statics that belong to no thread.
unsafe impl Send for Machine {}

impl Machine {
    /// Loads a guest into a slot, in place of the one that was there, which does not run again. It will be entered at the
    /// first byte of its image, which is the first of its memory, with `arguments` in RDI and RSI. `read_only` are parts
    /// of the region that it cannot write, and which stay as they are; all other memory behind the image is zeroed.
    ///
    /// # Panics
    ///
    /// If there is no such slot, or the image does not fit below the region.
    pub fn load(slot: usize, image: &[u8], read_only: &[Range<u64>], arguments: [u64; 2]) -> Self {
        assert!(image.len() as u64 <= REGION.start - GUEST_BASE, "the image is too long");
        assert!(slot < 2, "there are two slots");
        let address_space = slot as u32 + 1; // 0 is that of the host
        // SAFETY: the static has two elements.
        let slot = unsafe { SLOTS.0.get().cast::<Slot>().add(slot) };
        // SAFETY: nothing else runs: no guest, and no other code of the host. References to a slot end with the functions
        // of this file. The memory may be that of a region, of which the host's end makes no references either.
        let generation = unsafe {
            let memory = (&raw mut (*slot).memory).cast::<u8>();
            // What the guest cannot write is the host's, and stays.
            for page in (0..GUEST_LEN).step_by(PAGE as usize) {
                if !read_only.iter().any(|range| range.contains(&(GUEST_BASE + page))) {
                    memory.add(page as usize).write_bytes(0, PAGE as usize);
                }
            }
            memory.copy_from_nonoverlapping(image.as_ptr(), image.len());
            map_guest(memory.add((GUEST_TABLES - GUEST_BASE) as usize).cast());
            map_nested(&mut (*slot).tables, memory.addr() as u64, read_only);
            (&raw mut (*slot).vmcb)
                .write(initial((&raw const (*slot).tables).addr() as u64, address_space));
            (*slot).generation += 1;
            (*slot).generation
        };
        let [rdi, rsi] = arguments;
        Self { slot, generation, registers: GeneralRegisters { rdi, rsi, ..Default::default() } }
    }

    /// The host's address of the guest's memory, `GUEST_LEN` bytes in a static to which no reference exists.
    pub fn memory(&self) -> NonNull<u8> {
        // SAFETY: `slot` is one of `SLOTS`, whose address is not 0.
        unsafe { NonNull::new_unchecked((&raw mut (*self.slot).memory).cast()) }
    }

    /// The address of the guest's next instruction: of the one at which it has left, or of the one behind, as the exit says.
    pub fn instruction(&self) -> u64 {
        // SAFETY: `slot` is one of `SLOTS`, and no guest runs.
        unsafe { (*self.slot).vmcb.rip }
    }

    /// Enters the guest, and returns why it has left. `None` if another guest has been loaded into the slot since.
    pub fn enter(&mut self) -> Option<Exit> {
        // SAFETY: `slot` is one of `SLOTS`, and no guest runs, nor other code of this file.
        let vmcb = unsafe {
            if (*self.slot).generation != self.generation {
                return None;
            }
            &raw mut (*self.slot).vmcb
        };
        // SAFETY: the VMCB is that of this guest, whose memory and tables are no object of the host's, and its maps
        // intercept what would reach beyond these. The registers are as the code expects them.
        unsafe {
            (*vmcb).rax = self.registers.rax;
            (*vmcb).rsp = self.registers.rsp;
            svm_switch(vmcb, &raw mut self.registers);
            self.registers.rax = (*vmcb).rax;
            self.registers.rsp = (*vmcb).rsp;
            (*vmcb).tlb_control = 0;
            Some(exit(&mut *vmcb))
        }
    }
}

/// What the exit code says (AMD APM, volume 2, appendix C).
fn exit(vmcb: &mut Vmcb) -> Exit {
    const VMMCALL_LEN: u64 = vmffi::arch::x86_64::code::VMMCALL.len() as u64;
    let [info, address] = vmcb.exit_info;
    match vmcb.exit_code {
        // Reads of CR0 to CR15, writes, reads of DR0 to DR15, writes.
        0..0x40 => Exit::Forbidden,
        0x4e => Exit::PageFault { address },
        code @ 0x40..0x60 => Exit::Exception((code - 0x40) as u8),
        // RDPMC, INVD, HLT, INVLPGA.
        0x6f | 0x76 | 0x78 | 0x7a => Exit::Forbidden,
        0x7b => {
            // The second word is the address of the next instruction.
            vmcb.rip = address;
            // Bit 0: `in`; 2: with a string; 3: repeated; 4 to 6: one, two or four bytes.
            Exit::Port { port: (info >> 16) as u16, is_out_dword: info & 0x7d == 0x40 }
        }
        // Model-specific registers, task switch.
        0x7c | 0x7d => Exit::Forbidden,
        0x7f => Exit::Shutdown,
        0x81 => {
            vmcb.rip = vmcb.rip.wrapping_add(VMMCALL_LEN);
            Exit::Vmmcall
        }
        // VMRUN, and VMLOAD to XSETBV.
        0x80 | 0x82..=0x8d => Exit::Forbidden,
        0x400 => Exit::NestedPageFault { address },
        code => Exit::Other(code),
    }
}

/// A word with these bits.
const fn bits(set: &[u32]) -> u32 {
    let (mut word, mut i) = (0, 0);
    while i < set.len() {
        word |= 1 << set[i];
        i += 1;
    }
    word
}

/// The state in which a guest starts: 64-bit mode at ring 0, with `nested_tables` at that physical address. The processor
/// keeps translations of different address spaces apart.
fn initial(nested_tables: u64, address_space: u32) -> Vmcb {
    const SEGMENT: Segment = Segment::flat(16, 0xc93);
    // SAFETY: `Vmcb` is made of integers, for which zeros are a value.
    let zeroed: Vmcb = unsafe { core::mem::zeroed() };
    Vmcb {
        // CR0, CR4, CR8; CR3 is the guest's own, as its page tables are.
        control_writes: bits(&[0, 4, 8]) as u16,
        debug_reads: u16::MAX,
        debug_writes: u16::MAX,
        // The guest has no handlers.
        exceptions: u32::MAX,
        // INTR, NMI, SMI, INIT; RDPMC; INVD, HLT, INVLPGA; ports, model-specific registers, task switches; shutdown.
        intercepts: bits(&[0, 1, 2, 3, 15, 22, 24, 26, 27, 28, 29, 31]),
        // VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT; WBINVD, MONITOR, MWAIT, XSETBV.
        svm_intercepts: bits(&[0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 13]),
        port_map: address_of(&ALL),
        register_map: address_of(&ALL),
        address_space,
        // Flush everything at the first entry.
        tlb_control: 1,
        // The guest's interrupt flag masks no interrupt of the host's.
        interrupts: 1 << 24,
        nested_paging: 1,
        nested_tables,
        es: SEGMENT,
        cs: Segment::flat(8, 0xa9b),
        ss: SEGMENT,
        ds: SEGMENT,
        fs: SEGMENT,
        gs: SEGMENT,
        gdtr: Segment::EMPTY,
        ldtr: Segment::EMPTY,
        idtr: Segment::EMPTY,
        tr: Segment { selector: 0, attributes: 0x8b, limit: 0xffff, base: 0 },
        // SVME, which the processor demands; LMA, LME.
        efer: 0x1500,
        cr4: 0x20,
        cr3: GUEST_TABLES,
        // PG, WP, NE, ET, EM, MP, PE.
        cr0: 0x8001_0037,
        dr7: 0x400,
        dr6: 0xffff_0ff0,
        rflags: 2,
        rip: GUEST_BASE,
        pat: 0x0007_0406_0007_0406,
        ..zeroed
    }
}

/// Writes the guest's own page tables: the first GiB at its own addresses, in pages of 2 MiB. Most of it is not there,
/// by the nested tables, which the guest cannot reach.
///
/// # Safety
///
/// `tables` are the three pages at `GUEST_TABLES`, which nothing else uses.
unsafe fn map_guest(tables: *mut [u64; 512]) {
    const NEXT: u64 = PRESENT | WRITABLE;
    // SAFETY: the caller gives three pages.
    unsafe {
        (*tables)[0] = (GUEST_TABLES + PAGE) | NEXT;
        (*tables.add(1))[0] = (GUEST_TABLES + 2 * PAGE) | NEXT;
        for i in 0..512 {
            (*tables.add(2))[i] = (i as u64) << 21 | NEXT | LARGE;
        }
    }
}

/// Maps the guest's memory, and nothing else.
fn map_nested(tables: &mut [Page; 5], memory: u64, read_only: &[Range<u64>]) {
    // Accesses by way of nested tables are those of a user (AMD APM, volume 2, "Nested Paging").
    const NEXT: u64 = PRESENT | WRITABLE | USER;
    const FIRST: usize = (GUEST_BASE >> 21) as usize;
    let next = |table: &Page| (&raw const *table).addr() as u64 | NEXT;
    let [level_4, level_3, level_2, pages @ ..] = tables;
    (*level_4, *level_3, *level_2) = (Page::ZEROED, Page::ZEROED, Page::ZEROED);
    level_4.0[0] = next(level_3);
    level_3.0[0] = next(level_2);
    for (i, table) in pages.iter_mut().enumerate() {
        level_2.0[FIRST + i] = next(table);
        for (j, entry) in table.0.iter_mut().enumerate() {
            let offset = (512 * i + j) as u64 * PAGE;
            let address = GUEST_BASE + offset;
            *entry = (memory + offset) | NEXT;
            if REGION.contains(&address) {
                *entry |= NO_EXECUTE;
            }
            if read_only.iter().any(|range| range.contains(&address)) {
                *entry &= !WRITABLE;
            }
        }
    }
}

unsafe extern "C" {
    /// Loads the guest's general registers but RAX and RSP, runs the guest until it exits, and stores them.
    fn svm_switch(vmcb: *mut Vmcb, registers: *mut GeneralRegisters);
}

// VMRUN and the exit switch RAX, RSP, RIP, RFLAGS, the control registers, and the segment registers that code and stack
// need; VMLOAD and VMSAVE switch the guest's FS, GS, TR, LDTR and the registers of SYSCALL, none of which the host uses.
// Further handlers and guests may run between two calls: nothing is left on the stack, and the processor's copy of the
// host's state is written anew at each entry. After an exit, the global interrupt flag is clear.
global_asm!(
    r#"
.section .text
.global svm_switch
svm_switch:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rsi
    mov rax, rdi
    vmload rax
    mov rcx, [rsi + 0x08]
    mov rdx, [rsi + 0x10]
    mov rbx, [rsi + 0x18]
    mov rbp, [rsi + 0x28]
    mov rdi, [rsi + 0x38]
    mov r8,  [rsi + 0x40]
    mov r9,  [rsi + 0x48]
    mov r10, [rsi + 0x50]
    mov r11, [rsi + 0x58]
    mov r12, [rsi + 0x60]
    mov r13, [rsi + 0x68]
    mov r14, [rsi + 0x70]
    mov r15, [rsi + 0x78]
    mov rsi, [rsi + 0x30]
    vmrun rax
    vmsave rax
    xchg rsi, [rsp]
    mov [rsi + 0x08], rcx
    mov [rsi + 0x10], rdx
    mov [rsi + 0x18], rbx
    mov [rsi + 0x28], rbp
    mov [rsi + 0x38], rdi
    mov [rsi + 0x40], r8
    mov [rsi + 0x48], r9
    mov [rsi + 0x50], r10
    mov [rsi + 0x58], r11
    mov [rsi + 0x60], r12
    mov [rsi + 0x68], r13
    mov [rsi + 0x70], r14
    mov [rsi + 0x78], r15
    pop qword ptr [rsi + 0x30]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
"#
);
