//! A hostile guest against its host, on each kind of machine: each attack is a case with the outcome that it must
//! have. See `suite/mod.rs`.

extern crate alloc;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod suite;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn main() -> std::process::ExitCode {
    suite::main()
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn main() {
    println!("The attacks are skipped: they are for Linux.");
}
