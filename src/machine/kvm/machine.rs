//! A virtual machine: its memory slots, and what its vCPUs share.

use std::{boxed::Box, sync::Arc, vec::Vec};

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VmFd};
use once_cell::race::OnceBox;

use super::{
    super::{
        MachineError, Made,
        address_space::{DOORBELL_AT, Part},
        checkpoint::Checkpoint,
        life::Lives,
        plan::Plan,
        private::PrivateMemory,
        saved::Checkpoints,
    },
    KvmVcpu, StopSignal, native, system,
    tables::{PrivilegedPages, PrivilegedTemplate},
};
use crate::{
    abi::{PAGE_SIZE, TrapMethod},
    host::{GuestExit, ProtocolViolation},
};

pub(super) fn open() -> Result<Kvm, MachineError> {
    Kvm::new().map_err(system("opening /dev/kvm"))
}

/// What KVM supports. It does not change while this program runs.
pub(super) struct Facts {
    pub(super) native: native::Facts,
    read_only_memory: bool,
}

impl Facts {
    fn of(kvm: &Kvm) -> Result<&'static Self, MachineError> {
        static KNOWN: OnceBox<Facts> = OnceBox::new();
        KNOWN.get_or_try_init(|| {
            let native = native::Facts::of(kvm)?;
            Ok(Box::new(Self { native, read_only_memory: kvm.check_extension(Cap::ReadonlyMem) }))
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
    let lives = Arc::new(Lives::after(0));
    let assumed = trap_method.unwrap_or(native::USUAL_TRAP);
    let (machine, mut vcpus) = KvmMachine::new(plan, signal, None, lives, assumed)?;
    let trap_method = match (trap_method, vcpus.first_mut()) {
        (Some(trap_method), _) => trap_method,
        (None, Some(first)) => {
            let found = first.probe()?;
            *TRAP_METHOD.get_or_init(|| Box::new(found))
        }
        (None, None) => assumed,
    };
    machine.map_doorbell(trap_method);
    for (vcpu, number) in vcpus.iter_mut().zip(0..) {
        let (address, boot) = plan.boot(number, trap_method, log);
        if let Some((offset, _)) = plan.space.find(address) {
            machine.memory.write(offset, boot.to_words().map(u64::to_le_bytes).as_flattened());
        }
        vcpu.trap = native::TrapState::new(trap_method);
        vcpu.begin()?;
    }
    Ok(Made { vcpus, memory: machine.memory.clone(), lives: machine.lives.clone() })
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
        trap_method: TrapMethod,
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
        if template.end() > doorbell
            || doorbell + native::UNBACKED_PAGES * PAGE_SIZE > 1 << facts.native.physical_bits()
        {
            return Err(MachineError::Config(
                "the machine's memory exceeds the physical address width of this processor: use smaller arenas and stacks",
            ));
        }
        let fd = facts.native.create_vm(&kvm)?;
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
            numbers.map(|number| KvmVcpu::new(&machine, number, trap_method)).collect();
        Ok((machine, vcpus?))
    }

    /// The end of a guest that has accessed this guest-physical address, or port, otherwise than a trap does. The page of the
    /// doorbell is reported as the guest sees it.
    #[cold]
    pub(super) fn invalid_access(&self, at: u64) -> GuestExit {
        let is_doorbell = at & !(PAGE_SIZE - 1) == self.doorbell;
        let at = if is_doorbell { DOORBELL_AT + at % PAGE_SIZE } else { at };
        GuestExit::Protocol(ProtocolViolation::Access { at })
    }

    /// Maps the doorbell, if the guest traps by it. No vCPU has run with the guest's tables yet.
    pub(super) fn map_doorbell(&self, trap_method: TrapMethod) {
        if matches!(trap_method, TrapMethod::Doorbell(_)) {
            self.privileged.map_doorbell();
        }
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
