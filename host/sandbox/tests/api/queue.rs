//! The API that lists projects and waiting jobs.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use springtide_sandbox::JobSpec;

use crate::common::*;

async fn read(runner: &Runner, path: &str) -> Response {
    let call = runner
        .call(Method::GET, path)
        .header("private-token", "glpat-sandbox");
    call.send().await.expect("an answer")
}

#[tokio::test]
async fn jobs_of_a_project_are_listed_by_state_in_pages() {
    let sandbox = sandbox(|options| options.projects = vec!["g/h/empty".to_owned()]).await;
    let runner = Runner::of(&sandbox);
    sandbox
        .submit_all(JobSpec {
            count: Some(5),
            ..job().tagged(["t"])
        })
        .expect("jobs");
    sandbox.submit(job()).expect("a job");
    runner.take().await;
    let path = "projects/sandbox%2Fproject/jobs?scope[]=pending&per_page=2";
    let mut ids = Vec::new();
    let mut page = "1".to_owned();
    while !page.is_empty() {
        let response = read(&runner, &format!("{path}&page={page}")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "x-total"), "5");
        page = header(&response, "x-next-page").to_owned();
        let next = header(&response, "link").contains("rel=\"next\"");
        assert_eq!(next, !page.is_empty());
        let jobs: Vec<Value> = response.json().await.expect("JSON");
        for job in jobs {
            assert_eq!(
                (&job["status"], &job["tag_list"]),
                (&json!("pending"), &json!(["t"]))
            );
            assert!(job["queued_duration"].is_f64() && job["created_at"].is_string());
            ids.push(job["id"].as_u64().expect("an id"));
        }
    }
    assert_eq!(ids, [5, 4, 3, 2, 1]);
    for (path, status, length) in [
        (
            "projects/sandbox%2Fproject/jobs?scope[]=running",
            200,
            Some(1),
        ),
        ("projects/sandbox%2Fproject/jobs", 200, Some(6)),
        ("projects/g%2Fh%2Fempty/jobs?scope[]=pending", 200, Some(0)),
        ("projects/1", 200, None),
        ("projects/nobody%2Fnothing/jobs", 404, None),
        ("projects/99", 404, None),
        ("groups/g/projects", 200, Some(0)),
        ("groups/g/projects?include_subgroups=true", 200, Some(1)),
        ("groups/g%2Fh/projects", 200, Some(1)),
        ("groups/g", 200, None),
        ("groups/none/projects", 404, None),
    ] {
        let response = read(&runner, path).await;
        assert_eq!(response.status(), status, "{path}");
        let body: Value = response.json().await.expect("JSON");
        assert_eq!(length, length.and(body.as_array().map(Vec::len)), "{path}");
    }
    let bare = runner.call(Method::GET, "projects/1/jobs").send().await;
    assert_eq!(bare.expect("an answer").status(), 401);
}
