//! What keeps a pool from working as configured, in words for a person.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// The troubles of one pool, by what they are about. Clones share them.
#[derive(Clone, Debug)]
pub struct Troubles {
    known: Arc<Mutex<BTreeMap<&'static str, String>>>,
    shown: watch::Sender<Option<String>>,
}

impl Default for Troubles {
    fn default() -> Self {
        Troubles {
            known: Arc::default(),
            shown: watch::Sender::new(None),
        }
    }
}

impl Troubles {
    /// There is this trouble with a thing, or none any more.
    pub fn set(&self, about: &'static str, trouble: Option<String>) {
        let all = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match (known.get(about), &trouble) {
                (None, Some(trouble)) => tracing::warn!(about, "{trouble}"),
                (Some(_), None) => tracing::info!(about, "the trouble is over"),
                _ => {}
            }
            match trouble {
                Some(trouble) => known.insert(about, trouble),
                None => known.remove(about),
            };
            let texts: Vec<&str> = known.values().map(String::as_str).collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        };
        self.shown.send_if_modified(|shown| {
            let news = *shown != all;
            *shown = all;
            news
        });
    }

    /// All of them, in one text.
    #[must_use]
    pub fn shown(&self) -> watch::Receiver<Option<String>> {
        self.shown.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_shown_together_until_each_is_over() {
        let troubles = Troubles::default();
        let shown = troubles.shown();
        troubles.set("driver", Some("no driver".into()));
        troubles.set("GitLab", Some("no GitLab".into()));
        assert_eq!(shown.borrow().as_deref(), Some("no GitLab; no driver"));
        troubles.set("driver", None);
        assert_eq!(shown.borrow().as_deref(), Some("no GitLab"));
        troubles.set("GitLab", None);
        assert_eq!(*shown.borrow(), None);
    }
}
