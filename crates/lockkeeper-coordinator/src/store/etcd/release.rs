//! What is known of etcd's releases.

/// Last releases per minor version whose linearizable reads can be stale when a process was paused.
const STALE_READS: [(u32, u32, u32); 3] = [(3, 4, 41), (3, 5, 27), (3, 6, 8)];

/// A warning for people, when the server is a release with a known fault.
pub(super) fn warning(version: &str) -> Option<String> {
    let release = parse(version)?;
    if release < (3, 4, 0) {
        return Some(format!(
            "etcd {version} is older than 3.4, which lockkeeper does not support: upgrade it"
        ));
    }
    let (major, minor, last) = STALE_READS
        .into_iter()
        .find(|bad| (bad.0, bad.1) == (release.0, release.1))?;
    (release.2 <= last).then(|| {
        format!(
            "reads of etcd {version} can be stale after a pause of a member (fixed in {major}.{minor}.{}); safety \
             does not rest on them, upgrade all the same",
            last + 1
        )
    })
}

fn parse(version: &str) -> Option<(u32, u32, u32)> {
    let numbers = version.split(['-', '+']).next()?;
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_with_stale_reads_are_named() {
        for bad in ["3.4.23", "3.4.41", "3.5.27", "3.6.8", "3.5.0-rc.1"] {
            assert!(warning(bad).is_some_and(|text| text.contains(bad)), "{bad}");
        }
        for good in ["3.4.42", "3.5.28", "3.6.9", "3.7.0", "4.0.0"] {
            assert_eq!(warning(good), None);
        }
        assert!(warning("3.3.27").is_some_and(|text| text.contains("upgrade")));
    }
}
