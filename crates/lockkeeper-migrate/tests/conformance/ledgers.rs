//! The state tables of other tools, kept and taken over; and the format of our own.

use std::path::Path;

use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{Database, DatabaseOptions, DbError, Silent, TakeError};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::engine::{self, Side};
use lockkeeper_migrate::ledger::{EditRecord, LedgerChoice, Tool};
use lockkeeper_migrate::plan::{self, Goal};
use lockkeeper_migrate::source::{Direction, Layout, MigrationSet, load};

use crate::fixture::Fixture;
use crate::support::{PATIENCE, apply, ledger_write, script, standalone, take, versions};

/// A directory with `files`, read.
pub(crate) fn set(layout: Layout, dialect: Dialect, files: &[(&str, &str)]) -> MigrationSet {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), files);
    load(&[dir.path().to_owned()], Some(layout), dialect).unwrap()
}

pub(crate) fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Three migrations, of which the first two can be taken back where the layout knows that.
fn three(layout: Layout, dialect: Dialect) -> MigrationSet {
    let files: &[(&str, &str)] = match layout {
        Layout::Pop => &[
            ("20200101000000000000_a.up.sql", "CREATE TABLE a1 (id INT);"),
            ("20200101000000000000_a.down.sql", "DROP TABLE a1;"),
            ("20200101000000000001_b.up.sql", "CREATE TABLE a2 (id INT);"),
            ("20200101000000000001_b.down.sql", "DROP TABLE a2;"),
            ("20210101000000000000_c.up.sql", "CREATE TABLE a3 (id INT);"),
            ("20210101000000000000_c.down.sql", "DROP TABLE a3;"),
        ],
        Layout::GolangMigrate | Layout::Sqlx => &[
            ("1_a.up.sql", "CREATE TABLE a1 (id INT);"),
            ("1_a.down.sql", "DROP TABLE a1;"),
            ("2_b.up.sql", "CREATE TABLE a2 (id INT);"),
            ("2_b.down.sql", "DROP TABLE a2;"),
            ("10_c_d.up.sql", "CREATE TABLE a3 (id INT);"),
            ("10_c_d.down.sql", "DROP TABLE a3;"),
        ],
        Layout::Goose => &[
            (
                "00001_a.sql",
                "-- +goose Up\nCREATE TABLE a1 (id INT);\n-- +goose Down\nDROP TABLE a1;\n",
            ),
            (
                "00002_b.sql",
                "-- +goose Up\nCREATE TABLE a2 (id INT);\n-- +goose Down\nDROP TABLE a2;\n",
            ),
            (
                "00010_c.sql",
                "-- +goose Up\nCREATE TABLE a3 (id INT);\n-- +goose Down\nDROP TABLE a3;\n",
            ),
        ],
        Layout::Dbmate => &[
            (
                "01_a.sql",
                "-- migrate:up\nCREATE TABLE a1 (id INT);\n-- migrate:down\nDROP TABLE a1;\n",
            ),
            (
                "02_b.sql",
                "-- migrate:up\nCREATE TABLE a2 (id INT);\n-- migrate:down\nDROP TABLE a2;\n",
            ),
            (
                "10_c.sql",
                "-- migrate:up\nCREATE TABLE a3 (id INT);\n-- migrate:down\nDROP TABLE a3;\n",
            ),
        ],
        Layout::Refinery => &[
            ("V1__a.sql", "CREATE TABLE a1 (id INT);"),
            ("V2__b.sql", "CREATE TABLE a2 (id INT);"),
            ("V10__c.sql", "CREATE TABLE a3 (id INT);"),
        ],
        Layout::Flyway => &[
            ("V1__a.sql", "CREATE TABLE a1 (id INT);"),
            ("V1_2__b_b.sql", "CREATE TABLE a2 (id INT);"),
            ("V1.10__c.sql", "CREATE TABLE a3 (id INT);\r\n"),
            ("U1.10__c.sql", "DROP TABLE a3;"),
        ],
        Layout::Diesel => &[
            ("2020-01-01-000000_a/up.sql", "CREATE TABLE a1 (id INT);"),
            ("2020-01-01-000000_a/down.sql", "DROP TABLE a1;"),
            ("2020-01-02-000000_b/up.sql", "CREATE TABLE a2 (id INT);"),
            ("2020-01-02-000000_b/down.sql", "DROP TABLE a2;"),
            ("2021-01-01-000000_c/up.sql", "CREATE TABLE a3 (id INT);"),
            ("2021-01-01-000000_c/down.sql", "DROP TABLE a3;"),
        ],
    };
    set(layout, dialect, files)
}

pub(crate) fn with_ledger(fixture: &impl Fixture, ledger: LedgerChoice) -> Box<dyn Database> {
    fixture.database_with(DatabaseOptions {
        ledger,
        create_if_missing: true,
        ..DatabaseOptions::default()
    })
}

/// Plans and goes the way to `goal`, as the command line does.
pub(crate) async fn go(database: &dyn Database, set: &MigrationSet, goal: &Goal) {
    let prospect = engine::prepare(database, set, goal).await.unwrap();
    let mut hand = take(database, &standalone("me")).await;
    if let Some(records) = &prospect.moves {
        hand.record(records).await.unwrap();
    }
    let done = engine::migrate(&mut *hand, &prospect.plan, set.layout, "me", &Silent).await;
    done.unwrap();
    hand.release().await.unwrap();
}

async fn verified(database: &dyn Database, set: &MigrationSet, version: Option<&SchemaVersion>) {
    let inspection = database.inspect().await.unwrap();
    plan::verify(set, &inspection.ledger, version).unwrap();
}

async fn rows(fixture: &impl Fixture, table: &str) -> String {
    let query = format!("SELECT count(*) FROM {table}");
    fixture.session().await.scalar(&query).await.unwrap().unwrap()
}

/// Up, down and up again in the tool's table; then its history in ours, and back.
async fn is_kept(fixture: &impl Fixture, tool: Tool) {
    let set = three(tool, fixture.dialect());
    let theirs = with_ledger(fixture, LedgerChoice::Tool(tool));
    let table = tool.origin().table();
    // What a fresh table has, and what an applied version adds.
    let (fresh, each) = match tool {
        Tool::Goose => (1, 1),
        Tool::GolangMigrate => (1, 0),
        _ => (0, 1),
    };
    go(&*theirs, &set, &Goal::To(set.migrations[1].version.clone())).await;
    verified(&*theirs, &set, Some(&set.migrations[1].version)).await;
    assert_eq!(rows(fixture, table).await, (fresh + 2 * each).to_string());
    go(&*theirs, &set, &Goal::Latest).await;
    if set.migrations[2].down.is_some() {
        go(&*theirs, &set, &Goal::DownSteps(1)).await;
        verified(&*theirs, &set, Some(&set.migrations[1].version)).await;
        go(&*theirs, &set, &Goal::Latest).await;
    }
    verified(&*theirs, &set, set.latest()).await;
    let nothing = engine::prepare(&*theirs, &set, &Goal::Latest).await.unwrap();
    assert!(nothing.plan.steps.is_empty());

    // Our own ledger knows nothing of it, and says so.
    let own = with_ledger(fixture, LedgerChoice::Own);
    let refusal = engine::prepare(&*own, &set, &Goal::Latest)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refusal.contains(&format!("kept in table {table} of {tool}")),
        "{refusal}"
    );
    let mut hand = take(&*own, &standalone("me")).await;
    let up = &set.migrations[0];
    let write = ledger_write(up.version.as_str(), Direction::Up);
    let refused = hand.apply(&up.up, &write, &Silent).await.unwrap_err().to_string();
    assert!(
        refused.contains(&format!("kept in the ledger {tool}")),
        "{refused}"
    );

    // Taken over, it goes on with ours.
    let history = theirs.inspect().await.unwrap().ledger;
    let from = Side {
        ledger: LedgerChoice::Tool(tool),
        entries: &history,
    };
    let to = Side {
        ledger: LedgerChoice::Own,
        entries: &[],
    };
    let records = engine::transfer(&set, from, to, "me").unwrap();
    assert_eq!(records.len(), 3);
    hand.record(&records).await.unwrap();
    hand.release().await.unwrap();
    verified(&*own, &set, set.latest()).await;
    assert!(
        engine::prepare(&*own, &set, &Goal::Latest)
            .await
            .unwrap()
            .plan
            .steps
            .is_empty()
    );

    // And back: the tool's table is written from ours.
    let mut session = fixture.session().await;
    session.execute(&format!("DROP TABLE {table}")).await.unwrap();
    go(&*theirs, &set, &Goal::Latest).await;
    verified(&*theirs, &set, set.latest()).await;
    assert_eq!(
        theirs.inspect().await.unwrap().books.kept,
        LedgerChoice::Tool(tool)
    );
}

pub(crate) async fn pops_table_is_kept(fixture: &impl Fixture) {
    is_kept(fixture, Tool::Pop).await;
}

pub(crate) async fn golang_migrates_table_is_kept(fixture: &impl Fixture) {
    is_kept(fixture, Tool::GolangMigrate).await;
}

pub(crate) async fn gooses_table_is_kept(fixture: &impl Fixture) {
    is_kept(fixture, Tool::Goose).await;
}

pub(crate) async fn dbmates_table_is_kept(fixture: &impl Fixture) {
    is_kept(fixture, Tool::Dbmate).await;
}

pub(crate) async fn sqlx_table_is_kept(fixture: &impl Fixture) {
    is_kept(fixture, Tool::Sqlx).await;
}

pub(crate) async fn refinerys_table_is_kept(fixture: &impl Fixture) {
    is_kept(fixture, Tool::Refinery).await;
}

pub(crate) async fn flyways_table_is_kept(fixture: &impl Fixture) {
    is_kept(fixture, Tool::Flyway).await;
}

pub(crate) async fn diesels_table_is_kept(fixture: &impl Fixture) {
    is_kept(fixture, Tool::Diesel).await;
}

pub(crate) async fn old_rows_of_pop_get_rows_of_their_own(fixture: &impl Fixture) {
    let set = three(Tool::Pop, fixture.dialect());
    let mut session = fixture.session().await;
    for statement in [
        "CREATE TABLE schema_migration (version varchar(14) NOT NULL)",
        "INSERT INTO schema_migration VALUES ('20200101000000')",
        "CREATE TABLE a1 (id INT)",
        "CREATE TABLE a2 (id INT)",
    ] {
        session.execute(statement).await.unwrap();
    }
    // Kratos widens the column when it finds such a table.
    if fixture.dialect() != Dialect::Sqlite {
        let widen = match fixture.dialect() {
            Dialect::MySql => "ALTER TABLE schema_migration MODIFY version varchar(48) NOT NULL",
            _ => "ALTER TABLE schema_migration ALTER version TYPE varchar(48)",
        };
        session.execute(widen).await.unwrap();
    }
    let theirs = with_ledger(fixture, LedgerChoice::Tool(Tool::Pop));
    verified(&*theirs, &set, Some(&set.migrations[1].version)).await;
    go(&*theirs, &set, &Goal::Latest).await;
    verified(&*theirs, &set, set.latest()).await;
    assert_eq!(rows(fixture, "schema_migration").await, "4");
    go(&*theirs, &set, &Goal::DownSteps(2)).await;
    verified(&*theirs, &set, Some(&set.migrations[0].version)).await;
}

pub(crate) async fn a_dirty_version_is_refused(fixture: &impl Fixture) {
    let set = three(Tool::GolangMigrate, fixture.dialect());
    let mut session = fixture.session().await;
    for statement in [
        "CREATE TABLE schema_migrations (version bigint not null primary key, dirty boolean not null)",
        "INSERT INTO schema_migrations VALUES (2, TRUE)",
    ] {
        session.execute(statement).await.unwrap();
    }
    let theirs = with_ledger(fixture, LedgerChoice::Tool(Tool::GolangMigrate));
    let refusal = engine::prepare(&*theirs, &set, &Goal::Latest)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refusal.starts_with("plan past version 2: golang-migrate marked it as failed half-way"),
        "{refusal}"
    );
}

pub(crate) async fn a_tools_table_of_another_shape_is_refused(fixture: &impl Fixture) {
    let mut session = fixture.session().await;
    let dbmates = "CREATE TABLE schema_migrations (version varchar(128) PRIMARY KEY)";
    session.execute(dbmates).await.unwrap();
    let theirs = with_ledger(fixture, LedgerChoice::Tool(Tool::GolangMigrate));
    let refusal = theirs.inspect().await.unwrap_err().to_string();
    assert!(
        refusal.contains("not as golang-migrate makes it: column dirty is missing"),
        "{refusal}"
    );
    let taken = theirs.take(&standalone("me"), PATIENCE, &Silent).await;
    assert!(taken.unwrap_err().to_string().contains("schema_migrations"));
}

pub(crate) async fn tables_of_a_newer_release_are_refused(fixture: &impl Fixture) {
    let database = fixture.database();
    take(&*database, &standalone("me")).await.release().await.unwrap();
    let mut session = fixture.session().await;
    let newer = "UPDATE lockkeeper_meta SET format = 99, made_by = '9.9'";
    session.execute(newer).await.unwrap();
    let refused = |error: &DbError| matches!(error, DbError::NewerFormat { found: 99, made_by, .. } if made_by == "9.9");
    assert!(refused(&database.inspect().await.unwrap_err()));
    match database.take(&standalone("me"), PATIENCE, &Silent).await {
        Err(TakeError::Db(error)) => assert!(refused(&error), "{error}"),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn tables_of_an_older_release_are_brought_up_to_date(fixture: &impl Fixture) {
    let database = fixture.database();
    let mut hand = take(&*database, &standalone("me")).await;
    for version in ["1", "2"] {
        let text = format!("CREATE TABLE m{version} (a INT);");
        apply(&mut *hand, fixture.dialect(), version, &text)
            .await
            .unwrap();
    }
    hand.release().await.unwrap();
    let mut session = fixture.session().await;
    session.execute("DROP TABLE lockkeeper_meta").await.unwrap();
    session.execute("DROP TABLE lockkeeper_edits").await.unwrap();
    session
        .execute("ALTER TABLE lockkeeper_ledger DROP COLUMN how")
        .await
        .unwrap();
    if fixture.dialect() == Dialect::Postgres {
        session
            .execute("ALTER TABLE lockkeeper_ledger DROP COLUMN place")
            .await
            .unwrap();
    }
    // Looking does not change them.
    assert_eq!(database.inspect().await.unwrap().ledger.len(), 2);
    assert!(
        session
            .scalar("SELECT format FROM lockkeeper_meta")
            .await
            .is_err()
    );
    let mut hand = take(&*database, &standalone("me")).await;
    apply(&mut *hand, fixture.dialect(), "3", "CREATE TABLE m3 (a INT);")
        .await
        .unwrap();
    let ledger = hand.ledger().await.unwrap();
    let order: Vec<&str> = ledger.iter().map(|entry| entry.version.as_str()).collect();
    assert_eq!(order, ["1", "2", "3"]);
    let format = session
        .scalar("SELECT format FROM lockkeeper_meta")
        .await
        .unwrap();
    assert_eq!(format.as_deref(), Some("2"));
}

pub(crate) async fn our_ledger_of_another_shape_is_refused(fixture: &impl Fixture) {
    let database = fixture.database();
    take(&*database, &standalone("me")).await.release().await.unwrap();
    let mut session = fixture.session().await;
    session
        .execute("ALTER TABLE lockkeeper_ledger DROP COLUMN duration_ms")
        .await
        .unwrap();
    let error = database.inspect().await.unwrap_err().to_string();
    assert!(
        error.contains("lockkeeper_ledger") && error.contains("duration_ms"),
        "{error}"
    );
    assert!(database.take(&standalone("me"), PATIENCE, &Silent).await.is_err());
}

pub(crate) async fn an_accepted_edit_is_recorded(fixture: &impl Fixture) {
    let database = fixture.database();
    let files = [("1_a.up.sql", "CREATE TABLE a1 (id INT);")];
    let before = set(Layout::GolangMigrate, fixture.dialect(), &files);
    go(&*database, &before, &Goal::Latest).await;
    let files = [("1_a.up.sql", "CREATE TABLE a1 (id INT); -- why")];
    let after = set(Layout::GolangMigrate, fixture.dialect(), &files);
    let refusal = engine::prepare(&*database, &after, &Goal::Latest)
        .await
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("accept it with accept-edit"), "{refusal}");
    let ledger = database.inspect().await.unwrap().ledger;
    let (migration, edited) = plan::edits(&after, &ledger).remove(0);
    let edit = engine::edit_of(&migration, &edited.applied, "alice", "a comment");
    let mut hand = take(&*database, &standalone("me")).await;
    hand.accept_edit(&migration, &edit).await.unwrap();
    hand.release().await.unwrap();
    verified(&*database, &after, after.latest()).await;
    let recorded = database.inspect().await.unwrap().books.edits;
    let expected = EditRecord {
        accepted_at_unix_ms: recorded[0].accepted_at_unix_ms,
        ..edit
    };
    assert_eq!(recorded, [expected]);
    assert!(recorded[0].accepted_at_unix_ms > 1_700_000_000_000);
}

/// The rows that are recorded are the versions, whatever their order in the table.
pub(crate) async fn an_empty_history_leaves_nothing(fixture: &impl Fixture) {
    let theirs = with_ledger(fixture, LedgerChoice::Tool(Tool::Goose));
    let mut hand = take(&*theirs, &standalone("me")).await;
    assert!(versions(&mut *hand).await.is_empty());
    let nothing = script(fixture.dialect(), "SELECT 1;");
    let write = ledger_write("1", Direction::Up);
    // Without its file, a tool's row cannot be written: nothing may look applied.
    let error = hand
        .apply(&nothing, &write, &Silent)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("version 1: its file is needed"), "{error}");
    assert!(versions(&mut *hand).await.is_empty());
}
