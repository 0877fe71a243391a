//! A person in the terminal of a job that runs, as GitLab comes there for him.

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use springtide_sandbox::{JobStatus, SessionView, VariableSpec};
use springtide_tests::{Site, all, engine, free_address, job, quick};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

/// How long what a terminal shows may take.
const PATIENCE: Duration = Duration::from_secs(30);

type Terminal = WebSocketStream<TlsStream<TcpStream>>;

/// A site whose jobs run in containers, with a session server.
async fn site(timeout: u32) -> Result<Site> {
    let site = Site::new(quick()).await?;
    let docker = format!(
        "  [runners.docker]\n  host = \"unix://{}\"\n  image = \"springtide/tiny:1\"\n  helper_image = \"springtide/base:1\"\n  pull_policy = \"if-not-present\"\n",
        engine::socket()?.display()
    );
    let runner = site
        .runner("elastic", "")
        .replace("shell+machine", "docker+machine")
        .replace(
            "  [runners.machine]\n",
            &format!("{docker}  [runners.machine]\n"),
        );
    let listen = free_address()?;
    site.configure(&format!(
        "{runner}[session_server]\nlisten_address = \"{listen}\"\nsession_timeout = {timeout}\n"
    ))?;
    Ok(site)
}

/// A job that ends once its terminal says so, and where its terminal is.
async fn waiting(site: &Site) -> Result<(u64, SessionView)> {
    let lines = ["echo begun", "until [ -e /tmp/go ]; do sleep 0.1; done"];
    // No container comes to the GitLab of this host.
    let mut job = job(&lines);
    let none = VariableSpec::Plain("none".into());
    job.variables.insert("GIT_STRATEGY".into(), none);
    let id = site.sandbox.submit(job)?;
    site.until("the job runs", async || {
        site.trace(id).contains("\nbegun\n")
    })
    .await?;
    let job = site.sandbox.job(id).context("no job")?;
    Ok((id, job.session.context("it has no session")?))
}

/// Goes there with this word, as Workhorse does; the certificate is the only one it trusts.
async fn go(session: &SessionView, word: &str) -> Result<Result<Terminal, u16>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(
        session.certificate.as_bytes(),
    )?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let url = format!("{}/exec", session.url.replacen("https:", "wss:", 1));
    let mut request = url.into_client_request()?;
    let address = request.uri().authority().context("a host")?.to_string();
    let host = request.uri().host().context("a host")?.to_owned();
    let headers = request.headers_mut();
    headers.insert("authorization", word.parse()?);
    headers.insert("sec-websocket-protocol", "terminal.gitlab.com".parse()?);
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from(host)?, stream)
        .await?;
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((terminal, answer)) => {
            let protocol = answer.headers().get("sec-websocket-protocol");
            assert_eq!(protocol, Some(&"terminal.gitlab.com".parse()?));
            Ok(Ok(terminal))
        }
        Err(Error::Http(refusal)) => Ok(Err(refusal.status().as_u16())),
        Err(error) => Err(error.into()),
    }
}

/// Reads until the terminal has shown a text.
async fn shows(terminal: &mut Terminal, wanted: &str) -> Result<()> {
    let mut shown = String::new();
    let reading = async {
        while !shown.contains(wanted) {
            match terminal.next().await {
                Some(Ok(Message::Binary(bytes))) => {
                    shown.push_str(&String::from_utf8_lossy(&bytes));
                }
                other => bail!("{other:?}"),
            }
        }
        Ok(())
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    let read = read.map_err(anyhow::Error::from).flatten();
    read.with_context(|| format!("it showed {shown:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_has_a_shell_in_a_job_and_the_job_waits_for_him_as_long_as_he_may() -> Result<()> {
    let site = site(2).await?;
    let daemon = site.start(&[]).await?;
    let (id, session) = waiting(&site).await?;
    assert_eq!(go(&session, "wrong").await?.err(), Some(401));
    let word = session.authorization.as_str();
    let terminal = go(&session, word).await?;
    let mut terminal = terminal.ok().context("he is refused")?;
    assert_eq!(go(&session, word).await?.err(), Some(423));
    let typed = "echo \"$((6 * 7)) in $FROM_IMAGE at $PWD\"\n";
    terminal.send(Message::binary(typed)).await?;
    shows(&mut terminal, "42 in tiny at /builds/team/app").await?;
    // A terminal shows what is pasted into it.
    let lines = "a line of some length that is pasted\n".repeat(10_000);
    let pasted = format!("cat >/tmp/pasted <<END\n{lines}END\nwc -c </tmp/pasted\n");
    terminal.send(Message::binary(pasted)).await?;
    shows(&mut terminal, &format!("\r\n{}\r\n", lines.len())).await?;
    terminal.send(Message::binary("touch /tmp/go\n")).await?;
    site.jobs(all(JobStatus::Success)).await?;
    let trace = site.trace(id);
    for line in [
        "Terminal is connected, will time out in 2s...",
        "terminal session timed out (maximum time allowed - 2s)",
    ] {
        assert!(trace.contains(line), "no {line} in {trace}");
    }
    // He is put out, and nobody comes in any more.
    assert!(shows(&mut terminal, "what nobody types").await.is_err());
    site.until("its address is gone", async || {
        go(&session, word)
            .await
            .is_ok_and(|gone| gone.err() == Some(404))
    })
    .await?;
    daemon.finish().await?;
    site.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_when_the_person_leaves_and_without_one_at_once() -> Result<()> {
    let site = site(600).await?;
    let daemon = site.start(&[]).await?;
    let (id, session) = waiting(&site).await?;
    let terminal = go(&session, &session.authorization).await?;
    let mut terminal = terminal.ok().context("he is refused")?;
    terminal.send(Message::binary("touch /tmp/go\n")).await?;
    site.until("the job waits for him", async || {
        site.trace(id).contains("will time out in 10m0s...")
    })
    .await?;
    terminal.close(None).await?;
    site.jobs(all(JobStatus::Success)).await?;
    let trace = site.trace(id);
    assert!(trace.contains("Terminal disconnected"), "{trace}");
    let (id, session) = waiting(&site).await?;
    let terminal = go(&session, &session.authorization).await?;
    let mut terminal = terminal.ok().context("he is refused")?;
    // Who ends his shell has left.
    let typed = Message::binary("exec sh -c 'sleep 1; touch /tmp/go' >/dev/null 2>&1 &\nexit\n");
    terminal.send(typed).await?;
    site.jobs(all(JobStatus::Success)).await?;
    let trace = site.trace(id);
    assert!(!trace.contains("Terminal is connected"), "{trace}");
    daemon.finish().await?;
    site.check()
}
