//! The real git against the sandbox.

use std::path::Path;
use std::process::Output;

use springtide_sandbox::{JobSpec, Sandbox};
use tempfile::TempDir;
use tokio::process::Command;

use crate::common::*;

async fn git(at: &Path, arguments: &[&str]) -> Output {
    Command::new("git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "-c",
            "http.proxy=",
        ])
        .args(arguments)
        .current_dir(at)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("NO_PROXY", "*")
        .output()
        .await
        .expect("git")
}

async fn done(at: &Path, arguments: &[&str]) -> String {
    let output = git(at, arguments).await;
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn repository(sandbox: &Sandbox) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let work = folder.path().join("work");
    done(folder.path(), &["init", "-q", "-b", "trunk", "work"]).await;
    std::fs::write(work.join("big"), "line\n".repeat(300_000)).expect("a file");
    done(&work, &["add", "."]).await;
    done(&work, &["commit", "-q", "-m", "one"]).await;
    done(&work, &["tag", "-a", "v1", "-m", "v1"]).await;
    done(&work, &["commit", "-q", "--allow-empty", "-m", "two"]).await;
    done(folder.path(), &["clone", "-q", "--bare", "work", "app.git"]).await;
    let bare = folder.path().join("app.git");
    sandbox
        .add_repository("demo/app", &bare)
        .expect("a repository");
    folder
}

#[tokio::test]
async fn a_job_clones_its_commit_with_its_token_and_nothing_else_does() {
    let sandbox = sandbox(|_| {}).await;
    let folder = repository(&sandbox).await;
    let spec = JobSpec {
        repository: Some("demo/app".to_owned()),
        ..job()
    };
    let id = sandbox.submit(spec.clone()).expect("a job");
    let view = sandbox.job(id).expect("a job");
    assert_eq!(view.ref_name, "trunk");
    let runner = Runner::of(&sandbox);
    let job = runner.take().await;
    let variables = job.payload["variables"].as_array().expect("variables");
    let branch = variables
        .iter()
        .find(|variable| variable["key"] == "CI_DEFAULT_BRANCH");
    assert_eq!(branch.expect("a variable")["value"], "trunk");
    let url = job.payload["git_info"]["repo_url"]
        .as_str()
        .expect("a URL")
        .to_owned();

    done(folder.path(), &["clone", "-q", &url, "whole"]).await;
    let whole = folder.path().join("whole");
    assert_eq!(done(&whole, &["rev-parse", "HEAD"]).await, view.sha);
    let pushed = git(&whole, &["push", "origin", "HEAD:refs/heads/other"]).await;
    assert!(!pushed.status.success());

    // As a runner fetches: the refspecs of the payload, shallow.
    done(folder.path(), &["init", "-q", "shallow"]).await;
    let shallow = folder.path().join("shallow");
    let mut arguments = vec!["fetch", "-q", "--depth", "1", &url];
    let refspecs = job.payload["git_info"]["refspecs"]
        .as_array()
        .expect("refspecs");
    arguments.extend(refspecs.iter().filter_map(|refspec| refspec.as_str()));
    done(&shallow, &arguments).await;
    done(&shallow, &["checkout", "-q", &view.sha]).await;
    assert_eq!(done(&shallow, &["rev-list", "--count", "HEAD"]).await, "1");

    let (_, rest) = url.split_once('@').expect("a host");
    for wrong in [
        format!("http://{rest}"),
        format!("http://gitlab-ci-token:glcbt-unknown@{rest}"),
        url.replace("app.git", "none.git"),
    ] {
        let refused = git(folder.path(), &["ls-remote", &wrong]).await;
        assert!(!refused.status.success(), "{wrong}");
    }
    runner.state(&job, "running").await;
    runner.finish(&job, "success", "").await;
    assert!(
        !git(folder.path(), &["ls-remote", &url])
            .await
            .status
            .success()
    );
    no_violations(&sandbox);
}

#[tokio::test]
async fn a_job_may_be_of_a_tag_or_a_commit_and_not_of_what_is_not_there() {
    let sandbox = sandbox(|options| options.open_git = true).await;
    let folder = repository(&sandbox).await;
    let of = |name: &str, ref_name: Option<&str>| JobSpec {
        repository: Some(name.to_owned()),
        ref_name: ref_name.map(str::to_owned),
        ..job()
    };
    let id = sandbox.submit(of("demo/app", Some("v1"))).expect("a job");
    let tagged = sandbox.job(id).expect("a job").sha;
    let work = folder.path().join("work");
    assert_eq!(tagged, done(&work, &["rev-parse", "trunk~1"]).await);
    let payload = Runner::of(&sandbox).take().await.payload;
    assert_eq!(payload["git_info"]["ref_type"], "tag");
    assert_eq!(
        payload["git_info"]["refspecs"][1],
        "+refs/tags/v1:refs/tags/v1"
    );
    let open = format!("{}/demo/app.git", sandbox.url());
    done(folder.path(), &["ls-remote", &open]).await;
    for (spec, part) in [
        (of("demo/app", Some("none")), "no commit at `none`"),
        (of("demo/none", None), "no repository `demo/none`"),
    ] {
        let error = sandbox.submit(spec).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    }
    for (name, path, part) in [
        ("demo/none", folder.path().join("none"), "cannot be served"),
        ("demo", folder.path().join("app.git"), "`name`"),
    ] {
        let error = sandbox
            .add_repository(name, &path)
            .expect_err(part)
            .to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_merge_request_is_fetched_by_its_commit_alone() {
    let sandbox = sandbox(|_| {}).await;
    let folder = repository(&sandbox).await;
    let bare = folder.path().join("app.git");
    let head = "refs/merge-requests/3/head";
    done(&bare, &["update-ref", head, "trunk~1"]).await;
    let spec = JobSpec {
        repository: Some("demo/app".to_owned()),
        ref_name: Some(head.to_owned()),
        ..job()
    };
    let id = sandbox.submit(spec).expect("a job");
    let sha = sandbox.job(id).expect("a job").sha;
    assert_eq!(sha, done(&bare, &["rev-parse", "trunk~1"]).await);
    let info = &Runner::of(&sandbox).take().await.payload["git_info"];
    let refspec = format!("+{sha}:refs/pipelines/1");
    assert_eq!(info["refspecs"], serde_json::json!([refspec]));
    assert_eq!(
        (&info["ref"], &info["ref_type"]),
        (&head.into(), &"branch".into())
    );
}

#[tokio::test]
async fn a_jobs_token_reads_its_group_only_where_that_is_allowed() {
    for allowed in [false, true] {
        let sandbox = sandbox(|options| options.group_reads = allowed).await;
        let folder = repository(&sandbox).await;
        let bare = folder.path().join("app.git");
        for name in ["demo/lib", "other/lib"] {
            sandbox.add_repository(name, &bare).expect("a repository");
        }
        let spec = JobSpec {
            repository: Some("demo/app".to_owned()),
            ..job()
        };
        sandbox.submit(spec).expect("a job");
        let payload = Runner::of(&sandbox).take().await.payload;
        let url = payload["git_info"]["repo_url"].as_str().expect("a URL");
        for (project, reads) in [
            ("demo/app", true),
            ("demo/lib", allowed),
            ("other/lib", false),
        ] {
            let url = url.replace("demo/app", project);
            let listed = git(folder.path(), &["ls-remote", &url]).await;
            assert_eq!(listed.status.success(), reads, "{project}");
        }
    }
}

#[tokio::test]
async fn files_of_git_lfs_are_told_of_and_served() {
    let sandbox = sandbox(|options| options.open_git = true).await;
    let folder = repository(&sandbox).await;
    let id = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    let place = folder.path().join("app.git/lfs/objects/58/91");
    std::fs::create_dir_all(&place).expect("a folder");
    std::fs::write(place.join(id), "hello\n").expect("a file");
    let missing = "0".repeat(64);
    let base = format!("{}/demo/app.git/info/lfs/objects", sandbox.url());
    let batch = serde_json::json!({"operation": "download", "objects": [
        {"oid": id, "size": 6}, {"oid": missing, "size": 1},
    ]});
    let answer = client()
        .post(format!("{base}/batch"))
        .json(&batch)
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        header(&answer, "content-type"),
        "application/vnd.git-lfs+json"
    );
    let answer: serde_json::Value = answer.json().await.expect("JSON");
    let href = answer["objects"][0]["actions"]["download"]["href"].as_str();
    let got = client().get(href.expect("an address")).send().await;
    assert_eq!(
        got.expect("an answer").text().await.expect("a text"),
        "hello\n"
    );
    assert_eq!(answer["objects"][1]["error"]["code"], 404);
    let uploading = serde_json::json!({"operation": "upload", "objects": []});
    let refused = client()
        .post(format!("{base}/batch"))
        .json(&uploading)
        .send()
        .await;
    assert_eq!(refused.expect("an answer").status(), 403);
}
