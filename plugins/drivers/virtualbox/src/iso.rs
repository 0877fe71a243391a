//! An ISO 9660 image with Rock Ridge names, as small as one can be: a few files in its root.
//!
//! It is always the same bytes for the same files: all dates are the same day.

/// Bytes of a sector.
const SECTOR: usize = 2048;
/// The sectors before the first file: 16 of the system's, two descriptors, two path tables, the root.
const ROOT: usize = 20;
/// The date on everything: 1 January 2026.
const DATE: [u8; 7] = [126, 1, 1, 0, 0, 0, 0];

/// An image of this volume name, at most 32 bytes, with these files. Their names are at most 60
/// bytes long, and there are no more of them than a sector holds, which is eight at the least.
pub(crate) fn image(volume: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    // An ISO name each, in the order ISO names have.
    let mut files: Vec<(String, &str, &[u8])> = files
        .iter()
        .map(|&(name, bytes)| (iso_name(name), name, bytes))
        .collect();
    files.sort();
    let mut at = ROOT + 1;
    let mut root = Vec::new();
    let itself = susp_root();
    root.extend(record(ROOT, SECTOR, true, &[0], &itself));
    root.extend(record(ROOT, SECTOR, true, &[1], &posix(true)));
    let mut data = Vec::new();
    for (iso, name, bytes) in &files {
        let mut system_use = posix(false);
        system_use.extend(alternate_name(name));
        root.extend(record(at, bytes.len(), false, iso.as_bytes(), &system_use));
        data.extend_from_slice(bytes);
        data.resize(data.len().next_multiple_of(SECTOR), 0);
        at = ROOT + 1 + data.len() / SECTOR;
    }
    // Readers expect a little room after the last file.
    let sectors = at + 150;
    let mut image = vec![0; 16 * SECTOR];
    image.extend(primary(volume, sectors));
    image.extend(sector(&[b"\xffCD001\x01"]));
    image.extend(sector(&[&path_table(u32::to_le_bytes, u16::to_le_bytes)]));
    image.extend(sector(&[&path_table(u32::to_be_bytes, u16::to_be_bytes)]));
    image.extend(sector(&[&root]));
    image.extend(data);
    image.resize(sectors * SECTOR, 0);
    image
}

/// Bytes filled up to a sector.
fn sector(parts: &[&[u8]]) -> Vec<u8> {
    let mut sector = parts.concat();
    sector.resize(SECTOR, 0);
    sector
}

fn primary(volume: &str, sectors: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(SECTOR);
    text.extend(b"\x01CD001\x01\0");
    text.extend(padded("", 32));
    text.extend(padded(volume, 32));
    text.extend([0; 8]);
    text.extend(both32(sectors));
    text.extend([0; 32]);
    text.extend(both16(1));
    text.extend(both16(1));
    text.extend(both16(SECTOR));
    text.extend(both32(10));
    text.extend(18_u32.to_le_bytes());
    text.extend([0; 4]);
    text.extend(19_u32.to_be_bytes());
    text.extend([0; 4]);
    text.extend(record(ROOT, SECTOR, true, &[0], &[]));
    // The set, the publisher, the preparer, the application, and three files.
    for width in [128, 128, 128, 128, 37, 37, 37] {
        text.extend(padded("", width));
    }
    let date = b"2026010100000000\0";
    text.extend(date);
    text.extend(date);
    let none = b"0000000000000000\0";
    text.extend(none);
    text.extend(none);
    text.push(1);
    sector(&[&text])
}

/// The one directory there is, at its sector, under itself.
fn path_table(long: fn(u32) -> [u8; 4], short: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mut table = vec![1, 0];
    table.extend(long(20));
    table.extend(short(1));
    table.extend([0, 0]);
    table
}

fn record(at: usize, length: usize, directory: bool, name: &[u8], system_use: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0];
    record.extend(both32(at));
    record.extend(both32(length));
    record.extend(DATE);
    record.push(if directory { 2 } else { 0 });
    record.extend([0, 0]);
    record.extend(both16(1));
    record.push(byte(name.len()));
    record.extend(name);
    if name.len().is_multiple_of(2) {
        record.push(0);
    }
    record.extend(system_use);
    if !record.len().is_multiple_of(2) {
        record.push(0);
    }
    record[0] = byte(record.len());
    record
}

/// What says that there are Rock Ridge names at all.
fn susp_root() -> Vec<u8> {
    let mut area = b"SP\x07\x01\xbe\xef\0".to_vec();
    area.extend(posix(true));
    area.extend(b"ER\x12\x01\x0a\0\0\x01RRIP_1991A");
    area
}

/// Modes: a directory to be looked into, a file to be read.
fn posix(directory: bool) -> Vec<u8> {
    let mode = if directory { 0o040_555 } else { 0o100_444 };
    let links = if directory { 2 } else { 1 };
    let mut area = b"PX\x24\x01".to_vec();
    for value in [mode, links, 0, 0] {
        area.extend(both32(value));
    }
    area
}

fn alternate_name(name: &str) -> Vec<u8> {
    let mut area = b"NM".to_vec();
    area.extend([byte(name.len() + 5), 1, 0]);
    area.extend(name.as_bytes());
    area
}

/// `user-data` as ISO 9660 itself has names: `USER_DAT.;1`.
fn iso_name(name: &str) -> String {
    let short = name.chars().take(8).map(|c| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
        _ => '_',
    });
    short.chain(".;1".chars()).collect()
}

fn padded(text: &str, width: usize) -> Vec<u8> {
    let mut field = text.as_bytes().to_vec();
    field.resize(width, b' ');
    field
}

/// A number as both kinds of machines write it.
fn both32(number: usize) -> [u8; 8] {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let mut both = [0; 8];
    both[..4].copy_from_slice(&number.to_le_bytes());
    both[4..].copy_from_slice(&number.to_be_bytes());
    both
}

fn both16(number: usize) -> [u8; 4] {
    let number = u16::try_from(number).unwrap_or(u16::MAX);
    let mut both = [0; 4];
    both[..2].copy_from_slice(&number.to_le_bytes());
    both[2..].copy_from_slice(&number.to_be_bytes());
    both
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn le32(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    /// Reads an image as a kernel does: the descriptor, the root, the alternate names.
    pub(crate) fn read(image: &[u8]) -> (String, BTreeMap<String, Vec<u8>>) {
        let primary = &image[16 * SECTOR..17 * SECTOR];
        assert_eq!(&primary[..6], b"\x01CD001");
        assert_eq!(le32(primary, 80) * SECTOR, image.len(), "it knows its size");
        let volume = String::from_utf8_lossy(&primary[40..72])
            .trim_end()
            .to_owned();
        let root = &primary[156..190];
        let (at, length) = (le32(root, 2) * SECTOR, le32(root, 10));
        let directory = &image[at..at + length];
        let mut files = BTreeMap::new();
        let mut offset = 0;
        while directory[offset] != 0 {
            let record = &directory[offset..offset + usize::from(directory[offset])];
            offset += record.len();
            let name_length = usize::from(record[32]);
            let mut area = &record[33 + name_length + usize::from(name_length.is_multiple_of(2))..];
            let mut name = None;
            while area.len() >= 4 {
                if &area[..2] == b"NM" {
                    name =
                        Some(String::from_utf8_lossy(&area[5..usize::from(area[2])]).into_owned());
                }
                area = &area[usize::from(area[2])..];
            }
            if let Some(name) = name {
                let (at, length) = (le32(record, 2) * SECTOR, le32(record, 10));
                files.insert(name, image[at..at + length].to_vec());
            }
        }
        (volume, files)
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let long = vec![b'x'; 5000];
        let files: [(&str, &[u8]); 4] = [
            ("user-data", b"#cloud-config\n"),
            ("meta-data", &long),
            ("network-config", b""),
            ("vendor-data", &[0; SECTOR]),
        ];
        let (volume, found) = read(&image("cidata", &files));
        assert_eq!(volume, "cidata");
        assert_eq!(found.len(), files.len());
        for (name, bytes) in files {
            assert_eq!(found[name], bytes, "{name}");
        }
    }

    #[test]
    fn the_same_files_are_the_same_bytes() {
        let files: [(&str, &[u8]); 2] = [("b", b"2"), ("a", b"1")];
        let turned = [files[1], files[0]];
        assert_eq!(image("cidata", &files), image("cidata", &turned));
    }
}
