//! Instructions of x86_64 that the processor or the system denies to a guest.

use super::super::{
    Came, Case,
    connection::{On, REGION, SUPERVISOR, Setup, Target},
    crimes::{Dies, Row, dies, either, lives_or_dies, page, row},
    list::{at, deed},
    ops::{At, Base, Deed},
};

const GP: Dies = Dies::Exception(13, None);
const UD: Dies = Dies::Exception(6, None);
/// A page fault at the instruction itself: an outer kernel, or the hypervisor of this machine, has redirected the guest, or has
/// tried to replace the instruction.
const AT_ITSELF: Dies = Dies::PageFault(|fault| fault.address == Some(fault.instruction));

pub fn rows() -> Vec<Row> {
    let value = |what, value| deed(what, at(0), value);
    let place = |what, place| deed(what, at(place), 0);
    vec![
        row("a_jump_to_no_address", place(Deed::Jump, 1 << 63), GP),
        row("a_division_by_zero", value(Deed::Divide, 0), Dies::Exception(0, None)),
        row("a_vector_division_by_zero", value(Deed::DivideFloat, 0), Dies::Exception(19, None)),
        row("an_unaligned_vector_access", deed(Deed::LoadAligned, At(Base::Boot, 8), 0), GP),
        row(
            "an_unaligned_access_that_is_checked",
            deed(Deed::Checked, At(Base::Boot, 1), 0),
            Dies::Exception(17, None),
        ),
        row("a_breakpoint", value(Deed::Breakpoint, 0), Dies::Exception(3, None)),
        row("single_steps", value(Deed::Steps, 0), Dies::Exception(1, None)),
        row("int1", value(Deed::Icebp, 0), Dies::Exception(1, None)),
        row("hlt", value(Deed::Halt, 0), GP),
        row("cli", value(Deed::Cli, 0), GP),
        row("sti", value(Deed::Sti, 0), GP),
        row("lgdt", value(Deed::Lgdt, 0), GP),
        row("lidt", value(Deed::Lidt, 0), GP),
        row("lldt", value(Deed::Lldt, 0), GP),
        row("ltr", value(Deed::Ltr, 0x20), GP),
        row("mov_cr0", value(Deed::Cr0, 0), GP),
        row("mov_cr3", value(Deed::Cr3, 0), GP),
        row("mov_cr4", value(Deed::Cr4, 0), GP),
        row("mov_dr7", value(Deed::Dr7, u64::MAX >> 32), GP),
        row("clts", value(Deed::Clts, 0), GP),
        // EFER, the base of GS, and a number without a register.
        row("wrmsr_efer", deed(Deed::Wrmsr, at(0xc000_0080), 0xd01), GP),
        row("wrmsr_gs_base", deed(Deed::Wrmsr, at(0xc000_0101), 1), GP),
        row("rdmsr", deed(Deed::Rdmsr, at(0xc000_0080), 0), GP),
        row("rdmsr_of_an_unknown_register", deed(Deed::Rdmsr, at(0x1234_5678), 0), GP),
        row("invlpg", place(Deed::Invlpg, REGION), GP),
        row("wbinvd", value(Deed::Wbinvd, 0), GP),
        row("swapgs", value(Deed::Swapgs, 0), GP),
        row("xsetbv", value(Deed::Xsetbv, 1), GP),
        // Without `syscall` enabled, this instruction is undefined as well.
        either("sysret", place(Deed::Sysret, REGION), &[UD, GP], &[GP]),
        either("sysexit", place(Deed::Sysexit, REGION), &[GP, UD], &[GP, UD]),
        row("iret_to_privilege", deed(Deed::Iret, at(SUPERVISOR + 0x2000), 8), GP),
        row("a_far_jump_to_privilege", deed(Deed::FarJump, at(SUPERVISOR + 0x2000), 8), GP),
        // In a process this selects a 32-bit code segment.
        either("a_far_jump_to_32_bits", deed(Deed::FarJump, at(0), 0x23), &[GP], &[page(0)]),
        row("mov_ds", value(Deed::LoadDs, 8), GP),
        row("mov_ss", value(Deed::LoadSs, 8), GP),
        // Not enabled in a virtual machine; in a process it is, if the processor has it, and denies the guest its own memory.
        either("wrpkru", value(Deed::Pkru, 3), &[UD], &[UD, Dies::ANY_PAGE]),
        either("a_system_call", value(Deed::Syscall, 39), &[UD, page(0)], &[Dies::SystemCall(39)]),
        either(
            "a_system_call_that_ends_processes",
            value(Deed::Syscall, 231),
            &[UD, page(0)],
            &[Dies::SystemCall(231)],
        ),
        either(
            "an_unknown_system_call",
            value(Deed::Syscall, u64::MAX),
            &[UD, page(0)],
            &[Dies::SystemCall(u64::MAX)],
        ),
        either(
            "a_system_call_of_32_bits",
            value(Deed::Int80, 20),
            &[GP, UD],
            &[Dies::SystemCall(20)],
        ),
        either(
            "a_system_call_of_32_bits_by_code_of_32_bits",
            value(Deed::Compat, 20),
            &[GP],
            &[Dies::SystemCall(20)],
        ),
        either(
            "sysenter",
            value(Deed::Sysenter, 20),
            &[GP, UD],
            &[Dies::SystemCall(20), UD, AT_ITSELF],
        ),
        // The address of a vsyscall.
        either(
            "a_virtual_system_call",
            place(Deed::Call, 0xffff_ffff_ff60_0000),
            &[page(0xffff_ffff_ff60_0000)],
            &[page(0xffff_ffff_ff60_0000), Dies::SystemCall(96)],
        ),
        row("a_write_to_no_address", place(Deed::Store8, 1 << 63), GP),
        row("a_forged_report_of_an_exception", deed(Deed::Out4, at(0x600), 14), GP),
        row("a_forged_report_by_a_string", deed(Deed::OutString, at(0x600), 1), GP),
    ]
}

/// All vectors for which the host has stubs, and others.
fn interrupts(on: On) -> String {
    let vectors = (0..=33).chain([0x40, 0x7f, 0x81, 0xee, 0xff]);
    for vector in vectors {
        let target = Target::new(on, &Setup::PLAIN);
        let list = deed(Deed::Int, at(0), vector);
        if on.is_kvm() && vector != 3 {
            // The guest may not use any of these. If the virtual machine is itself emulated, the interrupt may reach the outer
            // system, or do nothing.
            let overflow = Dies::Exception(4, None);
            lives_or_dies(&target, &list, &[GP, UD, if vector == 4 { overflow } else { GP }]);
            continue;
        }
        // The kernel permits `int 3` and `int 4` to a guest, as processors have instructions for them.
        dies(
            &target,
            &list,
            &[if matches!(vector, 3 | 4) { Dies::Exception(vector as u8, None) } else { GP }],
        );
        target.assert_ended();
    }
    "`PeerDied`: general protection fault; vectors 3 and 4 as such".into()
}

/// System calls that the host's kernel denies itself, and instructions that the processor lacks or denies.
fn hypercalls(on: On) -> String {
    let mut came = Vec::new();
    for what in [Deed::Vmcall, Deed::Vmmcall] {
        let target = Target::new(on, &Setup::PLAIN);
        let (Came::Lives(text) | Came::Ended(text)) =
            lives_or_dies(&target, &deed(what, at(0), 1), &[UD, GP, AT_ITSELF]);
        target.assert_treasure();
        came.push(format!("{what:?}: {text}"));
    }
    came.join("; ")
}

/// The base of FS belongs to the guest, if it can be set.
fn fs_base(target: &Target) -> Came {
    lives_or_dies(target, &deed(Deed::FsBase, at(0), 0x1234), &[UD])
}

/// A guest that denies itself all of its memory, if the processor has protection keys, and then traps without using it.
fn keys(target: &Target) -> Came {
    let list = deed(Deed::Pkru, at(0), 3);
    dies(target, &list, &[UD, Dies::ANY_PAGE]);
    assert_eq!(target.host.reset(), Ok(()));
    target.assert_works();
    dies(target, &list, &[UD, Dies::ANY_PAGE])
}

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("memory_without_a_key", keys).only(On::is_process),
        Case::other("interrupts_of_all_kinds", interrupts),
        Case::new("the_base_of_fs", fs_base),
        Case::other("hypercalls_of_other_hypervisors", hypercalls),
    ]
}
