//! Runs one job on one machine: scripts, trace, masking.
