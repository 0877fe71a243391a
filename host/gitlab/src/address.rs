//! GitLab's address as people write it.

use url::Url;

/// `https://gitlab.example.com/api/v4/`, from an address with or without a slash, or `/ci`, at the
/// end.
///
/// # Errors
/// What is wrong with it, and what to write instead. The address is not in it: it may hold a secret.
pub(crate) fn api(address: &str) -> Result<Url, String> {
    let text = address.trim().trim_end_matches('/');
    let text = text.strip_suffix("/ci").unwrap_or(text);
    let text = text.trim_end_matches('/');
    let url = Url::parse(&format!("{text}/api/v4/"))
        .map_err(|error| format!("is no address ({error}); write https://..."))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("must begin with https:// or http://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password; leave it out".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with the host or a path; leave out what follows ? or #".into());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::api;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, expected) in [
            ("https://gitlab.test", "https://gitlab.test/api/v4/"),
            (" https://gitlab.test/ ", "https://gitlab.test/api/v4/"),
            ("https://gitlab.test/ci", "https://gitlab.test/api/v4/"),
            ("https://gitlab.test/ci/", "https://gitlab.test/api/v4/"),
            ("https://gitlab.test//ci/", "https://gitlab.test/api/v4/"),
            ("http://h:8080/git//", "http://h:8080/git/api/v4/"),
            ("gitlab.test", "is no address"),
            ("", "is no address"),
            ("ftp://gitlab.test", "must begin"),
            ("https://u:secret@gitlab.test", "must not hold"),
            ("https://gitlab.test?token=secret", "must end"),
            ("https://gitlab.test#secret", "must end"),
        ] {
            match api(text) {
                Ok(url) => assert_eq!(url.as_str(), expected, "{text}"),
                Err(problem) => {
                    assert!(problem.starts_with(expected), "{text}: {problem}");
                    assert!(!problem.contains("secret"), "{problem}");
                }
            }
        }
    }
}
