//! Many guests, one after the other and at once.

use std::{sync::Barrier, thread};

use super::{
    Case,
    connection::{Connection, On},
    host::Host,
    left,
    shared::{handles, nesting::NestingClient},
};

const MANY: usize = 50;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("fifty_guests_in_turn", On::is_any, in_turn),
        Case::new("fifty_guests_on_one_thread", On::is_any, at_once),
        Case::new("fifty_guests_on_fifty_threads", On::is_any, threads),
    ]
}

/// Does a bit of everything.
fn works(guest: &Connection, nr: u64) {
    let before = guest.blocks();
    assert_eq!(guest.control().sum(nr), Ok(nr * (nr + 1) / 2));
    assert_eq!(NestingClient::from(guest.guest()).down(9, 0), Ok(10));
    for check in handles::CHECKS {
        check.1(guest.guest());
    }
    assert_eq!(guest.blocks(), before);
}

fn in_turn(on: On) {
    let mut early = 0;
    for nr in 0..MANY {
        works(&Connection::new(on, Host::default()), nr as u64);
        if nr == 4 {
            early = left::mappings();
        }
    }
    // The allocator's own come and go, but not with each guest.
    let late = left::mappings();
    assert!(late < early + MANY / 4, "{early} mappings have become {late}");
}

fn at_once(on: On) {
    let guests: Vec<_> = (0..MANY).map(|_| Connection::new(on, Host::default())).collect();
    for (nr, guest) in guests.iter().enumerate() {
        works(guest, nr as u64);
    }
    for (nr, guest) in guests.iter().enumerate().rev() {
        assert_eq!(guest.control().sum(nr as u64), Ok((nr * (nr + 1) / 2) as u64));
    }
}

fn threads(on: On) {
    let all = Barrier::new(MANY);
    thread::scope(|scope| {
        for nr in 0..MANY {
            let all = &all;
            scope.spawn(move || {
                let guest = Connection::new(on, Host::default());
                all.wait();
                works(&guest, nr as u64);
                all.wait();
            });
        }
    });
}
