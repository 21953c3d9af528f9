//! Builds the guest that the service contains.
fn main() {
    vmffi::build::Guest::new("guest").locked().build();
}
