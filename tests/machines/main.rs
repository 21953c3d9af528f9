//! One suite over three connections: the loopback, a process, a virtual machine.

extern crate alloc;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod suite;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    suite::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("The machines are skipped: they are for Linux on x86_64.");
}
