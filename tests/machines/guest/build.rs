//! A guest has no operating system below it: no start-up code of C, no libraries. One lies at a fixed
//! address, the other one anywhere.
fn main() {
    for argument in ["-nostartfiles", "-nostdlib"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    for argument in ["fixed=-static", "fixed=-no-pie", "anywhere=-static-pie"] {
        println!("cargo:rustc-link-arg-bin={argument}");
    }
}
