//! One pool of the state is taken up once.

use super::Common;
use std::sync::{Arc, PoisonError};

/// A pool of the state that is taken up; another may take it up once this is dropped.
pub(super) struct Claim {
    common: Arc<Common>,
    key: String,
}

impl Claim {
    pub(super) fn new(common: &Arc<Common>, key: &str) -> Option<Claim> {
        let mut claims = common.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.insert(key.to_owned()).then(|| Claim {
            common: Arc::clone(common),
            key: key.to_owned(),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let claims = &self.common.claims;
        let mut claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.remove(&self.key);
    }
}
