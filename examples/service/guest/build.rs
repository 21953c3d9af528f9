//! How a guest is linked.
fn main() {
    vmffi::build::link();
}
