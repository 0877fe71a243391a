//! The small program put on a machine: runs a job's work detached and spools its output.
