//! How each tool is called.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use lockkeeper_tests::{cli, tools};

use crate::servers::Database;
use crate::sets::{Dialect, Set};

/// Someone who can apply migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The database's own client, fed with all migrations in one session.
    Floor,
    Lockkeeper,
    Sqlx,
    Refinery,
    Diesel,
    Dbmate,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Floor => "floor",
            Self::Lockkeeper => "lockkeeper",
            Self::Sqlx => "sqlx-cli",
            Self::Refinery => "refinery",
            Self::Diesel => "diesel",
            Self::Dbmate => "dbmate",
        })
    }
}

impl Contender {
    const ALL: [Self; 6] = [
        Self::Floor,
        Self::Lockkeeper,
        Self::Sqlx,
        Self::Refinery,
        Self::Diesel,
        Self::Dbmate,
    ];

    /// Those that are installed. Who is missing is said: a table with fewer rows must not look complete.
    pub(crate) fn present(dialect: Dialect) -> Vec<Self> {
        let (present, missing): (Vec<_>, Vec<_>) = Self::ALL
            .into_iter()
            .partition(|contender| contender.program(dialect).is_ok());
        for contender in missing {
            eprintln!("{dialect}: {contender} is in neither .tools/bin nor PATH, so it is left out");
        }
        present
    }

    fn program(self, dialect: Dialect) -> Result<PathBuf> {
        match (self, dialect) {
            (Self::Floor, Dialect::Postgres) => tools::find("psql"),
            (Self::Floor, Dialect::MariaDb) => tools::find("mariadb"),
            (Self::Floor, Dialect::Sqlite) => tools::find("sqlite3"),
            (Self::Lockkeeper, _) => cli::program(),
            (Self::Sqlx, _) => tools::find("sqlx"),
            (Self::Refinery, _) => tools::find("refinery"),
            (Self::Diesel, _) => tools::find("diesel"),
            (Self::Dbmate, _) => tools::find("dbmate"),
        }
    }

    /// Applies all of `set`.
    pub(crate) fn apply(self, dialect: Dialect, set: &Set, database: &Database) -> Result<Call> {
        let mut call = Call::new(self.program(dialect)?);
        match self {
            Self::Floor => call.client(dialect, database).input(&set.script())?,
            Self::Lockkeeper => call
                .args(["migrate", "sql", "up", "--yes", "--layout", set.layout])
                .args(["--dir", &text(&set.dir(set.layout)), &database.url]),
            Self::Sqlx => call.args([
                "migrate",
                "run",
                "--source",
                &text(&set.dir("sqlx")),
                "--database-url",
                &database.url,
            ]),
            Self::Refinery => call.refinery(dialect, database, &set.dir("refinery"))?,
            Self::Diesel => call
                .args(["migration", "run", "--migration-dir", &text(&set.dir("diesel"))])
                .args(["--database-url", &plain_url(dialect, database)]),
            Self::Dbmate => call
                .dbmate(dialect, database, set)
                .args(["--no-dump-schema", "up"]),
        };
        Ok(call)
    }

    /// Says what is pending. The floor only connects. `None`: the tool has no such command.
    pub(crate) fn status(self, dialect: Dialect, set: &Set, database: &Database) -> Result<Option<Call>> {
        let mut call = Call::new(self.program(dialect)?);
        match self {
            Self::Floor => call.client(dialect, database).question(dialect),
            Self::Lockkeeper => call
                .args(["migrate", "sql", "status", "--layout", set.layout])
                .args(["--dir", &text(&set.dir(set.layout)), &database.url]),
            Self::Sqlx => call.args([
                "migrate",
                "info",
                "--source",
                &text(&set.dir("sqlx")),
                "--database-url",
                &database.url,
            ]),
            Self::Refinery => return Ok(None),
            Self::Diesel => call
                .args([
                    "migration",
                    "pending",
                    "--migration-dir",
                    &text(&set.dir("diesel")),
                ])
                .args(["--database-url", &plain_url(dialect, database)]),
            Self::Dbmate => call.dbmate(dialect, database, set).args(["status", "--quiet"]),
        };
        Ok(Some(call))
    }
}

/// libpq's and libmysqlclient's URLs know fewer parameters, and diesel wants a bare path on SQLite.
fn plain_url(dialect: Dialect, database: &Database) -> String {
    match dialect {
        Dialect::Sqlite => text(&database.file),
        Dialect::Postgres | Dialect::MariaDb => database.url.clone(),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A command to be timed.
#[derive(Debug)]
pub(crate) struct Call {
    command: Command,
}

impl Call {
    fn new(program: PathBuf) -> Self {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Self { command }
    }

    fn args<'a>(&mut self, arguments: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.command.args(arguments);
        self
    }

    fn client(&mut self, dialect: Dialect, database: &Database) -> &mut Self {
        let port = database.port.to_string();
        match dialect {
            Dialect::Postgres => self.args([
                "--no-psqlrc",
                "--quiet",
                "--set=ON_ERROR_STOP=1",
                "--dbname",
                &database.url,
            ]),
            Dialect::MariaDb => self.args([
                "--no-defaults",
                "--user=root",
                "--host=127.0.0.1",
                "--port",
                &port,
                "--database",
                &database.name,
            ]),
            Dialect::Sqlite => self.args(["-bail", &text(&database.file)]),
        }
    }

    fn input(&mut self, script: &Path) -> Result<&mut Self> {
        let file = File::open(script).with_context(|| format!("open {}", script.display()))?;
        self.command.stdin(file);
        Ok(self)
    }

    fn question(&mut self, dialect: Dialect) -> &mut Self {
        match dialect {
            Dialect::Postgres => self.args(["--command=SELECT 1"]),
            Dialect::MariaDb => self.args(["--execute=SELECT 1"]),
            // Reading something makes it open the file at all.
            Dialect::Sqlite => self.args(["SELECT count(*) FROM sqlite_master"]),
        }
    }

    fn dbmate(&mut self, dialect: Dialect, database: &Database, set: &Set) -> &mut Self {
        let url = match dialect {
            Dialect::Sqlite => format!("sqlite:{}", database.file.display()),
            Dialect::Postgres | Dialect::MariaDb => database.url.clone(),
        };
        self.args(["--url", &url, "--migrations-dir", &text(&set.dir("dbmate"))])
    }

    /// It takes the database from a file only.
    fn refinery(&mut self, dialect: Dialect, database: &Database, dir: &Path) -> Result<&mut Self> {
        let name = &database.name;
        let main = match dialect {
            Dialect::Postgres => format!(
                "db_type = \"Postgres\"\ndb_host = \"127.0.0.1\"\ndb_port = \"{}\"\ndb_user = \"postgres\"\ndb_pass = \"\"\ndb_name = \"{name}\"\n",
                database.port
            ),
            Dialect::MariaDb => format!(
                "db_type = \"Mysql\"\ndb_host = \"127.0.0.1\"\ndb_port = \"{}\"\ndb_user = \"root\"\ndb_pass = \"\"\ndb_name = \"{name}\"\n",
                database.port
            ),
            Dialect::Sqlite => format!(
                "db_type = \"Sqlite\"\ndb_path = \"{}\"\n",
                database.file.display()
            ),
        };
        let config = dir.with_file_name(format!("refinery-{dialect}-{name}.toml"));
        std::fs::write(&config, format!("[main]\n{main}"))
            .with_context(|| format!("write {}", config.display()))?;
        Ok(self.args(["migrate", "-c", &text(&config), "-p", &text(dir)]))
    }

    /// Runs it to its end.
    pub(crate) fn run(&mut self) -> Result<()> {
        let output = self
            .command
            .output()
            .with_context(|| format!("run {:?}", self.command))?;
        if !output.status.success() {
            bail!(
                "{:?}: {}\n{}",
                self.command,
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}
