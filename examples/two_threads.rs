//! Both ends of a real connection, without a machine: the guest is a thread, which the host runs as its vCPU. The thread
//! traps through a channel, instead of by an instruction.

use vmffi::{
    CallError, ForeignBuf, ForeignStr, Peer, RegionMemory,
    arch::Trap,
    guest::{Guest, GuestStorage},
};

vmffi::ffi_interface! {
    /// What the host offers to its guest.
    pub interface Pages {
        fn load(name: ForeignStr) -> ForeignBuf;
    }

    /// What the guest offers to its host.
    pub interface Screen {
        /// Returns the number of letters that are shown.
        fn show(page: ForeignBuf) -> u64;
    }
}

struct Terminal;

impl Screen for Terminal {
    fn show(&self, host: &Peer, page: ForeignBuf) -> Result<u64, CallError> {
        // A hypercall inside the upcall.
        let footer = PagesClient::from(host).load("footer")?;
        Ok(letters(&page)? + letters(&footer)?)
    }
}

vmffi::serve!(Terminal: Screen; calls Pages);

/// Reads in pieces, into memory of its own, since there may be no heap.
fn letters(page: &ForeignBuf) -> Result<u64, CallError> {
    let (mut piece, mut at, mut letters) = ([0; 64], 0, 0);
    while at < page.len() {
        let piece = &mut piece[..(page.len() - at).min(64)];
        page.read_at(at, piece)?;
        letters += piece.iter().filter(|byte| byte.is_ascii_alphabetic()).count() as u64;
        at += piece.len();
    }
    Ok(letters)
}

fn greet(host: &Peer) -> Result<(), CallError> {
    let welcome = PagesClient::from(host).load("welcome")?;
    assert_eq!(letters(&welcome)?, 7);
    Ok(())
}

/// The guest's program, once it has a stack.
fn guest_main<T: Trap + Copy + Send + Sync>(
    storage: &'static GuestStorage<Terminal, T, 1024>,
    region: RegionMemory,
    trap: T,
) -> ! {
    let guest = Guest::connect(storage, region, trap, Terminal);
    let guest = guest.expect("a region, and a host whose contract fits");
    // `park` serves upcalls until the host resumes the guest.
    let ended = greet(guest.host()).and_then(|()| guest.park());
    guest.exit(ended.map_or_else(|error| error.kind() as u64, |()| 0))
}

// The rest replaces the machine.

use std::{
    alloc::{Layout as Heap, alloc_zeroed},
    ptr,
    sync::{Mutex, mpsc},
    thread,
};

use vmffi::{
    RegionLayout, SharedBuf,
    abi::Registers,
    host::{GuestExit, HostBuilder, RunOutcome, Vcpu},
};

/// Replaces the trap instruction: sends the registers to the host's thread, and waits for its answer.
struct Line(mpsc::Sender<Registers>, Mutex<mpsc::Receiver<Registers>>);

impl Trap for &'static Line {
    fn trap(&self, out: Registers) -> Registers {
        let back = self.0.send(out).map(|()| self.1.lock().map(|line| line.recv()));
        match back {
            Ok(Ok(Ok(back))) => back,
            // The host is gone, and never resumes this vCPU.
            _ => loop {
                thread::park();
            },
        }
    }
}

struct GuestThread {
    start: Option<Box<dyn FnOnce() + Send>>,
    traps: mpsc::Receiver<Registers>,
    answers: mpsc::Sender<Registers>,
}

impl Vcpu for GuestThread {
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, GuestExit> {
        let gone = || GuestExit::Lost("its thread is gone".into());
        match (answer, self.start.take()) {
            (None, Some(start)) => drop(thread::spawn(start)),
            (Some(answer), _) => self.answers.send(answer).map_err(|_| gone())?,
            (None, None) => return Err(gone()),
        }
        self.traps.recv().map_err(|_| gone())
    }
}

struct Library;

impl Pages for Library {
    fn load(&self, guest: &Peer, name: ForeignStr) -> Result<SharedBuf, CallError> {
        SharedBuf::copy_from(guest, name.read_string()?.as_bytes())
    }
}

vmffi::serve!(Library: Pages; calls Screen);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    static STORAGE: GuestStorage<Terminal, &Line, 1024> = GuestStorage::new();

    // 64 KiB for each side, and the memory for all of it.
    let layout = RegionLayout::new(1024 * 64, 1024 * 64)?;
    let len = layout.len();
    // SAFETY: a layout has more than 0 bytes. They are never freed, since a guest's end is never dropped.
    let base = unsafe { alloc_zeroed(Heap::from_size_align(len as usize, 4096)?) };
    let (to_host, traps) = mpsc::channel();
    let (answers, from_host) = mpsc::channel();
    let line: &Line = Box::leak(Box::new(Line(to_host, Mutex::new(from_host))));

    let at = base.expose_provenance();
    let start = move || {
        let base = ptr::with_exposed_provenance_mut(at);
        // SAFETY: these bytes are never freed, no reference covers them, and only guest and host use them.
        let region = unsafe { RegionMemory::permanent(base, len) };
        guest_main(&STORAGE, region, line)
    };
    let vcpu = GuestThread { start: Some(Box::new(start)), traps, answers };
    // SAFETY: as above. Nothing prevents this guest from writing to the host's arena, but it does not.
    let memory = unsafe { RegionMemory::permanent(base, len) };
    let host = HostBuilder::new(memory, layout).build(Library, [vcpu])?;

    assert_eq!(host.run()?, RunOutcome::Ready);
    let letters = ScreenClient::from(host.guest()).show(b"a page of text")?;
    println!("host: the guest shows {letters} letters");
    println!("host: {:?}", host.run()?);
    Ok(())
}
