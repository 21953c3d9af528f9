//! Pools of guests, in processes and in virtual machines.

extern crate alloc;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod suite;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    suite::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("The pools are skipped: machines are for Linux on x86_64.");
}
