//! Running `VBoxManage`, and what its refusals mean.

use springtide_sdk::{Host, PluginError, ProcessError};

/// The tool this driver runs.
pub(crate) const TOOL: &str = "VBoxManage";

/// How often a call is made while VirtualBox is busy with the same object.
const TRIES: usize = 5;
/// How often one is made that only looks, where it fails for a while.
const LOOKS: usize = 3;

/// `VBoxManage`, as the host lends it.
#[derive(Clone, Copy)]
pub(crate) struct VBox<'h> {
    pub(crate) host: &'h Host<'h>,
}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failed {
    /// What it means to the host.
    pub(crate) error: PluginError,
    /// All that was written, to look for what a caller knows better.
    said: String,
}

impl Failed {
    /// Whether what the call named does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.error, PluginError::NotFound(_))
    }

    /// Whether VirtualBox said this.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.said.contains(text)
    }
}

impl From<Failed> for PluginError {
    fn from(failed: Failed) -> PluginError {
        failed.error
    }
}

impl VBox<'_> {
    /// Runs it and returns what it wrote to its standard output.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String, Failed> {
        self.run_with(arguments, b"")
    }

    /// The same, with something to read on its standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> Result<String, Failed> {
        let mut tries = 1;
        loop {
            match self.once(arguments, stdin) {
                Err(failed) if tries < TRIES && failed.is_busy() => tries += 1,
                // A list of many machines is as many looks; one that fails is taken again.
                Err(failed) if tries < LOOKS && is_look(arguments) && failed.may_pass() => {
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }

    /// The answer, or nothing where what it names does not exist.
    pub(crate) fn find(&self, arguments: &[&str]) -> Result<Option<String>, PluginError> {
        match self.run(arguments) {
            Ok(text) => Ok(Some(text)),
            Err(failed) if failed.is_missing() => Ok(None),
            Err(failed) => Err(failed.error),
        }
    }

    fn once(&self, arguments: &[&str], stdin: &[u8]) -> Result<String, Failed> {
        let what = called(arguments);
        let owned: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let output = match self.host.process.run(TOOL, &owned, stdin) {
            Ok(output) => output,
            Err(error) => return Err(not_run(&what, error)),
        };
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        // Some versions end with 0 though they say that it failed.
        if output.code != 0 || stderr.lines().any(is_error) {
            return Err(refused(&what, output.code, &stderr, &stdout));
        }
        if output.truncated {
            let error =
                PluginError::Permanent(format!("{what} wrote more than its grant lets through"));
            return Err(Failed {
                error,
                said: String::new(),
            });
        }
        Ok(stdout)
    }
}

impl Failed {
    /// Whether VirtualBox itself said so, and may say otherwise at once.
    fn may_pass(&self) -> bool {
        matches!(self.error, PluginError::Transient(_)) && !self.said.is_empty()
    }

    /// Whether VirtualBox is busy with the object for a moment.
    fn is_busy(&self) -> bool {
        [
            "object is not ready",
            "already locked",
            "while it is locked",
        ]
        .iter()
        .any(|text| self.says(text))
    }
}

fn is_look(arguments: &[&str]) -> bool {
    matches!(
        arguments.first(),
        Some(&("list" | "showvminfo" | "getextradata" | "showmediuminfo"))
    )
}

/// A call as it is shown: the subcommand and what it is about.
fn called(arguments: &[&str]) -> String {
    let shown: Vec<&str> = arguments.iter().take(2).copied().collect();
    format!("{TOOL} {}", shown.join(" "))
}

fn is_error(line: &str) -> bool {
    line.starts_with("VBoxManage: error:") || line.starts_with("error:")
}

fn not_run(what: &str, error: ProcessError) -> Failed {
    let error = match error {
        ProcessError::Denied(why) => PluginError::Denied(format!("{what}: {why}")),
        ProcessError::TimedOut => PluginError::Transient(format!(
            "{what} did not end before its deadline; if that goes on, see whether VBoxSVC hangs"
        )),
        ProcessError::Failed(why) if why.starts_with("starting") => {
            PluginError::Permanent(format!(
                "{what}: {why}; install VirtualBox, or name the program in [plugins.virtualbox.grants.tools.{TOOL}] with path = \"/absolute/path\""
            ))
        }
        ProcessError::Failed(why) | ProcessError::Other(why) => {
            PluginError::Transient(format!("{what}: {why}"))
        }
    };
    Failed {
        error,
        said: String::new(),
    }
}

/// What VirtualBox wrote for its people, made into what the host acts on.
fn refused(what: &str, code: i32, stderr: &str, stdout: &str) -> Failed {
    let said = if stderr.trim().is_empty() {
        stdout
    } else {
        stderr
    };
    let first = said
        .lines()
        .find(|line| is_error(line))
        .or_else(|| said.lines().rev().find(|line| !line.trim().is_empty()))
        .unwrap_or("it said nothing");
    let first = first
        .trim_start_matches("VBoxManage: ")
        .trim_start_matches("error: ");
    let why = format!("{what} ended with {code}: {first}");
    let has = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    let error = if has(&[
        "VBOX_E_OBJECT_NOT_FOUND",
        "Could not find a registered machine",
    ]) {
        PluginError::NotFound(why)
    } else if has(&["VERR_DISK_FULL", "No space left on device", "disk is full"]) {
        PluginError::Quota(format!(
            "{why}; the disk is full: make room, or move VirtualBox's machine folder"
        ))
    } else if has(&[
        "/dev/vboxdrv",
        "VERR_VMX_",
        "VERR_SVM_",
        "VERR_NEM_",
        "kernel driver",
        "VERR_VM_DRIVER_",
    ]) {
        PluginError::Permanent(format!(
            "{why}; VirtualBox can't run machines on this host: load its kernel module, and see that the processor's virtualisation is on and not another hypervisor's"
        ))
    } else if has(&[
        "VERR_NO_MEMORY",
        "VERR_EM_NO_MEMORY",
        "not enough memory",
        "NS_ERROR_OUT_OF_MEMORY",
    ]) {
        PluginError::Capacity(format!("{why}; the host has too little memory free"))
    } else if has(&[
        "assign the machine to the session",
        "E_ACCESSDENIED (0x80070005) - Access denied (extended info not available)",
    ]) {
        // Another call has it for a moment, and this is how that is said when both begin at once, or
        // one looks at a machine that another clones.
        PluginError::Transient(why)
    } else if has(&["VERR_ACCESS_DENIED", "E_ACCESSDENIED", "Permission denied"]) {
        PluginError::Denied(why)
    } else if has(&[
        "Syntax error",
        "Unknown option",
        "Invalid command",
        "Invalid argument",
        "Invalid parameter",
    ]) {
        PluginError::Permanent(format!(
            "{why}; this version of VirtualBox can't be driven so"
        ))
    } else if has(&["E_INVALIDARG", "VERR_INVALID_PARAMETER"]) {
        PluginError::InvalidConfig(why)
    } else {
        PluginError::Transient(why)
    };
    Failed {
        error,
        said: said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, sort};
    use springtide_sdk::Output;

    fn wrote(code: i32, stderr: &str) -> Result<Output, ProcessError> {
        Ok(Output {
            code,
            stdout: b"out".to_vec(),
            stderr: stderr.into(),
            truncated: false,
        })
    }

    #[test]
    fn what_virtualbox_says_becomes_a_typed_error() {
        let cases = [
            (
                "not-found",
                wrote(
                    1,
                    "VBoxManage: error: Could not find a registered machine named 'x'\n",
                ),
            ),
            (
                "quota",
                wrote(
                    1,
                    "0%...\nVBoxManage: error: Could not create the medium (VERR_DISK_FULL)\n",
                ),
            ),
            (
                "permanent",
                wrote(
                    1,
                    "VBoxManage: error: The VirtualBox Linux kernel driver (vboxdrv) is not loaded\n",
                ),
            ),
            (
                "capacity",
                wrote(1, "VBoxManage: error: (VERR_NO_MEMORY)\n"),
            ),
            (
                "denied",
                wrote(
                    1,
                    "VBoxManage: error: Could not open the medium (VERR_ACCESS_DENIED)\n",
                ),
            ),
            (
                "permanent",
                wrote(2, "VBoxManage: error: Unknown option: --groups\n"),
            ),
            (
                "invalid-config",
                wrote(
                    1,
                    "VBoxManage: error: Invalid memory\nDetails: code E_INVALIDARG\n",
                ),
            ),
            (
                "transient",
                wrote(1, "VBoxManage: error: The object is not ready\n"),
            ),
            (
                "transient",
                wrote(
                    1,
                    "VBoxManage: error: Failed to assign the machine to the session (E_ACCESSDENIED)\n",
                ),
            ),
            (
                "transient",
                wrote(
                    1,
                    "VBoxManage: error: Code E_ACCESSDENIED (0x80070005) - Access denied (extended info not available)\n",
                ),
            ),
            (
                "transient",
                wrote(0, "VBoxManage: error: it says 0 and failed\n"),
            ),
            ("transient", wrote(137, "")),
            ("denied", Err(ProcessError::Denied("no grant".into()))),
            (
                "permanent",
                Err(ProcessError::Failed(
                    "starting /opt/VBoxManage: No such file".into(),
                )),
            ),
            (
                "transient",
                Err(ProcessError::Failed("talking to it: broken".into())),
            ),
            ("transient", Err(ProcessError::TimedOut)),
        ];
        for (number, (wanted, answer)) in cases.into_iter().enumerate() {
            let fake = Fake::answering(answer);
            let failed = VBox { host: &fake.host() }
                .run(&["startvm", "x"])
                .unwrap_err();
            assert_eq!(sort(&failed.error), wanted, "case {number}: {failed:?}");
        }
    }

    #[test]
    fn a_warning_is_no_error_and_a_busy_object_is_asked_again() {
        let fake = Fake::answering(wrote(0, "WARNING: /dev/vboxdrv does not exist\n"));
        let vbox = VBox { host: &fake.host() };
        assert_eq!(vbox.run(&["list", "vms"]).unwrap(), "out");
        assert_eq!(fake.calls().len(), 1);
        let fake = Fake::answering(wrote(1, "VBoxManage: error: The object is not ready\n"));
        VBox { host: &fake.host() }
            .run(&["list", "vms"])
            .unwrap_err();
        assert_eq!(fake.calls().len(), TRIES);
    }
}
