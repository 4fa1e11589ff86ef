//! Backups, on each dialect: made while somebody writes, read back, and brought back without what must not return.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_migrate::backup::{
    self, BackupError, BackupReport, Destination, Order, RemainingState, RestoreOrder, RestoreReport, Stale,
    Trial,
};
use lockkeeper_migrate::db::{self, DatabaseOptions, RecordKind, Silent, Upkeep, Verified};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::dsn::Dsn;

use crate::fixture::{AppSession, Fixture};
use crate::support::{PATIENCE, apply, fenced, leader, standalone, take, versions};

const LIMIT: Duration = Duration::from_secs(60);

/// A target, its backups, and what is done with them.
pub(crate) struct Desk {
    dsn: Dsn,
    folder: tempfile::TempDir,
}

impl Desk {
    pub(crate) fn of(dsn: &str) -> Self {
        Self {
            dsn: Dsn::parse(dsn).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn options(&self) -> DatabaseOptions {
        DatabaseOptions::default()
    }

    fn upkeep(&self) -> Box<dyn Upkeep> {
        db::upkeep(&self.dsn, self.options())
    }

    async fn back_up(&self, destination: &Destination, trial: Trial) -> Result<BackupReport, BackupError> {
        let (database, upkeep) = (db::open(&self.dsn, self.options()), self.upkeep());
        let order = Order {
            dsn: &self.dsn,
            database: &*database,
            upkeep: &*upkeep,
            destination,
            trial,
            limit: LIMIT,
            lock_timeout: LIMIT,
            who: "conformance",
        };
        backup::back_up(&order, &Silent).await
    }

    fn directory(&self) -> Destination {
        Destination::Directory(self.folder.path().join("backups"))
    }

    /// Into the directory; gives the file.
    pub(crate) async fn file(&self) -> PathBuf {
        let report = self.back_up(&self.directory(), Trial::Read).await.unwrap();
        path_of(&report)
    }

    pub(crate) async fn restore(&self, file: &Path) -> Result<RestoreReport, backup::RestoreError> {
        let options = self.options();
        let order = RestoreOrder {
            dsn: &self.dsn,
            options: &options,
            file,
            patience: PATIENCE,
            limit: LIMIT,
            who: "conformance",
        };
        backup::restore(&order, &Silent).await
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("backups")).map_or(0, Iterator::count)
    }
}

fn path_of(report: &BackupReport) -> PathBuf {
    PathBuf::from(report.place.split_once(':').unwrap().1)
}

/// One migration: a table with three rows.
pub(crate) async fn migrated(fixture: &impl Fixture) {
    let mut hand = take(&*fixture.database(), &standalone("x")).await;
    let text = "CREATE TABLE t (a INT);\nINSERT INTO t VALUES (1), (2), (3);\n";
    apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap();
    hand.release().await.unwrap();
}

async fn number(app: &mut dyn AppSession, sql: &str) -> String {
    app.scalar(sql).await.unwrap().unwrap()
}

pub(crate) async fn a_backup_comes_back_whole(fixture: &impl Fixture) {
    migrated(fixture).await;
    let desk = Desk::of(&fixture.dsn());
    let report = desk.back_up(&desk.directory(), Trial::Read).await.unwrap();
    assert_eq!(report.version.as_ref().map(|v| v.as_str()), Some("1"));
    assert_eq!(report.verified, Verified::Readable);

    let mut hand = take(&*fixture.database(), &standalone("x")).await;
    let later = "CREATE TABLE later (a INT);\nDELETE FROM t WHERE a > 1;\n";
    apply(&mut *hand, fixture.dialect(), "2", later).await.unwrap();
    hand.release().await.unwrap();

    let restored = desk.restore(&path_of(&report)).await.unwrap();
    assert_eq!(
        (restored.from.as_deref(), restored.version.as_deref()),
        (Some("2"), Some("1"))
    );
    assert!(restored.known);
    let mut app = fixture.session().await;
    assert_eq!(number(&mut *app, "SELECT count(*) FROM t").await, "3");
    assert!(
        app.execute("SELECT a FROM later").await.is_err(),
        "what came later is gone"
    );
    app.execute("INSERT INTO t VALUES (4)").await.unwrap();

    let records = desk.upkeep().records().await.unwrap();
    let kinds: Vec<RecordKind> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [RecordKind::Restore, RecordKind::Backup], "{records:?}");
    let row = fixture.database().inspect().await.unwrap().gate_row.unwrap();
    assert!(!row.is_closed() && row.executor.is_none(), "{row:?}");
    // And the next runner goes on from there.
    let mut hand = take(&*fixture.database(), &standalone("x")).await;
    apply(&mut *hand, fixture.dialect(), "2", later).await.unwrap();
    assert_eq!(versions(&mut *hand).await, ["1", "2"]);
}

pub(crate) async fn no_epoch_and_no_executor_comes_back(fixture: &impl Fixture) {
    migrated(fixture).await;
    let desk = Desk::of(&fixture.dsn());
    let database = fixture.database();
    // In the backup: an executor of e1.1, and the gate at g1.
    let mut hand = take(&*database, &leader(1)).await;
    hand.close(GateEpoch(1), "r1").await.unwrap();
    hand.raise_barrier(PATIENCE, &Silent).await.unwrap();
    hand.open(GateEpoch(1), None).await.unwrap();
    let file = desk.file().await;
    drop(hand);
    // Meanwhile: e1.7, and the gate at g5.
    let mut hand = take(&*database, &leader(7)).await;
    hand.close(GateEpoch(5), "r5").await.unwrap();
    hand.raise_barrier(PATIENCE, &Silent).await.unwrap();
    hand.open(GateEpoch(5), None).await.unwrap();
    hand.clean_up(&Silent).await.unwrap();
    hand.release().await.unwrap();

    let restored = desk.restore(&file).await.unwrap();
    // On MariaDB and MySQL the restore has closed the gate once itself.
    assert!((5..=6).contains(&restored.gate_epoch), "{restored:?}");
    let row = database.inspect().await.unwrap().gate_row.unwrap();
    let epoch = GateEpoch(restored.gate_epoch);
    assert_eq!((row.gate_epoch, row.opened), (epoch, epoch));
    assert_eq!(row.leader_epoch.revision, 7);
    assert_eq!(row.executor, None);
    assert!(
        database.take(&leader(6), PATIENCE, &Silent).await.is_err(),
        "an old leader is refused"
    );
    take(&*database, &leader(8))
        .await
        .close(GateEpoch(7), "r7")
        .await
        .unwrap();
}

pub(crate) async fn a_closed_gate_is_not_restored_over(fixture: &impl Fixture) {
    if !fixture.closes_durably() {
        return;
    }
    migrated(fixture).await;
    let desk = Desk::of(&fixture.dsn());
    let file = desk.file().await;
    let hand = fenced(&*fixture.database()).await;
    let error = desk.restore(&file).await.unwrap_err();
    assert_eq!(error.state, RemainingState::Untouched);
    assert!(
        error.to_string().contains("the gate is closed by rollout r1"),
        "{error}"
    );
    drop(hand);
    let mut app = fixture.session().await;
    assert_eq!(number(&mut *app, "SELECT count(*) FROM t").await, "3");
}

/// A dump that somebody took of a fenced database carries barrier and closed gate.
pub(crate) async fn what_a_fence_left_in_a_dump_stays_away(fixture: &impl Fixture) {
    if !fixture.closes_durably() {
        return;
    }
    migrated(fixture).await;
    let desk = Desk::of(&fixture.dsn());
    let database = fixture.database();
    let mut hand = fenced(&*database).await;
    let file = desk.file().await;
    hand.open(GateEpoch(1), None).await.unwrap();
    hand.clean_up(&Silent).await.unwrap();
    hand.release().await.unwrap();
    desk.restore(&file).await.unwrap();
    let mut app = fixture.session().await;
    app.execute("INSERT INTO t VALUES (9)").await.unwrap();
    let left = match fixture.dialect() {
        Dialect::Postgres => "SELECT count(*)::text FROM pg_proc WHERE proname LIKE 'lockkeeper_g%'",
        Dialect::MySql | Dialect::Sqlite => {
            "SELECT CAST(count(*) AS CHAR) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()"
        }
    };
    assert_eq!(number(&mut *app, left).await, "0");
}

pub(crate) async fn a_damaged_backup_touches_nothing(fixture: &impl Fixture) {
    migrated(fixture).await;
    let desk = Desk::of(&fixture.dsn());
    let file = desk.file().await;
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let error = desk.restore(&file).await.unwrap_err();
    assert_eq!(error.state, RemainingState::Untouched, "{error}");
    let mut app = fixture.session().await;
    assert_eq!(number(&mut *app, "SELECT count(*) FROM t").await, "3");
    let row = fixture.database().inspect().await.unwrap().gate_row.unwrap();
    assert!(!row.is_closed(), "{row:?}");
}

pub(crate) async fn a_command_gets_the_whole_backup_or_no_end(fixture: &impl Fixture) {
    migrated(fixture).await;
    let desk = Desk::of(&fixture.dsn());
    let file = desk.folder.path().join("taken");
    let command = Destination::Command(format!("cat > {}", file.display()));
    let report = desk.back_up(&command, Trial::Read).await.unwrap();
    assert_eq!(report.size, std::fs::metadata(&file).unwrap().len());
    desk.restore(&file).await.unwrap();
    // A command that fails is no backup.
    let records = desk.upkeep().records().await.unwrap().len();
    let failing = Destination::Command("cat > /dev/null; echo 'bucket is full' >&2; exit 7".to_owned());
    let error = desk.back_up(&failing, Trial::Read).await.unwrap_err().to_string();
    assert!(error.contains("exit code 7: bucket is full"), "{error}");
    assert_eq!(desk.upkeep().records().await.unwrap().len(), records);
    assert!(matches!(
        desk.back_up(&failing, Trial::Restore).await,
        Err(BackupError::Usage(_))
    ));
}

pub(crate) async fn a_failed_backup_leaves_no_file(fixture: &impl Fixture) {
    migrated(fixture).await;
    let (dsn, _) = fixture.unreachable_dsn();
    let desk = Desk::of(&dsn);
    assert!(desk.back_up(&desk.directory(), Trial::Read).await.is_err());
    assert_eq!(desk.files(), 0);
}

pub(crate) async fn only_a_fresh_backup_of_this_version_counts(fixture: &impl Fixture) {
    migrated(fixture).await;
    let desk = Desk::of(&fixture.dsn());
    let upkeep = desk.upkeep();
    assert!(upkeep.holds_rows().await.unwrap());
    let judged = async |max_age| {
        let inspection = fixture.database().inspect().await.unwrap();
        backup::fresh(&*upkeep, &inspection, max_age).await.unwrap()
    };
    assert_eq!(judged(LIMIT).await, Err(Stale::None));
    let file = desk.file().await;
    assert!(judged(LIMIT).await.is_ok());
    assert!(matches!(judged(Duration::ZERO).await, Err(Stale::Old { .. })));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(judged(LIMIT).await, Err(Stale::Gone { .. })));
    desk.file().await;
    let mut hand = take(&*fixture.database(), &standalone("x")).await;
    apply(&mut *hand, fixture.dialect(), "2", "CREATE TABLE u (a INT);")
        .await
        .unwrap();
    hand.release().await.unwrap();
    assert!(matches!(judged(LIMIT).await, Err(Stale::OtherVersion { .. })));
}

/// The account that a verified backup needs may make databases; the usual one gets the grant told.
pub(crate) async fn a_verified_backup_was_restored_elsewhere(fixture: &impl Fixture) {
    migrated(fixture).await;
    let usual = Desk::of(&fixture.dsn());
    let tried = usual.back_up(&usual.directory(), Trial::Restore).await;
    match fixture.admin_dsn() {
        Some(dsn) => {
            let refused = tried.unwrap_err().to_string();
            assert!(refused.contains("make a scratch database"), "{refused}");
            assert_eq!(usual.files(), 0);
            let desk = Desk::of(&dsn);
            let report = desk.back_up(&desk.directory(), Trial::Restore).await.unwrap();
            assert_eq!((report.verified, report.rows), (Verified::Restored, Some(3)));
        }
        None => assert_eq!(tried.unwrap().rows, Some(3)),
    }
}
