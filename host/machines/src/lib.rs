//! Reaches a machine: a process on this host.
