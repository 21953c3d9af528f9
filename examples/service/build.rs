//! Builds the guest that the service contains.
fn main() {
    vmffi::build::guest("guest");
}
