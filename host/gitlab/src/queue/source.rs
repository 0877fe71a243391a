//! The reading of waiting jobs: which projects, then the pending jobs of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::api::{Api, Listed, epoch};
use super::{PendingJob, QueueError, QueueOptions, QueueSnapshot, ReadQueue};

/// Requests under way at once.
const AT_ONCE: usize = 4;
/// How long a whole reading may take.
const READING: Duration = Duration::from_secs(300);
/// The list of projects is asked for that much sooner where something in it could not be read.
const SOONER: u32 = 5;
const METHOD_NOT_ALLOWED: u16 = 405;

/// Reads which jobs wait, from GitLab's API. One reading runs at a time; another waits for it.
pub struct QueueSource {
    options: QueueOptions,
    api: Api,
    state: Mutex<State>,
}

impl fmt::Debug for QueueSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueSource")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    members: Option<Members>,
    /// This GitLab pages the list of jobs by number alone.
    by_number: bool,
}

/// The projects that are read, and what cannot be.
struct Members {
    since: Instant,
    projects: BTreeMap<u64, String>,
    /// Those that were named, not found in a group.
    named: BTreeSet<u64>,
    problems: Vec<QueueError>,
    /// Why a project of a group is left out, the last one. CI/CD is switched off for many.
    left_out: Option<QueueError>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct ProjectItem {
    id: Value,
    path_with_namespace: Value,
}

impl ProjectItem {
    fn id(&self) -> Option<u64> {
        number(&self.id)
    }

    fn path(&self) -> String {
        let path = self.path_with_namespace.as_str();
        path.map_or_else(|| self.id.to_string(), str::to_owned)
    }
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct JobItem {
    id: Value,
    status: Value,
    tag_list: Value,
    queued_duration: Value,
}

impl JobItem {
    fn id(&self) -> Option<u64> {
        number(&self.id)
    }

    /// A server that does not know the scope gives all jobs.
    fn waits(&self) -> bool {
        self.status
            .as_str()
            .is_none_or(|status| status == "pending")
    }

    fn pending(self, project: u64, age: Duration) -> Option<PendingJob> {
        let tags: BTreeSet<String> = match &self.tag_list {
            Value::Array(tags) => tags
                .iter()
                .filter_map(|tag| Some(tag.as_str()?.to_owned()))
                .collect(),
            _ => BTreeSet::new(),
        };
        let queued = match &self.queued_duration {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let queued = Duration::try_from_secs_f64(queued.unwrap_or(0.0)).unwrap_or_default();
        Some(PendingJob {
            id: self.id()?,
            project,
            tags: tags.into_iter().collect(),
            queued_for: queued.saturating_add(age),
        })
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// What was read of one project.
enum Read {
    Jobs(u64, Vec<PendingJob>, bool),
    Unreadable(u64, QueueError),
}

impl QueueSource {
    /// A source for these options. Nothing is asked yet.
    ///
    /// # Errors
    /// [`QueueError::BadOption`]: an option makes no sense.
    pub fn new(mut options: QueueOptions) -> Result<Self, QueueError> {
        let bad = |option, problem: String| Err(QueueError::BadOption { option, problem });
        for (option, names) in [
            ("projects", &mut options.projects),
            ("groups", &mut options.groups),
        ] {
            for name in names.iter_mut() {
                let path = name.trim().trim_matches('/');
                if path.is_empty() || path.contains("://") {
                    let problem = format!("has `{name}`: write a full path such as `team/app`");
                    return bad(option, problem);
                }
                *name = path.to_owned();
            }
        }
        if options.projects.is_empty() && options.groups.is_empty() {
            let problem = "is empty, and so is `groups`: name what this runner takes jobs of";
            return bad("projects", problem.to_owned());
        }
        if options.refresh < Duration::from_secs(1) {
            return bad("refresh", "must be a second or more".to_owned());
        }
        if options.stale_after <= options.refresh {
            let problem = format!(
                "is {:?}, but must be longer than `refresh`, {:?}: take three times as much",
                options.stale_after, options.refresh
            );
            return bad("stale_after", problem);
        }
        Ok(Self {
            api: Api::new(&options)?,
            options,
            state: Mutex::default(),
        })
    }

    /// What the source was made with.
    #[must_use]
    pub fn options(&self) -> &QueueOptions {
        &self.options
    }

    /// One whole reading, 5 minutes at most. Safe to drop.
    ///
    /// A project or group that is not there or may not be read is left out and told in
    /// [`QueueSnapshot::problems`], for the others are still worth knowing.
    ///
    /// # Errors
    /// Anything else that went wrong on the way, or nothing at all could be read.
    pub async fn refresh(&self) -> Result<QueueSnapshot, QueueError> {
        let limit = READING;
        tokio::time::timeout(limit, self.read())
            .await
            .unwrap_or(Err(QueueError::TooSlow { limit }))
    }

    async fn read(&self) -> Result<QueueSnapshot, QueueError> {
        let mut state = self.state.lock().await;
        let read_at = epoch();
        self.renew(&mut state).await?;
        let State { members, by_number } = &mut *state;
        let Some(members) = members else {
            return Ok(QueueSnapshot::default());
        };
        let mut snapshot = QueueSnapshot {
            read_at,
            ..QueueSnapshot::default()
        };
        // One project first: whether this GitLab pages by key is then known for the others.
        let mut projects: Vec<(u64, String)> = members.projects.clone().into_iter().collect();
        let mut reads = Vec::with_capacity(projects.len());
        if let Some((id, path)) = projects.pop() {
            match self.jobs(id, path.clone(), *by_number).await {
                Err(QueueError::Unavailable { status, .. })
                    if status == METHOD_NOT_ALLOWED && !*by_number =>
                {
                    *by_number = true;
                    reads.push(self.jobs(id, path, true).await?);
                }
                read => reads.push(read?),
            }
        }
        let by_number = *by_number;
        let mut others = stream::iter(projects)
            .map(|(id, path)| self.jobs(id, path, by_number))
            .buffer_unordered(AT_ONCE);
        while let Some(read) = others.next().await {
            reads.push(read?);
        }
        drop(others);
        for read in reads {
            match read {
                Read::Jobs(id, jobs, truncated) => {
                    snapshot.projects.insert(id);
                    snapshot.jobs.extend(jobs);
                    snapshot.truncated |= truncated;
                }
                Read::Unreadable(id, problem) => {
                    members.projects.remove(&id);
                    if members.named.contains(&id) {
                        members.problems.push(problem);
                    } else {
                        tracing::debug!(%problem, "a group's project is left out for now");
                        members.left_out = Some(problem);
                    }
                }
            }
        }
        let problem = members.problems.first().or(members.left_out.as_ref());
        if let Some(problem) = problem.filter(|_| snapshot.projects.is_empty()) {
            return Err(problem.clone());
        }
        snapshot.problems = members.problems.iter().map(ToString::to_string).collect();
        snapshot.jobs.sort_unstable_by_key(|job| job.id);
        snapshot.jobs.dedup_by_key(|job| job.id);
        self.api.forget(self.options.projects_for.saturating_mul(2));
        Ok(snapshot)
    }

    /// Asks which projects there are, if the last answer is too old.
    async fn renew(&self, state: &mut State) -> Result<(), QueueError> {
        let now = Instant::now();
        if let Some(members) = &state.members {
            let fresh = match members.problems.is_empty() {
                true => self.options.projects_for,
                false => self.options.projects_for / SOONER,
            };
            if now.saturating_duration_since(members.since) < fresh {
                return Ok(());
            }
        }
        match (self.members(now).await, &state.members) {
            (Ok(members), _) => state.members = Some(members),
            (Err(error), None) => return Err(error),
            // Jobs of the projects known so far are worth more than none; what keeps GitLab from
            // answering this will show with the jobs too, if it lasts.
            (Err(error), Some(_)) => {
                tracing::debug!(%error, "the projects known so far are read on");
            }
        }
        Ok(())
    }

    async fn members(&self, since: Instant) -> Result<Members, QueueError> {
        let mut members = Members {
            since,
            projects: BTreeMap::new(),
            named: BTreeSet::new(),
            problems: Vec::new(),
            left_out: None,
        };
        for name in &self.options.projects {
            let what = format!("project {name}");
            let item = self
                .api
                .one::<ProjectItem>(&["projects", name], &what)
                .await;
            let found = item.and_then(|item| {
                let id = item.id().ok_or_else(|| QueueError::Malformed {
                    what: what.clone(),
                    problem: "it has no `id`".to_owned(),
                })?;
                Ok(BTreeMap::from([(id, item.path())]))
            });
            members.add(found)?;
        }
        members.named = members.projects.keys().copied().collect();
        for name in &self.options.groups {
            let what = format!("projects of group {name}");
            let query = [
                ("include_subgroups", "true"),
                ("archived", "false"),
                ("with_shared", "false"),
                ("simple", "true"),
                ("order_by", "id"),
                ("sort", "asc"),
                ("per_page", "100"),
            ];
            let path = ["groups", name, "projects"];
            let list = self.api.list(&path, &query, ProjectItem::id, &what).await;
            members.add(list.map(|list| {
                let items = list.items.iter();
                items
                    .filter_map(|(item, _)| Some((item.id()?, item.path())))
                    .collect()
            }))?;
        }
        Ok(members)
    }

    async fn jobs(&self, id: u64, path: String, by_number: bool) -> Result<Read, QueueError> {
        let what = format!("jobs of project {path}");
        let number = id.to_string();
        let mut query = vec![("scope[]", "pending"), ("per_page", "100")];
        if !by_number {
            query.extend([
                ("pagination", "keyset"),
                ("order_by", "id"),
                ("sort", "desc"),
            ]);
        }
        let list = self
            .api
            .list(&["projects", &number, "jobs"], &query, JobItem::id, &what)
            .await;
        match list {
            Ok(Listed { items, truncated }) => {
                let jobs = items
                    .into_iter()
                    .filter(|(item, _)| item.waits())
                    .filter_map(|(item, age)| item.pending(id, age))
                    .collect();
                Ok(Read::Jobs(id, jobs, truncated))
            }
            Err(error) if error.is_local() => Ok(Read::Unreadable(id, error)),
            Err(error) => Err(error),
        }
    }
}

impl Members {
    fn add(&mut self, found: Result<BTreeMap<u64, String>, QueueError>) -> Result<(), QueueError> {
        match found {
            Ok(projects) => self.projects.extend(projects),
            Err(problem) if problem.is_local() => self.problems.push(problem),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[async_trait]
impl ReadQueue for QueueSource {
    async fn refresh(&self) -> Result<QueueSnapshot, QueueError> {
        QueueSource::refresh(self).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_read_from_odd_json_too() {
        let cases = [
            (
                r#"{"id":1,"status":"pending","tag_list":["b","a","b"],"queued_duration":1.5}"#,
                Some((1, vec!["a", "b"], 1500)),
            ),
            (
                r#"{"id":"2","tag_list":null,"queued_duration":"3"}"#,
                Some((2, vec![], 3000)),
            ),
            (r#"{"id":3}"#, Some((3, vec![], 0))),
            (
                r#"{"id":4,"tag_list":[1,"x",null],"queued_duration":-5}"#,
                Some((4, vec!["x"], 0)),
            ),
            (
                r#"{"id":5,"tag_list":"x","queued_duration":1e300}"#,
                Some((5, vec![], 0)),
            ),
            (r#"{"id":6,"status":"running"}"#, None),
            (r#"{"id":-7}"#, None),
            (r#"{"id":null}"#, None),
        ];
        for (text, expected) in cases {
            let item: JobItem = serde_json::from_str(text).expect("JSON");
            let job = Some(item)
                .filter(JobItem::waits)
                .and_then(|item| item.pending(9, Duration::ZERO));
            let expected = expected.map(|(id, tags, ms)| PendingJob {
                id,
                project: 9,
                tags: tags.into_iter().map(str::to_owned).collect(),
                queued_for: Duration::from_millis(ms),
            });
            assert_eq!(job, expected, "{text}");
        }
    }

    #[test]
    fn options_that_make_no_sense_are_told() {
        type Change = fn(&mut QueueOptions);
        let cases: [(Change, &str); 9] = [
            (|o| o.projects.clear(), "`projects` is empty"),
            (|o| o.projects = vec![" / ".into()], "`projects` has"),
            (
                |o| o.groups = vec!["https://gitlab.test/team".into()],
                "`groups` has",
            ),
            (|o| o.refresh = Duration::ZERO, "`refresh`"),
            (|o| o.stale_after = o.refresh, "`stale_after`"),
            (|o| o.url = "gitlab".into(), "`url`"),
            (|o| o.token = "".into(), "`token_file`"),
            (|o| o.token = "glpat-\nhidden".into(), "`token_file`"),
            (
                |o| o.tls_ca_file = Some("/nonexistent/ca.pem".into()),
                "`tls-ca-file`",
            ),
        ];
        for (change, expected) in cases {
            let mut options = QueueOptions::new("https://gitlab.test", "glpat-x".into());
            options.projects = vec!["/team/app/".into()];
            change(&mut options);
            let error = QueueSource::new(options).expect_err(expected).to_string();
            assert!(error.contains(expected), "{expected}: {error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
