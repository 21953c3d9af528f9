//! A bare round trip of a process that is traced: resumed, waited for, the signal's cause, registers read
//! and written.

use nix::{
    libc::{PROT_EXEC, PROT_READ, PROT_WRITE},
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    sys::{
        mman::{MapFlags, ProtFlags, mmap_anonymous},
        ptrace,
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};

/// Stores to null, for ever.
const CODE: [u8; 7] = [0x31, 0xd2, 0x48, 0x89, 0x02, 0xeb, 0xfb];

struct Child(Pid);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

pub fn floor() -> impl FnMut(u64) {
    let protection = ProtFlags::from_bits_retain(PROT_READ | PROT_WRITE | PROT_EXEC);
    let len = std::num::NonZeroUsize::new(4096).expect("more than none");
    // SAFETY: new memory.
    let code = unsafe { mmap_anonymous(None, len, protection, MapFlags::MAP_PRIVATE) };
    let code = code.expect("memory").cast::<u8>();
    // SAFETY: a page has room for it.
    unsafe { code.as_ptr().copy_from_nonoverlapping(CODE.as_ptr(), CODE.len()) };
    // SAFETY: the child calls nothing that another thread may have locked.
    let child = match unsafe { fork() }.expect("a process") {
        ForkResult::Child => {
            let _ = ptrace::traceme();
            // SAFETY: there is code, which does not return.
            let run: extern "C" fn() -> ! = unsafe { std::mem::transmute(code.as_ptr()) };
            run()
        }
        ForkResult::Parent { child } => Child(child),
    };
    let mut here = CpuSet::new();
    here.set(sched_getcpu().expect("a processor")).expect("a processor");
    sched_setaffinity(child.0, &here).expect("a processor");
    let stop = |child: &Child| match waitpid(child.0, None) {
        Ok(WaitStatus::Stopped(_, Signal::SIGSEGV)) => {}
        other => panic!("{other:?}"),
    };
    stop(&child);
    move |round_trips| {
        for _ in 0..round_trips {
            let info = ptrace::getsiginfo(child.0).expect("a signal");
            assert_eq!(info.si_signo, Signal::SIGSEGV as i32);
            let mut registers = ptrace::getregs(child.0).expect("registers");
            registers.r8 += 1;
            ptrace::setregs(child.0, registers).expect("registers");
            ptrace::cont(child.0, None).expect("a child");
            stop(&child);
        }
    }
}
