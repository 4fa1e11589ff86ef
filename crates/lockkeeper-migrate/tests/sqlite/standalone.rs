//! Without a fleet: whoever comes takes its turn.

use lockkeeper_migrate::db::sqlite::SqliteDatabase;
use lockkeeper_migrate::db::{Applied, Database, DatabaseOptions, DbError, Silent};

use super::support::{Target, count, run, standalone};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_runners_apply_each_migration_once() {
    for mode in ["wal", "delete"] {
        let target = std::sync::Arc::new(Target::new(mode).await);
        let runners = (0..10).map(|_| {
            let target = std::sync::Arc::clone(&target);
            tokio::spawn(async move {
                let mut hand = target.alone().await.unwrap();
                let mut ran = 0;
                for (version, sql) in [
                    (1, "CREATE TABLE u (b)"),
                    (2, "INSERT INTO u VALUES (1)"),
                    (3, "VACUUM"),
                ] {
                    if let Applied::Ran { .. } = target.up(&mut *hand, version, sql).await.unwrap() {
                        ran += 1;
                    }
                }
                hand.release().await.unwrap();
                ran
            })
        });
        let mut ran = 0;
        for runner in runners.collect::<Vec<_>>() {
            ran += runner.await.unwrap();
        }
        assert_eq!(ran, 3, "{mode}");
        assert_eq!(count(&mut target.app().await, "u").await, 1, "{mode}");
    }
}

#[tokio::test]
async fn a_missing_file_is_made_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.db");
    let strict = SqliteDatabase::new(&path, DatabaseOptions::default());
    for error in [
        strict.inspect().await.unwrap_err().to_string(),
        strict
            .take(&standalone(), std::time::Duration::from_secs(5), &Silent)
            .await
            .unwrap_err()
            .to_string(),
    ] {
        assert_eq!(
            error,
            format!("connect to sqlite://{}: there is no such file", path.display())
        );
    }
    let options = DatabaseOptions {
        create_if_missing: true,
        ..DatabaseOptions::default()
    };
    let making = SqliteDatabase::new(&path, options.clone());
    assert_eq!(making.inspect().await.unwrap().gate_row, None);
    assert!(!path.exists(), "looking must not make the file");
    making
        .take(&standalone(), std::time::Duration::from_secs(5), &Silent)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    assert!(path.exists());

    let nowhere = SqliteDatabase::new(folder.path().join("no/such/x.db"), options);
    let error = nowhere.inspect().await.unwrap_err();
    assert!(error.to_string().contains("there is no directory"), "{error}");
}

#[tokio::test]
async fn looking_changes_nothing() {
    let target = Target::new("delete").await;
    let before = std::fs::read(target.path()).unwrap();
    target.database.inspect().await.unwrap();
    target.database.preflight().await.unwrap();
    assert_eq!(std::fs::read(target.path()).unwrap(), before);
    assert_eq!(std::fs::read_dir(target.folder()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_table_of_another_shape_is_refused() {
    let target = Target::new("wal").await;
    run(&mut target.app().await, "CREATE TABLE lockkeeper_gate (x)")
        .await
        .unwrap();
    let error = target.alone().await.unwrap_err();
    assert!(
        matches!(
            error,
            lockkeeper_migrate::db::TakeError::Db(DbError::ForeignTable { .. })
        ),
        "{error}"
    );
    run(&mut target.app().await, "DROP TABLE lockkeeper_gate")
        .await
        .unwrap();
    target.alone().await.unwrap();
}

/// A copy brings the row along; nothing is fenced in it, so it becomes a target of its own.
#[tokio::test]
async fn a_copied_file_is_a_target_of_its_own() {
    let target = Target::new("delete").await;
    target.alone().await.unwrap().release().await.unwrap();
    let copy = target.folder().join("copy.db");
    std::fs::copy(target.path(), &copy).unwrap();
    let database = SqliteDatabase::new(&copy, DatabaseOptions::default());
    let before = database.inspect().await.unwrap();
    assert_ne!(before.gate_row.unwrap().identity, before.identity);
    database
        .take(&standalone(), std::time::Duration::from_secs(5), &Silent)
        .await
        .unwrap();
    let after = database.inspect().await.unwrap();
    assert_eq!(after.gate_row.unwrap().identity, after.identity);
}
