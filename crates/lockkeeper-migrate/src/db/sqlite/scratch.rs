//! Scratch databases in a directory of SQLite files. The owner's mark is a lock on a file beside the database: the
//! kernel lets it go when the process ends, however it ends.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use super::session::database_error;
use crate::db::DbError;
use crate::db::scratch::{Look, ScratchName, ScratchServer};
use crate::db::types::other_ledgers_literals;
use crate::dsn::Dsn;

/// The database's file, and that of the mark.
const ENDING: &str = ".db";
const MARK_ENDING: &str = ".owner";

#[derive(Debug)]
struct SqliteScratch {
    folder: PathBuf,
    /// Dropping one lets go of the mark.
    marks: HashMap<String, File>,
}

/// In the directory `place`, or beside the file `place`.
pub(crate) fn scratch_server(place: &Dsn) -> Result<Box<dyn ScratchServer>, DbError> {
    let path = place.path().unwrap_or(Path::new(""));
    let folder = if path.is_dir() {
        path.to_owned()
    } else {
        path.parent().map_or_else(PathBuf::new, Path::to_owned)
    };
    let folder = if folder.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        folder
    };
    Ok(Box::new(SqliteScratch {
        folder,
        marks: HashMap::new(),
    }))
}

#[async_trait]
impl ScratchServer for SqliteScratch {
    async fn sweep(&mut self, age: Duration) -> Result<Vec<String>, DbError> {
        let mut dropped = Vec::new();
        for file in self.files()? {
            let name = file.strip_suffix(MARK_ENDING).and_then(ScratchName::parse);
            let Some(name) = name.filter(|name| name.is_older_than(age)) else {
                continue;
            };
            let mark =
                File::open(self.path(&name, MARK_ENDING)).map_err(|error| self.failed("open", &error))?;
            if mark.try_lock().is_ok() {
                self.remove(&name).await?;
                dropped.push(name.to_string());
            }
        }
        Ok(dropped)
    }

    async fn create(&mut self, name: &ScratchName, _: &Look) -> Result<(), DbError> {
        let path = self.path(name, MARK_ENDING);
        let mark = File::create_new(&path).map_err(|error| self.failed("make", &error))?;
        mark.try_lock().map_err(|error| self.failed("lock", &error))?;
        self.marks.insert(name.to_string(), mark);
        Ok(())
    }

    fn dsn(&self, name: &ScratchName) -> Result<Dsn, DbError> {
        let text = format!("sqlite://{}", self.path(name, ENDING).display());
        Dsn::parse(&text).map_err(|error| DbError::Unsupported(error.to_string()))
    }

    async fn tidy(&mut self, _: &ScratchName, _: &Look) -> Result<(), DbError> {
        // A barrier leaves nothing in a file, and a file reaches no other one by itself.
        Ok(())
    }

    async fn remove(&mut self, name: &ScratchName) -> Result<(), DbError> {
        let mark = format!("{name}{MARK_ENDING}");
        // The mark goes last: without it, nobody would find the rest.
        for file in self.files()?.into_iter().filter(|file| *file != mark) {
            if file.trim_start_matches('.').starts_with(&format!("{name}.")) {
                self.unlink(&file)?;
            }
        }
        self.unlink(&mark)?;
        self.marks.remove(name.as_str());
        Ok(())
    }
}

impl SqliteScratch {
    fn path(&self, name: &ScratchName, ending: &str) -> PathBuf {
        self.folder.join(format!("{name}{ending}"))
    }

    /// The names of all files that may belong to a scratch database.
    fn files(&self) -> Result<Vec<String>, DbError> {
        let entries = fs::read_dir(&self.folder).map_err(|error| self.failed("read", &error))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut files: Vec<String> = names
            .filter(|name| {
                name.trim_start_matches('.')
                    .starts_with(crate::db::scratch::PREFIX)
            })
            .collect();
        files.sort();
        Ok(files)
    }

    fn unlink(&self, file: &str) -> Result<(), DbError> {
        match fs::remove_file(self.folder.join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(self.failed("remove", &error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> DbError {
        DbError::Permission {
            what: format!("{what} a scratch file in {}: {error}", self.folder.display()),
            remedy:
                "let this user write to that directory, or name another one with --scratch sqlite://DIRECTORY"
                    .to_owned(),
        }
    }
}

/// What the statements that make a schema are, in the order in which they can run again.
const SCHEMA: &str = "SELECT sql FROM original.sqlite_schema \
     WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!' AND tbl_name NOT LIKE 'lockkeeper!_%' ESCAPE '!' \
     AND tbl_name NOT IN (SELECT name FROM pragma_table_list WHERE schema = 'original' AND type = 'shadow') \
     ORDER BY CASE type WHEN 'table' THEN 1 WHEN 'index' THEN 2 WHEN 'view' THEN 3 ELSE 4 END, rowid";

/// Makes the file `to` with the schema of `from`, and the rows of other migrators' state tables.
pub(crate) async fn copy_schema(from: &Path, to: &Path) -> Result<(), DbError> {
    let options = SqliteConnectOptions::new()
        .filename(to)
        .create_if_missing(true)
        .foreign_keys(false)
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(|error| database_error(&error))?;
    let copied = copy(&mut connection, from).await;
    let closed = connection.close().await;
    copied.and(closed).map_err(|error| database_error(&error))
}

async fn copy(connection: &mut SqliteConnection, from: &Path) -> Result<(), sqlx::Error> {
    sqlx::query("ATTACH ?1 AS original")
        .bind(from.to_string_lossy().into_owned())
        .execute(&mut *connection)
        .await?;
    for pragma in ["user_version", "application_id"] {
        let read = format!("PRAGMA original.{pragma}");
        let value: i64 = sqlx::query_scalar(AssertSqlSafe(read))
            .fetch_one(&mut *connection)
            .await?;
        run(connection, format!("PRAGMA main.{pragma} = {value}")).await?;
    }
    let statements: Vec<String> = sqlx::query_scalar(SCHEMA).fetch_all(&mut *connection).await?;
    for statement in statements {
        run(connection, statement).await?;
    }
    let ledgers = format!(
        "SELECT name FROM original.sqlite_schema WHERE type = 'table' AND name IN ({})",
        other_ledgers_literals()
    );
    let ledgers: Vec<String> = sqlx::query_scalar(AssertSqlSafe(ledgers))
        .fetch_all(&mut *connection)
        .await?;
    for table in ledgers {
        run(
            connection,
            format!("INSERT INTO main.{table} SELECT * FROM original.{table}"),
        )
        .await?;
    }
    Ok(())
}

async fn run(connection: &mut SqliteConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map(drop)
}
