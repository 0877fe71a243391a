//! Finding a shell where nothing is known of the machine but that this program runs there: in an
//! image. In GitLab Runner's order.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

const SHELLS: [&str; 7] = [
    "/usr/local/bin/bash",
    "/usr/bin/bash",
    "/bin/bash",
    "/usr/local/bin/sh",
    "/usr/bin/sh",
    "/bin/sh",
    "/busybox/sh",
];

/// Becomes the first shell of a name that is there; `any` is every name. Where there is none, says
/// what GitLab Runner says, and fails as it does.
pub(crate) fn shell(name: &str, arguments: &[&str]) -> ExitCode {
    let of_name = format!("/{name}");
    for path in SHELLS {
        if (name == "any" || path.ends_with(&of_name)) && Path::new(path).exists() {
            // Comes back only where it could not be started, and then the next may.
            let error = Command::new(path).args(arguments).exec();
            println!("{path}: {error}");
        }
    }
    println!("shell not found");
    ExitCode::FAILURE
}
