//! A guest in a virtual machine, by KVM (the kernel's `Documentation/virt/kvm/api.rst`).
//!
//! Guest code runs at the least privilege. What is more privileged is a page of stubs, which the processor
//! runs when the guest has done what it may not do, and which report that. There are no devices, no
//! interrupts, and no memory but the guest's own.
//!
//! A call costs one `KVM_RUN`: registers travel in the page that vCPU and host share
//! (`KVM_CAP_SYNC_REGS`).

use std::{
    boxed::Box,
    io,
    sync::{Arc, atomic::AtomicBool},
    vec::Vec,
};

use kvm_bindings::{
    CpuId, KVM_INTERNAL_ERROR_EMULATION, KVM_MAX_CPUID_ENTRIES, KVM_MEM_READONLY, kvm_debugregs,
    kvm_regs, kvm_segment, kvm_sregs, kvm_userspace_memory_region, kvm_vcpu_events, kvm_xcr,
    kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Cap, Kvm, SyncReg, VcpuExit, VcpuFd, VmFd};
use nix::libc;

use super::{DOORBELL_AT, FORKED, Loaded, MachineError, lost};
use crate::{
    abi::{Registers, Transport, Way, answer, trap},
    host::{Broken, Cause, End, Stopper, Vcpu},
    memory::PAGE,
};

mod kick;
mod tables;

pub(super) use kick::StopSignal;
use kick::{Kick, Mask};
use tables::{CODE, DATA, GDT_LIMIT, IDT_LIMIT, PORT, PROBE, REPORT, Supervisor, TASK, TASK_LIMIT};

/// CR0: protection, paging, write protection for all, native x87 errors, alignment checks.
const CR0: u64 = 0x8005_0033;
/// The most exits that one access can want, once its instruction is not repeated: it lies in two pages at most, and KVM hands
/// over 8 bytes at a time, or, for a port, what it has read ahead in one piece.
const MOST_PIECES: u32 = (2 * PAGE / 8) as u32;
/// EFER: 64 bits, pages without code. `syscall` is no instruction.
const EFER: u64 = 0xd00;

fn system(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> MachineError {
    move |error| MachineError::System { what, error: io::Error::from_raw_os_error(error.errno()) }
}

fn open() -> Result<Kvm, MachineError> {
    let kvm = Kvm::new().map_err(system("/dev/kvm"))?;
    let synced = kvm.check_extension_int(Cap::SyncRegs);
    // It is negative where the question is refused.
    if synced < 0 || synced & SyncReg::Register as i32 == 0 {
        return Err(MachineError::System {
            what: "/dev/kvm without KVM_CAP_SYNC_REGS",
            error: io::ErrorKind::Unsupported.into(),
        });
    }
    Ok(kvm)
}

/// Makes the machine, with all vCPUs about to begin.
pub(super) fn start(
    loaded: &Arc<Loaded>,
    log: u32,
    signal: StopSignal,
) -> Result<Vec<Box<dyn Vcpu>>, MachineError> {
    let vcpus = make(loaded, log, signal, None)?.into_iter();
    Ok(vcpus.map(|vcpu| Box::new(vcpu) as Box<dyn Vcpu>).collect())
}

/// The same, for guests that are to trap in this way, or else as a probe finds best.
fn make(
    loaded: &Arc<Loaded>,
    log: u32,
    signal: StopSignal,
    way: Option<Way>,
) -> Result<Vec<KvmVcpu>, MachineError> {
    let kvm = open()?;
    let fd = kvm.create_vm().map_err(system("a virtual machine"))?;
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(system("CPUID"))?;
    // Guest-physical: the machine's memory from 0 on, the supervisor's behind it, then nothing.
    let physical = loaded.ram.len();
    // The supervisor's size follows from what it maps; the bell is far behind it.
    let bell = (physical + physical / 128 + (1 << 24)).next_multiple_of(PAGE);
    let supervisor = Supervisor::new(loaded, physical, bell)?;
    if supervisor.end() > bell || bell + PAGE > 1 << physical_bits(&cpuid) {
        return Err(MachineError::Config(
            "the machine has more memory than processors here address",
        ));
    }
    let machine = Arc::new(Shared { fd, supervisor, bell, loaded: loaded.clone(), signal });
    machine.map(&kvm)?;
    let mut vcpus = Vec::new();
    for cpu in 0..loaded.stacks.len() as u64 {
        vcpus.push(KvmVcpu::new(&machine, cpu, &cpuid)?);
    }
    let way = match (way, vcpus.first_mut()) {
        (Some(way), _) => way,
        (None, Some(first)) => first.probe()?,
        (None, None) => Way::Out(PORT),
    };
    if way != Way::Out(PORT) {
        machine.supervisor.map_doorbell();
    }
    loaded.write_boot(way, log);
    let start = |mut vcpu: KvmVcpu| {
        vcpu.way = way;
        vcpu.begin(&cpuid)?;
        Ok(vcpu)
    };
    vcpus.into_iter().map(start).collect()
}

/// The width of a guest-physical address, in bits.
fn physical_bits(cpuid: &CpuId) -> u32 {
    leaf(cpuid, 0x8000_0008).map_or(36, |[eax, ..]| eax & 0xff).clamp(32, 52)
}

/// EAX, EBX, ECX and EDX of a leaf of CPUID, with index 0.
fn leaf(cpuid: &CpuId, function: u32) -> Option<[u32; 4]> {
    let entry = cpuid.as_slice().iter().find(|e| e.function == function && e.index == 0)?;
    Some([entry.eax, entry.ebx, entry.ecx, entry.edx])
}

/// What all vCPUs of a machine have in common.
struct Shared {
    fd: VmFd,
    supervisor: Supervisor,
    /// The guest-physical address of the doorbell.
    bell: u64,
    loaded: Arc<Loaded>,
    signal: StopSignal,
}

impl Shared {
    /// Gives the machine its memory. What the guest may not write, it cannot write through a page table
    /// either.
    fn map(&self, kvm: &Kvm) -> Result<(), MachineError> {
        let read_only = if kvm.check_extension(Cap::ReadonlyMem) { KVM_MEM_READONLY } else { 0 };
        let mut slot = 0;
        let mut add = |physical, len, at: *mut u8, flags| {
            let region = kvm_userspace_memory_region {
                slot,
                flags,
                guest_phys_addr: physical,
                memory_size: len,
                userspace_addr: at.expose_provenance() as u64,
            };
            slot += 1;
            // SAFETY: as much is mapped there for as long as `self`, which owns the machine.
            unsafe { self.fd.set_user_memory_region(region) }.map_err(system("a machine's memory"))
        };
        let mut parts = self.loaded.parts.iter().peekable();
        while let Some(first) = parts.next() {
            let mut len = first.len;
            while let Some(next) = parts.next_if(|next| next.write == first.write) {
                len += next.len;
            }
            let flags = if first.write { 0 } else { read_only };
            add(first.offset, len, self.loaded.ram.at(first.offset), flags)?;
        }
        let memory = self.supervisor.memory();
        add(self.loaded.ram.len(), memory.len() as u64, memory.at(), 0)
    }
}

/// All registers that a guest can change, and those that say how it runs.
struct Kept {
    regs: kvm_regs,
    sregs: kvm_sregs,
    vectors: Box<kvm_xsave>,
    events: kvm_vcpu_events,
    /// DR6 says which debug exception came last.
    debug: kvm_debugregs,
}

struct KvmVcpu {
    fd: VcpuFd,
    machine: Arc<Shared>,
    number: u64,
    way: Way,
    kick: Arc<Kick>,
    mask: Mask,
    kept: Option<Kept>,
}

impl KvmVcpu {
    fn new(machine: &Arc<Shared>, number: u64, cpuid: &CpuId) -> Result<Self, MachineError> {
        let fd = machine.fd.create_vcpu(number).map_err(system("a vCPU"))?;
        fd.set_cpuid2(cpuid).map_err(system("a vCPU's CPUID"))?;
        let (kick, mask) = (Arc::new(Kick::new(machine.signal)), Mask::new(machine.signal));
        let (machine, way) = (machine.clone(), Way::Out(PORT));
        Ok(Self { fd, machine, number, way, kick, mask, kept: None })
    }

    /// Sets the registers of a vCPU that begins at an instruction, at the least privilege.
    fn enter(&mut self, root: u64, cr4: u64, regs: kvm_regs) -> Result<(), MachineError> {
        let supervisor = &self.machine.supervisor;
        let mut sregs = self.fd.get_sregs().map_err(system("a vCPU's registers"))?;
        let segment = |selector: u16, type_, long| kvm_segment {
            selector,
            type_,
            limit: u32::MAX,
            present: 1,
            dpl: 3,
            s: 1,
            l: long,
            db: 1 - long,
            g: 1,
            ..Default::default()
        };
        sregs.cs = segment(CODE, 11, 1);
        let data = segment(DATA, 3, 0);
        (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
        sregs.ldt = kvm_segment { unusable: 1, ..Default::default() };
        sregs.tr = kvm_segment {
            base: supervisor.task_at(self.number),
            limit: TASK_LIMIT,
            selector: TASK,
            type_: 11,
            present: 1,
            ..Default::default()
        };
        (sregs.gdt.base, sregs.gdt.limit) = (supervisor.gdt(), GDT_LIMIT);
        (sregs.idt.base, sregs.idt.limit) = (supervisor.idt(), IDT_LIMIT);
        (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (CR0, root, cr4, EFER);
        self.fd.set_sregs(&sregs).map_err(system("a vCPU's control registers"))?;
        self.fd.set_regs(&regs).map_err(system("a vCPU's registers"))
    }

    /// Finds out whether `out` traps: the guest is told to use it, or else the doorbell. Behind a machine
    /// without hardware of its own, it may be an exception whatever the bitmap says.
    fn probe(&mut self) -> Result<Way, MachineError> {
        let regs = kvm_regs { rip: PROBE, rdx: u64::from(PORT), rflags: 2, ..Default::default() };
        self.enter(self.machine.supervisor.probe_root, 0x620, regs)?;
        let works = loop {
            match self.fd.run() {
                Ok(VcpuExit::IoOut(PORT, data)) => break data.len() == 4,
                // A signal of the program's says nothing about the processor.
                Ok(VcpuExit::Intr) => {}
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
                Err(error) => return Err(system("KVM_RUN")(error)),
                Ok(_) => break false,
            }
        };
        self.complete().map_err(MachineError::system("KVM_RUN"))?;
        Ok(if works { Way::Out(PORT) } else { Way::Doorbell(DOORBELL_AT) })
    }

    /// Completes what is pending from the last exit, and runs nothing, until KVM says that nothing is (its API document,
    /// "The kvm_run structure": `immediate_exit` completes pending operations without further instructions).
    ///
    /// An access may come in pieces, and a repeated instruction wants one exit an element, of which the guest says how
    /// many: behind the first piece its count is set to 0, with which it ends. So who goes on with the guest, and has
    /// registers to lose, has had it trap by one access.
    fn complete(&mut self) -> io::Result<()> {
        self.fd.set_kvm_immediate_exit(1);
        let done = self.complete_pieces();
        self.fd.set_kvm_immediate_exit(0);
        done
    }

    fn complete_pieces(&mut self) -> io::Result<()> {
        for piece in 0..MOST_PIECES {
            if piece != 0 {
                let mut regs = self.fd.get_regs()?;
                regs.rcx = 0;
                self.fd.set_regs(&regs)?;
            }
            match self.fd.run() {
                // There is one more.
                Ok(_) => {}
                Err(error) if error.errno() == libc::EINTR => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "KVM does not complete the guest's last access",
        ))
    }

    /// Has the vCPU begin with the guest.
    fn begin(&mut self, cpuid: &CpuId) -> Result<(), MachineError> {
        let has = |function, register: usize, bit: u32| {
            leaf(cpuid, function).is_some_and(|leaf| leaf[register] >> bit & 1 != 0)
        };
        // CR4: physical addresses of more than 32 bits, SSE with its exceptions; and where there is such a
        // thing, the supervisor runs and reads nothing of the guest's, which does not see its tables.
        let mut cr4 = 0x620;
        for (bit, there) in [(20, has(7, 1, 7)), (21, has(7, 1, 20)), (11, has(7, 2, 2))] {
            cr4 |= u64::from(there) << bit;
        }
        // x87, SSE, AVX and AVX-512, as far as there is such a thing. A machine without hardware of its own
        // may say so in this leaf alone.
        let vectors = u64::from(leaf(cpuid, 0xd).map_or(0, |[eax, ..]| eax & 0xe7));
        let xsave = has(1, 2, 26) || vectors & 4 != 0;
        if xsave {
            cr4 |= 1 << 18;
        }
        let stack = self.machine.loaded.stacks[self.number as usize];
        let rip = self.machine.loaded.image.entry();
        let regs = kvm_regs { rip, rsp: stack, rdi: stack, rflags: 2, ..Default::default() };
        self.enter(self.machine.supervisor.root, cr4, regs)?;
        if xsave {
            let value = vectors | 1;
            let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
            xcrs.xcrs[0] = kvm_xcr { xcr: 0, reserved: 0, value };
            self.fd.set_xcrs(&xcrs).map_err(system("a vCPU's vector registers"))?;
        }
        self.fd.set_sync_valid_reg(SyncReg::Register);
        Ok(())
    }

    #[cold]
    fn shut_down(&self) -> End {
        let instruction = self.fd.sync_regs().regs.rip;
        End::Fault(self.machine.loaded.fault(Cause::Exception(8), None, instruction))
    }

    /// An access that KVM would have had to carry out itself, by an instruction that it does not know. Some
    /// kernels tell the guest that the instruction is invalid, others tell its host.
    #[cold]
    fn unknown(&mut self) -> End {
        // SAFETY: integers, which are there after this exit.
        let error = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.internal.suberror };
        if error != KVM_INTERNAL_ERROR_EMULATION {
            return End::Lost(std::format!("KVM: internal error {error}"));
        }
        let instruction = self.fd.sync_regs().regs.rip;
        End::Fault(self.machine.loaded.fault(Cause::Exception(6), None, instruction))
    }

    /// Describes what a stub reports.
    #[cold]
    fn fault(&self) -> End {
        let regs = self.fd.sync_regs().regs;
        let supervisor = &self.machine.supervisor;
        let Some((vector, instruction)) = supervisor.report(self.number, regs.rip, regs.rsp) else {
            return End::Protocol(Broken::Access { at: u64::from(REPORT) });
        };
        let address = match self.fd.get_sregs() {
            Ok(sregs) if vector == 14 => Some(sregs.cr2),
            _ => None,
        };
        let cause = Cause::Exception(vector);
        End::Fault(self.machine.loaded.fault(cause, address, instruction))
    }
}

impl KvmVcpu {
    /// Runs until the vCPU comes back: whether for a trap, or for a signal or nothing.
    fn resume(&mut self) -> Result<bool, End> {
        let (way, bell) = (self.way, self.machine.bell);
        // An access that is no trap, where the guest has it.
        let odd = |at: u64| {
            let at = if at & !(PAGE - 1) == bell { DOORBELL_AT + at % PAGE } else { at };
            Err(End::Protocol(Broken::Access { at }))
        };
        match self.fd.run() {
            Ok(VcpuExit::MmioWrite(at, [_, _, _, _, _, _, _, _]))
                if at == bell && way != Way::Out(PORT) =>
            {
                Ok(true)
            }
            Ok(VcpuExit::IoOut(PORT, [_, _, _, _])) if way == Way::Out(PORT) => Ok(true),
            Ok(VcpuExit::IoOut(REPORT, _)) => Err(self.fault()),
            Ok(VcpuExit::MmioWrite(at, _) | VcpuExit::MmioRead(at, _)) => odd(at),
            Ok(VcpuExit::IoOut(port, _) | VcpuExit::IoIn(port, _)) => odd(port.into()),
            Ok(VcpuExit::Intr) => Ok(false),
            // A fault in a fault in a fault, or what a stub cannot report.
            Ok(VcpuExit::Shutdown) => Err(self.shut_down()),
            Ok(VcpuExit::InternalError) => Err(self.unknown()),
            Ok(exit) => Err(End::Lost(std::format!("KVM: {exit:?}"))),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(false),
            Err(error) => Err(End::Lost(lost("KVM_RUN", error))),
        }
    }

    /// Runs to the next trap, unless it is stopped.
    fn run_on(&mut self) -> Result<(), End> {
        let back = &raw mut self.fd.get_kvm_run().immediate_exit;
        let refused = |error: io::Error| End::Lost(lost("the signals of a vCPU's thread", error));
        loop {
            self.mask.set(&self.fd).map_err(refused)?;
            if !self.kick.begin(back) {
                return Err(End::Stopped);
            }
            let trapped = self.resume();
            let (kick, fd) = (&self.kick, &mut self.fd);
            let stopped = kick.end(|| fd.set_kvm_immediate_exit(0));
            if stopped || matches!(trapped, Ok(false)) {
                self.mask.interrupted().map_err(refused)?;
            }
            if trapped? {
                return Ok(());
            }
        }
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, End> {
        if !self.kick.is_ours() {
            return Err(End::Lost(FORKED.into()));
        }
        if let Some(Registers { kind, word, transport }) = answer {
            // Of another call of the program's, or of a handler's.
            if kind == answer::UPCALL {
                self.mask.expire();
            }
            let regs = &mut self.fd.sync_regs_mut().regs;
            (regs.rax, regs.rbx) = (kind, word);
            (regs.r8, regs.r9) = (transport.primary, transport.secondary);
            self.fd.set_sync_dirty_reg(SyncReg::Register);
        }
        self.run_on()?;
        let regs = &self.fd.sync_regs_mut().regs;
        let transport = Transport { primary: regs.r8, secondary: regs.r9 };
        if regs.rax != trap::CALL {
            self.mask.expire();
        }
        Ok(Registers { kind: regs.rax, word: regs.rbx, transport })
    }

    fn settle(&mut self) -> io::Result<()> {
        if !self.kick.is_ours() {
            return Err(io::Error::other(FORKED));
        }
        self.complete()
    }

    fn keep(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        if !self.kick.is_ours() {
            return Err(io::Error::other(FORKED));
        }
        // Behind the trap, which the answer to it finds done.
        let kept = Kept {
            regs: self.fd.get_regs()?,
            sregs: self.fd.get_sregs()?,
            vectors: Box::new(self.fd.get_xsave()?),
            events: self.fd.get_vcpu_events()?,
            debug: self.fd.get_debug_regs()?,
        };
        if self.number == 0 {
            self.machine.loaded.keep(cancelled)?;
        }
        self.fd.sync_regs_mut().regs = kept.regs;
        self.kept = Some(kept);
        Ok(())
    }

    fn restore(&mut self) -> io::Result<()> {
        if !self.kick.is_ours() {
            return Err(io::Error::other(FORKED));
        }
        let kept = self.kept.as_ref().ok_or(io::ErrorKind::NotFound)?;
        self.fd.set_sregs(&kept.sregs)?;
        // SAFETY: it is whole, from this vCPU itself; the features that XCR0 lets it have (see `begin`) fit into the
        // 4 KiB of this form, which only AMX would exceed.
        unsafe { self.fd.set_xsave(&kept.vectors) }?;
        self.fd.set_debug_regs(&kept.debug)?;
        self.fd.set_vcpu_events(&kept.events)?;
        // With the next answer.
        self.fd.sync_regs_mut().regs = kept.regs;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        if self.number == 0 {
            self.machine.loaded.restore()?;
        }
        self.kick.reset();
        Ok(())
    }

    fn stopper(&self) -> Stopper {
        let kick = self.kick.clone();
        Stopper::new(move || kick.stop())
    }
}

#[cfg(test)]
mod tests;
