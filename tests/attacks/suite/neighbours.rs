//! What one guest can do to the deadlines of others that the same thread watches.

use std::{
    thread,
    time::{Duration, Instant},
};

use vmffi::{
    ConnectError,
    host::{End, Ran},
    machine::Machine,
};

use super::{
    Case,
    connection::{On, ToldClient, scripted},
    interface::Server,
    list::{List, at, region},
    ops::Deed,
};

pub fn cases() -> Vec<Case> {
    vec![Case::other("a_neighbour_that_fills_its_memory_before_it_is_ready", neighbour)]
}

/// What the guests write before they are ready, and their hosts have to keep.
const FILLED: u64 = 128 << 20;
const DEADLINE: Duration = Duration::from_millis(20);

/// How long the endless call took of a guest that may take 20 ms, while its neighbour's time is up at some moment, in
/// particular while it is kept.
fn neighbour(on: On) -> String {
    let arenas = (FILLED + (1 << 20), 256 << 10);
    let layout = vmffi::Layout::new(arenas.0, arenas.1).unwrap();
    let (own, _) = layout.arena(vmffi::abi::Side::Guest);
    let script = List::new().fill(region(own), FILLED, 1);
    let machine = Machine::new(&scripted(&script)).arenas(arenas.0, arenas.1);
    let victim = machine.build(on.0, Server::default()).unwrap();
    let begin = Instant::now();
    assert_eq!(victim.run(), Ok(Ran::Ready));
    let whole = begin.elapsed();
    let mut worst = Duration::ZERO;
    for part in [6, 8, 9, 10] {
        // The neighbour's deadline is over at some moment between its beginning and its end.
        let limit = whole * part / 10;
        thread::scope(|scope| {
            let neighbour = scope.spawn(|| {
                let host = machine.build(on.0, Server::default()).unwrap();
                match host.within(limit).run() {
                    Ok(ran) => assert_eq!(ran, Ran::Ready),
                    Err(error) => assert_eq!(error, ConnectError::Ended(End::Deadline)),
                }
            });
            // The victim's call begins a little before.
            thread::sleep((limit).saturating_sub(DEADLINE / 2));
            let begin = Instant::now();
            let spin = List::new().deed(Deed::Spin, at(0), 0);
            let late = ToldClient::from(&*victim.within(DEADLINE)).does(spin.bytes());
            worst = worst.max(begin.elapsed());
            assert!(late.is_err());
            assert_eq!(victim.end(), Some(End::Deadline));
            neighbour.join().unwrap();
        });
        assert_eq!(victim.reset(), Ok(()));
    }
    println!("{on}: started in {whole:?}; a call of at most {DEADLINE:?} took {worst:?} at worst");
    assert!(worst < DEADLINE + Duration::from_millis(80), "{worst:?}");
    "no deadline of others is late".into()
}
