//! Rehearsals: what they find, what they leave alone, and that no clone stays behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockkeeper_migrate::db::scratch::{Look, ScratchName, scratch_server};
use lockkeeper_migrate::db::{DatabaseOptions, Event, Observer, Silent};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::engine;
use lockkeeper_migrate::fingerprint::Change;
use lockkeeper_migrate::plan::Goal;
use lockkeeper_migrate::rehearse::report::Reversal;
use lockkeeper_migrate::rehearse::{Content, Order, Reach, Rehearsal, RehearseError, rehearse};
use lockkeeper_migrate::source::{Layout, MigrationSet, load};

use crate::fixture::Fixture;
use crate::support::{standalone, take};

const FIRST: (&str, &str) = ("CREATE TABLE first (id INT, name VARCHAR(9))", "DROP TABLE first");

/// Migrations from 1 on; an empty down means that there is none.
fn migrations(dialect: Dialect, scripts: &[(&str, &str)]) -> MigrationSet {
    let folder = tempfile::tempdir().unwrap();
    for (at, (up, down)) in scripts.iter().enumerate() {
        let file = |direction: &str| folder.path().join(format!("{}_m.{direction}.sql", at + 1));
        std::fs::write(file("up"), up).unwrap();
        if !down.is_empty() {
            std::fs::write(file("down"), down).unwrap();
        }
    }
    let dirs = [folder.path().to_owned()];
    load(&dirs, Some(Layout::GolangMigrate), dialect).unwrap()
}

pub(crate) struct Rehearsing<'a, F> {
    fixture: &'a F,
    dsn: Dsn,
    set: MigrationSet,
    content: Content,
}

impl<'a, F: Fixture> Rehearsing<'a, F> {
    pub(crate) fn new(fixture: &'a F, scripts: &[(&str, &str)]) -> Self {
        Self {
            fixture,
            dsn: Dsn::parse(&fixture.dsn()).unwrap(),
            set: migrations(fixture.dialect(), scripts),
            content: Content::Schema,
        }
    }

    fn order(&self) -> Order<'_> {
        Order {
            dsn: &self.dsn,
            scratch: None,
            options: DatabaseOptions::default(),
            set: &self.set,
            goal: Goal::Latest,
            verify: &[],
            content: self.content,
            reach: Reach::Refuse,
            // Tests run beside each other: only what a test says is old is old.
            sweep_age: Duration::from_secs(3600),
            clone_limit: Duration::from_secs(60),
        }
    }

    pub(crate) async fn run(&self) -> Result<Rehearsal, RehearseError> {
        self.fixture.allow_clones();
        // An SQLite file has to be there.
        drop(self.fixture.session().await);
        rehearse(&self.order(), &Silent, std::future::pending()).await
    }

    /// Applies what is pending, as a rollout would.
    async fn apply(&self) {
        let database = self.fixture.database();
        let prospect = engine::prepare(&*database, &self.set, &Goal::Latest)
            .await
            .unwrap();
        let mut hand = take(&*database, &standalone("test")).await;
        engine::migrate(&mut *hand, &prospect.plan, Layout::GolangMigrate, "test", &Silent)
            .await
            .unwrap();
        hand.release().await.unwrap();
    }
}

pub(crate) async fn make(fixture: &impl Fixture, statements: &[&str]) {
    let mut app = fixture.session().await;
    for statement in statements {
        app.execute(statement).await.unwrap();
    }
}

/// On a target with objects of all kinds and a history: the clone is like it, and the fingerprint that the
/// rehearsal tells is the one that the target has after the real run.
pub(crate) async fn a_rehearsal_tells_what_the_target_will_be(fixture: &impl Fixture) {
    Rehearsing::new(fixture, &[FIRST]).apply().await;
    make(fixture, crate::schema::base(fixture.dialect())).await;
    let rehearsing = Rehearsing::new(
        fixture,
        &[
            FIRST,
            ("CREATE TABLE second (id INT)", "DROP TABLE second"),
            (
                "ALTER TABLE posts ADD COLUMN x INT",
                "ALTER TABLE posts DROP COLUMN x",
            ),
        ],
    );
    let before = fixture.database().schema().await.unwrap();
    let report = rehearsing.run().await.unwrap();
    assert!(report.passed(), "{report:#?}");
    assert_eq!(report.clone_differs, None);
    assert_eq!(report.migrations.len(), 2, "{report:#?}");
    assert!(
        report.migrations.iter().all(|m| m.reversal == Reversal::Restores),
        "{report:#?}"
    );
    assert_eq!(fixture.database().schema().await.unwrap(), before);
    assert_eq!(fixture.database().inspect().await.unwrap().ledger.len(), 1);
    assert_eq!(report.fingerprint_before, before.fingerprint());

    rehearsing.apply().await;
    let after = fixture.database().schema().await.unwrap();
    assert_eq!(report.fingerprint, Some(after.fingerprint()));

    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Rehearsal>(&text).unwrap(), report);
}

pub(crate) async fn a_down_that_does_not_restore_is_told(fixture: &impl Fixture) {
    make(fixture, &["CREATE TABLE old (a INT)"]).await;
    let scripts = [
        (
            "ALTER TABLE old ADD COLUMN b INT; CREATE INDEX bs ON old (b)",
            drop_index(fixture.dialect()),
        ),
        ("CREATE TABLE more (a INT)", ""),
    ];
    let report = Rehearsing::new(fixture, &scripts).run().await.unwrap();
    assert!(!report.passed());
    // Down left the column, so the second up cannot add it.
    let trial = &report.migrations[0];
    let Reversal::DownDoesNotRestore { difference } = &trial.reversal else {
        panic!("{trial:#?}");
    };
    assert_eq!(difference.differences.len(), 1, "{difference:?}");
    assert!(matches!(difference.differences[0].change, Change::Added { .. }));
    assert!(trial.up_again.as_ref().unwrap().error.is_some());
    assert!(
        report.problems[0].contains("version 1 down does not restore"),
        "{report:#?}"
    );
    assert_eq!(report.fingerprint, None);
}

fn drop_index(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::MySql => "DROP INDEX bs ON old",
        Dialect::Postgres | Dialect::Sqlite => "DROP INDEX bs",
    }
}

pub(crate) async fn a_migration_that_fails_is_told(fixture: &impl Fixture) {
    let scripts = [FIRST, ("SELECT 1;\nDROP TABLE no_such_table", "SELECT 1")];
    let report = Rehearsing::new(fixture, &scripts).run().await.unwrap();
    assert_eq!(report.migrations.len(), 2);
    assert!(
        report.problems[0].contains("version 2 up fails: line 2"),
        "{report:#?}"
    );
    assert_eq!(report.migrations[1].reversal, Reversal::NotReached);
    assert!(fixture.database().inspect().await.unwrap().ledger.is_empty());
}

/// Ends the rehearsal as soon as a statement of a migration starts.
#[derive(Default)]
struct AtTheFirstStatement(AtomicBool);

impl Observer for AtTheFirstStatement {
    fn event(&self, event: Event) {
        if let Event::Statement { .. } = event {
            self.0.store(true, Ordering::Release);
        }
    }
}

pub(crate) async fn a_stopped_rehearsal_leaves_no_clone(fixture: &impl Fixture) {
    fixture.allow_clones();
    let slow = match fixture.dialect() {
        Dialect::Postgres => "SELECT pg_sleep(60)",
        Dialect::MySql => "DO SLEEP(60)",
        Dialect::Sqlite => {
            "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT max(i) FROM c"
        }
    };
    let rehearsing = Rehearsing::new(fixture, &[(slow, "")]);
    drop(fixture.session().await);
    let began = AtTheFirstStatement::default();
    let stop = async {
        while !began.0.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let clones_before = fixture.clones();
    let ended = tokio::time::timeout(
        Duration::from_secs(30),
        rehearse(&rehearsing.order(), &began, stop),
    )
    .await;
    assert!(matches!(ended.unwrap(), Err(RehearseError::Stopped)));
    assert!(began.0.load(Ordering::Acquire));
    let new: Vec<String> = fixture
        .clones()
        .into_iter()
        .filter(|name| !clones_before.contains(name))
        .collect();
    // Other tests rehearse on the same server meanwhile; what they make, they drop.
    all_gone(fixture, &new).await;
}

async fn all_gone(fixture: &impl Fixture, names: &[String]) {
    let gone = async {
        while fixture.clones().iter().any(|name| names.contains(name)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
}

/// A killed rehearsal's mark goes with its session.
pub(crate) async fn what_a_killed_rehearsal_left_is_dropped(fixture: &impl Fixture) {
    fixture.allow_clones();
    let dsn = Dsn::parse(&fixture.dsn()).unwrap();
    let options = DatabaseOptions::default();
    let (left, owned) = (old_name(1), old_name(2));
    let mut killed = scratch_server(&dsn, &options).await.unwrap();
    killed.create(&left, &Look::default()).await.unwrap();
    let mut alive = scratch_server(&dsn, &options).await.unwrap();
    alive.create(&owned, &Look::default()).await.unwrap();
    drop(killed);

    // The server takes a moment to see that the session is gone. Another test's rehearsal may sweep it first.
    for _ in 0..50 {
        Rehearsing::new(fixture, &[FIRST]).run().await.unwrap();
        if !fixture.clones().contains(&left.to_string()) {
            break;
        }
    }
    let clones = fixture.clones();
    assert!(!clones.contains(&left.to_string()), "{clones:?}");
    assert!(clones.contains(&owned.to_string()), "{clones:?}");
    alive.remove(&owned).await.unwrap();
    assert!(!fixture.clones().contains(&owned.to_string()));
}

/// Made in 1970.
fn old_name(second: u32) -> ScratchName {
    let text = format!("lockkeeper_rehearsal_{:08x}_{second}", fastrand::u32(..));
    ScratchName::parse(&text).unwrap()
}

pub(crate) async fn rows_are_cloned_and_counted_when_asked_for(fixture: &impl Fixture) {
    make(
        fixture,
        &["CREATE TABLE t (a INT)", "INSERT INTO t VALUES (1), (2), (3)"],
    )
    .await;
    let scripts = [("UPDATE t SET a = a + 1", "UPDATE t SET a = a - 1")];
    let mut rehearsing = Rehearsing::new(fixture, &scripts);
    let rows = |report: Rehearsal| report.migrations[0].up.statements[0].rows;
    assert_eq!(rows(rehearsing.run().await.unwrap()), Some(0));
    rehearsing.content = Content::Rows;
    let report = rehearsing.run().await.unwrap();
    assert!(report.with_data && report.passed(), "{report:#?}");
    assert_eq!(rows(report), Some(3));
    let mut app = fixture.session().await;
    assert_eq!(
        app.scalar("SELECT sum(a) FROM t").await.unwrap().as_deref(),
        Some("6")
    );
}

/// What the statements of one migration do to others, on each dialect as far as it can be known.
pub(crate) async fn locks_and_rewrites_are_told(fixture: &impl Fixture) {
    let dialect = fixture.dialect();
    make(fixture, &["CREATE TABLE t (a INT, b VARCHAR(9))"]).await;
    let rehearsing = Rehearsing::new(fixture, &[(measured(dialect), "")]);
    let report = rehearsing.run().await.unwrap();
    assert!(report.passed(), "{report:#?}");
    let told: Vec<String> = report.migrations[0]
        .up
        .statements
        .iter()
        .map(|statement| {
            let lock = statement.locks.first();
            let lock = lock.map_or_else(String::new, |lock| format!("{} {}", lock.mode, lock.object));
            let rewritten: Vec<&str> = statement.rewritten.iter().map(|r| r.object.as_str()).collect();
            format!("{} [{lock}] {rewritten:?}", statement.line)
        })
        .collect();
    assert_eq!(told, expected(dialect), "{report:#?}");
    assert!(report.up_time() > Duration::ZERO);
}

fn measured(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            "CREATE INDEX bs ON t (b);\nALTER TABLE t ALTER a TYPE bigint;\nUPDATE t SET a = 1;\nCREATE TABLE u (x INT);"
        }
        Dialect::MySql => {
            "ALTER TABLE t ADD c INT;\nALTER TABLE t MODIFY a bigint;\nALTER TABLE t ADD INDEX bs (b);\n\
             CREATE TABLE u (x INT);"
        }
        Dialect::Sqlite => {
            "ALTER TABLE t ADD c INT;\nCREATE TABLE n (a INT);\nDROP TABLE t;\nALTER TABLE n RENAME TO t;"
        }
    }
}

fn expected(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Postgres => &[
            "1 [ShareLock public.t] []",
            "2 [AccessExclusiveLock public.t] [\"public.t\"]",
            "3 [RowExclusiveLock public.t] []",
            "4 [] []",
        ],
        Dialect::MySql => &[
            "1 [SHARED_UPGRADABLE (EXCLUSIVE for a moment) t] []",
            "2 [SHARED_NO_WRITE (EXCLUSIVE for a moment) t] [\"t\"]",
            "3 [SHARED_UPGRADABLE (EXCLUSIVE for a moment) t] []",
            "4 [EXCLUSIVE its table] []",
        ],
        Dialect::Sqlite => &[
            "1 [RESERVED the file] []",
            "2 [RESERVED the file] []",
            "3 [RESERVED the file] []",
            "4 [RESERVED the file] []",
        ],
    }
}

pub(crate) async fn what_reaches_beyond_the_clone_is_refused(fixture: &impl Fixture) {
    let database = Dsn::parse(&fixture.dsn())
        .unwrap()
        .database()
        .unwrap_or_default()
        .to_owned();
    let (beyond, what) = match fixture.dialect() {
        Dialect::Postgres => ("CREATE ROLE evil".to_owned(), "CREATE ROLE"),
        Dialect::MySql => (
            format!("CREATE TABLE `{database}`.evil (a INT)"),
            "it names database",
        ),
        Dialect::Sqlite => ("ATTACH 'evil.db' AS evil".to_owned(), "ATTACH"),
    };
    let scripts = [("CREATE TABLE fine (a INT)", ""), (beyond.as_str(), "")];
    let error = Rehearsing::new(fixture, &scripts)
        .run()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("2_m.up.sql:1") && error.contains(what), "{error}");
}
