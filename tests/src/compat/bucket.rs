//! A bucket as S3 has one, with nothing in it at first: moto's.

use crate::moto::Moto;
use anyhow::{Context, Result, bail};
use reqwest::{Method, RequestBuilder};
use std::net::Ipv4Addr;

/// The bucket's name.
const NAME: &str = "compat";

/// A bucket.
pub struct Bucket {
    moto: Moto,
    client: reqwest::Client,
}

impl Bucket {
    /// Starts moto at an address of this host and makes the bucket.
    ///
    /// # Errors
    /// Where moto is not set up or does not start.
    pub async fn start(host: Ipv4Addr) -> Result<Bucket> {
        let bucket = Bucket {
            moto: Moto::start_at(host).await?,
            client: crate::client()?,
        };
        let made = bucket.ask(Method::PUT, bucket.url("")).send().await?;
        if !made.status().is_success() {
            bail!("making the bucket: {}", made.status());
        }
        Ok(bucket)
    }

    /// Host and port.
    #[must_use]
    pub fn host(&self) -> String {
        self.moto.url().replace("http://", "")
    }

    fn url(&self, key: &str) -> String {
        let key = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        let key = key.to_string().replace("%2F", "/");
        format!("{}/{NAME}/{key}", self.moto.url())
    }

    /// The names of all objects, sorted.
    ///
    /// # Errors
    /// Where S3 does not list them.
    pub async fn keys(&self) -> Result<Vec<String>> {
        let url = format!("{}?list-type=2&max-keys=1000", self.url(""));
        let listed = self
            .ask(Method::GET, url)
            .send()
            .await?
            .error_for_status()?;
        let text = listed.text().await?;
        let document = roxmltree::Document::parse(&text).context("reading S3's list")?;
        let named = |node: &roxmltree::Node<'_, '_>| node.tag_name().name() == "Key";
        let mut keys: Vec<String> = document
            .descendants()
            .filter(named)
            .filter_map(|node| node.text().map(str::to_owned))
            .collect();
        keys.sort();
        Ok(keys)
    }

    /// Puts an object there.
    ///
    /// # Errors
    /// Where S3 does not take it.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        let request = self.ask(Method::PUT, self.url(key)).body(bytes);
        request.send().await?.error_for_status()?;
        Ok(())
    }

    /// A request of somebody moto knows: it looks at no signature, but takes what has none for a stranger.
    fn ask(&self, method: Method, url: String) -> RequestBuilder {
        let who = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        self.client
            .request(method, url)
            .header("authorization", who)
    }

    /// What is in an object; nothing where there is none.
    ///
    /// # Errors
    /// Where S3 does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.ask(Method::GET, self.url(key)).send().await?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(answer.error_for_status()?.bytes().await?.to_vec()))
    }
}
