//! GitLab as a runner sees it: register, request a job, trace, update; and which jobs wait.
