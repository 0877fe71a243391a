//! Files of Git LFS, for downloading alone: the batch API and the objects, as git-lfs keeps them
//! beside a repository (`lfs/objects/12/34/1234...`).

use std::path::{Path, PathBuf};

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::asked::refuse;

/// The batch API, below a repository.
const BATCH: &str = "info/lfs/objects/batch";
/// Where objects are got, below a repository.
const OBJECTS: &str = "info/lfs/objects/";
/// Bytes a batch may have.
const LIMIT: usize = 4 * 1024 * 1024;
/// What the API speaks.
const KIND: HeaderValue = HeaderValue::from_static("application/vnd.git-lfs+json");

/// What is asked for of a repository's LFS.
pub(crate) enum Asked {
    /// Which of these objects there are, and where.
    Batch,
    /// An object.
    Object(String),
}

/// What a request asks for; nothing where it is not about LFS.
pub(crate) fn asked(method: &str, service: &str) -> Option<Asked> {
    match (method, service) {
        ("POST", BATCH) => Some(Asked::Batch),
        ("GET", service) => {
            let id = service.strip_prefix(OBJECTS)?;
            is_id(id).then(|| Asked::Object(id.to_owned()))
        }
        _ => None,
    }
}

/// SHA-256 in hex, so that no id is a path.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    operation: String,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    size: u64,
}

fn place(repository: &Path, id: &str) -> PathBuf {
    let objects = repository.join("lfs/objects");
    objects.join(&id[..2]).join(&id[2..4]).join(id)
}

/// Answers. `url` is the repository's own, `headers` those of the request.
pub(crate) async fn serve(
    asked: Asked,
    repository: &Path,
    url: &str,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    match asked {
        Asked::Object(id) => match tokio::fs::read(place(repository, &id)).await {
            Ok(bytes) => bytes.into_response(),
            Err(_) => refuse(StatusCode::NOT_FOUND),
        },
        Asked::Batch => {
            let Ok(bytes) = to_bytes(body, LIMIT).await else {
                return refuse(StatusCode::PAYLOAD_TOO_LARGE);
            };
            match serde_json::from_slice::<Batch>(&bytes) {
                Ok(batch) if batch.operation == "download" => {
                    let login = headers.get(header::AUTHORIZATION);
                    let login = login.and_then(|value| value.to_str().ok());
                    let list = batch.objects.iter();
                    let list: Vec<Value> = list
                        .map(|object| entry(object, repository, url, login))
                        .collect();
                    let answer = json!({ "transfer": "basic", "objects": list });
                    ([(header::CONTENT_TYPE, KIND)], Json(answer)).into_response()
                }
                Ok(_) => refuse(StatusCode::FORBIDDEN),
                Err(_) => refuse(StatusCode::UNPROCESSABLE_ENTITY),
            }
        }
    }
}

/// Where one object is got, with the login that was good for asking.
fn entry(object: &Object, repository: &Path, url: &str, login: Option<&str>) -> Value {
    let Object { oid, size } = object;
    if !is_id(oid) || !place(repository, oid).is_file() {
        let missing = json!({ "code": 404, "message": "there is no such object" });
        return json!({ "oid": oid, "size": size, "error": missing });
    }
    let mut download = json!({ "href": format!("{url}/{OBJECTS}{oid}") });
    if let Some(login) = login {
        download["header"] = json!({ "Authorization": login });
    }
    json!({ "oid": oid, "size": size, "authenticated": true, "actions": { "download": download } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_is_an_object() {
        let id = "0123456789abcdef".repeat(4);
        let object = |service: &str| match asked("GET", service) {
            Some(Asked::Object(id)) => Some(id),
            _ => None,
        };
        assert_eq!(object(&format!("info/lfs/objects/{id}")), Some(id));
        for other in [
            "info/lfs/objects/",
            "info/lfs/objects/../../config",
            "info/refs",
        ] {
            assert!(object(other).is_none(), "{other}");
        }
        assert!(matches!(asked("POST", BATCH), Some(Asked::Batch)));
        assert!(asked("PUT", BATCH).is_none());
    }
}
