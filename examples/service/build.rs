//! The service contains its guest.
fn main() {
    vmffi::build::Guest::new("guest").locked().build();
}
