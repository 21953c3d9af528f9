//! Guests that trap by the doorbell, as under a software implementation of KVM, although `out` is available.

use std::{string::String, sync::Mutex, thread, vec, vec::Vec};

use super::{
    super::address_space::DOORBELL_AT,
    machine::{make, open},
    native::PORT,
    *,
};
use crate::{
    CallError, RegionLayout,
    host::{FaultCause, Host, ProtocolViolation, RunOutcome},
    machine::{Backend, Image, MachineBuilder, tests::ToldClient},
};

mod lives;

use support::{
    guests,
    list::{List, at, region},
    ops::Op,
    // Lists take the types of the `vmffi` that `support` depends on: this crate, built a second time, without its tests.
    vmffi::abi::Transport,
};

/// Whether KVM is unavailable; prints why.
fn missing() -> bool {
    Backend::Kvm.check().inspect_err(|error| std::println!("skipped: {error}")).is_err()
}

fn machine() -> MachineBuilder {
    let file = guests::build("tests/attacks/guest", "attacker").unwrap();
    MachineBuilder::new(&Image::open(file).unwrap()).arenas(256 << 10, 256 << 10).vcpus(2)
}

/// A vCPU that a test can inspect while it does not run.
#[derive(Clone)]
struct Watched(Arc<Mutex<KvmVcpu>>);

impl Vcpu for Watched {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        self.0.lock().unwrap().run(answer)
    }
    fn stopper(&self) -> Stopper {
        self.0.lock().unwrap().stopper()
    }
    fn settle(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().settle()
    }
    fn snapshot(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        self.0.lock().unwrap().snapshot(cancelled)
    }
    fn restore(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().restore()
    }
}

fn watched(
    machine: &MachineBuilder,
    trap_method: Option<TrapMethod>,
) -> (Host<Watched>, [Watched; 2]) {
    let plan = machine.plan().unwrap();
    let made = make(&plan, 0, StopSignal::DEFAULT, trap_method).unwrap();
    let made = made.map(|vcpu| Watched(Arc::new(Mutex::new(vcpu))));
    let cpus = made.vcpus.clone();
    let host = machine.options.connect(&plan, made, (), None).unwrap();
    assert_eq!(host.run(), Ok(RunOutcome::Ready), "{:?}", host.guest_exit());
    (host, cpus.try_into().unwrap_or_else(|_| panic!("two vCPUs")))
}

fn started(machine: &MachineBuilder, trap_method: Option<TrapMethod>) -> Host<Watched> {
    watched(machine, trap_method).0
}

fn does(host: &Host<Watched>, list: &List) -> Result<u64, CallError> {
    ToldClient::from(host.guest()).does(list.bytes())
}

/// KVM reports a string access to the doorbell's page element by element. The remaining elements on any vCPU are not
/// carried out in the next life.
#[test]
fn strings_on_the_doorbell_end_with_their_life() {
    if missing() {
        return;
    }
    let host = started(&machine(), Some(TrapMethod::Doorbell(DOORBELL_AT)));
    let doorbell = at(DOORBELL_AT + 2048);
    let own = region(0x5000);
    let mut ends = 0;
    for which in 0..7 * 4 * 3_u64 {
        for (from, to) in [(own, doorbell), (doorbell, own), (doorbell, doorbell)] {
            for (count, down) in [(u64::MAX, 0), (5000, 1), (17, 0), (1, 0)] {
                let strings = Op::Strings { which, from, to, count, port: PORT.into(), down };
                let list = List::new().op(strings).returns(0, Transport::word(666));
                thread::scope(|scope| {
                    let calls: Vec<_> =
                        (0..2).map(|_| scope.spawn(|| does(&host, &list).is_err())).collect();
                    ends += calls.into_iter().filter_map(|call| call.join().ok()).count();
                });
                assert_eq!(host.reset(), Ok(()), "{which} {count}");
                for value in [5, 7] {
                    let honest = List::new().returns(0, Transport::word(value));
                    thread::scope(|scope| {
                        let calls: Vec<_> =
                            (0..2).map(|_| scope.spawn(|| does(&host, &honest))).collect();
                        for call in calls {
                            assert_eq!(call.join().unwrap(), Ok(value), "{which} {count}");
                        }
                    });
                }
            }
        }
    }
    assert!(ends > 100, "{ends}");
}

/// The doorbell's page is mapped only for guests that trap by it.
#[test]
fn the_doorbell_is_mapped_where_it_is_the_trap() {
    if missing() {
        return;
    }
    let machine = machine();
    let rings = List::new().op(Op::Read { at: at(DOORBELL_AT + 16) });
    let host = started(&machine, Some(TrapMethod::Doorbell(DOORBELL_AT)));
    assert!(does(&host, &rings).is_err());
    assert_eq!(
        host.guest_exit(),
        Some(GuestExit::Protocol(ProtocolViolation::Access { at: DOORBELL_AT + 16 }))
    );
    let host = started(&machine, Some(TrapMethod::Out(PORT)));
    assert!(does(&host, &rings).is_err());
    let Some(GuestExit::Fault(fault)) = host.guest_exit() else {
        panic!("{:?}", host.guest_exit())
    };
    assert_eq!((fault.cause, fault.address), (FaultCause::Exception(14), Some(DOORBELL_AT + 16)));
}
