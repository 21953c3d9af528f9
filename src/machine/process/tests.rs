//! How many instructions a guest takes for a call: one step after the other.

use super::*;
use crate::{
    abi::{Side, answer, pointer, signature, trap},
    machine::{Image, Machine},
};

#[path = "../../../examples/guests/mod.rs"]
mod guests;
#[path = "../../../benches/common/meter.rs"]
mod meter;

use meter::{
    ParamsLoadEcho, ParamsLoadScalars, ParamsLoadThrees, ParamsMeterScalar, ParamsMeterThree,
};

impl Process {
    /// Goes on behind a trap with an answer, and counts the instructions up to the next trap, both traps
    /// included.
    fn step_on(&mut self, kind: u64, word: u64, primary: u64) -> (u32, Registers) {
        let user_regs_struct { rip, .. } = self.registers;
        let registers = &mut self.registers;
        (registers.rax, registers.rbx, registers.r8, registers.r9) = (kind, word, primary, 0);
        (registers.rip, registers.orig_rax) = (rip + code::DOORBELL.len() as u64, u64::MAX);
        self.traced.set(*registers).unwrap();
        let mut steps = 1;
        while {
            ptrace::step(self.traced.pid, None).unwrap();
            let status = self.traced.wait().unwrap();
            self.registers = self.traced.registers().unwrap();
            matches!(status, WaitStatus::Stopped(_, Signal::SIGTRAP))
        } {
            steps += 1;
        }
        assert!(self.rings(), "{:?}", self.fault(Signal::SIGSEGV));
        let user_regs_struct { rax, rbx, r8, r9, .. } = self.registers;
        let transport = Transport { primary: r8, secondary: r9 };
        (steps, Registers { kind: rax, word: rbx, transport })
    }
}

/// Started, and parked.
fn process() -> (Process, Arc<Loaded>) {
    let image = Image::open(guests::build("meter").unwrap()).unwrap();
    let loaded = Arc::new(Machine::new(&image).arenas(1 << 20, 1 << 20).load().unwrap());
    let base = loaded.ram.at(loaded.region);
    // SAFETY: a region has more than a page.
    unsafe { loaded.layout.write_header(base) };
    let mut process = start(&loaded, 0, false).unwrap();
    let meets = process.run(None).unwrap();
    assert_eq!((meets.kind, meets.word), (trap::CALL, signature::MEET));
    give_back(&loaded, meets.transport.primary);
    let (_, ready) = process.step_on(answer::ANSWER, 0, 0);
    assert_eq!(ready.kind, trap::READY);
    (process, loaded)
}

/// Leaves a mark for a loan, as a host does that has copied it.
fn give_back(loaded: &Loaded, word: u64) {
    let layout = &loaded.layout;
    let within = pointer::offset(word).wrapping_sub(layout.arena(Side::Guest).0);
    if pointer::loan(word) != 0 && within < layout.arena(Side::Guest).1 {
        let mark = layout.release_map(Side::Guest) + within / crate::GRANULE as u64;
        loaded.ram.write(loaded.region + mark, &[pointer::loan(word)]);
    }
}

#[test]
fn a_hypercall_takes_few_instructions() {
    let (mut process, loaded) = process();
    for (many, one, most) in [
        (ParamsLoadScalars::FUNCTION, ParamsMeterScalar::FUNCTION, 20),
        (ParamsLoadThrees::FUNCTION, ParamsMeterThree::FUNCTION, 100),
    ] {
        let (_, call) = process.step_on(answer::UPCALL, many.signature, 5);
        give_back(&loaded, call.transport.primary);
        for i in 1..5 {
            let (steps, call) = process.step_on(answer::ANSWER, 0, i);
            assert_eq!((call.kind, call.word), (trap::CALL, one.signature));
            std::println!("{one}: {steps} instructions");
            give_back(&loaded, call.transport.primary);
            assert!(steps <= most, "{one}: {steps}, more than {most}");
        }
        let (_, done) = process.step_on(answer::ANSWER, 0, 5);
        assert_eq!((done.kind, done.word, done.transport.primary), (trap::RETURN, 0, 15));
    }
    let (steps, done) = process.step_on(answer::UPCALL, ParamsLoadEcho::FUNCTION.signature, 7);
    assert_eq!((done.kind, done.word, done.transport.primary), (trap::RETURN, 0, 7));
    std::println!("Load::echo, an upcall: {steps} instructions");
}
