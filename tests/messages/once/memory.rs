//! Another macro of a guest program, alone, where the feature is missing.

vmffi::memory_functions!(); //~ 1: a guest program needs the feature `guest`

fn main() {}
