//! The last changes, kept for watches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream;
use tokio::sync::watch;

use crate::store::{Change, Revision, StoreError, Watch};

/// Most changes that one item of a watch carries; whole revisions only, so one large revision may exceed it.
const ITEM_CHANGES: usize = 1024;

/// A bounded record of commits. Watches read it at their own speed; one that falls behind by more than it holds
/// is told so, and costs no memory meanwhile.
#[derive(Debug)]
pub(super) struct History {
    kept: Mutex<Kept>,
    head: watch::Sender<Revision>,
    capacity: usize,
}

#[derive(Debug)]
struct Kept {
    commits: VecDeque<(Revision, Vec<Change>)>,
    changes: usize,
    /// Every revision above it is in `commits`.
    floor: Revision,
    closed: bool,
}

impl History {
    /// Starts after `revision`, with room for `capacity` changes.
    pub(super) fn new(revision: Revision, capacity: usize) -> Self {
        let kept = Kept {
            commits: VecDeque::new(),
            changes: 0,
            floor: revision,
            closed: false,
        };
        Self {
            kept: Mutex::new(kept),
            head: watch::Sender::new(revision),
            capacity,
        }
    }

    pub(super) fn publish(&self, commits: Vec<(Revision, Vec<Change>)>) {
        let Some(&(head, _)) = commits.last() else { return };
        let mut kept = self.lock();
        for (revision, changes) in commits {
            kept.changes += changes.len();
            kept.commits.push_back((revision, changes));
        }
        while kept.changes > self.capacity {
            let Some((revision, changes)) = kept.commits.pop_front() else {
                break;
            };
            kept.changes -= changes.len();
            kept.floor = revision;
        }
        drop(kept);
        self.head.send_replace(head);
    }

    /// Ends every watch with an error.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.head.send_modify(|_| ());
    }

    pub(super) fn watch(self: &Arc<Self>, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        if from <= self.lock().floor {
            return Err(StoreError::Compacted(from));
        }
        let reader = Reader {
            history: Arc::clone(self),
            head: self.head.subscribe(),
            prefix: prefix.to_owned(),
            next: from,
            ended: false,
        };
        Ok(Box::pin(stream::unfold(reader, |mut reader| async move {
            let item = reader.item().await?;
            Some((item, reader))
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reader {
    history: Arc<History>,
    head: watch::Receiver<Revision>,
    prefix: String,
    next: Revision,
    ended: bool,
}

impl Reader {
    async fn item(&mut self) -> Option<Result<Vec<Change>, StoreError>> {
        while !self.ended {
            // Marked as seen before looking: a commit between the look and the wait then ends the wait at once.
            self.head.mark_unchanged();
            match self.collect() {
                Ok(changes) if changes.is_empty() => {}
                Ok(changes) => return Some(Ok(changes)),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
            if self.head.changed().await.is_err() {
                self.ended = true;
            }
        }
        None
    }

    fn collect(&mut self) -> Result<Vec<Change>, StoreError> {
        let kept = self.history.lock();
        if self.next <= kept.floor {
            return Err(StoreError::Compacted(self.next));
        }
        let first = kept
            .commits
            .partition_point(|(revision, _)| *revision < self.next);
        let mut found = Vec::new();
        for (revision, changes) in kept.commits.range(first..) {
            found.extend(
                changes
                    .iter()
                    .filter(|change| change.key().starts_with(&self.prefix))
                    .cloned(),
            );
            self.next = revision + 1;
            if found.len() >= ITEM_CHANGES {
                break;
            }
        }
        if found.is_empty() && kept.closed {
            return Err(StoreError::Unavailable(
                "the embedded store was closed".to_owned(),
            ));
        }
        Ok(found)
    }
}
