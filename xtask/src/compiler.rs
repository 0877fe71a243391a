//! Which compiler builds for `wasm32-unknown-unknown`, for not every machine has that target.
//!
//! In this order: the target of the toolchain in use, if it is installed; one that rustup can
//! install; Debian's second compiler with its sources, from which the standard library is built.

use crate::run::{cargo, output, run};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The target of all shipped plugins: it has no operating system, so nothing of one is imported.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's packages with a compiler and the sources that match it.
const PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];
/// An environment variable: `debian` takes Debian's compiler though there may be another way, so
/// that this way too can be tried everywhere.
const FORCED: &str = "SPRINGTIDE_PLUGIN_COMPILER";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/Cargo.lock";

/// A way to build for [`TARGET`].
#[derive(Debug, PartialEq, Eq)]
pub enum Compiler {
    /// The toolchain in use has the target.
    Installed,
    /// Debian's compiler with the standard library built from its sources; the linker comes from
    /// the toolchain in use, in this directory.
    Debian {
        /// Where `rust-lld` is.
        linker: PathBuf,
    },
}

impl Compiler {
    /// Finds the way and prints it, with why. It may install the target or the packages. That
    /// rustup could not is remembered in `build_dir` for a day, so that the next call need not try.
    ///
    /// # Errors
    /// Where there is no way; the text says what to install.
    pub fn find(build_dir: &Path) -> Result<Self> {
        if std::env::var_os(FORCED).is_some_and(|way| way == "debian") {
            eprintln!("plugins: {FORCED} asks for Debian's compiler");
            return Self::debian();
        }
        if has_target() {
            eprintln!("plugins: built by the toolchain in use, whose {TARGET} target is installed");
            return Ok(Self::Installed);
        }
        let refusal = Refusal::of(build_dir)?;
        if refusal.is_known() {
            eprintln!(
                "plugins: rustup could not add {TARGET} to this toolchain earlier; to try again, \
                 remove {}",
                refusal.file.display()
            );
            return Self::debian();
        }
        match add_target() {
            Ok(()) => {
                eprintln!("plugins: built by the toolchain in use; rustup just added {TARGET}");
                return Ok(Self::Installed);
            }
            Err(error) => eprintln!("plugins: rustup could not add {TARGET}: {error:#}"),
        }
        let compiler = Self::debian()?;
        refusal.remember()?;
        Ok(compiler)
    }

    fn debian() -> Result<Self> {
        let mut fresh = "";
        if !has_debian() {
            crate::packages::install(&PACKAGES)?;
            fresh = ", which was just installed";
        }
        if !has_debian() {
            bail!(
                "{} are installed, but {DEBIAN_RUSTC} is no rustc of 1.95 or later, or \
                 {DEBIAN_SOURCES} is missing; install a toolchain that has the target {TARGET}",
                PACKAGES.join(" and ")
            );
        }
        eprintln!("plugins: built by Debian's {}{fresh}", PACKAGES[0]);
        Self::with_linker()
    }

    fn with_linker() -> Result<Self> {
        let sysroot = output(Command::new(rustc()).args(["--print", "sysroot"]))?;
        let version = output(Command::new(rustc()).arg("-vV"))?;
        let host = version
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .context("`rustc -vV` names no host")?;
        let linker = Path::new(sysroot.trim())
            .join("lib/rustlib")
            .join(host)
            .join("bin");
        if !linker.join("rust-lld").exists() {
            bail!(
                "the toolchain in use has no rust-lld in {}; install rustup's stable toolchain",
                linker.display()
            );
        }
        Ok(Self::Debian { linker })
    }

    /// Where the compiler keeps the sources of its standard library.
    ///
    /// # Errors
    /// Where the compiler can't be asked.
    pub fn sources(&self) -> Result<PathBuf> {
        let rustc = match self {
            Self::Installed => rustc(),
            Self::Debian { .. } => OsString::from(DEBIAN_RUSTC),
        };
        let sysroot = output(Command::new(rustc).args(["--print", "sysroot"]))?;
        Ok(Path::new(sysroot.trim()).join("lib/rustlib/src/rust"))
    }

    /// `cargo build` for the target, to which packages and flags are added.
    ///
    /// # Errors
    /// Where the search path can't be extended.
    pub fn build(&self) -> Result<Command> {
        let mut command = cargo();
        command.args(["build", "--release", "--target", TARGET]);
        // What a caller has set for its own build must not change the plugins' bytes.
        for name in [
            "CARGO_RESOLVER_FEATURE_UNIFICATION",
            "CARGO_UNSTABLE_FEATURE_UNIFICATION",
            "CARGO_BUILD_TARGET",
            "RUSTFLAGS",
            "RUSTC_BOOTSTRAP",
        ] {
            command.env_remove(name);
        }
        if let Self::Debian { linker } = self {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let path = std::iter::once(linker.clone()).chain(std::env::split_paths(&path));
            command
                .args(["-Z", "build-std=std,panic_abort"])
                .env(
                    "PATH",
                    std::env::join_paths(path).context("extending PATH")?,
                )
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1");
        }
        Ok(command)
    }
}

fn rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"))
}

fn has_target() -> bool {
    let mut command = Command::new(rustc());
    command.args(["--print", "target-libdir", "--target", TARGET]);
    output(&mut command).is_ok_and(|text| Path::new(text.trim()).is_dir())
}

fn has_debian() -> bool {
    Path::new(DEBIAN_SOURCES).exists()
        && output(Command::new(DEBIAN_RUSTC).arg("-vV")).is_ok_and(|text| is_recent(&text))
}

/// Whether the output of `rustc -vV` is of 1.95 or later, which the workspace needs.
fn is_recent(version: &str) -> bool {
    let release = version
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
        .unwrap_or_default();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    let (major, minor): (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (major, minor) >= (1, 95)
}

/// That rustup could not add the target to a toolchain, as a file that says to which.
struct Refusal {
    file: PathBuf,
    toolchain: String,
}

impl Refusal {
    fn of(build_dir: &Path) -> Result<Self> {
        Ok(Self {
            file: build_dir.join("rustup-has-no-target"),
            toolchain: output(Command::new(rustc()).args(["-vV", "--print", "sysroot"]))?,
        })
    }

    /// Whether it was so within a day, for the same toolchain.
    fn is_known(&self) -> bool {
        let age = std::fs::metadata(&self.file)
            .and_then(|file| file.modified())
            .map(|at| at.elapsed().unwrap_or_default());
        age.is_ok_and(|age| age < Duration::from_secs(24 * 3600))
            && std::fs::read_to_string(&self.file).is_ok_and(|text| text == self.toolchain)
    }

    fn remember(&self) -> Result<()> {
        let directory = self.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(&self.file, &self.toolchain))
            .with_context(|| format!("writing {}", self.file.display()))
    }
}

fn add_target() -> Result<()> {
    run(Command::new("rustup")
        .args(["target", "add", TARGET])
        .stderr(Stdio::null())
        // Without a connection it would try for minutes.
        .env("RUSTUP_MAX_RETRIES", "0")
        .env("RUSTUP_DOWNLOAD_TIMEOUT", "20"))?;
    if !has_target() {
        bail!("it said that it had, but the target is not there");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_recent_compiler_is_taken() {
        let cases = [
            ("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22", true),
            ("release: 1.95.0", true),
            ("release: 1.63.0", false),
            ("release: 2.0.0-nightly", true),
            ("rustc 1.96.0", false),
            ("", false),
        ];
        for (text, recent) in cases {
            assert_eq!(is_recent(text), recent, "{text}");
        }
    }

    #[test]
    fn a_refusal_is_remembered_for_its_toolchain() {
        let directory = std::env::temp_dir().join(format!("xtask-{}", std::process::id()));
        let refusal = |toolchain: &str| Refusal {
            file: directory.join("wasm/refused"),
            toolchain: toolchain.into(),
        };
        assert!(!refusal("one").is_known());
        refusal("one").remember().unwrap();
        assert!(refusal("one").is_known());
        assert!(!refusal("two").is_known());
        let old = std::time::SystemTime::now() - Duration::from_secs(25 * 3600);
        std::fs::File::options()
            .write(true)
            .open(refusal("one").file)
            .and_then(|file| file.set_modified(old))
            .unwrap();
        assert!(!refusal("one").is_known());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn debians_compiler_builds_the_standard_library_with_our_linker() {
        let linker = PathBuf::from("/toolchain/bin");
        let command = Compiler::Debian { linker }.build().unwrap();
        let line = crate::run::line(&command);
        assert!(line.contains("-Z build-std=std,panic_abort"), "{line}");
        let environment: Vec<_> = command.get_envs().collect();
        let path = environment
            .iter()
            .find(|(name, _)| *name == "PATH")
            .and_then(|(_, value)| *value)
            .unwrap();
        assert!(path.to_string_lossy().starts_with("/toolchain/bin:"));
        assert!(!crate::run::line(&Compiler::Installed.build().unwrap()).contains("build-std"));
    }
}
