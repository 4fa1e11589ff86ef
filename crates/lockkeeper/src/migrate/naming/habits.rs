//! What each layout's tool does.

use lockkeeper_migrate::source::Layout;

use super::Numbering;

/// A tool's habits where a directory has none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Habits {
    /// What the tool does unless told.
    pub(super) numbering: Numbering,
    /// How many digits a sequential version has; `None`: the tool has time stamps only.
    pub(super) digits: Option<usize>,
}

pub(super) fn habits(layout: Layout) -> Habits {
    let (numbering, digits) = match layout {
        Layout::Pop | Layout::Dbmate | Layout::Diesel => (Numbering::Timestamp, None),
        Layout::GolangMigrate => (Numbering::Timestamp, Some(6)),
        Layout::Goose => (Numbering::Timestamp, Some(5)),
        Layout::Sqlx => (Numbering::Timestamp, Some(4)),
        Layout::Refinery | Layout::Flyway => (Numbering::Sequential, Some(1)),
    };
    Habits { numbering, digits }
}

/// The version that a file's (for diesel, a folder's) name begins with; `None`: it is no versioned migration.
pub(super) fn version_in(layout: Layout, name: &str) -> Option<&str> {
    match layout {
        Layout::Pop | Layout::GolangMigrate | Layout::Goose | Layout::Dbmate | Layout::Sqlx => {
            let end = name.find(|c: char| !c.is_ascii_digit())?;
            (end > 0 && name.contains(".sql")).then(|| &name[..end])
        }
        Layout::Refinery | Layout::Flyway => {
            let rest = name.strip_prefix(['V', 'U', 'B'])?;
            let (version, _) = rest.split_once("__")?;
            version
                .starts_with(|c: char| c.is_ascii_digit())
                .then_some(version)
        }
        Layout::Diesel => {
            let (version, _) = name.split_once('_')?;
            let plain = |c: char| c.is_ascii_digit() || c == '-';
            (!version.is_empty() && version.chars().all(plain)).then_some(version)
        }
    }
}
