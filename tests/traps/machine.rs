//! Threads as vCPUs: the signal handler of a guest thread serves its traps.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::{mem, ptr};

use vmffi::abi::{Registers, TrapMethod, trap};
use vmffi::arch::NegotiatedTrap;

#[cfg_attr(target_arch = "aarch64", path = "native/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "native/riscv64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "native/x86_64.rs")]
mod native;

#[cfg(target_arch = "aarch64")]
pub use vmffi::arch::aarch64 as arch;
#[cfg(target_arch = "riscv64")]
pub use vmffi::arch::riscv64 as arch;
#[cfg(target_arch = "x86_64")]
pub use vmffi::arch::x86_64 as arch;

use arch::{Doorbell, Gate};
pub use native::*;

/// The offset of the doorbell in its page.
const DOORBELL_OFFSET: u64 = 0x40;

type OnTrap = Box<dyn FnMut(Registers) -> Registers>;

thread_local! {
    /// The host function of the guest that runs on this thread.
    static HOST: RefCell<Option<OnTrap>> = const { RefCell::new(None) };
}

/// Runs `guest` on this thread, with `on_trap` as its host: the signal handler calls it for each trap, and
/// its result is the answer.
///
/// Traps are synchronous: the signal comes from an instruction of this thread, which holds no
/// lock and is not within an allocation, and `on_trap` may do what ordinary code may
/// (lock, allocate, wait for another thread). It may not trap, and a panic in it ends the
/// program.
pub fn as_guest<R>(
    on_trap: impl FnMut(Registers) -> Registers + 'static,
    guest: impl FnOnce() -> R,
) -> R {
    /// Removes the host, also if the guest panics.
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            HOST.take();
        }
    }

    doorbell_address();
    let before = HOST.replace(Some(Box::new(on_trap)));
    let _leave = Leave;
    assert!(before.is_none(), "this thread is a guest already");
    guest()
}

/// A trap through the doorbell, for guests.
pub fn doorbell() -> Doorbell {
    // SAFETY: `on_fault` claims the address on threads with a host. No object is
    // there: the page has no permissions and is never unmapped.
    unsafe { Doorbell::new(doorbell_address()) }
}

/// The address of the doorbell, for the gate.
pub static GATES_DOORBELL: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    fn vmffi_traps_gate();
}

/// A trap through a gate, for guests.
pub fn gate() -> NegotiatedTrap {
    GATES_DOORBELL.store(doorbell_address(), Ordering::Relaxed);
    let address = vmffi_traps_gate as *const () as u64;
    // SAFETY: the code is a gate: it stores to the doorbell, as any guest may, and changes only registers that a gate may change.
    unsafe { NegotiatedTrap::new(TrapMethod::Gate(address)) }
}

/// The same trap, as a type of its own.
pub fn plain_gate() -> Gate {
    let _ = gate();
    // SAFETY: as above.
    unsafe { Gate::new(vmffi_traps_gate as *const () as u64) }
}

static DOORBELL: OnceLock<u64> = OnceLock::new();

/// The address of the doorbell. The first call installs the signal handler.
pub fn doorbell_address() -> u64 {
    *DOORBELL.get_or_init(|| {
        // SAFETY: a new private mapping, at an address that the kernel chooses, replaces no other.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                4096,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(page, libc::MAP_FAILED, "no page for the doorbell");

        // SAFETY: every field of `sigaction` is an integer, a set of bits or an optional
        // pointer; zeros are a value of each.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = on_fault as *const () as libc::sighandler_t;
        // Without SA_ONSTACK, since a host function needs more room than an alternate stack has; without
        // SA_NODEFER, so that a fault inside the handler ends the program.
        action.sa_flags = libc::SA_SIGINFO;
        for signal in SIGNALS {
            // SAFETY: `action` is initialised, and `on_fault` has the type that SA_SIGINFO
            // requires.
            let result = unsafe { libc::sigaction(*signal, &action, ptr::null_mut()) };
            assert_eq!(result, 0, "no signal handler");
        }

        page as u64 + DOORBELL_OFFSET
    })
}

/// Serves a trap whose words are in the frame at an address (ABI, Traps TR-14). Returns whether there is a host.
#[cfg(not(target_arch = "x86_64"))]
fn serve_frame(frame: u64, host: impl FnOnce(Registers) -> Option<Registers>) -> bool {
    assert_eq!(frame % 32, 0, "the frame is not aligned");
    let frame = ptr::with_exposed_provenance_mut::<Registers>(frame as usize);
    // SAFETY: the trap has the address of a frame on the stack of its thread, in which this handler runs.
    let Some(answer) = host(unsafe { frame.read_volatile() }) else { return false };
    // SAFETY: as above.
    unsafe { frame.write_volatile(answer) };
    true
}

/// The handler of [`SIGNALS`].
extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a `siginfo_t` that lives as long as this call.
    let info = unsafe { &*info };
    // SAFETY: with SA_SIGINFO the third argument is a `ucontext_t`, on this thread's stack, and
    // nothing else refers to it until the handler returns.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let served = serve(info, context, DOORBELL.get().copied(), |seen| {
        let answer = HOST.try_with(|host| {
            let mut host = host.try_borrow_mut().ok()?;
            Some(host.as_mut()?(seen))
        });
        answer.ok()?
    });
    if !served {
        // Not a trap: the instruction is executed again, and crashes as it would without the handler.
        // SAFETY: SIG_DFL is a valid action for any signal.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// A guest on a thread of its own, which another thread drives like a vCPU.
///
/// Its handler uses `std::sync::mpsc`, which is not async-signal-safe, and
/// need not be here (see [`as_guest`]). If the vCPU is dropped during a trap, that trap and all
/// later ones are not claimed: they return unchanged.
pub struct TrapVcpu<R> {
    traps: Receiver<Registers>,
    answers: Sender<Registers>,
    guest: JoinHandle<R>,
}

impl<R: Send + 'static> TrapVcpu<R> {
    /// Starts `guest`, and returns its first trap.
    ///
    /// # Panics
    ///
    /// If the guest ends before it traps, with its panic if it has one.
    pub fn start(guest: impl FnOnce() -> R + Send + 'static) -> (Self, Registers) {
        let (to_host, traps) = channel();
        let (answers, from_host) = channel();
        let on_trap = move |seen: Registers| match to_host.send(seen) {
            Ok(()) => from_host.recv().unwrap_or(seen),
            // No trap of a guest that ends is completed.
            Err(_) if seen.kind == trap::EXIT => loop {
                thread::park();
            },
            Err(_) => seen,
        };
        let guest = thread::spawn(|| as_guest(on_trap, guest));
        match traps.recv() {
            Ok(first) => (Self { traps, answers, guest }, first),
            Err(_) => {
                guest.join().unwrap_or_else(|panic| resume_unwind(panic));
                panic!("the guest ended before its first trap")
            }
        }
    }

    /// Completes the guest's trap, and waits for its next one.
    ///
    /// # Panics
    ///
    /// If the guest ends instead.
    pub fn resume(&mut self, answer: Registers) -> Registers {
        self.answers.send(answer).expect("the guest has ended");
        self.traps.recv().expect("the guest ended instead of trapping")
    }

    /// Completes the guest's trap, and waits for its end.
    ///
    /// # Panics
    ///
    /// If the guest traps again, or panics.
    pub fn finish(self, answer: Registers) -> R {
        self.answers.send(answer).expect("the guest has ended");
        if let Ok(seen) = self.traps.recv() {
            panic!("the guest trapped instead of ending: {seen:x?}");
        }
        self.guest.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}
