//! Pools of guests, in processes and in virtual machines.

extern crate alloc;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod suite;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn main() -> std::process::ExitCode {
    suite::main()
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn main() {
    println!("The pools are skipped: machines are for Linux.");
}
