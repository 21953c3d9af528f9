//! Links the guest without start-up code and libraries, since it has no operating system. One program has a fixed
//! address, one has none, and one has none and has packed relocations.
fn main() {
    for argument in ["-nostartfiles", "-nostdlib"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    for argument in [
        "fixed=-static",
        "fixed=-no-pie",
        "anywhere=-static-pie",
        "packed=-static-pie",
        // GCC 12 names a dynamic linker on riscv64 all the same.
        "anywhere=-Wl,--no-dynamic-linker",
        "packed=-Wl,--no-dynamic-linker",
        "packed=-Wl,-z,pack-relative-relocs",
    ] {
        println!("cargo:rustc-link-arg-bin={argument}");
    }
}
