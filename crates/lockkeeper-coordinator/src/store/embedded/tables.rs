//! The rows on disk, and what a transaction does to them.

use std::collections::BTreeSet;

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::store::{Change, Entry, LeaseId, Listing, Outcome, Revision, StoreError, Txn, Write};

/// Key -> (create revision, mod revision, lease or 0, value).
const ENTRIES: TableDefinition<'static, &str, Row<'static>> = TableDefinition::new("entries");
/// Counters of the store itself.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";
const FORMAT: &str = "format";
/// Raised when the rows change in a way that an older program would misread.
const FORMAT_NOW: u64 = 1;

type Row<'a> = (u64, u64, i64, &'a [u8]);

/// Leases as the tables need them: which exist, and which keys hang on them.
pub(super) trait LeaseBook {
    /// Whether the lease lives.
    fn exists(&self, lease: LeaseId) -> bool;
    /// A key is now bound to `lease`, and no longer to `before`.
    fn bind(&mut self, key: &str, before: Option<LeaseId>, lease: Option<LeaseId>);
}

/// One redb transaction in which several of our transactions are applied, each at a revision of its own.
pub(super) struct Batch<'txn> {
    entries: Table<'txn, &'static str, Row<'static>>,
    meta: Table<'txn, &'static str, u64>,
    revision: Revision,
    /// What changed, per revision.
    pub(super) commits: Vec<(Revision, Vec<Change>)>,
}

impl<'txn> Batch<'txn> {
    pub(super) fn open(write: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        let entries = write.open_table(ENTRIES)?;
        let meta = write.open_table(META)?;
        let revision = meta.get(REVISION)?.map_or(0, |row| row.value());
        Ok(Self {
            entries,
            meta,
            revision,
            commits: Vec::new(),
        })
    }

    /// Writes the revision; call it once, before the commit.
    pub(super) fn finish(mut self) -> Result<Vec<(Revision, Vec<Change>)>, redb::Error> {
        self.meta.insert(REVISION, self.revision)?;
        Ok(self.commits)
    }

    /// Refuses rows of another program version, and removes the keys of leases that a former process granted:
    /// their owner is gone with it. Gives the revision afterwards.
    pub(super) fn prepare(&mut self) -> Result<Result<Revision, StoreError>, redb::Error> {
        let format = self.meta.get(FORMAT)?.map(|row| row.value());
        match format {
            None => {
                self.meta.insert(FORMAT, FORMAT_NOW)?;
            }
            Some(FORMAT_NOW) => {}
            Some(other) => {
                return Ok(Err(StoreError::Invalid(format!(
                    "the embedded store has format {other}, this program reads format {FORMAT_NOW}: \
                     start the release of lockkeeper that wrote it"
                ))));
            }
        }
        let mut leased = BTreeSet::new();
        for row in self.entries.iter()? {
            let (key, value) = row?;
            if value.value().2 != 0 {
                leased.insert(key.value().to_owned());
            }
        }
        self.remove(leased)?;
        Ok(Ok(self.revision))
    }

    /// Deletes keys in one commit.
    pub(super) fn remove(&mut self, keys: BTreeSet<String>) -> Result<(), redb::Error> {
        let revision = self.revision + 1;
        let mut changes = Vec::new();
        for key in keys {
            if self.entries.remove(key.as_str())?.is_some() {
                changes.push(Change::Delete { key, revision });
            }
        }
        self.record(changes);
        Ok(())
    }

    pub(super) fn apply(
        &mut self,
        txn: &Txn,
        leases: &mut impl LeaseBook,
    ) -> Result<Result<Outcome, StoreError>, redb::Error> {
        let mut current = Vec::with_capacity(txn.guards.len());
        for guard in &txn.guards {
            current.push(read_entry(&self.entries, guard.key())?);
        }
        if !txn
            .guards
            .iter()
            .zip(&current)
            .all(|(guard, entry)| guard.holds(entry.as_ref().map(Entry::revisions)))
        {
            return Ok(Ok(Outcome::Conflict { current }));
        }
        let gone =
            |write: &Write| matches!(write, Write::Put { lease: Some(lease), .. } if !leases.exists(*lease));
        if txn.writes.iter().any(gone) {
            return Ok(Err(StoreError::LeaseGone));
        }
        let mut changes = Vec::new();
        for write in &txn.writes {
            changes.extend(self.write(write, leases)?);
        }
        self.record(changes);
        let mut lists = Vec::with_capacity(txn.lists.len());
        for prefix in &txn.lists {
            lists.push(Listing {
                entries: read_prefix(&self.entries, prefix)?,
                revision: self.revision,
            });
        }
        Ok(Ok(Outcome::Committed {
            revision: self.revision,
            lists,
        }))
    }

    fn write(&mut self, write: &Write, leases: &mut impl LeaseBook) -> Result<Option<Change>, redb::Error> {
        let revision = self.revision + 1;
        let before = self
            .entries
            .get(write.key())?
            .map(|row| (row.value().0, lease_of(row.value().2)));
        match write {
            Write::Put { key, value, lease } => {
                let create_revision = before.map_or(revision, |(created, _)| created);
                let row = (
                    create_revision,
                    revision,
                    lease.map_or(0, |lease| lease.0),
                    value.as_slice(),
                );
                self.entries.insert(key.as_str(), row)?;
                leases.bind(key, before.and_then(|(_, lease)| lease), *lease);
                let entry = Entry {
                    key: key.clone(),
                    value: value.clone(),
                    create_revision,
                    mod_revision: revision,
                };
                Ok(Some(Change::Put(entry)))
            }
            Write::Delete(key) => {
                let Some((_, lease)) = before else { return Ok(None) };
                self.entries.remove(key.as_str())?;
                leases.bind(key, lease, None);
                Ok(Some(Change::Delete {
                    key: key.clone(),
                    revision,
                }))
            }
        }
    }

    /// A commit that changes nothing has no revision of its own.
    fn record(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.revision += 1;
            self.commits.push((self.revision, changes));
        }
    }
}

pub(super) fn get(read: &ReadTransaction, key: &str) -> Result<Option<Entry>, redb::Error> {
    read_entry(&read.open_table(ENTRIES)?, key)
}

pub(super) fn list(read: &ReadTransaction, prefix: &str) -> Result<Listing, redb::Error> {
    let entries = read_prefix(&read.open_table(ENTRIES)?, prefix)?;
    let revision = read.open_table(META)?.get(REVISION)?.map_or(0, |row| row.value());
    Ok(Listing { entries, revision })
}

fn read_entry(
    table: &impl ReadableTable<&'static str, Row<'static>>,
    key: &str,
) -> Result<Option<Entry>, redb::Error> {
    Ok(table.get(key)?.map(|row| entry(key, row.value())))
}

fn read_prefix(
    table: &impl ReadableTable<&'static str, Row<'static>>,
    prefix: &str,
) -> Result<Vec<Entry>, redb::Error> {
    let mut entries = Vec::new();
    for row in table.range(prefix..)? {
        let (key, row) = row?;
        if !key.value().starts_with(prefix) {
            break;
        }
        entries.push(entry(key.value(), row.value()));
    }
    Ok(entries)
}

fn entry(key: &str, (create_revision, mod_revision, _, value): Row<'_>) -> Entry {
    Entry {
        key: key.to_owned(),
        value: value.to_vec(),
        create_revision,
        mod_revision,
    }
}

fn lease_of(id: i64) -> Option<LeaseId> {
    (id != 0).then_some(LeaseId(id))
}
