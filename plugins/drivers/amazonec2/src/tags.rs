//! Tags: whose a thing is, and until when.

use crate::query::Query;
use crate::settings::{Settings, wrong};
use springtide_sdk::{Creation, PluginError};
use std::collections::BTreeMap;

pub(crate) const NAME: &str = "Name";
pub(crate) const OWNER: &str = "springtide:owner";
pub(crate) const POOL: &str = "springtide:pool";
pub(crate) const TOKEN: &str = "springtide:token";
pub(crate) const MANAGER: &str = "springtide:manager";
pub(crate) const LEASE_UNTIL: &str = "springtide:lease-until";

/// Tags one thing can have.
const MOST: usize = 50;

/// Tags by their keys.
pub(crate) type Tags = BTreeMap<String, String>;

/// All tags of a machine: our marks, the operator's labels, the tags of its settings.
pub(crate) fn of_machine(settings: &Settings, creation: &Creation) -> Result<Tags, PluginError> {
    let mut tags: Tags = settings.own_tags().into_iter().collect();
    for label in &creation.labels {
        tags.insert(label.key.clone(), label.value.clone());
    }
    let ours = |key: &&String| key.starts_with("springtide:") || key.starts_with("aws:");
    if let Some(key) = tags.keys().find(ours) {
        return Err(wrong(&format!(
            "the tag {key:?} is not the operator's to set: take another key"
        )));
    }
    for (key, value) in [
        (NAME, creation.name.clone()),
        (OWNER, creation.owner.clone()),
        (POOL, creation.pool.clone()),
        (TOKEN, creation.token.clone()),
        (MANAGER, creation.manager.clone()),
        (LEASE_UNTIL, creation.lease_until.to_string()),
    ] {
        tags.insert(key.into(), value);
    }
    check(&tags)?;
    Ok(tags)
}

/// EC2's own limits, told before anything is made.
fn check(tags: &Tags) -> Result<(), PluginError> {
    if tags.len() > MOST {
        return Err(wrong(&format!(
            "there are {} tags on a machine, and EC2 takes {MOST}: take some from amazonec2-tags",
            tags.len()
        )));
    }
    for (key, value) in tags {
        let shown: String = key.chars().take(60).collect();
        let (keys, values) = (key.chars().count(), value.chars().count());
        if keys == 0 || keys > 128 {
            return Err(wrong(&format!(
                "the tag {shown:?} has a key of {keys} characters, and EC2 takes 1 to 128"
            )));
        }
        if values > 256 {
            return Err(wrong(&format!(
                "the tag {shown:?} has a value of {values} characters, and EC2 takes 256"
            )));
        }
        if key.contains(char::is_control) || value.contains(char::is_control) {
            return Err(wrong(&format!(
                "the tag {shown:?} has control characters: write it on one line"
            )));
        }
    }
    Ok(())
}

/// A request that tags what it makes, each sort of thing with the same tags.
pub(crate) fn with(query: Query, sorts: &[&str], tags: &Tags) -> Query {
    sorts.iter().enumerate().fold(query, |query, (at, sort)| {
        let specification = format!("TagSpecification.{}", at + 1);
        let query = query.with(format!("{specification}.ResourceType"), *sort);
        tags.iter().enumerate().fold(query, |query, (at, tag)| {
            let (key, value) = tag;
            let name = format!("{specification}.Tag.{}", at + 1);
            query
                .with(format!("{name}.Key"), key)
                .with(format!("{name}.Value"), value)
        })
    })
}

/// A request that tags what is there.
pub(crate) fn put(ids: &[String], key: &str, value: &str) -> Query {
    Query::new("CreateTags")
        .with_all("ResourceId", ids)
        .with("Tag.1.Key", key)
        .with("Tag.1.Value", value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::creation;
    use springtide_sdk::KeyValue;

    fn label(key: &str, value: &str) -> Creation {
        Creation {
            labels: vec![KeyValue {
                key: key.into(),
                value: value.into(),
            }],
            ..creation()
        }
    }

    #[test]
    fn our_marks_stand_beside_labels_and_the_operators_tags() {
        let settings = Settings::read(r#"{"amazonec2-tags": "team,ci,Name,mine"}"#).unwrap();
        let tags = of_machine(&settings, &label("team", "labels come first")).unwrap();
        let text: Vec<String> = tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            [
                "Name=ci-1",
                "springtide:lease-until=1000",
                "springtide:manager=host",
                "springtide:owner=owner",
                "springtide:pool=pool",
                "springtide:token=t1",
                "team=labels come first",
            ]
        );
    }

    #[test]
    fn what_ec2_would_refuse_is_refused_before_anything_is_made() {
        let long = "x".repeat(10_000);
        for (key, value, said) in [
            ("springtide:owner", "other", "not the operator's"),
            ("aws:x", "y", "not the operator's"),
            ("", "y", "key of 0"),
            (long.as_str(), "y", "key of 10000"),
            ("k", long.as_str(), "value of 10000"),
            ("k", "two\nlines", "control characters"),
        ] {
            let Err(PluginError::InvalidConfig(why)) =
                of_machine(&Settings::default(), &label(key, value))
            else {
                panic!("{key:.20} was taken");
            };
            assert!(why.contains(said) && why.len() < 300, "{why}");
        }
    }

    #[test]
    fn values_with_quotes_and_leading_dashes_are_kept() {
        let tags = of_machine(&Settings::default(), &label("--k'\"", " -v ü; $(x)")).unwrap();
        assert_eq!(tags["--k'\""], " -v ü; $(x)");
    }
}
