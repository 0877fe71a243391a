//! What a machine does at its first boot, as user data for cloud-init: who may log in, the operator's
//! script, Docker and what its daemon is told, and the timer that powers the machine off where no
//! manager winds it.
//!
//! The same wishes give the same text, byte for byte: a request for a machine may be repeated.

mod docker;
mod mime;

pub use docker::Engine;

use springtide_jobs::quoted as word;
use std::fmt::Write;

/// How long a machine lives that no manager has wound yet, in seconds.
pub const LEASE_SECONDS: u64 = 4 * 3600;
/// The file on the machine whose number, an uptime in seconds, is the end of its lease.
pub const LEASE: &str = "/run/springtide/lease";
/// The file on the machine with what its first boot warns of, a line each.
pub const WARNINGS: &str = "/run/springtide/warnings";

const DEAD_MAN: &str = include_str!("first_boot/dead-man.sh");
const SERVICE: &str = include_str!("first_boot/dead-man.service");
const BEGIN: &str = include_str!("first_boot/begin.sh");
const SCRIPT: &str = "/usr/local/sbin/springtide-first-boot-script";

/// What is wished of a first boot.
#[derive(Clone, Debug, Default)]
pub struct FirstBoot {
    /// Who logs in; `None`: whoever the image is made for.
    pub user: Option<String>,
    /// The public key that may log in, in OpenSSH's format.
    pub key: Option<String>,
    /// Docker; `None` where jobs use none.
    pub docker: Option<Engine>,
    /// A script of the operator's that runs as root, before Docker is looked for.
    pub script: Option<String>,
    /// User data of the operator's, of any sort.
    pub user_data: Option<String>,
}

/// A file that cloud-init writes.
struct File<'a> {
    path: &'a str,
    mode: &'a str,
    text: &'a str,
}

impl FirstBoot {
    /// The user data: `#cloud-config`, or with user data of the operator's a MIME message.
    #[must_use]
    pub fn user_data(&self) -> String {
        let ours = self.cloud_config();
        match &self.user_data {
            Some(operators) if !operators.trim().is_empty() => mime::joined(operators, &ours),
            _ => ours,
        }
    }

    fn cloud_config(&self) -> String {
        let mut text = String::from("#cloud-config\n");
        self.logins(&mut text);
        let begin = self.begin();
        let configured = self.docker.as_ref().map(Engine::files).unwrap_or_default();
        let mut files = vec![
            File {
                path: "/usr/local/sbin/springtide-dead-man",
                mode: "0755",
                text: DEAD_MAN,
            },
            File {
                path: "/etc/systemd/system/springtide-dead-man.service",
                mode: "0644",
                text: SERVICE,
            },
            File {
                path: "/usr/local/sbin/springtide-first-boot",
                mode: "0700",
                text: &begin,
            },
        ];
        if let Some(script) = &self.script {
            files.push(File {
                path: SCRIPT,
                mode: "0700",
                text: script,
            });
        }
        files.extend(configured.iter().map(|(path, text)| File {
            path,
            // Variables of its daemon may be a proxy's password.
            mode: "0600",
            text,
        }));
        text.push_str("write_files:\n");
        for file in files {
            put(&mut text, format_args!("- path: {}\n", file.path));
            put(&mut text, format_args!("  permissions: '{}'\n", file.mode));
            put(
                &mut text,
                format_args!("  content: {}\n", scalar(file.text, 4)),
            );
        }
        text.push_str("runcmd:\n- [sh, /usr/local/sbin/springtide-first-boot]\n");
        text
    }

    fn logins(&self, text: &mut String) {
        // The image's own user has it too, so that a driver's guess of the name is no trap.
        if let Some(key) = &self.key {
            put(
                text,
                format_args!("ssh_authorized_keys:\n- {}\n", quoted(key)),
            );
        }
        let Some(user) = &self.user else { return };
        if user == "root" {
            text.push_str("disable_root: false\n");
            return;
        }
        put(
            text,
            format_args!("users:\n- default\n- name: {}\n", quoted(user)),
        );
        // A group of that name may be there, as `docker` is where Docker is: without this it is in the way.
        put(text, format_args!("  primary_group: {}\n", quoted(user)));
        text.push_str("  sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n  lock_passwd: true\n");
        if let Some(key) = &self.key {
            put(
                text,
                format_args!("  ssh_authorized_keys:\n  - {}\n", quoted(key)),
            );
        }
    }

    /// The script that cloud-init runs.
    fn begin(&self) -> String {
        let mut text = String::from(BEGIN);
        if let Some(user) = &self.user {
            put(
                &mut text,
                format_args!(
                    "\nuser={}\nmkdir -p /var/lib/springtide\nchown \"$user\" /var/lib/springtide\n",
                    word(user)
                ),
            );
        }
        if let Some(script) = &self.script {
            let run = if script.starts_with("#!") { "" } else { "sh " };
            put(
                &mut text,
                format_args!(
                    "\n{run}{SCRIPT} ||\n    warn \"the first_boot script failed with exit code $?: see /var/log/cloud-init-output.log there\"\n"
                ),
            );
        }
        if let Some(docker) = &self.docker {
            text.push_str(&docker.script(self.user.is_some()));
        }
        text
    }
}

/// Appends to a text, which can't fail.
fn put(text: &mut String, what: std::fmt::Arguments) {
    text.write_fmt(what).ok();
}

/// A text as a scalar of YAML: as a block where that is plain to read and safe, else in quotes.
fn scalar(text: &str, indent: usize) -> String {
    let plain = |line: &str| {
        line.bytes()
            .all(|byte| (b' '..=b'~').contains(&byte) || byte == b'\t')
    };
    let one_end = text.ends_with('\n') && !text.ends_with("\n\n");
    if !one_end
        || text.starts_with([' ', '\t', '\n'])
        || !text.lines().all(plain)
        || text.contains('\r')
    {
        return quoted(text);
    }
    let mut block = String::from("|");
    for line in text.lines() {
        block.push('\n');
        if !line.is_empty() {
            put(&mut block, format_args!("{:indent$}{line}", ""));
        }
    }
    block
}

/// A text in the double quotes of YAML, in ASCII.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            _ if u32::from(c) <= 0xffff => put(&mut out, format_args!("\\u{:04x}", u32::from(c))),
            _ => put(&mut out, format_args!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
#[path = "first_boot/tests.rs"]
mod tests;
