//! A program that has machines and forks.

use std::{
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use vmffi::{
    ErrorKind, ForeignBuf, SharedBuf,
    host::{CheckpointError, GuestExit},
    machine::{Backend, MachineBuilder, Snapshot},
};

use super::{
    cases::{Case, any, process},
    makes::{
        Built, descriptors, done, fork, forked, fresh, image, join, machine, mapped,
        meets_a_deadline, nothing_left, started, works, works_in_every_way,
    },
};
use sides::{
    host::Host,
    shared::{control::ControlClient, state::StateClient},
};

pub const CASES: &[Case] = &[
    ("fork_after_a_machine", any, after_a_machine),
    ("fork_after_a_deadline", any, after_a_deadline),
    ("fork_of_a_builder", any, of_a_builder),
    ("fork_of_a_snapshot", any, of_a_snapshot),
    ("fork_while_machines_are_prepared", any, while_prepared),
    ("fork_while_threads_call", any, while_threads_call),
    ("fork_during_a_deadline", any, during_a_deadline),
    ("fork_while_machines_are_made", any, while_made),
    ("fork_while_machines_cannot_be_made", process, while_not_made),
    ("fork_while_a_builder_makes_its_first_machine", any, while_planned),
    ("a_child_has_no_region", any, no_region),
    ("a_child_keeps_what_it_has_mapped", any, keeps_its_own),
    ("a_child_cannot_call", any, cannot_call),
    ("a_child_cannot_run", any, cannot_run),
    ("a_child_cannot_stop", any, cannot_stop),
    ("a_child_cannot_reset", any, cannot_reset),
    ("a_child_cannot_make_a_checkpoint", any, cannot_make_a_checkpoint),
    ("a_child_has_stale_handles", any, stale_handles),
    ("a_child_of_a_child", any, of_a_child),
    ("a_child_outlives_the_machine", any, outlives),
    ("a_child_in_a_handler", any, in_a_handler),
    ("a_child_of_another_thread", any, of_another_thread),
    ("exec_leaks_nothing", any, exec),
];

/// A machine that is made in this process passes all checks.
fn makes_another(machine: &MachineBuilder, backend: Backend) {
    let another = started(machine, backend);
    works_in_every_way(&another);
}

fn after_a_machine(backend: Backend) {
    let machine = machine();
    let host = started(&machine, backend);
    let moved = AtomicBool::new(false);
    let mut slot = Some(host);
    forked(|| {
        drop(slot.take());
        moved.store(true, Ordering::Relaxed);
        assert_eq!(mapped(), Vec::<String>::new());
        assert_eq!(descriptors(), Vec::<String>::new());
        makes_another(&machine, backend);
    });
    let host = slot.expect("the child has dropped only its copy");
    works_in_every_way(&host);
    drop(host);
    nothing_left();
}

fn after_a_deadline(backend: Backend) {
    let machine = machine();
    let host = started(&machine, backend);
    meets_a_deadline(&host);
    for _ in 0..3 {
        forked(|| makes_another(&machine, backend));
        meets_a_deadline(&host);
    }
    // Dropped before the child makes another machine.
    let mut slot = Some((host, machine));
    forked(|| {
        let (host, machine) = slot.take().unwrap();
        drop(host);
        makes_another(&machine, backend);
        drop(machine);
    });
    let (host, _machine) = slot.unwrap();
    works_in_every_way(&host);
}

/// The child inherits the builder and the image, and no machine.
fn of_a_builder(backend: Backend) {
    let machine = machine();
    forked(|| makes_another(&machine, backend));
    forked(|| makes_another(&MachineBuilder::new(image()).arenas(1 << 20, 1 << 20), backend));
    drop(started(&machine, backend));
    forked(|| makes_another(&machine, backend));
    makes_another(&machine, backend);
}

/// A snapshot of a guest that counts 7.
fn snapshot(backend: Backend) -> Snapshot {
    let host = started(&machine(), backend);
    assert_eq!(StateClient::from(host.guest()).count(4), Ok(7));
    host.snapshot().unwrap()
}

#[track_caller]
fn counts(host: &Built, count: u64) {
    assert_eq!(StateClient::from(host.guest()).count(0), Ok(count), "{:?}", host.guest_exit());
}

/// A child makes machines from the snapshot, but prepares none in advance; it does not use those that its parent has prepared.
fn of_a_snapshot(backend: Backend) {
    let snapshot = snapshot(backend);
    let clone = || snapshot.build(Host::default()).unwrap();
    for prepared in [0, 2] {
        snapshot.prepare(prepared).unwrap();
        let own = descriptors();
        forked(|| {
            let all = [clone(), clone(), clone()];
            for host in &all {
                counts(host, 7);
                works_in_every_way(host);
                counts(host, 7);
            }
            let again = all[0].snapshot().unwrap();
            drop(all);
            again.prepare(1).unwrap();
            counts(&again.build(Host::default()).unwrap(), 7);
            forked(|| counts(&again.build(Host::default()).unwrap(), 7));
            // The child does not use prepared machines, but may ask for them.
            snapshot.prepare(1).unwrap();
        });
        assert_eq!(descriptors(), own);
        let all = [clone(), clone(), clone()];
        for host in &all {
            counts(host, 7);
            works_in_every_way(host);
        }
    }
    let mut slot = Some(snapshot);
    slot.as_ref().unwrap().prepare(2).unwrap();
    forked(|| drop(slot.take()));
    let snapshot = slot.unwrap();
    let all = [0; 3].map(|_| snapshot.build(Host::default()).unwrap());
    all.iter().for_each(works_in_every_way);
    drop((snapshot, all));
    nothing_left();
}

/// Another thread makes machines from the snapshot, and is at any point when the program forks.
fn while_prepared(backend: Backend) {
    let snapshot = snapshot(backend);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                snapshot.prepare(2).unwrap();
                counts(&snapshot.build(Host::default()).unwrap(), 7);
            }
        });
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(3));
            forked(|| counts(&snapshot.build(Host::default()).unwrap(), 7));
        }
        done.store(true, Ordering::Relaxed);
    });
    drop(snapshot);
    nothing_left();
}

fn cannot_make_a_checkpoint(backend: Backend) {
    let host = started(&machine(), backend);
    forked(|| {
        for made in [host.checkpoint(), host.snapshot().map(drop)] {
            let Err(CheckpointError::Failed(text)) = made else { panic!("{made:?}") };
            assert!(text.contains("fork"), "{text}");
        }
    });
    assert_eq!(host.checkpoint(), Ok(()));
    works_in_every_way(&host);
}

/// Threads are within calls, and within deadlines, at any point when the program forks.
fn while_threads_call(backend: Backend) {
    let machine = machine();
    let done = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let (machine, done, calls) = (machine.clone(), done.clone(), calls.clone());
            thread::spawn(move || {
                let host = started(&machine, backend);
                while !done.load(Ordering::Relaxed) {
                    let within = host.with_deadline(Duration::from_secs(20));
                    let within = within.guest();
                    assert_eq!(
                        ControlClient::from(within).sum(3),
                        Ok(6),
                        "{:?}",
                        host.guest_exit()
                    );
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                works_in_every_way(&host);
            })
        })
        .collect();
    while calls.load(Ordering::Relaxed) < 4 {
        thread::sleep(Duration::from_millis(1));
    }
    let here = started(&machine, backend);
    let mut slot = Some((here, machine));
    for _ in 0..10 {
        forked(|| {
            let (here, machine) = slot.take().unwrap();
            drop(here);
            let another = started(&machine, backend);
            meets_a_deadline(&another);
            drop((another, machine));
        });
        let (here, _) = slot.as_ref().unwrap();
        works(here);
    }
    done.store(true, Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    drop(slot);
    nothing_left();
}

/// The parent's deadline is active when it forks, in a handler on the same thread.
fn during_a_deadline(backend: Backend) {
    let machine = machine();
    let inner = machine.clone();
    let server = Host::on_spin(move || forked(|| makes_another(&inner, backend)));
    let host = super::makes::start(&machine, backend, server);
    let within = host.with_deadline(Duration::from_secs(1));
    let within = within.guest();
    let error = ControlClient::from(within).spin().unwrap_err();
    assert_eq!(
        (error.kind(), host.guest_exit()),
        (ErrorKind::Cancelled, Some(GuestExit::Deadline))
    );
    host.reset().unwrap();
    works(&host);
}

/// Another thread forks without pause; the children execute no program, and live longer than a round of `act` takes.
fn while_forking(act: impl FnOnce()) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut children = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                children.push(fork(|| thread::sleep(Duration::from_secs(10))));
                thread::sleep(Duration::from_millis(10));
            }
            children.into_iter().for_each(killed);
        });
        act();
        ended.store(true, Ordering::Relaxed);
    });
}

/// Ends a child that may have ended by itself.
fn killed(child: i32) {
    // SAFETY: takes integers; nobody has waited for the child yet, so the number is its own.
    unsafe { libc::kill(child, libc::SIGKILL) };
    // SAFETY: it is given no place for the status.
    while unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } == -1 {
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EINTR));
    }
}

/// Children hold the descriptors that exist at any moment of a build, a reset, a stop and a drop.
fn while_made(backend: Backend) {
    image();
    while_forking(|| {
        let kept = started(&machine(), backend);
        for round in 0..8 {
            let host = started(&machine().vcpus(1 + round % 4), backend);
            works_in_every_way(&host);
            host.stopper().stop();
            host.reset().unwrap();
            works(&host);
            drop(host);
            backend.check().unwrap();
            works(&kept);
        }
    });
    nothing_left();
}

/// A child does not wait for shared state of a builder that another thread of its parent was about to make.
fn while_planned(backend: Backend) {
    for round in 0..60 {
        let machine = fresh();
        thread::scope(|scope| {
            scope.spawn(|| drop(started(&machine, backend)));
            thread::sleep(Duration::from_micros(round * 20));
            forked(|| drop(started(&machine, backend)));
        });
    }
    nothing_left();
}

/// The guest's process ends before it has sent anything, while a child may hold its end of the socket.
fn while_not_made(backend: Backend) {
    image();
    super::checks::deny(libc::SYS_setpgid, None);
    while_forking(|| {
        for _ in 0..20 {
            let began = std::time::Instant::now();
            let error = machine().build(backend, Host::default()).err().unwrap().to_string();
            let took = began.elapsed();
            assert!(error.contains("setpgid"), "{error}");
            // A child that held it would hold it for 10 s.
            assert!(took < Duration::from_secs(5), "{took:?}");
        }
    });
    nothing_left();
}

fn no_region(backend: Backend) {
    let host = started(&machine(), backend);
    // The machine's memory and its page tables; of a process the region, and the memory that it shares with the gate.
    assert_eq!(mapped().len(), 2, "{:?}", mapped());
    forked(|| assert_eq!(mapped(), Vec::<String>::new()));
    works(&host);
}

/// Memory of the child at the address of the parent's machine stays when the child drops what it inherited.
fn keeps_its_own(backend: Backend) {
    let host = started(&machine(), backend);
    let map = mapped().remove(0);
    let (from, to) = map.split(' ').next().unwrap().split_once('-').unwrap();
    let number = |text| usize::from_str_radix(text, 16).unwrap();
    let (from, len) = (number(from), number(to) - number(from));
    let mut slot = Some(host);
    forked(|| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let at = ptr::without_provenance_mut(from);
        // SAFETY: the flag prevents the replacement of other mappings.
        let at = unsafe { libc::mmap(at, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        assert_eq!(at.addr(), from, "{}", std::io::Error::last_os_error());
        let at = at.cast::<u8>();
        // SAFETY: this many bytes were mapped.
        unsafe { at.write_bytes(0x5a, len) };
        drop(slot.take());
        let all = (0..len).step_by(4096);
        // SAFETY: the memory is mapped still; otherwise the child ends here, and the test fails.
        all.for_each(|offset| assert_eq!(unsafe { at.add(offset).read_volatile() }, 0x5a));
    });
    works(&slot.unwrap());
}

fn cannot_call(backend: Backend) {
    let host = started(&machine(), backend);
    forked(|| {
        let error = ControlClient::from(host.guest()).sum(4).unwrap_err();
        assert!(!error.reached(), "{error}");
        let error = ControlClient::from(host.guest()).says("a text").unwrap_err();
        assert!(!error.reached(), "{error}");
        let within = host.with_deadline(Duration::from_millis(50));
        let within = within.guest();
        let error = ControlClient::from(within).spin().unwrap_err();
        assert!(!error.reached(), "{error}");
        assert!(SharedBuf::zeroed(host.guest(), 64).is_err());
        assert!(SharedBuf::copy_from(host.guest(), b"some").is_err());
    });
    works_in_every_way(&host);
    assert_eq!(host.guest().arena_stats().blocks, 0);
}

/// A guest that the parent has not started yet.
fn cannot_run(backend: Backend) {
    let host = machine().build(backend, Host::default()).unwrap();
    forked(|| assert!(host.run().is_err()));
    assert_eq!(host.run(), Ok(vmffi::host::RunOutcome::Ready), "{:?}", host.guest_exit());
    forked(|| assert!(host.run().is_err()));
    works_in_every_way(&host);
}

/// The child stops its parent's guest neither while it waits nor while it runs.
fn cannot_stop(backend: Backend) {
    let (host, begins) = super::makes::spinner(&machine(), backend);
    let stopper = host.stopper();
    forked(|| stopper.stop());
    works(&host);
    thread::scope(|scope| {
        scope.spawn(|| {
            begins.wait();
            thread::sleep(Duration::from_millis(20));
            forked(|| stopper.stop());
            thread::sleep(Duration::from_millis(100));
            assert_eq!(host.guest_exit(), None, "a child has stopped its parent's guest");
            stopper.stop();
        });
        let error = ControlClient::from(host.guest()).spin().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    });
    assert_eq!(host.guest_exit(), Some(GuestExit::Stopped));
}

fn cannot_reset(backend: Backend) {
    let host = started(&machine(), backend);
    forked(|| assert!(host.reset().is_err()));
    works_in_every_way(&host);
}

/// Handles that the parent keeps.
fn stale_handles(backend: Backend) {
    let gift: &[u8] = &[0x6b; 1000];
    let host = super::makes::start(&machine(), backend, Host::with_gift(gift));
    let taken: Vec<ForeignBuf> = vec![StateClient::from(host.guest()).gift().unwrap()];
    let shared = SharedBuf::copy_from(host.guest(), &[7; 100]).unwrap();
    let mut slot = Some((taken, shared));
    forked(|| {
        let (taken, shared) = slot.take().unwrap();
        let error = taken[0].read_vec().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stale, "{error}");
        drop((taken, shared));
    });
    let (taken, shared) = slot.unwrap();
    assert_eq!(taken[0].read_vec().unwrap(), gift);
    assert_eq!(shared.as_slice(), &[7; 100]);
    drop((taken, shared));
    works_in_every_way(&host);
}

fn of_a_child(backend: Backend) {
    let machine = machine();
    let host = started(&machine, backend);
    meets_a_deadline(&host);
    forked(|| {
        let inner = started(&machine, backend);
        meets_a_deadline(&inner);
        let mut slot = Some(inner);
        forked(|| {
            assert!(ControlClient::from(host.guest()).sum(4).is_err());
            assert!(ControlClient::from(slot.as_ref().unwrap().guest()).sum(4).is_err());
            drop(slot.take());
            makes_another(&machine, backend);
        });
        works_in_every_way(&slot.unwrap());
    });
    works_in_every_way(&host);
}

/// The child drops what it inherited long after its parent has dropped it.
fn outlives(backend: Backend) {
    let machine = machine();
    let mut pipe = [0; 2];
    // SAFETY: the array has room for two descriptors.
    done(unsafe { libc::pipe(pipe.as_mut_ptr()) });
    let mut slot = Some(started(&machine, backend));
    let child = fork(|| {
        let mut byte = 0_u8;
        // SAFETY: the buffer has one byte.
        unsafe { libc::close(pipe[1]) };
        // SAFETY: the buffer has one byte.
        assert_eq!(unsafe { libc::read(pipe[0], (&raw mut byte).cast(), 1) }, 0);
        drop(slot.take());
        makes_another(&machine, backend);
    });
    drop(slot.take());
    let left: Vec<_> = super::makes::children();
    assert_eq!((mapped(), descriptors(), left), (vec![], vec![], vec![child]));
    // SAFETY: the descriptors are this case's own.
    unsafe { libc::close(pipe[1]) };
    join(child);
    makes_another(&machine, backend);
}

/// A handler forks: its child calls back, fails, and drops everything.
fn in_a_handler(backend: Backend) {
    let server = Host::on_call(|guest| {
        forked(|| {
            assert!(ControlClient::from(guest).sum(3).is_err());
            assert!(SharedBuf::zeroed(guest, 64).is_err());
        });
        assert_eq!(ControlClient::from(guest).sum(3), Ok(6));
    });
    let host: Built = super::makes::start(&machine(), backend, server);
    assert!(ControlClient::from(host.guest()).calls_back().is_ok(), "{:?}", host.guest_exit());
    works_in_every_way(&host);
}

/// Another thread than the one that runs the guest forks, while the guest is in its loop.
fn of_another_thread(backend: Backend) {
    let machine = machine();
    let (host, begins) = super::makes::spinner(&machine, backend);
    let host = Arc::new(host);
    thread::scope(|scope| {
        scope.spawn(|| {
            begins.wait();
            let mut slot = Some(host.clone());
            for _ in 0..3 {
                forked(|| {
                    let host = slot.take().unwrap();
                    assert!(ControlClient::from(host.guest()).sum(3).is_err());
                    host.stopper().stop();
                    makes_another(&machine, backend);
                });
            }
            assert_eq!(host.guest_exit(), None);
            host.stopper().stop();
        });
        assert_eq!(
            ControlClient::from(host.guest()).spin().map_err(|error| error.kind()),
            Err(ErrorKind::Cancelled)
        );
    });
    host.reset().unwrap();
    works(&host);
}

/// An executed program inherits no descriptor of a machine.
fn exec(backend: Backend) {
    let host = started(&machine(), backend);
    assert!(!descriptors().is_empty());
    let listing = std::process::Command::new("/bin/ls").args(["-l", "/proc/self/fd"]).output();
    let listing = listing.unwrap();
    let text = String::from_utf8_lossy(&listing.stdout);
    assert!(listing.status.success() && text.contains("/fd"), "{text}");
    for of in ["vmffi", "kvm", "pidfd", "memfd"] {
        assert!(!text.contains(of), "{text}");
    }
    works(&host);
}
