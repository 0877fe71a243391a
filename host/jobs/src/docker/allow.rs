//! What an operator allows jobs to name: images, services, users.

use globset::GlobBuilder;

/// Whether a name fits a pattern: `*` and `?` stay within a part of a path, `**` does not,
/// `[a-z]` and `{a,b}` are choices. A pattern that is none fits nothing.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let glob = GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .build();
    match glob {
        Ok(glob) => glob.compile_matcher().is_match(name),
        Err(error) => {
            tracing::warn!(pattern, %error, "a pattern of what jobs may name can't be read");
            false
        }
    }
}

/// Whether a name is allowed: by a pattern, because the operator wrote it himself, or because there
/// is no pattern at all.
pub(super) fn is_allowed(patterns: &[String], own: &[&str], name: &str) -> bool {
    patterns.is_empty() || own.contains(&name) || patterns.iter().any(|pattern| fits(pattern, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_gitlab_runners_do() {
        let cases = [
            ("ruby:*", "ruby:3.3", true),
            ("ruby:*", "ruby", false),
            ("ruby:*", "jruby:3", false),
            ("reg.io/*", "reg.io/a:1", true),
            ("reg.io/*", "reg.io/a/b:1", false),
            ("reg.io/**", "reg.io/a/b:1", true),
            ("reg.io/**/*:1", "reg.io/a/b:1", true),
            ("**", "a/b/c", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("{ruby,node}:*", "node:20", true),
            ("ruby:[0-3].*", "ruby:3.3", true),
            ("ruby:?", "ruby:33", false),
            ("ruby:[", "ruby:[", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(fits(pattern, name), expected, "{pattern} and {name}");
        }
    }

    #[test]
    fn no_pattern_allows_all_and_what_the_operator_wrote_is_always_allowed() {
        let patterns = ["ruby:*".to_owned()];
        assert!(is_allowed(&[], &[], "anything"));
        assert!(is_allowed(&patterns, &["node:20"], "node:20"));
        assert!(!is_allowed(&patterns, &["node:20"], "node:22"));
    }
}
