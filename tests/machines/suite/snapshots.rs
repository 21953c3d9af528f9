//! Machines that are made from snapshots.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use vmffi::{
    ErrorKind, ForeignBuf,
    host::{GuestExit, Limits, RunOutcome},
    machine::MachineError,
};

use super::{
    Case,
    checkpoints::{clone, count, keep, kept, started, works},
    connection::{self, Built, On, machine},
    host::Host,
    shared::{
        self,
        control::{ControlClient, Crime},
        failures::FailingClient,
        handles::HandlesClient,
        state::{Life, StateClient},
    },
};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(On)| Case::new(name, On::is_machine, run);
    vec![
        case("clones_continue_from_the_snapshot", go_on),
        case("clones_side_by_side", side_by_side),
        case("clones_do_not_see_each_other", isolated),
        case("clones_of_clones", of_clones),
        case("clones_of_three_vcpus", clones_of_vcpus),
        case("clones_have_the_loans_of_the_template", clone_loans),
        case("clones_do_all_checks", checks),
        case("registers_are_in_clones", clone_registers),
        Case::new("the_time_does_not_go_back_in_clones", has_clock, ticks),
        case("each_life_of_a_clone_has_a_seed_of_its_own", seeds),
        case("two_hundred_clones_of_four_threads", many),
        case("prepared_machines", prepared),
        case("limits_and_observers_of_clones", options),
        case("a_clone_with_a_server_of_another_kind", another_server),
        case("handles_of_the_templates_host", handles),
    ]
}

fn go_on(on: On) {
    let host = started(on, 1);
    assert_eq!(count(&host, 4), 7);
    let snapshot = host.snapshot().unwrap();
    assert_eq!(snapshot.backend(), on.backend());
    let before = clone(&snapshot);
    // The template continues, and a reset returns it to the snapshot, too.
    assert_eq!(count(&host, 4), 11);
    assert_eq!(count(&before, 0), 7);
    assert_eq!(host.reset(), Ok(()));
    assert_eq!(count(&host, 1), 8);
    drop(host);
    let behind = clone(&snapshot);
    drop(snapshot);
    for host in [before, behind] {
        assert_eq!(host.guest().arena_stats().blocks, 0);
        assert_eq!(ControlClient::from(host.guest()).used().unwrap().blocks, 1, "the answer");
        for _ in 0..3 {
            assert_eq!(count(&host, 5), 12);
            works(&host);
            assert_eq!(host.reset(), Ok(()));
            assert_eq!(count(&host, 0), 7);
        }
        assert!(ControlClient::from(host.guest()).commit(Crime::Undefined, 0).is_err());
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(count(&host, 1), 8);
        assert_eq!(host.checkpoint(), Ok(()));
        count(&host, 1);
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(count(&host, 0), 8, "its own checkpoint");
        assert_eq!(host.run(), Ok(RunOutcome::Exited(0)), "as the template does");
    }
}

fn side_by_side(on: On) {
    let host = started(on, 1);
    count(&host, 4);
    let snapshot = host.snapshot().unwrap();
    drop(host);
    let told: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
    let told = Arc::new(told);
    thread::scope(|scope| {
        for nr in 0..4_u64 {
            let (snapshot, told) = (&snapshot, told.clone());
            scope.spawn(move || {
                for round in 0..5 {
                    let told = told.clone();
                    let server = Host::on_call(move |_| {
                        told[nr as usize].fetch_add(1, Ordering::Relaxed);
                    });
                    let host = snapshot.build(server).unwrap();
                    for life in 0..3 {
                        assert_eq!(count(&host, nr + 1), 8 + nr, "{round} {life}");
                        let control = ControlClient::from(host.guest());
                        assert_eq!(control.calls_back(), Ok(1000));
                        keep(&host, &[nr as u8; 64]);
                        assert_eq!(kept(&host), 64 * nr);
                        assert_eq!(host.reset(), Ok(()));
                    }
                    works(&host);
                }
            });
        }
    });
    for told in &*told {
        assert_eq!(told.load(Ordering::Relaxed), 15, "each has its own server");
    }
}

/// Each writes other values to the same variable, the same heap and the same arenas.
fn isolated(on: On) {
    let template = started(on, 1);
    let snapshot = template.snapshot().unwrap();
    let all = [template, clone(&snapshot), clone(&snapshot), clone(&snapshot)];
    let mut arrived: Vec<Vec<ForeignBuf>> = Vec::new();
    for round in 0..4_u64 {
        for (nr, host) in (1_u64..).zip(&all) {
            assert_eq!(count(host, 10 * nr), 3 + 10 * nr * (round + 1));
            keep(host, &vec![nr as u8; 20_000]);
            let handles = HandlesClient::from(host.guest());
            arrived.push((0..3).map(|_| handles.buf(&vec![nr as u8; 3000]).unwrap()).collect());
        }
        for (nr, host) in (1_u64..).zip(&all) {
            assert_eq!(kept(host), 20_000 * nr * (round + 1));
        }
    }
    for (nr, handles) in arrived.iter().enumerate() {
        let first = handles[0].read_vec().unwrap();
        let again = arrived[nr % all.len()][0].read_vec().unwrap();
        assert_eq!(first, again);
        assert_ne!(first, arrived[(nr + 1) % all.len()][0].read_vec().unwrap());
    }
    drop(arrived);
    for (reset, host) in all.iter().enumerate() {
        assert_eq!(host.reset(), Ok(()));
        for (nr, host) in all.iter().enumerate() {
            let now = if nr <= reset {
                (3, 0)
            } else {
                (3 + 40 * (nr as u64 + 1), 80_000 * (nr as u64 + 1))
            };
            assert_eq!((count(host, 0), kept(host)), now);
        }
    }
    assert_eq!(count(&clone(&snapshot), 0), 3);
}

fn of_clones(on: On) {
    let mut host = started(on, 1);
    let mut now = 3;
    let mut all = Vec::new();
    for round in 1..=6 {
        now = count(&host, round);
        keep(&host, &[round as u8; 100]);
        if round % 2 == 0 {
            assert_eq!(host.checkpoint(), Ok(()));
            count(&host, 1000);
            assert_eq!(host.reset(), Ok(()));
            StateClient::from(host.guest()).fill(100_000).unwrap();
        }
        let snapshot = host.snapshot().unwrap();
        host = clone(&snapshot);
        all.push((snapshot, now, kept(&host)));
    }
    drop(host);
    assert_eq!(now, 3 + 21);
    for (snapshot, count_then, kept_then) in &all {
        let host = clone(snapshot);
        for _ in 0..2 {
            assert_eq!((count(&host, 0), kept(&host)), (*count_then, *kept_then));
            works(&host);
            count(&host, 5);
            keep(&host, &[7; 100]);
            assert_eq!(host.reset(), Ok(()));
        }
    }
}

fn clones_of_vcpus(on: On) {
    let template = started(on, 3);
    // One of the vCPUs has run.
    count(&template, 4);
    let snapshot = template.snapshot().unwrap();
    drop(template);
    for _ in 0..3 {
        let host = clone(&snapshot);
        for _ in 0..3 {
            let control = ControlClient::from(host.guest());
            thread::scope(|scope| {
                (0..3).for_each(|_| drop(scope.spawn(|| assert_eq!(control.together(3), Ok(())))));
            });
            assert_eq!(count(&host, 1), 8);
            assert_eq!(host.reset(), Ok(()));
        }
        works(&host);
    }
}

/// ABI, Arenas and loans, for clones.
fn clone_loans(on: On) {
    const GIFT: &[u8] = b"for all who come after you";
    let template = connection::started(&machine(), on, Host::with_gift(GIFT));
    keep(&template, &[1; 3000]);
    let snapshot = template.snapshot().unwrap();
    // The template releases its own loan.
    assert_eq!(FailingClient::from(template.guest()).forget(), Ok(1));
    for _ in 0..20 {
        keep(&template, &[9; 3000]);
    }
    drop(template);
    let gift = |host: &Built| StateClient::from(host.guest()).gift().unwrap().read_vec().unwrap();
    let all = [clone(&snapshot), clone(&snapshot)];
    for (nr, host) in (2_u8..).zip(&all) {
        for _ in 0..3 {
            assert_eq!(host.guest().arena_stats().blocks, 2);
            assert_eq!((gift(host), kept(host)), (GIFT.to_vec(), 3000));
            // Until the arena is full.
            while FailingClient::from(host.guest()).keep(&[nr; 20_000]).is_ok() {}
            assert_eq!(gift(host), GIFT);
            assert!(kept(host) > 3000 + 20_000 * 20);
            assert_eq!(host.reset(), Ok(()));
        }
        // The next checkpoint does not contain it.
        assert_eq!(FailingClient::from(host.guest()).forget(), Ok(1));
        assert_eq!(host.checkpoint(), Ok(()));
        assert_eq!(host.guest().arena_stats().blocks, 1, "the gift");
        assert_eq!((gift(host), kept(host)), (GIFT.to_vec(), 0));
    }
    let other = all[0].snapshot().unwrap();
    let other = clone(&other);
    assert_eq!((gift(&other), kept(&other)), (GIFT.to_vec(), 0));
}

fn checks(on: On) {
    let template = started(on, 1);
    for check in shared::CHECKS.iter().copied().flatten() {
        shared::run(*check, template.guest());
    }
    let snapshot = template.snapshot().unwrap();
    for check in shared::CHECKS.iter().copied().flatten() {
        let host = clone(&snapshot);
        shared::run(*check, host.guest());
    }
}

fn clone_registers(on: On) {
    let template = started(on, 1);
    let changed = StateClient::from(template.guest()).registers(true).unwrap();
    let snapshot = template.snapshot().unwrap();
    assert_eq!(StateClient::from(template.guest()).registers(false), Ok(changed));
    drop(template);
    let host = clone(&snapshot);
    let state = StateClient::from(host.guest());
    for _ in 0..3 {
        assert_eq!(state.registers(false), Ok(changed));
        works(&host);
        assert_eq!(host.reset(), Ok(()));
    }
}

/// Whether guests can read a clock: in virtual machines of aarch64 and riscv64, which have frames, the least privilege cannot.
fn has_clock(on: On) -> bool {
    on.is_machine() && !(on.is_kvm() && shared::native::FRAMES)
}

fn ticks(on: On) {
    let template = started(on, 2);
    let now = |host: &Built| StateClient::from(host.guest()).ticks().unwrap();
    let last = now(&template);
    let snapshot = template.snapshot().unwrap();
    drop(template);
    for _ in 0..3 {
        let host = clone(&snapshot);
        let mut of_clone = last;
        for _ in 0..20 {
            let next = now(&host);
            assert!(next > of_clone, "{next} behind {of_clone}");
            of_clone = next;
            assert_eq!(host.reset(), Ok(()));
        }
    }
}

fn seeds(on: On) {
    let template = started(on, 1);
    let life = |host: &Built| StateClient::from(host.guest()).life().unwrap();
    let first = life(&template);
    let (snapshot, mut seeds) = (template.snapshot().unwrap(), BTreeSet::from([first.seed]));
    let all = [clone(&snapshot), clone(&snapshot), template];
    for host in &all {
        let mut last = first.generation;
        for round in 0..3 {
            let Life { generation, seed } = life(host);
            assert_eq!(life(host), Life { generation, seed }, "the same in one life");
            if generation != first.generation || round > 0 {
                assert!(generation > last, "{generation} behind {last}");
                assert!(seeds.insert(seed), "a seed again");
            }
            last = generation;
            assert_eq!(host.reset(), Ok(()));
        }
    }
    assert_eq!(seeds.len(), 1 + 3 + 3 + 2);
}

fn many(on: On) {
    let template = started(on, 1);
    count(&template, 4);
    let snapshot = template.snapshot().unwrap();
    drop(template);
    thread::scope(|scope| {
        for nr in 0..4 {
            let snapshot = &snapshot;
            scope.spawn(move || {
                for round in 0..50 {
                    let host = clone(snapshot);
                    assert_eq!(count(&host, nr), 7 + nr);
                    match round % 5 {
                        0 => drop(ControlClient::from(host.guest()).commit(Crime::Undefined, 0)),
                        1 => host.stopper().stop(),
                        2 => assert_eq!(host.reset(), Ok(())),
                        3 => drop(host.snapshot().unwrap()),
                        _ => {}
                    }
                }
            });
        }
    });
    assert_eq!(count(&clone(&snapshot), 0), 7);
}

fn prepared(on: On) {
    let template = started(on, 2);
    count(&template, 4);
    let snapshot = template.snapshot().unwrap();
    drop(template);
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let none = descriptors();
    snapshot.prepare(0).unwrap();
    assert_eq!(descriptors(), none);
    let shared = snapshot.clone();
    thread::scope(|scope| drop(scope.spawn(move || shared.prepare(3).unwrap())));
    let three = descriptors();
    assert!(three >= none + 3);
    snapshot.prepare(2).unwrap();
    snapshot.prepare(3).unwrap();
    assert_eq!(descriptors(), three, "those of three clones");
    let all: Vec<_> = (0..5).map(|_| clone(&snapshot)).collect();
    for (nr, host) in (0..).zip(&all) {
        assert_eq!(count(host, nr), 7 + nr);
        assert_eq!(host.reset(), Ok(()));
        assert_eq!(count(host, 0), 7);
        works(host);
    }
    let seeds = all.iter().map(|host| StateClient::from(host.guest()).life().unwrap().seed);
    assert_eq!(seeds.collect::<BTreeSet<_>>().len(), all.len());
    drop(all);
    assert_eq!(descriptors(), none);
    // Prepared machines that are not used are dropped with the last snapshot.
    snapshot.prepare(2).unwrap();
}

fn options(on: On) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = || {
        let into = told.clone();
        move |error: &vmffi::CallError| into.lock().unwrap().push(error.kind())
    };
    let limited = machine().limits(Limits::new().calls(20)).observe(tells());
    let template = connection::started(&limited, on, Host::default());
    let snapshot = template.snapshot().unwrap();
    let (inherits, more) = (clone(&snapshot), clone(&snapshot.clone().limits(Limits::new())));
    let silent = snapshot.clone().observe(|_| ());
    let silent = clone(&silent);
    for host in [&template, &inherits, &silent] {
        let control = ControlClient::from(host.guest());
        assert_eq!(control.sum(20), Ok(210));
        assert_eq!(control.sum(21).unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(host.guest_exit(), Some(GuestExit::TooManyCalls));
        assert_eq!(host.reset(), Ok(()));
    }
    assert_eq!(ControlClient::from(more.guest()).sum(21), Ok(231));
    // The observer of a clone's host is notified of a call that the host does not serve.
    let unknown =
        shared::CHECKS.iter().copied().flatten().position(|check| check.0 == "an_unknown_function");
    let check = |host: &Built| ControlClient::from(host.guest()).check(unknown.unwrap() as u32);
    let heard = |host: &Built| {
        told.lock().unwrap().clear();
        assert_eq!(check(host), Ok(()));
        told.lock().unwrap().len()
    };
    assert!(heard(&inherits) > 0 && heard(&more) > 0);
    assert_eq!(heard(&silent), 0);
}

/// ABI, Arenas and loans A-13: the contract still applies, so a server that does not match it is refused before a machine is made.
fn another_server(on: On) {
    let template = started(on, 1);
    let snapshot = template.snapshot().unwrap();
    match snapshot.build(()) {
        Err(MachineError::Contract(mismatch)) => {
            let text = mismatch.to_string();
            assert!(text.contains("host:  does not serve it"), "{text}");
        }
        other => panic!("{:?}", other.map(|host| host.guest_exit())),
    }
    works(&clone(&snapshot));
}

fn handles(on: On) {
    let template = started(on, 1);
    let theirs = HandlesClient::from(template.guest()).buf(&[5; 1000]).unwrap();
    let bytes = theirs.read_vec().unwrap();
    let snapshot = template.snapshot().unwrap();
    let host = clone(&snapshot);
    // The guest's block is in use in the clone as well: the guest does not know that the template's handle is not in it.
    let own: Vec<_> =
        (0..20).map(|nr| HandlesClient::from(host.guest()).buf(&[nr; 1000]).unwrap()).collect();
    assert_eq!(theirs.read_vec().unwrap(), bytes);
    assert_eq!(template.reset(), Ok(()));
    assert_eq!(theirs.read_vec().unwrap_err().kind(), ErrorKind::Stale);
    drop((theirs, template));
    assert!(own.iter().all(|own| own.read_vec().is_ok()));
    drop(own);
    works(&host);
}
