use super::*;
use crate::settings::JobSettings;
use crate::variables::{Variables, own};
use serde_json::{Value, json};
use springtide_config::{LogOptions, Ulimit, sizes};
use springtide_gitlab::Payload;

fn labels(configured: &[(&str, &str)]) -> Labels {
    let payload =
        Payload::from_json(r#"{"id":17,"token":"t","job_info":{"project_id":3}}"#).expect("a job");
    let configured = configured
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let variables = Variables::expanded(vec![own("STAGE", "test")], "/f");
    Labels::new(&payload, &JobSettings::default(), &configured, &variables)
}

/// Every key that a container of the job's is given something by.
fn everything() -> Docker {
    let texts = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let list = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let text = |text: &str| Some(text.to_owned());
    Docker {
        hostname: text("worker"),
        runtime: text("runsc"),
        limits: Limits {
            memory: Some(512 << 20),
            memory_swap: Some(-1),
            memory_reservation: Some(256 << 20),
            cgroup_parent: text("ci"),
            cpuset_cpus: text("0,1"),
            cpuset_mems: text("0"),
            nano_cpus: Some(1_500_000_000),
            cpu_shares: 512,
            gpus: sizes::gpus("all"),
        },
        service_limits: Limits {
            memory: Some(64 << 20),
            ..Limits::default()
        },
        dns: list(&["1.1.1.1"]),
        dns_search: list(&["example.com"]),
        privileged: true,
        services_privileged: Some(false),
        group_add: list(&["audio"]),
        userns_mode: text("host"),
        cap_add: list(&["NET_ADMIN"]),
        cap_drop: list(&["CHOWN"]),
        oom_kill_disable: true,
        oom_score_adjust: 100,
        security_opt: list(&["seccomp=unconfined"]),
        services_security_opt: list(&["no-new-privileges"]),
        devices: vec![sizes::device("/dev/kvm:/dev/kvm:rw").expect("a device")],
        device_cgroup_rules: list(&["c 1:3 mr"]),
        services_devices: [(
            "web:*".to_owned(),
            vec![sizes::device("/dev/fuse").expect("one")],
        )]
        .into(),
        volume_driver: text("nfs"),
        extra_hosts: list(&["db:10.0.0.1"]),
        volumes_from: list(&["data:ro"]),
        pid_mode: text("host"),
        ipc_mode: text("host"),
        mac_address: text("92:d0:c6:0a:29:33"),
        links: list(&["other:o"]),
        shm_size: 1 << 20,
        tmpfs: texts(&[("/run", "rw")]),
        services_tmpfs: texts(&[("/var", "ro")]),
        sysctls: texts(&[("net.ipv4.ip_forward", "1")]),
        ulimits: vec![Ulimit {
            name: "nofile".into(),
            soft: 1024,
            hard: 2048,
        }],
        log_options: LogOptions {
            env: text("A"),
            labels: None,
        },
        ..Docker::by_default()
    }
}

fn build(settings: &Docker, net: &Net) -> Value {
    let own = Own {
        settings,
        labels: &labels(&[
            ("team", "$STAGE"),
            ("com.gitlab.gitlab-runner.managed", "no"),
        ]),
        net,
        name: "r-build",
        host_name: "runner-a-project-3-concurrent-0",
        image: "sha256:01",
        image_name: "ruby:3",
        binds: vec!["v:/builds".into()],
        hosts: &["web:172.17.0.2".to_owned()],
        word: "word",
        open: &[],
        kind: Kind::Build {
            environment: vec!["A=b".into()],
            entrypoint: Some(vec![String::new()]),
            user: Some("1000".into()),
        },
    };
    serde_json::to_value(own.body()).expect("JSON")
}

#[test]
fn a_build_is_given_what_the_keys_say() {
    let body = build(&everything(), &Net::Named("n".into()));
    let expected = json!({
        "Hostname": "worker", "User": "1000", "Env": ["A=b"], "Image": "sha256:01", "Entrypoint": [""],
        "Cmd": ["/.springtide/helper", "--root", "/.springtide/root", "hold", "word"],
        "NetworkingConfig": {"EndpointsConfig": {"n": {
            "MacAddress": "92:d0:c6:0a:29:33", "Aliases": ["build", "r-build"],
        }}},
    });
    for (key, value) in expected.as_object().expect("a table") {
        assert_eq!(&body[key], value, "{key}");
    }
    assert_eq!(body["Labels"]["team"], "test");
    assert_eq!(body["Labels"]["com.gitlab.gitlab-runner.managed"], "true");
    assert_eq!(body["Labels"]["com.gitlab.gitlab-runner.job.id"], "17");
    assert_eq!(
        body["HostConfig"],
        json!({
            "Memory": 512 << 20, "MemorySwap": -1, "MemoryReservation": 256 << 20, "CgroupParent": "ci",
            "CpusetCpus": "0,1", "CpusetMems": "0", "NanoCpus": 1_500_000_000, "CpuShares": 512,
            "DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}],
            "Dns": ["1.1.1.1"], "DnsSearch": ["example.com"], "Runtime": "runsc", "Privileged": true,
            "GroupAdd": ["audio"], "UsernsMode": "host", "CapAdd": ["NET_ADMIN"], "CapDrop": ["CHOWN"],
            "OomKillDisable": true, "OomScoreAdj": 100, "SecurityOpt": ["seccomp=unconfined"],
            "Devices": [{"PathOnHost": "/dev/kvm", "PathInContainer": "/dev/kvm", "CgroupPermissions": "rw"}],
            "DeviceCgroupRules": ["c 1:3 mr"], "VolumeDriver": "nfs",
            "ExtraHosts": ["db:10.0.0.1", "web:172.17.0.2"], "VolumesFrom": ["data:ro"],
            "NetworkMode": "n", "PidMode": "host", "IpcMode": "host", "Links": ["other:o"],
            "ShmSize": 1 << 20, "Tmpfs": {"/run": "rw"}, "Sysctls": {"net.ipv4.ip_forward": "1"},
            "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}], "Binds": ["v:/builds"],
            "RestartPolicy": {"Name": "no"}, "LogConfig": {"Type": "json-file", "Config": {"env": "A"}},
        })
    );
}

#[test]
fn a_service_is_given_what_its_own_keys_say() {
    let settings = everything();
    let serving = Serving {
        settings: &settings,
        labels: &labels(&[]),
        net: &Net::Named("n".into()),
        image: "sha256:02",
        image_name: "web:1",
        binds: Vec::new(),
        aliases: &["web".to_owned()],
        environment: Vec::new(),
        command: &[],
        entrypoint: &[],
        user: None,
    };
    let body = serde_json::to_value(serving.body()).expect("JSON");
    let host = &body["HostConfig"];
    assert_eq!(host["Privileged"], false);
    assert_eq!(host["Memory"], 64 << 20);
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
    assert_eq!(host["Tmpfs"], json!({"/var": "ro"}));
    assert_eq!(host["Devices"][0]["PathOnHost"], "/dev/fuse");
    for absent in ["CapAdd", "NanoCpus", "PidMode", "Links"] {
        assert_eq!(host[absent], Value::Null, "{absent}");
    }
}

#[test]
fn only_allowed_images_are_privileged() {
    let mut settings = Docker {
        privileged: true,
        allowed_privileged_images: vec!["docker:*".into()],
        ..Docker::by_default()
    };
    let net = Net::Mode("bridge".into());
    assert_eq!(build(&settings, &net)["HostConfig"]["Privileged"], false);
    settings.allowed_privileged_images.push("ruby:*".into());
    let body = build(&settings, &net);
    assert_eq!(body["HostConfig"]["Privileged"], true);
    assert_eq!(body["NetworkingConfig"], Value::Null);
}

#[test]
fn a_network_is_the_jobs_own_unless_one_is_named() {
    let own = || "own".to_owned();
    let cases = [
        (None, Net::Named("own".into()), true),
        (Some(""), Net::Named("own".into()), true),
        (Some("default"), Net::Mode("bridge".into()), false),
        (Some("host"), Net::Mode("host".into()), false),
        (Some("container:x"), Net::Mode("container:x".into()), false),
        (Some("mine"), Net::Named("mine".into()), false),
    ];
    for (mode, net, made) in cases {
        assert_eq!(Net::of(mode, own()), (net, made), "{mode:?}");
    }
}
