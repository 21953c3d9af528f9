//! Threads as vCPUs: the traps of a guest thread are taken by its SIGSEGV handler.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::{mem, ptr};

use vmffi::abi::{Registers, Transport, TrapMethod, trap};
use vmffi::arch::x86_64::{Doorbell, Gate, NegotiatedTrap, Out, code};

/// The port at which traps are taken. That a process may not write to it is the kernel's
/// default; nothing here asks for permission (`ioperm`).
pub const PORT: u16 = 0x0560;

/// Where in its page the doorbell is.
const DOORBELL_OFFSET: u64 = 0x40;

type OnTrap = Box<dyn FnMut(Registers) -> Registers>;

thread_local! {
    /// The host function of the guest that runs on this thread.
    static HOST: RefCell<Option<OnTrap>> = const { RefCell::new(None) };
}

/// Runs `guest` on this thread, with `on_trap` as its host: called for each trap, inside the
/// signal handler, and what it returns goes back.
///
/// Traps are synchronous: the signal comes from our own instruction, so this thread holds no
/// lock and is in the middle of no allocation, and `on_trap` may do what ordinary code may
/// (lock, allocate, wait for another thread). It may not trap, and a panic in it ends the
/// program.
pub fn as_guest<R>(
    on_trap: impl FnMut(Registers) -> Registers + 'static,
    guest: impl FnOnce() -> R,
) -> R {
    /// Takes the host away, also when the guest panics.
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

/// A trap by way of [`PORT`], for guests.
pub fn out() -> Out<PORT> {
    // SAFETY: `on_fault` claims PORT on threads with a host, steps over the instruction,
    // changes RAX, RBX, R8 and R9 and no memory of its own; on any other thread the
    // write ends the program. No process without special permission reaches a device.
    unsafe { Out::new() }
}

/// A trap by way of the doorbell, for guests.
pub fn doorbell() -> Doorbell {
    // SAFETY: `on_fault` claims the address on threads with a host, as it does PORT. No object
    // is there: the page has no permissions and is never unmapped.
    unsafe { Doorbell::new(doorbell_address()) }
}

std::arch::global_asm!(
    // A gate: it rings the doorbell, and changes all that a gate may change (ABI, Traps TR-20).
    ".pushsection .text.vmffi_traps_gate, \"ax\", @progbits",
    ".globl vmffi_traps_gate",
    ".hidden vmffi_traps_gate",
    "vmffi_traps_gate:",
    "mov rdx, [rip + {bell}]",
    "mov [rdx], rax",
    "mov rcx, -1",
    "mov rdx, -2",
    "mov rsi, -3",
    "mov rdi, -4",
    "mov r10, -5",
    "mov r11, -6",
    "push rcx",
    "add rsp, 8",
    "add cl, 1",
    "ret",
    ".popsection",
    bell = sym GATES_BELL,
);

/// The address of the doorbell, for the gate.
static GATES_BELL: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    fn vmffi_traps_gate();
}

/// A trap by way of a gate, for guests.
pub fn gate() -> NegotiatedTrap {
    GATES_BELL.store(doorbell_address(), Ordering::Relaxed);
    let address = vmffi_traps_gate as *const () as u64;
    // SAFETY: the code there is a gate: it rings the doorbell, as any guest may, and changes only what a gate may change.
    unsafe { NegotiatedTrap::new(TrapMethod::Gate(address)) }
}

/// The same, as its own type.
pub fn plain_gate() -> Gate {
    let _ = gate();
    // SAFETY: as above.
    unsafe { Gate::new(vmffi_traps_gate as *const () as u64) }
}

static DOORBELL: OnceLock<u64> = OnceLock::new();

/// The address of the doorbell. The first call installs the signal handler.
pub fn doorbell_address() -> u64 {
    *DOORBELL.get_or_init(|| {
        // SAFETY: a new private mapping, at a place of the kernel's choice, touches no other.
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
        // Not SA_ONSTACK: a host function wants more room than an alternate stack has. Not
        // SA_NODEFER: a fault inside the handler ends the program.
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: `action` is initialised, and `on_fault` has the type that SA_SIGINFO asks
        // for.
        let result = unsafe { libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()) };
        assert_eq!(result, 0, "no signal handler");

        page as u64 + DOORBELL_OFFSET
    })
}

/// The exit: every SIGSEGV of the program comes here.
extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a `siginfo_t` that lives as long as this call.
    let info = unsafe { &*info };
    // SAFETY: with SA_SIGINFO the third argument is a `ucontext_t`, on this thread's stack and
    // known to nobody else until we return.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let gregs = &mut context.uc_mcontext.gregs;

    let answered = trap_length(info, gregs).and_then(|length| {
        let seen = registers(gregs);
        let answer = HOST.try_with(|host| {
            let mut host = host.try_borrow_mut().ok()?;
            Some(host.as_mut()?(seen))
        });
        Some((length, answer.ok()??))
    });
    match answered {
        Some((length, answer)) => {
            set_registers(gregs, answer);
            gregs[libc::REG_RIP as usize] += length as libc::greg_t;
        }
        // Not a trap: the instruction runs once more, and crashes as it would have.
        None => {
            // SAFETY: SIG_DFL is an action for any signal.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// How long the faulting instruction is, if it is one of the traps: the agreed instruction, at
/// the agreed place.
fn trap_length(info: &libc::siginfo_t, gregs: &[libc::greg_t; 23]) -> Option<usize> {
    const GENERAL_PROTECTION: u64 = 13;
    const PAGE_FAULT: u64 = 14;
    /// A write, from user mode, to a page that is not there.
    const USER_WRITE: u64 = 0b110;

    let register = |index: c_int| gregs[index as usize] as u64;
    let at_rip = |code: &[u8]| {
        let rip = register(libc::REG_RIP) as *const u8;
        // SAFETY: asked only for faults that an instruction raised while it was executed, so
        // its first byte can be read; the others are looked at if all before them are equal.
        code.iter().enumerate().all(|(i, byte)| unsafe { rip.add(i).read() } == *byte)
    };
    match (register(libc::REG_TRAPNO), register(libc::REG_ERR)) {
        (GENERAL_PROTECTION, 0) => {
            let ours = register(libc::REG_RDX) as u16 == PORT && at_rip(&code::OUT);
            ours.then_some(code::OUT.len())
        }
        (PAGE_FAULT, USER_WRITE) => {
            // SAFETY: a page fault's `siginfo_t` has an address.
            let address = unsafe { info.si_addr() } as u64;
            let ours = DOORBELL.get() == Some(&address) && at_rip(&code::DOORBELL);
            ours.then_some(code::DOORBELL.len())
        }
        _ => None,
    }
}

fn registers(gregs: &[libc::greg_t; 23]) -> Registers {
    let register = |index: c_int| gregs[index as usize] as u64;
    Registers {
        kind: register(libc::REG_RAX),
        word: register(libc::REG_RBX),
        transport: Transport { primary: register(libc::REG_R8), secondary: register(libc::REG_R9) },
    }
}

fn set_registers(gregs: &mut [libc::greg_t; 23], answer: Registers) {
    for (index, value) in [
        (libc::REG_RAX, answer.kind),
        (libc::REG_RBX, answer.word),
        (libc::REG_R8, answer.transport.primary),
        (libc::REG_R9, answer.transport.secondary),
    ] {
        gregs[index as usize] = value as libc::greg_t;
    }
}

/// A guest on a thread of its own, driven from another as a vCPU is.
///
/// Its handler talks to the host through `std::sync::mpsc`, which is not async-signal-safe, and
/// need not be here (see [`as_guest`]). When the vCPU is dropped in a trap, that trap and all
/// later ones are claimed by nobody: they come back as they went.
pub struct TrapVcpu<R> {
    traps: Receiver<Registers>,
    answers: Sender<Registers>,
    guest: JoinHandle<R>,
}

impl<R: Send + 'static> TrapVcpu<R> {
    /// Starts `guest`, and gives its first trap.
    ///
    /// # Panics
    ///
    /// If the guest ends before it traps, with its panic if it has one.
    pub fn start(guest: impl FnOnce() -> R + Send + 'static) -> (Self, Registers) {
        let (to_host, traps) = channel();
        let (answers, from_host) = channel();
        let on_trap = move |seen: Registers| match to_host.send(seen) {
            Ok(()) => from_host.recv().unwrap_or(seen),
            // Nobody is there to complete the trap of a guest that ends.
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

    /// Completes the trap that the guest is in, and waits for its next.
    ///
    /// # Panics
    ///
    /// If the guest ends instead.
    pub fn resume(&mut self, answer: Registers) -> Registers {
        self.answers.send(answer).expect("the guest has ended");
        self.traps.recv().expect("the guest ended instead of trapping")
    }

    /// Completes the trap that the guest is in, and waits for its end.
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
