//! The small program put on a machine.

fn main() {}
