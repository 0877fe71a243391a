//! What the EC2 before moto knows and does by itself: tokens, what is not shown yet, faults.

use super::texts;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing was done.
    Before,
    /// It is done, and the answer is lost.
    After,
    /// It is done, and the answer ends in the middle.
    Truncated,
}

/// What is to go wrong. Nothing, unless a test says so.
#[derive(Debug, Default)]
pub struct Faults {
    /// Every so many calls fail, each in the next of the three ways; 0 is none.
    pub every: usize,
    /// The next calls of an action: what becomes of each.
    pub next: BTreeMap<String, VecDeque<Fault>>,
    /// The next calls of an action are refused with these codes and statuses.
    pub refuse: BTreeMap<String, VecDeque<(u16, String)>>,
    /// Instance types there are none of, on demand.
    pub short: BTreeSet<String>,
    /// Instance types there are none of as spot instances.
    pub short_spot: BTreeSet<String>,
    /// How many looks do not show an instance that was just made.
    pub hidden_for: usize,
    /// How many others a list shows beside each instance, under ids of their own.
    pub copies: usize,
    /// How many looks show what was there before an instance was removed.
    pub stale_for: usize,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn error(status: u16, code: &str, message: &str) -> Answer {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>r</RequestID></Response>"
        );
        Answer { status, text }
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) faults: Faults,
    pub(super) calls: BTreeMap<String, usize>,
    pub(super) requests: Vec<String>,
    count: usize,
    failed: usize,
    /// What each token was used for, and what came of it.
    launched: BTreeMap<String, (BTreeMap<String, String>, String)>,
    /// Looks that will not show an instance yet.
    hidden: BTreeMap<String, usize>,
    /// The latest answer to each look, and for how many more looks it is what is shown.
    looks: BTreeMap<String, (String, usize)>,
}

/// A form's parameters.
pub(super) fn form(body: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(body);
    let decode = |part: &str| {
        let part = part.replace('+', " ");
        percent_encoding::percent_decode_str(&part)
            .decode_utf8_lossy()
            .into_owned()
    };
    let pairs = text
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// The values of a list.
fn list<'a>(form: &'a BTreeMap<String, String>, name: &str) -> Vec<&'a str> {
    let numbered = |key: &String| {
        let number = key
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('.'));
        number.is_some_and(|number| number.parse::<usize>().is_ok())
    };
    let found = form.iter().filter(|(key, _)| numbered(key));
    found.map(|(_, value)| value.as_str()).collect()
}

impl State {
    /// Counts a call, and says what becomes of it, or refuses it.
    pub(super) fn before(
        &mut self,
        action: &str,
        form: &BTreeMap<String, String>,
    ) -> Result<Option<Fault>, Answer> {
        *self.calls.entry(action.to_owned()).or_default() += 1;
        self.count += 1;
        let refused = self
            .faults
            .refuse
            .get_mut(action)
            .and_then(VecDeque::pop_front);
        if let Some((status, code)) = refused {
            return Err(Answer::error(status, &code, "A test wants it so"));
        }
        let of_type = form.get("InstanceType").cloned().unwrap_or_default();
        let is_spot = form.contains_key("InstanceMarketOptions.MarketType");
        let short = match is_spot {
            true => &self.faults.short_spot,
            false => &self.faults.short,
        };
        if action == "RunInstances" && short.contains(&of_type) {
            return Err(Answer::error(
                500,
                "InsufficientInstanceCapacity",
                "We currently do not have sufficient capacity",
            ));
        }
        let named = ["InstanceId", "ResourceId"];
        let named = named.into_iter().flat_map(|name| list(form, name));
        let unseen: Vec<&str> = named
            .filter(|id| self.hidden.get(*id).is_some_and(|left| *left > 0))
            .collect();
        if !unseen.is_empty() {
            for id in &unseen {
                self.looked(id);
            }
            let ids = unseen.join(", ");
            return Err(Answer::error(
                400,
                "InvalidInstanceID.NotFound",
                &format!("The instance IDs '{ids}' do not exist"),
            ));
        }
        let next = self
            .faults
            .next
            .get_mut(action)
            .and_then(VecDeque::pop_front);
        if next.is_some() {
            return Ok(next);
        }
        if self.faults.every > 0 && self.count.is_multiple_of(self.faults.every) {
            self.failed += 1;
            let ways = [Fault::Before, Fault::After, Fault::Truncated];
            return Ok(Some(ways[self.failed % ways.len()]));
        }
        Ok(None)
    }

    fn looked(&mut self, id: &str) {
        if let Some(left) = self.hidden.get_mut(id) {
            *left = left.saturating_sub(1);
        }
    }

    /// What a token's launch came to, where it was one.
    pub(super) fn launched(&self, form: &BTreeMap<String, String>) -> Option<Answer> {
        let (before, text) = self.launched.get(form.get("ClientToken")?)?;
        if before == form {
            return Some(Answer {
                status: 200,
                text: text.clone(),
            });
        }
        Some(Answer::error(
            400,
            "IdempotentParameterMismatch",
            "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
        ))
    }

    /// What moto answered, as the real one would.
    pub(super) fn after(
        &mut self,
        action: &str,
        form: &BTreeMap<String, String>,
        answer: Answer,
    ) -> Answer {
        if answer.status != 200 {
            return answer;
        }
        match action {
            "RunInstances" => {
                for id in texts(&answer.text, "instanceId") {
                    self.hidden.insert(id, self.faults.hidden_for);
                }
                if let Some(token) = form.get("ClientToken") {
                    let came = (form.clone(), answer.text.clone());
                    self.launched.insert(token.clone(), came);
                }
                answer
            }
            "TerminateInstances" => {
                for (_, left) in self.looks.values_mut() {
                    *left = self.faults.stale_for;
                }
                answer
            }
            "DescribeInstances" => self.look(form, answer),
            _ => answer,
        }
    }

    fn look(&mut self, form: &BTreeMap<String, String>, answer: Answer) -> Answer {
        let key = format!("{form:?}");
        if let Some((text, left)) = self.looks.get_mut(&key)
            && *left > 0
        {
            *left -= 1;
            let text = text.clone();
            return Answer { text, ..answer };
        }
        let ids = texts(&answer.text, "instanceId");
        let unseen: BTreeSet<String> = ids
            .into_iter()
            .filter(|id| self.hidden.get(id).is_some_and(|left| *left > 0))
            .collect();
        for id in &unseen {
            self.looked(id);
        }
        let mut text = answer.text.clone();
        for range in instances(&answer.text, &unseen).into_iter().rev() {
            text.replace_range(range, "");
        }
        let text = page(form, &copied(&text, self.faults.copies));
        self.looks.insert(key, (text.clone(), 0));
        Answer { text, ..answer }
    }
}

/// The form that moto is asked: it counts reservations where EC2 counts instances, so it is asked for
/// all of them, and the page is cut here.
pub(super) fn upstream(form: &BTreeMap<String, String>) -> Option<String> {
    let is_list = form
        .get("Action")
        .is_some_and(|action| action == "DescribeInstances");
    if !is_list || !form.contains_key("MaxResults") {
        return None;
    }
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let kept = form
        .iter()
        .filter(|(name, _)| *name != "MaxResults" && *name != "NextToken");
    let kept = kept.map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    Some(kept.collect::<Vec<_>>().join("&") + "&MaxResults=1000")
}

/// A list with each instance so many times more.
fn copied(text: &str, copies: usize) -> String {
    let ids = texts(text, "instanceId");
    let mut many = text.to_owned();
    let places = instances(text, &ids.iter().cloned().collect());
    for (id, range) in ids.iter().zip(places).rev() {
        let one = &text[range.clone()];
        let others = (0..copies).map(|at| one.replace(id, &format!("{id}{at:03}")));
        many.insert_str(range.end, &others.collect::<String>());
    }
    many
}

/// One page of a whole list.
fn page(form: &BTreeMap<String, String>, text: &str) -> String {
    let Some(most) = form
        .get("MaxResults")
        .and_then(|most| most.parse::<usize>().ok())
    else {
        return text.to_owned();
    };
    let first: usize = form
        .get("NextToken")
        .and_then(|at| at.parse().ok())
        .unwrap_or(0);
    let ids = texts(text, "instanceId");
    let shown = first..first + most;
    let others = ids.iter().enumerate().filter(|(at, _)| !shown.contains(at));
    let others: BTreeSet<String> = others.map(|(_, id)| id.clone()).collect();
    let mut cut = text.to_owned();
    for range in instances(text, &others).into_iter().rev() {
        cut.replace_range(range, "");
    }
    if ids.len() > shown.end {
        let end = "</DescribeInstancesResponse>";
        let next = format!("<nextToken>{}</nextToken>{end}", shown.end);
        cut = cut.replace(end, &next);
    }
    cut
}

/// Where these instances stand in an answer, in its order.
fn instances(text: &str, ids: &BTreeSet<String>) -> Vec<Range<usize>> {
    let Ok(document) = roxmltree::Document::parse(text) else {
        return Vec::new();
    };
    let is_one = |node: &roxmltree::Node| {
        let id = node
            .children()
            .find(|node| node.tag_name().name() == "instanceId");
        let parent = node
            .parent()
            .is_some_and(|node| node.tag_name().name() == "instancesSet");
        parent
            && id
                .and_then(|id| id.text())
                .is_some_and(|id| ids.contains(id))
    };
    let found = document.descendants().filter(is_one);
    found.map(|node| node.range()).collect()
}
