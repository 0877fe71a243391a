//! Every task a person runs: demo, test, plugins, sim.

fn main() {}
