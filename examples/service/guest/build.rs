//! A guest has no operating system below it: no start-up code of C, no libraries, nothing to be linked when it
//! begins.
fn main() {
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
