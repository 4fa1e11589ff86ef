//! Migrations that touch their tool's own table, on PostgreSQL.

use lockkeeper_migrate::db::{ApplyError, Silent};
use lockkeeper_migrate::engine::{self, EngineError};
use lockkeeper_migrate::ledger::{LedgerChoice, Tool};
use lockkeeper_migrate::plan::{Goal, VersionStatus, status};
use lockkeeper_migrate::source::Layout;

use crate::fixture::{AppSession, Fixture};
use crate::ledgers::{go, set, with_ledger};
use crate::postgres::PostgresFixture;
use crate::support::{standalone, take};

/// The known recipe for a history with golang-migrate: a trigger that sees each row it writes.
pub(crate) async fn a_trigger_on_the_table_sees_what_the_tool_writes(fixture: &PostgresFixture) {
    let history = "CREATE TABLE history (version bigint, dirty boolean, place serial);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO history (version, dirty) VALUES (NEW.version, NEW.dirty); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER INSERT ON schema_migrations FOR EACH ROW EXECUTE FUNCTION note();";
    let files = [
        ("1_a.up.sql", history),
        ("2_b.up.sql", "CREATE TABLE b (id INT);"),
    ];
    let set = set(Layout::GolangMigrate, fixture.dialect(), &files);
    go(
        &*with_ledger(fixture, LedgerChoice::Tool(Tool::GolangMigrate)),
        &set,
        &Goal::Latest,
    )
    .await;
    let seen = "SELECT string_agg(version || CASE WHEN dirty THEN ' dirty' ELSE ' clean' END, ', ' ORDER BY place) \
                FROM history";
    let seen = fixture.app().await.scalar(seen).await.unwrap().unwrap();
    assert_eq!(seen, "1 clean, 2 dirty, 2 clean");
}

pub(crate) async fn an_altered_table_is_kept(fixture: &PostgresFixture) {
    let up = |text: &str| format!("-- migrate:up\n{text}\n-- migrate:down\n");
    let alter = up(
        "ALTER TABLE schema_migrations ADD COLUMN applied_at timestamptz DEFAULT now(); \
                    ALTER TABLE schema_migrations ALTER COLUMN version TYPE varchar(255);",
    );
    let next = up("CREATE TABLE b (id INT);");
    let files = [("1_a.sql", alter.as_str()), ("2_b.sql", next.as_str())];
    let set = set(Layout::Dbmate, fixture.dialect(), &files);
    go(
        &*with_ledger(fixture, LedgerChoice::Tool(Tool::Dbmate)),
        &set,
        &Goal::Latest,
    )
    .await;
    let stamped = "SELECT count(*) FROM schema_migrations WHERE applied_at IS NOT NULL";
    let stamped = fixture.app().await.scalar(stamped).await.unwrap();
    assert_eq!(stamped.as_deref(), Some("2"));
}

pub(crate) async fn deleted_rows_are_pending_again(fixture: &PostgresFixture) {
    let files = [
        ("1_a.sql", "-- +goose Up\nCREATE TABLE IF NOT EXISTS a (id INT);"),
        (
            "2_b.sql",
            "-- +goose Up\nDELETE FROM goose_db_version WHERE version_id = 1;",
        ),
    ];
    let set = set(Layout::Goose, fixture.dialect(), &files);
    let database = with_ledger(fixture, LedgerChoice::Tool(Tool::Goose));
    go(&*database, &set, &Goal::Latest).await;
    let rows = status(&set, &database.inspect().await.unwrap().ledger);
    let rows: Vec<_> = rows.iter().map(|row| row.status).collect();
    assert_eq!(rows, [VersionStatus::Pending, VersionStatus::Applied]);
}

pub(crate) async fn a_dropped_table_fails_unless_it_is_made_again(fixture: &PostgresFixture) {
    let up = |text: &str| format!("-- migrate:up\n{text}\n-- migrate:down\n");
    let again =
        up("DROP TABLE schema_migrations; CREATE TABLE schema_migrations (version varchar PRIMARY KEY);");
    let dropped = up("CREATE TABLE c (id INT); DROP TABLE schema_migrations;");
    let files = [("1_a.sql", again.as_str()), ("2_b.sql", dropped.as_str())];
    let set = set(Layout::Dbmate, fixture.dialect(), &files);
    let database = with_ledger(fixture, LedgerChoice::Tool(Tool::Dbmate));
    go(&*database, &set, &Goal::To("1".into())).await;
    // dbmate itself fails here too: it cannot record what ran.
    let prospect = engine::prepare(&*database, &set, &Goal::Latest).await.unwrap();
    let mut hand = take(&*database, &standalone("me")).await;
    let failed = engine::migrate(&mut *hand, &prospect.plan, set.layout, "me", &Silent).await;
    match failed {
        Err(EngineError::Apply { error, .. }) => {
            assert!(!matches!(error, ApplyError::Partial { .. }), "{error}");
            assert!(error.to_string().contains("schema_migrations"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // Nothing of it remains, and the table is as it was.
    let recorded = hand
        .scalar("SELECT count(*) FROM schema_migrations")
        .await
        .unwrap();
    assert_eq!(recorded.as_deref(), Some("1"));
    assert!(hand.scalar("SELECT count(*) FROM c").await.is_err());
}
