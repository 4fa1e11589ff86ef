//! What only the embedded store has: a file.

use std::time::Duration;

use lockkeeper_coordinator::store::embedded::EmbeddedStore;
use lockkeeper_coordinator::store::{Change, Store, StoreError, Txn, Write};

use crate::fixture::committed;

fn put(key: &str) -> Txn {
    Txn {
        writes: vec![Write::Put {
            key: key.to_owned(),
            value: b"1".to_vec(),
            lease: None,
        }],
        ..Txn::default()
    }
}

#[tokio::test]
async fn a_restart_keeps_the_data_and_goes_on_counting() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made");
    let store = EmbeddedStore::open(&path).unwrap();
    let mut last = 0;
    for number in 0..20 {
        last = committed(&store.commit(put(&format!("k{number}"))).await.unwrap());
    }
    let delete = Txn {
        writes: vec![Write::Delete("k19".to_owned())],
        ..Txn::default()
    };
    let deleted = committed(&store.commit(delete).await.unwrap());
    let before = store.list("").await.unwrap();
    drop(store);

    let store = EmbeddedStore::open(&path).unwrap();
    let after = store.list("").await.unwrap();
    assert_eq!(after.entries, before.entries);
    assert!(after.revision >= deleted);
    // The deleted key's revision is not given again, although nothing that stands there carries it.
    assert!(committed(&store.commit(put("k19")).await.unwrap()) > deleted);
    assert!(matches!(
        store.watch("", last).await,
        Err(StoreError::Compacted(_))
    ));
}

#[tokio::test]
async fn leased_keys_of_a_former_process_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    let mut txn = put("kept");
    txn.writes.push(Write::Put {
        key: "leased".to_owned(),
        value: b"1".to_vec(),
        lease: Some(lease.id),
    });
    let revision = committed(&store.commit(txn).await.unwrap());
    drop(store);

    let store = EmbeddedStore::open(directory.path()).unwrap();
    let listing = store.list("").await.unwrap();
    assert_eq!(
        listing
            .entries
            .iter()
            .map(|entry| entry.key.as_str())
            .collect::<Vec<_>>(),
        ["kept"]
    );
    assert!(
        listing.revision > revision,
        "their removal has a revision of its own"
    );
    assert_eq!(store.keep_alive(lease.id).await, Err(StoreError::LeaseGone));
}

#[tokio::test]
async fn a_second_opening_is_refused_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let error = EmbeddedStore::open(directory.path())
        .expect_err("it is open")
        .to_string();
    assert!(
        error.contains("in use by another process") && error.contains("etcd"),
        "{error}"
    );
    drop(store);
    EmbeddedStore::open(directory.path()).unwrap();
}

#[tokio::test]
async fn dropping_the_store_ends_its_watches_with_an_error() {
    use futures::StreamExt;
    let store = EmbeddedStore::in_memory().unwrap();
    let mut watch = store.watch("", 1).await.unwrap();
    let revision = committed(&store.commit(put("a")).await.unwrap());
    drop(store);
    let seen: Result<Vec<Change>, StoreError> = watch.next().await.unwrap();
    assert_eq!(seen.unwrap()[0].revision(), revision);
    assert!(matches!(
        watch.next().await,
        Some(Err(StoreError::Unavailable(_)))
    ));
    assert!(watch.next().await.is_none());
}
