//! Timestamps at the beginning of each line of a trace, as GitLab reads them.
//!
//! A header is always as long, and where lines are parted does not depend on when their bytes came:
//! a trace that is written again has everything at the same place.

use std::time::SystemTime;

/// The bytes of a header, with the space or plus at its end.
pub(super) const HEADER: usize = 32;

/// A line that is longer is parted, in bytes.
const LONGEST: usize = 64 * 1024;

/// Who says something: the number of a stream in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// The runner.
    Runner,
    /// The job. Its two outputs are one stream.
    Job,
}

/// Puts headers before lines.
#[derive(Debug)]
pub(super) struct Stamper {
    held: Vec<u8>,
    /// Who began the line that is held.
    stream: Stream,
    /// Whether what comes next goes on with a line that was begun.
    goes_on: bool,
}

impl Stamper {
    /// One that begins after this byte.
    pub(super) fn after(last: Option<u8>) -> Self {
        Self {
            held: Vec::new(),
            stream: Stream::Runner,
            goes_on: last.is_some_and(|byte| byte != b'\n'),
        }
    }

    /// Appends to `out` all lines that are whole.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        stream: Stream,
        now: SystemTime,
        out: &mut Vec<u8>,
    ) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = LONGEST - self.held.len();
            let end = rest.iter().take(room).position(|byte| *byte == b'\n');
            let taken = end.map_or(rest.len().min(room), |at| at + 1);
            let (line, after) = rest.split_at(taken);
            if self.held.is_empty() {
                self.stream = stream;
            }
            self.held.extend_from_slice(line);
            rest = after;
            if end.is_some() || self.held.len() == LONGEST {
                self.flush(now, out);
            }
        }
    }

    /// Appends what is held of a line.
    pub(super) fn flush(&mut self, now: SystemTime, out: &mut Vec<u8>) {
        if self.held.is_empty() {
            return;
        }
        out.extend_from_slice(header(now, self.stream, self.goes_on).as_bytes());
        self.goes_on = self.held.last() != Some(&b'\n');
        out.append(&mut self.held);
    }
}

/// `2026-11-27T12:00:00.000000Z 00O `: when, the stream's number and kind, and whether the line goes
/// on with the one before.
fn header(now: SystemTime, stream: Stream, goes_on: bool) -> String {
    // A clock beyond the calendar is no reason to lose a line.
    let now = jiff::Timestamp::try_from(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let end = if goes_on { '+' } else { ' ' };
    let number = match stream {
        Stream::Runner => "00",
        Stream::Job => "01",
    };
    format!("{}Z {number}O{end}", now.strftime("%Y-%m-%dT%H:%M:%S%.6f"))
}

/// Whether a trace begins with a header.
pub(super) fn is_stamped(beginning: &[u8]) -> bool {
    let shape = b"0000-00-00T00:00:00.000000Z 00O";
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        shape => byte == shape,
    };
    beginning.len() >= HEADER && beginning.iter().zip(shape).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(42)
    }

    fn stamped(chunks: &[&str]) -> String {
        let (mut stamper, mut out) = (Stamper::after(None), Vec::new());
        for chunk in chunks {
            stamper.feed(chunk.as_bytes(), Stream::Runner, at(0), &mut out);
        }
        stamper.flush(at(0), &mut out);
        String::from_utf8(out)
            .expect("text")
            .replace("1970-01-01T00:00:00.000042Z 00O", "@")
    }

    #[test]
    fn a_header_is_as_gitlab_reads_it() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000042Z 00O "),
            (1_709_251_199, "2024-02-29T23:59:59.000042Z 00O "),
            (1_795_570_749, "2026-11-25T01:39:09.000042Z 00O "),
            (4_102_444_800, "2100-01-01T00:00:00.000042Z 00O "),
        ] {
            let header = header(at(seconds), Stream::Runner, false);
            assert_eq!(header, expected);
            assert_eq!(header.len(), HEADER);
            assert!(is_stamped(header.as_bytes()));
        }
        assert!(!is_stamped(
            b"\x1b[0KRunning with springtide 0.1.0 and so on"
        ));
        assert!(!is_stamped(b"2026-11-25"));
    }

    #[test]
    fn lines_are_stamped_wherever_their_bytes_are_parted() {
        let cases: [(&[&str], &str); 5] = [
            (&["a\nb\n"], "@ a\n@ b\n"),
            (&["a", "\n", "b\n"], "@ a\n@ b\n"),
            (&["a\n\n", ""], "@ a\n@ \n"),
            (&["no end"], "@ no end"),
            (&[""], ""),
        ];
        for (chunks, expected) in cases {
            assert_eq!(stamped(chunks), expected, "{chunks:?}");
        }
    }

    #[test]
    fn what_goes_on_says_so() {
        let (mut stamper, mut out) = (Stamper::after(Some(b'x')), Vec::new());
        stamper.feed(b"y\nz", Stream::Job, at(0), &mut out);
        stamper.flush(at(0), &mut out);
        stamper.feed(b"!\n", Stream::Runner, at(0), &mut out);
        let text = String::from_utf8(out).expect("text");
        let ends: Vec<&str> = text.split("Z 0").skip(1).map(|part| &part[..4]).collect();
        assert_eq!(ends, ["1O+y", "1O z", "0O+!"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_parted_at_the_same_place_whatever_its_chunks() {
        let long = "x".repeat(LONGEST + 10) + "\n";
        let whole = stamped(&[&long]);
        let (left, right) = long.split_at(LONGEST - 3);
        assert_eq!(stamped(&[left, right]), whole);
        assert_eq!(whole.matches('@').count(), 2);
        assert!(whole.ends_with("@+xxxxxxxxxx\n"));
    }
}
