//! What a life leaves in a vCPU: nothing that KVM knows of.

use kvm_bindings::{Msrs, kvm_msr_entry};

use super::{
    list::{at, deed},
    ops::{At, Deed},
    *,
};

/// MSRs that count by themselves, whatever a guest does: time stamps, and cycles.
const CLOCKS: [u32; 3] = [0x10, 0xe7, 0xe8];

/// All that KVM can say about a vCPU, each with a name.
fn state(kvm: &Kvm, cpu: &Watched) -> Vec<(String, String)> {
    let mut vcpu = cpu.0.lock().unwrap();
    // What is to be set with the next answer is set.
    vcpu.settle().unwrap();
    let fd = &vcpu.fd;
    let mut all: Vec<(String, String)> = [
        ("registers", std::format!("{:x?}", fd.get_regs().unwrap())),
        ("special registers", std::format!("{:x?}", fd.get_sregs().unwrap())),
        ("debug registers", std::format!("{:x?}", fd.get_debug_regs().unwrap())),
        ("extended control registers", std::format!("{:x?}", fd.get_xcrs().unwrap())),
        ("vectors", std::format!("{:x?}", fd.get_xsave().unwrap())),
        ("events", std::format!("{:x?}", fd.get_vcpu_events().unwrap())),
        ("whether it runs", std::format!("{:x?}", fd.get_mp_state().unwrap())),
    ]
    .map(|(name, value)| (name.into(), value))
    .into();
    for &index in kvm.get_msr_index_list().unwrap().as_slice() {
        let entry = kvm_msr_entry { index, ..Default::default() };
        let mut msrs = Msrs::from_entries(&[entry]).unwrap();
        // Some are listed that this vCPU does not have.
        if !CLOCKS.contains(&index) && fd.get_msrs(&mut msrs) == Ok(1) {
            let value = std::format!("{:x}", msrs.as_slice()[0].data);
            all.push((std::format!("MSR {index:#x}"), value));
        }
    }
    all
}

/// The lives that a guest can have: deeds that are a crime or change registers, and accesses in pieces.
fn lives(way: Way) -> Vec<List> {
    let places = match way {
        Way::Out(_) => vec![region(0x5000)],
        Way::Doorbell(bell) => {
            // Within the page, and across its ends.
            [bell, bell + 2048, bell - 8, bell + PAGE - 8].into_iter().map(at).collect()
        }
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
        [0, 1, 4, 0x23, u64::MAX].map(|value| deed(what, At(ops::Base::Boot, 1), value))
    });
    let accesses = (0..accesses()).flat_map(|which| {
        let access = move |at| List::new().op(Op::Access { which, at, count: 5000 });
        places.clone().into_iter().map(access)
    });
    let forged = List::new().returns(0, Transport::word(666));
    deeds.chain(accesses).map(|list| list.and(&forged)).collect()
}

/// How many instructions the guest's table of accesses has.
fn accesses() -> u64 {
    let table = include_str!("../../../../tests/attacks/guest/src/accesses.rs");
    let lines = table.lines().skip_while(|line| *line != "table! {").skip(1);
    lines.take_while(|line| *line != "}").filter(|line| line.starts_with("    \"")).count() as u64
}

/// All of them on both vCPUs, of which one each was used last.
fn nothing_is_left(way: Way) {
    let kvm = open().unwrap();
    let (host, cpus) = watched(&machine(), Some(way));
    assert_eq!(host.reset(), Ok(()));
    let new = cpus.each_ref().map(|cpu| state(&kvm, cpu));
    let (mut ends, mut returned) = (0, 0);
    let mut left = Vec::new();
    for (nr, list) in lives(way).iter().enumerate() {
        thread::scope(|scope| {
            let calls = [(); 2].map(|()| {
                scope.spawn(|| {
                    let within = host.within(core::time::Duration::from_millis(500));
                    ToldClient::from(&*within).does(list.bytes())
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
        let end = host.end();
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
        nothing_is_left(Way::Out(PORT));
    }
}

#[test]
fn nothing_that_kvm_knows_is_left_of_accesses_to_the_doorbell() {
    if !missing() {
        nothing_is_left(Way::Doorbell(DOORBELL_AT));
    }
}

/// A store that is pending on one vCPU would be carried out when that is settled: before memory is brought back, whichever
/// vCPU brings it back.
#[test]
fn what_is_pending_on_one_vcpu_is_not_stored_in_the_next_life() {
    if missing() {
        return;
    }
    const PLACE: u64 = 0x800;
    let (host, _cpus) = watched(&machine(), Some(Way::Doorbell(DOORBELL_AT)));
    let place = Layout::new(256 << 10, 256 << 10).unwrap().arena(crate::abi::Side::Guest).0 + PLACE;
    let words = Transport { primary: crate::abi::pointer::join(place, 1), secondary: 8 };
    let read = || {
        let words = ToldClient::from(host.guest()).bytes(List::new().returns(0, words).bytes());
        words.unwrap().to_vec().unwrap()
    };
    let kept = read();
    // `movsq` from the doorbell: its read gets what is in the page that KVM and its user share, and then it stores that.
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
        let end = End::Protocol(Broken::Access { at: DOORBELL_AT + 2048 });
        assert_eq!(host.end(), Some(end));
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(read(), kept);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| does(&host, &List::new()));
            }
        });
    }
}
