//! Files that have to work as they are.

mod common;

use common::{Shelf, lines, machine, read, runner};
use secrecy::ExposeSecret;
use serde_json::json;
use springtide_config::{
    CacheStore, Config, Executor, FilePurpose, Problem, S3Keys, SecretPart, Source, parse,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn usable(text: &str) -> (Config, Vec<Problem>) {
    let (config, mut problems) = read(text);
    let config = config.unwrap_or_else(|| panic!("{}", lines(&problems)));
    problems.extend(config.check_plugins(&Shelf));
    let errors: Vec<&Problem> = problems
        .iter()
        .filter(|problem| problem.is_error())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    (config, problems)
}

#[test]
fn the_references_example_is_accepted_and_a_driver_that_is_not_installed_is_a_warning() {
    let (config, problems) = usable(include_str!("data/reference-1.4.toml"));
    insta::assert_snapshot!(lines(&problems), @r#"
        19:19: warning: `IdleCount` is 50, and `limit` of the runner allows 10 machines in all; write 10 or less, or a larger limit
        15:21: warning: the driver "google" is not installed, and this runner takes no jobs; put google.wasm into the plugin directory; `springtide plugin list` shows what is there
        "#);
    let runner = &config.runners[0];
    assert_eq!(runner.executor, Executor::DockerMachine);
    assert_eq!(config.concurrent, 50);
    let Some(CacheStore::S3(s3)) = runner.cache.as_ref().map(|cache| &cache.store) else {
        panic!("no cache");
    };
    assert!(matches!(s3.keys, S3Keys::These { .. }));
    let chain = runner.policy_chain();
    assert_eq!(chain.len(), 1);
    assert_eq!(chain[0].plugin, "off-peak");
    assert_eq!(
        chain[0].settings,
        json!({"autoscaling": [
            {"Periods": ["* * 9-17 * * mon-fri *"], "Timezone": "UTC", "IdleCount": 50,
             "IdleCountMin": 5, "IdleScaleFactor": 1.5, "IdleTime": 3600},
            {"Periods": ["* * * * * sat,sun *"], "Timezone": "UTC", "IdleCount": 5,
             "IdleCountMin": 0, "IdleScaleFactor": 0.0, "IdleTime": 60},
        ]})
    );
}

#[test]
fn what_register_wrote_and_people_misspelt_works() {
    let (config, problems) = usable(include_str!("data/off-peak-spellings.toml"));
    insta::assert_snapshot!(lines(&problems), @r#"33:21: warning: the driver "amazonec2" is not installed, and this runner takes no jobs; put amazonec2.wasm into the plugin directory; `springtide plugin list` shows what is there"#);
    let runner = &config.runners[0];
    assert_eq!(runner.token_expires_at, None);
    assert_eq!(runner.token_obtained_at, Some(1_704_067_200));
    assert!(runner.cache.is_none());
    assert_eq!(
        runner.policy_chain()[0].settings,
        json!({
            "OffPeakPeriods": ["* * 0-9,18-23 * * mon-fri *", "* * * * * sat,sun *"],
            "OffPeakTimezone": "", "OffPeakIdleCount": 0, "OffPeakIdleTime": 600,
        })
    );
}

#[test]
fn defaults_are_gitlab_runners() {
    let (config, problems) = usable(&runner(""));
    assert_eq!(lines(&problems), "");
    assert_eq!(config.check_interval, Duration::from_secs(3));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(config.connection_max_age, Some(Duration::from_secs(900)));
    assert_eq!(config.listen_address, None);
    let runner = &config.runners[0];
    assert_eq!(runner.request_concurrency, 1);
    assert_eq!(runner.output_limit, 4096);
    assert_eq!(runner.unhealthy_requests_limit, 3);
    assert_eq!(runner.unhealthy_interval, Duration::from_secs(3600));
    assert_eq!(
        runner.limits().create_timeout,
        springtide_pool::Limits::default().create_timeout
    );
    assert_eq!(
        runner.limits().missing_grace,
        springtide_pool::Limits::default().missing_grace
    );
    assert!(runner.policy_chain().is_empty());
}

#[test]
fn a_job_waits_for_a_machine_as_long_as_our_table_says_or_else_theirs() {
    for (written, seconds) in [
        ("", 1800),
        ("prepare_timeout = \"5m\"", 300),
        ("prepare_timeout = 0", 1800),
        ("[runners.pool]\nprepare_timeout = 60", 60),
        ("[runners.pool]\nboot_timeout = 60", 1800),
        (
            "prepare_timeout = \"5m\"\n[runners.pool]\nboot_timeout = 60",
            300,
        ),
        (
            "prepare_timeout = \"5m\"\n[runners.pool]\nprepare_timeout = 60",
            60,
        ),
    ] {
        let (config, problems) = usable(&runner(written));
        assert_eq!(lines(&problems), "", "{written}");
        let pool = &config.runners[0].pool;
        assert_eq!(pool.prepare_timeout.as_secs(), seconds, "{written}");
    }
}

#[test]
fn what_is_written_is_what_is_read() {
    let more = "check_interval = 9\nlisten_address = \":9000\"\nconnection_max_age = \"0s\"\nlog_format = \"json\"\n";
    let queue =
        "[runners.queue]\nprojects = [\"/team/app/\"]\ntags = [\"a\"]\ntoken_file = \"t\"\n";
    let text = format!(
        "{more}{}{queue}",
        runner("request_concurrency = 3\ntls-ca-file = \"ca.pem\"")
            .replace("glrt-abcdefgh", "${TOKEN}")
    );
    let (config, problems) = usable(&text);
    assert_eq!(lines(&problems), "");
    assert_eq!(config.listen_address.as_deref(), Some("0.0.0.0:9000"));
    assert_eq!(config.connection_max_age, None);
    assert_eq!(config.poll_interval(), Duration::from_secs(9));
    let runner = &config.runners[0];
    assert_eq!(runner.token.expose_secret(), "glrt-from-outside");
    assert_eq!(runner.tls_ca_file.as_deref(), Some(Path::new("ca.pem")));
    let queue = runner.queue.as_ref().unwrap();
    assert_eq!(queue.projects, ["team/app"]);
    assert!(!queue.run_untagged);
    assert_eq!(queue.refresh, Duration::from_secs(15));
    let chain = runner.policy_chain();
    assert_eq!(chain.len(), 1);
    assert!(chain[0].implied && chain[0].plugin == "queue-depth");
}

#[test]
fn a_key_is_the_same_after_a_reload_and_a_fingerprint_tells_what_changed() {
    let read = |text: &str| usable(text).0.runners.remove(0);
    let one = read(&runner("limit = 3"));
    let commented = read(&runner("# why\n  limit   = 3"));
    let changed = read(&runner("limit = 4"));
    assert_eq!(one.fingerprint, commented.fingerprint);
    assert_ne!(one.fingerprint, changed.fingerprint);
    assert_eq!(one.key, changed.key);
    assert_ne!(
        one.key,
        read(&runner("").replace("abcdefgh", "zyxwvuts")).key
    );
}

#[test]
fn options_become_the_drivers_settings_by_its_schema() {
    let options = "MachineOptions = [\"boot-delay=3\", \"failure-rate=0.5\", \"keep\", \"label=a=1\", \"label=b\", \"engine-label=x=1\"]\nMachineOptionsWithName = [\"title=is %s\"]";
    let (config, _) = usable(&machine(options));
    let table = config.runners[0].machine.as_ref().unwrap();
    let schema = springtide_config::Catalog::driver(&Shelf, "local").unwrap();
    let options = table.driver_options(&schema, "ci-1");
    assert_eq!(lines(&options.problems), "");
    assert!(options.named.contains("title") && options.named.len() == 1);
    assert_eq!(
        serde_json::Value::from(options.settings),
        json!({"boot-delay": 3, "failure-rate": 0.5, "keep": true, "label": ["a=1", "b"], "title": "is ci-1"})
    );
}

#[test]
fn what_a_file_says_of_plugins_is_checked_where_it_says_it() {
    let text = machine(
        "MachineOptions = [\"boot-dealy=3\", \"boot-delay=soon\",\n  \"secret-key=hidethis\", \"keep=perhaps\", \"title\"]",
    ) + "[[runners.policy]]\nplugin = \"queue-deph\"\n[[runners.policy]]\nplugin = \"queue-depth\"\n[runners.policy.settings]\nshare = 1.5\nflor = 3\n";
    let (config, problems) = read(&text);
    assert_eq!(lines(&problems), "");
    let said = lines(&config.unwrap().check_plugins(&Shelf));
    assert!(!said.contains("hidethis"));
    insta::assert_snapshot!(said, @r#"
        11:19: error: the driver "local" has no option "boot-dealy"; write boot-delay, or delete it
        11:35: error: the option "boot-delay" has to be a whole number; write "boot-delay=10"
        12:3: error: the option "secret-key" has to be a whole number; write "secret-key=10"
        12:26: error: the option "keep" has to be true or false; write "keep=true"
        12:42: error: the option "title" has no value; write "title=value"
        14:10: error: the policy "queue-deph" is not installed; write plugin = "queue-depth"
        18:1: error: the policy "queue-depth" can't work with `share`: its value is greater than the maximum of 1; write what `springtide plugin inspect` says it takes
        19:1: error: the policy "queue-depth" has no setting "flor"; write floor, or delete it
        "#);
    let (config, _) = read(
        &machine("MachineOptions = [\"boot-delay=-3\", \"keep\", \"keep=0\"]")
            .replace("\"local\"", "\"local\" # ours"),
    );
    insta::assert_snapshot!(lines(&config.unwrap().check_plugins(&Shelf)), @r#"
        11:19: error: the driver "local" can't work with `boot-delay`: its value is less than the minimum of 0; write what `springtide plugin inspect` says it takes
        11:44: warning: the option "keep" stands twice, and this one counts; delete the other one
        "#);
    let (config, _) = read(&machine("").replace("\"local\"", "\"locla\""));
    insta::assert_snapshot!(lines(&config.unwrap().check_plugins(&Shelf)), @r#"10:17: warning: the driver "locla" is not installed, and this runner takes no jobs; write MachineDriver = "local""#);
}

#[test]
fn each_example_has_no_problem() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/config");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let source = Source::read(&path).unwrap();
            let (config, problems) = parse(&source);
            assert_eq!(lines(&problems), "", "{}", path.display());
            assert!(config.is_some_and(|config| !config.runners.is_empty()));
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen}");
}

#[test]
fn what_a_schema_marks_stays_in_the_host() {
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "x-key": {"type": "string", "secret": "aws.access-key-id"},
            "x-secret": {"type": "string", "secret": "aws.secret-access-key"},
            "x-token": {"type": "string", "secret": true},
            "x-userdata": {"type": "string", "host-file": "user-data"},
            "x-keypath": {"type": "string", "host-file": "ssh-key"},
            "x-ca": {"type": "string", "host-file": true},
            "x-old": {"type": "integer", "instead": "use x-new instead"},
            "x-new": {"type": "integer", "minimum": 1},
        },
    });
    let options = |list: &str| {
        let (config, _) = read(&machine(&format!("MachineOptions = [{list}]")));
        let machine = config.unwrap().runners.remove(0).machine.unwrap();
        machine.driver_options(&schema, "ci-1")
    };
    let all = options(
        r#""x-key=AKIA", "x-secret=hidethis", "x-token=hidethat", "x-userdata=u.yaml", "x-keypath=/k", "x-ca=", "x-old=3", "x-new=4""#,
    );
    assert_eq!(
        serde_json::Value::from(all.settings.clone()),
        json!({"x-new": 4})
    );
    assert!(!format!("{all:?}").contains("hidethis"), "{all:?}");
    let kept: Vec<_> = all
        .secrets
        .iter()
        .map(|one| (one.credential.as_str(), one.part))
        .collect();
    assert_eq!(
        kept,
        [
            ("aws", SecretPart::AccessKeyId),
            ("aws", SecretPart::SecretAccessKey),
            ("x-token", SecretPart::Bearer),
        ]
    );
    let files: Vec<_> = all
        .files
        .iter()
        .map(|one| (one.path.to_str(), one.purpose))
        .collect();
    assert_eq!(
        files,
        [
            (Some("/k"), FilePurpose::SshKey),
            (Some("u.yaml"), FilePurpose::UserData),
        ]
    );
    insta::assert_snapshot!(lines(&all.problems), @r#"11:120: warning: the option "x-old" is not obeyed any more; use x-new instead"#);
    insta::assert_snapshot!(lines(&options(r#""x-key=AKIA""#).problems), @r#"11:19: error: the option "x-key" is half a key without "x-secret"; write "x-secret=..." too, or delete both for the role or the profile of this host"#);
    // A schema with such marks is a schema, and what does not fit it is found.
    insta::assert_snapshot!(lines(&options(r#""x-new=0""#).problems), @r#"11:19: error: the driver "local" can't work with `x-new`: its value is less than the minimum of 1; write what `springtide plugin inspect` says it takes"#);
}
