//! An autoscaler for GitLab CI runners.

fn main() {}
