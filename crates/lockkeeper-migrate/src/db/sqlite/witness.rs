//! A lock file beside the database that lives exactly as long as an executor's connection.
//!
//! It only answers "does that executor still live?", for whoever waits in line and for error messages. Safety
//! rests on SQLite's write lock and on the gate row. A pid would not do: two containers that share a volume may
//! both have pid 1, while a file lock is seen across them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A locked file of one executor; unlocked and removed on drop, unlocked by the kernel when the process dies.
#[derive(Debug)]
pub(super) struct Witness {
    path: PathBuf,
    /// Held for its lock.
    _file: File,
}

impl Witness {
    pub(super) fn create(database: &Path, session: Uuid) -> io::Result<Self> {
        let path = path_of(database, session);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // Failing leaves an unlocked file, which whoever asks next removes.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the executor that was registered as `session` still has its connection. Removes the file of a dead one.
pub(super) fn lives(database: &Path, session: &str) -> bool {
    // The text comes out of the database: it must not become a path before it is known to be an id.
    let Ok(session) = Uuid::parse_str(session) else {
        return false;
    };
    let path = path_of(database, session);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) => return error.kind() != io::ErrorKind::NotFound,
    };
    match file.try_lock_shared() {
        Ok(()) => {
            let _ = std::fs::remove_file(&path);
            false
        }
        // An error that is no answer counts as alive: waiting is the safe mistake.
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => true,
    }
}

fn path_of(database: &Path, session: Uuid) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(format!("-lockkeeper-{session}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_lives_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (database, session) = (folder.path().join("app.db"), Uuid::new_v4());
        let witness = Witness::create(&database, session).unwrap();
        assert!(lives(&database, &session.to_string()));
        drop(witness);
        assert!(!lives(&database, &session.to_string()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_nobody_locks_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (database, session) = (folder.path().join("app.db"), Uuid::new_v4());
        File::create(path_of(&database, session)).unwrap();
        assert!(!lives(&database, &session.to_string()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_row_cannot_make_us_look_elsewhere() {
        assert!(!lives(Path::new("/tmp/app.db"), "/../../../etc/passwd"));
    }
}
