//! `process`: running a tool the operator named. The plugin says a name; the file, the environment and
//! the arguments that may be used are the grant's. There is no shell.
//!
//! A tool ends with its call: at the call's deadline, or when the call is dropped, it is killed with
//! its whole process group. Where its grant has a `concurrency`, no more run at once, whichever plugin
//! and pool they are for; the others wait for their turn, first come first served, as long as their
//! calls may take.

use super::toml_key;
use crate::grants::ToolGrant;
use crate::guest::Guest;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
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

/// What a turn is taken at: a program, what it is told of where it works, and how many may run.
type Counter = (PathBuf, BTreeMap<String, String>, usize);

/// Whose turn it is with tools of which only so many may run at once. It is the whole host's: what
/// breaks when two calls meet does so whoever makes them.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<Counter, Arc<Semaphore>>>);

impl Turns {
    fn of(&self, grant: &ToolGrant) -> Option<Arc<Semaphore>> {
        let most = grant.concurrency.filter(|&most| most > 0)?;
        // As many as a semaphore can count are as good as any number.
        let most = usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        let most = most.min(Semaphore::MAX_PERMITS);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = known
            .entry((grant.path.clone(), grant.env.clone(), most))
            .or_insert_with(|| Arc::new(Semaphore::new(most)));
        Some(Arc::clone(turn))
    }
}

/// A tool and what is waited at before it runs.
#[derive(Debug)]
struct Tool {
    grant: ToolGrant,
    turn: Option<Arc<Semaphore>>,
}

/// The tools a plugin may run.
#[derive(Debug)]
pub(super) struct Tools {
    plugin: String,
    granted: BTreeMap<String, Tool>,
}

impl Tools {
    pub(super) fn new(plugin: &str, granted: BTreeMap<String, ToolGrant>, turns: &Turns) -> Tools {
        let with_turn = |(name, grant)| {
            let turn = turns.of(&grant);
            (name, Tool { grant, turn })
        };
        Tools {
            plugin: plugin.to_owned(),
            granted: granted.into_iter().map(with_turn).collect(),
        }
    }
}

/// What may be run for this owner, or which lines of the configuration would allow it.
fn check<'g>(
    tools: &'g Tools,
    tool: &str,
    arguments: &[String],
    owner: &str,
) -> Result<&'g Tool, ProcessError> {
    let plugin = &tools.plugin;
    let table = format!(
        "[plugins.{}.grants.tools.{}]",
        toml_key(plugin),
        toml_key(tool)
    );
    let Some(found) = tools.granted.get(tool) else {
        return Err(ProcessError::Denied(format!(
            "the plugin {plugin} may not run {tool:?}; to allow it, write {table} with path = \"/absolute/path\" into the configuration"
        )));
    };
    let grant = &found.grant;
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
    Ok(found)
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

impl Tool {
    /// Runs it when it is its turn.
    async fn run(
        &self,
        arguments: &[String],
        stdin: Vec<u8>,
        until: Instant,
    ) -> Result<Output, ProcessError> {
        let _turn = match &self.turn {
            None => None,
            Some(turn) => {
                let waited = tokio::time::timeout_at(until.into(), turn.acquire()).await;
                Some(waited.map_err(|_| ProcessError::TimedOut)?)
            }
        };
        run(&self.grant, arguments, stdin, until).await
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
                    let found = check(&capabilities.tools, &tool, &arguments, &owner);
                    let answer = match found {
                        Ok(tool) => tool.run(&arguments, stdin, until).await,
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
            concurrency: None,
        }
    }

    fn granted(tools: impl Into<BTreeMap<String, ToolGrant>>) -> Tools {
        Tools::new("p", tools.into(), &Turns::default())
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn only_granted_tools_run_with_arguments_that_are_allowed() {
        let grants = |grant| granted([("vm".to_owned(), grant)]);
        let rules: &[&[&str]] = &[&["list"], &["clone", "*", "--now"]];
        let cases: [(Tools, &str, &[&str], Option<&str>); 8] = [
            (granted([]), "vm", &[], Some("[plugins.p.grants.tools.vm]")),
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
        let tools = granted([("vm".to_owned(), grant)]);
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
    async fn of_a_tool_with_a_concurrency_no_more_run_at_once_in_the_whole_host() {
        let folder = tempfile::tempdir().unwrap();
        let turns = Turns::default();
        // Two of them at once are told by a directory that is there already.
        let script = format!(
            "mkdir {0} && sleep 0.02 && rmdir {0}",
            folder.path().join("one").display()
        );
        let alone = ToolGrant {
            concurrency: Some(1),
            ..sh(None)
        };
        let of = |plugin, grant: &ToolGrant| {
            let tools = BTreeMap::from([("vm".to_owned(), grant.clone())]);
            Tools::new(plugin, tools, &turns)
        };
        let both = [of("p", &alone), of("q", &alone)];
        let arguments = words(&["-c", &script]);
        let runs = (0..20).map(|number| {
            let tool = check(&both[number % 2], "vm", &arguments, "").unwrap();
            tool.run(&arguments, Vec::new(), soon())
        });
        for output in futures_util::future::join_all(runs).await {
            let output = output.unwrap();
            assert_eq!(output.code, 0, "{output:?}");
        }

        let sleep = words(&["-c", "sleep 600"]);
        let (first, second) = (&both[0].granted["vm"], &both[1].granted["vm"]);
        let held = Instant::now() + Duration::from_secs(2);
        let short = Instant::now() + Duration::from_millis(100);
        let elsewhere = ToolGrant {
            env: BTreeMap::new(),
            ..alone.clone()
        };
        let elsewhere = of("p", &elsewhere);
        let free = words(&["-c", "true"]);
        let (hangs, waited, other, then) = tokio::join!(
            first.run(&sleep, Vec::new(), held),
            second.run(&free, Vec::new(), short),
            elsewhere.granted["vm"].run(&free, Vec::new(), short),
            second.run(&free, Vec::new(), soon()),
        );
        assert_eq!(hangs, Err(ProcessError::TimedOut));
        assert_eq!(
            waited,
            Err(ProcessError::TimedOut),
            "it had no turn in time"
        );
        assert_eq!(other.unwrap().code, 0, "it works elsewhere");
        assert_eq!(then.unwrap().code, 0, "one that was killed gives way");
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
