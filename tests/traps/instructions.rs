//! The trap instructions by themselves.

use std::hint::black_box;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::machine::{TrapVcpu, arch::Doorbell, as_guest, doorbell, gate, plain_gate, usual};
use vmffi::abi::{Registers, Transport, answer, trap};
use vmffi::arch::Trap;

#[cfg_attr(target_arch = "aarch64", path = "instructions/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "instructions/riscv64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "instructions/x86_64.rs")]
mod native;

const fn words(kind: u64, word: u64, primary: u64, secondary: u64) -> Registers {
    Registers { kind, word, transport: Transport { primary, secondary } }
}

/// A host whose answer words depend on all words, most of all on the word at the same position.
fn mix(seen: Registers) -> Registers {
    let Registers { kind, word, transport: Transport { primary, secondary } } = seen;
    let all = kind ^ word.rotate_left(16) ^ primary.rotate_left(32) ^ secondary.rotate_left(48);
    words(
        all.wrapping_add(kind),
        all.wrapping_mul(3).wrapping_add(word),
        all.wrapping_mul(5).wrapping_add(primary),
        all.wrapping_mul(7).wrapping_add(secondary),
    )
}

/// The function that every trap stands for: the host is called directly.
struct Model;

impl Trap for Model {
    fn trap(&self, out: Registers) -> Registers {
        mix(out)
    }
}

/// ABI, Traps TR-1, TR-6, TR-8 and TR-14, Transport T-1: all four registers reach the host and return, with
/// all 64 bits of each, more than the bus has.
fn every_register_crosses(way: impl Trap) {
    let sent = [
        words(trap::CALL, 0x1111_2222_3333_4444, 0x5555_6666_7777_8888, 0x9999_aaaa_bbbb_cccc),
        words(trap::RETURN, 0, 0, 0),
        words(trap::EXIT, u64::MAX, u64::MAX, u64::MAX),
    ];
    let answers = [
        words(answer::UPCALL, 0xfedc_ba98_7654_3210, 0x0123_4567_89ab_cdef, 1 << 63),
        words(answer::ANSWER, u64::MAX, 0, u64::MAX),
        words(answer::ANSWER, 0, u64::MAX, 0),
    ];
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let mut next = answers.into_iter();
    let on_trap = move |registers| {
        record.lock().unwrap().push(registers);
        next.next().unwrap()
    };
    let received = as_guest(on_trap, || sent.map(|out| way.trap(out)));
    assert_eq!(*seen.lock().unwrap(), sent);
    assert_eq!(received, answers);
}

#[test]
fn every_register_crosses_by_the_usual_trap() {
    every_register_crosses(usual());
}

#[test]
fn every_register_crosses_by_doorbell() {
    every_register_crosses(doorbell());
}

/// ABI, Traps TR-19, TR-20 and TR-24.
#[test]
fn every_register_crosses_by_gate() {
    every_register_crosses(gate());
    every_register_crosses(plain_gate());
}

/// ABI, Traps TR-4: a trap that nobody claims, for example at an unused port, does not change the kind.
#[test]
fn an_unclaimed_trap_returns_unchanged() {
    let sent = words(trap::READY, 2, 3, 4);
    assert_eq!(as_guest(|seen| seen, || usual().trap(sent)), sent);
}

/// ABI, Traps TR-13: the host reads what the guest has written before the trap, and the guest reads what the
/// host has written, although the accesses are plain ones, which a compiler may keep in registers.
fn memory_is_read_again(way: impl Trap) {
    let on_trap = |seen: Registers| {
        let shared = std::ptr::with_exposed_provenance_mut::<u64>(seen.transport.primary as usize);
        // SAFETY: the guest passes the address of a live `u64` with exposed provenance, and does not access it until
        // this trap has ended.
        let found = unsafe { shared.read() };
        // SAFETY: as above.
        unsafe { shared.write(found * 10) };
        words(answer::ANSWER, 0, found, 0)
    };
    as_guest(on_trap, || {
        let shared = Box::into_raw(Box::new(0_u64));
        let address = shared.expose_provenance() as u64;
        for value in 1..=100 {
            // SAFETY: `shared` is from `into_raw`, and the host does not access it now.
            unsafe { shared.write(value) };
            let back = way.trap(words(trap::CALL, 0, address, 8));
            assert_eq!(back.transport.primary, value, "the host saw an old value");
            // SAFETY: as above.
            let changed = unsafe { shared.read() };
            assert_eq!(changed, value * 10, "the guest saw an old value");
        }
        // SAFETY: `shared` is from `into_raw`, and this is its last use.
        drop(unsafe { Box::from_raw(shared) });
    });
}

#[test]
fn memory_is_read_again_after_the_usual_trap() {
    memory_is_read_again(usual());
}

#[test]
fn memory_is_read_again_after_a_doorbell() {
    memory_is_read_again(doorbell());
}

/// ABI, Traps TR-19, TR-20 and TR-24.
#[test]
fn memory_is_read_again_after_a_gate() {
    memory_is_read_again(gate());
    memory_is_read_again(plain_gate());
}

/// Local variables for which the compiler aligns the stack itself.
#[repr(align(128))]
struct Wide([u64; 16]);

/// ABI, Traps TR-11, TR-12 and TR-25: more live values than registers, around a trap in a loop;
/// on x86_64, RBX holds one of them.
#[inline(never)]
fn churn(way: &impl Trap, seed: u64, rounds: Range<u64>) -> [u64; 13] {
    let mut wide = Wide(std::array::from_fn(|i| black_box(seed).rotate_left(i as u32 * 4)));
    let [mut a, mut b, mut c, mut d] = black_box([seed, !seed, seed << 1, seed >> 1]);
    let [mut e, mut f, mut g, mut h] = black_box([seed ^ 5, seed ^ 6, seed ^ 7, seed ^ 8]);
    let [mut i, mut j, mut k, mut l] = black_box([seed + 9, seed + 10, seed + 11, seed + 12]);
    for round in rounds {
        let back = way.trap(words(a ^ round, b.wrapping_add(e), c ^ i, d));
        a = a.rotate_left(7) ^ back.kind;
        b = b.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ back.word;
        c = c.wrapping_add(l) ^ back.transport.primary;
        d = d.rotate_right(11).wrapping_add(back.transport.secondary);
        e = e.wrapping_add(a ^ f);
        f = f.rotate_left(13) ^ b;
        g = g.wrapping_mul(e | 1).wrapping_add(c);
        h = (h ^ g).rotate_left(17);
        i = i.wrapping_add(h ^ d);
        j = j.rotate_right(5) ^ i;
        k = k.wrapping_mul(j | 1).wrapping_add(round);
        l = (l ^ k).rotate_left(23);
        wide.0[(l % 16) as usize] ^= a ^ back.word;
    }
    let wide = wide.0.into_iter().fold(0, |sum: u64, x| sum.rotate_left(1) ^ x);
    [a, b, c, d, e, f, g, h, i, j, k, l, wide]
}

fn live_values_survive(way: impl Trap) {
    const SEED: u64 = 0x2545_f491_4f6c_dd1d;
    let received = as_guest(mix, || churn(&way, SEED, 0..20_000));
    assert_eq!(received, churn(&Model, SEED, 0..20_000));
}

#[test]
fn live_values_survive_the_usual_trap() {
    live_values_survive(usual());
}

#[test]
fn live_values_survive_a_doorbell() {
    live_values_survive(doorbell());
}

/// ABI, Traps TR-19, TR-20 and TR-24.
#[test]
fn live_values_survive_a_gate() {
    live_values_survive(gate());
    live_values_survive(plain_gate());
}

/// ABI, Traps TR-11, TR-20, TR-24 and TR-25: a carry that is tested after the trap. Between the addition and the test there are only
/// moves, so a compiler that assumed preserved flags would keep the carry in them.
fn a_carry_survives(way: impl Trap) {
    #[inline(never)]
    fn add(way: &impl Trap, a: u64, b: u64) -> u64 {
        let (sum, carry) = a.overflowing_add(b);
        let back = way.trap(words(sum, sum, sum, sum));
        if carry { back.word } else { back.transport.primary }
    }

    for (a, b) in [(1, 2), (u64::MAX, 2), (u64::MAX, 1), (0, 0), (1 << 63, 1 << 63)] {
        let right = add(&Model, a, b);
        assert_eq!(as_guest(mix, || add(&way, a, b)), right, "{a:#x} + {b:#x}");
    }
}

#[test]
fn a_carry_survives_the_usual_trap() {
    a_carry_survives(usual());
}

#[test]
fn a_carry_survives_a_doorbell() {
    a_carry_survives(doorbell());
}

#[test]
fn a_carry_survives_a_gate() {
    a_carry_survives(plain_gate());
    a_carry_survives(gate());
}

/// ABI, Traps TR-15 to TR-17: a guest serves upcalls while it waits, and calls its host within
/// each.
fn serve(way: impl Trap) -> u64 {
    let mut served = 0;
    let mut back = way.trap(words(trap::READY, 0, 0, 0));
    while back.kind == answer::UPCALL {
        let Transport { primary, secondary } = back.transport;
        let inner = way.trap(words(trap::CALL, back.word, primary, 0));
        assert_eq!(inner.kind, answer::ANSWER);
        served += 1;
        back = way.trap(words(trap::RETURN, 0, inner.transport.primary + secondary, served));
    }
    assert_eq!(back.kind, answer::ANSWER);
    served
}

/// One host thread resumes three vCPUs in turn, one for each kind of trap: each gets its own
/// answers.
#[test]
fn a_host_thread_resumes_its_guests() {
    let (port, first) = TrapVcpu::start(|| serve(usual()));
    assert_eq!(first, words(trap::READY, 0, 0, 0));
    let (doorbell, first) = TrapVcpu::start(|| serve(doorbell()));
    assert_eq!(first, words(trap::READY, 0, 0, 0));
    let (called, first) = TrapVcpu::start(|| serve(gate()));
    assert_eq!(first, words(trap::READY, 0, 0, 0));

    let mut vcpus = [port, doorbell, called];
    for round in 1..=100 {
        for (vcpu, signature) in vcpus.iter_mut().zip([100, 200, 300]) {
            let call = vcpu.resume(words(answer::UPCALL, signature, round, signature * 10));
            assert_eq!(call, words(trap::CALL, signature, round, 0));
        }
        for (vcpu, signature) in vcpus.iter_mut().zip([100, 200, 300]) {
            let done = vcpu.resume(words(answer::ANSWER, 0, round * 2, 0));
            assert_eq!(done, words(trap::RETURN, 0, round * 2 + signature * 10, round));
        }
    }
    for vcpu in vcpus {
        assert_eq!(vcpu.finish(words(answer::ANSWER, 0, 0, 0)), 100);
    }
}

/// ABI, Traps TR-7 and TR-9: a store to an unaligned doorbell would be another trap than the negotiated one.
#[test]
#[should_panic(expected = "multiple of eight")]
fn a_doorbell_is_aligned() {
    // SAFETY: this value is never used to trap.
    let _ = unsafe { Doorbell::new(0x1004) };
}

/// Checks that the machine code of the type's `trap` has these bytes.
#[cfg(not(target_arch = "x86_64"))]
fn has_instruction<T: Trap>(_: &T, code: &[u8]) {
    let function = <T as Trap>::trap as fn(&T, Registers) -> Registers as *const u8;
    // SAFETY: code is readable, and the search ends within the function, or shortly after it, within the code of this program.
    let byte = |at: usize| unsafe { function.add(at).read() };
    let found = (0..400).any(|at| (at..at + code.len()).map(byte).eq(code.iter().copied()));
    assert!(found, "{} has no {code:x?}", std::any::type_name::<T>());
}
