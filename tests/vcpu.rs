//! A host's end over a vCPU that does what a test says (ABI, "Traps").
#![cfg(feature = "std")]

use std::sync::{Arc, Mutex};

use vmffi::{
    CallError, ConnectError, ForeignBuf, Layout, Peer, SharedBuf, Why,
    abi::{Registers, Side, Transport, answer, trap},
    host::{Host, Ran, Vcpu},
};

vmffi::ffi_interface! {
    pub interface Store {
        fn fetch() -> ForeignBuf;
    }

    pub interface Sink {
        fn note(text: ForeignBuf);
    }
}

struct Server;

impl Store for Server {
    fn fetch(&self, guest: &Peer) -> Result<SharedBuf, CallError> {
        // Whether the guest hears of it or not.
        let _ = SinkClient::from(guest).note(b"about to fetch");
        SharedBuf::copied(guest, b"a result")
    }
}

vmffi::serve!(Server: Store);

/// The guest's next steps.
type Steps = Vec<Result<(u64, u64), Why>>;

struct Script {
    steps: Steps,
    resumed: Arc<Mutex<Vec<u64>>>,
}

impl Vcpu for Script {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, Why> {
        self.resumed.lock().unwrap().extend(answer.map(|answer| answer.kind));
        let (kind, word) = self.steps.remove(0)?;
        Ok(Registers { kind, word, transport: Transport::EMPTY })
    }
}

struct Pages(*mut u8, std::alloc::Layout);

// SAFETY: plain memory, owned.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated below, with the same layout.
        unsafe { std::alloc::dealloc(self.0, self.1) };
    }
}

/// A host whose guest does this, and the kinds of answer that it has been resumed with.
fn host(steps: Steps) -> (Host<Script>, Arc<Mutex<Vec<u64>>>) {
    let layout = Layout::new(4096, 4096).unwrap();
    let size = std::alloc::Layout::from_size_align(layout.len() as usize, 4096).unwrap();
    // SAFETY: more than 0 bytes.
    let base = unsafe { std::alloc::alloc_zeroed(size) };
    let resumed = Arc::<Mutex<Vec<u64>>>::default();
    let vcpu = Script { steps, resumed: resumed.clone() };
    let keep = Box::new(Pages(base, size));
    // SAFETY: the memory lives as long as `keep`, and nobody else knows it.
    let host = unsafe { Host::new(layout, base, layout.len(), keep, Server, vcpu, None) };
    (host.unwrap(), resumed)
}

/// ABI, "Arenas and loans" A-6: a guest that ends in an upcall never gets the result of the call whose
/// handler has made it, so what that lends is its owner's again.
#[test]
fn the_result_for_a_guest_that_has_ended() {
    let call = Ok((trap::CALL, ParamsStoreFetch::FUNCTION.signature));
    for (end, ran) in [
        (Ok((trap::EXIT, 7)), Ok(Ran::Exited(7))),
        (Ok((trap::READY, 0)), Err(Why::Protocol)),
        (Err(Why::Cancelled), Err(Why::Cancelled)),
    ] {
        let (host, resumed) = host(vec![call, end]);
        let ended = host.run().map_err(|error| match error {
            ConnectError::Call(error) => error.why(),
            other => panic!("{other}"),
        });
        assert_eq!(ended, ran);
        assert_eq!(*resumed.lock().unwrap(), [answer::UPCALL], "it is not resumed again");
        let stats = host.guest().arena_stats();
        assert_eq!((host.guest().side(), stats.blocks), (Side::Host, 0), "{end:?}");
    }
}
