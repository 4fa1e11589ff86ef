//! From the port's words to etcd's and back.

use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, KeyValue, PutOptions, Txn as EtcdTxn, TxnOp, TxnOpResponse,
    TxnResponse,
};
use lockkeeper_core::id::FleetName;

use super::failure::Failure;
use crate::store::{Entry, Guard, Listing, Outcome, Revision, Txn, Write};

/// The fleet's part of the key space, `/lockkeeper/<fleet>/`.
#[derive(Debug, Clone)]
pub(super) struct Keys(String);

impl Keys {
    pub(super) fn of(fleet: &FleetName) -> Self {
        Self(format!("/lockkeeper/{fleet}/"))
    }

    pub(super) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.0)
    }

    /// The port's key. Only keys below the prefix are ever asked for; anything else would be etcd's mistake.
    pub(super) fn short(&self, key: &[u8]) -> Result<String, Failure> {
        let text = std::str::from_utf8(key)
            .ok()
            .and_then(|key| key.strip_prefix(&self.0));
        text.map(str::to_owned).ok_or_else(|| {
            Failure::Lost(format!(
                "a key {:?} that is not below {}",
                String::from_utf8_lossy(key),
                self.0
            ))
        })
    }

    pub(super) fn entry(&self, row: &KeyValue) -> Result<Entry, Failure> {
        Ok(Entry {
            key: self.short(row.key())?,
            value: row.value().to_vec(),
            create_revision: revision(row.create_revision())?,
            mod_revision: revision(row.mod_revision())?,
        })
    }

    pub(super) fn entries(&self, answer: &GetResponse) -> Result<Vec<Entry>, Failure> {
        answer.kvs().iter().map(|row| self.entry(row)).collect()
    }

    pub(super) fn listing(&self, answer: &GetResponse) -> Result<Listing, Failure> {
        let at = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        Ok(Listing {
            entries: self.entries(answer)?,
            revision: revision(at)?,
        })
    }

    pub(super) fn txn(&self, txn: &Txn) -> EtcdTxn {
        let guards: Vec<Compare> = txn.guards.iter().map(|guard| self.compare(guard)).collect();
        let mut then: Vec<TxnOp> = txn.writes.iter().map(|write| self.write(write)).collect();
        let prefix = || Some(GetOptions::new().with_prefix());
        then.extend(txn.lists.iter().map(|list| TxnOp::get(self.full(list), prefix())));
        let otherwise: Vec<TxnOp> = txn
            .guards
            .iter()
            .map(|guard| TxnOp::get(self.full(guard.key()), None))
            .collect();
        EtcdTxn::new().when(guards).and_then(then).or_else(otherwise)
    }

    fn compare(&self, guard: &Guard) -> Compare {
        match guard {
            Guard::ModRevision(key, at) => {
                Compare::mod_revision(self.full(key), CompareOp::Equal, at.cast_signed())
            }
            Guard::CreateRevision(key, at) => {
                Compare::create_revision(self.full(key), CompareOp::Equal, at.cast_signed())
            }
        }
    }

    fn write(&self, write: &Write) -> TxnOp {
        match write {
            Write::Put { key, value, lease } => {
                let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
                TxnOp::put(self.full(key), value.clone(), options)
            }
            Write::Delete(key) => TxnOp::delete(self.full(key), None),
        }
    }

    pub(super) fn outcome(&self, txn: &Txn, answer: &TxnResponse) -> Result<Outcome, Failure> {
        let at = revision(answer.header().map_or(0, etcd_client::ResponseHeader::revision))?;
        let mut gets = Vec::new();
        for part in answer.op_responses() {
            if let TxnOpResponse::Get(get) = part {
                gets.push(self.entries(&get)?);
            }
        }
        let expected = if answer.succeeded() {
            txn.lists.len()
        } else {
            txn.guards.len()
        };
        if gets.len() != expected {
            return Err(Failure::Lost(format!(
                "{} parts in an answer instead of {expected}",
                gets.len()
            )));
        }
        Ok(if answer.succeeded() {
            let lists = gets
                .into_iter()
                .map(|entries| Listing {
                    entries,
                    revision: at,
                })
                .collect();
            Outcome::Committed { revision: at, lists }
        } else {
            let current = gets.into_iter().map(|mut entries| entries.pop()).collect();
            Outcome::Conflict { current }
        })
    }
}

/// etcd counts with a signed number, from 1.
pub(super) fn revision(number: i64) -> Result<Revision, Failure> {
    match Revision::try_from(number) {
        Ok(revision) if revision > 0 => Ok(revision),
        _ => Err(Failure::Lost(format!("an answer with revision {number}"))),
    }
}
