//! Keeps one virtual machine, as long as it runs. KVM patches the kernel's code when its first machine begins and when its
//! last one ends, and QEMU with several threads does not always execute the patched code at once.

use std::{fs::File, io, os::fd::AsRawFd, thread};

unsafe extern "C" {
    fn ioctl(fd: i32, request: u64, argument: u64) -> i32;
}

const KVM_CREATE_VM: u64 = 0xae01;

fn main() -> io::Result<()> {
    let kvm = File::options().read(true).write(true).open("/dev/kvm")?;
    // SAFETY: `KVM_CREATE_VM` takes a machine type by value, and accesses no memory of this process.
    if unsafe { ioctl(kvm.as_raw_fd(), KVM_CREATE_VM, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    loop {
        thread::park();
    }
}
