//! Guards: what a commit in the store depends on.

use crate::mutation::{Mutation, mutated};

/// A commit number of the store, from 1. 0 stands for "the key does not exist" in guards.
pub type Revision = u64;

/// A condition of a transaction, about one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guard<K> {
    /// The key was changed last at this revision; 0: it does not exist.
    ModRevision(K, Revision),
    /// The key was made at this revision; 0: it does not exist.
    CreateRevision(K, Revision),
}

/// When a key was made and changed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revisions {
    /// Of the commit that made it.
    pub created: Revision,
    /// Of the commit that changed it last.
    pub modified: Revision,
}

impl<K> Guard<K> {
    /// The key that it looks at.
    pub fn key(&self) -> &K {
        match self {
            Self::ModRevision(key, _) | Self::CreateRevision(key, _) => key,
        }
    }

    /// Whether it holds for a key that stands so; `None`: there is no such key.
    #[must_use]
    pub fn holds(&self, key: Option<Revisions>) -> bool {
        match self {
            Self::ModRevision(_, wanted) => key.map_or(0, |r| r.modified) == *wanted,
            Self::CreateRevision(_, wanted) => key.map_or(0, |r| r.created) == *wanted,
        }
    }
}

/// The guards of a leader's decision: that the leader key is its own, *and* that each record which the decision changes
/// is still as it was read. With the first alone, a commit whose answer was lost could be applied later, over a newer
/// decision of the same leader.
pub fn decision_guards<K>(
    leader: K,
    epoch_revision: Revision,
    changes: impl IntoIterator<Item = (K, Revision)>,
) -> Vec<Guard<K>> {
    let mut guards = vec![Guard::CreateRevision(leader, epoch_revision)];
    if mutated(Mutation::LeaderKeyGuardOnly) {
        return guards;
    }
    guards.extend(
        changes
            .into_iter()
            .map(|(key, read)| Guard::ModRevision(key, read)),
    );
    guards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_guarded_by_the_leader_key_and_every_record() {
        let guards = decision_guards("leader", 42, [("gate", 50), ("progress", 0)]);
        let expected = [
            Guard::CreateRevision("leader", 42),
            Guard::ModRevision("gate", 50),
            Guard::ModRevision("progress", 0),
        ];
        assert_eq!(guards, expected);
        let at = |created, modified| Some(Revisions { created, modified });
        assert!(guards[0].holds(at(42, 60)) && !guards[0].holds(at(43, 60)));
        assert!(guards[1].holds(at(3, 50)) && !guards[1].holds(at(3, 51)) && !guards[1].holds(None));
        assert!(guards[2].holds(None) && !guards[2].holds(at(3, 3)));
    }
}
