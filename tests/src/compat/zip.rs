//! What is in a zip: the names in its directory. Nothing is unpacked; what is in the files a case
//! shows by a job that reads them.

use anyhow::{Context, Result, bail};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name; a directory's ends in `/`.
    pub name: String,
    /// Its mode as Unix has it.
    pub mode: u32,
}

impl Entry {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.name.ends_with('/')
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.mode & 0o170_000 == 0o120_000
    }
}

const END: &[u8] = b"PK\x05\x06";
const ENTRY: &[u8] = b"PK\x01\x02";

fn number(bytes: &[u8], at: usize, length: usize) -> Result<usize> {
    let found = bytes.get(at..at + length).context("the zip is cut off")?;
    Ok(found
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

/// The entries of a zip, in its order.
///
/// # Errors
/// Where it is none, or is of the sort for more than 65,535 entries.
pub fn entries(bytes: &[u8]) -> Result<Vec<Entry>> {
    let end = bytes
        .windows(END.len())
        .rposition(|window| window == END)
        .context("this is no zip")?;
    let count = number(bytes, end + 10, 2)?;
    let mut at = number(bytes, end + 16, 4)?;
    if count == 0xFFFF || at == 0xFFFF_FFFF {
        bail!("this zip is larger than the suite reads");
    }
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        if bytes.get(at..at + 4) != Some(ENTRY) {
            bail!("the zip's directory is broken");
        }
        let [name, extra, comment] = [28, 30, 32].map(|field| number(bytes, at + field, 2));
        let (name, extra, comment) = (name?, extra?, comment?);
        let mode = number(bytes, at + 40, 2)?;
        let text = bytes.get(at + 46..at + 46 + name);
        let text = text.context("the zip is cut off")?;
        found.push(Entry {
            name: String::from_utf8_lossy(text).into_owned(),
            mode: u32::try_from(mode)?,
        });
        at += 46 + name + extra + comment;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory, a file in it and a link to that, as Python writes them.
    const MADE: &str = "504b03041400000000000000210000000000000000000000000002000000642f504b0304140000080000000021\
        008316dc8c010000000100000008000000642fc3bc2e74787478504b030414000000000000002100f676125006\
        0000000600000006000000642f6c696e6bc3bc2e747874504b0102140314000000000000002100000000000000\
        000000000000020000000000000000001000ed4100000000642f504b01021403140000080000000021008316dc\
        8c0100000001000000080000000000000000000000a48120000000642fc3bc2e747874504b0102140314000000\
        000000002100f67612500600000006000000060000000000000000000000ffa147000000642f6c696e6b504b05\
        0600000000030003009a000000710000000000";

    #[test]
    fn names_and_links_are_read() {
        let pairs = MADE.as_bytes().chunks(2);
        let bytes: Vec<u8> = pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let found = entries(&bytes).unwrap();
        let names: Vec<&str> = found.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["d/", "d/ü.txt", "d/link"]);
        assert_eq!(
            found.iter().map(Entry::is_link).collect::<Vec<_>>(),
            [false, false, true]
        );
        assert!(found[0].is_directory());
        for broken in [&b"no zip"[..], &bytes[..20], b""] {
            assert!(entries(broken).is_err());
        }
    }
}
