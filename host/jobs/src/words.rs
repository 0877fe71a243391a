//! The lines a runner itself writes into a trace, as GitLab shows them.

use std::time::Duration;

/// Ends every colour.
const RESET: &str = "\x1b[0;m";
/// Clears the line; GitLab begins a runner's line with it.
const CLEAR: &str = "\x1b[0K";
const GREEN: &str = "\x1b[32;1m";
const RED: &str = "\x1b[31;1m";
const CYAN: &str = "\x1b[36;1m";
const YELLOW: &str = "\x1b[0;33m";
const BOLD_YELLOW: &str = "\x1b[33;1m";

/// Opens a collapsible section. `at` is in seconds since the epoch.
pub(crate) fn section_start(at: u64, name: &str) -> String {
    format!("section_start:{at}:{name}\r{CLEAR}")
}

/// Closes a section.
pub(crate) fn section_end(at: u64, name: &str) -> String {
    format!("section_end:{at}:{name}\r{CLEAR}")
}

/// A section's title.
pub(crate) fn title(text: &str) -> String {
    format!("{CLEAR}{CYAN}{text}{RESET}{RESET}\n")
}

/// A plain line.
pub(crate) fn plain(text: &str) -> String {
    format!("{CLEAR}{text}{RESET}\n")
}

/// Good news.
pub(crate) fn good(text: &str) -> String {
    format!("{GREEN}{text}{RESET}\n")
}

/// What a script is about to do; without the end of the line.
pub(crate) fn notice(text: &str) -> String {
    format!("{GREEN}{text}{RESET}")
}

/// A warning.
pub(crate) fn warning(text: &str) -> String {
    format!("{YELLOW}WARNING: {text}{RESET}\n")
}

/// An error.
pub(crate) fn error(text: &str) -> String {
    format!("{RED}ERROR: {text}{RESET}\n")
}

/// What is said of a service that does not come up.
pub(crate) fn service_warning(service: &str, why: &str, log: &str) -> String {
    format!(
        "\n{YELLOW}*** WARNING:{RESET} Service {service} probably didn't start properly.\n\n\
         Health check error:\n{why}\n\n\
         Service container logs:\n{log}\n\n\
         {YELLOW}*********{RESET}\n\n"
    )
}

/// What stands in place of output beyond the limit, in bytes.
pub(crate) fn limit_exceeded(limit: u64) -> String {
    format!(
        "\n{BOLD_YELLOW}Job's log exceeded limit of {limit} bytes.\n\
         Job execution will continue but no more output will be collected.{RESET}\n"
    )
}

/// A duration as Go prints it: `1h0m0s`, `5m0s`, `1.5s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let total = duration.as_secs();
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    let millis = duration.subsec_millis();
    let fraction = match format!("{millis:03}").trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    };
    match (hours, minutes, seconds) {
        (0, 0, 0) if millis > 0 => format!("{millis}ms"),
        (0, 0, _) => format!("{seconds}{fraction}s"),
        (0, _, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_gitlab_prints_them() {
        let cases = [
            (
                section_start(1_560_896_352, "get_sources"),
                "section_start:1560896352:get_sources\r\x1b[0K",
            ),
            (section_end(9, "x"), "section_end:9:x\r\x1b[0K"),
            (title("T"), "\x1b[0K\x1b[36;1mT\x1b[0;m\x1b[0;m\n"),
            (plain("p"), "\x1b[0Kp\x1b[0;m\n"),
            (good("Job succeeded"), "\x1b[32;1mJob succeeded\x1b[0;m\n"),
            (warning("w"), "\x1b[0;33mWARNING: w\x1b[0;m\n"),
            (
                error("Job failed: exit code 1"),
                "\x1b[31;1mERROR: Job failed: exit code 1\x1b[0;m\n",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (millis, text) in [
            (3_600_000, "1h0m0s"),
            (300_000, "5m0s"),
            (1_500, "1.5s"),
            (250, "250ms"),
            (0, "0s"),
            (61_000, "1m1s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
