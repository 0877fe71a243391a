//! Artifacts, up and down.

use crate::server::{Reply, Server, body, status, with};
use crate::support::{Project, TOKEN, calls, download, info_zip, unzip_names, upload};
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

fn created() -> Reply {
    status("201 Created")
}

#[test]
fn an_archive_is_streamed_to_gitlab_and_unzip_reads_it() {
    let project = Project::new(&["out/a.txt", "out/sub/größe.txt", "other"]);
    project.write("out/large", &b"0123456789abcdef".repeat(200_000));
    symlink("/etc/passwd", project.path().join("out/link")).unwrap();
    let server = Server::new([created()]);
    let mut order = upload(&server.url, json!({"paths": ["out/"]}));
    order["artifacts-upload"]["name"] = json!("some/name");
    order["artifacts-upload"]["expire_in"] = json!("1 week");
    let ran = project.transfer(&order).ended(0);
    ran.says("Uploading artifacts...\n");
    ran.says("out/: found 6 matching artifact files and directories\n");
    ran.says(
        "Uploading artifacts as \"archive\" to coordinator... 201 Created  id=7 \
         responseStatus=201 Created token=glcbt-64\n",
    );
    let [request] = &server.requests()[..] else {
        panic!("one request")
    };
    assert_eq!(request.method, "POST");
    assert_eq!(
        request.target,
        "/api/v4/jobs/7/artifacts?artifact_format=zip&artifact_type=archive&expire_in=1%20week"
    );
    assert_eq!(request.header("job-token"), Some(TOKEN));
    assert_eq!(request.header("transfer-encoding"), Some("chunked"));
    let (name, zip) = request.form();
    assert_eq!(name, "name.zip");
    let expected = [
        "out/",
        "out/a.txt",
        "out/large",
        "out/link",
        "out/sub/",
        "out/sub/größe.txt",
    ];
    assert_eq!(unzip_names(&zip), expected);
    assert!(zip.len() < 100_000, "it is packed: {}", zip.len());
}

#[test]
fn what_was_uploaded_is_downloaded_as_it_was() {
    let from = Project::new(&["out/a.txt", "out/tool", "out/deep/er/x"]);
    from.write("out/empty", b"");
    from.write("out/large", &b"some text, and more of it. ".repeat(100_000));
    std::fs::create_dir(from.path().join("out/empty-dir")).unwrap();
    symlink("a.txt", from.path().join("out/link")).unwrap();
    let mode = |name: &str, mode| {
        let path = from.path().join(name);
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    mode("out/tool", 0o755);
    mode("out/a.txt", 0o640);
    let touched = Command::new("touch")
        .current_dir(from.path())
        .args(["-h", "-d", "2001-02-03 04:05:07Z"])
        .args(["out/a.txt", "out/link", "out/deep", "out/tool"])
        .status();
    assert!(touched.unwrap().success());
    mode("out/deep", 0o555);
    let server = Server::new([created()]);
    from.transfer(&upload(&server.url, json!({"paths": ["out"]})))
        .ended(0);
    let (_, zip) = server.requests()[0].form();

    let to = Project::new(&["out/a.txt"]);
    let server = Server::new([body(&zip)]);
    let ran = to.transfer(&download(&server.url)).ended(0);
    ran.says("Downloading artifacts for build (5)...\n");
    ran.says("Downloading artifacts from coordinator... ok");
    assert_eq!(to.names(), from.names());
    for name in from.names() {
        let look = |project: &Project| {
            let path = project.path().join(&name);
            let of = std::fs::symlink_metadata(&path).unwrap();
            let content = if of.is_file() {
                std::fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            (of.mode(), of.mtime(), content)
        };
        if name != "out" {
            assert_eq!(look(&to), look(&from), "{name}");
        }
    }
    let link = std::fs::read_link(to.path().join("out/link")).unwrap();
    assert_eq!(link.to_str(), Some("a.txt"));
    mode("out/deep", 0o755);
    let deep = to.path().join("out/deep");
    std::fs::set_permissions(deep, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn reports_are_members_of_a_gzip_and_a_raw_file_is_as_it_is() {
    let project = Project::new(&["a.xml", "b.xml"]);
    let server = Server::new([created(), created()]);
    let mut order = upload(&server.url, json!({"paths": ["*.xml"]}));
    order["artifacts-upload"]["format"] = json!("gzip");
    order["artifacts-upload"]["kind"] = json!("junit");
    let ran = project.transfer(&order).ended(0);
    ran.says("Uploading artifacts as \"junit\" to coordinator... 201 Created");
    let (name, bytes) = server.requests()[0].form();
    assert_eq!(name, "default.gz");
    let mut both = String::new();
    let mut reader = flate2::read::MultiGzDecoder::new(&bytes[..]);
    std::io::Read::read_to_string(&mut reader, &mut both).unwrap();
    assert_eq!(both, "a.xmlb.xml");
    let mut first = flate2::read::GzDecoder::new(&bytes[..]);
    std::io::Read::read_to_string(&mut first, &mut String::new()).unwrap();
    assert_eq!(first.header().unwrap().filename(), Some(&b"a.xml"[..]));

    let mut order = upload(&server.url, json!({"paths": ["a.xml"]}));
    order["artifacts-upload"]["format"] = json!("raw");
    order["artifacts-upload"]["name"] = json!("report.json");
    project.transfer(&order).ended(0);
    let sent = server.requests()[1].form();
    assert_eq!(sent, ("report.json".to_owned(), b"a.xml".to_vec()));
    order["artifacts-upload"]["files"] = json!({"paths": ["*.xml"]});
    let ran = project.transfer(&order).ended(11);
    ran.says("only one file can be sent as raw");
}

#[test]
fn which_files_are_taken_is_told_as_gitlab_runner_tells_it() {
    let project = Project::new(&["out/a.log", "out/b.txt", "out/keep/c.log", "x"]);
    symlink("/etc", project.path().join("etc")).unwrap();
    symlink("out", project.path().join("inside")).unwrap();
    let root = project.path().display().to_string();
    let none = format!(
        "no matching files. Ensure that the artifact path is relative to the working directory ({root})"
    );
    // Paths, excludes, what is archived, and what is said.
    type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], Vec<String>);
    let table: [Row<'_>; 10] = [
        (&["out/*.log"], &[], &["out/a.log"], vec!["out/*.log: found 1 matching artifact files and directories".into()]),
        (&["out"], &["out/**/*.log"], &["out/", "out/b.txt", "out/keep/"], vec!["out/**/*.log: excluded 2 files".into()]),
        (&["out"], &["out/keep"], &["out/", "out/a.log", "out/b.txt", "out/keep/c.log"], vec![]),
        (&["out"], &["out/keep/**"], &["out/", "out/a.log", "out/b.txt"], vec![]),
        (&["**/c.log", "x"], &[], &["out/keep/c.log", "x"], vec![]),
        (&["{x,out/b*}", "out/b.txt"], &[], &["out/b.txt", "x"], vec![]),
        (&["inside/a.log"], &[], &["inside/a.log"], vec![]),
        (&["inside"], &[], &["inside"], vec!["inside: found 1 matching".into()]),
        (&["missing", "x"], &[], &["x"], vec![format!("WARNING: missing: {none}")]),
        (&["../secret", "/etc/passwd", "etc/passwd", "x"], &[], &["x"], vec![
            "WARNING: processPath: artifact path is not a subpath of project directory: ../secret".into(),
            "WARNING: processPath: artifact path is not a subpath of project directory: /etc/passwd".into(),
            "WARNING: processPath: artifact path is not a subpath of project directory: etc".into(),
        ]),
    ];
    for (paths, exclude, archived, said) in table {
        let server = Server::new([created()]);
        let files = json!({"paths": paths, "exclude": exclude});
        let ran = project.transfer(&upload(&server.url, files)).ended(0);
        let (_, zip) = server.requests()[0].form();
        assert_eq!(unzip_names(&zip), archived, "{paths:?}");
        for words in said {
            ran.says(&words);
        }
    }
}

#[test]
fn where_nothing_matches_nothing_is_sent() {
    let project = Project::new(&["a"]);
    let server = Server::new([]);
    let order = upload(&server.url, json!({"paths": ["b", "a"], "exclude": ["*"]}));
    let ran = project.transfer(&order).ended(12);
    ran.says("ERROR: No files to upload\n");
    assert!(server.requests().is_empty());
}

#[test]
fn what_git_does_not_track_is_taken_when_asked_for() {
    let project = Project::new(&["tracked", "new", "skip", "sub/new"]);
    for arguments in [vec!["init", "-q"], vec!["add", "tracked"]] {
        let git = Command::new("git")
            .current_dir(project.path())
            .args(&arguments)
            .status();
        assert!(git.unwrap().success());
    }
    let server = Server::new([created()]);
    let files = json!({"untracked": true, "exclude": ["skip"]});
    let ran = project.transfer(&upload(&server.url, files)).ended(0);
    ran.says("untracked: found 2 files");
    let (_, zip) = server.requests()[0].form();
    assert_eq!(unzip_names(&zip), ["new", "sub/new"]);
}

#[test]
fn an_upload_is_tried_as_often_as_its_answer_is_worth() {
    // The answers, how often it was tried, the exit code, and what is said.
    let many = |text: &str, count| vec![status(text); count];
    let message = with(
        "403 Forbidden",
        "content-type",
        "application/json",
        br#"{"message": "no more"}"#,
    );
    let table = [
        (
            many("503 Service Unavailable", 9),
            6,
            10,
            "FATAL: service unavailable",
        ),
        (
            many("500 Internal Server Error", 9),
            3,
            10,
            "WARNING: Retrying...",
        ),
        (
            vec![status("502 Bad Gateway"), created()],
            2,
            0,
            "WARNING: Uploading artifacts as \"archive\" to coordinator... 502 Bad Gateway",
        ),
        (
            vec![message],
            1,
            11,
            "ERROR: Uploading artifacts as \"archive\" to coordinator... 403 Forbidden (no more)  id=7 responseStatus=403 Forbidden status=403",
        ),
        (many("404 Not Found", 1), 1, 11, "404 Not Found"),
        (
            many("413 Request Entity Too Large", 1),
            1,
            11,
            "Maximum artifacts size",
        ),
        (
            vec![Reply::Early("413 Payload Too Large".into())],
            1,
            11,
            "before any of it was sent",
        ),
        (
            vec![Reply::Early("403 Forbidden".into())],
            1,
            11,
            "403 Forbidden",
        ),
    ];
    for (replies, tries, code, words) in table {
        let project = Project::new(&["a"]);
        let server = Server::new(replies.clone());
        let order = upload(&server.url, json!({"paths": ["a"]}));
        let ran = project.transfer(&order).ended(code);
        ran.says(words);
        assert_eq!(server.requests().len(), tries, "{replies:?}");
    }
}

#[test]
fn an_answer_in_the_middle_of_a_large_upload_is_read() {
    let project = Project::new(&[]);
    let mut noise = vec![0; 40 << 20];
    let mut state = 1u64;
    for chunk in noise.chunks_mut(8) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        chunk.copy_from_slice(&state.to_le_bytes());
    }
    project.write("large", &noise);
    let server = Server::new([Reply::Amid(1 << 20, "413 Request Entity Too Large".into())]);
    let order = upload(&server.url, json!({"paths": ["large"]}));
    let ran = project.transfer(&order).ended(11);
    ran.says("413 Request Entity Too Large");
    ran.says("MiB of it");
}

#[test]
fn an_upload_that_is_redirected_goes_to_the_other_host() {
    let project = Project::new(&["a"]);
    let other = Server::new([created()]);
    let to = format!("{}/api/v4/jobs/7/artifacts?x=y", other.url);
    let server = Server::new([with("307 Temporary Redirect", "Location", &to, b"")]);
    let order = upload(&server.url, json!({"paths": ["a"]}));
    project
        .transfer(&order)
        .ended(0)
        .says("Upload request redirected");
    let request = &other.requests()[0];
    assert_eq!(request.header("job-token"), Some(TOKEN));
    assert_eq!(request.form().0, "default.zip");
}

#[test]
fn a_gitlab_that_does_not_answer_may_be_tried_again_later() {
    let project = Project::new(&["a"]);
    let order = upload("http://127.0.0.1:9", json!({"paths": ["a"]}));
    project.transfer(&order).ended(10).says("FATAL: ");
}

#[test]
fn object_storage_is_asked_directly_and_never_sees_the_token() {
    let zip = info_zip(&Project::new(&["from-store"]).path(), &["."]);
    let store = Server::new([body(&zip)]);
    let to = format!("{}/bucket/key?X-Amz-Signature=s", store.url);
    let server = Server::new([with("302 Found", "Location", &to, b"")]);
    let project = Project::new(&[]);
    project
        .transfer(&download(&server.url))
        .ended(0)
        .says("host=127.0.0.1");
    assert_eq!(project.read("from-store"), "from-store");
    let asked = &server.requests()[0];
    assert_eq!(
        asked.target,
        "/api/v4/jobs/5/artifacts?direct_download=true"
    );
    assert_eq!(asked.header("job-token"), Some(TOKEN));
    assert_eq!(store.requests()[0].header("job-token"), None);
}

#[test]
fn a_download_is_tried_again_through_gitlab() {
    let zip = info_zip(&Project::new(&["a"]).path(), &["."]);
    let server = Server::new([
        status("500 Internal Server Error"),
        Reply::Cut(20, zip.clone()),
        body(&zip),
    ]);
    let project = Project::new(&[]);
    project.transfer(&download(&server.url)).ended(0);
    let targets: Vec<_> = server
        .requests()
        .into_iter()
        .map(|asked| asked.target)
        .collect();
    let end = |direct| format!("/api/v4/jobs/5/artifacts?direct_download={direct}");
    assert_eq!(targets, [end("true"), end("false"), end("false")]);
    assert_eq!(project.read("a"), "a");
}

#[test]
fn a_download_that_fails_for_good_is_told() {
    let zip = info_zip(&Project::new(&["a"]).path(), &["."]);
    let table = [
        (status("401 Unauthorized"), "unauthorized"),
        (status("403 Forbidden"), "forbidden"),
        (status("404 Not Found"), "not found"),
        (
            body(b"no zip at all"),
            "FATAL: unpacking artifacts.zip of build (5): the archive is broken",
        ),
        (body(&zip[..zip.len() / 2]), "the archive is broken"),
    ];
    for (reply, words) in table {
        let server = Server::new([reply]);
        let project = Project::new(&[]);
        project
            .transfer(&download(&server.url))
            .ended(11)
            .says(words);
        assert_eq!(server.requests().len(), 1, "{words}");
        assert!(project.names().is_empty(), "{words}");
    }
}

#[test]
fn an_archive_beyond_the_limit_is_not_unpacked() {
    let from = Project::new(&[]);
    from.write("zeros", &vec![0; 5 << 20]);
    let server = Server::new([body(&info_zip(&from.path(), &["."]))]);
    let mut order = download(&server.url);
    order["artifacts-download"]["unpacked_limit"] = json!(1 << 20);
    let project = Project::new(&[]);
    let ran = project.transfer(&order).ended(11);
    ran.says("unpacks to 5242880 bytes in 1 files, and the limit is 1048576 bytes");
    assert!(project.names().is_empty());
}

#[test]
fn an_order_that_is_none_is_refused_without_its_text() {
    let project = Project::new(&[]);
    let ran = project
        .transfer(&json!({"artifacts-upload": {"token": TOKEN, "url": 5}}))
        .ended(2);
    ran.says("reading the transfer from standard input");
    let nothing = json!({"artifacts-download": {"url": "http://x", "items": [], "calls": calls()}});
    project.transfer(&nothing).ended(12);
}
