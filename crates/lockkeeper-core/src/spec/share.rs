//! A share of a rollout's targets: a number of them, or a part in percent.

use std::num::NonZeroUsize;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `3` or `25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Share {
    /// So many.
    Count(NonZeroUsize),
    /// So many in a hundred, from 1 to 100; at least one target.
    Percent(u8),
}

/// Neither a number nor a part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is neither a number of targets from 1 nor a part of them such as 25%")]
pub struct ShareError(String);

impl Share {
    /// How many of `all` that is; never none.
    #[must_use]
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count.get(),
            Self::Percent(percent) => (all * usize::from(percent) / 100).max(1),
        }
    }

    /// A part in percent.
    ///
    /// # Errors
    /// It is not between 1 and 100.
    pub fn percent(percent: u32) -> Result<Self, ShareError> {
        let valid = u8::try_from(percent).ok().filter(|p| (1..=100).contains(p));
        valid
            .map(Self::Percent)
            .ok_or_else(|| ShareError(format!("{percent}%")))
    }

    /// A number of targets.
    ///
    /// # Errors
    /// It is 0.
    pub fn count(count: usize) -> Result<Self, ShareError> {
        let valid = NonZeroUsize::new(count);
        valid
            .map(Self::Count)
            .ok_or_else(|| ShareError(count.to_string()))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a number of targets from 1, or a part of them such as 25%"
)]
enum Written {
    Count(usize),
    Text(String),
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => Written::Count(count.get()),
            Self::Percent(percent) => Written::Text(format!("{percent}%")),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = match Written::deserialize(deserializer)? {
            Written::Count(count) => Self::count(count),
            Written::Text(text) => match text.strip_suffix('%').map(str::parse) {
                Some(Ok(percent)) => Self::percent(percent),
                Some(Err(_)) | None => Err(ShareError(text)),
            },
        };
        share.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_or_a_part_and_never_none() {
        let share = |text: &str| serde_json::from_str::<Share>(text);
        assert_eq!(share("3").unwrap().of(100), 3);
        assert_eq!(share("\"25%\"").unwrap().of(10), 2);
        assert_eq!(share("\"1%\"").unwrap().of(10), 1);
        for wrong in ["0", "\"0%\"", "\"101%\"", "\"x\"", "\"25\"", "-1"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            serde_json::to_string(&share("\"25%\"").unwrap()).unwrap(),
            "\"25%\""
        );
    }
}
