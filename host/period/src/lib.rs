//! Is an instant in a period: the cron grammar of GitLab Runner's autoscaling sections.
