//! Links the guest as the bytes of its memory, without a file format around them.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    for argument in ["--no-pie", "--oformat=binary", &format!("-T{folder}/link.ld")] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed=link.ld");
}
