//! All attacks, repeated in one process, which must not grow.

use std::{env, fs, time::Instant};

use super::{
    Case,
    connection::On,
    left::{self, Left},
};

/// The name of this case.
pub const NAME: &str = "the_whole_table_repeatedly";

#[derive(Debug)]
struct Count {
    left: Left,
    mappings: usize,
    resident: u64,
}

impl Count {
    fn now() -> Self {
        // Memory that the allocator keeps for reuse is not lost.
        #[cfg(target_env = "gnu")]
        // SAFETY: malloc_trim(3) takes a number, and may be called at any time.
        unsafe {
            libc::malloc_trim(0)
        };
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident = resident.split_whitespace().next().unwrap().parse().unwrap();
        Self { left: Left::now(), mappings: left::mappings(), resident }
    }
}

/// Makes the allocator use one arena, instead of one for each of several threads: how much it keeps in each depends on
/// how the threads ran. It must be called before other threads exist.
pub fn prepare() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers, and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

fn round(cases: &[Case]) -> usize {
    let mut ran = 0;
    // Clones leave behind what others do, and take as long.
    for on in On::all().filter(|on| on.is_new() && on.backend.check().is_ok()) {
        for case in cases.iter().filter(|case| case.is_on(on)) {
            case.run(on);
            ran += 1;
        }
    }
    ran
}

pub fn run(cases: &[Case]) {
    let rounds = env::var("ATTACKS_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    // The first round allocates what the program keeps: the guest's file, the allocator's memory.
    let mut ran = round(cases);
    let (before, began) = (Count::now(), Instant::now());
    for _ in 1..rounds {
        ran += round(cases);
    }
    let after = Count::now();
    println!("{ran} attacks in {rounds} rounds, all but the first in {:?}", began.elapsed());
    for (when, count) in [("before", &before), ("after", &after)] {
        let Left { descriptors, mapped, threads, children } = &count.left;
        println!(
            "{when}: {} descriptors, {mapped} mappings of machines, {} in all, {threads} threads, \
             child processes: {children}, {} KiB resident",
            descriptors.len(),
            count.mappings,
            count.resident,
        );
    }
    assert_eq!(after.left, before.left);
    // The allocator may keep some memory more, but not for each of so many attacks.
    assert!(after.mappings <= before.mappings + 5, "{} mappings", after.mappings);
    let grown = after.resident.saturating_sub(before.resident);
    assert!(grown * 20 <= before.resident, "{grown} KiB more");
}
