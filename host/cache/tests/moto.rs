//! Against moto, which knows buckets' regions and roles' sessions, and botocore beside it.
#![allow(missing_docs)]

mod support;

use secrecy::ExposeSecret;
use springtide_cache::{Signed, Store, StoreOptions};
use springtide_config::{CacheStore, S3, S3Role};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use support::{HOUR, cache, key, s3};

/// moto, until it is dropped.
struct Moto {
    address: String,
    python: PathBuf,
    process: std::process::Child,
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Moto {
    async fn start() -> Moto {
        let peers = std::env::var_os("SPRINGTIDE_PEERS")
            .expect("SPRINGTIDE_PEERS is not set; `cargo xtask test` sets up the peers tests need");
        let venv = PathBuf::from(peers).join("moto/venv/bin");
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let process = Command::new(venv.join("moto_server"))
            .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Moto {
            address: address.to_string(),
            python: venv.join("python"),
            process,
        };
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "moto does not answer"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        moto
    }

    /// Runs lines of Python with `s3`, a client of botocore's for the region.
    fn python(&self, region: &str, lines: &str) -> String {
        let text = format!(
            "import boto3\ns3 = boto3.client('s3', region_name='{region}', endpoint_url='http://{}', aws_access_key_id='access', aws_secret_access_key='secret')\n{lines}\n",
            self.address
        );
        let output = Command::new(&self.python)
            .args(["-c", &text])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

async fn send(method: &str, signed: &Signed, body: &str) -> (u16, String) {
    let client = reqwest::Client::new();
    let mut request = client.request(method.parse().unwrap(), signed.url.expose_secret());
    for (name, value) in &signed.headers {
        request = request.header(name, value);
    }
    let answer = request.body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn what_botocore_put_is_restored_and_what_is_saved_botocore_gets() {
    let moto = Moto::start().await;
    moto.python(
        "eu-west-1",
        "s3.create_bucket(Bucket='ci-cache', CreateBucketConfiguration={'LocationConstraint': 'eu-west-1'})
s3.put_object(Bucket='ci-cache', Key='runner/abcdefgh/project/7/a b/ü+', Body=b'by another')",
    );
    for role in [
        None,
        Some(S3Role::Transfers(
            "arn:aws:iam::123456789012:role/cache".to_owned(),
        )),
    ] {
        let config = S3 {
            role: role.clone(),
            ..s3(&moto.address)
        };
        let options = StoreOptions {
            sts: Some(format!("http://{}/", moto.address).parse().unwrap()),
        };
        let store = Store::new(&cache(CacheStore::S3(Box::new(config))), &options).unwrap();
        let now = SystemTime::now();
        let object = store.object("abcdefgh", 7, &key("a b/ü+")).unwrap();
        let down = store.download(&object, HOUR, now).await.unwrap();
        let url = down.url.expose_secret();
        assert!(
            url.contains("%2Feu-west-1%2Fs3%2F"),
            "the bucket said where it is: {url}"
        );
        assert_eq!(
            url.contains("X-Amz-Security-Token"),
            role.is_some(),
            "{url}"
        );
        assert_eq!(send("GET", &down, "").await, (200, "by another".to_owned()));
        let object = store.object("abcdefgh", 7, &key("own")).unwrap();
        let up = store.upload(&object, HOUR, now).await.unwrap();
        let body = format!("ours {}", role.is_some());
        assert_eq!(send("PUT", &up, &body).await.0, 200);
        let got = moto.python(
            "eu-west-1",
            "print(s3.get_object(Bucket='ci-cache', Key='runner/abcdefgh/project/7/own')['Body'].read().decode())",
        );
        assert_eq!(got.trim(), body);
        let nothing = store.object("abcdefgh", 8, &key("own")).unwrap();
        let down = store.download(&nothing, HOUR, now).await.unwrap();
        assert_eq!(send("GET", &down, "").await.0, 404);
    }
}

#[tokio::test]
async fn addresses_are_those_that_botocore_signs_at_the_same_time() {
    let moto = Moto::start().await;
    let store = Store::new(
        &cache(CacheStore::S3(Box::new(S3 {
            region: Some("eu-west-1".to_owned()),
            ..s3(&moto.address)
        }))),
        &StoreOptions::default(),
    )
    .unwrap();
    for text in ["default", "a b/ü+&=%'(~.zip", "日本/?x=y#z"] {
        let object = store.object("abcdefgh", 7, &key(text)).unwrap();
        let down = store
            .download(&object, HOUR, SystemTime::now())
            .await
            .unwrap();
        let theirs = moto.python(
            "eu-west-1",
            &format!(
                "from botocore.config import Config
import datetime, botocore.auth
botocore.auth.get_current_datetime = lambda *a, **k: datetime.datetime.strptime({time:?}, '%Y%m%dT%H%M%SZ')
s3 = boto3.client('s3', region_name='eu-west-1', endpoint_url='http://{address}', aws_access_key_id='access', aws_secret_access_key='secret', config=Config(signature_version='s3v4', s3={{'addressing_style': 'path'}}))
print(s3.generate_presigned_url('get_object', Params={{'Bucket': 'ci-cache', 'Key': {object:?}}}, ExpiresIn=3600))",
                time = date(&down),
                address = moto.address,
                object = object.as_str()
            ),
        );
        let ours: url::Url = down.url.expose_secret().parse().unwrap();
        let theirs: url::Url = theirs.trim().parse().unwrap();
        let parts = |url: &url::Url| {
            let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
            pairs.sort();
            (url.path().to_owned(), pairs)
        };
        assert_eq!(parts(&ours), parts(&theirs));
    }
}

fn date(signed: &Signed) -> String {
    let url: url::Url = signed.url.expose_secret().parse().unwrap();
    let date = url.query_pairs().find(|(name, _)| name == "X-Amz-Date");
    date.unwrap().1.into_owned()
}
