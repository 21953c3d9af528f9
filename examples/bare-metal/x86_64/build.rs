//! Builds the guest, and links the host to the addresses of its linker script.

fn main() {
    vmffi::build::Guest::new("guest").target("x86_64-unknown-none").build();
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    for argument in ["--no-pie", "-zmax-page-size=4096", &format!("-T{folder}/link.ld")] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed=link.ld");
}
