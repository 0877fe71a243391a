//! Texts of `[runners.docker]` that hold numbers, as Docker's own command line reads them.

use super::{Device, Gpus, Ulimit};
use std::collections::BTreeMap;

/// Bytes: `512m`, `1.5g`, `64KiB`, `4096`. Units are powers of 1024.
#[must_use]
pub fn bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(power);
    (bytes.is_finite() && bytes < 9e18).then_some(bytes as i64)
}

/// Billionths of a processor: `1.5` is 1,500,000,000.
#[must_use]
pub fn nano_cpus(text: &str) -> Option<i64> {
    let number: f64 = text.trim().parse().ok()?;
    let nano = (number * 1e9).round();
    (nano > 0.0 && nano < 1e15).then_some(nano as i64)
}

/// `/dev/x[:/dev/y[:rwm]]`.
#[must_use]
pub fn device(text: &str) -> Option<Device> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_mode = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, container] => (*host, *container, "rwm"),
        [host, container, mode] if is_mode(mode) => (*host, *container, *mode),
        _ => return None,
    };
    (host.starts_with('/') && container.starts_with('/')).then(|| Device {
        host: host.to_owned(),
        container: container.to_owned(),
        permissions: permissions.to_owned(),
    })
}

/// A limit by its name and `soft[:hard]`.
#[must_use]
pub fn ulimit(name: &str, text: &str) -> Option<Ulimit> {
    const NAMES: [&str; 16] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
        "as",
    ];
    let (soft, hard) = match text.split_once(':') {
        Some((soft, hard)) => (soft.parse().ok()?, hard.parse().ok()?),
        None => {
            let both: i64 = text.parse().ok()?;
            (both, both)
        }
    };
    let fits = hard == -1 || (soft != -1 && soft <= hard);
    (NAMES.contains(&name) && fits).then(|| Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

/// `all`, a count, or pairs such as `device=0,capabilities=utility`; a value with commas stands in
/// double quotes.
#[must_use]
pub fn gpus(text: &str) -> Option<Gpus> {
    let mut gpus = Gpus {
        capabilities: vec!["gpu".into()],
        ..Gpus::default()
    };
    let count = |text: &str| match text {
        "all" => Some(-1),
        number => number.parse().ok(),
    };
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    for field in fields(text)? {
        match field.split_once('=') {
            None => gpus.count = count(&field)?,
            Some(("count", value)) => gpus.count = count(value)?,
            Some(("device", value)) => gpus.ids = list(value),
            Some(("driver", value)) => gpus.driver = value.to_owned(),
            Some(("capabilities", value)) => gpus.capabilities.extend(list(value)),
            Some(("options", value)) => {
                let pairs = value.split(',').map(|pair| pair.split_once('='));
                let pairs: Option<BTreeMap<_, _>> = pairs
                    .map(|pair| pair.map(|(key, value)| (key.to_owned(), value.to_owned())))
                    .collect();
                gpus.options = pairs?;
            }
            Some(_) => return None,
        }
    }
    if gpus.count == 0 && gpus.ids.is_empty() {
        gpus.count = 1;
    }
    Some(gpus)
}

/// The fields of one line of comma-separated values.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut()?.push(c),
        }
    }
    let whole = !quoted && fields.iter().all(|field| !field.is_empty());
    whole.then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        let cases = [
            ("512m", Some(512 << 20)),
            ("512MB", Some(512 << 20)),
            ("1.5g", Some(3 << 29)),
            ("64KiB", Some(64 << 10)),
            ("4096", Some(4096)),
            ("4096b", Some(4096)),
            ("", None),
            ("m", None),
            ("5x", None),
            ("-1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected, "{text}");
        }
        assert_eq!(nano_cpus("1.5"), Some(1_500_000_000));
        assert_eq!(nano_cpus("none"), None);
        assert_eq!(nano_cpus("0"), None);
    }

    #[test]
    fn devices_and_limits_are_read_as_docker_reads_them() {
        let found = |text: &str| device(text).map(|d| (d.host, d.container, d.permissions));
        let some = |a: &str, b: &str, c: &str| Some((a.into(), b.into(), c.into()));
        assert_eq!(found("/dev/kvm"), some("/dev/kvm", "/dev/kvm", "rwm"));
        assert_eq!(found("/dev/kvm:r"), some("/dev/kvm", "/dev/kvm", "r"));
        assert_eq!(found("/dev/a:/dev/b"), some("/dev/a", "/dev/b", "rwm"));
        assert_eq!(found("/dev/a:/dev/b:rw"), some("/dev/a", "/dev/b", "rw"));
        assert_eq!(found("kvm"), None);
        assert_eq!(found("/dev/a:/dev/b:rx"), None);
        let found = |name: &str, text: &str| ulimit(name, text).map(|u| (u.soft, u.hard));
        assert_eq!(found("nofile", "1024:2048"), Some((1024, 2048)));
        assert_eq!(found("nofile", "99"), Some((99, 99)));
        assert_eq!(found("memlock", "-1:-1"), Some((-1, -1)));
        assert_eq!(found("nofile", "2:1"), None);
        assert_eq!(found("files", "1"), None);
    }

    #[test]
    fn gpus_are_read_as_docker_reads_them() {
        let all = gpus("all").expect("all");
        assert_eq!((all.count, all.capabilities), (-1, vec!["gpu".to_owned()]));
        let some = gpus("\"device=0,2\",capabilities=utility,driver=nvidia").expect("some");
        assert_eq!(some.ids, ["0", "2"]);
        assert_eq!(some.capabilities, ["gpu", "utility"]);
        assert_eq!(some.count, 0);
        assert_eq!(gpus("driver=nvidia").map(|found| found.count), Some(1));
        assert_eq!(gpus("many"), None);
        assert_eq!(gpus("colour=red"), None);
    }
}
