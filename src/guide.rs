#![doc = include_str!("../docs/guide/README.md")]
