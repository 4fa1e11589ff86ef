//! Which processes hold SQLite's locks on a file, as far as the kernel tells.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::db::Blocker;

/// The byte that a writer locks in the database file when there is no write-ahead log (SQLite's RESERVED_BYTE).
const RESERVED_BYTE: u64 = 0x4000_0001;
/// The byte that a writer locks in the `-shm` file when there is one (SQLite's WAL_WRITE_LOCK).
const WAL_WRITE_BYTE: u64 = 120;

/// The processes that hold the write lock of `database`; empty where `/proc/locks` is not to be had. It shows
/// locks of this pid namespace only.
pub(super) fn of(database: &Path) -> Vec<Blocker> {
    let Ok(locks) = fs::read_to_string("/proc/locks") else {
        return Vec::new();
    };
    let mut shm = database.as_os_str().to_owned();
    shm.push("-shm");
    let mut found = Vec::new();
    for (file, byte) in [
        (database.to_path_buf(), RESERVED_BYTE),
        (PathBuf::from(shm), WAL_WRITE_BYTE),
    ] {
        if let Ok(metadata) = fs::metadata(file) {
            found.extend(writers(&locks, metadata.ino(), byte));
        }
    }
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(blocker).collect()
}

/// Reads lines like `1: POSIX  ADVISORY  WRITE 4711 08:01:131081 1073741825 1073741825`.
fn writers(locks: &str, inode: u64, byte: u64) -> Vec<u32> {
    let pid = |line: &str| -> Option<u32> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // A lock that is waited for has `->` as its second field: it holds nothing.
        let [_, "POSIX" | "OFDLCK", _, "WRITE", pid, file, start, end] = fields[..] else {
            return None;
        };
        let (_, of_inode) = file.rsplit_once(':')?;
        let end = if end == "EOF" { u64::MAX } else { end.parse().ok()? };
        let covers = start.parse::<u64>().ok()? <= byte && byte <= end;
        (of_inode.parse() == Ok(inode) && covers).then(|| pid.parse().ok())?
    };
    locks.lines().filter_map(pid).collect()
}

fn blocker(pid: u32) -> Blocker {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"))
        .ok()
        .map(|name| name.trim().to_owned());
    Blocker {
        kind: "process".to_owned(),
        id: pid.to_string(),
        user: None,
        application: name,
        query: None,
        age_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  WRITE 4711 08:01:131081 1073741825 1073741825
2: POSIX  ADVISORY  READ  4712 08:01:131081 1073741826 1073742335
3: FLOCK  ADVISORY  WRITE 4713 08:01:131081 0 EOF
3: -> POSIX  ADVISORY  WRITE 4714 08:01:131081 1073741825 1073741825
4: POSIX  ADVISORY  WRITE 4715 08:01:99 120 120
";

    #[test]
    fn only_the_holder_of_the_write_lock_is_named() {
        assert_eq!(writers(LOCKS, 131_081, RESERVED_BYTE), [4711]);
        assert_eq!(writers(LOCKS, 99, WAL_WRITE_BYTE), [4715]);
        assert_eq!(writers(LOCKS, 99, RESERVED_BYTE), Vec::<u32>::new());
    }
}
