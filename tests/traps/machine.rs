//! Threads as vCPUs: the SIGSEGV handler of a guest thread serves its traps.

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

/// The port for traps. By default the kernel does not let a process write to it, and nothing here
/// requests permission (`ioperm`).
pub const PORT: u16 = 0x0560;

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

/// A trap through [`PORT`], for guests.
pub fn out() -> Out<PORT> {
    // SAFETY: `on_fault` claims PORT on threads with a host, steps over the instruction,
    // changes RAX, RBX, R8 and R9 and no memory of its own; on any other thread the
    // write ends the program. No process without special permission reaches a device.
    unsafe { Out::new() }
}

/// A trap through the doorbell, for guests.
pub fn doorbell() -> Doorbell {
    // SAFETY: `on_fault` claims the address on threads with a host, as it does PORT. No object is
    // there: the page has no permissions and is never unmapped.
    unsafe { Doorbell::new(doorbell_address()) }
}

std::arch::global_asm!(
    // A gate: it stores to the doorbell, and changes all registers that a gate may change (ABI, Traps TR-20).
    ".pushsection .text.vmffi_traps_gate, \"ax\", @progbits",
    ".globl vmffi_traps_gate",
    ".hidden vmffi_traps_gate",
    "vmffi_traps_gate:",
    "mov rdx, [rip + {doorbell}]",
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
    doorbell = sym GATES_DOORBELL,
);

/// The address of the doorbell, for the gate.
static GATES_DOORBELL: AtomicU64 = AtomicU64::new(0);

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
        // SAFETY: `action` is initialised, and `on_fault` has the type that SA_SIGINFO
        // requires.
        let result = unsafe { libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()) };
        assert_eq!(result, 0, "no signal handler");

        page as u64 + DOORBELL_OFFSET
    })
}

/// The handler of every SIGSEGV of the program.
extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a `siginfo_t` that lives as long as this call.
    let info = unsafe { &*info };
    // SAFETY: with SA_SIGINFO the third argument is a `ucontext_t`, on this thread's stack, and
    // nothing else refers to it until the handler returns.
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
        // Not a trap: the instruction is executed again, and crashes as it would without the handler.
        None => {
            // SAFETY: SIG_DFL is a valid action for any signal.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// The length of the faulting instruction, if it is one of the traps: the negotiated instruction, at
/// the negotiated address.
fn trap_length(info: &libc::siginfo_t, gregs: &[libc::greg_t; 23]) -> Option<usize> {
    const GENERAL_PROTECTION: u64 = 13;
    const PAGE_FAULT: u64 = 14;
    /// A write, in user mode, to a page without permissions.
    const USER_WRITE: u64 = 0b110;

    let register = |index: c_int| gregs[index as usize] as u64;
    let at_rip = |code: &[u8]| {
        let rip = register(libc::REG_RIP) as *const u8;
        // SAFETY: called only for faults of an instruction during its execution, so its first
        // byte is readable; each further byte is read only if all before it are equal.
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
