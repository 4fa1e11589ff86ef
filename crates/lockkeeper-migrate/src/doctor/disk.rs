//! Space and file system, where they can be seen: of files on this machine only.

use std::path::Path;

use crate::db::{Finding, FindingLevel};

/// A table rebuild needs a second copy of the table, and a restore one of the database.
const COPIES: u64 = 2;

/// Less than this is little for any database.
const LEAST_BYTES: u64 = 256 * 1024 * 1024;

/// `f_type` of file systems on which SQLite's locks cannot be trusted: NFS, SMB, CIFS.
const NETWORK_FILE_SYSTEMS: [u64; 3] = [0x6969, 0xFE53_4D42, 0xFF53_4D42];

/// What is known of the file system that something lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes that are left.
    pub(crate) free: u64,
    /// Whether other machines may have it mounted.
    pub(crate) network: bool,
}

/// `None` where it cannot be seen from here.
pub(crate) fn space(path: &Path) -> Option<Space> {
    let seen = rustix::fs::statfs(path).ok()?;
    let block = u64::try_from(seen.f_bsize).ok()?;
    // Some magic numbers have their highest bit set, which a signed field shows as a negative number.
    #[expect(clippy::cast_sign_loss, reason = "the bits are what is compared")]
    let kind = (seen.f_type as u64) & 0xFFFF_FFFF;
    Some(Space {
        free: seen.f_bavail.saturating_mul(block),
        network: NETWORK_FILE_SYSTEMS.contains(&kind),
    })
}

impl Space {
    /// A finding when a database of this size could not be rebuilt or restored.
    pub(crate) fn finding(self, database_size: u64, place: &Path) -> Option<Finding> {
        let wanted = database_size.saturating_mul(COPIES).max(LEAST_BYTES);
        (self.free < wanted).then(|| Finding {
            level: FindingLevel::Warning,
            code: "disk-space".to_owned(),
            message: format!(
                "{} MB are free where {} lies, and the database has {} MB: a rebuilt table or a restore may not fit",
                self.free >> 20,
                place.display(),
                database_size >> 20
            ),
            remedy: "make room before migrating".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_told() {
        let space = |free| Space { free, network: false };
        let database = 1 << 30;
        assert!(space(3 << 30).finding(database, Path::new("/d")).is_none());
        let finding = space(1 << 30).finding(database, Path::new("/d")).unwrap();
        assert!(
            finding.message.contains("1024 MB are free where /d lies"),
            "{}",
            finding.message
        );
        assert!(super::space(Path::new("/")).is_some_and(|space| !space.network));
    }
}
