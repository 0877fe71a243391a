//! The script that gets a job's sources with the machine's git.
//!
//! The job's token is in the script's environment alone: git asks a credential helper that prints
//! it from there. It is in no argument, and not in what is left in `.git/config`, where a helper
//! that reads `CI_JOB_TOKEN` lets the job's own script fetch on.

use crate::shell::{Script, quoted};
use crate::variables::Variables;
use secrecy::{ExposeSecret, SecretString};
use springtide_gitlab::GitInfo;
use url::Url;

/// The variable that holds the password while sources are got.
const PASSWORD: &str = "SPRINGTIDE_GIT_PASSWORD";

/// Why sources can't be got, whatever the machine does: an answer for the job's author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadSources(String);

/// How sources are got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    Clone,
    Fetch,
    None,
    Empty,
}

impl Strategy {
    pub(crate) fn of(variables: &Variables, may_fetch: bool) -> Result<Self, BadSources> {
        match variables.get("GIT_STRATEGY").as_str() {
            "clone" => Ok(Self::Clone),
            "fetch" => Ok(Self::Fetch),
            "none" => Ok(Self::None),
            "empty" => Ok(Self::Empty),
            "" if may_fetch => Ok(Self::Fetch),
            "" => Ok(Self::Clone),
            other => Err(BadSources(format!(
                "unknown GIT_STRATEGY `{other}`: write clone, fetch, none or empty"
            ))),
        }
    }
}

/// Where sources come from, and who may read them.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Without a password.
    url: String,
    /// Scheme, host and port; `None` where no login is asked for over HTTP.
    host: Option<(String, String)>,
    user: String,
    password: SecretString,
}

impl Origin {
    /// The place GitLab names, or the one under `clone_url`.
    pub(crate) fn new(
        repo_url: &str,
        clone_url: Option<&str>,
        project: &str,
        token: &SecretString,
    ) -> Result<Self, BadSources> {
        let under = clone_url.filter(|url| !url.is_empty());
        let text = match under {
            Some(base) => format!("{}/{project}.git", base.trim_end_matches('/')),
            None => repo_url.to_owned(),
        };
        let mut url = Url::parse(&text).map_err(|error| {
            let what = if under.is_some() {
                "clone_url"
            } else {
                "the URL GitLab gave"
            };
            BadSources(format!("{what} is no URL to get sources from: {error}"))
        })?;
        let decoded = |part: &str| {
            percent_encoding::percent_decode_str(part)
                .decode_utf8_lossy()
                .into_owned()
        };
        let mut user = decoded(url.username());
        let mut password = url
            .password()
            .map_or_else(|| token.clone(), |given| decoded(given).into());
        if user.is_empty() || under.is_some() {
            user = "gitlab-ci-token".into();
            password = token.clone();
        }
        let http = matches!(url.scheme(), "http" | "https");
        if http {
            // A URL with a host takes a user, and the absence of one.
            url.set_username("").ok();
            url.set_password(None).ok();
        }
        let host = url.host_str().filter(|_| http).map(|host| {
            let port = url.port().map(|port| format!(":{port}"));
            let port = port.unwrap_or_default();
            (format!("{}://{host}{port}", url.scheme()), host.to_owned())
        });
        Ok(Self {
            url: url.into(),
            host,
            user,
            password,
        })
    }

    /// A credential helper that prints the user and a variable's value.
    fn helper(&self, variable: &str) -> String {
        let user = quoted(&self.user);
        format!(
            "!f() {{ test \"$1\" = get || exit 0; printf 'username=%s\\npassword=%s\\n' {user} \"${variable}\"; }}; f"
        )
    }
}

/// What the script of the sources is made from.
pub(crate) struct Sources<'a> {
    pub(crate) strategy: Strategy,
    pub(crate) origin: Option<&'a Origin>,
    pub(crate) git: &'a GitInfo,
    pub(crate) variables: &'a Variables,
    pub(crate) directory: &'a str,
    pub(crate) version: &'a str,
    /// Whether git's settings of earlier jobs are removed first.
    pub(crate) clean: bool,
    /// Whether the machine's git is told that the directory is safe.
    pub(crate) safe: bool,
    /// Whether an attempt failed before.
    pub(crate) again: bool,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A line that removes what jobs set in a clone: it must not steer the next one. The settings of a
/// clone in another object format than git's own say so, and stay.
pub(crate) fn clean_git(directory: &str, git: &GitInfo) -> String {
    let mut files = vec!["hooks"];
    if git.repo_object_format != "sha256" {
        files.extend(["config", "config.worktree"]);
    }
    let files: Vec<String> = files
        .into_iter()
        .map(|file| quoted(&format!("{directory}/.git/{file}")))
        .collect();
    // A `.git` that is a file, or a link to elsewhere, is nothing of ours.
    let clone = quoted(&format!("{directory}/.git"));
    format!(
        "if [ -d {clone} ] && [ ! -L {clone} ]; then rm -rf {}; fi",
        files.join(" ")
    )
}

fn is_commit(sha: &str) -> bool {
    sha.len() >= 8 && sha.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Sources<'_> {
    /// Flags from a variable; `none` is no flags.
    fn flags(&self, variable: &str, otherwise: &str) -> Vec<String> {
        match self.variables.get(variable).as_str() {
            "none" => Vec::new(),
            "" => words(otherwise),
            given => words(given),
        }
    }

    /// `git` with what each call of it needs.
    fn git(&self) -> Vec<String> {
        let mut git: Vec<String> = vec!["git".into()];
        let mut set = |key: String, value: &str| {
            git.extend(["-c".into(), format!("{key}={value}")]);
        };
        set(
            "http.userAgent".into(),
            &format!("springtide {}", self.version),
        );
        set("init.defaultBranch".into(), "none");
        set("gc.autoDetach".into(), "false");
        if let Some(origin) = self.origin
            && let Some((base, host)) = &origin.host
        {
            // The empty one first: no other helper is asked, nor told the token to keep.
            set(format!("credential.{base}.helper"), "");
            set(
                format!("credential.{base}.helper"),
                &origin.helper(PASSWORD),
            );
            if self.variables.flag("GIT_SUBMODULE_FORCE_HTTPS") == Some(true) {
                set(format!("url.{base}/.insteadOf"), &format!("git@{host}:"));
                set(
                    format!("url.{base}/.insteadOf"),
                    &format!("ssh://git@{host}/"),
                );
            }
        }
        git
    }

    fn call(&self, script: &mut Script, words: &[&str]) {
        let git = self.git();
        let all: Vec<&str> = git
            .iter()
            .map(String::as_str)
            .chain(words.iter().copied())
            .collect();
        script.command(&all);
    }

    /// Writes what gets the sources. The script ends in the project's directory.
    pub(crate) fn write(&self, script: &mut Script) -> Result<(), BadSources> {
        let directory = quoted(self.directory);
        if self.clean {
            script.line(&clean_git(self.directory, self.git));
        }
        match self.strategy {
            Strategy::None => {
                script.notice("Skipping Git repository setup");
                script.line(&format!("mkdir -p {directory}"));
                script.line(&format!("cd {directory}"));
                script.notice("Skipping Git checkout");
                script.notice("Skipping Git submodules setup");
                return Ok(());
            }
            Strategy::Empty => {
                script
                    .notice("Skipping Git repository setup and creating an empty build directory");
                script.line(&format!("rm -rf {directory}"));
                script.line(&format!("mkdir -p {directory}"));
                script.line(&format!("cd {directory}"));
                script.notice("Skipping Git checkout");
                script.notice("Skipping Git submodules setup");
                return Ok(());
            }
            Strategy::Clone | Strategy::Fetch => {}
        }
        let Some(origin) = self.origin else {
            return Err(BadSources("GitLab named no repository for this job".into()));
        };
        script.line("if ! command -v git >/dev/null 2>&1; then");
        script.fail(
            "git is not on this machine: install it there, or set GIT_STRATEGY to none",
            127,
        );
        script.line("fi");
        if self.safe {
            script.line(&format!(
                "git config --global --get-all safe.directory | grep -qxF -e {directory} || git config --global --add safe.directory {directory}"
            ));
        }
        script.export("GIT_TERMINAL_PROMPT", "0");
        script.export(PASSWORD, origin.password.expose_secret());
        self.write_fetch(script, origin);
        if self.variables.flag("GIT_CHECKOUT") == Some(false) {
            script.notice("Skipping Git checkout");
            script.notice("Skipping Git submodules setup");
        } else {
            self.write_checkout(script)?;
            self.write_submodules(script)?;
        }
        script.line(&format!("unset {PASSWORD} GIT_TERMINAL_PROMPT"));
        Ok(())
    }

    fn depth(&self) -> i64 {
        let given = self.variables.number("GIT_DEPTH");
        given.unwrap_or(self.git.depth).max(0)
    }

    fn write_fetch(&self, script: &mut Script, origin: &Origin) {
        let directory = quoted(self.directory);
        match self.depth() {
            0 => script.notice("Fetching changes..."),
            depth => script.notice(&format!(
                "Fetching changes with git depth set to {depth}..."
            )),
        }
        let sha256 = self.git.repo_object_format == "sha256";
        if self.strategy == Strategy::Clone || self.again {
            script.line(&format!("rm -rf {directory}"));
        }
        script.line(&format!(
            "if [ -e {directory}/.git/HEAD ]; then springtide_fresh=; else springtide_fresh=1; fi"
        ));
        script.line("if [ -z \"$springtide_fresh\" ]; then");
        // What an earlier job left there must not steer this one, nor a lock stop it.
        script.line(&format!("cd {directory}/.git"));
        script.line("rm -f index.lock shallow.lock HEAD.lock config.lock");
        script.line("find refs -name '*.lock' -type f -exec rm -f {} +");
        script.line("cd /");
        script.line("fi");
        let mut init = vec!["init", "--template="];
        if sha256 {
            init.push("--object-format=sha256");
        }
        init.push(self.directory);
        self.call(script, &init);
        script.line(&format!("cd {directory}"));
        let url = quoted(&origin.url);
        script.line(&format!(
            "git remote add origin {url} 2>/dev/null || git remote set-url origin {url}"
        ));
        if let Some((base, _)) = &origin.host {
            let key = format!("credential.{base}.helper");
            script.command(&["git", "config", "--replace-all", &key, ""]);
            script.command(&[
                "git",
                "config",
                "--add",
                &key,
                &origin.helper("CI_JOB_TOKEN"),
            ]);
        }
        script.line("if [ -n \"$springtide_fresh\" ]; then");
        script.notice("Created fresh repository.");
        script.line("fi");
        script.line("unset springtide_fresh");
        self.write_refs(script);
    }

    fn write_refs(&self, script: &mut Script) {
        let everything = ["+refs/heads/*:refs/remotes/origin/*".to_owned()];
        let refspecs: Vec<&str> = match self.git.refspecs.as_slice() {
            [] => everything.iter().map(String::as_str).collect(),
            given => given.iter().map(String::as_str).collect(),
        };
        let flags = self.flags("GIT_FETCH_EXTRA_FLAGS", "--prune --quiet");
        let depth = self.depth().to_string();
        let fetch = |script: &mut Script, more: &[&str]| {
            let mut words = vec!["fetch", "--no-recurse-submodules"];
            words.extend(more);
            words.extend(flags.iter().map(String::as_str));
            // A refspec is never an option, whatever it begins with.
            words.extend(["--", "origin"]);
            words.extend(&refspecs);
            self.call(script, &words);
        };
        if depth == "0" {
            script.line("if [ -e .git/shallow ]; then");
            fetch(script, &["--unshallow"]);
            script.line("else");
            fetch(script, &[]);
            script.line("fi");
        } else {
            fetch(script, &["--depth", &depth]);
        }
    }

    fn write_checkout(&self, script: &mut Script) -> Result<(), BadSources> {
        let sha = &self.git.sha;
        if !is_commit(sha) {
            return Err(BadSources(
                "GitLab named no commit to check out: set GIT_STRATEGY to none for a job without sources".into(),
            ));
        }
        let short = &sha[..8];
        let name = &self.git.ref_name;
        script.notice(&format!(
            "Checking out {short} as detached HEAD (ref is {name})..."
        ));
        self.call(
            script,
            &["-c", "submodule.recurse=false", "checkout", "-f", "-q", sha],
        );
        let clean = self.clean_flags();
        if !clean.is_empty() {
            let mut words = vec!["clean"];
            words.extend(clean.iter().map(String::as_str));
            self.call(script, &words);
        }
        if self.variables.flag("GIT_LFS_SKIP_SMUDGE") != Some(true) {
            script.line("if git lfs version >/dev/null 2>&1; then");
            // Installed is not the same as set up: without its filter nothing is put in place.
            script.line("if ! git config --get filter.lfs.smudge >/dev/null; then");
            self.call(script, &["lfs", "install", "--local", "--skip-repo"]);
            script.line("fi");
            self.call(script, &["lfs", "pull"]);
            script.say("");
            script.line("fi");
        }
        Ok(())
    }

    fn clean_flags(&self) -> Vec<String> {
        self.flags("GIT_CLEAN_FLAGS", "-ffdx")
    }

    fn write_submodules(&self, script: &mut Script) -> Result<(), BadSources> {
        let recursive = match self.variables.get("GIT_SUBMODULE_STRATEGY").as_str() {
            "" | "none" => {
                script.notice("Skipping Git submodules setup");
                return Ok(());
            }
            "normal" => false,
            "recursive" => true,
            other => {
                return Err(BadSources(format!(
                    "unknown GIT_SUBMODULE_STRATEGY `{other}`: write none, normal or recursive"
                )));
            }
        };
        let depth = match self.variables.number("GIT_SUBMODULE_DEPTH") {
            Some(depth) => depth.max(0),
            None => self.depth(),
        };
        let how = if recursive { " recursively" } else { "" };
        let deep = match depth {
            0 => "...".to_owned(),
            depth => format!(" with git depth set to {depth}..."),
        };
        script.notice(&format!("Updating/initializing submodules{how}{deep}"));
        let paths = words(&self.variables.get("GIT_SUBMODULE_PATHS"));
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let recurse: &[&str] = if recursive { &["--recursive"] } else { &[] };
        self.call(script, &["submodule", "init"]);
        let with_paths = |words: &[&str]| {
            let mut all = [words, recurse].concat();
            if !paths.is_empty() {
                all.push("--");
                all.extend(&paths);
            }
            all.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let call = |script: &mut Script, words: &[&str]| {
            let all = with_paths(words);
            self.call(script, &all.iter().map(String::as_str).collect::<Vec<_>>());
        };
        call(script, &["submodule", "sync"]);
        let depth = depth.to_string();
        let flags = self.flags("GIT_SUBMODULE_UPDATE_FLAGS", "");
        let mut update = vec!["submodule", "update", "--init"];
        if depth != "0" {
            update.extend(["--depth", &depth]);
        }
        update.extend(flags.iter().map(String::as_str));
        call(script, &update);
        let clean = self.clean_flags();
        if !clean.is_empty() {
            let clean: Vec<String> = clean.iter().map(|flag| quoted(flag)).collect();
            let clean = format!("git clean {}", clean.join(" "));
            self.call(
                script,
                &[&["submodule", "foreach", "--quiet"], recurse, &[&clean]].concat(),
            );
        }
        let reset = "git reset --hard --quiet";
        self.call(
            script,
            &[&["submodule", "foreach", "--quiet"], recurse, &[reset]].concat(),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests;
