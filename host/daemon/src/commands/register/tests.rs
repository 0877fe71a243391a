use super::*;
use clap::Parser;
use springtide_sandbox::{Sandbox, SandboxOptions};
use std::collections::VecDeque;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    arguments: Arguments,
}

/// Somebody who answers from a list, and remembers what was asked.
#[derive(Default)]
struct Answers {
    answers: VecDeque<&'static str>,
    asked: Vec<String>,
}

impl Answers {
    fn of(answers: &[&'static str]) -> Self {
        Self {
            answers: answers.iter().copied().collect(),
            asked: Vec::new(),
        }
    }
}

impl Ask for Answers {
    fn line(&mut self, prompt: &str) -> Result<Option<String>> {
        self.asked.push(prompt.to_owned());
        Ok(self.answers.pop_front().map(str::to_owned))
    }

    fn hidden(&mut self, prompt: &str) -> Result<Option<SecretString>> {
        Ok(self.line(prompt)?.map(SecretString::from))
    }

    fn say(&mut self, text: &str) {
        self.asked.push(text.to_owned());
    }
}

struct Scene {
    sandbox: Sandbox,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        Self {
            sandbox: Sandbox::start(SandboxOptions::default()).await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("new/config.toml")
    }

    fn arguments(&self, more: &[&str]) -> Arguments {
        let config = self.config();
        let mut all = vec!["register", "--config", config.to_str().unwrap()];
        all.extend(more);
        Cli::try_parse_from(all)
            .unwrap_or_else(|error| panic!("{error}"))
            .arguments
    }

    fn written(&self) -> String {
        std::fs::read_to_string(self.config()).unwrap_or_default()
    }
}

#[tokio::test]
async fn a_conversation_ends_in_a_configuration_that_can_be_used() {
    let scene = Scene::new().await;
    let url = scene.sandbox.url().to_owned();
    let mut answers = Answers::of(&[
        "",
        "glrt-sandbox-token",
        "elastic",
        "moon",
        "shell+machine",
        "local",
    ]);
    let arguments = scene.arguments(&["--url", &url, "--limit", "4"]);
    let registered = register(arguments, &mut answers).await.unwrap();
    assert!(answers.answers.is_empty(), "{:?}", answers.asked);
    let config = scene.config();
    let told = serde_json::json!({
        "runner": "elastic", "id": 1, "url": url, "executor": "shell+machine",
        "config": config, "token-ends": null, "made": false,
    });
    assert_eq!(serde_json::to_value(&registered).unwrap(), told);
    let shown = registered.to_string();
    assert!(
        shown.contains(&format!("springtide run --config {}", config.display())),
        "{shown}"
    );
    let asked = answers.asked.join("\n");
    assert!(!asked.contains("sandbox-token"), "{asked}");
    assert!(asked.contains("This one is needed") && asked.contains("\"moon\" is none of"));
    let (config, problems) = springtide_config::load(&scene.config());
    assert!(
        !problems.iter().any(springtide_config::Problem::is_error),
        "{problems:?}"
    );
    let config = config.unwrap();
    let runner = &config.runners[0];
    assert_eq!(
        (runner.name.as_str(), runner.limit, runner.id),
        ("elastic", 4, Some(1))
    );
    assert_eq!(runner.token.expose_secret(), "glrt-sandbox-token");
    assert!(
        scene.sandbox.violations().is_empty(),
        "{:?}",
        scene.sandbox.violations()
    );
}

#[tokio::test]
async fn a_registration_token_makes_the_runner_at_gitlab() {
    let scene = Scene::new().await;
    let url = scene.sandbox.url().to_owned();
    let file = scene.folder.path().join("token");
    std::fs::write(&file, "sandbox-registration\n").unwrap();
    let arguments = scene.arguments(&[
        "--non-interactive",
        "--url",
        &url,
        "--token-file",
        file.to_str().unwrap(),
        "--name",
        "by flags",
        "--tag-list",
        "docker,linux",
        "--executor",
        "docker+machine",
        "--docker-image",
        "ruby:3.3",
        "--machine-driver",
        "amazonec2",
        "--machine-options",
        "amazonec2-region=eu-central-1",
    ]);
    let registered = register(arguments, &mut Answers::default()).await.unwrap();
    let told = serde_json::to_string(&registered).unwrap();
    assert!(registered.made && !told.contains("token\":"), "{told}");
    let made = scene
        .sandbox
        .runners()
        .into_iter()
        .find(|r| r.description == "by flags");
    let made = made.expect("a runner at GitLab");
    assert_eq!(registered.id, Some(made.id));
    assert_eq!(made.tags, ["docker", "linux"]);
    assert!(!made.run_untagged);
    let written = scene.written();
    assert!(
        written.contains("amazonec2-region=eu-central-1"),
        "{written}"
    );
    assert!(!written.contains("sandbox-registration"), "{written}");
    assert!(
        scene.sandbox.violations().is_empty(),
        "{:?}",
        scene.sandbox.violations()
    );
}

#[tokio::test]
async fn what_cannot_be_registered_writes_nothing_and_shows_no_token() {
    let scene = Scene::new().await;
    let url = scene.sandbox.url().to_owned();
    let full = [
        "--executor",
        "shell+machine",
        "--machine-driver",
        "local",
        "--name",
        "x",
    ];
    let cases: [(&[&str], &str); 4] = [
        (
            &["--url", &url, "--token", "glrt-hidden"],
            "does not know this token",
        ),
        (
            &["--url", &url, "--token", "GR-hidden"],
            "does not know this token",
        ),
        (
            &["--url", "gitlab", "--token", "glrt-hidden"],
            "`url` is no address",
        ),
        (&["--url", &url], "--token-file is missing"),
    ];
    for (given, expected) in cases {
        let arguments = scene.arguments(&[given, &full].concat());
        let error = register(arguments, &mut Answers::default())
            .await
            .unwrap_err();
        let text = format!("{error:#} {error:?}");
        assert!(text.contains(expected), "{expected}: {text}");
        assert!(!text.contains("hidden"), "{text}");
        assert_eq!(scene.written(), "", "{expected}");
    }
}

#[tokio::test]
async fn a_name_for_all_machines_is_refused() {
    let scene = Scene::new().await;
    let url = scene.sandbox.url().to_owned();
    let arguments = scene.arguments(&[
        "--url",
        &url,
        "--token",
        "glrt-sandbox-token",
        "--name",
        "x",
        "--executor",
        "shell+machine",
        "--machine-driver",
        "local",
        "--machine-name",
        "ci",
    ]);
    let error = register(arguments, &mut Answers::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("write ci-%s"), "{error}");
}
