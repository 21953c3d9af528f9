//! The process that machines are made in: what it may change about itself, and the effects. The guide's chapter on
//! the embedder's process has a table of them.
//!
//! Each case runs in a process of its own, since it changes state of the whole process: limits, identity,
//! signals. A case that does not end is killed and fails. If a backend cannot be used, its cases are listed as
//! ignored.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod suite {
    pub mod cases;
    pub mod checks;
    pub mod children;
    pub mod descriptors;
    pub mod drops;
    pub mod filters;
    pub mod forks;
    pub mod kills;
    pub mod limits;
    pub mod makes;
    pub mod namespaces;
    pub mod outside;
    pub mod signals;
    pub mod state;
    pub mod tools;
    pub mod users;
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    suite::cases::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("The cases are skipped: machines are for Linux on x86_64.");
}
