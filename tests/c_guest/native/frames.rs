//! Frames with the words of a trap in the memory of a traced process (ABI, Traps TR-14).

use std::{io, ptr};

use vmffi::abi::{Registers, Transport};

use super::Process;

/// Copies between a frame of the process and one of ours, by a system call that respects the permissions of its memory.
///
/// # Safety
///
/// `call` reads or writes at most what the first list names in this process.
unsafe fn copy(
    call: unsafe extern "C" fn(
        libc::pid_t,
        *const libc::iovec,
        libc::c_ulong,
        *const libc::iovec,
        libc::c_ulong,
        libc::c_ulong,
    ) -> isize,
    process: &Process,
    ours: &mut Registers,
    frame: u64,
) -> io::Result<()> {
    let len = size_of::<Registers>();
    let ours = libc::iovec { iov_base: ptr::from_mut(ours).cast(), iov_len: len };
    let theirs = libc::iovec { iov_base: frame as *mut _, iov_len: len };
    // SAFETY: the caller promises that the call changes only `ours`, which is borrowed.
    match unsafe { call(process.pid(), &ours, 1, &theirs, 1, 0) } {
        done if done == len as isize => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Copies the words from a frame, if it is one.
pub fn words(process: &Process, frame: u64) -> Option<Registers> {
    if frame % 32 != 0 {
        return None;
    }
    let mut words = Registers { kind: 0, word: 0, transport: Transport::EMPTY };
    // SAFETY: the call writes to the first list, whose memory has the length of the words, which are integers.
    unsafe { copy(libc::process_vm_readv, process, &mut words, frame) }.ok()?;
    // The guest stands: what is written is what is there, and shows that it can be written.
    write(process, frame, words).ok()?;
    Some(words)
}

/// Writes the words of an answer.
pub fn write(process: &Process, frame: u64, mut words: Registers) -> io::Result<()> {
    // SAFETY: the call reads from the first list.
    unsafe { copy(libc::process_vm_writev, process, &mut words, frame) }
}
