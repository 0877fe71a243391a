//! Reads config.toml: GitLab Runner's own keys and Springtide's tables, with every problem at its line.
