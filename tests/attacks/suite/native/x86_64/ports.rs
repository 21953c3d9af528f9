//! Traps of x86_64 by ports, and what is special about its accesses to a doorbell.

use super::{
    super::{
        Came, Case,
        connection::{DOORBELL, Setup, Target},
        crimes::{Dies, dies},
        list::{at, deed},
        ops::Deed,
        traps::dies_at_the_doorbell,
    },
    PORT,
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("the_doorbell_with_x87_registers", x87),
        Case::new("the_port_with_one_byte", |target| port(target, Deed::Out1, PORT)),
        Case::new("the_port_with_two_bytes", |target| port(target, Deed::Out2, PORT)),
        Case::new("a_read_of_the_port", |target| port(target, Deed::In4, PORT)),
        Case::new("a_byte_of_the_port", |target| port(target, Deed::In1, PORT + 3)),
        Case::new("beside_the_port", |target| port(target, Deed::Out1, PORT + 1)),
        Case::new("the_port_by_a_string", port_string),
        Case::new("ports_that_the_guest_may_not_use", ports),
        Case::new("a_call_in_single_steps", |target| {
            let list = deed(Deed::Flagged, at(target.way()), 0x100);
            dies(target, &list, &[Dies::Exception(1, None)])
        }),
    ]
}

/// An instruction that hypervisors may not emulate for such an access.
fn x87(target: &Target) -> Came {
    let list = deed(Deed::StoreX87, at(DOORBELL), 0);
    dies_at_the_doorbell(target, &list, 0, &[Dies::Exception(6, None)])
}

/// If the guest traps by a port, it may use those four ports. In a process it may use none.
#[track_caller]
fn port(target: &Target, how: Deed, number: u64) -> Came {
    let ends = [Dies::Exception(13, None), Dies::Access(number)];
    dies(target, &deed(how, at(number), 1), if target.on.is_kvm() { &ends } else { &ends[..1] })
}

fn port_string(target: &Target) -> Came {
    // Each word is an access like a trap's, of an unknown kind.
    let ends = [Dies::Exception(13, None), Dies::Access(PORT), Dies::Order(0x1234)];
    let list = deed(Deed::OutString, at(PORT), 3);
    dies(target, &list, if target.on.is_kvm() { &ends } else { &ends[..1] })
}

/// The last of these accesses ends after the four ports.
fn ports(target: &Target) -> Came {
    let others = [
        (Deed::Out4, 0x600),
        (Deed::Out1, 0x600),
        (Deed::In4, 0x600),
        (Deed::Out1, 0x64),
        (Deed::Out4, 0xcf8),
        (Deed::In1, 0x3f8),
        (Deed::Out1, 0xffff),
        (Deed::Out4, PORT - 1),
        (Deed::Out2, PORT + 3),
    ];
    for (how, number) in others {
        let other = Target::new(target.on, &Setup::PLAIN);
        dies(&other, &deed(how, at(number), 1), &[Dies::Exception(13, None)]);
    }
    dies(target, &deed(Deed::Out4, at(PORT + 4), 1), &[Dies::Exception(13, None)])
}
