//! The allocator against a plain model.
