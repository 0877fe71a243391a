//! Asking EC2: a request out, an answer in XML back, every page of it where there are several.

use crate::fault::{Fault, Told};
use crate::query::Query;
use crate::settings::Settings;
use roxmltree::{Document, Node};
use springtide_sdk::driver::{HttpError, Request};
use springtide_sdk::{Host, KeyValue, PluginError};

/// Entries of one page. An instance is about four kilobytes of XML, and the host takes 4 MiB.
const PAGE: u32 = 500;
/// Pages of one list: more means that EC2 repeats itself.
const PAGES: usize = 100;
/// Parts of an answer's XML.
const NODES: u32 = 1_000_000;

/// EC2 in the region of the settings.
pub(crate) struct Ec2<'a> {
    host: &'a Host<'a>,
    endpoint: String,
    credential: String,
}

impl<'a> Ec2<'a> {
    pub(crate) fn new(host: &'a Host<'a>, settings: &Settings) -> Ec2<'a> {
        Ec2 {
            host,
            endpoint: settings.endpoint(),
            credential: format!("aws/ec2/{}", settings.region),
        }
    }

    /// Asks once, and reads the answer.
    pub(crate) fn ask<T>(
        &self,
        query: &Query,
        read: impl FnOnce(Node) -> Result<T, String>,
    ) -> Result<T, Fault> {
        self.ask_at(query, |root, _| read(root))
    }

    /// As [`Ec2::ask`], with EC2's own time in seconds since 1970, where it tells it.
    pub(crate) fn ask_at<T>(
        &self,
        query: &Query,
        read: impl FnOnce(Node, Option<u32>) -> Result<T, String>,
    ) -> Result<T, Fault> {
        let action = query.action;
        let request = Request {
            method: "POST".into(),
            url: format!("{}/", self.endpoint),
            headers: vec![KeyValue {
                key: "content-type".into(),
                value: "application/x-www-form-urlencoded; charset=utf-8".into(),
            }],
            body: query.form().into_bytes(),
            credential: Some(self.credential.clone()),
        };
        let at = |what: &str| format!("asking {} for {action}: {what}", self.endpoint);
        let answer = self.host.http.send(&request).map_err(|error| match error {
            HttpError::Denied(why) => Fault::Unanswered(PluginError::Denied(at(&why))),
            HttpError::TimedOut => {
                Fault::Unanswered(PluginError::Transient(at("no answer in time")))
            }
            HttpError::Failed(why) | HttpError::Other(why) => {
                Fault::Unanswered(PluginError::Transient(at(&why)))
            }
            HttpError::TooLarge => Fault::TooLarge,
        })?;
        let field = |name: &str| {
            let found = answer
                .headers
                .iter()
                .find(|field| field.key.eq_ignore_ascii_case(name));
            found.map(|field| field.value.as_str())
        };
        let text = String::from_utf8_lossy(&answer.body);
        let options = roxmltree::ParsingOptions {
            allow_dtd: false,
            nodes_limit: NODES,
            ..roxmltree::ParsingOptions::default()
        };
        let document = Document::parse_with_options(&text, options);
        if !(200..300).contains(&answer.status) {
            let root = document.as_ref().ok().map(Document::root_element);
            return Err(Fault::Told(told(
                action,
                answer.status,
                root,
                field("retry-after").and_then(|seconds| seconds.trim().parse().ok()),
            )));
        }
        // A broken answer is a cut one more often than not; the next is whole.
        let unreadable =
            |why: String| Fault::Unanswered(PluginError::Transient(at(&format!("answer: {why}"))));
        let document = document.map_err(|error| unreadable(error.to_string()))?;
        let root = document.root_element();
        let wanted = format!("{action}Response");
        if root.tag_name().name() != wanted {
            let name = root.tag_name().name();
            return Err(unreadable(format!("it is {name}, and no {wanted}")));
        }
        let now = field("date").and_then(http_date);
        read(root, now).map_err(unreadable)
    }

    /// Asks for every page of a list and reads each entry. All of it, or none.
    pub(crate) fn all<T>(
        &self,
        query: &Query,
        list: &[&str],
        read: impl Fn(Node) -> Result<T, String>,
    ) -> Result<Vec<T>, Fault> {
        self.all_at(query, list, read).map(|(found, _)| found)
    }

    /// As [`Ec2::all`], with EC2's own time in seconds since 1970, where it tells it.
    pub(crate) fn all_at<T>(
        &self,
        query: &Query,
        list: &[&str],
        read: impl Fn(Node) -> Result<T, String>,
    ) -> Result<(Vec<T>, Option<u32>), Fault> {
        let mut page = PAGE;
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES {
            let query = query
                .clone()
                .with("MaxResults", page.to_string())
                .with_some("NextToken", next.clone());
            let asked = self.ask_at(&query, |root, now| {
                let entries = items(root, list);
                let entries = entries
                    .into_iter()
                    .map(&read)
                    .collect::<Result<Vec<_>, _>>()?;
                Ok((entries, text(root, "nextToken").map(str::to_owned), now))
            });
            let (entries, token, now) = match asked {
                // Entries are longer where they carry many tags.
                Err(Fault::TooLarge) if page > 5 => {
                    page /= 4;
                    found.clear();
                    next = None;
                    continue;
                }
                asked => asked?,
            };
            found.extend(entries);
            match token {
                Some(token) if next.as_deref() == Some(token.as_str()) => break,
                Some(token) if !token.is_empty() => next = Some(token),
                _ => return Ok((found, now)),
            }
        }
        Err(Fault::Unanswered(PluginError::Transient(format!(
            "asking {} for {}: its pages have no end",
            self.endpoint, query.action
        ))))
    }
}

/// An error's code and message; the code is [`UNREADABLE`](crate::fault::UNREADABLE) where there is
/// none.
fn told(action: &'static str, status: u16, root: Option<Node>, retry_after: Option<u32>) -> Told {
    let error = root.and_then(|root| {
        root.descendants()
            .find(|node| node.tag_name().name() == "Error")
    });
    let part = |name| {
        error
            .and_then(|error| text(error, name))
            .unwrap_or_default()
    };
    let code = part("Code").to_owned();
    let message = part("Message").chars().take(1_000).collect();
    Told {
        action,
        status,
        code,
        message,
        retry_after,
    }
}

/// The element of this name right below.
pub(crate) fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|node| node.tag_name().name() == name)
}

/// The text of the element of this name right below.
pub(crate) fn text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name)
        .and_then(|node| node.text())
        .map(str::trim)
}

/// The text of an element that has to be there.
pub(crate) fn needed<'a>(node: Node<'a, '_>, name: &str) -> Result<&'a str, String> {
    text(node, name)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| format!("a {} has no {name}", node.tag_name().name()))
}

/// The entries of a list: of `["reservationSet", "instancesSet"]`, all instances of all
/// reservations.
pub(crate) fn items<'a, 'input>(node: Node<'a, 'input>, path: &[&str]) -> Vec<Node<'a, 'input>> {
    let mut found = vec![node];
    for name in path {
        found = found
            .into_iter()
            .filter_map(|node| child(node, name))
            .flat_map(|list| list.children())
            .filter(|node| node.tag_name().name() == "item")
            .collect();
    }
    found
}

/// An instant as EC2 writes it, in seconds since 1970; 0 where it is none.
pub(crate) fn instant(text: &str) -> u32 {
    let Ok(time) = humantime::parse_rfc3339_weak(text) else {
        return 0;
    };
    let since = time
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// The `Date` of an answer, `Sun, 06 Nov 1994 08:49:37 GMT`, in seconds since 1970.
fn http_date(text: &str) -> Option<u32> {
    let mut parts = text.split_whitespace().skip(1);
    let day: u32 = parts.next()?.parse().ok()?;
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let name = parts.next()?;
    let month = months.iter().position(|month| *month == name)? + 1;
    let year: u32 = parts.next()?.parse().ok()?;
    let time = parts.next()?;
    match instant(&format!("{year:04}-{month:02}-{day:02}T{time}Z")) {
        0 => None,
        seconds => Some(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_ec2_and_of_http_are_seconds_since_1970() {
        assert_eq!(instant("2026-03-02T09:00:00.000Z"), 1_772_442_000);
        assert_eq!(instant("2026-03-02T09:00:00Z"), 1_772_442_000);
        assert_eq!(instant("soon"), 0);
        assert_eq!(
            http_date("Mon, 02 Mar 2026 09:00:00 GMT"),
            Some(1_772_442_000)
        );
        assert_eq!(http_date("today"), None);
    }

    #[test]
    fn entries_are_found_through_lists_of_lists() {
        let text = "<r><set><item><in><item>1</item><item>2</item></in></item><item><in/></item>\
                    <item><in><item>3</item></in></item></set></r>";
        let document = Document::parse(text).unwrap();
        let found: Vec<_> = items(document.root_element(), &["set", "in"])
            .into_iter()
            .filter_map(|node| node.text())
            .collect();
        assert_eq!(found, ["1", "2", "3"]);
    }
}
