//! The service contains its guest.
fn main() {
    vmffi::build::guest("guest");
}
