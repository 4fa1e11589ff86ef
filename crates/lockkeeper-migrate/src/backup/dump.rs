//! One dialect's dump: which program, with which arguments.

use std::time::Duration;

use super::error::BackupError;
use crate::dialect::Dialect;
use crate::dsn::Dsn;
use crate::dump_tools::{Call, Login, Program, Release, Tool, ToolError, find};

/// A gate row is about this server and this moment: it must not come back with a backup. Nor must the records.
pub(super) const LEFT_OUT: [&str; 2] = ["lockkeeper_gate", "lockkeeper_backup"];

/// A dump program that is ready to be called.
#[derive(Debug)]
pub(super) struct Dumper<'a> {
    dsn: &'a Dsn,
    pub(super) tool: Tool,
    login: Login,
    limit: Duration,
    lock_timeout: Duration,
}

impl<'a> Dumper<'a> {
    /// `None` for SQLite, which needs no program.
    pub(super) async fn find(
        dsn: &'a Dsn,
        server: &str,
        limit: Duration,
        lock_timeout: Duration,
    ) -> Result<Option<Self>, BackupError> {
        let program = match dsn.dialect() {
            Dialect::Postgres => Program::PgDump,
            Dialect::MySql => Program::MariaDbDump,
            Dialect::Sqlite => return Ok(None),
        };
        let tool = find(program, release(server)).await?;
        Ok(Some(Self {
            dsn,
            tool,
            login: login(dsn)?,
            limit,
            lock_timeout,
        }))
    }

    /// Writes the dump to standard output.
    pub(super) fn call(&self, snapshot: Option<&str>) -> Result<Call, ToolError> {
        let call = Call::new(&self.tool, &self.login, self.limit)?;
        if self.dsn.dialect() == Dialect::Postgres {
            let wait = format!("--lock-wait-timeout={}", self.lock_timeout.as_millis());
            let snapshot = snapshot.map(|name| format!("--snapshot={name}"));
            return Ok(call
                .args(["--format=custom", "--no-password"])
                .arg(wait)
                .args(snapshot));
        }
        let database = self.dsn.database().unwrap_or_default();
        let left_out = LEFT_OUT.map(|table| format!("--ignore-table={database}.{table}"));
        Ok(call
            .args([
                // One transaction for all tables, so that writers go on.
                "--single-transaction",
                "--skip-lock-tables",
                "--quick",
                "--routines",
                "--triggers",
                "--events",
                "--hex-blob",
                "--no-tablespaces",
            ])
            .args(left_out)
            .arg(database))
    }

    pub(super) fn tool_name(&self) -> String {
        format!("{} {}", self.tool.name(), self.tool.release)
    }
}

pub(super) fn login(dsn: &Dsn) -> Result<Login, BackupError> {
    Login::new(dsn).map_err(super::file::failed(
        "write an options file in",
        &std::env::temp_dir(),
    ))
}

/// A server that does not tell its release is taken for an old one: any program will do.
pub(super) fn release(server: &str) -> Release {
    Release::parse(server).unwrap_or(Release { major: 0, minor: 0 })
}
