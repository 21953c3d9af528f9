//! One suite over three connections: the loopback, a process, a virtual machine.

extern crate alloc;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod suite;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn main() -> std::process::ExitCode {
    suite::main()
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn main() {
    println!("The machines are skipped: they are for Linux.");
}
