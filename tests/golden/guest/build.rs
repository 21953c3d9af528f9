//! Links the programs as guests.

fn main() {
    vmffi::build::link();
}
