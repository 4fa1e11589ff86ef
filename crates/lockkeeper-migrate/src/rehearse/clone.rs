//! A scratch database filled from the target.

use std::path::Path;
use std::time::Duration;

use tokio::io::BufReader;

use super::error::RehearseError;
use super::filter;
use super::order::{Content, Order};
use crate::db::scratch::Look;
use crate::db::{Inspection, Observer};
use crate::dialect::Dialect;
use crate::dsn::Dsn;
use crate::dump_tools::{self, Call, Input, Login, Output, Program, Release, Tool};

/// Fills the empty database `to` from the target.
pub(super) async fn fill(
    order: &Order<'_>,
    seen: &Inspection,
    look: &Look,
    to: &Dsn,
    observer: &dyn Observer,
) -> Result<(), RehearseError> {
    match order.dsn.dialect() {
        Dialect::Postgres => PgCopy::new(order, seen, to, observer).await?.run().await,
        Dialect::MySql => MySqlCopy::new(order, seen, look, to, observer).await?.run().await,
        Dialect::Sqlite => {
            let path = |dsn: &Dsn| dsn.path().unwrap_or(Path::new("")).to_owned();
            sqlite(order, &path(order.dsn), &path(to)).await
        }
    }
}

fn release(seen: &Inspection) -> Result<Release, RehearseError> {
    Release::parse(&seen.server).ok_or_else(|| RehearseError::UnknownRelease {
        server: seen.server.clone(),
    })
}

fn login(dsn: &Dsn) -> Result<Login, RehearseError> {
    Login::new(dsn).map_err(|error| RehearseError::Io {
        what: "write the login of the dump program",
        error,
    })
}

struct PgCopy<'a> {
    dump: Tool,
    restore: Tool,
    from: Login,
    to: Login,
    database: &'a str,
    content: Content,
    other_ledgers: &'a [String],
    limit: Duration,
    observer: &'a dyn Observer,
}

impl<'a> PgCopy<'a> {
    async fn new(
        order: &'a Order<'_>,
        seen: &'a Inspection,
        to: &'a Dsn,
        observer: &'a dyn Observer,
    ) -> Result<Self, RehearseError> {
        let release = release(seen)?;
        Ok(Self {
            dump: dump_tools::find(Program::PgDump, release).await?,
            restore: dump_tools::find(Program::PgRestore, release).await?,
            from: login(order.dsn)?,
            to: login(to)?,
            database: to.database().unwrap_or_default(),
            content: order.content,
            other_ledgers: &seen.other_ledgers,
            limit: order.clone_limit,
            observer,
        })
    }

    async fn run(&self) -> Result<(), RehearseError> {
        let everything = ["--exclude-table=*.lockkeeper_*"];
        match self.content {
            Content::Rows => self.pass(&everything).await,
            Content::Schema => {
                self.pass(&[everything[0], "--schema-only"]).await?;
                let tables: Vec<String> = self
                    .other_ledgers
                    .iter()
                    .map(|table| format!("--table=\"{table}\""))
                    .collect();
                if tables.is_empty() {
                    return Ok(());
                }
                let arguments = std::iter::once("--data-only").chain(tables.iter().map(String::as_str));
                self.pass(&arguments.collect::<Vec<_>>()).await
            }
        }
    }

    /// A dump through a file: pg_restore reads a pipe as well, but then cannot say which of the two failed first.
    async fn pass(&self, arguments: &[&str]) -> Result<(), RehearseError> {
        let failed = |error| RehearseError::Io {
            what: "make a file for the dump",
            error,
        };
        let file = tempfile::NamedTempFile::new().map_err(failed)?;
        Call::new(&self.dump, &self.from, self.limit)?
            .args([
                "--format=custom",
                "--no-owner",
                "--no-privileges",
                "--no-subscriptions",
            ])
            .args(["--no-password", "--lock-wait-timeout=10s"])
            .args(arguments)
            .output(Output::File(file.reopen().map_err(failed)?))
            .run(self.observer)
            .await?;
        Call::new(&self.restore, &self.to, self.limit)?
            .args([
                "--no-owner",
                "--no-privileges",
                "--no-password",
                "--exit-on-error",
            ])
            .arg(format!("--dbname={}", self.database))
            .arg(file.path())
            .run(self.observer)
            .await?;
        Ok(())
    }
}

struct MySqlCopy<'a> {
    dump: Tool,
    client: Tool,
    from: Login,
    to: Login,
    source: &'a str,
    database: &'a str,
    content: Content,
    other_ledgers: &'a [String],
    own_tables: &'a [String],
    limit: Duration,
    observer: &'a dyn Observer,
}

impl<'a> MySqlCopy<'a> {
    async fn new(
        order: &'a Order<'_>,
        seen: &'a Inspection,
        look: &'a Look,
        to: &'a Dsn,
        observer: &'a dyn Observer,
    ) -> Result<Self, RehearseError> {
        let release = release(seen)?;
        Ok(Self {
            dump: dump_tools::find(Program::MariaDbDump, release).await?,
            client: dump_tools::find(Program::MariaDb, release).await?,
            from: login(order.dsn)?,
            to: login(to)?,
            source: order.dsn.database().unwrap_or_default(),
            database: to.database().unwrap_or_default(),
            content: order.content,
            other_ledgers: &seen.other_ledgers,
            own_tables: &look.own_tables,
            limit: order.clone_limit,
            observer,
        })
    }

    async fn run(&self) -> Result<(), RehearseError> {
        let mut arguments: Vec<String> = ["--routines", "--triggers", "--events"]
            .map(str::to_owned)
            .to_vec();
        let own = self.own_tables.iter();
        arguments.extend(own.map(|table| format!("--ignore-table={}.{table}", self.source)));
        match self.content {
            Content::Rows => self.pass(&arguments, &[]).await,
            Content::Schema => {
                arguments.push("--no-data".to_owned());
                self.pass(&arguments, &[]).await?;
                if self.other_ledgers.is_empty() {
                    return Ok(());
                }
                let rows = ["--no-create-info", "--skip-triggers"].map(str::to_owned);
                self.pass(&rows, self.other_ledgers).await
            }
        }
    }

    async fn pass(&self, arguments: &[String], tables: &[String]) -> Result<(), RehearseError> {
        let mut dump = Call::new(&self.dump, &self.from, self.limit)?
            .args([
                "--single-transaction",
                "--quick",
                "--skip-lock-tables",
                "--no-tablespaces",
            ])
            .args(["--skip-add-locks", "--skip-comments"])
            .args(arguments)
            .arg(self.source)
            .args(tables)
            .output(Output::Piped)
            .start()?;
        let mut client = Call::new(&self.client, &self.to, self.limit)?
            .arg(self.database)
            .input(Input::Piped)
            .start()?;
        let (output, input) = (dump.output(), client.input());
        let passing = async move {
            match (output, input) {
                (Some(output), Some(mut input)) => filter::pass_on(BufReader::new(output), &mut input).await,
                _ => Ok(()),
            }
        };
        let (dumped, loaded, passed) =
            futures::join!(dump.end(self.observer), client.end(self.observer), passing);
        // Whoever reads has the better reason when both fail: the other one lost its pipe.
        loaded?;
        dumped?;
        passed.map_err(|error| RehearseError::Io {
            what: "pass the dump on",
            error,
        })
    }
}

async fn sqlite(order: &Order<'_>, from: &Path, to: &Path) -> Result<(), RehearseError> {
    match order.content {
        Content::Schema => Ok(crate::db::sqlite::copy_schema(from, to).await?),
        Content::Rows => Ok(dump_tools::copy_database(from, to, order.clone_limit, |_| {}).await?),
    }
}
