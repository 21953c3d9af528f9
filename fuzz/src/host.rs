//! A hostile guest against its host: the fuzzer is the vCPU.

use vmffi::{
    CallError, ConnectError, ErrorKind, RegionMemory,
    abi::{Answer, Registers, Side, Transport, answer, trap},
    host::{GuestExit, Host, HostBuilder, ProtocolViolation, RunOutcome, Vcpu},
};

use super::{
    attacker::Move,
    types::Server,
    world::{self, World, with},
};

struct Guest;

impl Vcpu for Guest {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        with(|w| {
            assert_eq!(w.gone, None, "a vCPU that has ended is run again");
            match answer {
                None => {}
                Some(Registers { kind: answer::UPCALL, word, transport }) => {
                    w.on_call(word, transport);
                }
                Some(Registers { kind: answer::ANSWER, word, transport }) if w.serves() => {
                    w.on_answer(Answer { status: word, transport });
                }
                // Resumes a parked guest.
                Some(registers) => {
                    let nothing = Transport::EMPTY;
                    let right = Registers { kind: answer::ANSWER, word: 0, transport: nothing };
                    assert_eq!(registers, right);
                }
            }
            play(w)
        })
    }
}

fn play(w: &mut World) -> Result<Registers, GuestExit> {
    let trap = |kind, word, transport| Ok(Registers { kind, word, transport });
    match w.play() {
        Move::Call(signature, transport) => trap(trap::CALL, signature, transport),
        Move::Answer(Answer { status, transport }) => {
            if !w.asked() {
                w.lose(ErrorKind::Protocol);
            }
            trap(trap::RETURN, status, transport)
        }
        Move::Ready => {
            if w.asked() {
                w.lose(ErrorKind::Protocol);
            }
            trap(trap::READY, 0, Transport::EMPTY)
        }
        Move::Exit(status) => {
            w.lose(ErrorKind::PeerDied);
            w.ended = Some(status);
            trap(trap::EXIT, status, Transport::EMPTY)
        }
        Move::Odd(kind) => {
            let known = matches!(kind, trap::CALL | trap::RETURN | trap::READY | trap::EXIT);
            w.lose(ErrorKind::Protocol);
            trap(if known { !kind } else { kind }, 0, Transport::EMPTY)
        }
        Move::Fail(why) => {
            w.lose(why);
            Err(match why {
                ErrorKind::Cancelled => GuestExit::Stopped,
                ErrorKind::Protocol => GuestExit::Protocol(ProtocolViolation::Access { at: 0 }),
                _ => GuestExit::Lost("it is gone".into()),
            })
        }
    }
}

fn observe(error: &CallError) {
    assert_eq!(error.side(), Some(Side::Host));
    assert!(!format!("{error} {error:?}").is_empty());
}

/// Runs an input.
pub fn run(data: &[u8]) {
    let (layout, pages) = world::begin(data, Side::Host);
    let base = pages.base();
    let keep = Box::new(pages);
    // SAFETY: the pages outlive `keep`, and only this thread writes to them, as the guest, while no
    // reference covers the place.
    let memory = unsafe { RegionMemory::new(base, layout.len(), keep) };
    let host = HostBuilder::new(memory, layout).observe(observe).build(Server, [Guest]);
    let host = host.expect("a region");
    with(|w| {
        w.closing = w.feed.rarely(2);
        w.gone = Some(ErrorKind::Busy);
    });
    while with(|w| !w.feed.is_empty()) {
        match with(|w| w.feed.below(4)) {
            0 => go_on(&host),
            1 | 2 => world::call_out(host.guest()),
            _ => with(World::juggle),
        }
    }
    if with(|w| w.closing) {
        while with(|w| !w.started || w.gone.is_none()) {
            go_on(&host);
        }
    }
    world::end(host.guest());
    drop(host);
    world::forget();
}

fn go_on(host: &Host<Guest>) {
    with(|w| {
        if !w.started {
            (w.gone, w.started) = (None, true);
        }
    });
    let ran = host.run().map_err(|error| match error {
        ConnectError::Exited(end) => {
            assert!(with(|w| !w.misfit));
            end.kind()
        }
        ConnectError::Contract(_) => {
            assert!(with(|w| w.misfit));
            ErrorKind::VersionMismatch
        }
        error => panic!("{error}"),
    });
    let right = with(|w| match (w.ended, w.gone) {
        (Some(status), _) => Ok(RunOutcome::Exited(status)),
        (None, Some(why)) => Err(why),
        (None, None) => Ok(RunOutcome::Ready),
    });
    assert_eq!(ran, right);
}
