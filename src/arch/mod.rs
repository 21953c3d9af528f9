//! How a guest traps: one file an architecture, all behind [`Trap`].
