//! A folder with migrations and a database, and the binary that is run in it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

pub(crate) const DSN: &str = "sqlite://app.db";
pub(crate) const LAYOUT: &str = "golang-migrate";

pub(crate) struct Folder {
    root: tempfile::TempDir,
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Folder {
    /// Three migrations in `./migrations`, in golang-migrate's layout; no database yet.
    pub(crate) fn new() -> Self {
        let folder = Self::empty();
        folder.migration(
            "1_users",
            "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);",
            "DROP TABLE users;",
        );
        folder.migration(
            "2_names",
            "INSERT INTO users (name) VALUES ('a;b');",
            "DELETE FROM users;",
        );
        folder.migration(
            "3_index",
            "CREATE INDEX names ON users (name);",
            "DROP INDEX names;",
        );
        folder
    }

    pub(crate) fn empty() -> Self {
        let folder = Self {
            root: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(folder.path().join("migrations")).unwrap();
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn migration(&self, name: &str, up: &str, down: &str) {
        self.file(&format!("migrations/{name}.up.sql"), up);
        self.file(&format!("migrations/{name}.down.sql"), down);
    }

    pub(crate) fn file(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap();
    }

    /// Reads a file and removes it.
    pub(crate) fn take(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.path().join(name)).ok()?;
        self.remove(name);
        Some(text)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path().join(name).exists()
    }

    /// `lockkeeper migrate sql …`, not started yet, with nothing on standard input. What takes migrations back does so
    /// without a backup: what is demanded there has tests of its own.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.plain_command(args);
        let takes_back = args.iter().any(|arg| matches!(*arg, "down" | "redo"));
        if takes_back && !args.iter().any(|arg| arg.contains("backup")) {
            command.arg("--without-backup");
        }
        command
    }

    /// The same with these arguments and no other.
    pub(crate) fn plain_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        command.args(["migrate", "sql"]).args(args);
        if !args.contains(&"--layout") {
            // pop could read these names as well, so `auto` would refuse to guess.
            command.args(["--layout", LAYOUT]);
        }
        command
            .current_dir(self.path())
            .env_remove("DSN")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::from(self.command(args).output().unwrap())
    }

    /// The same, which must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> Done {
        let done = self.run(args);
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
        done
    }

    /// Makes an empty database with this journal mode.
    pub(crate) fn journal_mode(&self, mode: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let options = SqliteConnectOptions::new()
                .filename(self.path().join("app.db"))
                .create_if_missing(true);
            let connection = options
                .pragma("journal_mode", mode.to_owned())
                .connect()
                .await
                .unwrap();
            connection.close().await.unwrap();
        });
    }

    /// Runs statements that answer nothing.
    pub(crate) fn execute_all(&self, statements: &[&str]) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let options = SqliteConnectOptions::new().filename(self.path().join("app.db"));
            let mut connection = options.connect().await.unwrap();
            for sql in statements {
                let sql = AssertSqlSafe((*sql).to_owned());
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
            connection.close().await.unwrap();
        });
    }

    pub(crate) fn execute(&self, sql: &str) {
        self.value(&format!("{sql} RETURNING 1"));
    }

    /// The first columns of all rows of all queries, as lines of text; nothing while the table is not there yet.
    pub(crate) fn text(&self, sql: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let options = SqliteConnectOptions::new()
                .filename(self.path().join("app.db"))
                .create_if_missing(true);
            let mut connection = options.connect().await.unwrap();
            let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
                .fetch_all(&mut connection)
                .await
                .unwrap();
            let text = |row: &sqlx::sqlite::SqliteRow| {
                let value = row.try_get_unchecked::<Option<String>, _>(0).unwrap();
                value.unwrap_or_default()
            };
            rows.iter().map(text).collect::<Vec<_>>().join("\n")
        })
    }

    /// One value out of the database.
    pub(crate) fn value(&self, sql: &str) -> i64 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let options = SqliteConnectOptions::new().filename(self.path().join("app.db"));
            let mut connection = options.connect().await.unwrap();
            sqlx::query(AssertSqlSafe(sql.to_owned()))
                .fetch_one(&mut connection)
                .await
                .unwrap()
                .get(0)
        })
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Done {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
