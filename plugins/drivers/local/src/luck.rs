//! What befalls a machine, decided by its token.

use springtide_sdk::PluginError;

/// The lots of one token: a part of 100 for each thing that may befall it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Luck<'t> {
    token: &'t str,
}

impl<'t> Luck<'t> {
    pub(crate) fn of(token: &'t str) -> Self {
        Self { token }
    }

    /// Why it can't be made, for so many of 100 tokens: half of them find no room, the others
    /// something that passes.
    pub(crate) fn failure(self, percent: u32) -> Option<PluginError> {
        if !self.is_hit("create", percent) {
            return None;
        }
        Some(if self.is_hit("capacity", 50) {
            PluginError::Capacity(
                "there is no room for a machine: local-fail-create has it so".into(),
            )
        } else {
            PluginError::Transient("the machine was not made: local-fail-create has it so".into())
        })
    }

    /// Whether its boot never ends, for so many of 100 tokens.
    pub(crate) fn has_stuck_boot(self, percent: u32) -> bool {
        self.is_hit("boot", percent)
    }

    /// Whether it switches itself off, for so many of 100 tokens.
    pub(crate) fn vanishes(self, percent: u32) -> bool {
        self.is_hit("vanish", percent)
    }

    fn is_hit(self, thing: &str, percent: u32) -> bool {
        let text = thing.bytes().chain([0]).chain(self.token.bytes());
        // FNV-1a, then a mix: its low digits alone fall unevenly on tokens that are much alike.
        let mut hash = text.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        hash % 100 < u64::from(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(percent: u32) -> usize {
        (0..1000)
            .filter(|token| {
                Luck::of(&format!("token-{token}"))
                    .failure(percent)
                    .is_some()
            })
            .count()
    }

    #[test]
    fn as_many_tokens_fail_as_the_percentage_says() {
        assert_eq!(hit(0), 0);
        assert_eq!(hit(100), 1000);
        assert!((150..250).contains(&hit(20)), "{}", hit(20));
    }

    #[test]
    fn a_token_fares_the_same_each_time() {
        let token = Luck::of("a");
        assert_eq!(token.failure(50), token.failure(50));
    }

    #[test]
    fn what_befalls_a_token_does_not_hang_together() {
        let both = (0..1000)
            .map(|token| format!("token-{token}"))
            .filter(|token| {
                let luck = Luck::of(token);
                luck.has_stuck_boot(50) && luck.vanishes(50)
            })
            .count();
        assert!((180..320).contains(&both), "{both}");
    }
}
