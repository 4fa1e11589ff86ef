//! Names of scratch databases.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

/// What every name begins with. Own objects begin with `lockkeeper_`.
pub(crate) const PREFIX: &str = "lockkeeper_rehearsal_";

/// `lockkeeper_rehearsal_<random>_<unix time>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ScratchName {
    text: String,
    made_at_s: u64,
}

impl ScratchName {
    /// A name that nobody has used.
    #[must_use]
    pub fn random() -> Self {
        let made_at_s = now_s();
        Self {
            text: format!("{PREFIX}{:08x}_{made_at_s}", fastrand::u32(..)),
            made_at_s,
        }
    }

    /// Reads a name that [`random`](Self::random) made. Anything else is no scratch database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (random, made_at) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let hex = random.len() == 8 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some(Self {
            text: text.to_owned(),
            made_at_s: made_at.parse().ok().filter(|_| hex)?,
        })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it was made at least so long ago, by this machine's clock.
    #[must_use]
    pub fn is_older_than(&self, age: Duration) -> bool {
        now_s().saturating_sub(self.made_at_s) >= age.as_secs()
    }

    /// A number for the owner's mark, where marks are numbers.
    pub(crate) fn number(&self) -> i64 {
        let hash = Sha256::digest(self.text.as_bytes());
        i64::from_be_bytes(hash[..8].try_into().unwrap_or_default())
    }
}

impl fmt::Display for ScratchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn now_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_names() {
        let name = ScratchName::random();
        assert_eq!(ScratchName::parse(name.as_str()), Some(name.clone()));
        assert!(name.is_older_than(Duration::ZERO) && !name.is_older_than(Duration::from_secs(60)));
        assert!(name.as_str().len() <= 63, "PostgreSQL's limit");
        for text in [
            "lockkeeper_rehearsal_",
            "lockkeeper_rehearsal_00000000",
            "lockkeeper_rehearsal_00000000_x",
            "lockkeeper_rehearsal_0000000_1",
            "lockkeeper_rehearsal_production_1",
            "production",
        ] {
            assert_eq!(ScratchName::parse(text), None, "{text}");
        }
    }
}
