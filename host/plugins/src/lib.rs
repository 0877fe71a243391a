//! Loads, checks, limits and calls plugin components, and grants them capabilities.
