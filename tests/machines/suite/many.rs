//! Many guests, one after the other and at once.

use std::{fs, sync::Barrier, thread, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use vmffi::host::RunOutcome;

use super::{
    Case,
    connection::{self, Connection, On},
    host::Host,
    left,
    shared::{
        control::{ControlClient, Crime},
        handles,
        nesting::NestingClient,
    },
};

const MANY: usize = 50;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("fifty_guests_in_turn", On::is_any, in_turn),
        Case::new("fifty_guests_on_one_thread", On::is_any, at_once),
        Case::new("fifty_guests_on_fifty_threads", On::is_any, threads),
        Case::new("a_hundred_lives", On::is_machine, lives),
        Case::new("five_hundred_guests_at_once", On::is_new_machine, five_hundred),
    ]
}

/// Makes calls of several kinds.
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
    // The allocator's own mappings vary, but not with each guest.
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

/// A number in `/proc`, in KiB.
fn kib(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A life: made, started, used, ended in one of five ways, reset or not.
fn life(on: On, nr: u64) {
    let guest = Connection::new(on, Host::default());
    let Connection::Machine(host) = &guest else { unreachable!() };
    let control = guest.control();
    let work = || {
        assert_eq!(control.sum(3), Ok(6));
        control.place(&[nr as u8; 300]).unwrap();
    };
    work();
    let end = || match nr % 5 {
        0 => {}
        1 => assert!(control.commit(Crime::Undefined, 0).is_err()),
        2 => assert!(control.panics("enough").is_err()),
        3 => host.stopper().stop(),
        _ => {
            let within = host.with_deadline(Duration::from_micros(200));
            assert!(control.sum(0).is_ok());
            assert!(ControlClient::from(within.guest()).spin().is_err());
        }
    };
    end();
    if nr % 3 == 0 {
        assert_eq!(host.reset(), Ok(()));
        work();
        end();
    }
}

/// After half of 100 lives, or of `VMFFI_LIVES`, the resources of this process do not grow. Only the heap may take longer until
/// each of its arenas has served all that a life wants: what leaks grows in each half.
fn lives(on: On) {
    let lives: u64 = std::env::var("VMFFI_LIVES").map_or(100, |lives| lives.parse().unwrap());
    let mut all = 0..;
    let mut half = || {
        all.by_ref().take(lives.div_ceil(2) as usize).for_each(|nr| life(on, nr));
        (descriptors(), left::mappings(), kib("/proc/self/status", "VmRSS"))
    };
    let (fds, maps, mut before) = half();
    for rest in (0..4).rev() {
        let now = half();
        println!(
            "{lives} lives: descriptors {fds} -> {}, mappings {maps} -> {}, resident {before} -> {} KiB",
            now.0, now.1, now.2
        );
        assert_eq!(now.0, fds);
        assert!(now.1 <= maps + 5, "{maps} mappings have become {}", now.1);
        if now.2 * 20 <= before * 21 {
            break;
        }
        assert!(rest > 0, "{before} KiB have become {}", now.2);
        before = now.2;
    }
}

/// The resources of a waiting guest, and all of many guests work.
fn five_hundred(on: On) {
    const ALL: u64 = 500;
    // Each guest has up to seven (`docs/guide/process.md`, `RLIMIT_NOFILE`), and many systems permit 1,024 in all.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = 8 * ALL;
    assert!(
        hard >= wanted,
        "{ALL} guests take {wanted} descriptors: raise `ulimit -Hn` from {hard}"
    );
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard).unwrap();
    let machine = connection::machine();
    let free = || kib("/proc/meminfo", "MemAvailable");
    let before = (descriptors(), left::mappings(), kib("/proc/self/status", "VmRSS"), free());
    let guests: Vec<_> = (0..ALL)
        .map(|_| {
            let host = machine.build(on.backend(), Host::default()).unwrap();
            assert_eq!(host.run(), Ok(RunOutcome::Ready));
            host
        })
        .collect();
    println!(
        "{ALL} guests, each: {:.1} descriptors, {:.1} mappings, {} KiB resident in the host, {} KiB of the system's memory",
        (descriptors() - before.0) as f64 / ALL as f64,
        (left::mappings() - before.1) as f64 / ALL as f64,
        (kib("/proc/self/status", "VmRSS") - before.2) / ALL,
        before.3.saturating_sub(free()) / ALL,
    );
    for (nr, guest) in (0..).zip(&guests) {
        assert_eq!(ControlClient::from(guest.guest()).sum(nr % 7), Ok((nr % 7) * (nr % 7 + 1) / 2));
    }
}
