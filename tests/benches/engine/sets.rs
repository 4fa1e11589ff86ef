//! The same migrations, written out in the layout of each tool.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A database to measure on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    MariaDb,
    Sqlite,
}

impl Dialect {
    pub(crate) const ALL: [Self; 3] = [Self::Postgres, Self::MariaDb, Self::Sqlite];

    /// The infix of pop's files.
    fn infix(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mysql",
            Self::Sqlite => "sqlite3",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
            Self::Sqlite => "sqlite",
        })
    }
}

/// Directories to apply. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Sets {
    pub(crate) small: Set,
    pub(crate) many: Set,
    _root: TempDir,
}

/// One list of migrations, as a directory per layout.
#[derive(Debug)]
pub(crate) struct Set {
    root: PathBuf,
    /// Which layout lockkeeper reads.
    pub(crate) layout: &'static str,
}

impl Set {
    /// One file for the plain client: each migration in a transaction of its own.
    pub(crate) fn script(&self) -> PathBuf {
        self.root.join("floor.sql")
    }

    pub(crate) fn dir(&self, layout: &str) -> PathBuf {
        self.root.join(layout)
    }
}

impl Sets {
    pub(crate) fn write(dialect: Dialect, small: usize, many: usize) -> Result<Self> {
        let root = tempfile::Builder::new().prefix("lockkeeper-bench-").tempdir()?;
        let migrations = (1..=small).map(Migration::small).collect::<Vec<_>>();
        let small = Set {
            root: root.path().join("small"),
            layout: "sqlx",
        };
        write_floor(&small, dialect, &migrations)?;
        for migration in &migrations {
            migration.write_all(&small)?;
        }
        let migrations = (1..=many).map(Migration::small).collect::<Vec<_>>();
        let many = Set {
            root: root.path().join("many"),
            layout: "pop",
        };
        write_floor(&many, dialect, &migrations)?;
        for migration in &migrations {
            migration.write_pop(&many)?;
        }
        Ok(Self {
            small,
            many,
            _root: root,
        })
    }
}

fn write_floor(set: &Set, dialect: Dialect, migrations: &[Migration]) -> Result<()> {
    let (begin, commit) = match dialect {
        Dialect::Postgres | Dialect::Sqlite => ("BEGIN;\n", "COMMIT;\n"),
        // Its DDL commits by itself.
        Dialect::MariaDb => ("", ""),
    };
    let text = migrations
        .iter()
        .map(|m| format!("{begin}{}{commit}", m.up))
        .collect::<String>();
    write(&set.script(), &text)
}

/// One small migration. Four kinds take turns: a table, an index, a column, a row.
struct Migration {
    number: usize,
    up: String,
    down: String,
}

impl Migration {
    fn small(number: usize) -> Self {
        let table = format!("item_{:04}", (number - 1) / 4);
        let (up, down) = match number % 4 {
            1 => (
                format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, name VARCHAR(100) NOT NULL);\n"),
                format!("DROP TABLE {table};\n"),
            ),
            2 => (
                format!("CREATE INDEX {table}_name ON {table} (name);\n"),
                format!("DROP INDEX {table}_name;\n"),
            ),
            3 => (
                format!("ALTER TABLE {table} ADD COLUMN price BIGINT;\n"),
                format!("ALTER TABLE {table} DROP COLUMN price;\n"),
            ),
            _ => (
                format!("INSERT INTO {table} (id, name) VALUES (1, 'first');\n"),
                format!("DELETE FROM {table};\n"),
            ),
        };
        Self { number, up, down }
    }

    fn write_all(&self, set: &Set) -> Result<()> {
        let Self { number, up, down } = self;
        write(&set.dir("sqlx").join(format!("{number:04}_step.sql")), up)?;
        write(&set.dir("refinery").join(format!("V{number}__step.sql")), up)?;
        let blocks = format!("-- migrate:up\n{up}\n-- migrate:down\n{down}");
        write(&set.dir("dbmate").join(format!("{number:04}_step.sql")), &blocks)?;
        let folder = set.dir("diesel").join(format!("{number:04}_step"));
        write(&folder.join("up.sql"), up)?;
        write(&folder.join("down.sql"), down)
    }

    /// Ten files a version, two of which are for the database that is measured.
    fn write_pop(&self, set: &Set) -> Result<()> {
        let databases = Dialect::ALL
            .iter()
            .map(|dialect| dialect.infix())
            .chain(["cockroach", "mssql"]);
        for database in databases {
            let path = |direction: &str| {
                let name = format!("{:014}_step.{database}.{direction}.sql", self.number);
                set.dir("pop").join(name)
            };
            write(&path("up"), &self.up)?;
            write(&path("down"), &self.down)?;
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("find the file's folder")?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
