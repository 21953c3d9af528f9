//! The runtime of a guest's program: entry point, exit, panic handler, heap and logger.
//!
//! Symbols that may exist only once in a program are not defined here, but in the guest's own crate, by macros.

use core::{
    cell::UnsafeCell,
    fmt::{self, Write},
    mem::MaybeUninit,
    panic::PanicInfo,
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
};

use super::{Guest, GuestStorage, exit_by, native, seed};
use crate::{
    abi::{Boot, MAX_TEXT, Side, Transport, exit as status, signature},
    arch::NegotiatedTrap,
    call::{Peer, Serve},
    error::CallError,
    memory::{self, Lender, RegionLayout, RegionMemory},
};

/// Defines the program's entry point, the symbol `_start`.
///
/// ```ignore
/// vmffi::entry! {
///     server: Calculator = Calculator,  // type of the server, and an expression that makes it
///     arena: 1 << 20,                   // maximum number of bytes that it uses of its arena
///     start: start,                     // optional: `fn(host: &Peer)`, called before the guest waits
/// }
/// ```
///
/// The first vCPU connects to the host, which compares the contracts of both sides; calls `start`; and then waits for
/// upcalls and serves them, until the host resumes it. Then the guest exits with status 0. The other vCPUs wait for
/// upcalls at once. A guest that cannot connect exits with status 102 and a text that says why.
///
/// The host chooses the size of the arena; if it is larger than `arena`, the remainder is unused. The allocator
/// metadata takes 3/8 of `arena` in the guest's own memory.
///
/// The guest's crate also needs `#![no_std]`, `#![no_main]`, a [`panic_handler!`](crate::panic_handler) and the
/// [memory functions](crate::memory_functions); the [guide](https://docs.rs/vmffi) starts from `cargo new`.
#[macro_export]
macro_rules! entry {
    (@start) => { $crate::__private::core::option::Option::None };
    (@start $start:expr) => { $crate::__private::core::option::Option::Some($start) };
    (server: $type:ty = $server:expr, arena: $arena:expr $(, start: $start:expr)? $(,)?) => {
        unsafe extern "C" fn __vmffi_entry(
            boot: *const $crate::__private::core::primitive::u64,
        ) -> ! {
            use $crate::__private::core as __core;
            const __PAGE: __core::primitive::usize = $crate::PAGE_SIZE as __core::primitive::usize;
            const __ARENA: __core::primitive::usize = $arena;
            static __STORAGE: $crate::guest::GuestStorage<
                $type,
                $crate::arch::NegotiatedTrap,
                { __ARENA.div_ceil(__PAGE) * (__PAGE / $crate::GRANULE_SIZE) },
            > = $crate::guest::GuestStorage::new();
            // The user's expressions are in safe functions: before edition 2024, the body of an unsafe function is an
            // unsafe context.
            fn __server() -> $type {
                $server
            }
            fn __start() -> __core::option::Option<fn(&$crate::Peer)> {
                $crate::entry!(@start $($start)?)
            }
            // SAFETY: `_start` below calls this function once on each vCPU, on the stack of its entry and with the
            // address of the boot block; the host sets both as the ABI says (ABI, "Boot block"), as `vmffi::machine` does. Nothing else calls it.
            unsafe { $crate::guest::run(&__STORAGE, __server, __start(), boot) }
        }
        $crate::__start! { __vmffi_entry }
    };
}

/// Defines the program's panic handler: the guest exits with status 101, and its last text is the location and message
/// of the panic, truncated to 1,024 bytes.
///
/// The guest must be built with `panic = "abort"`. The prebuilt `core` still refers to two symbols of unwinding; the
/// macro defines them too, and nothing calls them.
#[macro_export]
macro_rules! panic_handler {
    () => {
        $crate::__panic_handler! {}
    };
}

/// The panic handler of a program without `std`, which has one of its own.
#[cfg(feature = "std")]
#[doc(hidden)]
#[macro_export]
macro_rules! __panic_handler {
    () => {
        $crate::__private::core::compile_error! {
            "a guest has no `std`, but vmffi has its feature `std`: write `default-features = false` at \
             vmffi in the guest's Cargo.toml, and build the guest in a workspace of its own"
        }
    };
}

/// The panic handler of a program without `std`.
#[cfg(not(feature = "std"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __panic_handler {
    () => {
        #[cfg(not(any(panic = "abort", test)))]
        $crate::__private::core::compile_error! {
            "a guest cannot unwind: write `panic = \"abort\"` in `[profile.dev]` and `[profile.release]` of \
             the workspace that builds it"
        }
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

/// Defines the memory functions that compilers call by name: `memcpy`, `memmove`, `memset`, `memcmp` and `bcmp`. Omit
/// it if the guest links others.
#[macro_export]
macro_rules! memory_functions {
    () => {
        const _: () = {
            use $crate::{__private::core::primitive as __p, guest::mem_functions as __memory};
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memcpy(
                to: *mut __p::u8,
                from: *const __p::u8,
                len: __p::usize,
            ) -> *mut __p::u8 {
                // SAFETY: callers of the C function promise that `from` and `to` are valid for `len` bytes and do not
                // overlap.
                unsafe { __memory::memcpy(to, from, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memmove(
                to: *mut __p::u8,
                from: *const __p::u8,
                len: __p::usize,
            ) -> *mut __p::u8 {
                // SAFETY: callers of the C function promise that `from` and `to` are valid for `len` bytes.
                unsafe { __memory::memmove(to, from, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memset(
                to: *mut __p::u8,
                byte: __p::i32,
                len: __p::usize,
            ) -> *mut __p::u8 {
                // SAFETY: callers of the C function promise that `to` is valid for `len` bytes.
                unsafe { __memory::memset(to, byte as __p::u8, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memcmp(
                a: *const __p::u8,
                b: *const __p::u8,
                len: __p::usize,
            ) -> __p::i32 {
                // SAFETY: callers of the C function promise that both pointers are valid for `len` bytes.
                unsafe { __memory::memcmp(a, b, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn bcmp(
                a: *const __p::u8,
                b: *const __p::u8,
                len: __p::usize,
            ) -> __p::i32 {
                // SAFETY: callers of the C function promise that both pointers are valid for `len` bytes.
                unsafe { __memory::memcmp(a, b, len) }
            }
        };
    };
}

/// Defines the program's global allocator (feature `heap`), for crates that use `alloc`, with so many bytes of the
/// guest's own memory, rounded down to a multiple of 16. It is [talc](https://docs.rs/talc) behind a spin lock.
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
            // SAFETY: `__MEMORY` is private to this anonymous constant, which uses it only here, so the allocator has
            // exclusive access for as long as the program runs.
            static __HEAP: $crate::guest::Heap =
                unsafe { $crate::guest::Heap::new(&raw mut __MEMORY) };
        };
    };
}

/// The type of the global allocator that [`heap!`](crate::heap) defines.
#[cfg(feature = "heap")]
pub struct Heap(talc::TalcLock<spin::Mutex<()>, talc::source::Claim>);

#[cfg(feature = "heap")]
impl Heap {
    /// An allocator that takes all of `memory`, at its first use.
    ///
    /// # Safety
    ///
    /// `memory` is valid for reads and writes for as long as the program runs, and nothing else uses it.
    #[must_use]
    pub const unsafe fn new<const WORDS: usize>(memory: *mut [u128; WORDS]) -> Self {
        // SAFETY: the caller promises that the allocator has the memory for itself.
        Self(talc::TalcLock::new(unsafe { talc::source::Claim::array(memory) }))
    }
}

#[cfg(feature = "heap")]
impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").finish_non_exhaustive()
    }
}

// SAFETY: `TalcLock` keeps the contract of the trait, and all calls go to the same one.
#[cfg(feature = "heap")]
unsafe impl core::alloc::GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: core::alloc::Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { self.0.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: core::alloc::Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { self.0.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: core::alloc::Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { self.0.realloc(block, layout, size) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: core::alloc::Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { self.0.alloc_zeroed(layout) }
    }
}

/// The state for [`exit`]. It does not depend on the rest of the guest, which may be in any state after a panic.
struct ExitState {
    /// Whether `trap` is initialized.
    ready: AtomicBool,
    trap: UnsafeCell<MaybeUninit<NegotiatedTrap>>,
    /// `TEXT` bytes of the guest's own arena for the last text; null before they are set and after they are taken.
    text: AtomicPtr<u8>,
    /// The offset of `text` in the region.
    offset: AtomicU64,
}

// SAFETY: `set_trap`, which runs once, writes `trap` before it sets `ready` with release ordering; `trap` reads it only
// after it has seen `ready` with acquire ordering. The value is `Copy` and contains integers only. The other fields are
// atomics.
unsafe impl Sync for ExitState {}

static EXIT_STATE: ExitState = ExitState {
    ready: AtomicBool::new(false),
    trap: UnsafeCell::new(MaybeUninit::uninit()),
    text: AtomicPtr::new(ptr::null_mut()),
    offset: AtomicU64::new(0),
};

impl ExitState {
    /// Sets the trap.
    ///
    /// # Safety
    ///
    /// It is called once, by the first vCPU, before any other vCPU runs.
    unsafe fn set_trap(&self, trap: NegotiatedTrap) {
        // SAFETY: the caller has promised that this is the only call and that no other vCPU runs, so nothing writes at
        // the same time; and `trap` does not read before `ready` is set below.
        unsafe { (*self.trap.get()).write(trap) };
        self.ready.store(true, Ordering::Release);
    }

    /// Sets the memory for the last text, and its offset in the region.
    ///
    /// # Safety
    ///
    /// `at` is valid for writes of `TEXT` bytes as long as the program runs, and nothing else uses these from now on.
    unsafe fn set_text(&self, at: *mut u8, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
        self.text.store(at, Ordering::Release);
    }

    fn trap(&self) -> Option<NegotiatedTrap> {
        // SAFETY: `set_trap` writes the value before it sets `ready`, and runs only once, so the value is initialized
        // and not written any more.
        self.ready.load(Ordering::Acquire).then(|| unsafe { (*self.trap.get()).assume_init() })
    }

    /// Takes the memory for the last text; only the first call gets it.
    fn take_text(&self) -> Option<(*mut u8, u64)> {
        let at = self.text.swap(ptr::null_mut(), Ordering::AcqRel);
        (!at.is_null()).then(|| (at, self.offset.load(Ordering::Relaxed)))
    }
}

/// The maximum length of the last text and of a line of the log, in bytes.
const TEXT: usize = MAX_TEXT as usize;

/// Writes text to a buffer. A write that exceeds it is truncated between two characters, and fails.
struct Truncated<'b> {
    bytes: &'b mut [u8],
    len: usize,
}

impl Write for Truncated<'_> {
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

/// Runs a vCPU of a guest from its entry to its exit. [`entry!`](crate::entry) calls it.
///
/// # Safety
///
/// It is called once on each vCPU, with the address of that vCPU's boot block (ABI, "Boot block"). The first vCPU calls
/// it first, and the others after the first has trapped with `READY`. The region that the block names is mapped and
/// laid out as the ABI says (ABI, "Region header"), and the host handles traps of the method that the block names.
#[doc(hidden)]
pub unsafe fn run<S: Serve, const GRANULES: usize>(
    storage: &'static GuestStorage<S, NegotiatedTrap, GRANULES>,
    server: impl FnOnce() -> S,
    start: Option<fn(&Peer)>,
    boot: *const u64,
) -> ! {
    // SAFETY: the caller has promised that `boot` is the address of a boot block, `Boot::LEN` bytes, 64-byte aligned,
    // which belongs to the guest.
    let words = unsafe { boot.cast::<[u64; Boot::LEN / 8]>().read() };
    let Some(boot) = Boot::from_words(words) else { crash() };
    // SAFETY: the caller has promised that the host handles traps of the method in the boot block.
    let trap = unsafe { NegotiatedTrap::new(boot.way) };
    let guest = match storage.guest() {
        Some(guest) => guest,
        None if boot.cpu == 0 => {
            // SAFETY: the caller has promised that each vCPU runs this function once, and the first vCPU first, so this
            // is the only call and no other vCPU runs.
            unsafe { EXIT_STATE.set_trap(trap) };
            let base = ptr::with_exposed_provenance_mut(boot.region as usize);
            // SAFETY: the caller has promised that `region_len` bytes of a region are mapped at `base` for as long as the guest
            // runs, and that its header is not writable for the guest (ABI, B-4 and R-4).
            unsafe { seed::set_header(base, boot.region_len) };
            // SAFETY: the caller has promised that `region_len` bytes of a region are mapped at `base` for as long as
            // the guest runs (ABI, B-2 and B-4). In this program only `storage` uses them, which is connected once.
            let region = unsafe { RegionMemory::permanent(base, boot.region_len) };
            match Guest::connect(storage, region, trap, server()) {
                Ok(guest) => guest,
                Err(error) => {
                    // SAFETY: the caller has promised that `region_len` bytes of a region are mapped at `base`.
                    if let Ok(layout) = unsafe { RegionLayout::read_header(base, boot.region_len) }
                    {
                        let (offset, _) = layout.arena(Side::Guest);
                        // The guest is not connected, so the arena is unused, and its first bytes can hold the text.
                        // SAFETY: `read_header` has checked that the arenas of the layout are in the `region_len` bytes
                        // at `base`, and that each has at least one page, which is more than `TEXT` bytes.
                        let at = unsafe { base.add(offset as usize) };
                        // SAFETY: the first `TEXT` bytes of the arena are valid for writes. `connect` has failed, so
                        // nothing else in this program uses the arena, now or later.
                        unsafe { EXIT_STATE.set_text(at, offset) };
                    }
                    exit(status::UNCONNECTED, format_args!("{error}"))
                }
            }
        }
        None => exit_by(&trap, status::UNCONNECTED, Transport::EMPTY),
    };
    if boot.cpu == 0 {
        reserve_text(guest);
        set_up_log(&guest.peer, boot.log);
        if let Some(start) = start {
            start(guest.host());
        }
    }
    match guest.park() {
        Ok(()) => guest.exit(0),
        Err(error) => exit(status::UNCONNECTED, format_args!("{error}")),
    }
}

/// Ends the guest by an invalid instruction, if no trap is available.
fn crash() -> ! {
    loop {
        // The host stops the guest then; if it resumes the guest, the loop repeats.
        native::invalid_instruction();
    }
}

/// Allocates the block for the last text, since the arena may be full when it is needed.
fn reserve_text(guest: &'static Guest<NegotiatedTrap>) {
    let memory = guest.peer.memory();
    if let Ok(block) = memory::alloc(guest.peer.own(), TEXT) {
        let (at, offset) = (memory.address(Side::Guest, block), memory.offset(Side::Guest, block));
        // SAFETY: `alloc` has just returned this block of `TEXT` bytes in the guest's arena, which is never freed and
        // to which nothing else has a handle. The region is mapped as long as the program runs.
        unsafe { EXIT_STATE.set_text(at, offset) };
    }
}

/// Ends the guest with a status: 0 for success, any other as the guest defines it, except 101 (a panic) and 102 (not
/// connected). The host gets the text, truncated to 1,024 bytes, in `GuestExit::Exited`.
///
/// In a guest whose entry point is not that of [`entry!`](crate::entry), it executes an invalid instruction instead.
pub fn exit(status: u64, text: fmt::Arguments<'_>) -> ! {
    let Some(trap) = EXIT_STATE.trap() else { crash() };
    let mut transport = Transport::EMPTY;
    // If formatting the text panics, the nested `exit` does not get the memory, and ends the guest without a text.
    if let Some((at, offset)) = EXIT_STATE.take_text() {
        // SAFETY: callers of `set_text` have promised `TEXT` bytes that nothing else uses, and `take_text` returns them
        // once, so this is the only reference. The host only reads them, after the trap.
        let bytes = unsafe { core::slice::from_raw_parts_mut(at, TEXT) };
        let mut truncated = Truncated { bytes, len: 0 };
        let _ = truncated.write_fmt(text); // an error means that it is truncated
        if truncated.len != 0 {
            transport = Transport { primary: offset, secondary: truncated.len as u64 };
        }
    }
    exit_by(&trap, status, transport)
}

/// Ends the guest after a panic. [`panic_handler!`](crate::panic_handler) calls it.
#[doc(hidden)]
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    let message = info.message();
    match info.location() {
        Some(location) => exit(status::PANICKED, format_args!("at {location}: {message}")),
        None => exit(status::PANICKED, format_args!("{message}")),
    }
}

/// The guest's logger: it sends each record in one call (ABI, "Log").
struct Logger {
    host: AtomicPtr<Peer>,
}

static LOGGER: Logger = Logger { host: AtomicPtr::new(ptr::null_mut()) };

/// Sets up the logger, with the host's level.
fn set_up_log(host: &'static Peer, level: u32) {
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
        // SAFETY: the pointer is null, or `set_up_log` has stored it, from a `&'static Peer`; it is never changed back.
        let host = unsafe { self.host.load(Ordering::Acquire).as_ref() };
        if let (Some(host), true) = (host, self.enabled(record.metadata())) {
            let _ = send(host, record); // `Log::log` cannot report errors
        }
    }

    fn flush(&self) {}
}

fn send(host: &Peer, record: &log::Record<'_>) -> Result<(), CallError> {
    let mut bytes = [0; TEXT];
    // The length of the target is sent as one byte.
    let mut target = Truncated { bytes: &mut bytes[2..2 + 255], len: 0 };
    let _ = target.write_str(record.target()); // an error means that it is truncated
    let target_len = target.len;
    bytes[0] = record.level() as u8;
    bytes[1] = target_len as u8;
    let mut text = Truncated { bytes: &mut bytes[2 + target_len..], len: 0 };
    let _ = text.write_fmt(*record.args());
    let len = 2 + target_len + text.len;
    let mut out = host.outgoing();
    let line = out.lend_bytes(&bytes[..len])?;
    host.ask(out, signature::LOG, line)
}
