//! A runner's entry as `gitlab-runner register` writes it: the same keys in the same order.

use secrecy::{ExposeSecret, SecretString};
use toml_edit::{Array, ArrayOfTables, Datetime, DocumentMut, Item, Table, Value, value};

/// A runner to write into a configuration. What is `None` or empty is left out.
#[derive(Clone, Debug, Default)]
pub struct NewRunner {
    /// Its name.
    pub name: String,
    /// GitLab's address.
    pub url: String,
    /// GitLab's number of the runner.
    pub id: Option<u64>,
    /// Its authentication token.
    pub token: SecretString,
    /// When the token was given.
    pub token_obtained_at: Option<jiff::Timestamp>,
    /// When it ends.
    pub token_expires_at: Option<jiff::Timestamp>,
    /// Certificates that GitLab's is checked against.
    pub tls_ca_file: Option<String>,
    /// Our certificate for GitLab.
    pub tls_cert_file: Option<String>,
    /// Its key.
    pub tls_key_file: Option<String>,
    /// Most jobs and machines; 0 is no limit.
    pub limit: u32,
    /// Most requests for a job at once.
    pub request_concurrency: Option<u32>,
    /// `shell+machine` or `docker+machine`.
    pub executor: String,
    /// Where builds live.
    pub builds_dir: Option<String>,
    /// Where caches live.
    pub cache_dir: Option<String>,
    /// `KEY=value` for every job.
    pub environment: Vec<String>,
    /// `bash` or `sh`.
    pub shell: Option<String>,
    /// `[runners.docker]`.
    pub docker: Option<NewDocker>,
    /// `[runners.machine]`.
    pub machine: Option<NewMachine>,
}

/// `[runners.docker]` of a new runner.
#[derive(Clone, Debug, Default)]
pub struct NewDocker {
    /// The image of jobs that name none.
    pub image: String,
    /// Whether containers have the machine to themselves.
    pub privileged: bool,
    /// Volumes of every container.
    pub volumes: Vec<String>,
}

/// `[runners.machine]` of a new runner.
#[derive(Clone, Debug, Default)]
pub struct NewMachine {
    /// Idle machines to keep.
    pub idle_count: u32,
    /// Seconds an idle machine beyond them is kept.
    pub idle_time: u32,
    /// Jobs a machine runs; 0 is no limit.
    pub max_builds: u32,
    /// The driver.
    pub driver: String,
    /// The names of machines, with `%s`.
    pub name: String,
    /// Its options.
    pub options: Vec<String>,
}

/// A whole file with one runner.
pub(super) fn new_file(runner: &NewRunner) -> String {
    let mut document = DocumentMut::new();
    document.insert("concurrent", value(1));
    document.insert("check_interval", value(0));
    document.insert("shutdown_timeout", value(0));
    document.insert("session_server", {
        let mut server = Table::new();
        server.insert("session_timeout", value(1800));
        Item::Table(server)
    });
    let mut text = document.to_string();
    // As Go writes tables: what is in one stands two blanks in.
    text = text.replace("\nsession_timeout", "\n  session_timeout");
    format!("{text}\n{}", table(runner))
}

/// The text of one `[[runners]]` table.
pub(super) fn table(runner: &NewRunner) -> String {
    let mut entry = Table::new();
    put(&mut entry, "name", text(&runner.name));
    put(&mut entry, "limit", count(runner.limit));
    put(
        &mut entry,
        "request_concurrency",
        runner.request_concurrency.and_then(count),
    );
    entry.insert("url", value(&runner.url));
    let id = runner.id.and_then(|id| i64::try_from(id).ok());
    put(&mut entry, "id", id.map(Value::from));
    entry.insert("token", value(runner.token.expose_secret()));
    put(
        &mut entry,
        "token_obtained_at",
        runner.token_obtained_at.and_then(instant),
    );
    put(
        &mut entry,
        "token_expires_at",
        runner.token_expires_at.and_then(instant),
    );
    for (name, file) in [
        ("tls-ca-file", &runner.tls_ca_file),
        ("tls-cert-file", &runner.tls_cert_file),
        ("tls-key-file", &runner.tls_key_file),
    ] {
        put(&mut entry, name, file.as_deref().and_then(text));
    }
    entry.insert("executor", value(&runner.executor));
    put(
        &mut entry,
        "builds_dir",
        runner.builds_dir.as_deref().and_then(text),
    );
    put(
        &mut entry,
        "cache_dir",
        runner.cache_dir.as_deref().and_then(text),
    );
    put(&mut entry, "environment", list(&runner.environment));
    put(&mut entry, "shell", runner.shell.as_deref().and_then(text));
    if let Some(docker) = &runner.docker {
        entry.insert("docker", Item::Table(docker_table(docker)));
    }
    if let Some(machine) = &runner.machine {
        entry.insert("machine", Item::Table(machine_table(machine)));
    }
    indent(&mut entry, "  ");
    let mut tables = ArrayOfTables::new();
    tables.push(entry);
    let mut document = DocumentMut::new();
    document.insert("runners", Item::ArrayOfTables(tables));
    document.to_string()
}

fn docker_table(docker: &NewDocker) -> Table {
    let mut table = Table::new();
    table.insert("tls_verify", value(false));
    table.insert("image", value(&docker.image));
    table.insert("privileged", value(docker.privileged));
    table.insert("disable_cache", value(false));
    put(&mut table, "volumes", list(&docker.volumes));
    table.insert("shm_size", value(0));
    table
}

fn machine_table(machine: &NewMachine) -> Table {
    let mut table = Table::new();
    table.insert("IdleCount", value(i64::from(machine.idle_count)));
    put(&mut table, "IdleTime", count(machine.idle_time));
    put(&mut table, "MaxBuilds", count(machine.max_builds));
    table.insert("MachineDriver", value(&machine.driver));
    table.insert("MachineName", value(&machine.name));
    put(&mut table, "MachineOptions", list(&machine.options));
    table
}

fn put(table: &mut Table, name: &str, entry: Option<Value>) {
    if let Some(entry) = entry {
        table.insert(name, Item::Value(entry));
    }
}

fn text(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| Value::from(text))
}

fn count(count: u32) -> Option<Value> {
    (count > 0).then(|| Value::from(i64::from(count)))
}

fn list(texts: &[String]) -> Option<Value> {
    let array: Array = texts.iter().map(String::as_str).collect();
    (!texts.is_empty()).then_some(Value::Array(array))
}

fn instant(instant: jiff::Timestamp) -> Option<Value> {
    // Whole seconds, as GitLab Runner writes them.
    let whole = jiff::Timestamp::from_second(instant.as_second()).ok()?;
    whole.to_string().parse::<Datetime>().ok().map(Value::from)
}

/// Keys two blanks in from their table's header, and tables in a table likewise.
fn indent(table: &mut Table, by: &str) {
    table.decor_mut().set_prefix(&by[2..]);
    let names: Vec<String> = table.iter().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        if let Some(inner) = table.get_mut(&name).and_then(Item::as_table_mut) {
            indent(inner, &format!("{by}  "));
        } else if let Some(mut key) = table.key_mut(&name) {
            key.leaf_decor_mut().set_prefix(by);
        }
    }
}

/// Puts a token in the place of another.
pub(super) fn set_token(
    table: &mut Table,
    token: &SecretString,
    obtained_at: jiff::Timestamp,
    expires_at: Option<jiff::Timestamp>,
) {
    set(table, "token", Value::from(token.expose_secret()));
    if let Some(obtained) = instant(obtained_at) {
        set(table, "token_obtained_at", obtained);
    }
    match expires_at.and_then(instant) {
        Some(expires) => set(table, "token_expires_at", expires),
        None => {
            table.remove("token_expires_at");
        }
    }
}

/// Sets a key whose layout and comment stay; a new one stands below `token`, as deep as it.
fn set(table: &mut Table, name: &str, new: Value) {
    match table.get_mut(name).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        None => {
            let prefix = table
                .key("token")
                .and_then(|key| key.leaf_decor().prefix()?.as_str())
                .map(|prefix| prefix.rsplit('\n').next().unwrap_or_default().to_owned());
            table.insert(name, Item::Value(new));
            if let (Some(prefix), Some(mut key)) = (prefix, table.key_mut(name)) {
                key.leaf_decor_mut().set_prefix(prefix);
            }
        }
    }
}
