//! Bad files: what is said of them, where, and what to write instead.

mod common;

use common::{lines, machine, problems, read, runner};
use springtide_config::{EngineOptions, Source, load};

#[test]
fn a_file_without_problems_has_none() {
    assert_eq!(problems(&runner("")), "");
    assert_eq!(problems(&machine("IdleCount = 2\nIdleTime = 60")), "");
}

#[test]
fn files_that_are_none_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let said = |problems: &[springtide_config::Problem]| {
        lines(problems).replace(&folder.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!(said(&load(&path).1), @"error: reading DIR/config.toml failed: No such file or directory (os error 2); write one, make one with `springtide register`, or name another with --config");
    insta::assert_snapshot!(said(&load(folder.path()).1), @"error: reading DIR failed: Is a directory (os error 21); name the file in it with --config");
    let wrong = |bytes: &[u8]| Source::of_bytes(bytes.to_vec()).unwrap_err().to_string();
    insta::assert_snapshot!(wrong(b"concurrent = 1\nname = \"\xff\""), @"2:9: error: byte 0xff is not UTF-8; save the file as UTF-8");
    insta::assert_snapshot!(wrong(b"\xff\xfec\0o\0n\0"), @"1:1: error: the file is UTF-16, and a configuration is UTF-8; save the file as UTF-8");
    insta::assert_snapshot!(problems(""), @"warning: there are no runners in the file, and nothing to do; write a [[runners]] table, or make one with `springtide register`");
    insta::assert_snapshot!(problems("concurrent = 3\n"), @"warning: there are no runners in the file, and nothing to do; write a [[runners]] table, or make one with `springtide register`");
    insta::assert_snapshot!(problems("concurrent = \n"), @"1:14: error: this is not TOML: string values must be quoted, expected literal string");
    insta::assert_snapshot!(problems("a = 1\na = 2\n"), @"2:1: error: this is not TOML: duplicate key");
    insta::assert_snapshot!(problems("token = \"glrt-secret\n"), @r#"1:21: error: this is not TOML: invalid basic string, expected `"`"#);
    assert_eq!(problems(&format!("\u{feff}{}", runner(""))), "");
}

#[test]
fn options_of_the_engine_are_checked_whatever_the_driver() {
    insta::assert_snapshot!(problems(&machine(
        "MachineOptions = [\"engine-registry-mirror=mirror:6000\", \"engine-env=SECRET\", \"engine-opt=--debug\", \"engine-install=no\", \"engine-instal=0\", \"engine-label=a=b\"]\nMachineOptionsWithName = [\"engine-label=name=%s\", \"engine-label=%s\"]"
    )), @r#"
        11:19: error: the option "engine-registry-mirror" has to be an address; write "engine-registry-mirror=https://mirror.example.com"
        11:57: error: the option "engine-env" has to be a key, = and a value in one line; write "engine-env=KEY=value"
        11:78: error: the option "engine-opt" has to be a flag of dockerd without its dashes; write "engine-opt=log-driver=journald"
        11:100: error: the option "engine-install" has to be true or false; write "engine-install=false"
        11:121: warning: there is no option "engine-instal", and it is ignored; write engine-install, or delete it
        12:51: error: the option "engine-label" has to be a key, = and a value in one line; write "engine-label=KEY=value"
        "#);
    let (config, _) = read(&machine(
        "MachineOptions = [\"engine-label=a=b\", \"engine-install=false\"]\nMachineOptionsWithName = [\"engine-label=name=%s\"]\n[runners.pool]\nready_command = \"docker info\"\nfirst_boot = \"first-boot.sh\"",
    ));
    let runner = config.unwrap().runners.remove(0);
    let options = EngineOptions::of(&runner.machine.unwrap(), "ci-7");
    assert_eq!(options.label, ["a=b", "name=ci-7"]);
    assert!(!options.install);
    assert_eq!(runner.pool.ready_command.as_deref(), Some("docker info"));
    assert_eq!(runner.pool.first_boot, Some("first-boot.sh".into()));
}

#[test]
fn options_for_a_port_of_dockers_are_named_and_not_obeyed() {
    let problems = problems(&machine(
        "MachineOptions = [\"tls-san=ci.example.com\", \"engine-opt=host=tcp://0.0.0.0:2375\", \"swarm-master\"]",
    ));
    for ignored in ["tls-san", "`host` of dockerd", "swarm-master"] {
        assert!(problems.contains(ignored), "{problems}");
    }
    assert!(!problems.contains("error"), "{problems}");
}

#[test]
fn unknown_keys_are_warnings_in_gitlabs_tables_and_errors_in_ours() {
    insta::assert_snapshot!(problems(&runner("limits = 3\nfrobnicate = 1\nIdleCount = 3")), @r"
        7:1: warning: `limits` is no key of [[runners]], and is ignored; write limit, or delete it
        8:1: warning: `frobnicate` is no key of [[runners]], and is ignored; delete it
        9:1: warning: `IdleCount` is no key of [[runners]], and is ignored; write it in [runners.machine], or delete it
        ");
    insta::assert_snapshot!(problems(&machine("IdleCout = 3")), @"11:1: warning: `IdleCout` is no key of [runners.machine], and is ignored; write IdleCount, or delete it");
    insta::assert_snapshot!(problems(&machine("[runners.pool]\nbot_timeout = 3\nOwner = \"x\"")), @r"
        12:1: error: `bot_timeout` is no key of [runners.pool]; write boot_timeout, or delete it
        13:1: error: `Owner` is no key of [runners.pool]; write owner
        ");
    insta::assert_snapshot!(problems(&format!("[runner]\n{}", runner(""))), @r"
        warning: `concurrent` is missing: one job at a time is run over all runners; write concurrent = and the most jobs at once, at the beginning of the file
        1:2: warning: `runner` is no key of the file itself, and is ignored; write runners, or delete it
        ");
}

#[test]
fn keys_that_are_read_and_not_obeyed_have_a_note() {
    let of_runner = [
        "job_status_final_update_retry_limit = 3",
        "proxy_exec = true",
        "step_runner_image = \"a\"",
        "artifact = { upload_timeout = \"1m\" }",
        "referees = {}",
        "ssh = { user = \"a\" }",
    ];
    for line in of_runner {
        let key = line.split_whitespace().next().unwrap();
        let said = problems(&runner(line));
        let start = format!("7:1: note: `{key}` is read and not obeyed: ");
        assert!(said.starts_with(&start), "{line}: {said}");
        assert_eq!(said.lines().count(), 1, "{line}: {said}");
        // A runner that is not run here is told as a whole.
        let other = runner(line).replace("shell+machine", "kubernetes");
        assert!(!problems(&other).contains("not obeyed"), "{line}");
    }
    for line in [
        "user = \"a\"",
        "sentry_dsn = \"a\"",
        "experimental = {}",
        "machine = { shutdown_drain = { enabled = true } }",
    ] {
        let said = problems(&format!("{line}\n{}", runner("")));
        assert!(said.contains("note: `"), "{line}: {said}");
        assert_eq!(said.lines().count(), 1, "{line}: {said}");
    }
    // What `register` of GitLab Runner's writes.
    let written = format!(
        "session_server = {{ session_timeout = 1800 }}\n{}",
        runner("")
    );
    assert_eq!(problems(&written), "");
    let everywhere = written.replace(
        "session_timeout",
        "listen_address = \":8093\", session_timeout",
    );
    insta::assert_snapshot!(problems(&everywhere), @"1:37: warning: `listen_address` of [session_server] is every address of this host, and none that GitLab could come to; write advertise_address = and the host and port that GitLab reaches it by");
    let said = problems(&machine("MaxRemovalAttempts = 3"));
    insta::assert_snapshot!(said, @"11:1: note: `MaxRemovalAttempts` is read and not obeyed: a machine is removed until it is gone");
    let docker = |line: &str| {
        let image = format!("[runners.docker]\nimage = \"a\"\n{line}");
        problems(&machine(&image).replace("shell+machine", "docker+machine"))
    };
    assert_eq!(docker("tls_verify = false"), "");
    insta::assert_snapshot!(docker("tls_verify = true\nhost = \"tcp://a\""), @r"
    13:1: note: `tls_verify` is read and not obeyed: each machine has an engine of its own
    14:1: note: `host` is read and not obeyed: each machine has an engine of its own
    ");
}

#[test]
fn what_a_container_is_given_has_to_be_readable() {
    let docker = |line: &str| {
        let table = format!("[runners.docker]\nimage = \"a\"\n{line}");
        problems(&machine(&table).replace("shell+machine", "docker+machine"))
    };
    for good in [
        "memory = \"512m\"\nmemory_swap = \"-1\"\ncpus = \"1.5\"\ngpus = \"all\"",
        "devices = [\"/dev/kvm\"]\nservices_devices = { \"web:*\" = [\"/dev/fuse:r\"] }",
        "ulimit = { nofile = \"1024:2048\" }\nhost = \"unix:///run/docker.sock\"",
    ] {
        assert_eq!(docker(good), "", "{good}");
    }
    insta::assert_snapshot!(
        [
            "memory = \"lots\"",
            "service_cpus = \"none\"",
            "devices = [\"kvm\"]",
            "services_devices = { web = [\"fuse\"] }",
            "ulimit = { nofile = \"2:1\" }",
            "gpus = \"colour=red\"",
            "isolation = \"hyperv\"",
        ]
        .map(docker)
        .join("\n"),
        @r#"
    13:10: error: "lots" can't be read as `memory`; write a number with b, k, m or g, such as "512m"
    13:16: error: "none" can't be read as `service_cpus`; write a number of processors, such as "1.5"
    13:12: error: "kvm" is no device; write the device, its place in the container and what is allowed, such as "/dev/kvm:/dev/kvm:rw"
    13:29: error: "fuse" is no device; write the device, its place in the container and what is allowed, such as "/dev/kvm:/dev/kvm:rw"
    13:21: error: nofile = "2:1" is no limit of processes; write soft:hard under the name of a limit, such as nofile = "1024:4096"
    13:8: error: "colour=red" can't be read as `gpus`; write "all", a count, or pairs such as "device=0"
    13:1: note: `isolation` is read and not obeyed: it is for containers of Windows, which are not run here
    "#
    );
}

#[test]
fn what_can_be_read_of_a_file_with_an_error_is_there_to_be_checked() {
    let text = runner("").replace("concurrent = 4", "concurrent = 0");
    let examine = |text: &str| springtide_config::examine(&Source::of(text.to_owned()));
    let (examined, problems) = examine(&text);
    let examined = examined.unwrap();
    assert!(!examined.usable && problems[0].is_error());
    assert_eq!(examined.config.runners.len(), 1);
    assert!(examine(&runner("")).0.unwrap().usable);
    for unplaced in [
        "[springtide]\nplugin_dir = 3\n",
        "[plugins.a]\nfile = 3\n",
        "[springtide",
    ] {
        assert!(
            examine(&(text.clone() + unplaced)).0.is_none(),
            "{unplaced}"
        );
    }
    let elsewhere = text + "[springtide]\nhelper = 3\n[plugins.a]\ndigest = 3\n";
    assert!(examine(&elsewhere).0.is_some());
}

#[test]
fn keys_match_in_any_case_and_twice_is_once_too_often() {
    assert_eq!(problems(&machine("idlecount = 3\nIDLETIME = 60")), "");
    let (config, _) = read(&machine("idlecount = 3\nIDLETIME = 60"));
    let machine_table = config.unwrap().runners[0].machine.clone().unwrap();
    assert_eq!((machine_table.idle_count, machine_table.idle_time), (3, 60));
    insta::assert_snapshot!(problems(&machine("IdleCount = 3\nidlecount = 4")), @"12:1: error: `IdleCount` is written twice, in two spellings, and either might count; delete this one or that of line 11");
}

#[test]
fn wrong_types_and_ranges_are_all_told_at_once() {
    insta::assert_snapshot!(problems(r#"
concurrent = 0
check_interval = -1
log_level = "inof"
log_format = 3
listen_address = "nowhere"
shutdown_timeout = "30"
connection_max_age = "15 minutes"
[[runners]]
name = 3
url = "gitlab.example.com"
token = ""
executor = "docker+machin"
limit = -1
output_limit = 99999999999
unhealthy_interval = 3600
environment = "A=b"
shell = "fish"
debug_trace_disabled = "true"
token_expires_at = "tomorrow"
[runners.feature_flags]
FF_ONE = 1
[runners.docker]
pull_policy = "allways"
memory = 4
[[runners.docker.services]]
alias = "db"
[runners.machine]
IdleCount = 1.5
IdleScaleFactor = 1
MachineOptions = ["a=b", 3]
MachineName = "ci"
autoscaling = "none"
"#), @r#"
        2:14: error: `concurrent` is 0; write 1 or more
        3:18: warning: `check_interval` is -1, and the default is taken, as by GitLab Runner; write a number above 0, or delete it
        4:13: error: "inof" is no `log_level` that is known; write log_level = "info"
        5:14: error: `log_format` is a whole number, and has to be a text in quotes; write log_format = "..."
        7:20: error: `shutdown_timeout` is a text, and has to be a whole number; write shutdown_timeout = 30, without quotes
        8:22: error: `connection_max_age` is "15 minutes", which is no duration; write numbers with their units, such as "1h30m", "90s" or "500ms"
        10:8: error: `name` is a whole number, and has to be a text in quotes; write name = "..."
        11:7: error: `url` is no address of GitLab's; write GitLab's address, such as url = "https://gitlab.example.com"
        12:9: error: the runner has no `token`; write the authentication token that GitLab showed for the runner, or make a new entry with `springtide register`
        13:12: error: there is no executor "docker+machin"; write executor = "docker+machine"
        14:9: error: `limit` is -1; write 0 or more; 0 is no limit
        15:16: error: `output_limit` is too large; write 4294967295 at most
        16:22: warning: `unhealthy_interval` is 3600 nanoseconds, for that is what a bare number means here; write unhealthy_interval = "3600s" for seconds
        17:15: error: `environment` is a text, and has to be a list of texts; write environment = ["..."]
        19:24: error: `debug_trace_disabled` is a text, and has to be true or false; write debug_trace_disabled = true, without quotes
        20:20: error: `token_expires_at` is no time; write token_expires_at = 2026-01-31T12:00:00Z
        22:10: error: `FF_ONE` is a whole number, and has to be true or false; write FF_ONE = true or FF_ONE = false
        24:15: error: there is no pull policy "allways"; write "always"
        25:10: error: `memory` is a whole number, and has to be a text in quotes; write memory = "..."
        26:1: error: a service has no `name`; write name = and its image, such as name = "postgres:17"
        29:13: error: `IdleCount` is a number with a decimal point, and has to be a whole number; write IdleCount = and a whole number
        30:19: error: `IdleScaleFactor` is a whole number, and has to be a number with a decimal point; write IdleScaleFactor = 1.0: GitLab Runner refuses a whole number here
        31:26: error: `MachineOptions` has a whole number among its texts; write it in quotes
        32:15: error: `MachineName` is "ci", and every machine would have the same name; write a name with %s where the part goes that tells machines apart, such as MachineName = "ci-%s"
        33:15: error: `autoscaling` is a text, and has to be a list of tables; write [[runners.machine.autoscaling]]
        "#);
}

#[test]
fn what_is_missing_is_told() {
    insta::assert_snapshot!(problems("[[runners]]\n"), @r#"
        warning: `concurrent` is missing: one job at a time is run over all runners; write concurrent = and the most jobs at once, at the beginning of the file
        1:1: error: the runner has no `url`; write GitLab's address, such as url = "https://gitlab.example.com"
        1:1: error: the runner has no `token`; write the authentication token that GitLab showed for the runner, or make a new entry with `springtide register`
        1:1: error: the runner has no `executor`; write executor = "shell+machine" or executor = "docker+machine"
        "#);
    insta::assert_snapshot!(problems("concurrent = 1\n[[runners]]\nurl = \"https://a\"\ntoken = \"$NOTHING\"\nexecutor = \"docker+machine\"\n"), @r"
        4:9: error: `token` is empty once its variables are filled in; write the authentication token that GitLab showed for the runner, or make a new entry with `springtide register`
        5:12: error: there is no [runners.machine] for the runner's executor; write [runners.machine] with MachineDriver and MachineName
        5:12: warning: there is no [runners.docker]: jobs that name no image can't run; write [runners.docker] with image = and the image of jobs that name none
        ");
    insta::assert_snapshot!(problems("concurrent = 1\n[[runners]]\nurl = \"https://a\"\ntoken = \"$TOKEN\"\nexecutor = \"docker+machine\"\n[runners.machine]\n"), @r#"
        5:12: warning: there is no [runners.docker]: jobs that name no image can't run; write [runners.docker] with image = and the image of jobs that name none
        6:1: error: `MachineName` is missing; write a name with %s where the part goes that tells machines apart, such as MachineName = "ci-%s"
        6:1: error: `MachineDriver` is missing; write MachineDriver = and the name of a driver; `springtide plugin list` shows them
        "#);
    insta::assert_snapshot!(problems("concurrent = 1\n[runners]\nurl = \"https://a\"\n"), @"2:1: error: `runners` is a table, and has to be a list of tables; write [[runners]] with two brackets on each side");
}

#[test]
fn executors_that_are_not_ours_are_warnings_and_nonsense_is_an_error() {
    let with = |name: &str| {
        problems(&format!(
            "concurrent = 1\n[[runners]]\nurl = \"https://a\"\ntoken = \"t\"\nexecutor = \"{name}\"\n[runners.custom]\nrun_args = 3\n[runners.kubernetes]\nanything = [1]\n"
        ))
    };
    insta::assert_snapshot!(with("kubernetes"), @r#"
        5:12: warning: the executor "kubernetes" is not run here, and this runner takes no jobs; keep GitLab Runner for it; write executor = "shell+machine" or executor = "docker+machine"
        7:12: warning: `run_args` is a whole number, and has to be a list of texts; write run_args = ["..."]
        "#);
    insta::assert_snapshot!(with("dcoker"), @r#"
        5:12: error: there is no executor "dcoker"; write executor = "docker"
        7:12: warning: `run_args` is a whole number, and has to be a list of texts; write run_args = ["..."]
        "#);
    insta::assert_snapshot!(with("toaster"), @r#"
        5:12: error: there is no executor "toaster"; write executor = "shell+machine" or executor = "docker+machine"
        7:12: warning: `run_args` is a whole number, and has to be a list of texts; write run_args = ["..."]
        "#);
}

#[test]
fn machine_names_make_machines_that_can_be_told_apart() {
    let named = |name: &str| problems(&runner("").replace("\"ci-%s\"", &format!("{name:?}")));
    assert_eq!(named("ci-%s-x"), "");
    insta::assert_snapshot!(named("ci"), @r#"9:15: error: `MachineName` is "ci", and every machine would have the same name; write a name with %s where the part goes that tells machines apart, such as MachineName = "ci-%s""#);
    insta::assert_snapshot!(named("%s-%s"), @r#"9:15: error: `MachineName` is "%s-%s", with %s more than once; write a name with %s where the part goes that tells machines apart, such as MachineName = "ci-%s""#);
    insta::assert_snapshot!(named("CI_runner.%s"), @r#"9:15: warning: `MachineName` is taken as "ci-runner-%s": names of machines are small letters, digits and `-`; write MachineName = "ci-runner-%s""#);
    insta::assert_snapshot!(named("ci/%s"), @r#"9:15: error: `MachineName` has "/" in it, which no machine's name may have; write letters, digits and `-` beside %s"#);
    insta::assert_snapshot!(named(&format!("{}%s", "a".repeat(60))), @"9:15: error: `MachineName` is longer than a machine's name may be, 63 with the part for %s; write 51 letters at most beside %s");
}

#[test]
fn counts_that_make_no_sense_together_are_warnings() {
    insta::assert_snapshot!(problems(&machine("IdleCount = 9\nIdleCountMin = 2")), @r"
        11:13: warning: `IdleCount` is 9, and `limit` of the runner allows 5 machines in all; write 5 or less, or a larger limit
        12:16: warning: `IdleCountMin` does nothing without `IdleScaleFactor`; write IdleScaleFactor = 1.0 or another number above 0, or delete IdleCountMin
        ");
    insta::assert_snapshot!(problems(&machine("IdleScaleFactor = 1.5")), @"11:19: warning: `IdleScaleFactor` does nothing where `IdleCount`, the most idle machines, is 0; write an IdleCount above 0, or delete IdleScaleFactor");
    insta::assert_snapshot!(problems(&machine("IdleCount = 1\nIdleCountMin = 2\nIdleScaleFactor = 0.5")), @"12:16: warning: `IdleCountMin` is 2, and above `IdleCount`, which is 1; write 1 or less");
    insta::assert_snapshot!(problems(&machine("IdleScaleFactor = -0.5\nIdleTime = -3")), @r"
        11:19: error: `IdleScaleFactor` is -0.5; write 0.0 or a larger number
        12:12: error: `IdleTime` is -3; write 0 or more
        ");
    insta::assert_snapshot!(problems(&machine("MaxAge = 3600\nHeartbeatInterval = 0")), @"11:1: warning: `MaxAge` is not obeyed here; delete it");
}

#[test]
fn periods_say_what_to_write() {
    let periods = |text: &str| {
        problems(&machine(&format!(
            "[[runners.machine.autoscaling]]\nTimezone = \"UTC\"\nPeriods = [{text:?}]"
        )))
    };
    assert_eq!(periods("* * 9-17 * * mon-fri *"), "");
    assert_eq!(periods("@daily"), "");
    insta::assert_snapshot!(periods("* * 22-6 * * * *"), @r#"13:12: error: cannot read the period "* * 22-6 * * * *": the hour field "22-6" ends before it begins and would never match; write "22-23,0-5" to stop when the last hour begins, or "22-23,0-6" to have all of it"#);
    insta::assert_snapshot!(periods("* *"), @r#"13:12: error: cannot read the period "* *": it has 2 fields and needs at least 5; write all 7, second minute hour day-of-month month day-of-week year, such as "* * 9-17 * * mon-fri *""#);
    insta::assert_snapshot!(periods("* * 25 * * * *"), @r#"13:12: error: cannot read the period "* * 25 * * * *": the hour field cannot be "25"; write *, values 0 to 23, ranges such as 9-17, steps such as */2"#);
    insta::assert_snapshot!(periods("* */0 * * * * *"), @r#"13:12: error: cannot read the period "* */0 * * * * *": the step of "*/0" in the minute field has to be 1 to 59, without leading zeros; write such a step, or a single value for once"#);
    insta::assert_snapshot!(periods("* * * * * fri-mon *"), @r#"13:12: warning: "fri-mon" in the day-of-week field of "* * * * * fri-mon *" is taken as GitLab Runner takes it, not as it reads; write "fri-sat,sun-mon""#);
    insta::assert_snapshot!(periods("* * * * * * 2020"), @r#"13:12: warning: the period "* * * * * * 2020" never holds again; write a year to come or *, or delete it"#);
    insta::assert_snapshot!(periods("* * * 31 feb * *"), @r#"13:12: warning: the period "* * * 31 feb * *" never holds again; write a year to come or *, or delete it"#);
    insta::assert_snapshot!(periods("* 9-17 * * mon-fri"), @r#"13:12: warning: the period "* 9-17 * * mon-fri" has 5 fields, and so holds for the first second of a minute alone; write seven: second, minute, hour, day of month, month, day of week, year"#);
}

#[test]
fn sections_and_off_peak_are_held_against_each_other() {
    insta::assert_snapshot!(problems(&machine("[[runners.machine.autoscaling]]\nTimezone = \"Europe/Berln\"")), @r#"
        11:1: warning: the section has no `Periods`, and never holds; write Periods = ["* * 9-17 * * mon-fri *"], or delete it
        12:12: error: there is no time zone "Europe/Berln"; write "Europe/Berlin"
        "#);
    insta::assert_snapshot!(problems(&machine("OffPeakPeriods = [\"* * 1 * * * *\"]\nOffPeakIdleCount = 1\n[[runners.machine.autoscaling]]\nPeriods = [\"* * 9 * * * *\"]")), @"11:1: warning: `OffPeak*` does nothing where there is a [[runners.machine.autoscaling]] section; write it as a section of its own, with Periods, Timezone, IdleCount and IdleTime, or delete it");
    insta::assert_snapshot!(problems(&machine("OffPeakIdleCount = 1\nOffPeakTimezone = \"Mars\"")), @r#"
        12:1: warning: there is no period in `OffPeakPeriods`, and it is never off-peak; write OffPeakPeriods = ["* * 0-8,18-23 * * mon-fri *"], or delete the keys that begin with OffPeak
        12:19: error: there is no time zone "Mars"; write a name such as "Europe/Berlin", or "UTC"
        "#);
}

#[test]
fn options_of_machines_are_checked_as_far_as_they_can_be() {
    insta::assert_snapshot!(problems(&machine(
        "MachineOptions = [\"\", \"--local-boot=1\", \"local boot\", \"engine-registry-miror=x\", \"swarm-master\"]\nMachineOptionsWithName = [\"label=%s\", \"title=x\"]"
    )), @r#"
        11:19: error: an option of `MachineOptions` has no name; write "option=value", or "option" for true
        11:41: error: the option "local boot" has a blank in its name; write "option=value", with = and without dashes in front
        11:55: warning: there is no option "engine-registry-miror", and it is ignored; write engine-registry-mirror, or delete it
        11:82: warning: the option "swarm-master" is ignored: there is no swarm of machines; delete it
        12:39: error: the option "title" has no %s for the machine's name; write %s where the name goes, or move it to MachineOptions
        "#);
}

#[test]
fn two_runners_with_one_token_are_one_too_many() {
    let one = runner("");
    let two = format!("{one}{}", one.replace("concurrent = 4\n", ""));
    insta::assert_snapshot!(problems(&two), @"14:9: error: the runner of line 2 has the same url and token; they would take each other's machines; write the token of a runner of its own, or delete one of the two");
    assert_eq!(read(&two).0.unwrap().runners.len(), 1);
    let named = two.replacen("glrt-abcdefgh", "glrt-other", 1);
    insta::assert_snapshot!(problems(&named), @r#"12:8: warning: the runner of line 2 is called "r" too, and logs and metrics don't tell them apart; write another name"#);
    assert_eq!(read(&named).0.unwrap().runners.len(), 2);
}

#[test]
fn an_error_in_one_runner_leaves_the_others() {
    let one = runner("");
    let two = format!(
        "{one}{}",
        one.replace("concurrent = 4\n", "")
            .replace("abcdefgh", "zyxwvuts")
            .replace("https:", "gopher:")
    );
    let (config, problems) = read(&two);
    assert_eq!(config.unwrap().runners.len(), 1);
    insta::assert_snapshot!(lines(&problems), @r#"13:7: error: `url` is no address of GitLab's; write GitLab's address, such as url = "https://gitlab.example.com""#);
    let (config, _) = read(&two.replace("concurrent = 4", "concurrent = 0"));
    assert!(config.is_none());
}

#[test]
fn our_tables_are_strict() {
    insta::assert_snapshot!(problems(&format!("{}{}", runner(""), r#"
[runners.pool]
owner = "Team A"
create_timeout = 0
[runners.queue]
projects = ["app", "team/app"]
refresh = 60
stale_after = 30
[[runners.policy]]
plug = "x"
[[runners.policy]]
plugin = "queue-depth"
settings = 3
[springtide]
state = "postgres://x"
plugin_dirs = "x"
[springtide.webhook]
listen = "9253"
[plugins."a b"]
digest = "sha256:12"
[plugins.pve.grants.http]
origins = ["pve.internal", "https://pve.internal/api", "https://pve.internal:443"]
credentials = ["pv"]
[plugins.pve.grants.tools.vbox]
path = "VBoxManage"
owned = ["clonevm"]
allow = ["list"]
[credentials.pve]
type = "bearer"
header = "X"
[credentials.cloud]
type = "aws"
[credentials.bad]
type = "basic"
[credentials.none]
"#)), @r#"
        13:9: error: "Team A" can't be put on machines as their owner; write 1 to 40 small letters, digits and `-`
        14:18: error: `create_timeout` is 0; write 1 or more
        15:1: error: `token_file` is missing; write token_file = and the path of a file with a token that may read the API
        16:13: error: "app" is no project's path; write "group/project" or the project's number; a group goes in groups
        18:15: error: what is seen every 60 s is stale after 30 s, and would hardly ever count; write stale_after = 180 or more
        19:1: error: `plugin` is missing; write plugin = and the name of a policy
        20:1: error: `plug` is no key of [[runners.policy]]; write plugin, or delete it
        23:12: error: `settings` is a whole number, and has to be a table; write a table
        25:9: error: `state` is no place a state can be; write sqlite: and the path of a file, such as state = "sqlite:/var/lib/springtide/state.db"
        26:1: error: `plugin_dirs` is no key of [springtide]; write plugin_dir, or delete it
        27:1: error: `secret_file` is missing; write secret_file = and the path of a file with the secret
        28:10: error: `listen` is "9253", which is no address; write a host and a port, such as "127.0.0.1:9252" or "[::1]:9252"
        29:10: error: "a b" is no plugin's id; write letters, digits, `-` and `_`: the file's name without .wasm
        30:10: error: `digest` is no SHA-256; write sha256: and its 64 digits, as `springtide plugin inspect` shows them
        32:12: error: "pve.internal" is no origin; write a scheme, a host and a port if it needs one, and no path: "https://pve.internal:8006"
        32:28: error: "https://pve.internal/api" is no origin; write a scheme, a host and a port if it needs one, and no path: "https://pve.internal:8006"
        33:16: error: there is no credential "pv" that could be used; write "pve"
        35:8: error: the program's path does not begin at the root, and would depend on where the manager runs; write it from / on
        36:10: error: "clonevm" names no argument; write a subcommand, a colon and the argument's number, such as "clonevm:2"
        37:10: error: `allow` is a text, and has to be a list of lists of texts; write a list of lists of texts
        38:1: error: `token_file` is missing; write token_file = and the path of a file with the token
        40:1: error: `header` is for credentials of type "header"; delete it, or write type = "header"
        44:8: error: "basic" is no `type` that is known; write one of bearer, header, aws
        45:1: error: `type` is missing; write type = and "bearer", "header" or "aws"
        "#);
}

#[test]
fn what_is_secret_is_never_told() {
    let text = runner("").replace("token = \"glrt-abcdefgh\"", "token = \"glrt-abc defgh\"");
    let (config, said) = read(&format!(
        "{text}MachineOptions = [\"amazonec2-secret-key=abc\"]\n[runners.cache.s3]\nSecretKey = 1\n"
    ));
    assert!(config.unwrap().runners.is_empty());
    assert!(!lines(&said).contains("defgh"), "{}", lines(&said));
    let (config, _) = read(
        &machine("MachineOptions = [\"amazonec2-secret-key=hidethis\"]")
            .replace("limit = 5", "environment = [\"PASSWORD=hidethis\"]"),
    );
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("hidethis") && !shown.contains("glrt-"),
        "{shown}"
    );
}
