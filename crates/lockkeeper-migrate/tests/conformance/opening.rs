//! Opening the gate, and what is left afterwards.

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{DbError, Silent};

use crate::fixture::Fixture;
use crate::support::{G1, fenced};

pub(crate) async fn writers_pass_at_once_after_the_opening(fixture: &impl Fixture) {
    let mut app = fixture.session().await;
    app.execute("CREATE TABLE t (a INT)").await.unwrap();
    let database = fixture.database();
    let mut hand = fenced(&*database).await;
    assert!(app.execute("INSERT INTO t VALUES (1)").await.is_err());
    hand.open(G1, Some(&SchemaVersion::from("42"))).await.unwrap();
    app.execute("INSERT INTO t VALUES (1)").await.unwrap();
    let row = database.inspect().await.unwrap().gate_row.unwrap();
    assert!(!row.is_closed());
    assert_eq!(row.version, Some(SchemaVersion::from("42")));
}

pub(crate) async fn opening_is_idempotent_and_keeps_to_its_epoch(fixture: &impl Fixture) {
    let mut hand = fenced(&*fixture.database()).await;
    let error = hand.open(GateEpoch(2), None).await.unwrap_err();
    assert!(matches!(error, DbError::EpochBehind { .. }), "{error:?}");
    assert!(hand.gate_row().is_closed());
    hand.open(G1, None).await.unwrap();
    hand.open(G1, None).await.unwrap();
    assert!(!hand.gate_row().is_closed());
}

pub(crate) async fn nothing_is_left_after_cleaning_up(fixture: &impl Fixture) {
    let mut app = fixture.session().await;
    app.execute("CREATE TABLE t (a INT)").await.unwrap();
    let mut hand = fenced(&*fixture.database()).await;
    hand.open(G1, None).await.unwrap();
    assert_eq!(hand.clean_up(&Silent).await.unwrap(), 0);
    app.execute("INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(hand.clean_up(&Silent).await.unwrap(), 0);
}
