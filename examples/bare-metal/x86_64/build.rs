//! Builds the guest, and links the host to the addresses of its linker script.

// Each package is a workspace of its own, so the linker runs in its folder.
fn main() {
    vmffi::build::Guest::new("guest").target("x86_64-unknown-none").build();
    for argument in ["--no-pie", "-zmax-page-size=4096", "-Tlink.ld"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed=link.ld");
}
