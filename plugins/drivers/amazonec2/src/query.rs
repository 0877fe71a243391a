//! One request of the EC2 Query API: an action with its parameters, as a form.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The version of the API that all parameters and answers here are of.
const VERSION: &str = "2016-11-15";

/// What RFC 3986 leaves as it is, as the signature has it.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// An action and its parameters, in the order they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) action: &'static str,
    parameters: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn new(action: &'static str) -> Query {
        Query {
            action,
            parameters: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Query {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// A parameter that is left out where there is no value.
    pub(crate) fn with_some(self, name: &str, value: Option<impl Into<String>>) -> Query {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// A list: `NAME.1`, `NAME.2` and so on.
    pub(crate) fn with_all<I>(self, name: &str, values: I) -> Query
    where
        I: IntoIterator<Item: Into<String>>,
    {
        values
            .into_iter()
            .enumerate()
            .fold(self, |query, (index, value)| {
                query.with(format!("{name}.{}", index + 1), value)
            })
    }

    /// One more filter of a Describe: any of the values fits.
    pub(crate) fn filter<I>(self, name: &str, values: I) -> Query
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let so_far =
            |(key, _): &&(String, String)| key.starts_with("Filter.") && key.ends_with(".Name");
        let number = self.parameters.iter().filter(so_far).count() + 1;
        self.with(format!("Filter.{number}.Name"), name)
            .with_all(&format!("Filter.{number}.Value"), values)
    }

    /// The form that is sent.
    pub(crate) fn form(&self) -> String {
        let mut form = format!("Action={}&Version={VERSION}", self.action);
        for (name, value) in &self.parameters {
            form.push('&');
            form.extend(utf8_percent_encode(name, RESERVED));
            form.push('=');
            form.extend(utf8_percent_encode(value, RESERVED));
        }
        form
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_a_form_with_numbered_lists_and_filters() {
        let query = Query::new("DescribeInstances")
            .filter("tag-key", ["springtide:owner"])
            .filter("instance-state-name", ["pending", "running"])
            .with_some("NextToken", None::<String>)
            .with_some("MaxResults", Some("5"));
        insta::assert_snapshot!(query.form().replace('&', "\n"), @r"
        Action=DescribeInstances
        Version=2016-11-15
        Filter.1.Name=tag-key
        Filter.1.Value.1=springtide%3Aowner
        Filter.2.Name=instance-state-name
        Filter.2.Value.1=pending
        Filter.2.Value.2=running
        MaxResults=5
        ");
    }

    #[test]
    fn what_a_value_holds_never_becomes_another_parameter() {
        let form = Query::new("CreateTags")
            .with("Tag.1.Value", "a b&c=d\n'\"+é~")
            .form();
        assert_eq!(
            form,
            "Action=CreateTags&Version=2016-11-15&Tag.1.Value=a%20b%26c%3Dd%0A%27%22%2B%C3%A9~"
        );
    }
}
