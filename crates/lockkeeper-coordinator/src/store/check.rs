//! What no store accepts, checked before anything is sent so that both stores refuse alike.

use std::collections::HashSet;

use super::{StoreError, Txn, Write};

/// Most operations of one transaction: etcd's default `--max-txn-ops`.
pub const TXN_OPERATIONS_MAX: usize = 128;

/// Most bytes of keys and values in one transaction: below etcd's default `--max-request-bytes` of 1.5 MiB, with
/// room for the encoding.
pub const TXN_BYTES_MAX: usize = 1_400_000;

pub(super) fn check(txn: &Txn) -> Result<(), StoreError> {
    let operations = txn.guards.len().max(txn.writes.len() + txn.lists.len());
    if operations > TXN_OPERATIONS_MAX {
        return Err(StoreError::Invalid(format!(
            "a transaction with {operations} operations; at most {TXN_OPERATIONS_MAX} are allowed"
        )));
    }
    let bytes: usize = txn.writes.iter().map(write_bytes).sum();
    if bytes > TXN_BYTES_MAX {
        return Err(StoreError::Invalid(format!(
            "a transaction of {bytes} bytes; at most {TXN_BYTES_MAX} are allowed"
        )));
    }
    let mut keys = HashSet::new();
    for write in &txn.writes {
        let key = write.key();
        if key.is_empty() {
            return Err(StoreError::Invalid("a write to an empty key".to_owned()));
        }
        if !keys.insert(key) {
            return Err(StoreError::Invalid(format!(
                "key {key:?} is written twice in one transaction"
            )));
        }
    }
    Ok(())
}

fn write_bytes(write: &Write) -> usize {
    match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Delete(key) => key.len(),
    }
}
