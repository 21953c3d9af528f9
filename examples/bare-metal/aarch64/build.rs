//! Builds the guest, and links the hypervisor to the addresses of its linker script.

fn main() {
    vmffi::build::Guest::new("guest").target("aarch64-unknown-none-softfloat").build();
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    println!("cargo:rustc-link-arg-bins=-T{folder}/link.ld");
    println!("cargo:rerun-if-changed=link.ld");
}
