//! Archives, uploads and restores a tree with the helper, and with `zip` and `unzip` beside it, and
//! prints the time and the peak of resident memory of each.
//!
//! `cargo build --release -p springtide-helper --bins --examples`, then
//! `target/release/examples/archive_speed [--files 50000] [--mib 1024] [--helper FILE] [DIR]`.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Done<T> = Result<T, Box<dyn Error>>;

struct Arguments {
    files: u64,
    mib: u64,
    helper: PathBuf,
    directory: PathBuf,
}

/// What caches are written as.
const FORMATS: [&str; 3] = ["zip", "zipzstd", "tarzstd"];

fn main() -> Done<()> {
    let arguments = arguments()?;
    let root = arguments
        .directory
        .join(format!("archive-speed-{}", std::process::id()));
    std::fs::create_dir_all(&root)?;
    let done = measure(&arguments, &root);
    std::fs::remove_dir_all(&root)?;
    done
}

fn measure(arguments: &Arguments, root: &Path) -> Done<()> {
    let project = root.join("project");
    eprintln!(
        "making {} files of {} MiB together in {}",
        arguments.files,
        arguments.mib,
        root.display()
    );
    make_tree(&project, arguments.files, arguments.mib << 20)?;
    println!("{}", machine());
    println!(
        "{} files, {} MiB; helper {}\n",
        arguments.files,
        arguments.mib,
        arguments.helper.display()
    );
    println!(
        "{:<34} {:>9} {:>12} {:>12}",
        "", "seconds", "peak KiB", "archive MiB"
    );

    let uploaded = root.join("uploaded.zip");
    let url = serve(uploaded.clone())?;
    let local = |format: &str| root.join(format!("{format}.cache"));
    let zip = root.join("zip.zip");
    let save = |format: &str| {
        format!(
            r#"{{"cache-save": {{"key": "k", "file": {:?}, "format": {format:?}, "files": {{"paths": ["tree"]}}}}}}"#,
            local(format)
        )
    };
    let upload = format!(
        r#"{{"artifacts-upload": {{"url": "{url}", "job": 1, "token": "t", "files": {{"paths": ["tree"]}}}}}}"#
    );
    let restore = |format: &str| {
        let local = local(format);
        format!(r#"{{"cache-restore": {{"sources": [{{"key": "k", "file": {local:?}}}]}}}}"#)
    };
    let download = format!(
        r#"{{"artifacts-download": {{"url": "{url}", "items": [{{"id": 1, "token": "t", "name": "j"}}]}}}}"#
    );
    let mut info_zip = Command::new("zip");
    info_zip.args(["-q", "-r", "-y"]).arg(&zip).arg("tree");
    row("zip -r", &mut info_zip, &project, "", Some(&zip))?;
    let mut helper = Command::new(&arguments.helper);
    helper.arg("transfer");
    for format in FORMATS {
        row(
            &format!("helper, cache saved, {format}"),
            &mut helper,
            &project,
            &save(format),
            Some(&local(format)),
        )?;
    }
    row(
        "helper, artifacts uploaded",
        &mut helper,
        &project,
        &upload,
        Some(&uploaded),
    )?;

    let mut unzip = Command::new("unzip");
    unzip.arg("-q").arg(&zip);
    row("unzip", &mut unzip, &root.join("1"), "", None)?;
    for format in FORMATS {
        row(
            &format!("helper, cache restored, {format}"),
            &mut helper,
            &root.join(format),
            &restore(format),
            None,
        )?;
    }
    row(
        "helper, artifacts downloaded",
        &mut helper,
        &root.join("2"),
        &download,
        None,
    )?;
    for copy in ["1", "2"].iter().chain(&FORMATS) {
        let same = Command::new("diff")
            .args(["-r", "--no-dereference"])
            .arg(project.join("tree"))
            .arg(root.join(copy).join("tree"))
            .status()?;
        if !same.success() {
            return Err(format!("what was restored into {copy} is not what was archived").into());
        }
    }
    println!("\nall trees are the same as the first");
    Ok(())
}

/// Runs a command and prints its row. Its peak is asked of the kernel until it ends.
fn row(
    what: &str,
    command: &mut Command,
    directory: &Path,
    input: &str,
    archive: Option<&Path>,
) -> Done<()> {
    std::fs::create_dir_all(directory)?;
    let begin = Instant::now();
    let mut child = command
        .current_dir(directory)
        .env("TMPDIR", directory.parent().unwrap_or(directory))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
        peak = peak.max(now.unwrap_or(0));
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let seconds = begin.elapsed().as_secs_f64();
    if !ended.success() {
        return Err(format!("{what} ended with {ended}").into());
    }
    let size = match archive {
        Some(archive) => format!(
            "{:.1}",
            std::fs::metadata(archive)?.len() as f64 / 1048576.0
        ),
        None => String::new(),
    };
    println!("{what:<34} {seconds:>9.2} {peak:>12} {size:>12}");
    Ok(())
}

/// Files of many sizes, a third of them noise, the rest text that packs to about a third.
fn make_tree(project: &Path, files: u64, bytes: u64) -> Done<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words = [
        "pub", "fn", "return", "let", "match", "error", "value", "self", "name", "\n",
    ];
    let (mut left, mut content) = (bytes, Vec::new());
    for at in 0..files {
        let directory = project.join(format!("tree/{}/{}", at / 5000, at / 100 % 50));
        if at % 100 == 0 {
            std::fs::create_dir_all(&directory)?;
        }
        // The mean stays; one in a thousand is large.
        let mean = left / (files - at);
        let size = match at {
            last if last + 1 == files => left,
            at if at % 1000 == 7 => left.min(mean * 200),
            _ => left.min(next() % (mean * 16 / 10).max(1)),
        };
        left -= size;
        content.clear();
        let noise = at % 3 == 0;
        while (content.len() as u64) < size {
            if noise {
                content.extend_from_slice(&next().to_le_bytes());
            } else {
                let random = next();
                content.extend_from_slice(words[random as usize % words.len()].as_bytes());
                write!(content, " {} ", (random >> 32) % 100)?;
            }
        }
        content.truncate(usize::try_from(size)?);
        std::fs::write(directory.join(format!("file-{at}.rs")), &content)?;
    }
    Ok(())
}

/// A GitLab that keeps the archive it is sent in a file and gives it back.
fn serve(archive: PathBuf) -> Done<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if let Err(error) = stream.and_then(|stream| answer(stream, &archive)) {
                eprintln!("the server of this example: {error}");
            }
        }
    });
    Ok(url)
}

fn answer(mut to: TcpStream, archive: &Path) -> io::Result<()> {
    let mut from = BufReader::with_capacity(1 << 20, to.try_clone()?);
    let mut line = String::new();
    from.read_line(&mut line)?;
    let is_upload = line.starts_with("POST");
    while line.trim() != "" {
        line.clear();
        from.read_line(&mut line)?;
    }
    if !is_upload {
        let mut file = File::open(archive)?;
        write!(
            to,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            file.metadata()?.len()
        )?;
        return io::copy(&mut file, &mut to).map(drop);
    }
    to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    let mut form = Unchunked { from, left: 0 };
    let mut form = BufReader::with_capacity(1 << 20, &mut form);
    let mut boundary = String::new();
    form.read_line(&mut boundary)?;
    let mut head = String::new();
    while head != "\r\n" {
        head.clear();
        form.read_line(&mut head)?;
    }
    let mut file = File::create(archive)?;
    let length = io::copy(&mut form, &mut file)?;
    // What follows the archive is a line's end, the boundary with its dashes, and a line's end.
    let end = boundary.trim_end().len() as u64 + 6;
    file.set_len(length - end)?;
    to.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// A body in chunks.
struct Unchunked<R> {
    from: R,
    left: usize,
}

impl<R: BufRead> Read for Unchunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut line = String::new();
        if self.left == 0 {
            self.from.read_line(&mut line)?;
            self.left = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            if self.left == 0 {
                self.from.read_line(&mut line)?;
                return Ok(0);
            }
        }
        let most = buffer.len().min(self.left);
        let read = self.from.read(&mut buffer[..most])?;
        self.left -= read;
        if self.left == 0 {
            self.from.read_line(&mut line)?;
        }
        Ok(read)
    }
}

fn arguments() -> Done<Arguments> {
    let own = std::env::current_exe()?;
    let profile = own.ancestors().nth(2).unwrap_or(Path::new("."));
    let mut arguments = Arguments {
        files: 50_000,
        mib: 1024,
        helper: profile.join("springtide-helper"),
        directory: std::env::temp_dir(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--files" => arguments.files = value()?.parse()?,
            "--mib" => arguments.mib = value()?.parse()?,
            "--helper" => arguments.helper = value()?.into(),
            _ => arguments.directory = word.into(),
        }
    }
    Ok(arguments)
}

/// What this is measured on.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: String, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{processors} x {}, {} of memory, Linux {}, load {}",
        field(read("/proc/cpuinfo"), "model name"),
        field(read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or("?"),
    )
}
