use super::cases::Case;

pub const CASES: &[Case] = &[];
