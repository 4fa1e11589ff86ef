//! Schema versions: texts whose order belongs to the layout they come from.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A schema version as its layout writes it: a text, because pop's 20 digits fit no integer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchemaVersion(pub String);

/// What the version of a repeatable migration begins with.
const REPEATABLE: &str = "R__";

impl SchemaVersion {
    /// The version as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands for the version of Flyway's repeatable migration `description`, which has none.
    #[must_use]
    pub fn repeatable(description: &str) -> Self {
        Self(format!("{REPEATABLE}{description}"))
    }

    /// Whether this stands for a repeatable migration: it says nothing about how far the schema has come.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.0.starts_with(REPEATABLE)
    }
}

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for SchemaVersion {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for SchemaVersion {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// How a layout orders its versions. Two layouts order `1, 2, 10` differently, so an order is never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionOrder {
    /// By bytes (pop, diesel).
    Lexical,
    /// By bytes of the file's name, in which `_` follows the version (dbmate): `10_b.sql` comes before `1_a.sql`.
    FileName,
    /// As whole numbers of any length (golang-migrate, goose, sqlx, refinery).
    Numeric,
    /// By numeric parts between dots or underscores, repeatable migrations last (Flyway).
    Parts,
}

impl VersionOrder {
    /// Compares two versions; `None` when one of them is not of this order's form.
    #[must_use]
    pub fn compare(self, a: &SchemaVersion, b: &SchemaVersion) -> Option<Ordering> {
        match self {
            Self::Lexical => Some(a.0.as_bytes().cmp(b.0.as_bytes())),
            Self::FileName => Some(compare_file_names(&a.0, &b.0)),
            Self::Numeric => compare_numbers(&a.0, &b.0),
            Self::Parts => match (a.is_repeatable(), b.is_repeatable()) {
                (false, false) => compare_parts(&a.0, &b.0),
                (true, true) => Some(a.cmp(b)),
                (repeatable, _) => Some(if repeatable {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }),
            },
        }
    }
}

fn compare_file_names(a: &str, b: &str) -> Ordering {
    let name = |version: &str| version.bytes().chain([b'_']).collect::<Vec<_>>();
    name(a).cmp(&name(b))
}

/// Compares decimal texts of any length, so that no version is too long.
fn compare_numbers(a: &str, b: &str) -> Option<Ordering> {
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|c| c.is_ascii_digit());
    if !digits(a) || !digits(b) {
        return None;
    }
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    Some(a.len().cmp(&b.len()).then_with(|| a.cmp(b)))
}

fn compare_parts(a: &str, b: &str) -> Option<Ordering> {
    let parts = |t: &str| t.split(['.', '_']).map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (parts(a), parts(b));
    for i in 0..a.len().max(b.len()) {
        let part = |p: &[String]| p.get(i).cloned().unwrap_or_else(|| "0".to_owned());
        match compare_numbers(&part(&a), &part(&b))? {
            Ordering::Equal => {}
            unequal => return Some(unequal),
        }
    }
    Some(Ordering::Equal)
}

/// The schema versions a program can work with, both ends included. An end that is `None` is unbounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VersionRange {
    /// The oldest version that the program can work with.
    pub min: Option<SchemaVersion>,
    /// The newest version that the program can work with.
    pub max: Option<SchemaVersion>,
}

/// Whether a program's range holds the target's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// The version lies in the range.
    Fits,
    /// The schema is older than the program needs.
    SchemaTooOld,
    /// The schema is newer than the program knows.
    SchemaTooNew,
    /// The version cannot be compared, or is not known. Fails closed: it does not fit.
    Unknown,
}

impl VersionRange {
    /// Where `version` lies relative to this range, in the layout's own order.
    #[must_use]
    pub fn fit(&self, order: VersionOrder, version: Option<&SchemaVersion>) -> Fit {
        let Some(version) = version else {
            return Fit::Unknown;
        };
        if let Some(min) = &self.min {
            match order.compare(version, min) {
                Some(Ordering::Less) => return Fit::SchemaTooOld,
                Some(_) => {}
                None => return Fit::Unknown,
            }
        }
        if let Some(max) = &self.max {
            match order.compare(version, max) {
                Some(Ordering::Greater) => return Fit::SchemaTooNew,
                Some(_) => {}
                None => return Fit::Unknown,
            }
        }
        Fit::Fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: &str, max: &str) -> VersionRange {
        VersionRange {
            min: Some(min.into()),
            max: Some(max.into()),
        }
    }

    #[test]
    fn each_order_keeps_its_own_idea_of_ten() {
        let (two, ten) = ("2".into(), "10".into());
        assert_eq!(VersionOrder::Lexical.compare(&two, &ten), Some(Ordering::Greater));
        assert_eq!(VersionOrder::Numeric.compare(&two, &ten), Some(Ordering::Less));
        assert_eq!(
            VersionOrder::Parts.compare(&"1_10".into(), &"1.2".into()),
            Some(Ordering::Greater)
        );
        assert_eq!(
            VersionOrder::Parts.compare(&"1.0".into(), &"1".into()),
            Some(Ordering::Equal)
        );
        let one = "1".into();
        assert_eq!(VersionOrder::Lexical.compare(&one, &ten), Some(Ordering::Less));
        assert_eq!(
            VersionOrder::FileName.compare(&one, &ten),
            Some(Ordering::Greater)
        );
        assert_eq!(VersionOrder::FileName.compare(&one, &two), Some(Ordering::Less));
    }

    #[test]
    fn repeatable_migrations_come_last_by_description() {
        let views = SchemaVersion::repeatable("views");
        assert!(views.is_repeatable() && !SchemaVersion::from("1").is_repeatable());
        for (a, b, expected) in [
            (SchemaVersion::from("99.9"), views.clone(), Ordering::Less),
            (views.clone(), "99".into(), Ordering::Greater),
            (SchemaVersion::repeatable("a"), views.clone(), Ordering::Less),
            (views.clone(), views.clone(), Ordering::Equal),
        ] {
            assert_eq!(VersionOrder::Parts.compare(&a, &b), Some(expected), "{a} {b}");
        }
    }

    #[test]
    fn twenty_digits_compare() {
        let (a, b) = ("20220301082701000001".into(), "20220301082701000000".into());
        assert_eq!(VersionOrder::Numeric.compare(&a, &b), Some(Ordering::Greater));
    }

    #[test]
    fn an_unknown_version_does_not_fit() {
        assert_eq!(range("1", "9").fit(VersionOrder::Numeric, None), Fit::Unknown);
        assert_eq!(
            range("1", "x").fit(VersionOrder::Numeric, Some(&"3".into())),
            Fit::Unknown
        );
        assert_eq!(
            range("1", "9").fit(VersionOrder::Numeric, Some(&"10".into())),
            Fit::SchemaTooNew
        );
        assert_eq!(
            range("2", "9").fit(VersionOrder::Numeric, Some(&"1".into())),
            Fit::SchemaTooOld
        );
        assert_eq!(
            range("2", "9").fit(VersionOrder::Numeric, Some(&"9".into())),
            Fit::Fits
        );
    }
}
