//! The files of a new migration.

use std::path::PathBuf;

use lockkeeper_migrate::source::Layout;

/// A file to make, below the migration directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::migrate) struct NewFile {
    pub(in crate::migrate) path: PathBuf,
    pub(in crate::migrate) text: String,
}

impl NewFile {
    fn new(path: String, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }
}

/// The files of a migration, both directions where the layout has them, beside those in `names`.
pub(in crate::migrate) fn files(layout: Layout, names: &[String], version: &str, name: &str) -> Vec<NewFile> {
    let pair = |up: String, down: String| {
        vec![
            NewFile::new(up, format!("-- {name}: up\n")),
            NewFile::new(down, format!("-- {name}: down\n")),
        ]
    };
    match layout {
        Layout::Sqlx if is_one_way(names) => {
            vec![NewFile::new(
                format!("{version}_{name}.sql"),
                format!("-- {name}\n"),
            )]
        }
        Layout::Pop | Layout::GolangMigrate | Layout::Sqlx => pair(
            format!("{version}_{name}.up.sql"),
            format!("{version}_{name}.down.sql"),
        ),
        Layout::Goose => vec![NewFile::new(
            format!("{version}_{name}.sql"),
            "-- +goose Up\n\n-- +goose Down\n",
        )],
        Layout::Dbmate => vec![NewFile::new(
            format!("{version}_{name}.sql"),
            "-- migrate:up\n\n-- migrate:down\n",
        )],
        Layout::Refinery => vec![NewFile::new(
            format!("V{version}__{name}.sql"),
            format!("-- {name}\n"),
        )],
        Layout::Flyway => pair(
            format!("V{version}__{name}.sql"),
            format!("U{version}__{name}.sql"),
        ),
        Layout::Diesel => pair(
            format!("{version}_{name}/up.sql"),
            format!("{version}_{name}/down.sql"),
        ),
    }
}

/// sqlx refuses a directory that mixes files with and without a way back.
fn is_one_way(names: &[String]) -> bool {
    let sql = |name: &&String| name.ends_with(".sql");
    let reversible = |name: &String| name.ends_with(".up.sql") || name.ends_with(".down.sql");
    let mut files = names.iter().filter(sql).peekable();
    files.peek().is_some() && !files.any(reversible)
}
