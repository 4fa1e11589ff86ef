//! A database that a backup is restored into to try it. It is dropped again whatever happens.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use super::dump::{login, release};
use super::error::BackupError;
use super::file::failed;
use super::make::Order;
use crate::db::{DatabaseOptions, Observer, upkeep};
use crate::dialect::Dialect;
use crate::dsn::Dsn;
use crate::dump_tools::{Call, Input, Program, ToolError, find};

/// Restores the dump `path` beside its source, counts the rows of every table, and drops it again.
pub(super) async fn counts_of(
    order: &Order<'_>,
    server: &str,
    path: &Path,
    observer: &dyn Observer,
) -> Result<BTreeMap<String, u64>, BackupError> {
    if order.dsn.dialect() == Dialect::Sqlite {
        let text = format!("sqlite://{}", path.display());
        let dsn = Dsn::parse(&text).map_err(|error| BackupError::Unreadable(error.to_string()))?;
        return Ok(upkeep(&dsn, DatabaseOptions::default()).row_counts().await?);
    }
    let name = format!("lockkeeper_scratch_{:08x}", fastrand::u32(..));
    let scratch = Scratch {
        order,
        server,
        name,
        observer,
    };
    scratch.make().await?;
    let counts = scratch.fill_and_count(path).await;
    let dropped = scratch.drop().await;
    let counts = counts?;
    dropped?;
    Ok(counts)
}

struct Scratch<'a> {
    order: &'a Order<'a>,
    server: &'a str,
    name: String,
    observer: &'a dyn Observer,
}

impl Scratch<'_> {
    async fn make(&self) -> Result<(), BackupError> {
        let (sql, remedy) = match self.order.dsn.dialect() {
            Dialect::Postgres => (
                format!("CREATE DATABASE {} TEMPLATE template0", self.name),
                "run `ALTER ROLE … CREATEDB` for this role, or leave --verify-backup out".to_owned(),
            ),
            Dialect::MySql | Dialect::Sqlite => (
                format!("CREATE DATABASE {}", self.name),
                "run ``GRANT ALL ON `lockkeeper\\_scratch\\_%`.* TO`` this user, or leave --verify-backup out".to_owned(),
            ),
        };
        self.client(self.order.dsn, &sql)
            .await
            .map_err(|error| BackupError::NoScratch {
                reason: error.to_string(),
                remedy,
            })
    }

    async fn drop(&self) -> Result<(), BackupError> {
        self.client(self.order.dsn, &format!("DROP DATABASE IF EXISTS {}", self.name))
            .await
    }

    async fn fill_and_count(&self, path: &Path) -> Result<BTreeMap<String, u64>, BackupError> {
        let dsn = self.order.dsn.with_database(&self.name);
        self.fill(&dsn, path)
            .await
            .map_err(|error| BackupError::Unreadable(error.to_string()))?;
        Ok(upkeep(&dsn, DatabaseOptions::default()).row_counts().await?)
    }

    async fn fill(&self, dsn: &Dsn, path: &Path) -> Result<(), BackupError> {
        let limit = self.order.limit;
        let file = |path: &Path| File::open(path).map_err(failed("read", path));
        let call = match dsn.dialect() {
            Dialect::Postgres => {
                let tool = find(Program::PgRestore, release(self.server)).await?;
                Call::new(&tool, &login(dsn)?, limit)?
                    .args([
                        "--no-owner",
                        "--no-privileges",
                        "--exit-on-error",
                        "--no-password",
                    ])
                    .arg(format!("--dbname={}", self.name))
                    .arg(path)
            }
            Dialect::MySql | Dialect::Sqlite => {
                let tool = find(Program::MariaDb, release(self.server)).await?;
                Call::new(&tool, &login(dsn)?, limit)?
                    .arg(&self.name)
                    .input(Input::File(file(path)?))
            }
        };
        Ok(call.run(self.observer).await?)
    }

    /// Runs one statement through the server's own client.
    async fn client(&self, dsn: &Dsn, sql: &str) -> Result<(), BackupError> {
        let limit = self.order.limit;
        let call = match dsn.dialect() {
            Dialect::Postgres => {
                let tool = find(Program::Psql, release(self.server)).await?;
                Call::new(&tool, &login(dsn)?, limit)?
                    .args(["--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1"])
                    .arg(format!("--command={sql}"))
            }
            Dialect::MySql | Dialect::Sqlite => {
                let tool = find(Program::MariaDb, release(self.server)).await?;
                Call::new(&tool, &login(dsn)?, limit)?.arg(format!("--execute={sql}"))
            }
        };
        call.run(self.observer).await.map_err(|error| match error {
            ToolError::Failed { words, .. } if !words.is_empty() => {
                BackupError::Unreadable(words.join(" / "))
            }
            other => other.into(),
        })
    }
}
