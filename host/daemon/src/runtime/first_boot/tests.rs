use super::*;
use springtide_config::EngineOptions;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The user data with the name of each file that went into it in its place.
fn folded(text: &str) -> String {
    let mut text = text.to_owned();
    for (name, file) in [
        ("dead-man.sh", DEAD_MAN),
        ("dead-man.service", SERVICE),
        ("begin.sh", BEGIN),
        ("docker-absent.sh", include_str!("docker-absent.sh")),
        ("docker-config.sh", include_str!("docker-config.sh")),
        ("docker-start.sh", include_str!("docker-start.sh")),
    ] {
        let indented = |line: &str| match line {
            "" => "\n".to_owned(),
            line => format!("    {line}\n"),
        };
        let block: String = file.lines().map(indented).collect();
        text = text.replace(&block, &format!("    ({name})\n"));
    }
    text
}

fn wished() -> FirstBoot {
    FirstBoot {
        user: Some("ci".into()),
        key: Some("ssh-ed25519 AAAA manager".into()),
        ..FirstBoot::default()
    }
}

#[test]
fn a_machine_for_a_shell_has_a_user_a_key_and_a_timer_and_no_docker() {
    let text = wished().user_data();
    assert!(!text.contains("docker"), "{text}");
    insta::assert_snapshot!(folded(&text), @r#"
    #cloud-config
    ssh_authorized_keys:
    - "ssh-ed25519 AAAA manager"
    users:
    - default
    - name: "ci"
      primary_group: "ci"
      sudo: "ALL=(ALL) NOPASSWD:ALL"
      lock_passwd: true
      ssh_authorized_keys:
      - "ssh-ed25519 AAAA manager"
    write_files:
    - path: /usr/local/sbin/springtide-dead-man
      permissions: '0755'
      content: |
        (dead-man.sh)
    - path: /etc/systemd/system/springtide-dead-man.service
      permissions: '0644'
      content: |
        (dead-man.service)
    - path: /usr/local/sbin/springtide-first-boot
      permissions: '0700'
      content: |
        (begin.sh)

        user=ci
        mkdir -p /var/lib/springtide
        chown "$user" /var/lib/springtide
    runcmd:
    - [sh, /usr/local/sbin/springtide-first-boot]
    "#);
}

#[test]
fn a_machine_for_docker_has_the_engine_options_and_the_operators_script() {
    let boot = FirstBoot {
        docker: Some(Engine(EngineOptions {
            registry_mirror: vec!["http://192.168.1.10:6000".into()],
            env: vec!["HTTP_PROXY=http://proxy:3128".into()],
            install: false,
            ..EngineOptions::default()
        })),
        script: Some("#!/usr/bin/env python3\nprint('it\\'s')\n".into()),
        ..wished()
    };
    let text = boot.user_data();
    let after = text.find("- path: /usr/local/sbin/springtide-first-boot\n");
    insta::assert_snapshot!(folded(&text[after.unwrap()..]), @r#"
    - path: /usr/local/sbin/springtide-first-boot
      permissions: '0700'
      content: |
        (begin.sh)

        user=ci
        mkdir -p /var/lib/springtide
        chown "$user" /var/lib/springtide

        /usr/local/sbin/springtide-first-boot-script ||
            warn "the first_boot script failed with exit code $?: see /var/log/cloud-init-output.log there"

        (docker-absent.sh)
        restart=no
        (docker-config.sh)
        (docker-start.sh)
        usermod -aG docker "$user" 2>/dev/null || addgroup "$user" docker
    - path: /usr/local/sbin/springtide-first-boot-script
      permissions: '0700'
      content: |
        #!/usr/bin/env python3
        print('it\'s')
    - path: /etc/springtide/daemon.json
      permissions: '0600'
      content: |
        {
          "registry-mirrors": [
            "http://192.168.1.10:6000"
          ]
        }
    - path: /etc/systemd/system/docker.service.d/springtide.conf
      permissions: '0600'
      content: |
        [Service]
        Environment="HTTP_PROXY=http://proxy:3128"
    runcmd:
    - [sh, /usr/local/sbin/springtide-first-boot]
    "#);
}

#[test]
fn user_data_of_the_operators_comes_first_and_is_joined_with_ours() {
    let boot = FirstBoot {
        user_data: Some("#cloud-config\npackages: [git]\n".into()),
        ..wished()
    };
    let text = boot.user_data();
    let ours = text.find("#cloud-config\nssh_authorized_keys").unwrap();
    insta::assert_snapshot!(&text[..ours], @r#"
    Content-Type: multipart/mixed; boundary="springtide-e6da615330543ecccb3ef96b"
    MIME-Version: 1.0

    --springtide-e6da615330543ecccb3ef96b
    Content-Type: text/cloud-config; charset="us-ascii"
    Content-Transfer-Encoding: 7bit

    #cloud-config
    packages: [git]


    --springtide-e6da615330543ecccb3ef96b
    Content-Type: text/cloud-config; charset="us-ascii"
    Merge-Type: list(append)+dict(recurse_array,no_replace)+str()
    Content-Transfer-Encoding: 7bit
    "#);
    assert_eq!(text, boot.user_data());
    let blank = FirstBoot {
        user_data: Some("\n".into()),
        ..wished()
    };
    assert_eq!(blank.user_data(), wished().user_data());
}

#[test]
fn whatever_stands_in_a_wish_stays_a_scalar_of_yaml() {
    for (text, expected) in [
        ("plain\n", "|\n    plain"),
        ("two\n\nlines\n", "|\n    two\n\n    lines"),
        ("no end", r#""no end""#),
        ("two ends\n\n", r#""two ends\n\n""#),
        (" begins with a blank\n", r#"" begins with a blank\n""#),
        ("a\r\nb\n", "\"a\\u000d\\nb\\n\""),
        (
            "\u{2028}\u{1f600}\u{7f}\"\\\n",
            "\"\\u2028\\U0001f600\\u007f\\\"\\\\\\n\"",
        ),
        ("", r#""""#),
    ] {
        assert_eq!(scalar(text, 4), expected, "{text:?}");
    }
}

#[test]
fn the_host_and_the_scripts_agree_on_files_and_lengths() {
    assert!(DEAD_MAN.contains(&format!("{{SPRINGTIDE_LEASE:-{LEASE}}}")));
    assert!(DEAD_MAN.contains(&format!("{{SPRINGTIDE_LEASE_SECONDS:-{LEASE_SECONDS}}}")));
    assert!(BEGIN.contains(&format!(">> {WARNINGS}")));
}

#[test]
fn every_script_can_be_read_by_a_shell() {
    let engines = [
        None,
        Some(Engine::default()),
        Some(Engine(EngineOptions {
            install: false,
            opt: vec!["mtu=1400".into()],
            ..EngineOptions::default()
        })),
        Some(Engine(EngineOptions {
            install_url: Some("https://get.example.com/?a=1&b='; reboot #".into()),
            env: vec!["A=b".into()],
            ..EngineOptions::default()
        })),
    ];
    for docker in engines {
        for script in [None, Some("exit 3".to_owned())] {
            let boot = FirstBoot {
                user: Some("it's $me".into()),
                docker: docker.clone(),
                script,
                ..wished()
            };
            let begin = boot.begin();
            let mut shell = Command::new("/bin/sh")
                .arg("-n")
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = shell.stdin.take().unwrap();
            input.write_all(begin.as_bytes()).unwrap();
            drop(input);
            let output = shell.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}\n{begin}");
        }
    }
}

fn uptime() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    text.split('.').next().unwrap().parse().unwrap()
}

struct DeadMan {
    shell: std::process::Child,
    folder: tempfile::TempDir,
}

impl DeadMan {
    fn start(lease: Option<&str>, length: u64) -> DeadMan {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lease");
        if let Some(lease) = lease {
            std::fs::write(&file, lease).unwrap();
        }
        let off = folder.path().join("off");
        let shell = Command::new("/bin/sh")
            .args(["-c", DEAD_MAN])
            .env("SPRINGTIDE_LEASE", &file)
            .env("SPRINGTIDE_LEASE_SECONDS", length.to_string())
            .env("SPRINGTIDE_LOOK_SECONDS", "0.02")
            .env("SPRINGTIDE_POWEROFF", format!("touch '{}'", off.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        DeadMan { shell, folder }
    }

    fn is_off(&self) -> bool {
        self.folder.path().join("off").exists()
    }

    fn lease(&self) -> std::path::PathBuf {
        self.folder.path().join("lease")
    }

    fn until(&self, what: &str, is: impl Fn(&DeadMan) -> bool) {
        let begun = Instant::now();
        while !is(self) {
            assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
            std::thread::yield_now();
        }
    }
}

impl Drop for DeadMan {
    fn drop(&mut self) {
        self.shell.kill().ok();
        self.shell.wait().ok();
    }
}

#[test]
fn a_machine_that_nobody_winds_powers_itself_off() {
    DeadMan::start(Some("1\n"), 1000).until("off", DeadMan::is_off);
    DeadMan::start(None, 0).until("off", DeadMan::is_off);
}

#[test]
fn a_machine_that_is_wound_runs_on_until_its_lease_is_over() {
    let machine = DeadMan::start(None, 1000);
    machine.until("its first lease", |at| at.lease().exists());
    // A lease that is lost or damaged is neither the end nor a new one.
    std::fs::write(machine.lease(), "soon\n").unwrap();
    std::fs::remove_file(machine.lease()).unwrap();
    std::fs::write(machine.lease(), format!("{}\n", uptime() + 500)).unwrap();
    assert!(!machine.is_off());
    std::fs::write(machine.lease(), format!("{}\n", uptime() - 1)).unwrap();
    machine.until("off", DeadMan::is_off);
}
