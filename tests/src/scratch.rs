//! Directories of servers, and the users that the servers run as.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

const PREFIX: &str = "lockkeeper-test-";

/// Younger leftovers are not swept: their owner may live in another PID namespace that shares `/tmp`.
const SWEEP_AFTER: Duration = Duration::from_secs(3600);

/// A directory that is removed on drop. A test process that was killed leaves its own, which a later one sweeps.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn create(name: &str) -> Result<Scratch> {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let folder = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-{name}-", std::process::id()))
            .tempdir()
            .context("create a temporary directory")?;
        // The server's user must be able to walk through it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .context("open the temporary directory to the server's user")?;
        Ok(Scratch { folder })
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next())
        else {
            continue;
        };
        let old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > SWEEP_AFTER));
        if old && pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            // Somebody else's sweep may be faster; what remains is tried again next time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The user that a server runs as, when the tests run as root and the server refuses to.
#[derive(Debug, Clone)]
pub(crate) struct ServerUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl ServerUser {
    /// `None` when the tests do not run as root: the server then runs as whoever runs the tests.
    pub(crate) fn when_root(name: &str) -> Result<Option<ServerUser>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let mut fields = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&name))
            .ok_or_else(|| anyhow!("no user {name} to run the server as: run `make setup`"))?
            .into_iter()
            .skip(2);
        let mut number = || fields.next().and_then(|field| field.parse().ok());
        match (number(), number()) {
            (Some(uid), Some(gid)) => Ok(Some(ServerUser { uid, gid })),
            _ => Err(anyhow!("/etc/passwd has no numbers for user {name}")),
        }
    }
}

/// Creates a directory that belongs to the server's user.
pub(crate) fn create_owned(path: &Path, user: Option<&ServerUser>) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("set the mode of {}", path.display()))?;
    if let Some(user) = user {
        chown(path, Some(user.uid), Some(user.gid)).with_context(|| format!("chown {}", path.display()))?;
    }
    Ok(())
}
