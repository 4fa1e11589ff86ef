//! The next version.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::source::Layout;

use super::Numbering;
use super::habits::{habits, version_in};

/// `YYYYMMDDhhmmss`.
const TIMESTAMP_DIGITS: usize = 14;

/// What stands in the way of a name. Reads after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::migrate) enum NamingError {
    #[error("number the migration: the directory has time stamps ({timestamp}) and plain numbers ({number})")]
    Mixed { timestamp: String, number: String },
    #[error("number the migration: {layout} knows time stamps only")]
    TimestampsOnly { layout: Layout },
    #[error("number the migration: what follows version {newest} is not for {layout} to say")]
    NoSuccessor { layout: Layout, newest: String },
    #[error("number the migration {version}: it is no version of {layout}'s form")]
    Form { layout: Layout, version: String },
    #[error("number the migration {version}: version {newest} is there already and not below it")]
    NotAbove { version: String, newest: String },
}

/// The version after those in `names`: the one that was asked for, or the one that the directory's own numbering
/// gives.
pub(in crate::migrate) fn next_version(
    layout: Layout,
    names: &[String],
    numbering: Option<Numbering>,
    asked: Option<&str>,
    now: Timestamp,
) -> Result<String, NamingError> {
    let versions: Vec<&str> = names.iter().filter_map(|name| version_in(layout, name)).collect();
    let newest = versions
        .iter()
        .copied()
        .max_by(|a, b| compare(layout, a, b).unwrap_or_else(|| a.cmp(b)));
    if let Some(asked) = asked {
        return check(layout, asked, newest);
    }
    let numbering = match numbering {
        Some(numbering) => numbering,
        None => seen(&versions)?.unwrap_or(habits(layout).numbering),
    };
    match numbering {
        Numbering::Timestamp => Ok(timestamp(layout, newest, now)),
        Numbering::Sequential => sequential(layout, newest),
    }
}

fn compare(layout: Layout, a: &str, b: &str) -> Option<std::cmp::Ordering> {
    let plain = |version: &str| SchemaVersion(version.replace('-', ""));
    layout.order().compare(&plain(a), &plain(b))
}

fn check(layout: Layout, asked: &str, newest: Option<&str>) -> Result<String, NamingError> {
    let allowed = |c: char| match layout {
        Layout::Flyway | Layout::Refinery => c.is_ascii_digit() || matches!(c, '.' | '_'),
        Layout::Diesel => c.is_ascii_digit() || c == '-',
        Layout::Pop | Layout::GolangMigrate | Layout::Goose | Layout::Dbmate | Layout::Sqlx => {
            c.is_ascii_digit()
        }
    };
    if asked.is_empty() || !asked.chars().all(allowed) {
        return Err(NamingError::Form {
            layout,
            version: asked.to_owned(),
        });
    }
    match newest {
        Some(newest) if compare(layout, asked, newest) != Some(std::cmp::Ordering::Greater) => {
            Err(NamingError::NotAbove {
                version: asked.to_owned(),
                newest: newest.to_owned(),
            })
        }
        Some(_) | None => Ok(asked.to_owned()),
    }
}

fn is_timestamp(version: &str) -> bool {
    let digits = version.chars().filter(char::is_ascii_digit).count();
    digits >= TIMESTAMP_DIGITS
}

/// The numbering of the versions that are there; `None` when there is none.
fn seen(versions: &[&str]) -> Result<Option<Numbering>, NamingError> {
    let timestamp = versions.iter().find(|version| is_timestamp(version));
    let number = versions.iter().find(|version| !is_timestamp(version));
    match (timestamp, number) {
        (None, None) => Ok(None),
        (Some(_), None) => Ok(Some(Numbering::Timestamp)),
        (None, Some(_)) => Ok(Some(Numbering::Sequential)),
        (Some(timestamp), Some(number)) => Err(NamingError::Mixed {
            timestamp: (*timestamp).to_owned(),
            number: (*number).to_owned(),
        }),
    }
}

fn timestamp(layout: Layout, newest: Option<&str>, now: Timestamp) -> String {
    let now = now.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%S").to_string();
    let newest = newest
        .map(|version| version.replace('-', ""))
        .filter(|version| is_timestamp(version));
    // Kratos' versions have six digits more, which tell several migrations of one moment apart.
    let width = newest.as_ref().map_or(TIMESTAMP_DIGITS, String::len);
    let now = format!("{now:0<width$}");
    let version = match newest.and_then(|newest| successor(&newest)) {
        Some(successor) if successor > now => successor,
        Some(_) | None => now,
    };
    match layout {
        Layout::Diesel => dashed(&version),
        _ => version,
    }
}

/// diesel's `2020-01-31-235959`.
fn dashed(version: &str) -> String {
    match (
        version.get(..4),
        version.get(4..6),
        version.get(6..8),
        version.get(8..),
    ) {
        (Some(year), Some(month), Some(day), Some(time)) => format!("{year}-{month}-{day}-{time}"),
        _ => version.to_owned(),
    }
}

fn sequential(layout: Layout, newest: Option<&str>) -> Result<String, NamingError> {
    let Some(digits) = habits(layout).digits else {
        return Err(NamingError::TimestampsOnly { layout });
    };
    match newest {
        None => Ok(format!("{:0>digits$}", 1)),
        Some(newest) => successor(newest).ok_or_else(|| NamingError::NoSuccessor {
            layout,
            newest: newest.to_owned(),
        }),
    }
}

/// One more, as wide; `None` for what is no plain number.
fn successor(version: &str) -> Option<String> {
    let width = version.len();
    let next = version.parse::<u128>().ok()?.checked_add(1)?;
    Some(format!("{next:0>width$}"))
}
