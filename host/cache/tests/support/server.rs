//! An S3 server on loopback that verifies signatures (s3s), and an STS beside it that hands out
//! sessions of a role to whoever signs right.

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::host::SingleDomain;
use s3s::route::S3Route;
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3Request, S3Response, S3Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::net::TcpListener;

pub const ACCESS: &str = "access";
pub const SECRET: &str = "secret";
pub const BUCKET: &str = "ci-cache";
const OF_SESSIONS: &str = "secret of sessions";

/// A server with an empty bucket.
pub struct Server {
    /// `host:port`.
    pub address: String,
    /// The forms that sessions were asked for with.
    pub asked: Arc<Mutex<Vec<BTreeMap<String, String>>>>,
    pub root: TempDir,
}

impl Server {
    pub async fn start() -> Server {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut auth = SimpleAuth::from_single(ACCESS, SECRET);
        for number in 1..9 {
            auth.register(format!("SESSION{number}"), OF_SESSIONS.into());
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::default();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(auth);
        // Buckets in the host's name too: `ci-cache.localhost:PORT`.
        builder.set_host(SingleDomain::new(&format!("localhost:{}", address.port())).unwrap());
        builder.set_route(Sts(Arc::clone(&asked)));
        let service = builder.build();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service);
                    // A client that went away is no matter.
                    drop(connection.await);
                });
            }
        });
        Server {
            address: address.to_string(),
            asked,
            root,
        }
    }
}

struct Sts(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

#[async_trait::async_trait]
impl S3Route for Sts {
    fn is_match(
        &self,
        method: &http::Method,
        uri: &http::Uri,
        _: &http::HeaderMap,
        _: &mut http::Extensions,
    ) -> bool {
        method == http::Method::POST && uri.path() == "/"
    }

    async fn call(&self, mut request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        // Whoever signed wrong is not here.
        assert!(request.credentials.is_some());
        let body = request.input.store_all_limited(1 << 16).await.unwrap();
        let form: BTreeMap<String, String> =
            url::form_urlencoded::parse(&body).into_owned().collect();
        let number = {
            let mut asked = self.0.lock().unwrap();
            asked.push(form);
            asked.len()
        };
        let end = jiff::Timestamp::try_from(SystemTime::now() + Duration::from_secs(3600)).unwrap();
        let end = end.strftime("%Y-%m-%dT%H:%M:%SZ");
        Ok(S3Response::new(Body::from(format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>
              <AccessKeyId>SESSION{number}</AccessKeyId><SecretAccessKey>{OF_SESSIONS}</SecretAccessKey>
              <SessionToken>token/{number}==</SessionToken><Expiration>{end}</Expiration>
            </Credentials></AssumeRoleResult></AssumeRoleResponse>"
        ))))
    }
}
