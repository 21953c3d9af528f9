//! A hostile or faulty host against its guest: the fuzzer completes the traps.

use vmffi::{
    ConnectError, ErrorKind, RegionMemory, Serve,
    abi::{Answer, Registers, Side, answer, trap},
    arch::Trap,
    guest::{Guest, GuestStorage},
};

use super::{
    attacker::Move,
    types::{HANDSHAKE, Server},
    world::{self, Outcome, WHYS, World, with},
};

#[derive(Clone, Copy)]
struct Host;

impl Trap for Host {
    fn trap(&self, out: Registers) -> Registers {
        let Registers { kind, word, transport } = out;
        with(|w| {
            match kind {
                trap::CALL => w.on_call(word, transport),
                trap::RETURN => w.on_answer(Answer { status: word, transport }),
                trap::READY => assert!(!w.serves() && !w.asked()),
                _ => panic!("a trap of kind {kind:#x}"),
            }
            let reply = |kind, word, transport| Registers { kind, word, transport };
            match w.play() {
                Move::Call(signature, transport) => reply(answer::UPCALL, signature, transport),
                Move::Answer(Answer { status, transport }) => {
                    w.ended = Some(status);
                    reply(answer::ANSWER, status, transport)
                }
                Move::Odd(kind) => {
                    w.unclaimed();
                    w.ended = Some(ErrorKind::Unsupported as u64);
                    let known = matches!(kind, answer::ANSWER | answer::UPCALL);
                    reply(if known { !kind } else { kind }, word, transport)
                }
                step => panic!("no host does this: {step:?}"),
            }
        })
    }
}

const GRANULES: usize = 128;

/// Runs an input.
pub fn run(data: &[u8]) {
    let (layout, pages) = world::begin(data, Side::Guest);
    let (base, len) = (pages.base(), layout.len());
    let (guest, host) = (layout.arena(Side::Guest).1, layout.arena(Side::Host).1);
    for (i, word) in world::header(guest, host).into_iter().enumerate() {
        // SAFETY: the header is one page, and nothing else refers to it yet.
        unsafe { base.cast::<u64>().add(i).write(word) };
    }
    // A guest has its storage in a `static`. Here each run allocates its own, and frees it afterwards.
    let place = Box::into_raw(Box::new(GuestStorage::<Server, Host, GRANULES>::new()));
    // SAFETY: the storage is freed below, when nothing refers to it any more.
    let fixed = unsafe { &*place };
    let contract = Server::CONTRACT;
    let mut sent = contract.to_vec();
    sent.extend(contract.len().to_le_bytes());
    with(|w| w.friendly = !w.feed.rarely(8));
    world::calls(&HANDSHAKE, sent);
    // SAFETY: the pages outlive the run, and only this thread uses them.
    let region = unsafe { RegionMemory::permanent(base, len) };
    match Guest::connect(fixed, region, Host, Server) {
        Ok(end) => {
            world::called(Ok(Outcome::Value(Vec::new())), Vec::new());
            use_all(end);
        }
        Err(ConnectError::Call(error)) => {
            world::called(Err(error), Vec::new());
            with(World::drop_all);
        }
        Err(error) => panic!("{error}"),
    }
    world::forget();
    // SAFETY: made by `into_raw`; the guest's end and all handles are gone.
    drop(unsafe { Box::from_raw(place) });
    drop(pages);
}

fn use_all(end: &Guest<Host>) {
    while with(|w| !w.feed.is_empty()) {
        match with(|w| w.feed.below(4)) {
            0 => {
                let parked = end.park().map_err(|error| error.kind());
                let right = match with(|w| w.ended) {
                    Some(0) => Ok(()),
                    Some(status @ (2..=15 | 66..=79)) => Err(WHYS[(status as usize & 63) - 2]),
                    _ => Err(ErrorKind::Protocol),
                };
                assert_eq!(parked, right);
            }
            1 | 2 => world::call_out(end.host()),
            _ => with(World::juggle),
        }
    }
    world::end(end.host());
}
