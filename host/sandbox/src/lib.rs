//! A GitLab to test against: the runner API as GitLab serves it, with faults and a list of violations.
