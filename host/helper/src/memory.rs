//! What the kernel killed for want of memory, as the control group of a container counts it.

use std::path::Path;

/// Where a container sees its own control group: of the second version, and of the first.
const FILES: [&str; 2] = [
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
];

/// How many processes were killed since the container was started; 0 where nobody counts.
pub(crate) fn kills() -> u64 {
    let texts = FILES.map(|file| std::fs::read_to_string(Path::new(file)));
    let mut counts = texts.iter().flatten().filter_map(|text| count(text));
    counts.next().unwrap_or(0)
}

fn count(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let second = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        let first = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n";
        assert_eq!(count(second), Some(2));
        assert_eq!(count(first), Some(1));
        assert_eq!(count("oom_kill_disable 0\n"), None);
    }
}
