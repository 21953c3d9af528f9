//! Builds the guest, and links the hypervisor to the addresses of its linker script.

// Each package is a workspace of its own, so the linker runs in its folder.
fn main() {
    vmffi::build::Guest::new("guest").target("aarch64-unknown-none-softfloat").build();
    println!("cargo:rustc-link-arg-bins=-Tlink.ld");
    println!("cargo:rerun-if-changed=link.ld");
}
