//! Ranges of schema versions, written as Rust ranges.

use std::ops::{RangeFrom, RangeFull, RangeInclusive, RangeToInclusive};

use lockkeeper_core::version::{SchemaVersion, VersionRange};

/// The schema versions that the program can work with: `"20240101"..="20240301"`, `"20240101"..`, `..="20240301"`,
/// `..` (any), or a pair of options `(min, max)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions(pub VersionRange);

impl From<VersionRange> for Versions {
    fn from(range: VersionRange) -> Self {
        Self(range)
    }
}

impl<V: Into<SchemaVersion>> From<(Option<V>, Option<V>)> for Versions {
    fn from((min, max): (Option<V>, Option<V>)) -> Self {
        Self(VersionRange {
            min: min.map(Into::into),
            max: max.map(Into::into),
        })
    }
}

impl<V: Into<SchemaVersion>> From<RangeInclusive<V>> for Versions {
    fn from(range: RangeInclusive<V>) -> Self {
        let (min, max) = range.into_inner();
        Self::from((Some(min), Some(max)))
    }
}

impl<V: Into<SchemaVersion>> From<RangeFrom<V>> for Versions {
    fn from(range: RangeFrom<V>) -> Self {
        Self::from((Some(range.start), None))
    }
}

impl<V: Into<SchemaVersion>> From<RangeToInclusive<V>> for Versions {
    fn from(range: RangeToInclusive<V>) -> Self {
        Self::from((None, Some(range.end)))
    }
}

impl From<RangeFull> for Versions {
    fn from(_: RangeFull) -> Self {
        Self(VersionRange { min: None, max: None })
    }
}
