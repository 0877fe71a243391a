//! `process`: running a tool the operator named. The plugin says a name; the file, the environment and
//! the arguments that may be used are the grant's. There is no shell.
//!
//! A tool ends with its call: at the call's deadline, or when the call is dropped, it is killed with
//! its whole process group.

use super::toml_key;
use crate::grants::ToolGrant;
use crate::guest::Guest;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

/// Bytes kept of what a tool writes.
const STDOUT: usize = 4 << 20;
/// Bytes kept of what it writes to standard error.
const STDERR: usize = 256 << 10;
/// Arguments of one call, and bytes of all of them.
const ARGUMENTS: (usize, usize) = (1_000, 256 << 10);

/// How a tool ended.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Output {
    code: i32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

/// Why a tool could not be run.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum ProcessError {
    #[component(name = "denied")]
    Denied(String),
    #[component(name = "timed-out")]
    TimedOut,
    #[component(name = "failed")]
    Failed(String),
    #[component(name = "other")]
    Other(String),
}

/// The tools a plugin may run.
#[derive(Debug)]
pub(super) struct Tools {
    plugin: String,
    granted: BTreeMap<String, ToolGrant>,
}

impl Tools {
    pub(super) fn new(plugin: &str, granted: BTreeMap<String, ToolGrant>) -> Tools {
        Tools {
            plugin: plugin.to_owned(),
            granted,
        }
    }
}

/// What may be run for this owner, or which lines of the configuration would allow it.
fn check<'g>(
    tools: &'g Tools,
    tool: &str,
    arguments: &[String],
    owner: &str,
) -> Result<&'g ToolGrant, ProcessError> {
    let plugin = &tools.plugin;
    let table = format!(
        "[plugins.{}.grants.tools.{}]",
        toml_key(plugin),
        toml_key(tool)
    );
    let Some(grant) = tools.granted.get(tool) else {
        return Err(ProcessError::Denied(format!(
            "the plugin {plugin} may not run {tool:?}; to allow it, write {table} with path = \"/absolute/path\" into the configuration"
        )));
    };
    let bytes: usize = arguments.iter().map(String::len).sum();
    if arguments.len() > ARGUMENTS.0 || bytes > ARGUMENTS.1 {
        return Err(ProcessError::Denied(format!(
            "{tool} was given {} arguments of {bytes} bytes; {} of {} bytes are allowed",
            arguments.len(),
            ARGUMENTS.0,
            ARGUMENTS.1
        )));
    }
    let fits = |rule: &Vec<String>| {
        rule.len() <= arguments.len()
            && rule
                .iter()
                .zip(arguments)
                .all(|(wanted, given)| wanted == "*" || wanted == given)
    };
    if let Some(rules) = &grant.allow
        && !rules.iter().any(fits)
    {
        let first = arguments.first().map_or("", String::as_str);
        return Err(ProcessError::Denied(format!(
            "the plugin {plugin} may not run {tool} with the arguments it gave, which begin with {first:?}; to allow them, add [{first:?}] to `allow` of {table}"
        )));
    }
    owned(grant, tool, arguments, owner).map_err(ProcessError::Denied)?;
    Ok(grant)
}

/// Whether the arguments that have to be the owner's begin with its mark.
fn owned(grant: &ToolGrant, tool: &str, arguments: &[String], owner: &str) -> Result<(), String> {
    let first = arguments.first().map_or("", String::as_str);
    // Options before a subcommand would put it where no rule looks for it.
    if !grant.owned.is_empty() && first.starts_with('-') && arguments.len() > 1 {
        return Err(format!(
            "{tool} was given {first:?} where its subcommand is looked for; put it first, for there are rules of what is owned"
        ));
    }
    for rule in grant.owned.iter().filter(|rule| rule.is_about(arguments)) {
        if !rule.holds(arguments, owner) {
            let number = rule.argument;
            let given = arguments.get(number).map_or("", String::as_str);
            return Err(format!(
                "argument {number} of {tool} {first} is {given:?}, and has to name what begins with the owner {owner:?} and a dash: another owner's is never touched"
            ));
        }
    }
    Ok(())
}

/// Ends a process group that nobody waits for any more.
struct Group(Option<rustix::process::Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0
            && let Err(error) =
                rustix::process::kill_process_group(group, rustix::process::Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::error!(%error, "a tool could not be killed");
        }
    }
}

async fn run(
    grant: &ToolGrant,
    arguments: &[String],
    stdin: Vec<u8>,
    until: Instant,
) -> Result<Output, ProcessError> {
    let failed = |what: &str, error: std::io::Error| {
        ProcessError::Failed(format!("{what} {}: {error}", grant.path.display()))
    };
    let mut child = Command::new(&grant.path)
        .args(arguments)
        .env_clear()
        .envs(&grant.env)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("starting", error))?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let mut group = Group(pid.and_then(rustix::process::Pid::from_raw));
    let deadline = tokio::time::Instant::from_std(until);
    match tokio::time::timeout_at(deadline, talk(&mut child, stdin)).await {
        Ok(Ok(output)) => {
            // Its number may be another's from now on.
            group.0 = None;
            Ok(output)
        }
        Ok(Err(error)) => Err(failed("talking to", error)),
        Err(_) => Err(ProcessError::TimedOut),
    }
}

async fn talk(child: &mut Child, stdin: Vec<u8>) -> std::io::Result<Output> {
    let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        let Some(mut input) = input else {
            return Ok(());
        };
        match input.write_all(&stdin).await {
            // A tool need not read what it is given.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            done => done,
        }
    };
    let (written, stdout, stderr, status) = tokio::join!(
        write,
        read(stdout, STDOUT),
        read(stderr, STDERR),
        child.wait()
    );
    written?;
    let ((stdout, cut), (stderr, also), status) = (stdout?, stderr?, status?);
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(Output {
        code,
        stdout,
        stderr,
        truncated: cut || also,
    })
}

/// All of it up to the cap, and whether there was more.
async fn read(
    from: Option<impl AsyncRead + Unpin>,
    cap: usize,
) -> std::io::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    let Some(mut from) = from else {
        return Ok((kept, false));
    };
    let mut chunk = vec![0; 16 << 10];
    let mut cut = false;
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return Ok((kept, cut));
        }
        let room = (cap - kept.len()).min(count);
        kept.extend_from_slice(&chunk[..room]);
        cut |= room < count;
    }
}

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker
        .instance("springtide:plugin/process@0.1.0")?
        .func_wrap_async(
            "run",
            |store: StoreContextMut<'_, Guest>,
             (tool, arguments, stdin): (String, Vec<String>, Vec<u8>)| {
                let guest = store.data();
                let (capabilities, until) = (guest.capabilities.clone(), guest.until);
                let owner = Arc::clone(&guest.caller.owner);
                Box::new(async move {
                    let grant = check(&capabilities.tools, &tool, &arguments, &owner);
                    let answer = match grant {
                        Ok(grant) => run(grant, &arguments, stdin, until).await,
                        Err(error) => Err(error),
                    };
                    Ok((answer,))
                })
            },
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sh(allow: Option<&[&[&str]]>) -> ToolGrant {
        let words = |rule: &&[&str]| rule.iter().map(|word| (*word).to_owned()).collect();
        ToolGrant {
            path: "/bin/sh".into(),
            env: BTreeMap::from([("ONLY".to_owned(), "this".to_owned())]),
            allow: allow.map(|rules| rules.iter().map(words).collect()),
            owned: Vec::new(),
        }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn only_granted_tools_run_with_arguments_that_are_allowed() {
        let grants = |grant| Tools::new("p", BTreeMap::from([("vm".to_owned(), grant)]));
        let rules: &[&[&str]] = &[&["list"], &["clone", "*", "--now"]];
        let cases: [(Tools, &str, &[&str], Option<&str>); 8] = [
            (
                Tools::new("p", BTreeMap::new()),
                "vm",
                &[],
                Some("[plugins.p.grants.tools.vm]"),
            ),
            (
                grants(sh(None)),
                "/bin/sh",
                &[],
                Some("may not run \"/bin/sh\""),
            ),
            (grants(sh(None)), "vm", &["anything"], None),
            (grants(sh(Some(rules))), "vm", &["list", "vms"], None),
            (
                grants(sh(Some(rules))),
                "vm",
                &["clone", "a", "--now"],
                None,
            ),
            (
                grants(sh(Some(rules))),
                "vm",
                &["clone", "a"],
                Some("add [\"clone\"]"),
            ),
            (grants(sh(Some(rules))), "vm", &[], Some("begin with \"\"")),
            (grants(sh(Some(&[]))), "vm", &["list"], Some("`allow`")),
        ];
        for (grants, tool, arguments, denied) in cases {
            let answer = check(&grants, tool, &words(arguments), "");
            match (answer, denied) {
                (Ok(_), None) => {}
                (Err(ProcessError::Denied(text)), Some(part)) => {
                    assert!(text.contains(part), "{text}");
                }
                (answer, _) => panic!("{tool} {arguments:?}: {answer:?}"),
            }
        }
        let many = vec![String::new(); ARGUMENTS.0 + 1];
        assert!(check(&grants(sh(None)), "vm", &many, "").is_err());
    }

    #[test]
    fn names_that_have_to_be_the_owners_begin_with_its_mark() {
        let grant = ToolGrant {
            owned: ["clone:3", "remove:1"]
                .map(|rule| rule.parse().unwrap())
                .into(),
            ..sh(None)
        };
        let tools = Tools::new("p", BTreeMap::from([("vm".to_owned(), grant)]));
        let cases: [(&str, &[&str], bool); 12] = [
            ("us", &["remove", "us-1"], true),
            ("us", &["remove", "us-1", "--delete"], true),
            ("us", &["clone", "base", "--name", "us-1"], true),
            ("us", &["list", "vms"], true),
            ("us", &["clone", "us-1", "--name", "base"], false),
            ("us", &["remove", "them-1"], false),
            ("us", &["remove", "usurper-1"], false),
            ("us", &["remove", "us-"], false),
            ("us", &["remove"], false),
            ("us", &["--quiet", "remove", "them-1"], false),
            ("us", &["--version"], true),
            ("", &["remove", "-1"], false),
        ];
        for (owner, arguments, may) in cases {
            let answer = check(&tools, "vm", &words(arguments), owner);
            assert_eq!(answer.is_ok(), may, "{owner:?} {arguments:?}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn a_tool_has_its_input_its_environment_and_nothing_else() {
        let script = "cat; echo \"$ONLY $HOME.\"; pwd; echo trouble >&2; exit 7";
        let output = run(&sh(None), &words(&["-c", script]), b"in\n".to_vec(), soon()).await;
        let output = output.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "in\nthis .\n/\n");
        assert_eq!(output.stderr, b"trouble\n");
        assert_eq!((output.code, output.truncated), (7, false));
        let killed = run(&sh(None), &words(&["-c", "kill -9 $$"]), Vec::new(), soon()).await;
        assert_eq!(killed.unwrap().code, 137);
    }

    #[tokio::test]
    async fn what_a_tool_writes_is_capped_and_what_it_does_not_read_is_no_error() {
        let script = "head -c 5000000 /dev/zero";
        let input = vec![b'x'; 1 << 20];
        let output = run(&sh(None), &words(&["-c", script]), input, soon())
            .await
            .unwrap();
        assert_eq!((output.stdout.len(), output.truncated), (STDOUT, true));
    }

    #[tokio::test]
    async fn at_the_deadline_a_tool_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let until = Instant::now() + Duration::from_millis(700);
        let answer = run(&sh(None), &words(&["-c", &script]), Vec::new(), until).await;
        assert_eq!(answer, Err(ProcessError::TimedOut));
        let pid: i32 = std::fs::read_to_string(&file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let gone = || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            // One that is dead and that nobody has waited for is dead.
            state.is_err() || state.is_ok_and(|text| text.contains(") Z"))
        };
        while !gone() {
            assert!(Instant::now() < deadline, "a child of the tool outlived it");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_tool_that_is_not_there_is_named() {
        let grant = ToolGrant {
            path: "/nonexistent/tool".into(),
            ..ToolGrant::default()
        };
        let answer = run(&grant, &[], Vec::new(), soon()).await;
        assert!(
            matches!(&answer, Err(ProcessError::Failed(text)) if text.contains("/nonexistent/tool")),
            "{answer:?}"
        );
    }
}
