//! The names of images.

/// An image's name in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// The registry and its port; `docker.io` where the name says none.
    pub(super) registry: String,
    /// Within the registry, such as `library/redis`.
    pub(super) path: String,
    /// The name without tag and digest, as it was written.
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Docker Hub's name in an image's name.
pub(super) const HUB: &str = "docker.io";

impl Reference {
    /// Reads a name; nothing where no image could have it.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        let after_slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[after_slash..].rfind(':') {
            Some(at) => (
                &rest[..after_slash + at],
                Some(rest[after_slash + at + 1..].to_owned()),
            ),
            None => (rest, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, path))
                if first.contains('.') || first.contains(':') || first == "localhost" =>
            {
                (first, path.to_owned())
            }
            Some(_) => (HUB, name.to_owned()),
            None => (HUB, format!("library/{name}")),
        };
        let path = match registry {
            "index.docker.io" | HUB if !path.contains('/') => format!("library/{path}"),
            _ => path,
        };
        let registry = if registry == "index.docker.io" {
            HUB
        } else {
            registry
        };
        let fits = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-/:".contains(&b))
        };
        let is_path = path
            .split('/')
            .all(|part| !part.is_empty() && !part.bytes().any(|b| b.is_ascii_uppercase()));
        let whole = fits(registry)
            && fits(&path)
            && is_path
            && tag.as_deref().is_none_or(fits)
            && digest
                .as_deref()
                .is_none_or(|digest| digest.contains(':') && fits(digest));
        whole.then(|| Self {
            registry: registry.to_owned(),
            path,
            name: name.to_owned(),
            tag,
            digest,
        })
    }

    /// What is asked of the engine: with a tag, for it takes a name without one for all tags.
    pub(super) fn to_pull(&self) -> String {
        match (&self.tag, &self.digest) {
            (_, Some(digest)) => format!("{}@{digest}", self.name),
            (Some(tag), None) => format!("{}:{tag}", self.name),
            (None, None) => format!("{}:latest", self.name),
        }
    }

    /// The tag; `latest` where there is none.
    pub(super) fn version(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// The name a service goes by: without the registry's port, tag and digest.
    pub(super) fn service(&self) -> String {
        match self.name.split_once('/') {
            Some((first, rest)) => {
                let host = first.split(':').next().unwrap_or(first);
                format!("{host}/{rest}")
            }
            None => self.name.clone(),
        }
    }

    /// The names a service is reached by.
    pub(super) fn aliases(&self) -> Vec<String> {
        let service = self.service();
        let mut aliases = vec![service.replace('/', "__"), service.replace('/', "-")];
        aliases.dedup();
        aliases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_read() {
        let cases = [
            ("redis", HUB, "library/redis", "redis:latest"),
            ("redis:7", HUB, "library/redis", "redis:7"),
            (
                "docker.io/redis",
                HUB,
                "library/redis",
                "docker.io/redis:latest",
            ),
            (
                "tutum/wordpress:2.1",
                HUB,
                "tutum/wordpress",
                "tutum/wordpress:2.1",
            ),
            (
                "reg.io:5000/a/b:tag",
                "reg.io:5000",
                "a/b",
                "reg.io:5000/a/b:tag",
            ),
            ("localhost/a", "localhost", "a", "localhost/a:latest"),
            (
                "reg.io/a@sha256:0123",
                "reg.io",
                "a",
                "reg.io/a@sha256:0123",
            ),
            (
                "reg.io/a:1@sha256:0123",
                "reg.io",
                "a",
                "reg.io/a@sha256:0123",
            ),
        ];
        for (text, registry, path, pulled) in cases {
            let found = Reference::read(text).expect(text);
            assert_eq!(
                (found.registry.as_str(), found.path.as_str()),
                (registry, path)
            );
            assert_eq!(found.to_pull(), pulled);
        }
        for bad in [
            "", "a b", "A", "reg.io/", "a:", "a@b", "$IMAGE", "a//b", "reg.io/A",
        ] {
            assert_eq!(Reference::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn services_have_the_names_gitlab_runner_gives_them() {
        let cases: [(&str, &str, &[&str]); 6] = [
            ("mysql:8", "mysql", &["mysql"]),
            ("mysql", "mysql", &["mysql"]),
            (
                "reg.io:5000/a/b:tag",
                "reg.io/a/b",
                &["reg.io__a__b", "reg.io-a-b"],
            ),
            (
                "tutum/wordpress:latest",
                "tutum/wordpress",
                &["tutum__wordpress", "tutum-wordpress"],
            ),
            ("postgres@sha256:0123", "postgres", &["postgres"]),
            (
                "a.b.c:8080/x:1@sha256:0123",
                "a.b.c/x",
                &["a.b.c__x", "a.b.c-x"],
            ),
        ];
        for (text, service, aliases) in cases {
            let found = Reference::read(text).expect(text);
            assert_eq!(found.service(), service);
            assert_eq!(found.aliases(), aliases);
        }
    }
}
