//! Archives there and back, and archives built to do harm.

mod tar;

use super::beneath::{Beneath, Refused};
use super::*;
use proptest::prelude::*;
use rawzip::path::EntryPath;
use rawzip::{CompressionMethod, ZipArchiveWriter};
use springtide_helper::{CacheFormat, Files, Level};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

const LINK: u32 = 0o120_777;
const FILE: u32 = 0o100_644;

/// A zip of entries: a name, a mode and a content.
fn zip(entries: &[(&[u8], u32, &[u8])]) -> File {
    let mut bytes = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut bytes);
    for (name, mode, content) in entries {
        let (mut entry, config) = archive
            .new_file(EntryPath::verbatim(*name))
            .compression_method(CompressionMethod::STORE)
            .unix_permissions(*mode)
            .start()
            .unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(content).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    file(&bytes)
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// A directory to unpack into, with one beside it that must stay as it is.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("into")).unwrap();
        std::fs::create_dir(folder.path().join("outside")).unwrap();
        Self { folder }
    }

    fn inside(&self) -> std::path::PathBuf {
        self.folder.path().join("into")
    }

    fn assert_nothing_outside(&self, case: &str) {
        let mut names: Vec<_> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["into", "outside"], "{case}");
        let outside = std::fs::read_dir(self.folder.path().join("outside")).unwrap();
        assert_eq!(outside.count(), 0, "{case}");
    }
}

#[test]
fn no_name_leads_out_and_nothing_of_such_an_archive_is_written() {
    let names: [&[u8]; 16] = [
        b"/etc/x",
        b"//x",
        b"../outside/x",
        b"..",
        b"../",
        b"a/../../outside/x",
        b"a/..",
        b"./../x",
        b"..\\outside\\x",
        b"a\\..\\..\\x",
        b"\\x",
        b"a\0b",
        b"",
        b"/",
        b"a/../../outside/",
        &[b'n'; 256],
    ];
    for name in names {
        let case = shown(name);
        for by_kernel in [true, false] {
            let place = Place::new();
            let archive = zip(&[(b"harmless", FILE, b"1"), (name, FILE, b"x")]);
            let into = if by_kernel {
                Beneath::at(&place.inside())
            } else {
                Beneath::name_by_name(&place.inside())
            };
            let refused = unpack(archive, &into.unwrap(), None).unwrap_err();
            let is_name = matches!(
                &refused,
                UnpackError::Refused {
                    why: Refused::Name(_),
                    ..
                }
            );
            assert!(is_name, "{case}: {refused}");
            place.assert_nothing_outside(&case);
            assert_eq!(
                std::fs::read_dir(place.inside()).unwrap().count(),
                0,
                "{case}"
            );
        }
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let outside = b"../outside";
    // The entries, and a link that is there before.
    type Entries<'a> = &'a [(&'a [u8], u32, &'a [u8])];
    let cases: [(&str, Entries<'_>, Option<&str>); 6] = [
        (
            "a link, then a file through it",
            &[(b"l", LINK, outside), (b"l/x", FILE, b"x")],
            None,
        ),
        (
            "a file, then a link in its way",
            &[(b"l/x", FILE, b"x"), (b"l", LINK, outside)],
            None,
        ),
        (
            "a link, then a directory through it",
            &[(b"l", LINK, outside), (b"l/d/", 0o40_755, b"")],
            None,
        ),
        (
            "a file through a link that is there",
            &[(b"there/x", FILE, b"x")],
            Some("../outside"),
        ),
        (
            "a directory through a link that is there",
            &[(b"there/d/", 0o40_755, b"")],
            Some("../outside"),
        ),
        (
            "a link through a link that is there",
            &[(b"there/l", LINK, b"x")],
            Some("../outside"),
        ),
    ];
    for (case, entries, there) in cases {
        for by_kernel in [true, false] {
            let place = Place::new();
            if let Some(target) = there {
                symlink(target, place.inside().join("there")).unwrap();
            }
            let into = if by_kernel {
                Beneath::at(&place.inside())
            } else {
                Beneath::name_by_name(&place.inside())
            };
            let done = unpack(zip(entries), &into.unwrap(), None);
            assert!(
                matches!(done, Err(UnpackError::Refused { .. })),
                "{case}: {done:?}"
            );
            place.assert_nothing_outside(case);
        }
    }
}

#[test]
fn a_link_that_is_there_is_replaced_and_not_followed() {
    let place = Place::new();
    symlink("../outside/x", place.inside().join("f")).unwrap();
    symlink("../outside", place.inside().join("l")).unwrap();
    let archive = zip(&[(b"f", FILE, b"new"), (b"l", LINK, b"elsewhere")]);
    unpack(archive, &Beneath::at(&place.inside()).unwrap(), None).unwrap();
    place.assert_nothing_outside("a file in place of a link");
    assert_eq!(std::fs::read(place.inside().join("f")).unwrap(), b"new");
    let link = std::fs::read_link(place.inside().join("l")).unwrap();
    assert_eq!(link, Path::new("elsewhere"));
}

#[test]
fn what_is_no_file_and_what_lends_rights_is_not_made() {
    for (mode, name) in [
        (0o010_644, "a pipe"),
        (0o020_644, "a device"),
        (0o140_644, "a socket"),
    ] {
        let place = Place::new();
        let archive = zip(&[(b"x", mode, b"")]);
        let done = unpack(archive, &Beneath::at(&place.inside()).unwrap(), None);
        assert!(
            matches!(done, Err(UnpackError::Broken(_))),
            "{name}: {done:?}"
        );
    }
    let place = Place::new();
    let archive = zip(&[(b"x", 0o106_755, b"")]);
    unpack(archive, &Beneath::at(&place.inside()).unwrap(), None).unwrap();
    let mode = place.inside().join("x").metadata().unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn a_backslash_that_leads_nowhere_is_a_character() {
    let place = Place::new();
    let archive = zip(&[(br"dev-disk\x2d1.swap", FILE, b"x")]);
    unpack(archive, &Beneath::at(&place.inside()).unwrap(), None).unwrap();
    assert!(place.inside().join(r"dev-disk\x2d1.swap").exists());
}

#[test]
fn an_archive_that_explodes_is_stopped_before_and_while_it_does() {
    let place = Place::new();
    for name in ["a", "b"] {
        std::fs::write(place.inside().join(name), vec![0; 8 << 20]).unwrap();
    }
    let mut bytes = packed(&place.inside(), Level::Default);
    assert!(bytes.len() < 100_000);
    let to = Place::new();
    let into = Beneath::at(&to.inside()).unwrap();
    let done = unpack(file(&bytes), &into, Some(10 << 20));
    assert!(
        matches!(
            done,
            Err(UnpackError::TooLarge {
                bytes: 16_777_216,
                files: 2,
                ..
            })
        ),
        "{done:?}"
    );
    // Now it tells less than it is: the sizes in the directory at the end say 16 bytes.
    let real = (8u32 << 20).to_le_bytes();
    let mut lies = 0;
    for at in 0..bytes.len() - 28 {
        if bytes[at..].starts_with(b"PK\x01\x02") && bytes[at + 24..].starts_with(&real) {
            bytes[at + 24..at + 28].copy_from_slice(&16u32.to_le_bytes());
            lies += 1;
        }
    }
    assert_eq!(lies, 2);
    let done = unpack(file(&bytes), &into, Some(10 << 20));
    assert!(
        matches!(&done, Err(UnpackError::Broken(why)) if why.contains("longer than it says")),
        "{done:?}"
    );
    assert_eq!(std::fs::read_dir(to.inside()).unwrap().count(), 0);
}

#[test]
fn an_archive_that_is_cut_or_changed_anywhere_is_broken_or_the_same() {
    let place = Place::new();
    std::fs::write(place.inside().join("a"), b"some content, some content").unwrap();
    std::fs::write(place.inside().join("b"), b"more").unwrap();
    for format in [CacheFormat::Zip, CacheFormat::ZipZstd, CacheFormat::TarZstd] {
        cut_or_changed(&packed_as(&place.inside(), format, Level::Default));
    }
}

fn cut_or_changed(bytes: &[u8]) {
    for length in 0..bytes.len() {
        let to = Place::new();
        let into = Beneath::at(&to.inside()).unwrap();
        let done = unpack(file(&bytes[..length]), &into, None);
        assert!(
            matches!(done, Err(UnpackError::Broken(_))),
            "{length}: {done:?}"
        );
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 0x41;
        let to = Place::new();
        let into = Beneath::at(&to.inside()).unwrap();
        // It may be another archive than it was; it must end, and stay where it is.
        drop(unpack(file(&changed), &into, None));
        to.assert_nothing_outside(&format!("changed at {at}"));
    }
}

#[test]
fn many_entries_take_little_memory_and_are_all_there() {
    let place = Place::new();
    let entries = 100_000u32;
    let names: Vec<String> = (0..entries)
        .map(|at| format!("{}/{at}", at % 100))
        .collect();
    let list: Vec<(&[u8], u32, &[u8])> = names
        .iter()
        .map(|name| (name.as_bytes(), FILE, &b""[..]))
        .collect();
    let into = Beneath::at(&place.inside()).unwrap();
    let done = unpack(zip(&list), &into, None).unwrap();
    assert_eq!(done.entries, 100_000);
    let one = std::fs::read_dir(place.inside().join("99")).unwrap();
    assert_eq!(one.count(), 1000);
}

#[test]
fn more_than_64_ki_entries_and_large_files_are_read_by_others() {
    let place = Place::new();
    for directory in 0..70 {
        let directory = place.inside().join(directory.to_string());
        std::fs::create_dir(&directory).unwrap();
        for name in 0..1000 {
            std::fs::write(directory.join(name.to_string()), b"").unwrap();
        }
    }
    let archive = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(archive.path(), packed(&place.inside(), Level::Default)).unwrap();
    let listed = std::process::Command::new("python3")
        .args(["-c", "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; print(len(z.namelist()))"])
        .arg(archive.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout),
        "70070\n",
        "{listed:?}"
    );
}

/// All of a directory as a zip.
fn packed(directory: &Path, level: Level) -> Vec<u8> {
    packed_as(directory, CacheFormat::Zip, level)
}

/// All of a directory as an archive.
fn packed_as(directory: &Path, format: CacheFormat, level: Level) -> Vec<u8> {
    let project = Project::at(directory).unwrap();
    let files = Files {
        paths: vec![".".into()],
        ..Files::default()
    };
    let selection = select(&project, &files, &|_| {}).unwrap();
    let mut bytes = Vec::new();
    let say = |_| {};
    let zip = |packing, bytes: &mut Vec<u8>| write_zip(&project, &selection, packing, &say, bytes);
    let length = match format {
        CacheFormat::Zip => zip(Packing::Deflate(level), &mut bytes),
        CacheFormat::ZipZstd => zip(Packing::Zstd(level), &mut bytes),
        CacheFormat::TarZstd => write_tar(&project, &selection, level, &say, &mut bytes),
    };
    let length = length.unwrap();
    assert_eq!(length, bytes.len() as u64);
    bytes
}

/// All that a directory holds: a link's target or a file's content, its mode and time.
fn held(directory: &Path) -> BTreeMap<String, (Vec<u8>, u32, i64)> {
    let mut all = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let of = path.symlink_metadata().unwrap();
            let content = if of.is_dir() {
                open.push(path.clone());
                Vec::new()
            } else if of.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                target.into_os_string().into_encoded_bytes()
            } else {
                std::fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(directory).unwrap().to_str().unwrap();
            all.insert(name.to_owned(), (content, of.mode(), of.mtime()));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_is_unpacked_as_it_was(
        files in proptest::collection::btree_map(
            "([a-zäß日 .\\\\-]{1,6}/){0,3}[a-z0-9ü'\" ]{1,8}",
            (0usize..1_200_000, any::<u8>(), 0u32..0o777, any::<bool>()),
            0..6,
        ),
        level in prop_oneof![Just(Level::Fastest), Just(Level::Fast), Just(Level::Default)],
        format in prop_oneof![
            2 => Just(CacheFormat::Zip),
            1 => Just(CacheFormat::ZipZstd),
            1 => Just(CacheFormat::TarZstd),
        ],
    ) {
        let from = Place::new();
        for (name, (size, seed, mode, is_link)) in &files {
            let path = from.inside().join(name);
            // Names can be each other's directories, and dots are no names.
            if name.split('/').any(|part| part == "." || part == "..")
                // Nor is one that is hostile where a backslash is a slash.
                || super::beneath::path_of(name.as_bytes()).is_err()
                || std::fs::create_dir_all(path.parent().unwrap()).is_err()
                || path.exists()
            {
                continue;
            }
            if *is_link {
                symlink(format!("to/{seed}"), &path).unwrap();
                continue;
            }
            let content: Vec<u8> = (0..*size)
                .map(|at| (at / 7) as u8 ^ (at >> 9) as u8 ^ seed)
                .collect();
            std::fs::write(&path, content).unwrap();
            // Readable, for one who is not root.
            let mode = PermissionsExt::from_mode(mode | 0o400);
            std::fs::set_permissions(&path, mode).unwrap();
        }
        let bytes = packed_as(&from.inside(), format, level);
        let to = Place::new();
        unpack(file(&bytes), &Beneath::at(&to.inside()).unwrap(), None).unwrap();
        prop_assert_eq!(held(&to.inside()), held(&from.inside()));
    }
}
