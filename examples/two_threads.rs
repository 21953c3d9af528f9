//! Both ends of a real connection, without a machine: the guest is a thread that traps through a
//! channel, where on a machine it would execute an instruction, and the host runs it as its vCPU.

use vmffi::{
    CallError, ForeignBuf, ForeignStr, Peer,
    arch::Trap,
    guest::{Guest, Place},
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

/// Reads in pieces, into memory of its own: there may be no heap.
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

/// All of the guest, once it has a stack.
///
/// # Safety
///
/// What [`Guest::connect`] says of `base` and `len`.
unsafe fn guest_main<T: Trap + Copy + Send + Sync>(
    place: &'static Place<Terminal, T, 1024>,
    trap: T,
    base: *mut u8,
    len: u64,
) -> ! {
    // SAFETY: the caller's promise.
    let guest = unsafe { Guest::connect(place, trap, Terminal, base, len) };
    let guest = guest.expect("a region, and a host that fits");
    // Upcalls are served in `park`, until the host lets the guest go on.
    let ended = greet(guest.host()).and_then(|()| guest.park());
    guest.exit(ended.map_or_else(|error| error.why() as u64, |()| 0))
}

// Here ends the guest, and the machine begins.

use std::{
    alloc::{Layout as Heap, alloc_zeroed},
    ptr,
    sync::{Mutex, mpsc},
    thread,
};

use vmffi::{
    Layout, SharedBuf,
    abi::Registers,
    host::{End, Host, Options, Ran, Vcpu},
};

/// In place of a trapping instruction: the registers go to the host's thread, and come back.
struct Line(mpsc::Sender<Registers>, Mutex<mpsc::Receiver<Registers>>);

impl Trap for &'static Line {
    fn trap(&self, out: Registers) -> Registers {
        let back = self.0.send(out).map(|()| self.1.lock().map(|line| line.recv()));
        match back {
            Ok(Ok(Ok(back))) => back,
            // Nobody resumes this vCPU any more.
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
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, End> {
        let gone = || End::Lost("its thread is gone".into());
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
        SharedBuf::copied(guest, name.to_string()?.as_bytes())
    }
}

vmffi::serve!(Library: Pages; calls Screen);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    static PLACE: Place<Terminal, &Line, 1024> = Place::new();

    // 64 KiB for each side, and the memory for all of it.
    let layout = Layout::new(1024 * 64, 1024 * 64)?;
    let len = layout.len();
    // SAFETY: a layout has more than 0 bytes. They are never freed: the guest's end is for ever.
    let base = unsafe { alloc_zeroed(Heap::from_size_align(len as usize, 4096)?) };
    let (to_host, traps) = mpsc::channel();
    let (answers, from_host) = mpsc::channel();
    let line: &Line = Box::leak(Box::new(Line(to_host, Mutex::new(from_host))));

    let at = base.expose_provenance();
    let start = move || {
        let base = ptr::with_exposed_provenance_mut(at);
        // SAFETY: the region is there for ever, and this thread is the guest that it is for.
        unsafe { guest_main(&PLACE, line, base, len) }
    };
    let vcpu = GuestThread { start: Some(Box::new(start)), traps, answers };
    // SAFETY: as above. Nothing keeps this guest from writing to the host's arena, but it does not.
    let host =
        unsafe { Host::new(layout, base, len, Box::new(()), Library, [vcpu], Options::default()) }?;

    assert_eq!(host.run()?, Ran::Ready);
    let letters = ScreenClient::from(host.guest()).show(b"a page of text")?;
    println!("host: the guest shows {letters} letters");
    println!("host: {:?}", host.run()?);
    Ok(())
}
