//! Links the guest without start-up code and libraries, since it has no operating system. One program has a fixed
//! address, one has none, and one has none and has packed relocations.
fn main() {
    for argument in ["-nostartfiles", "-nostdlib"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    // With constants in a segment of their own on all architectures.
    for argument in ["-static", "-no-pie", "-Wl,-z,separate-code"] {
        println!("cargo:rustc-link-arg-bin=fixed={argument}");
    }
    // On riscv64, GCC 12 names a dynamic linker with `-static-pie`, and its linker wants symbols that are not local looked up.
    let script = std::path::Path::new(&std::env::var("OUT_DIR").unwrap()).join("local");
    std::fs::write(&script, "{ local: *; };").unwrap();
    let local = format!("-Wl,--no-dynamic-linker,--version-script={}", script.display());
    for name in ["anywhere", "packed"] {
        for argument in ["-static-pie", &local] {
            println!("cargo:rustc-link-arg-bin={name}={argument}");
        }
    }
    println!("cargo:rustc-link-arg-bin=packed=-Wl,-z,pack-relative-relocs");
}
