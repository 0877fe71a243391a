//! The control API as a person with curl uses it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::*;

#[tokio::test]
async fn each_control_request_has_its_status_and_answer() {
    let sandbox = sandbox(|_| {}).await;
    let client = client();
    let cases = [
        (
            "POST",
            "jobs",
            r#"{"script":["a"],"count":3}"#,
            201,
            "/ids",
            json!([1, 2, 3]),
        ),
        (
            "POST",
            "jobs",
            r#"{"script":[]}"#,
            422,
            "/error",
            Value::Null,
        ),
        (
            "POST",
            "jobs",
            r#"{"script":["a"],"repository":"a/b"}"#,
            422,
            "/error",
            Value::Null,
        ),
        ("POST", "jobs", "{", 422, "/error", Value::Null),
        ("GET", "jobs", "", 200, "/0/status", json!("pending")),
        ("GET", "jobs?status=running", "", 200, "/0", Value::Null),
        ("GET", "jobs/2", "", 200, "/id", json!(2)),
        (
            "GET",
            "jobs/9",
            "",
            404,
            "/error",
            json!("there is no job 9"),
        ),
        ("GET", "jobs/9/trace", "", 404, "/error", Value::Null),
        (
            "POST",
            "jobs/2/cancel",
            "",
            200,
            "/status",
            json!("canceled"),
        ),
        ("POST", "jobs/9/cancel", "", 404, "/error", Value::Null),
        (
            "POST",
            "runners",
            r#"{"token":"glrt-new","tags":["t"]}"#,
            201,
            "/id",
            json!(2),
        ),
        (
            "POST",
            "runners",
            r#"{"token":"glrt-new"}"#,
            422,
            "/error",
            Value::Null,
        ),
        ("GET", "runners", "", 200, "/1/tags/0", json!("t")),
        ("POST", "runners/2/pause", "", 204, "", Value::Null),
        ("GET", "runners", "", 200, "/1/paused", json!(true)),
        ("POST", "runners/2/resume", "", 204, "", Value::Null),
        ("POST", "runners/9/pause", "", 404, "/error", Value::Null),
        (
            "POST",
            "repositories",
            r#"{"name":"a/b","path":"/nowhere"}"#,
            422,
            "/error",
            Value::Null,
        ),
        ("GET", "violations", "", 200, "/violations", json!([])),
        (
            "POST",
            "faults",
            r#"{"endpoint":"request","fault":500}"#,
            204,
            "",
            Value::Null,
        ),
        (
            "POST",
            "faults",
            r#"{"endpoint":"request","fault":"odd"}"#,
            422,
            "/error",
            Value::Null,
        ),
        ("DELETE", "faults", "", 204, "", Value::Null),
        ("GET", "none", "", 404, "", Value::Null),
    ];
    for (method, path, body, status, pointer, expected) in cases {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let call = client.request(method, format!("{}/sandbox/{path}", sandbox.url()));
        let response = call.body(body).send().await.expect("an answer");
        assert_eq!(response.status(), status, "{path} {body}");
        let text = response.text().await.expect("text");
        assert!(!text.contains("glrt-"), "{path}: {text}");
        if !pointer.is_empty() {
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            let found = answer.pointer(pointer).cloned().unwrap_or_default();
            if pointer == "/error" && expected.is_null() {
                assert!(found.is_string(), "{path}: {text}");
            } else {
                assert_eq!(found, expected, "{path}");
            }
        }
    }
    Runner::of(&sandbox).take().await;
    let page = client.get(sandbox.url()).send().await.expect("an answer");
    let page = page.text().await.expect("text");
    assert!(page.contains("<td>running<td>1"), "{page}");
}

#[tokio::test]
async fn waiting_for_what_does_not_come_says_what_is() {
    let sandbox = sandbox(|_| {}).await;
    sandbox.submit(job()).expect("a job");
    let error = sandbox
        .wait_for(
            |jobs| jobs.iter().all(|job| job.status.is_final()),
            std::time::Duration::from_millis(20),
        )
        .await
        .expect_err("nobody runs it");
    assert!(error.to_string().contains("\"pending\": 1"), "{error}");
}

#[tokio::test]
async fn a_sandbox_that_is_closed_is_gone_and_its_port_is_free() {
    let first = sandbox(|_| {}).await;
    let addr = first.addr();
    first.serve_until(async {}).await;
    let second = sandbox(|options| options.listen = addr).await;
    assert_eq!(second.addr(), addr);
    let taken = springtide_sandbox::Sandbox::start(springtide_sandbox::SandboxOptions {
        listen: addr,
        ..Default::default()
    });
    let error = taken.await.err().expect("a taken port").to_string();
    assert!(error.contains(&addr.to_string()), "{error}");
}

#[tokio::test]
async fn the_front_page_lists_all_of_the_control_api() {
    let sandbox = sandbox(|_| {}).await;
    let client = client();
    let front = client.get(sandbox.url()).send().await.expect("an answer");
    let page = front.text().await.expect("a page");
    let listed: Vec<(String, String)> = page
        .split("<tr><td>")
        .filter_map(|row| row.split_once("<td>"))
        .filter(|(method, _)| ["GET", "POST", "DELETE"].contains(method))
        .map(|(method, rest)| {
            let cell = rest.split("<td>").next().unwrap_or_default();
            let path = cell
                .split(['<', '>'])
                .find(|text| text.starts_with("/sandbox"));
            (method.to_owned(), path.expect("a path").to_owned())
        })
        .collect();
    assert_eq!(listed.len(), 13, "{page}");
    for (method, path) in listed {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let url = format!("{}{}", sandbox.url(), path.replace("{id}", "99"));
        let answer = client
            .request(method.clone(), url)
            .send()
            .await
            .expect("an answer");
        let status = answer.status();
        let told = answer.text().await.expect("a text");
        let served = status.is_success() || told.contains("\"error\"");
        assert!(served, "{method} {path}: {status} {told}");
    }
}
