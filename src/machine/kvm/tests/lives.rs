//! A reset restores all state of a vCPU that KVM can read.

use kvm_bindings::{Msrs, kvm_msr_entry};

use support::{
    list::{at, deed},
    ops::{At, Base, Deed},
};

use kvm_ioctls::Kvm;

use super::*;

/// MSRs that count independently of the guest: IA32_TSC, IA32_MPERF, IA32_APERF.
const CLOCKS: [u32; 3] = [0x10, 0xe7, 0xe8];

/// All state of a vCPU that KVM can read, with names.
fn state(kvm: &Kvm, cpu: &Watched) -> Vec<(String, String)> {
    let mut vcpu = cpu.0.lock().unwrap();
    // This sets the registers that are to be set with the next answer.
    vcpu.settle().unwrap();
    let fd = &vcpu.fd;
    let mut vectors = fd.get_xsave().unwrap();
    // The bitmap of components that are not in their initial states. A processor may count one there that is (Intel SDM,
    // volume 1, "XSAVE-Managed State"), as AMD's do for SSE; KVM writes the initial states of those that it does not count, so
    // the components themselves are compared.
    vectors.region[128..130].fill(0);
    let mut all: Vec<(String, String)> = [
        ("registers", std::format!("{:x?}", fd.get_regs().unwrap())),
        ("special registers", std::format!("{:x?}", fd.get_sregs().unwrap())),
        ("debug registers", std::format!("{:x?}", fd.get_debug_regs().unwrap())),
        ("extended control registers", std::format!("{:x?}", fd.get_xcrs().unwrap())),
        ("vectors", std::format!("{vectors:x?}")),
        ("events", std::format!("{:x?}", fd.get_vcpu_events().unwrap())),
        ("whether it runs", std::format!("{:x?}", fd.get_mp_state().unwrap())),
    ]
    .map(|(name, value)| (name.into(), value))
    .into();
    for &index in kvm.get_msr_index_list().unwrap().as_slice() {
        let entry = kvm_msr_entry { index, ..Default::default() };
        let mut msrs = Msrs::from_entries(&[entry]).unwrap();
        // The list includes MSRs that this vCPU does not have.
        if !CLOCKS.contains(&index) && fd.get_msrs(&mut msrs) == Ok(1) {
            let value = std::format!("{:x}", msrs.as_slice()[0].data);
            all.push((std::format!("MSR {index:#x}"), value));
        }
    }
    all
}

/// The lists of a guest's lives: forbidden operations, changes of registers, and accesses that KVM reports in pieces.
fn lives(trap_method: TrapMethod) -> Vec<List> {
    let places = match trap_method {
        TrapMethod::Out(_) => vec![region(0x5000)],
        TrapMethod::Doorbell(doorbell) => {
            // Within the page, and across its ends.
            [doorbell, doorbell + 2048, doorbell - 8, doorbell + PAGE_SIZE - 8]
                .into_iter()
                .map(at)
                .collect()
        }
        TrapMethod::Gate(_) => unreachable!("virtual machines have none"),
    };
    let deeds = [
        Deed::Vectors,
        Deed::Steps,
        Deed::Icebp,
        Deed::Breakpoint,
        Deed::Undefined,
        Deed::Divide,
        Deed::DivideFloat,
        Deed::Checked,
        Deed::LoadSs,
        Deed::LoadDs,
        Deed::FarJump,
        Deed::Iret,
        Deed::Dr7,
        Deed::Pkru,
        Deed::FsBase,
        Deed::Swapgs,
        Deed::Xsetbv,
        Deed::Wrmsr,
        Deed::Syscall,
        Deed::Sysenter,
        Deed::Vmcall,
        Deed::Vmmcall,
        Deed::Halt,
        Deed::NoStack,
        Deed::Flagged,
        Deed::StoreX87,
        Deed::Jump,
        Deed::Int,
    ];
    let deeds = deeds.into_iter().flat_map(|what| {
        [0, 1, 4, 0x23, u64::MAX].map(|value| deed(what, At(Base::Boot, 1), value))
    });
    let accesses = (0..accesses()).flat_map(|which| {
        let access = move |at| List::new().op(Op::Access { which, at, count: 5000 });
        places.clone().into_iter().map(access)
    });
    let forged = List::new().returns(0, Transport::word(666));
    deeds.chain(accesses).map(|list| list.and(&forged)).collect()
}

/// The number of instructions in the guest's table of accesses.
fn accesses() -> u64 {
    let table = include_str!("../../../../tests/attacks/guest/src/x86_64/accesses.rs");
    let lines = table.lines().skip_while(|line| *line != "table! {").skip(1);
    lines.take_while(|line| *line != "}").filter(|line| line.starts_with("    \"")).count() as u64
}

/// Runs each list on both vCPUs, and compares their state after a reset with that after the first one.
fn nothing_is_left(trap_method: TrapMethod) {
    let kvm = open().unwrap();
    let (host, cpus) = watched(&machine(), Some(trap_method));
    assert_eq!(host.reset(), Ok(()));
    let new = cpus.each_ref().map(|cpu| state(&kvm, cpu));
    let (mut ends, mut returned) = (0, 0);
    let mut left = Vec::new();
    for (nr, list) in lives(trap_method).iter().enumerate() {
        thread::scope(|scope| {
            let calls = [(); 2].map(|()| {
                scope.spawn(|| {
                    let within = host.with_deadline(core::time::Duration::from_millis(500));
                    ToldClient::from(within.guest()).does(list.bytes())
                })
            });
            for call in calls {
                match call.join().unwrap() {
                    Ok(value) => {
                        assert_eq!(value, 666, "{nr}");
                        returned += 1;
                    }
                    Err(_) => ends += 1,
                }
            }
        });
        let end = host.guest_exit();
        assert_eq!(host.reset(), Ok(()), "{nr}: {end:?}");
        for (cpu, new) in cpus.iter().zip(&new) {
            for (is, was) in state(&kvm, cpu).into_iter().zip(new) {
                if is != *was {
                    left.push(std::format!("{nr} ({end:?}): {}: {}, was {}", is.0, is.1, was.1));
                }
            }
        }
        for value in [5, 7] {
            let honest = List::new().returns(0, Transport::word(value));
            thread::scope(|scope| {
                let calls = [(); 2].map(|()| scope.spawn(|| does(&host, &honest)));
                for call in calls {
                    assert_eq!(call.join().unwrap(), Ok(value), "{nr}: {end:?}");
                }
            });
        }
        assert_eq!(host.reset(), Ok(()));
    }
    std::println!("{} states of each vCPU, {ends} ends, {returned} returns", new[0].len());
    assert_eq!(left, [""; 0]);
}

#[test]
fn nothing_that_kvm_knows_is_left_of_a_life() {
    if !missing() {
        nothing_is_left(TrapMethod::Out(PORT));
    }
}

#[test]
fn nothing_that_kvm_knows_is_left_of_accesses_to_the_doorbell() {
    if !missing() {
        nothing_is_left(TrapMethod::Doorbell(DOORBELL_AT));
    }
}

/// A store that is pending on one vCPU is carried out when that vCPU is settled, which must precede the restoration of
/// memory, whichever vCPU restores it.
#[test]
fn what_is_pending_on_one_vcpu_is_not_stored_in_the_next_life() {
    if missing() {
        return;
    }
    const PLACE: u64 = 0x800;
    let (host, _cpus) = watched(&machine(), Some(TrapMethod::Doorbell(DOORBELL_AT)));
    let place =
        RegionLayout::new(256 << 10, 256 << 10).unwrap().arena(crate::abi::Side::Guest).0 + PLACE;
    let words = Transport { primary: crate::abi::pointer::join(place, 1), secondary: 8 };
    let read = || {
        let words = ToldClient::from(host.guest()).bytes(List::new().returns(0, words).bytes());
        words.unwrap().read_vec().unwrap()
    };
    let before = read();
    // `movsq` from the doorbell: its read returns data of the `kvm_run` page, and then it stores that.
    let strings = Op::Strings {
        which: 9,
        from: at(DOORBELL_AT + 2048),
        to: region(place),
        count: 1,
        port: 0,
        down: 0,
    };
    for _ in 0..20 {
        // On either vCPU.
        assert!(does(&host, &List::new().op(strings)).is_err());
        let end = GuestExit::Protocol(ProtocolViolation::Access { at: DOORBELL_AT + 2048 });
        assert_eq!(host.guest_exit(), Some(end));
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(read(), before);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| does(&host, &List::new()));
            }
        });
    }
}
