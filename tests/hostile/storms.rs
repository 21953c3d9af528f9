//! Attackers that write during calls: a thread, and another process.

use std::{
    io::Error,
    ptr::null_mut,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use support::{interface::ParamsEverythingAloneU16, liar::Random, panics, region::WRITES};
use vmffi::{
    RegionLayout,
    abi::{Side, Transport},
};

use super::attack::{Field, Op, StopOnDrop};
use crate::report;

const TIME: Duration = Duration::from_millis(2500);
const ARENAS: (u64, u64) = (64 << 10, 64 << 10);

/// The next place and the value to write. It also runs in a forked child: it allocates nothing and cannot panic.
fn scribble(
    random: &mut Random,
    layout: &RegionLayout,
    places: &[(u64, u64); 4],
) -> (u64, [u8; 8], u64) {
    let side = if places[3].0 == layout.arena(Side::Guest).0 { Side::Guest } else { Side::Host };
    let nr = random.pick(&[0, 1, 1, 2, 3, 3, 3, 3, 3, 3]);
    let (start, len) = places[nr];
    let at = start + random.below(len / 8) * 8;
    let word = if nr == 3 { random.word(layout, side) } else { random.number() };
    (at, word.to_le_bytes(), 1 + random.below(64))
}

/// Two threads call until the storm ends.
fn call(field: &Field) {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for me in 1..=2_u64 {
            scope.spawn(move || {
                panics::count_here();
                let mut random = Random(me << 32);
                while start.elapsed() < TIME {
                    let seed = random.number();
                    field.step(&match random.below(8) {
                        0 | 1 => Op::Call { seed, take: false },
                        2 | 3 => Op::Plant { seed, words: 1 + random.below(40), take: false },
                        4 => Op::Hoard { len: 1 + random.below(2000) as usize, fill: seed as u8 },
                        _ => {
                            let changes = vec![random.below(250) as u8];
                            Op::Twist { nth: seed as u8, changes, seed, take: false }
                        }
                    });
                    if random.below(16) == 0 {
                        field.assert_treasure();
                    }
                    // Values in registers stay correct.
                    let word = random.below(1 << 16);
                    let echo = ParamsEverythingAloneU16::FUNCTION.signature;
                    let answer = field.call(echo, Transport::word(word));
                    assert_eq!((answer.status, answer.transport), (0, Transport::word(word)));
                }
                panics::assert_none_here();
            });
        }
    });
}

fn storm_of_a_thread(victim: Side) {
    let field = Field::new(victim, ARENAS, 3);
    let (stop, mut writes) = (AtomicBool::new(false), 0_u64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut random, places) = (Random(4), field.attacker.places());
            while !stop.load(Ordering::Relaxed) {
                let (at, word, times) = scribble(&mut random, &field.attacker.layout, &places);
                for i in 0..times {
                    field.attacker.write(at + 8 * i, &word);
                }
                writes += times;
            }
        });
        let _stop = StopOnDrop(&stop);
        call(&field);
    });
    field.assert_restored();
    report(&format!("a thread wrote {writes} times while the {victim} served"));
}

/// A child that writes until it is killed, and counts its writes in a shared page.
struct Child {
    pid: libc::pid_t,
    count: *mut libc::c_void,
}

impl Child {
    fn new(field: &Field) -> Self {
        let (both, anonymous) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping replaces no other.
        let count = unsafe { libc::mmap(null_mut(), 4096, both, anonymous, -1, 0) };
        assert_ne!(count, libc::MAP_FAILED, "{}", Error::last_os_error());
        let (layout, places) = (field.attacker.layout, field.attacker.places());
        let (victim, base) = (layout.arena(field.attacker.victim), field.attacker.raw());
        // SAFETY: the child only computes and writes to shared memory, until it is killed.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "{}", Error::last_os_error());
        if pid == 0 {
            // SAFETY: prctl(2) takes integers; the child is killed when its parent dies.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let mut random = Random(5);
            loop {
                let (at, word, times) = scribble(&mut random, &layout, &places);
                for i in 0..times {
                    let at = at + 8 * i;
                    if at < layout.len() && !(victim.0..victim.0 + victim.1).contains(&at) {
                        let place = base.wrapping_add(at as usize).cast::<[u8; 8]>();
                        // SAFETY: the word is within the region, and aligned to 8 bytes.
                        unsafe { place.write_volatile(word) };
                    }
                }
                // SAFETY: the page was mapped above, and is only used as this atomic.
                unsafe { AtomicU64::from_ptr(count.cast()) }.fetch_add(times, Ordering::Relaxed);
            }
        }
        Self { pid, count }
    }

    fn writes(&self) -> u64 {
        // SAFETY: the page is mapped until `self` is dropped, and all accesses are atomic.
        unsafe { AtomicU64::from_ptr(self.count.cast()) }.load(Ordering::Relaxed)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: the child belongs to this process, and was not waited for.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        // SAFETY: as above.
        unsafe { libc::waitpid(self.pid, null_mut(), 0) };
        // SAFETY: `new` has mapped the page.
        unsafe { libc::munmap(self.count, 4096) };
    }
}

fn storm_of_a_process(victim: Side) {
    let field = Field::new(victim, ARENAS, 6);
    let child = Child::new(&field);
    call(&field);
    let writes = child.writes();
    drop(child);
    WRITES.fetch_add(writes as usize, Ordering::Relaxed);
    assert!(writes > 0);
    field.assert_restored();
    report(&format!("a process wrote {writes} times while the {victim} served"));
}

#[test]
fn a_thread_against_the_host() {
    storm_of_a_thread(Side::Host);
}

#[test]
fn a_thread_against_the_guest() {
    storm_of_a_thread(Side::Guest);
}

#[test]
fn a_process_against_the_host() {
    storm_of_a_process(Side::Host);
}

#[test]
fn a_process_against_the_guest() {
    storm_of_a_process(Side::Guest);
}
