//! GitLab's API as one who watches the queue reads it: projects, groups, and their jobs, in pages.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::asked::text;
use crate::ledger::{Ledger, Project};
use crate::payload::listed;
use crate::server::Shared;

/// The pairs of a query, decoded.
pub(crate) fn pairs(query: Option<&str>) -> Vec<(String, String)> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// Whether the request carries the API's token.
pub(crate) fn may_read(ledger: &Ledger, headers: &HeaderMap) -> bool {
    let bearer = text(headers, "authorization").and_then(|value| value.strip_prefix("Bearer "));
    text(headers, "private-token").or(bearer) == Some(ledger.options.api_token.as_str())
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}

/// Does `act` for a request that carries the API's token.
fn read(
    shared: &Shared,
    headers: &HeaderMap,
    act: impl FnOnce(&mut Ledger, std::time::Duration) -> Option<Response>,
    missing: &str,
) -> Response {
    shared.with(|ledger, now| {
        if !may_read(ledger, headers) {
            return refuse(StatusCode::UNAUTHORIZED, "401 Unauthorized");
        }
        act(ledger, now).unwrap_or_else(|| refuse(StatusCode::NOT_FOUND, missing))
    })
}

fn project<'a>(ledger: &'a Ledger, wanted: &str) -> Option<(&'a str, &'a Project)> {
    let id: Option<u64> = wanted.parse().ok();
    ledger
        .projects
        .iter()
        .find(|(path, project)| *path == wanted || Some(project.id) == id)
        .map(|(path, project)| (path.as_str(), project))
}

fn project_json(ledger: &Ledger, path: &str, project: &Project) -> Value {
    let (group, name) = path.rsplit_once('/').unwrap_or(("", path));
    json!({
        "id": project.id, "name": name, "path": name, "path_with_namespace": path,
        "default_branch": project.default_branch, "archived": false, "visibility": "private",
        "empty_repo": project.repository.is_none(),
        "namespace": {"id": ledger.groups.get(group), "full_path": group, "kind": "group"},
        "web_url": format!("{}/{path}", ledger.url),
        "http_url_to_repo": format!("{}/{path}.git", ledger.url),
    })
}

/// `GET projects/:id`.
pub(crate) async fn show_project(
    State(shared): State<Arc<Shared>>,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> Response {
    let show = |ledger: &mut Ledger, _| {
        let (path, project) = project(ledger, &wanted)?;
        Some(Json(project_json(ledger, path, project)).into_response())
    };
    read(&shared, &headers, show, "404 Project Not Found")
}

/// `GET projects/:id/jobs?scope[]=pending`: newest first, as GitLab has it.
pub(crate) async fn jobs(
    State(shared): State<Arc<Shared>>,
    Path(wanted): Path<String>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = pairs(query.as_deref());
    let show = |ledger: &mut Ledger, now| {
        let (path, _) = project(ledger, &wanted)?;
        let scopes: Vec<&str> = query
            .iter()
            .filter(|(key, _)| key == "scope[]" || key == "scope")
            .map(|(_, value)| value.as_str())
            .collect();
        let found: Vec<_> = ledger
            .jobs
            .values()
            .rev()
            .filter(|job| job.project == path)
            .filter(|job| scopes.is_empty() || scopes.contains(&job.status().as_str()))
            .collect();
        Some(page(&found, &ledger.url, &uri, &query, |job| {
            listed(ledger, job, now)
        }))
    };
    read(&shared, &headers, show, "404 Project Not Found")
}

/// `GET groups/:id`.
pub(crate) async fn show_group(
    State(shared): State<Arc<Shared>>,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> Response {
    let show = |ledger: &mut Ledger, _| {
        let (path, id) = group(ledger, &wanted)?;
        let name = path.rsplit('/').next();
        Some(
            Json(json!({ "id": id, "name": name, "path": name, "full_path": path }))
                .into_response(),
        )
    };
    read(&shared, &headers, show, "404 Group Not Found")
}

fn group(ledger: &Ledger, wanted: &str) -> Option<(String, u64)> {
    let id: Option<u64> = wanted.parse().ok();
    ledger
        .groups
        .iter()
        .find(|(path, group)| *path == wanted || Some(**group) == id)
        .map(|(path, group)| (path.clone(), *group))
}

/// `GET groups/:id/projects`.
pub(crate) async fn group_projects(
    State(shared): State<Arc<Shared>>,
    Path(wanted): Path<String>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = pairs(query.as_deref());
    let subgroups = query
        .iter()
        .any(|(key, value)| key == "include_subgroups" && value == "true");
    let show = |ledger: &mut Ledger, _| {
        let (group, _) = group(ledger, &wanted)?;
        let found: Vec<_> = ledger
            .projects
            .iter()
            .filter(|(path, _)| {
                path.strip_prefix(&group)
                    .and_then(|rest| rest.strip_prefix('/'))
                    .is_some_and(|rest| subgroups || !rest.contains('/'))
            })
            .collect();
        Some(page(
            &found,
            &ledger.url,
            &uri,
            &query,
            |(path, project)| project_json(ledger, path, project),
        ))
    };
    read(&shared, &headers, show, "404 Group Not Found")
}

/// One page of a list, with the headers that lead to the others.
fn page<T>(
    items: &[T],
    url: &str,
    uri: &Uri,
    query: &[(String, String)],
    show: impl Fn(&T) -> Value,
) -> Response {
    let number = |key: &str, default: usize| {
        query
            .iter()
            .find(|(name, _)| name == key)
            .and_then(|(_, value)| value.parse().ok())
            .filter(|number| *number > 0)
            .unwrap_or(default)
    };
    let (at, size) = (number("page", 1), number("per_page", 20).min(100));
    let pages = items.len().div_ceil(size).max(1);
    let body: Vec<Value> = items
        .iter()
        .skip((at - 1).saturating_mul(size))
        .take(size)
        .map(show)
        .collect();
    let mut response = Json(body).into_response();
    let kept: String = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| {
            !pair.is_empty() && !pair.starts_with("page=") && !pair.starts_with("per_page=")
        })
        .fold(String::new(), |kept, pair| kept + pair + "&");
    let link = |to: usize, name: &str| {
        let path = uri.path();
        format!("<{url}{path}?{kept}page={to}&per_page={size}>; rel=\"{name}\"")
    };
    let next = (at < pages).then_some(at + 1);
    let previous = (at > 1).then(|| at - 1);
    let mut links = vec![link(1, "first"), link(pages, "last")];
    links.extend(next.map(|next| link(next, "next")));
    links.extend(previous.map(|previous| link(previous, "prev")));
    let shown = |number: Option<usize>| number.map_or(String::new(), |number| number.to_string());
    for (name, value) in [
        ("x-page", at.to_string()),
        ("x-per-page", size.to_string()),
        ("x-next-page", shown(next)),
        ("x-prev-page", shown(previous)),
        ("x-total", items.len().to_string()),
        ("x-total-pages", pages.to_string()),
        ("link", links.join(", ")),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::pairs;

    #[test]
    fn queries_are_decoded() {
        let list = |query| pairs(Some(query));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            list("scope%5B%5D=pending&scope[]=running&a=b+c&d"),
            [
                pair("scope[]", "pending"),
                pair("scope[]", "running"),
                pair("a", "b c"),
                pair("d", ""),
            ]
        );
        assert!(pairs(None).is_empty() && list("").is_empty());
    }
}
