//! The smallest fleet, for tests that are about something else: one coordinator on the embedded store; and one
//! way to speak to the three dialects.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lockkeeper_tests::cli::CliOutput;
use lockkeeper_tests::mariadb::MariaDb;
use lockkeeper_tests::postgres::Postgres;
use lockkeeper_tests::tools;
use serde_json::Value;

use crate::fleet::{Fleet, TargetDeclaration};

/// Longer than any rollout of these tests takes.
pub(crate) const ROLLOUT_LIMIT: Duration = Duration::from_secs(60);

/// The region of everything in a small fleet.
pub(crate) const REGION: &str = "eu";

/// One coordinator on the embedded store, ready and leading.
#[derive(Debug)]
pub(crate) struct SmallFleet {
    // Before the directory of its store.
    fleet: Fleet,
    folder: tempfile::TempDir,
}

impl Deref for SmallFleet {
    type Target = Fleet;

    fn deref(&self) -> &Fleet {
        &self.fleet
    }
}

impl DerefMut for SmallFleet {
    fn deref_mut(&mut self) -> &mut Fleet {
        &mut self.fleet
    }
}

impl SmallFleet {
    pub(crate) fn start() -> Result<SmallFleet> {
        let folder = tempfile::tempdir().context("create the store's folder")?;
        let store = format!("embedded:{}", folder.path().join("store").display());
        let fleet = Fleet::start(&store, &[REGION])?;
        Ok(SmallFleet { fleet, folder })
    }

    /// `127.0.0.1:<port>` of the coordinator.
    pub(crate) fn address(&self) -> String {
        self.addresses().concat()
    }

    /// Writes migrations of layout golang-migrate into a folder called `name`.
    pub(crate) fn migrations(&self, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        write_files(&folder, files)?;
        Ok(folder)
    }

    /// Declares a target of a service of its own, `<service>/eu`.
    pub(crate) fn declare_one(&self, service: &str, dsn: &str, migrations: &Path) -> Result<()> {
        self.declare(&[TargetDeclaration::new(service, REGION, dsn, migrations)])
    }

    /// `rollout create --wait` of a service, to its end. The rollout's id is `id`.
    pub(crate) fn roll_out(&self, id: &str, service: &str, to: &str, more: &Value) -> Result<CliOutput> {
        let file = self.rollout_file(service, to, &[REGION], more)?;
        let create = self.cli()?.limit(ROLLOUT_LIMIT);
        create
            .args(["rollout", "create", "--wait", "--id", id, "-f"])
            .arg(file)
            .run()
    }
}

/// Writes files into a folder, which is made.
pub(crate) fn write_files(folder: &Path, files: &[(&str, &str)]) -> Result<()> {
    for (name, text) in files {
        let file = folder.join(name);
        let parent = file.parent().unwrap_or(folder);
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// A place for databases, spoken to with the dialect's own client.
#[derive(Debug)]
pub(crate) enum Databases {
    Postgres(Postgres),
    MariaDb(MariaDb),
    Sqlite(tempfile::TempDir),
}

impl Databases {
    pub(crate) fn postgres() -> Result<Databases> {
        Ok(Databases::Postgres(Postgres::start()?))
    }

    pub(crate) fn mariadb() -> Result<Databases> {
        Ok(Databases::MariaDb(MariaDb::start()?))
    }

    pub(crate) fn sqlite() -> Result<Databases> {
        Ok(Databases::Sqlite(
            tempfile::tempdir().context("create a folder for databases")?,
        ))
    }

    /// Creates a database and gives its DSN.
    pub(crate) fn create(&self, name: &str) -> Result<String> {
        match self {
            Databases::Postgres(server) => server.create_database(name),
            Databases::MariaDb(server) => server.create_database(name),
            Databases::Sqlite(folder) => {
                let file = folder.path().join(name);
                sqlite(&file, "PRAGMA journal_mode = WAL")?;
                Ok(format!("sqlite://{}", file.display()))
            }
        }
    }

    /// Runs SQL as somebody who knows nothing of lockkeeper.
    pub(crate) fn sql(&self, name: &str, sql: &str) -> Result<String> {
        match self {
            Databases::Postgres(server) => server.sql(name, sql),
            Databases::MariaDb(server) => server.sql(name, sql),
            Databases::Sqlite(folder) => sqlite(&folder.path().join(name), sql),
        }
    }

    /// Whether a table can be read.
    pub(crate) fn has(&self, name: &str, table: &str) -> bool {
        self.sql(name, &format!("SELECT 1 FROM {table} WHERE 1 = 0"))
            .is_ok()
    }
}

fn sqlite(file: &Path, sql: &str) -> Result<String> {
    let output = Command::new(tools::find("sqlite3")?)
        .args(["-batch", "-bail", "-cmd", ".timeout 300"])
        .arg(file)
        // What begins with a comment would be taken for an option.
        .arg(format!("\n{sql}"))
        .output()
        .context("run sqlite3")?;
    if !output.status.success() {
        bail!(
            "sqlite3: {}: {sql}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
