//! Reading what `VBoxManage` writes: warnings before it, quotes and line ends in names, and the
//! differences between its versions do not matter.

use std::collections::BTreeMap;

/// The fields of `showvminfo --machinereadable`: `key="value"` or `key=value`, a key in quotes too.
/// A line that is neither is passed over.
pub(crate) fn fields(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        match field(rest) {
            Some((key, value, after)) => {
                // What comes twice, as a description that was made to look like fields, is not
                // what VirtualBox says first.
                fields.entry(key).or_insert(value);
                rest = after;
            }
            None => rest = after_line(rest),
        }
    }
    fields
}

fn field(text: &str) -> Option<(String, String, &str)> {
    let (key, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once("\"=")?,
        None => text.split_once('=')?,
    };
    if key.is_empty() || key.contains('\n') {
        return None;
    }
    let Some(quoted) = rest.strip_prefix('"') else {
        let value = rest.lines().next().unwrap_or_default();
        return Some((key.into(), value.trim_end().into(), after_line(rest)));
    };
    let (value, after) = value(quoted)?;
    Some((key.into(), value, after))
}

/// A value up to the quote that ends its line. Versions that escape write `\"` and `\\`.
fn value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.peek() {
                Some((_, escaped @ ('"' | '\\'))) => {
                    value.push(*escaped);
                    chars.next();
                }
                _ => value.push(c),
            },
            '"' => {
                let after = &text[at + 1..];
                let line = after.trim_start_matches('\r');
                if line.is_empty() {
                    return Some((value, ""));
                }
                if let Some(after) = line.strip_prefix('\n') {
                    return Some((value, after));
                }
                value.push('"');
            }
            _ => value.push(c),
        }
    }
    None
}

fn after_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

/// The names of `list vms`: lines `"name" {uuid}`.
pub(crate) fn names(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let (name, uuid) = line.trim_end().strip_prefix('"')?.rsplit_once("\" {")?;
            let uuid = uuid.strip_suffix('}')?;
            (uuid.len() == 36).then(|| name.to_owned())
        })
        .collect()
}

/// The pairs of `getextradata NAME enumerate`: lines `Key: KEY, Value: VALUE`.
pub(crate) fn extra(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.strip_prefix("Key: ")?.split_once(", Value: ")?;
            Some((key.to_owned(), value.trim_end_matches('\r').to_owned()))
        })
        .collect()
}

/// The blocks of `list hdds`, `list hostonlyifs` and their like: lines `Key:   value`, an empty line
/// between blocks. Blocks without `first` are none.
pub(crate) fn blocks(text: &str, first: &str) -> Vec<BTreeMap<String, String>> {
    let mut blocks: Vec<BTreeMap<String, String>> = Vec::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        if key == first {
            blocks.push(BTreeMap::new());
        }
        if let Some(block) = blocks.last_mut() {
            let value = value.trim().to_owned();
            block.entry(key.trim().to_owned()).or_insert(value);
        }
    }
    blocks
}

/// The ports of this host that rules forward, with the machine that has the rule, from
/// `list --long vms`.
pub(crate) fn forwarded(text: &str) -> Vec<(String, u16)> {
    let mut name = String::new();
    let mut ports = Vec::new();
    for line in text.lines() {
        if let Some(found) = line.strip_prefix("Name:  ") {
            name = found.trim().to_owned();
        } else if line.starts_with("NIC ")
            && line.contains(" Rule(")
            && let Some((_, rest)) = line.split_once("host port = ")
            && let Some(Ok(port)) = rest.split(',').next().map(|port| port.trim().parse())
        {
            ports.push((name.clone(), port));
        }
    }
    ports
}

/// The machines that have an interface, from `list --long vms`.
pub(crate) fn attached(text: &str) -> Vec<String> {
    let mark = "Host-only Interface '";
    text.lines()
        .filter(|line| line.starts_with("NIC "))
        .filter_map(|line| {
            let (_, rest) = line.split_once(mark)?;
            Some(rest.split_once('\'')?.0.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_whatever_stands_around_them() {
        let text = concat!(
            "WARNING: The character device /dev/vboxdrv does not exist.\n",
            "\t Please install the virtualbox-dkms package\n",
            "name=\"base \u{e9} \\\"q\\\" \\\\x\"\n",
            "raw=\"an old \"version\" does not escape\"\r\n",
            "memory=512\n",
            " rec_screen0\n",
            "\"SATA-0-0\"=\"/vms/a=b/disk.vdi\"\n",
            "description=\"two\nname=\"lines\"\n",
            "VMState=\"poweroff\"\n",
            "VMState=\"running\"\n",
        );
        let fields = fields(text);
        for (key, value) in [
            ("name", "base \u{e9} \"q\" \\x"),
            ("raw", "an old \"version\" does not escape"),
            ("memory", "512"),
            ("SATA-0-0", "/vms/a=b/disk.vdi"),
            ("description", "two\nname=\"lines"),
            ("VMState", "poweroff"),
        ] {
            assert_eq!(fields.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert_eq!(fields.len(), 6);
    }

    #[test]
    fn output_that_is_cut_short_is_read_up_to_there() {
        let cut = fields("name=\"a\"\nCfgFile=\"/vms/a");
        assert_eq!(cut.len(), 1);
        assert_eq!(fields("").len(), 0);
    }

    #[test]
    fn names_keep_their_quotes_and_spaces() {
        let text = concat!(
            "VBoxManage: warning: something\n",
            "\"base \u{e9} \"q\" \\x\" {2507c69e-0942-4ed9-91d3-f5c5901b59f1}\n",
            "\"own-0123\" {fbee5983-f243-4bc5-8496-992b07aba49b}\n",
            "\"not a machine\"\n",
        );
        assert_eq!(names(text), ["base \u{e9} \"q\" \\x", "own-0123"]);
    }

    #[test]
    fn extradata_may_hold_what_separates_it() {
        let found = extra("warning\nKey: a/b, Value: x, Value: y\nKey: c, Value: \n");
        assert_eq!(found["a/b"], "x, Value: y");
        assert_eq!(found["c"], "");
    }

    #[test]
    fn a_list_falls_into_blocks() {
        let text = concat!(
            "UUID:           3d5fa085\nLocation:       /a: b/base.vdi\n\n",
            "UUID:           2f4a6f89\nLocation:       /c.vdi\n",
        );
        let found = blocks(text, "UUID");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0]["Location"], "/a: b/base.vdi");
        assert_eq!(found[1]["Location"], "/c.vdi");
    }

    #[test]
    fn rules_and_interfaces_are_found_in_the_long_list() {
        let text = concat!(
            "Name:                        own-0123\n",
            "NIC 1:                       MAC: 0800, Attachment: NAT, Cable connected: on\n",
            "NIC 1 Rule(0):   name = springtide-ssh, protocol = tcp, host ip = 127.0.0.1, host port = 20022, guest ip = , guest port = 22\n",
            "NIC 2:                       MAC: 0800, Attachment: Host-only Interface 'vboxnet0', Cable connected: on\n",
            "Name:                        other\n",
            "NIC 1 Rule(0):   name = web, protocol = tcp, host ip = , host port = 8080, guest ip = , guest port = 80\n",
        );
        assert_eq!(
            forwarded(text),
            [("own-0123".to_owned(), 20022), ("other".to_owned(), 8080)]
        );
        assert_eq!(attached(text), ["vboxnet0"]);
    }
}
