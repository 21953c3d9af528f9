//! Threads and tasks that lease guests, which end in every way.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use futures_executor::block_on;
use sides::{
    host::Host,
    shared::{
        control::{BOTTOM_EXIT, Crime},
        nesting::NestingClient,
        state::StateClient,
    },
};
use support::{
    guests,
    interface::Server,
    left::{self, Left},
    list::List,
};
use vmffi::{
    ErrorKind, ForeignBuf,
    abi::Transport,
    host::{GuestExit, Limits},
    machine::{Backend, Image, MachineBuilder, Pool},
};

use super::{Case, adds_up, control, machine, settled};

pub const CASES: &[Case] =
    &[("a_storm_of_leases", storm), ("violations_and_losses_are_counted", violations)];

/// The use of a lease.
const DEEDS: u64 = 13;

fn deed(pool: &Pool, nr: u64) {
    match nr % DEEDS {
        // Most leases make normal calls, whatever the earlier ones have left.
        0..=4 => {
            let count = pool.call(|guest| StateClient::from(guest).count(1)).unwrap();
            assert_eq!(count, Ok(4), "{nr}");
        }
        5 => {
            let error = pool.call(|guest| control(guest).panics("no milk")).unwrap().unwrap_err();
            assert!(error.to_string().contains("no milk"), "{error}");
        }
        6 => {
            let commit = |guest: &vmffi::Peer| control(guest).commit(Crime::Undefined, 0);
            pool.call(commit).unwrap().unwrap_err();
        }
        7 => {
            let lease = pool.get().unwrap();
            let limit = Duration::from_micros(200);
            control(lease.with_deadline(limit).guest()).spin().unwrap_err();
        }
        8 => {
            let lease = pool.get().unwrap();
            let stopper = lease.stopper();
            thread::scope(|scope| {
                scope.spawn(move || stopper.stop());
                let _ = control(lease.guest()).sum(50);
            });
        }
        9 => {
            // A store that is not a trap: a violation of the protocol at the doorbell, a fault elsewhere.
            let commit =
                |guest: &vmffi::Peer| control(guest).commit(Crime::Narrow, 0x200_0000_0008);
            pool.call(commit).unwrap().unwrap_err();
        }
        10 => {
            let exits = |guest: &vmffi::Peer| NestingClient::from(guest).down(2, BOTTOM_EXIT);
            pool.call(exits).unwrap().unwrap_err();
        }
        11 => {
            let error = pool.call(|guest| control(guest).sum(101)).unwrap().unwrap_err();
            assert_eq!(error.guest_exit(), Some(&GuestExit::TooManyCalls));
        }
        _ => {
            let call = pool.call_async(|guest| control(guest).sum(60));
            match nr % 3 {
                0 => drop(call),
                _ => assert_eq!(block_on(call).unwrap().ok(), Some(1830)),
            }
        }
    }
}

fn storm(backend: Backend) {
    let leases = std::env::var("VMFFI_LEASES").map_or(2_000, |text| text.parse().unwrap());
    let limits = Limits::new().calls(100).deadline(Duration::from_secs(20));
    let pool = Pool::builder(&machine().limits(limits), backend).size(3).grow_to(5);
    let pool = pool.lease_time(Duration::from_secs(20)).build(Host::default).unwrap();
    settled(&pool, |metrics| metrics.idle == 3);
    let next = AtomicU64::new(0);
    let round = |until: u64| {
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    loop {
                        let nr = next.fetch_add(1, Ordering::Relaxed);
                        if nr >= until {
                            break;
                        }
                        deed(&pool, nr);
                    }
                });
            }
        });
        next.store(until, Ordering::Relaxed);
        // Memory by which the guest has grown is gone then.
        settled(&pool, |metrics| (metrics.idle, metrics.in_use, metrics.resetting) == (3, 0, 0))
    };
    let before = Left::now();
    round(leases / 10);
    let mappings = left::mappings();
    let metrics = round(leases);
    // Processes of guests that were dropped may still be exiting.
    let patience = Instant::now() + Duration::from_secs(60);
    let left = |now: &Left| {
        now.descriptors.len() == before.descriptors.len() && now.threads <= before.threads + 6
    };
    while !left(&Left::now()) && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
    let after = Left::now();
    assert_eq!(after.descriptors.len(), before.descriptors.len(), "{before:?} {after:?}");
    // The first reset of a guest maps its checkpoint, in several mappings. There are three guests.
    assert!(after.mapped <= before.mapped + 3 * 16, "{} {}", before.mapped, after.mapped);
    // The threads that call for tasks stay, and so does the thread for deadlines.
    assert!(after.threads <= before.threads + 6, "{} {}", before.threads, after.threads);
    assert!(left::mappings() < mappings + 60, "{mappings} {}", left::mappings());
    adds_up(&metrics);
    println!("{backend}: {metrics:?}");
    let dies = |deed: u64| (0..leases).filter(|nr| nr % DEEDS == deed).count() as u64;
    let exits = &metrics.exits;
    assert_eq!(exits.exited, dies(5) + dies(10));
    assert_eq!(exits.fault + exits.protocol, dies(6) + dies(9));
    assert_eq!(exits.deadline, dies(7));
    assert!((dies(8)..=dies(8) + dies(12)).contains(&exits.stopped), "{exits:?}");
    assert_eq!((exits.too_many_calls, exits.unfit, exits.lost), (dies(11), 0, 0));
    // Each lease was followed by a reset; calls that were cancelled before they began had no lease.
    assert!((leases - dies(12)..=leases).contains(&metrics.leases), "{metrics:?}");
    assert_eq!(metrics.resets, metrics.leases);
}

vmffi::ffi_interface! {
    /// The interface of the guest in `tests/attacks/guest`.
    interface Told {
        fn does(list: ForeignBuf) -> u64;
    }
}

/// A guest that traps with an unknown kind, and one whose process another program kills.
fn violations(backend: Backend) {
    let program = guests::build("tests/attacks/guest", "attacker").expect("the guest is built");
    let machine = MachineBuilder::new(&Image::open(program).unwrap());
    let pool = Pool::builder(&machine, backend).build(Server::default).unwrap();
    let traps = List::new().trap(77, 0, Transport::EMPTY, &List::new());
    for _ in 0..3 {
        let does = |guest: &vmffi::Peer| ToldClient::from(guest).does(traps.bytes());
        assert_eq!(pool.call(does).unwrap().unwrap_err().kind(), ErrorKind::Protocol);
        let does = |guest: &vmffi::Peer| ToldClient::from(guest).does(List::new().bytes()).is_ok();
        assert!(pool.call(does).unwrap());
    }
    let exits = pool.metrics().exits;
    assert_eq!((exits.protocol, exits.total()), (3, 3), "{exits:?}");
    if backend.name() != "process" {
        return;
    }
    let lease = pool.get().unwrap();
    let children = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let children = children.flat_map(|task| std::fs::read_to_string(task.path().join("children")));
    let [child] = children.flat_map(|of| of.trim().parse::<i32>()).collect::<Vec<_>>()[..] else {
        panic!("the pool has one guest");
    };
    // SAFETY: kill(2) takes two integers.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
    let error = ToldClient::from(lease.guest()).does(List::new().bytes()).unwrap_err();
    assert!(matches!(error.guest_exit(), Some(GuestExit::Lost(_))), "{error:?}");
    drop(lease);
    assert!(pool.call(|guest| ToldClient::from(guest).does(List::new().bytes())).unwrap().is_ok());
    assert_eq!(pool.metrics().exits.lost, 1);
}
