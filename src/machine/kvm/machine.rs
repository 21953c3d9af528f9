//! A virtual machine: its memory slots, and what its vCPUs share.

use std::{boxed::Box, io, sync::Arc, vec::Vec};

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, SyncReg, VmFd};
use once_cell::race::OnceBox;

use super::{
    super::{
        MachineError, Made, address_space::Part, checkpoint::Checkpoint, life::Lives, plan::Plan,
        private::PrivateMemory, saved::Checkpoints,
    },
    KvmVcpu, StopSignal, system,
    tables::{PORT, PrivilegedPages, PrivilegedTemplate},
};
use crate::abi::{PAGE_SIZE, TrapMethod};

pub(super) fn open() -> Result<Kvm, MachineError> {
    let kvm = Kvm::new().map_err(system("opening /dev/kvm"))?;
    let synced = kvm.check_extension_int(Cap::SyncRegs);
    // `KVM_CHECK_EXTENSION` returns a negative number on errors.
    if synced < 0 || synced & SyncReg::Register as i32 == 0 {
        return Err(MachineError::System {
            what: "KVM lacks KVM_CAP_SYNC_REGS",
            error: io::ErrorKind::Unsupported.into(),
        });
    }
    Ok(kvm)
}

/// What KVM supports. It does not change while this program runs.
pub(super) struct Facts {
    pub(super) cpuid: CpuId,
    read_only_memory: bool,
}

impl Facts {
    fn of(kvm: &Kvm) -> Result<&'static Self, MachineError> {
        static KNOWN: OnceBox<Facts> = OnceBox::new();
        KNOWN.get_or_try_init(|| {
            let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
            let cpuid = cpuid.map_err(system("KVM_GET_SUPPORTED_CPUID"))?;
            let read_only_memory = kvm.check_extension(Cap::ReadonlyMem);
            Ok(Box::new(Self { cpuid, read_only_memory }))
        })
    }
}

/// The trap method for all guests of this program, once a probe has found it.
static TRAP_METHOD: OnceBox<TrapMethod> = OnceBox::new();

/// Makes a virtual machine and its vCPUs, each at the guest's entry point.
pub(in super::super) fn start(
    plan: &Arc<Plan>,
    log: u32,
    signal: StopSignal,
) -> Result<Made<KvmVcpu>, MachineError> {
    make(plan, log, signal, TRAP_METHOD.get().copied())
}

/// The same with a given trap method; with `None`, a probe chooses it.
pub(super) fn make(
    plan: &Arc<Plan>,
    log: u32,
    signal: StopSignal,
    trap_method: Option<TrapMethod>,
) -> Result<Made<KvmVcpu>, MachineError> {
    let (machine, mut vcpus) = KvmMachine::new(plan, signal, None, Arc::new(Lives::after(0)))?;
    let trap_method = match (trap_method, vcpus.first_mut()) {
        (Some(trap_method), _) => trap_method,
        (None, Some(first)) => {
            let found = first.probe()?;
            *TRAP_METHOD.get_or_init(|| Box::new(found))
        }
        (None, None) => TrapMethod::Out(PORT),
    };
    if trap_method != TrapMethod::Out(PORT) {
        machine.privileged.map_doorbell();
    }
    for (vcpu, number) in vcpus.iter_mut().zip(0..) {
        let (address, boot) = plan.boot(number, trap_method, log);
        if let Some((offset, _)) = plan.space.find(address) {
            machine.memory.write(offset, boot.to_words().map(u64::to_le_bytes).as_flattened());
        }
        vcpu.trap_method = trap_method;
        vcpu.begin()?;
    }
    Ok(Made { vcpus, memory: machine.memory.clone(), lives: machine.lives.clone() })
}

/// The width of a guest-physical address, in bits (CPUID leaf 0x80000008, EAX bits 0 to 7).
fn physical_bits(cpuid: &CpuId) -> u32 {
    leaf(cpuid, 0x8000_0008).map_or(36, |[eax, ..]| eax & 0xff).clamp(32, 52)
}

/// EAX, EBX, ECX and EDX of subleaf 0 of a CPUID leaf.
pub(super) fn leaf(cpuid: &CpuId, function: u32) -> Option<[u32; 4]> {
    let entry = cpuid.as_slice().iter().find(|e| e.function == function && e.index == 0)?;
    Some([entry.eax, entry.ebx, entry.ecx, entry.edx])
}

/// A virtual machine: what its vCPUs share.
pub(super) struct KvmMachine {
    pub(super) fd: VmFd,
    pub(super) privileged: PrivilegedPages,
    /// The guest-physical address of the doorbell.
    pub(super) doorbell: u64,
    pub(super) memory: Arc<PrivateMemory>,
    pub(super) plan: Arc<Plan>,
    pub(super) signal: StopSignal,
    pub(super) lives: Arc<Lives>,
    pub(super) checkpoints: Checkpoints,
    pub(super) facts: &'static Facts,
}

impl KvmMachine {
    /// Makes the virtual machine and its vCPUs, whose registers are not set yet.
    pub(super) fn new(
        plan: &Arc<Plan>,
        signal: StopSignal,
        checkpoint: Option<&Arc<Checkpoint>>,
        lives: Arc<Lives>,
    ) -> Result<(Arc<Self>, Vec<KvmVcpu>), MachineError> {
        let kvm = open()?;
        let facts = Facts::of(&kvm)?;
        // Guest-physical addresses: the machine's memory from 0 on, then the privileged pages, then, without a memory slot,
        // the doorbell.
        let physical = plan.space.len;
        // Page tables take 1/512 of what they map, so the privileged pages end before the doorbell; that is checked below.
        let doorbell = (physical + physical / 128 + (1 << 24)).next_multiple_of(PAGE_SIZE);
        let template = plan
            .privileged
            .get_or_try_init(|| PrivilegedTemplate::new(plan, physical, doorbell).map(Box::new))?;
        if template.end() > doorbell || doorbell + PAGE_SIZE > 1 << physical_bits(&facts.cpuid) {
            return Err(MachineError::Config(
                "the machine's memory exceeds the physical address width of this processor: use smaller arenas and stacks",
            ));
        }
        let fd = kvm.create_vm().map_err(system("KVM_CREATE_VM"))?;
        let privileged = template.pages()?;
        let memory = Arc::new(PrivateMemory::new(plan, checkpoint)?);
        let plan = plan.clone();
        let this = Self {
            fd,
            privileged,
            doorbell,
            memory,
            plan,
            signal,
            lives,
            checkpoints: Checkpoints::default(),
            facts,
        };
        let machine = Arc::new(this);
        machine.map()?;
        let numbers = 0..u64::from(machine.plan.vcpus());
        let vcpus: Result<Vec<_>, _> =
            numbers.map(|number| KvmVcpu::new(&machine, number)).collect();
        Ok((machine, vcpus?))
    }

    /// Adds the memory slots. Slots of parts that the guest may not write are read-only, in addition to the page tables, except
    /// for the region's header, which the host never reads: each slot takes the kernel as long as ten system calls.
    fn map(&self) -> Result<(), MachineError> {
        let read_only = if self.facts.read_only_memory { KVM_MEM_READONLY } else { 0 };
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
            // SAFETY: `at` leads to `len` mapped bytes of `memory` or `privileged`, which `self` owns along with
            // `fd`, and nothing unmaps them before. The guest changes them only through these slots, and this program
            // accesses them through raw pointers only.
            unsafe { self.fd.set_user_memory_region(region) }
                .map_err(system("KVM_SET_USER_MEMORY_REGION"))
        };
        let space = &self.plan.space;
        let may_write = |part: &Part| part.write || part.offset == space.region;
        let mut parts = space.parts.iter().peekable();
        while let Some(first) = parts.next() {
            let mut len = first.len;
            while let Some(next) = parts.next_if(|next| may_write(next) == may_write(first)) {
                len += next.len;
            }
            let flags = if may_write(first) { 0 } else { read_only };
            add(first.offset, len, self.memory.at(first.offset), flags)?;
        }
        let memory = self.privileged.memory();
        add(self.memory.len(), memory.len() as u64, memory.at(), 0)
    }
}
