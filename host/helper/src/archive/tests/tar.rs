//! Tars: those of others, those for others, and those built to do harm.

use super::{Place, file, held, packed_as};
use crate::archive::{Beneath, UnpackError, unpack};
use springtide_helper::{CacheFormat, Level};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use tar::{EntryType, Header};

/// A packed tar of what stands in records.
fn zstd(tar: &[u8]) -> File {
    file(&zstd::encode_all(tar, 3).unwrap())
}

/// A header, and what stands after it.
fn record(kind: EntryType, name: &[u8], link: &[u8], size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name);
    gnu.linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn regular(name: &[u8], content: &[u8]) -> Vec<u8> {
    record(EntryType::Regular, name, b"", content.len() as u64, content)
}

fn link(name: &[u8], target: &[u8]) -> Vec<u8> {
    record(EntryType::Symlink, name, target, 0, b"")
}

fn refused(records: &[Vec<u8>], place: &Place) -> UnpackError {
    let into = Beneath::at(&place.inside()).unwrap();
    unpack(zstd(&records.concat()), &into, Some(1 << 20)).unwrap_err()
}

fn tree() -> Place {
    let place = Place::new();
    let at = |name: &str| place.inside().join(name);
    let long = format!("{}/{}", "ü".repeat(100), "n".repeat(200));
    std::fs::create_dir_all(at("empty")).unwrap();
    std::fs::create_dir_all(at(&long).parent().unwrap()).unwrap();
    std::fs::write(at(&long), b"far down").unwrap();
    std::fs::write(at("nothing"), b"").unwrap();
    std::fs::write(at("large"), vec![b'l'; 1_300_000]).unwrap();
    // Frames that end where a buffer does.
    std::fs::write(at("even"), vec![b'e'; 1 << 20]).unwrap();
    symlink("large", at("link")).unwrap();
    symlink("t".repeat(300), at("long link")).unwrap();
    place
}

fn tar(directory: &Path, words: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("tar")
        .arg("-C")
        .arg(directory)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{words:?}");
        output.stdout
    })
}

#[test]
fn gnu_tar_reads_what_is_written_and_what_it_writes_is_read() {
    let place = tree();
    let bytes = packed_as(&place.inside(), CacheFormat::TarZstd, Level::Default);
    let plain = zstd::decode_all(&bytes[..]).unwrap();
    let theirs = Place::new();
    tar(&theirs.inside(), &["-xpf", "-"], &plain);
    assert_eq!(held(&theirs.inside()), held(&place.inside()));
    for format in ["gnu", "pax", "ustar"] {
        if format == "ustar" {
            // It has no room for such names.
            std::fs::remove_file(place.inside().join("long link")).unwrap();
            std::fs::remove_dir_all(place.inside().join("ü".repeat(100))).unwrap();
        }
        let written = format!("--format={format}");
        let bytes = tar(&place.inside(), &[&written, "-cf", "-", "."], b"");
        let ours = Place::new();
        let into = Beneath::at(&ours.inside()).unwrap();
        unpack(zstd(&bytes), &into, None).unwrap();
        assert_eq!(held(&ours.inside()), held(&place.inside()), "{format}");
    }
}

#[test]
fn nothing_of_a_tar_is_written_outside() {
    let harmless = || regular(b"harmless", b"1");
    let long = |kind, name: &[u8]| {
        let size = name.len() as u64 + 1;
        record(kind, b"././@LongLink", b"", size, name)
    };
    let pax = |text: &str| {
        let bytes = text.as_bytes();
        record(EntryType::XHeader, b"x", b"", bytes.len() as u64, bytes)
    };
    let cases: [(&str, Vec<Vec<u8>>); 10] = [
        ("absolute", vec![regular(b"/etc/x", b"x")]),
        ("upwards", vec![regular(b"../outside/x", b"x")]),
        ("within", vec![regular(b"a/../../outside/x", b"x")]),
        (
            "a long name",
            vec![
                long(EntryType::GNULongName, b"../outside/x"),
                regular(b"x", b"x"),
            ],
        ),
        (
            "pax's name",
            vec![pax("21 path=../outside/x\n"), regular(b"x", b"x")],
        ),
        (
            "a hard link",
            vec![record(EntryType::Link, b"x", b"../outside/x", 0, b"")],
        ),
        ("a device", vec![record(EntryType::Char, b"x", b"", 0, b"")]),
        ("a pipe", vec![record(EntryType::Fifo, b"x", b"", 0, b"")]),
        (
            "a sparse file",
            vec![record(EntryType::GNUSparse, b"x", b"", 0, b"")],
        ),
        (
            "a directory",
            vec![record(EntryType::Directory, b"../outside/x/", b"", 0, b"")],
        ),
    ];
    for (case, records) in cases {
        let place = Place::new();
        let error = refused(&[vec![harmless()], records].concat(), &place);
        let told = matches!(error, UnpackError::Refused { .. } | UnpackError::Broken(_));
        assert!(told, "{case}: {error}");
        place.assert_nothing_outside(case);
        let written = std::fs::read_dir(place.inside()).unwrap().count();
        assert_eq!(written, 0, "{case}");
    }
    // Through a link nothing is written either: files come before all links.
    let place = Place::new();
    refused(&[link(b"l", b"../outside"), regular(b"l/x", b"x")], &place);
    place.assert_nothing_outside("a file through a link");
    let place = Place::new();
    symlink("../outside", place.inside().join("l")).unwrap();
    let into = Beneath::at(&place.inside()).unwrap();
    drop(unpack(zstd(&regular(b"l/x", b"x")), &into, None));
    place.assert_nothing_outside("a file through a link that was there");
}

#[test]
fn a_tar_that_explodes_or_tells_wrong_sizes_is_stopped() {
    let large = |size: u64| record(EntryType::Regular, b"x", b"", size, b"");
    let pax = |text: &[u8]| record(EntryType::XHeader, b"x", b"", text.len() as u64, text);
    let cases: [(&str, Vec<Vec<u8>>, &str); 8] = [
        (
            "more than the limit, and only told",
            vec![large(2 << 20)],
            "the limit is",
        ),
        (
            "together more than the limit",
            vec![regular(b"a", &[0; 700_000]), regular(b"b", &[0; 700_000])],
            "the limit is",
        ),
        ("less than it tells", vec![large(1000)], "ends too early"),
        (
            "as much as there can be",
            vec![pax(b"29 size=18446744073709551615\n"), large(0)],
            "the limit is",
        ),
        (
            "a size that is none",
            vec![pax(b"11 size=-1\n"), large(0)],
            "no number",
        ),
        (
            "a name of ten million bytes",
            vec![record(
                EntryType::GNULongName,
                b"l",
                b"",
                10_000_000,
                &vec![b'n'; 10_000_000],
            )],
            "longer than any",
        ),
        (
            "names without an end",
            vec![pax(b"9 path=a\n"); 1000],
            "more records",
        ),
        (
            "an end without an end",
            vec![regular(b"a", b"1"), vec![0; 4 << 20]],
            "after its end",
        ),
    ];
    for (case, records, says) in cases {
        let place = Place::new();
        let error = refused(&records, &place).to_string();
        assert!(error.contains(says), "{case}: {error}");
        let written = std::fs::read_dir(place.inside()).unwrap().count();
        assert_eq!(written, 0, "{case}");
    }
    // A window of 2 GiB, which is more than anybody may make this keep.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(31).unwrap();
    encoder.write_all(&regular(b"a", b"1")).unwrap();
    let bytes = encoder.finish().unwrap();
    let place = Place::new();
    let into = Beneath::at(&place.inside()).unwrap();
    let done = unpack(file(&bytes), &into, None);
    assert!(matches!(done, Err(UnpackError::Broken(_))), "{done:?}");
}

#[test]
fn others_read_a_zip_of_zstandard_where_they_know_it() {
    let place = tree();
    let bytes = packed_as(&place.inside(), CacheFormat::ZipZstd, Level::Slow);
    let archive = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(archive.path(), &bytes).unwrap();
    // The standard library of Python knows its frame, if not its content.
    let listed = Command::new("python3")
        .args(["-c", "import sys, zipfile; print({e.compress_type for e in zipfile.ZipFile(sys.argv[1]).infolist()} == {0, 93})"])
        .arg(archive.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout),
        "True\n",
        "{listed:?}"
    );
    let packed = bytes
        .windows(4)
        .filter(|four| *four == [0x28, 0xb5, 0x2f, 0xfd])
        .count();
    assert_eq!(packed, 5, "a frame for each piece of the large files");
    let ours = Place::new();
    let into = Beneath::at(&ours.inside()).unwrap();
    unpack(file(&bytes), &into, None).unwrap();
    assert_eq!(held(&ours.inside()), held(&place.inside()));
}
