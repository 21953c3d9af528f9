//! The guests of `examples/bare-metal`, unchanged, on a KVM that hands their hypercalls to user space: the vendor-specific
//! hypervisor services of SMCCC on aarch64, the experimental and the vendor extensions of SBI on riscv64. The host is
//! `StaticHost`, with vCPUs whose registers come from KVM.
//!
//! On x86_64 KVM hands no hypercalls of other hypervisors to user space: machines have a doorbell there.

#[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "riscv64")))]
mod cases;
#[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "riscv64")))]
mod machine;

#[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "riscv64")))]
fn main() -> std::process::ExitCode {
    cases::main()
}

#[cfg(not(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "riscv64"))))]
fn main() {
    println!("skipped: KVM forwards hypercalls of aarch64 and riscv64 only");
}
