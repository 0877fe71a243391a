//! The records of a zip as bytes: PKWARE's APPNOTE 6.3, with the extra fields that Info-ZIP and
//! GitLab Runner write (time in seconds, owner).

/// What is told in 32 bits is told in 64 where this stands.
const WIDE: u32 = u32::MAX;
/// An entry that may become larger than this, in bytes, has its sizes in 64 bits.
pub(crate) const NARROW: u64 = 0xF000_0000;
/// deflate.
pub(crate) const DEFLATED: u16 = 8;
/// Zstandard.
pub(crate) const ZSTD: u16 = 93;
/// As it is.
pub(crate) const STORED: u16 = 0;

/// One entry.
pub(crate) struct Entry {
    /// A directory's ends with a slash.
    pub(crate) name: Vec<u8>,
    /// With the bits of its sort.
    pub(crate) mode: u32,
    /// Seconds since the epoch.
    pub(crate) changed: i64,
    /// User and group.
    pub(crate) owner: (u32, u32),
    /// [`DEFLATED`], [`ZSTD`] or [`STORED`].
    pub(crate) method: u16,
    /// Whether its sizes stand in 64 bits.
    pub(crate) wide: bool,
    /// Whether checksum and sizes follow the data.
    pub(crate) later: bool,
    /// The checksum of what is unpacked.
    pub(crate) crc: u32,
    /// Bytes in the archive.
    pub(crate) packed: u64,
    /// Bytes unpacked.
    pub(crate) raw: u64,
    /// Where it begins.
    pub(crate) offset: u64,
}

impl Entry {
    /// What stands before the data.
    pub(crate) fn local(&self, to: &mut Vec<u8>) {
        let mut extra = Vec::with_capacity(48);
        if self.wide {
            put16(&mut extra, 1);
            put16(&mut extra, 16);
            put64(&mut extra, if self.later { 0 } else { self.raw });
            put64(&mut extra, if self.later { 0 } else { self.packed });
        }
        self.look(&mut extra);
        put32(to, 0x0403_4b50);
        self.head(to);
        put32(to, if self.later { 0 } else { self.crc });
        let size = |bytes| match (self.wide, self.later) {
            (true, _) => WIDE,
            (false, true) => 0,
            (false, false) => narrow(bytes),
        };
        put32(to, size(self.packed));
        put32(to, size(self.raw));
        put16(to, self.name.len());
        put16(to, extra.len());
        to.extend_from_slice(&self.name);
        to.extend_from_slice(&extra);
    }

    /// What follows the data where sizes come later.
    pub(crate) fn descriptor(&self, to: &mut Vec<u8>) {
        put32(to, 0x0807_4b50);
        put32(to, self.crc);
        if self.wide {
            put64(to, self.packed);
            put64(to, self.raw);
        } else {
            put32(to, narrow(self.packed));
            put32(to, narrow(self.raw));
        }
    }

    /// Its record in the directory at the end.
    pub(crate) fn central(&self, to: &mut Vec<u8>) {
        let far = self.offset >= u64::from(WIDE);
        let mut extra = Vec::with_capacity(56);
        if self.wide || far {
            put16(&mut extra, 1);
            put16(
                &mut extra,
                usize::from(self.wide) * 16 + usize::from(far) * 8,
            );
            if self.wide {
                put64(&mut extra, self.raw);
                put64(&mut extra, self.packed);
            }
            if far {
                put64(&mut extra, self.offset);
            }
        }
        self.look(&mut extra);
        put32(to, 0x0201_4b50);
        // Made on Unix.
        put16(to, 3 << 8 | self.version());
        self.head(to);
        put32(to, self.crc);
        let size = |bytes| if self.wide { WIDE } else { narrow(bytes) };
        put32(to, size(self.packed));
        put32(to, size(self.raw));
        put16(to, self.name.len());
        put16(to, extra.len());
        // No comment, the first disk, no inner attributes.
        to.extend_from_slice(&[0; 6]);
        let directory = u32::from(self.name.ends_with(b"/"));
        put32(to, self.mode << 16 | directory << 4);
        put32(to, if far { WIDE } else { narrow(self.offset) });
        to.extend_from_slice(&self.name);
        to.extend_from_slice(&extra);
    }

    /// What both records begin with.
    fn head(&self, to: &mut Vec<u8>) {
        put16(to, self.version());
        let text = !self.name.is_ascii() && std::str::from_utf8(&self.name).is_ok();
        put16(to, usize::from(self.later) << 3 | usize::from(text) << 11);
        put16(to, usize::from(self.method));
        let (date, time) = dos(self.changed);
        put16(to, usize::from(time));
        put16(to, usize::from(date));
    }

    fn version(&self) -> usize {
        if self.wide || self.offset >= u64::from(WIDE) {
            45
        } else {
            20
        }
    }

    /// Time and owner.
    fn look(&self, to: &mut Vec<u8>) {
        put16(to, 0x5455);
        put16(to, 5);
        to.push(1);
        let most = i64::from(i32::MAX);
        let seconds = i32::try_from(self.changed.clamp(-most, most)).unwrap_or(0);
        to.extend_from_slice(&seconds.to_le_bytes());
        put16(to, 0x7875);
        put16(to, 11);
        to.extend_from_slice(&[1, 4]);
        put32(to, self.owner.0);
        to.push(4);
        put32(to, self.owner.1);
    }
}

/// What an archive ends with: how many entries, and where their directory is.
pub(crate) fn end(entries: u64, size: u64, offset: u64) -> Vec<u8> {
    let mut to = Vec::with_capacity(98);
    let many = entries >= 0xffff;
    if many || size >= u64::from(WIDE) || offset >= u64::from(WIDE) {
        put32(&mut to, 0x0606_4b50);
        put64(&mut to, 44);
        put16(&mut to, 3 << 8 | 45);
        put16(&mut to, 45);
        to.extend_from_slice(&[0; 8]);
        for value in [entries, entries, size, offset] {
            put64(&mut to, value);
        }
        put32(&mut to, 0x0706_4b50);
        put32(&mut to, 0);
        put64(&mut to, offset + size);
        put32(&mut to, 1);
    }
    put32(&mut to, 0x0605_4b50);
    to.extend_from_slice(&[0; 4]);
    let count = usize::try_from(entries).unwrap_or(usize::MAX).min(0xffff);
    put16(&mut to, count);
    put16(&mut to, count);
    put32(&mut to, narrow(size));
    put32(&mut to, narrow(offset));
    put16(&mut to, 0);
    to
}

/// A date and a time as MS-DOS had them, in UTC as Go writes them: 1980 to 2107.
fn dos(seconds: i64) -> (u16, u16) {
    let seconds = seconds.clamp(315_532_800, 4_354_819_198);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let date = (year - 1980) << 9 | month << 5 | day;
    let time = (rest / 3600) << 11 | (rest / 60 % 60) << 5 | (rest % 60 / 2);
    (
        u16::try_from(date).unwrap_or(0),
        u16::try_from(time).unwrap_or(0),
    )
}

/// The year, month and day of a day since 1970-01-01 (Howard Hinnant's algorithm).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(WIDE)
}

fn put16(to: &mut Vec<u8>, value: usize) {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    to.extend_from_slice(&value.to_le_bytes());
}

fn put32(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_le_bytes());
}

fn put64(to: &mut Vec<u8>, value: u64) {
    to.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_ms_dos_did() {
        // 2024-02-29 13:37:42, then what lies before and after MS-DOS's years.
        let day = 44 << 9 | 2 << 5 | 29;
        assert_eq!(dos(1_709_213_862), (day, 13 << 11 | 37 << 5 | 21));
        assert_eq!(dos(0), (1 << 5 | 1, 0));
        assert_eq!(
            dos(i64::MAX),
            (127 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29)
        );
    }

    #[test]
    fn sizes_in_64_bits_are_read_by_others() {
        let mut entry = Entry {
            name: "größe".into(),
            mode: 0o100_640,
            changed: 1_709_213_862,
            owner: (1000, 1001),
            method: STORED,
            wide: true,
            later: true,
            crc: 0,
            packed: 0,
            raw: 0,
            offset: 0,
        };
        let mut bytes = Vec::new();
        entry.local(&mut bytes);
        bytes.extend_from_slice(b"content");
        (entry.crc, entry.packed, entry.raw) = (crc32fast::hash(b"content"), 7, 7);
        entry.descriptor(&mut bytes);
        let offset = bytes.len() as u64;
        entry.central(&mut bytes);
        bytes.extend(end(1, bytes.len() as u64 - offset, offset));
        let archive = rawzip::ZipArchive::from_slice(&bytes).unwrap();
        let record = archive.entries().next().unwrap().unwrap();
        assert_eq!(record.uncompressed_size_hint(), 7);
        assert_eq!(record.external_attributes() >> 16, 0o100_640);
        let content = archive.get_entry(record.wayfinder()).unwrap();
        assert_eq!(content.data(), b"content");
        let told = content.data_descriptor().unwrap().unwrap();
        assert_eq!((told.crc32(), told.compressed_size()), (entry.crc, 7));
    }
}
