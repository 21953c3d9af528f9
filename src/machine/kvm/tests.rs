//! Guests that trap by the doorbell though `out` would do, as they must behind a KVM of software or of older processors.

use std::{string::String, sync::Mutex, thread, vec, vec::Vec};

use super::*;
use crate::{
    CallError, ForeignBuf, Layout,
    host::{Host, Ran},
    machine::{Backend, Image, Machine},
};

#[path = "../../../examples/guests/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "each kind of machine's tests build their own guest")]
mod guests;
#[path = "../../../tests/attacks/suite/list.rs"]
#[allow(dead_code, reason = "most of its operations are for others")]
mod list;
mod lives;
#[path = "../../../tests/attacks/guest/src/ops.rs"]
#[allow(dead_code, reason = "it is the guest that reads lists")]
mod ops;

use list::{List, at, region};
use ops::Op;

crate::ffi_interface! {
    pub interface Told {
        fn does(list: ForeignBuf) -> u64;
        fn bytes(list: ForeignBuf) -> ForeignBuf;
    }
}

/// Says why, where there is no `/dev/kvm`.
fn missing() -> bool {
    Backend::Kvm.check().inspect_err(|error| std::println!("skipped: {error}")).is_err()
}

fn machine() -> Machine {
    let file = guests::build("tests/attacks/guest", "attacker").unwrap();
    Machine::new(&Image::open(file).unwrap()).arenas(256 << 10, 256 << 10).vcpus(2)
}

/// A vCPU that can be looked at while it waits.
#[derive(Clone)]
struct Watched(Arc<Mutex<KvmVcpu>>);

impl Vcpu for Watched {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, End> {
        self.0.lock().unwrap().run(answer)
    }
    fn stopper(&self) -> Stopper {
        self.0.lock().unwrap().stopper()
    }
    fn settle(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().settle()
    }
    fn keep(&mut self, cancelled: &AtomicBool) -> io::Result<()> {
        self.0.lock().unwrap().keep(cancelled)
    }
    fn restore(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().restore()
    }
}

fn watched(machine: &Machine, way: Option<Way>) -> (Host<Box<dyn Vcpu>>, [Watched; 2]) {
    let loaded = Arc::new(machine.load().unwrap());
    let vcpus = make(&loaded, 0, StopSignal::DEFAULT, way).unwrap();
    let cpus = vcpus.into_iter().map(|vcpu| Watched(Arc::new(Mutex::new(vcpu))));
    let cpus: Vec<Watched> = cpus.collect();
    let vcpus = cpus.iter().map(|cpu| Box::new(cpu.clone()) as Box<dyn Vcpu>).collect();
    let host = machine.connect(loaded, vcpus, ()).unwrap();
    assert_eq!(host.run(), Ok(Ran::Ready), "{:?}", host.end());
    (host, cpus.try_into().unwrap_or_else(|_| panic!("two vCPUs")))
}

fn started(machine: &Machine, way: Option<Way>) -> Host<Box<dyn Vcpu>> {
    watched(machine, way).0
}

fn does(host: &Host<Box<dyn Vcpu>>, list: &List) -> Result<u64, CallError> {
    ToldClient::from(host.guest()).does(list.bytes())
}

/// KVM hands a string on the doorbell's page over element by element. What is left of it on any vCPU does not go on in the
/// next life.
#[test]
fn strings_on_the_doorbell_end_with_their_life() {
    if missing() {
        return;
    }
    let host = started(&machine(), Some(Way::Doorbell(DOORBELL_AT)));
    let bell = at(DOORBELL_AT + 2048);
    let own = region(0x5000);
    let mut ends = 0;
    for which in 0..7 * 4 * 3_u64 {
        for (from, to) in [(own, bell), (bell, own), (bell, bell)] {
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

/// The page is there for guests that ring, and for no others.
#[test]
fn the_doorbell_is_mapped_where_it_is_the_trap() {
    if missing() {
        return;
    }
    let machine = machine();
    let rings = List::new().op(Op::Read { at: at(DOORBELL_AT + 16) });
    let host = started(&machine, Some(Way::Doorbell(DOORBELL_AT)));
    assert!(does(&host, &rings).is_err());
    assert_eq!(host.end(), Some(End::Protocol(Broken::Access { at: DOORBELL_AT + 16 })));
    let host = started(&machine, Some(Way::Out(PORT)));
    assert!(does(&host, &rings).is_err());
    let Some(End::Fault(fault)) = host.end() else { panic!("{:?}", host.end()) };
    assert_eq!((fault.cause, fault.address), (Cause::Exception(14), Some(DOORBELL_AT + 16)));
}
