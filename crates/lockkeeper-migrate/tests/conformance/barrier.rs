//! While the gate is closed.

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_migrate::db::{DbError, Silent};

use crate::fixture::Fixture;
use crate::support::{G1, PATIENCE, apply, fenced, leader, take};

pub(crate) async fn other_writers_are_refused_and_the_hand_passes(fixture: &impl Fixture) {
    let mut app = fixture.session().await;
    app.execute("CREATE TABLE t (a INT)").await.unwrap();
    app.execute("INSERT INTO t VALUES (1)").await.unwrap();
    let mut hand = fenced(&*fixture.database()).await;

    for write in ["INSERT INTO t VALUES (2)", "UPDATE t SET a = 3", "DELETE FROM t"] {
        let refusal = app.execute(write).await.unwrap_err();
        assert!(fixture.is_fenced(&refusal), "{write}: {refusal:?}");
    }
    assert_eq!(
        app.scalar("SELECT a FROM t").await.unwrap().as_deref(),
        Some("1"),
        "readers go on"
    );

    apply(&mut *hand, fixture.dialect(), "1", "INSERT INTO t VALUES (10);")
        .await
        .unwrap();
    assert_eq!(
        hand.scalar("SELECT count(*) FROM t").await.unwrap().as_deref(),
        Some("2")
    );
}

pub(crate) async fn closing_is_idempotent_and_never_goes_back(fixture: &impl Fixture) {
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    hand.close(GateEpoch(5), "r5").await.unwrap();
    hand.close(GateEpoch(5), "r5").await.unwrap();
    assert!(hand.gate_row().is_closed());
    let error = hand.close(GateEpoch(4), "r4").await.unwrap_err();
    assert!(matches!(error, DbError::EpochBehind { .. }), "{error:?}");
    hand.raise_barrier(PATIENCE, &Silent).await.unwrap();
    hand.open(GateEpoch(5), None).await.unwrap();
    let error = hand.close(GateEpoch(5), "r5").await.unwrap_err();
    assert!(
        matches!(error, DbError::EpochBehind { .. }),
        "an opened fence was closed again: {error:?}"
    );
    assert!(hand.close(G1, "r1").await.is_err());
}
