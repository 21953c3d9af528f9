//! Checkpoints, resets and clones where the kernel does not tell which pages were written, or only page by page.

use std::{println, vec::Vec};

use super::*;
use crate::{ForeignBuf, RegionLayout, abi::pointer, host::RunOutcome};
use support::{
    guests,
    list::{List, at, region},
    ops::Op,
    // Lists take the types of the `vmffi` that `support` depends on: this crate, built a second time, without its tests.
    vmffi::abi::Transport,
};
use written::{LIKE, Like};

crate::ffi_interface! {
    pub(super) interface Told {
        fn does(list: ForeignBuf) -> u64;
        fn bytes(list: ForeignBuf) -> ForeignBuf;
    }
}

const ARENA: u64 = 256 << 10;
const STACK: u64 = 4 << 20;
/// Of the first vCPU.
const STACK_AT: u64 = 0x100_0000_1000;

/// The offset of the guest's arena.
fn own() -> u64 {
    RegionLayout::new(ARENA, ARENA).unwrap().arena(crate::abi::Side::Guest).0
}

fn does(host: &Machine, list: &List) {
    let done = ToldClient::from(host.guest()).does(list.bytes());
    assert_eq!(done, Ok(0), "{:?}", host.guest_exit());
}

/// Hashes of the guest's stack, but for the end that is in use, and of its arena, but for the end that has the results.
fn state(host: &Machine) -> [u64; 2] {
    let saved = own() + ARENA - 64;
    let words = Transport { primary: pointer::join(saved, 1), secondary: 32 };
    [(at(STACK_AT), STACK - (64 << 10)), (region(own()), ARENA - 4096)].map(|(at, len)| {
        let list = List::new().op(Op::Hash { at, len }).save(region(saved)).returns(0, words);
        let words = ToldClient::from(host.guest()).bytes(list.bytes()).unwrap().read_vec().unwrap();
        u64::from_le_bytes(words[16..24].try_into().unwrap())
    })
}

/// Writes some pages of the stack, and of the arena.
fn writes(pages: impl Iterator<Item = u64>, byte: u8) -> List {
    let list = List::new().fill(region(own() + 0x3000), 5000, byte);
    pages.fold(list, |list, page| list.fill(at(STACK_AT + 4096 * page + 8 * page), 9, byte))
}

/// A machine, resets of it, and clones, with all kinds of pages written, as often as it takes until pages are given up.
fn comes_back(backend: Backend, vcpus: u32) {
    let file = guests::build("tests/attacks/guest", "attacker").unwrap();
    let machine = MachineBuilder::new(&Image::open(file).unwrap());
    let machine = machine.arenas(ARENA, ARENA).stack(STACK).vcpus(vcpus);
    let first = machine.build(backend, ()).unwrap();
    assert_eq!(first.run(), Ok(RunOutcome::Ready));
    let new = state(&first);
    let patterns: [fn() -> Vec<u64>; 4] = [
        || Vec::new(),
        || std::vec![3, 4, 900],
        || (0..400).map(|nr| 2 * nr).collect(),
        || (0..900).collect(),
    ];
    let storm = |host: &Machine, before: [u64; 2]| {
        for round in 0..10 {
            for pages in patterns {
                does(host, &writes(pages().into_iter(), 0x77));
                assert_ne!(state(host), before);
                assert_eq!(host.reset(), Ok(()));
                assert_eq!(state(host), before, "{round}");
            }
        }
    };
    storm(&first, new);
    let mut before = new;
    for (byte, pages) in (1..).zip([patterns[1], patterns[2]]) {
        does(&first, &writes(pages().into_iter(), byte));
        let now = state(&first);
        assert_ne!(now, before);
        assert_eq!(first.checkpoint(), Ok(()));
        before = now;
        storm(&first, before);
    }
    let snapshot = first.snapshot().unwrap();
    drop(first);
    for _ in 0..2 {
        let clone = snapshot.build(()).unwrap();
        assert_eq!(state(&clone), before);
        storm(&clone, before);
    }
    let clone = snapshot.build(()).unwrap();
    does(&clone, &writes(patterns[3]().into_iter(), 9));
    let now = state(&clone);
    let of_clone = clone.snapshot().unwrap().build(()).unwrap();
    assert_eq!(state(&of_clone), now);
    storm(&of_clone, now);
}

fn like(like: Like) {
    LIKE.set(like);
    for &backend in Backend::ALL {
        match backend.check() {
            Ok(()) => (1..=2).for_each(|vcpus| comes_back(backend, vcpus)),
            Err(error) => println!("skipped: {error}"),
        }
    }
    LIKE.set(Like::Here);
}

#[test]
fn memory_comes_back_on_this_kernel() {
    like(Like::Here);
}

#[test]
fn memory_comes_back_on_an_old_kernel() {
    like(Like::Old);
}

#[test]
fn memory_comes_back_without_procfs() {
    like(Like::WithoutProcfs);
}

/// Both ways to ask for the pages that were written find the same.
#[test]
fn pages_are_found_in_both_ways() {
    let memory = mapping::Mapping::anonymous(600 * 4096).unwrap();
    let base = memory.at().addr() as u64;
    let all = base..base + memory.len() as u64;
    let mut expected = Vec::new();
    for page in (0..600_u64).filter(|page| page % 7 == 0 || (300..340).contains(page)) {
        // SAFETY: the page is in the mapping, which nothing else accesses.
        unsafe { memory.at().add(page as usize * 4096).write_volatile(1) };
        expected.push(page);
    }
    for page in [1, 2] {
        // SAFETY: as above.
        let byte = unsafe { memory.at().add(page * 4096).read_volatile() };
        assert_eq!(byte, 0);
    }
    for how in [Like::Here, Like::Old] {
        LIKE.set(how);
        let pages = written::PageMap::of_this_process().unwrap();
        let mut found = Vec::new();
        let mut zeros = Vec::new();
        let each = |run: core::ops::Range<u64>, is_zeros| {
            let pages = run.step_by(4096).map(|at| (at - base) / 4096);
            if is_zeros {
                zeros.extend(pages)
            } else {
                found.extend(pages)
            }
            Ok(())
        };
        pages.written(all.clone(), each).unwrap();
        match how {
            Like::Old => expected.extend([1, 2]),
            _ => assert_eq!(zeros, [1, 2]),
        }
        expected.sort_unstable();
        assert_eq!(found, expected, "{how:?}");
    }
    LIKE.set(Like::Here);
}

/// The kernel puts its page of zeros in place of pages that the guest has filled with zeros. It takes a moment for that.
#[test]
fn memory_comes_back_where_the_kernel_merges_pages() {
    let ksm = |file: &str| {
        let value = std::fs::read_to_string(std::format!("/sys/kernel/mm/ksm/{file}"));
        value.ok().and_then(|value| value.trim().parse::<u64>().ok())
    };
    // SAFETY: this takes integers, and lets the kernel merge pages of this process and its children.
    let merges = unsafe { nix::libc::prctl(nix::libc::PR_SET_MEMORY_MERGE, 1, 0, 0, 0) } == 0;
    if !merges || ksm("run") != Some(1) || ksm("use_zero_pages") != Some(1) {
        println!("skipped: the kernel does not merge pages of zeros (`.ci/deep ksm` has it do so)");
        return;
    }
    let file = guests::build("tests/attacks/guest", "attacker").unwrap();
    let machine = MachineBuilder::new(&Image::open(file).unwrap());
    let machine = machine.arenas(ARENA, ARENA).stack(STACK);
    for &backend in Backend::ALL.iter().filter(|backend| backend.check().is_ok()) {
        let host = machine.build(backend, ()).unwrap();
        assert_eq!(host.run(), Ok(RunOutcome::Ready));
        let fill = |byte| does(&host, &List::new().fill(at(STACK_AT + 4096), 100 * 4096, byte));
        fill(7);
        assert_eq!(host.checkpoint(), Ok(()));
        for _ in 0..2 {
            assert_eq!(host.reset(), Ok(()));
            let before = state(&host);
            let zeros = ksm("ksm_zero_pages").unwrap();
            fill(0);
            let began = std::time::Instant::now();
            while ksm("ksm_zero_pages").unwrap() < zeros + 90 {
                assert!(began.elapsed().as_secs() < 60, "the kernel has merged no pages");
                std::thread::sleep(core::time::Duration::from_millis(10));
            }
            assert_eq!(host.reset(), Ok(()));
            assert_eq!(state(&host), before, "{backend:?}");
        }
    }
}
