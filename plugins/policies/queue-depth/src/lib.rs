//! Policy: machines for the jobs that wait.
