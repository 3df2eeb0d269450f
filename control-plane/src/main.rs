//! FastGate.

fn main() {}
