//! Measures calls to and from a real guest, beside a floor: a bare round trip by the same trap, made without the
//! crate in the same run.
//!
//! `cargo bench --bench machines` ends with a table. `cargo bench --bench machines -- calls kvm` makes 10,000
//! calls each way and nothing else, so that system calls can be counted; `-- round-trips` prints the first table only, and
//! `-- batches` compares only calls in batches with single ones.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod machines {
    mod batches;
    mod floor_kvm;
    mod floor_process;
    pub mod linux;
    mod lives;
    #[cfg_attr(target_arch = "aarch64", path = "native/aarch64.rs")]
    #[cfg_attr(target_arch = "riscv64", path = "native/riscv64.rs")]
    #[cfg_attr(target_arch = "x86_64", path = "native/x86_64.rs")]
    mod native;
}

fn main() {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    machines::linux::main();
    #[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
    println!("there are no machines here");
}
