//! A guest has no operating system below it: no start-up code of C, no libraries. One lies at a fixed
//! address, one anywhere, and one anywhere with packed relocations.
fn main() {
    for argument in ["-nostartfiles", "-nostdlib"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    for argument in [
        "fixed=-static",
        "fixed=-no-pie",
        "anywhere=-static-pie",
        "packed=-static-pie",
        "packed=-Wl,-z,pack-relative-relocs",
    ] {
        println!("cargo:rustc-link-arg-bin={argument}");
    }
}
