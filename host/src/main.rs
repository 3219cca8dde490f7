//! The `plugnode` command.

fn main() {}
