//! Effects of one guest on the deadlines of others that the same thread watches.

use std::{
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    ConnectError,
    host::{GuestExit, ResetError, RunOutcome},
    machine::MachineBuilder,
};

use super::{
    Case,
    connection::{On, ToldClient, scripted},
    interface::Server,
    list::{List, at, region},
    ops::Deed,
    slower,
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::other("a_neighbour_that_fills_its_memory_before_it_is_ready", neighbour)
            .only(On::is_new),
        Case::other("more_memory_than_may_be_saved", kept).only(On::is_new),
    ]
}

/// The length of the memory that the guests write before they are ready, which their hosts have to save. A slower processor
/// takes as long for less.
fn filled() -> u64 {
    ((128 << 20) / u64::from(slower())) & !0xfff
}

const DEADLINE: Duration = Duration::from_millis(20);
/// How long a call with that deadline may take, on a machine that does other work as well.
const MOST: Duration = Duration::from_millis(170);

/// How long an endless call of a guest with a deadline of 20 ms takes while its neighbour's deadline passes, in
/// particular while the neighbour's memory is saved.
fn neighbour(on: On) -> String {
    let arenas = (filled() + (1 << 20), 256 << 10);
    let layout = vmffi::RegionLayout::new(arenas.0, arenas.1).unwrap();
    let (own, _) = layout.arena(vmffi::abi::Side::Guest);
    let script = List::new().fill(region(own), filled(), 1);
    let machine = MachineBuilder::new(&scripted(&script)).arenas(arenas.0, arenas.1);
    let victim = machine.build(on.backend, Server::default()).unwrap();
    let begin = Instant::now();
    assert_eq!(victim.run(), Ok(RunOutcome::Ready));
    let whole = begin.elapsed();
    let mut worst = Duration::ZERO;
    for part in [6, 8, 9, 10] {
        // The fastest of some tries, since any of them may have waited for a processor.
        let mut best = Duration::MAX;
        for _ in 0..5 {
            // The neighbour's deadline passes at some moment between its beginning and its end.
            let limit = whole * part / 10;
            thread::scope(|scope| {
                let neighbour = scope.spawn(|| {
                    let host = machine.build(on.backend, Server::default()).unwrap();
                    match host.with_deadline(limit).run() {
                        Ok(ran) => assert_eq!(ran, RunOutcome::Ready),
                        Err(error) => assert_eq!(error, ConnectError::Exited(GuestExit::Deadline)),
                    }
                });
                // The victim's call begins shortly before.
                thread::sleep((limit).saturating_sub(DEADLINE / 2));
                let begin = Instant::now();
                let spin = List::new().deed(Deed::Spin, at(0), 0);
                let late =
                    ToldClient::from(victim.with_deadline(DEADLINE).guest()).does(spin.bytes());
                best = best.min(begin.elapsed());
                assert!(late.is_err());
                assert_eq!(victim.guest_exit(), Some(GuestExit::Deadline));
                neighbour.join().unwrap();
            });
            assert_eq!(victim.reset(), Ok(()));
            if best < MOST {
                break;
            }
        }
        worst = worst.max(best);
    }
    println!("{on}: started in {whole:?}; a call of at most {DEADLINE:?} took {worst:?} at worst");
    assert!(worst < MOST, "{worst:?}");
    "no deadline of others is late".into()
}

/// The memory limit of a machine also covers the copy of its memory that a reset needs.
fn kept(on: On) -> String {
    let arenas = (9 << 20, 256 << 10);
    let layout = vmffi::RegionLayout::new(arenas.0, arenas.1).unwrap();
    let (own, _) = layout.arena(vmffi::abi::Side::Guest);
    let mut texts = Vec::new();
    // One contiguous range, and every second page.
    let script = List::new().fill(region(own), 8 << 20, 1);
    let pages = (0..1024).fold(List::new(), |list, nr| list.fill(region(own + nr * 8192), 1, 1));
    for (script, written) in [(script, 8 << 20), (pages, 4 << 20)] {
        let image = scripted(&script);
        for (memory, resets) in [(11 << 20, false), (32 << 20, true)] {
            let machine = MachineBuilder::new(&image).arenas(arenas.0, arenas.1).memory(memory);
            let host = machine.build(on.backend, Server::default()).unwrap();
            assert_eq!(host.run(), Ok(RunOutcome::Ready));
            match host.reset() {
                Ok(()) => assert!(resets),
                Err(ResetError::Failed(text)) => {
                    assert!(!resets && memory < layout.len() + written, "{text}");
                    texts.push(text);
                }
                Err(error) => panic!("{error}"),
            }
            let honest = List::new().returns(0, vmffi::abi::Transport::word(7));
            assert_eq!(ToldClient::from(host.guest()).does(honest.bytes()), Ok(7));
            assert_eq!(host.guest_exit(), None);
        }
    }
    assert_eq!(texts.len(), 2, "{texts:?}");
    format!("it cannot be reset: {}", texts[0])
}
