//! Where a program is, and which of several fits a server.

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::error::ToolError;
use super::release::Release;

/// Directories that are looked at before any other, separated as in `PATH`.
pub(super) const DIRECTORIES_VARIABLE: &str = "LOCKKEEPER_DUMP_TOOLS";

/// A program that does not even tell its release within this time is passed over.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// A program that lockkeeper runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// Writes a PostgreSQL database.
    PgDump,
    /// Reads what `pg_dump` wrote.
    PgRestore,
    /// PostgreSQL's client.
    Psql,
    /// Writes a MariaDB or MySQL database.
    MariaDbDump,
    /// The client of MariaDB and MySQL.
    MariaDb,
}

impl Program {
    /// Under which names it is found, in order of preference.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::PgDump => &["pg_dump"],
            Self::PgRestore => &["pg_restore"],
            Self::Psql => &["psql"],
            Self::MariaDbDump => &["mariadb-dump", "mysqldump"],
            Self::MariaDb => &["mariadb", "mysql"],
        }
    }

    /// What brings it, for people.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::PgDump | Self::PgRestore | Self::Psql => "PostgreSQL's client programs",
            Self::MariaDbDump | Self::MariaDb => "MariaDB's client programs",
        }
    }

    pub(super) fn is_postgres(self) -> bool {
        match self {
            Self::PgDump | Self::PgRestore | Self::Psql => true,
            Self::MariaDbDump | Self::MariaDb => false,
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names()[0])
    }
}

/// A program that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Which one.
    pub program: Program,
    /// Where it is.
    pub path: PathBuf,
    /// Which release.
    pub release: Release,
}

impl Tool {
    /// Its name as it is called.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(
            || self.program.to_string(),
            |name| name.to_string_lossy().into_owned(),
        )
    }
}

/// Finds `program` for a server. Of PostgreSQL's, the oldest that is not older than the server: an older one
/// refuses the server, and a newer one writes settings that the server does not know. Of MariaDB's, the newest.
///
/// # Errors
/// When there is none, or none that is new enough.
pub async fn find(program: Program, server: Release) -> Result<Tool, ToolError> {
    choose(program, all(program).await, server)
}

fn choose(program: Program, found: Vec<Tool>, server: Release) -> Result<Tool, ToolError> {
    let newest = found.iter().max_by_key(|tool| tool.release);
    let Some(newest) = newest.cloned() else {
        return Err(ToolError::Missing { program });
    };
    if !program.is_postgres() {
        return Ok(newest);
    }
    let fitting = found
        .into_iter()
        .filter(|tool| tool.release.major >= server.major);
    fitting
        .min_by_key(|tool| (tool.release.major, std::cmp::Reverse(tool.release.minor)))
        .ok_or(ToolError::TooOld {
            program,
            newest: newest.release,
            path: newest.path,
            server,
        })
}

/// Every one on this machine that answers. Where a directory is named for it, only those in it.
async fn all(program: Program) -> Vec<Tool> {
    let named = env::var_os(DIRECTORIES_VARIABLE).filter(|value| !value.is_empty());
    let folders = match named {
        Some(value) => env::split_paths(&value).collect(),
        None => usual_folders(program),
    };
    let mut tools = Vec::new();
    for path in candidates(program, &folders) {
        if let Some(release) = release_of(&path).await {
            tools.push(Tool {
                program,
                path,
                release,
            });
        }
    }
    tools
}

fn candidates(program: Program, folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let paths = folders
        .iter()
        .flat_map(|folder| program.names().iter().map(move |name| folder.join(name)));
    paths
        .filter(|path| {
            path.canonicalize()
                .is_ok_and(|real| real.is_file() && seen.insert(real))
        })
        .collect()
}

fn usual_folders(program: Program) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if program.is_postgres() {
        folders.extend(children(Path::new("/usr/lib/postgresql")).map(|folder| folder.join("bin")));
        folders.extend(
            children(Path::new("/usr"))
                .filter(|folder| is_pgsql(folder))
                .map(|folder| folder.join("bin")),
        );
    }
    if let Some(path) = env::var_os("PATH") {
        folders.extend(env::split_paths(&path));
    }
    folders
}

fn children(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

/// `/usr/pgsql-15`, as the packages for Red Hat's family have it.
fn is_pgsql(folder: &Path) -> bool {
    folder
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("pgsql-"))
}

async fn release_of(path: &Path) -> Option<Release> {
    let asking = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(VERSION_LIMIT, asking).await.ok()?.ok()?;
    Release::of_program(&String::from_utf8_lossy(&output.stdout))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fake(folder: &Path, name: &str, version: &str) {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{version}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn the_oldest_that_knows_the_server_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let mut folders = Vec::new();
        for major in [13, 17, 16] {
            let folder = root.path().join(major.to_string());
            std::fs::create_dir(&folder).unwrap();
            fake(&folder, "pg_dump", &format!("pg_dump (PostgreSQL) {major}.1"));
            folders.push(folder);
        }
        let mut tools = Vec::new();
        for path in candidates(Program::PgDump, &folders) {
            let release = release_of(&path).await.unwrap();
            tools.push(Tool {
                program: Program::PgDump,
                path,
                release,
            });
        }
        let chosen = |major| choose(Program::PgDump, tools.clone(), Release { major, minor: 9 });
        assert_eq!(chosen(15).unwrap().release.major, 16);
        assert_eq!(chosen(17).unwrap().release.major, 17);
        let refused = chosen(18).unwrap_err().to_string();
        assert!(
            refused.starts_with("use pg_dump 17.1 (") && refused.contains("it must be 18.9 or newer"),
            "{refused}"
        );
        let none = choose(Program::PgDump, Vec::new(), Release { major: 15, minor: 0 });
        assert!(none.unwrap_err().to_string().contains("LOCKKEEPER_DUMP_TOOLS"));
    }
}
