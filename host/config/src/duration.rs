//! Durations as Go writes them: `1h30m`, `3600s`, `1.5h`.

use std::time::Duration;

/// Reads one; `None` where it is none, is negative, or is longer than a `u64` has nanoseconds.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0_u64;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, after) = rest.split_at(number);
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        nanos = nanos.checked_add(part(amount, unit_nanos(unit)?)?)?;
        rest = after;
    }
    Some(Duration::from_nanos(nanos))
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    })
}

/// An amount such as `1.5` of a unit, in nanoseconds.
fn part(amount: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = match whole {
        "" => 0,
        _ => whole.parse::<u64>().ok()?.checked_mul(unit)?,
    };
    let mut scale = unit;
    let mut more = 0_u64;
    for digit in fraction.bytes() {
        scale /= 10;
        more += u64::from(digit - b'0') * scale;
    }
    whole.checked_add(more)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::time::Duration;

    #[test]
    fn durations_read_as_in_go() {
        for (text, millis) in [
            ("0", 0),
            ("3600s", 3_600_000),
            ("1h30m", 5_400_000),
            ("10m0s", 600_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("100ms", 100),
            ("+2s", 2_000),
            ("1000us", 1),
            ("1000µs", 1),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for wrong in [
            "",
            "1",
            "s",
            "1h30",
            "1h30min",
            "-1s",
            "1 h",
            ".s",
            "1.2.3s",
            "9999999999999h",
            "ß",
            "1d",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
