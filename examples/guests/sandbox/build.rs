//! Links the guest.
fn main() {
    vmffi::build::link();
}
