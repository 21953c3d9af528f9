//! What a guest needs around its calls to be a program: an entry point, an end, a heap and a logger.
//!
//! Of symbols that may exist once in a program, none is here: the guest's own crate asks for each with
//! a macro.

use core::{
    cell::UnsafeCell,
    fmt::{self, Write},
    mem::MaybeUninit,
    panic::PanicInfo,
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
};

use super::{Guest, Place, exit_by};
use crate::{
    abi::{Boot, Side, Transport, exit as status, signature},
    arch::x86_64::Agreed,
    dispatch::Serve,
    error::CallError,
    memory::Layout,
    peer::{self, Peer},
};

/// Makes the program's entry point: a guest is this and the server that it names.
///
/// ```ignore
/// vmffi::entry! {
///     server: Calculator = Calculator,  // its type, and an expression that makes it
///     arena: 1 << 20,                   // the most that it uses of its arena, in bytes
///     start: start,                     // may be left out: `fn(host: &Peer)`, before the guest waits
/// }
/// ```
///
/// The first vCPU connects to the host, which compares the two sides' contracts; runs `start`; and then waits
/// for upcalls and serves them, until the host lets it go. Then the guest ends, with status 0. Other
/// vCPUs wait for upcalls at once. A guest that cannot be connected ends with a text that says why.
///
/// The books for `arena` bytes take 3 bytes in 8 of that in the guest's memory. The host chooses the size of
/// the arena; where it is larger, the rest is not used.
///
/// The macro makes the symbol `_start`. The guest's crate needs `#![no_std]`, `#![no_main]`, a
/// [`panic_handler!`](crate::panic_handler) and the [memory functions](crate::memory_functions); the
/// [guide](https://docs.rs/vmffi) has all of it from `cargo new` on.
#[macro_export]
macro_rules! entry {
    (@start) => { $crate::__private::core::option::Option::None };
    (@start $start:expr) => { $crate::__private::core::option::Option::Some($start) };
    (server: $type:ty = $server:expr, arena: $arena:expr $(, start: $start:expr)? $(,)?) => {
        unsafe extern "C" fn __vmffi_entry(
            boot: *const $crate::__private::core::primitive::u64,
        ) -> ! {
            use $crate::__private::core as __core;
            const __PAGE: __core::primitive::usize = $crate::PAGE as __core::primitive::usize;
            const __ARENA: __core::primitive::usize = $arena;
            static __PLACE: $crate::guest::Place<
                $type,
                $crate::arch::x86_64::Agreed,
                { __ARENA.div_ceil(__PAGE) * (__PAGE / $crate::GRANULE) },
            > = $crate::guest::Place::new();
            // Functions of their own, which are safe: before edition 2024 the body of an unsafe one is as a whole.
            fn __server() -> $type {
                $server
            }
            fn __start() -> __core::option::Option<fn(&$crate::Peer)> {
                $crate::entry!(@start $($start)?)
            }
            // SAFETY: called once a vCPU, by the entry point, with what the host has given.
            unsafe { $crate::guest::run(&__PLACE, __server, __start(), boot) }
        }
        $crate::__private::core::arch::global_asm! {
            ".globl _start",
            ".type _start, @function",
            "_start:",
            "xor ebp, ebp",
            "call {main}",
            "ud2",
            main = sym __vmffi_entry,
        }
    };
}

/// Makes the program's panic handler: the message and its place go to the host, up to 1,024 bytes of
/// them, and the guest ends.
///
/// The guest is built with `panic = "abort"`. The standard library's prebuilt parts still name two symbols of
/// unwinding, which are made here too and never called.
#[macro_export]
macro_rules! panic_handler {
    () => {
        #[panic_handler]
        fn __vmffi_panic(info: &$crate::__private::core::panic::PanicInfo<'_>) -> ! {
            $crate::guest::panicked(info)
        }
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}
        #[unsafe(no_mangle)]
        extern "C" fn _Unwind_Resume() {}
    };
}

/// Makes the program's memory functions, which compilers call by name: `memcpy`, `memmove`, `memset`,
/// `memcmp` and `bcmp`. A guest that links others leaves it out.
#[macro_export]
macro_rules! memory_functions {
    () => {
        const _: () = {
            use $crate::{__private::core::primitive as __p, guest::memory as __memory};
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memcpy(
                to: *mut __p::u8,
                from: *const __p::u8,
                len: __p::usize,
            ) -> *mut __p::u8 {
                // SAFETY: what C asks of a caller.
                unsafe { __memory::memcpy(to, from, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memmove(
                to: *mut __p::u8,
                from: *const __p::u8,
                len: __p::usize,
            ) -> *mut __p::u8 {
                // SAFETY: what C asks of a caller.
                unsafe { __memory::memmove(to, from, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memset(
                to: *mut __p::u8,
                byte: __p::i32,
                len: __p::usize,
            ) -> *mut __p::u8 {
                // SAFETY: what C asks of a caller.
                unsafe { __memory::memset(to, byte as __p::u8, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memcmp(
                a: *const __p::u8,
                b: *const __p::u8,
                len: __p::usize,
            ) -> __p::i32 {
                // SAFETY: what C asks of a caller.
                unsafe { __memory::memcmp(a, b, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn bcmp(
                a: *const __p::u8,
                b: *const __p::u8,
                len: __p::usize,
            ) -> __p::i32 {
                // SAFETY: what C asks of a caller.
                unsafe { __memory::memcmp(a, b, len) }
            }
        };
    };
}

/// Makes the program's global allocator (feature `heap`), with so many bytes of the guest's own memory, for crates that
/// use `alloc`. It is [talc](https://docs.rs/talc) behind a spin lock.
///
/// ```ignore
/// vmffi::heap!(4 << 20);
/// ```
#[cfg(feature = "heap")]
#[macro_export]
macro_rules! heap {
    ($bytes:expr) => {
        const _: () = {
            static mut __MEMORY: [$crate::__private::core::primitive::u128; $bytes / 16] =
                [0; $bytes / 16];
            #[global_allocator]
            // SAFETY: nobody else names the memory.
            static __HEAP: $crate::guest::Heap = $crate::guest::Heap::new(unsafe {
                $crate::__private::talc::source::Claim::array(&raw mut __MEMORY)
            });
        };
    };
}

/// A guest's global allocator: what [`heap!`](crate::heap) makes.
#[cfg(feature = "heap")]
pub type Heap = talc::TalcLock<spin::Mutex<()>, talc::source::Claim>;

/// What the end of a guest needs, whatever is broken by then.
struct Ending {
    ready: AtomicBool,
    trap: UnsafeCell<MaybeUninit<Agreed>>,
    /// Memory of the guest's own arena for the last text, or null, and its offset in the region.
    text: AtomicPtr<u8>,
    offset: AtomicU64,
}

// SAFETY: `trap` is written once, before `ready` is set, and only read from then on.
unsafe impl Sync for Ending {}

static ENDING: Ending = Ending {
    ready: AtomicBool::new(false),
    trap: UnsafeCell::new(MaybeUninit::uninit()),
    text: AtomicPtr::new(ptr::null_mut()),
    offset: AtomicU64::new(0),
};

impl Ending {
    /// Says how to leave.
    ///
    /// # Safety
    ///
    /// Called once, by the first vCPU, before any other runs.
    unsafe fn set_trap(&self, trap: Agreed) {
        // SAFETY: the caller says that nobody else is here, and `ready` that nobody has read it.
        unsafe { (*self.trap.get()).write(trap) };
        self.ready.store(true, Ordering::Release);
    }

    /// Says where a text of `TEXT` bytes may go: there, and nobody else writes there from now on.
    fn set_text(&self, at: *mut u8, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
        self.text.store(at, Ordering::Release);
    }

    fn trap(&self) -> Option<Agreed> {
        // SAFETY: `ready` says that it was written, and it is written no more.
        self.ready.load(Ordering::Acquire).then(|| unsafe { (*self.trap.get()).assume_init() })
    }

    /// The place for a text, for whoever asks first.
    fn take_text(&self) -> Option<(*mut u8, u64)> {
        let at = self.text.swap(ptr::null_mut(), Ordering::AcqRel);
        (!at.is_null()).then(|| (at, self.offset.load(Ordering::Relaxed)))
    }
}

/// The most bytes of a last text.
const TEXT: usize = 1024;

/// Text into a fixed number of bytes; what is longer is cut off, between two characters.
struct Cut<'b> {
    bytes: &'b mut [u8],
    len: usize,
}

impl Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.len;
        let mut len = text.len().min(room);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.bytes[self.len..self.len + len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        if len < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Runs a vCPU of a guest from its entry to its end: what [`entry!`](crate::entry) calls.
///
/// # Safety
///
/// Called once a vCPU, on the stack that the host has made, with the address of that vCPU's boot block;
/// the first vCPU comes first, and the others when it waits for upcalls. The host has laid out the region
/// that the block names, and answers traps as the block says.
#[doc(hidden)]
pub unsafe fn run<S: Serve, const GRANULES: usize>(
    place: &'static Place<S, Agreed, GRANULES>,
    server: impl FnOnce() -> S,
    start: Option<fn(&Peer)>,
    boot: *const u64,
) -> ! {
    // SAFETY: the caller's promise.
    let words = unsafe { boot.cast::<[u64; Boot::LEN / 8]>().read() };
    let Some(boot) = Boot::from_words(words) else { crash() };
    // SAFETY: the host says that it answers traps of this kind.
    let trap = unsafe { Agreed::new(boot.way) };
    let guest = match place.guest() {
        Some(guest) => guest,
        None if boot.cpu == 0 => {
            // SAFETY: the first vCPU comes here once, and before the others.
            unsafe { ENDING.set_trap(trap) };
            let base = ptr::with_exposed_provenance_mut(boot.region as usize);
            // SAFETY: the caller's promise.
            match unsafe { Guest::connect(place, trap, server(), base, boot.region_len) } {
                Ok(guest) => guest,
                Err(error) => {
                    // Nobody else uses the arena yet, or ever again.
                    // SAFETY: the caller's promise.
                    if let Ok(layout) = unsafe { Layout::read_header(base, boot.region_len) } {
                        let (offset, _) = layout.arena(Side::Guest);
                        // SAFETY: an arena is in the region, and has more bytes than a text.
                        let at = unsafe { base.add(offset as usize) };
                        ENDING.set_text(at, offset);
                    }
                    exit(status::UNCONNECTED, format_args!("{error}"))
                }
            }
        }
        None => exit_by(&trap, status::UNCONNECTED, Transport::EMPTY),
    };
    if boot.cpu == 0 {
        reserve_text(guest);
        listen(&guest.peer, boot.log);
        if let Some(start) = start {
            start(guest.host());
        }
    }
    match guest.park() {
        Ok(()) => guest.exit(0),
        Err(error) => exit(status::UNCONNECTED, format_args!("{error}")),
    }
}

/// There is nobody to tell.
fn crash() -> ! {
    loop {
        // SAFETY: ends the program, in whatever way its host sees it.
        unsafe { core::arch::asm!("ud2", options(nomem, nostack)) }
    }
}

/// Sets a block aside for the text of a panic: by then the arena may be full.
fn reserve_text(guest: &'static Guest<Agreed>) {
    let memory = guest.peer.memory();
    if let Ok(block) = peer::alloc(&guest.peer, TEXT) {
        ENDING.set_text(memory.address(Side::Guest, block), memory.offset(Side::Guest, block));
    }
}

/// Ends the guest, from wherever it is: 0 for a good end, any other status means what the guest wants it to
/// mean. The host gets up to 1,024 bytes of the text, with its `End::Exited`.
///
/// Only a guest that was entered by [`entry!`](crate::entry) ends like this; another one crashes.
pub fn exit(status: u64, text: fmt::Arguments<'_>) -> ! {
    let Some(trap) = ENDING.trap() else { crash() };
    let mut transport = Transport::EMPTY;
    // A panic in the text itself finds no place any more, and ends the guest without one.
    if let Some((at, offset)) = ENDING.take_text() {
        // SAFETY: there are as many bytes, which nobody else writes to, and only one asker gets them.
        let bytes = unsafe { core::slice::from_raw_parts_mut(at, TEXT) };
        let mut cut = Cut { bytes, len: 0 };
        let _ = cut.write_fmt(text); // cut off, at worst
        if cut.len != 0 {
            transport = Transport { primary: offset, secondary: cut.len as u64 };
        }
    }
    exit_by(&trap, status, transport)
}

/// Ends the guest after a panic: what [`panic_handler!`](crate::panic_handler) calls.
#[doc(hidden)]
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    let message = info.message();
    match info.location() {
        Some(place) => exit(status::PANICKED, format_args!("at {place}: {message}")),
        None => exit(status::PANICKED, format_args!("{message}")),
    }
}

/// The guest's logger: each record is a call of its own (ABI, "Log").
struct Logger {
    host: AtomicPtr<Peer>,
}

static LOGGER: Logger = Logger { host: AtomicPtr::new(ptr::null_mut()) };

fn listen(host: &'static Peer, level: u32) {
    let level = match level {
        0 => return,
        1 => log::LevelFilter::Error,
        2 => log::LevelFilter::Warn,
        3 => log::LevelFilter::Info,
        4 => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    };
    LOGGER.host.store(ptr::from_ref(host).cast_mut(), Ordering::Release);
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level);
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        // SAFETY: null, or a `&'static Peer`.
        let host = unsafe { self.host.load(Ordering::Acquire).as_ref() };
        if let (Some(host), true) = (host, self.enabled(record.metadata())) {
            let _ = send(host, record); // nobody is left to be told
        }
    }

    fn flush(&self) {}
}

fn send(host: &Peer, record: &log::Record<'_>) -> Result<(), CallError> {
    let mut bytes = [0; TEXT];
    // Its length is a byte.
    let mut target = Cut { bytes: &mut bytes[2..2 + 255], len: 0 };
    let _ = target.write_str(record.target()); // cut off, at worst
    let target_len = target.len;
    bytes[0] = record.level() as u8;
    bytes[1] = target_len as u8;
    let mut text = Cut { bytes: &mut bytes[2 + target_len..], len: 0 };
    let _ = text.write_fmt(*record.args());
    let len = 2 + target_len + text.len;
    let mut out = host.outgoing();
    let line = out.lend_bytes(&bytes[..len])?;
    out.ask(signature::LOG, line)
}
