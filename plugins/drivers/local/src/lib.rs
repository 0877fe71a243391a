//! Driver: a machine is a scratch directory and a process group on this host.
