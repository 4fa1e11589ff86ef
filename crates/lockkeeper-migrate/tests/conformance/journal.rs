//! Migrations that no transaction can hold, on PostgreSQL.

use lockkeeper_migrate::db::{Applied, ApplyError, Silent};
use lockkeeper_migrate::ledger::EntryState;
use lockkeeper_migrate::source::Direction;

use crate::fixture::{AppSession, Fixture};
use crate::postgres::PostgresFixture;
use crate::support::{apply, fenced, leader, ledger_write, script, take, versions};

const VALID: &str = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('i')";

pub(crate) async fn an_index_is_built_concurrently(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute("CREATE TABLE t (a INT); INSERT INTO t SELECT generate_series(1, 100)")
        .await
        .unwrap();
    let mut hand = fenced(&*fixture.database()).await;
    let text = "UPDATE t SET a = a + 1;\nCREATE INDEX CONCURRENTLY i ON t (a);\nINSERT INTO t VALUES (0);\n";
    let applied = apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap();
    assert!(matches!(applied, Applied::Ran { .. }));
    assert_eq!(hand.scalar(VALID).await.unwrap().as_deref(), Some("t"));
    assert_eq!(
        hand.scalar("SELECT sum(a) FROM t").await.unwrap().as_deref(),
        Some("5150")
    );
    assert_eq!(
        hand.scalar("SELECT count(*) FROM lockkeeper_journal")
            .await
            .unwrap()
            .as_deref(),
        Some("0")
    );
    assert_eq!(
        apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap(),
        Applied::Already
    );
}

pub(crate) async fn an_invalid_index_is_dropped_and_built_again(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute("CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (1)")
        .await
        .unwrap();
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    let text = "INSERT INTO t VALUES (2);\nCREATE UNIQUE INDEX CONCURRENTLY i ON t (a);\n";
    let error = apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap_err();
    let ApplyError::Partial {
        line,
        done,
        total,
        message,
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!((*line, *done, *total), (2, 1, 2), "{message}");
    assert!(message.contains("23505"), "{message}");
    assert_eq!(
        hand.scalar(VALID).await.unwrap().as_deref(),
        Some("f"),
        "the server leaves it behind"
    );

    app.execute("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE a = 1)")
        .await
        .unwrap();
    apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap();
    assert_eq!(hand.scalar(VALID).await.unwrap().as_deref(), Some("t"));
    let twos = "SELECT count(*) FROM t WHERE a = 2";
    assert_eq!(
        hand.scalar(twos).await.unwrap().as_deref(),
        Some("1"),
        "the first statement ran again"
    );
}

/// What the journal says after a crash between the answer of a statement and its record.
async fn lose_the_answer(app: &mut impl AppSession) {
    let changed = app
        .execute("UPDATE lockkeeper_journal SET state = 'started', finished_at = NULL WHERE position = 2")
        .await
        .unwrap();
    assert_eq!(changed, 1);
}

pub(crate) async fn a_journalled_migration_resumes_where_it_stopped(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute("CREATE TABLE t (a INT)").await.unwrap();
    let database = fixture.database();
    let mut hand = take(&*database, &leader(1)).await;
    let text = "INSERT INTO t VALUES (1);\nCREATE INDEX CONCURRENTLY i ON t (a);\nINSERT INTO t VALUES (2);\n\
                BEGIN;\nINSERT INTO t VALUES (3);\nINSERT INTO u VALUES (3);\nCOMMIT;\n";
    let error = apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap_err();
    let ApplyError::Partial { line, done, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((*line, *done), (6, 3));
    lose_the_answer(&mut app).await;
    drop(hand);

    app.execute("CREATE TABLE u (a INT)").await.unwrap();
    let mut hand = take(&*database, &leader(2)).await;
    apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap();
    assert_eq!(
        hand.scalar("SELECT string_agg(a::text, ',' ORDER BY a) FROM t")
            .await
            .unwrap()
            .as_deref(),
        Some("1,2,3")
    );
    assert_eq!(versions(&mut *hand).await, ["1"]);
}

pub(crate) async fn an_edited_file_is_in_doubt(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute("CREATE TABLE t (a INT)").await.unwrap();
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    let text = "INSERT INTO t VALUES (1);\nVACUUM t;\nSELECT nonsense;";
    apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap_err();
    let edited = text.replace("(1)", "(5)");
    let error = apply(&mut *hand, fixture.dialect(), "1", &edited)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ApplyError::InDoubt { line: 1, index: 1, seen } if seen.contains("edited")),
        "{error:?}"
    );
    assert_eq!(
        hand.scalar("SELECT count(*) FROM t").await.unwrap().as_deref(),
        Some("1")
    );
}

pub(crate) async fn a_statement_that_cannot_be_classified_is_in_doubt(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(
        "CREATE TABLE t (a INT); \
         CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (1); COMMIT; END $$",
    )
    .await
    .unwrap();
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    // The CALL is found to bring its own transactions only when it runs.
    let text = "VACUUM t;\nCALL p();\nSELECT nonsense;";
    let error = apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap_err();
    assert!(
        matches!(&error, ApplyError::Partial { line: 3, done: 2, .. }),
        "{error:?}"
    );
    assert_eq!(
        hand.scalar("SELECT count(*) FROM t").await.unwrap().as_deref(),
        Some("1")
    );
    lose_the_answer(&mut app).await;

    let script = script(fixture.dialect(), &text.replace("SELECT nonsense;", ""));
    let write = ledger_write("1", Direction::Up);
    let error = hand.apply(&script, &write, &Silent).await.unwrap_err();
    assert!(
        matches!(
            &error,
            ApplyError::InDoubt {
                line: 2,
                index: 2,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        hand.ledger().await.unwrap()[0].state,
        EntryState::InDoubt { statement: 2 }
    );

    // A person looked.
    app.execute("UPDATE lockkeeper_journal SET state = 'done' WHERE position = 2")
        .await
        .unwrap();
    hand.apply(&script, &write, &Silent).await.unwrap();
    assert_eq!(
        hand.scalar("SELECT count(*) FROM t").await.unwrap().as_deref(),
        Some("1")
    );
    assert_eq!(hand.ledger().await.unwrap()[0].state, EntryState::Applied);
}
