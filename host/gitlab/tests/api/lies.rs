//! A GitLab that lies, and what nobody may ever read.

use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use springtide_gitlab::{
    Client, ClientOptions, Delivered, Final, FinalState, GitlabError, HeldJob, Info, JobKey,
    JobLine, JobRequestOutcome, Registration,
};

use crate::common::*;

const SECRET: &str = "glrt-hidden-from-all";

/// A server that answers everything alike.
async fn server<F>(answer: F) -> String
where
    F: Fn() -> Response + Clone + Send + Sync + 'static,
{
    let app = Router::new().fallback(move || {
        let answer = answer();
        async move { answer }
    });
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn json(status: StatusCode, text: impl Into<Body>) -> Response {
    let kind = [("content-type", "application/json")];
    (status, kind, text.into()).into_response()
}

async fn asked(url: &str) -> JobRequestOutcome {
    let client = client(url);
    client
        .request_job(&runner_with(SECRET), None, None)
        .await
        .outcome
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors_that_say_so() {
    let html = || {
        let kind = [("content-type", "text/html")];
        (StatusCode::CREATED, kind, "<html>log in</html>").into_response()
    };
    type Case = (fn() -> Response, &'static str);
    let cases: [Case; 4] = [
        (|| json(StatusCode::OK, "{}"), "its status is 200"),
        (html, "not application/json"),
        (|| json(StatusCode::CREATED, vec![0xff, 0xfe]), "not UTF-8"),
        (|| StatusCode::IM_A_TEAPOT.into_response(), "418"),
    ];
    for (answer, expected) in cases {
        let url = server(answer).await;
        match asked(&url).await {
            JobRequestOutcome::Failed(error) => {
                let text = error.to_string();
                assert!(
                    text.contains(expected) && text.contains(&url),
                    "{expected}: {text}"
                );
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
    for text in ["[]", "{", "{\"id\":1}", "null"] {
        let url = server(move || json(StatusCode::CREATED, text)).await;
        let outcome = asked(&url).await;
        assert!(
            matches!(outcome, JobRequestOutcome::Unreadable(_)),
            "{text}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_body_without_end_is_given_up() {
    let url = server(|| {
        let part = Bytes::from(vec![b' '; 1 << 20]);
        let parts =
            futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(part.clone()));
        json(StatusCode::CREATED, Body::from_stream(parts))
    })
    .await;
    match asked(&url).await {
        JobRequestOutcome::Failed(GitlabError::Malformed { problem, .. }) => {
            assert!(problem.contains("more than"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_is_not_carried_to_where_a_redirect_points() {
    let told: Arc<Mutex<bool>> = Arc::default();
    let seen = told.clone();
    let other = server(move || {
        *seen.lock().expect("a lock") = true;
        StatusCode::NO_CONTENT.into_response()
    })
    .await;
    for status in [301, 302, 307, 308] {
        let to = format!("{other}/api/v4/jobs/request?secret=x");
        let url = server(move || {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, [("location", to.clone())]).into_response()
        })
        .await;
        match asked(&url).await {
            JobRequestOutcome::Failed(GitlabError::Redirected { to, .. }) => assert_eq!(to, other),
            outcome => panic!("{outcome:?}"),
        }
    }
    assert!(!*told.lock().expect("a lock"));
}

#[tokio::test]
async fn a_gitlab_that_says_nothing_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let client = Client::new(ClientOptions {
        response_timeout: Duration::from_millis(200),
        ..ClientOptions::new(url)
    });
    let answer = client
        .expect("a client")
        .request_job(&runner(), None, None)
        .await;
    assert!(matches!(
        answer.outcome,
        JobRequestOutcome::Failed(GitlabError::Unreachable { .. })
    ));
}

/// Everything that is logged, in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_token_is_in_a_log_an_error_or_a_debug_text() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let echo = format!(r#"{{"message":"no {SECRET} here","token":"{SECRET}"}}"#);
    let job = format!(r#"{{"id":1,"token":"{SECRET}"}}"#);
    let mut text = String::new();
    for status in [200, 201, 202, 204, 302, 400, 403, 404, 409, 410, 416, 422] {
        let (echo, job) = (echo.clone(), job.clone());
        let url = server(move || {
            let status = StatusCode::from_u16(status).expect("a status");
            json(
                status,
                if status == StatusCode::CREATED {
                    job.clone()
                } else {
                    echo.clone()
                },
            )
        })
        .await;
        let client = client(&url);
        let (runner, token) = (runner_with(SECRET), SECRET.into());
        let info = Info::new("shell+machine", "bash");
        let answer = client.request_job(&runner, None, None).await;
        let verified = client.verify(&runner).await;
        let made = client
            .register(&token, &info, &Registration::default())
            .await;
        let gone = client.unregister_manager(&token, SYSTEM).await;
        let key = JobKey { id: 1, token };
        let line = JobLine::new(client.clone(), key, info);
        let mut held = HeldJob::new(line.clone());
        let kept = held.keep().await;
        write!(
            text,
            "{client:?} {runner:?} {answer:?} {verified:?} {made:?} {gone:?} {kept:?} {held:?}"
        )
        .expect("text");
        for error in [verified.err(), made.err(), gone.err(), kept.err()]
            .into_iter()
            .flatten()
        {
            write!(text, "{error} {error:?}").expect("text");
        }
    }
    let url = server(|| StatusCode::FORBIDDEN.into_response()).await;
    let key = JobKey {
        id: 1,
        token: SECRET.into(),
    };
    let line = JobLine::new(client(&url), key, Info::new("shell+machine", "bash"));
    let job = springtide_gitlab::Payload::from_json(&job).expect("a job");
    let sender = sender(line, &job, &Trace::new("x"));
    write!(text, "{sender:?} {job:?}").expect("text");
    let end = Final {
        state: FinalState::Failed,
        exit_code: None,
        failure_reason: None,
    };
    assert_eq!(sender.finish(end).await, Delivered::Over { status: None });
    let log = String::from_utf8(log.0.lock().expect("a lock").clone()).expect("text");
    assert!(log.contains("GitLab answered"), "{log}");
    for (what, text) in [("log", log), ("text", text)] {
        assert!(!text.contains("hidden"), "{what}: {text}");
    }
}
