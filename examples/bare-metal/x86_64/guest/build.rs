//! Links the guest as the bytes of its memory, without a file format around them.

// Each package is a workspace of its own, so the linker runs in its folder.
fn main() {
    for argument in ["--no-pie", "--oformat=binary", "-Tlink.ld"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed=link.ld");
}
