//! moto's bucket: everything of S3's API, and no signature verified.

use super::{ACCESS, NAME};
use crate::moto::Moto;
use anyhow::{Context, Result, bail};
use reqwest::{Method, RequestBuilder};
use std::net::Ipv4Addr;

/// A bucket of moto's.
pub struct MotoBucket {
    moto: Moto,
    client: reqwest::Client,
}

impl MotoBucket {
    pub(super) async fn start(host: Ipv4Addr) -> Result<MotoBucket> {
        let bucket = MotoBucket {
            moto: Moto::start_at(host).await?,
            client: crate::client()?,
        };
        let made = bucket.ask(Method::PUT, bucket.url("")).send().await?;
        if !made.status().is_success() {
            bail!("making the bucket: {}", made.status());
        }
        Ok(bucket)
    }

    pub(super) fn host(&self) -> String {
        self.moto.url().replace("http://", "")
    }

    fn url(&self, key: &str) -> String {
        let key = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        let key = key.to_string().replace("%2F", "/");
        format!("{}/{NAME}/{key}", self.moto.url())
    }

    pub(super) async fn keys(&self) -> Result<Vec<String>> {
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

    pub(super) async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        let request = self.ask(Method::PUT, self.url(key)).body(bytes);
        request.send().await?.error_for_status()?;
        Ok(())
    }

    /// A request of somebody moto knows: it looks at no signature, but takes what has none for a stranger.
    fn ask(&self, method: Method, url: String) -> RequestBuilder {
        let who = format!(
            "AWS4-HMAC-SHA256 Credential={ACCESS}/20261101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
        );
        self.client
            .request(method, url)
            .header("authorization", who)
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.ask(Method::GET, self.url(key)).send().await?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(answer.error_for_status()?.bytes().await?.to_vec()))
    }
}
