//! Restores that fail in the middle, on the dialects that differ in what that leaves.

use lockkeeper_migrate::backup::RemainingState;
use lockkeeper_migrate::db::{Silent, TakeError};

use crate::backups::{Desk, migrated};
use crate::doctor::{examine, finding};
use crate::fixture::{AppSession, Fixture};
use crate::mariadb::MariaDbFixture;
use crate::postgres::PostgresFixture;
use crate::support::{PATIENCE, standalone};

/// The archive holds a table of a role that the restoring one may not act for: its script stops there.
pub(crate) async fn on_postgres_everything_is_rolled_back(fixture: &PostgresFixture) {
    migrated(fixture).await;
    let mut admin = fixture.admin().await;
    admin.execute("CREATE TABLE zz_foreign (a INT)").await.unwrap();
    let admins = Desk::of(&fixture.server.dsn(&fixture.name));
    let file = admins.file().await;
    admin.execute("DROP TABLE zz_foreign").await.unwrap();
    let desk = Desk::of(&fixture.dsn());
    let error = desk.restore(&file).await.unwrap_err();
    assert_eq!(error.state, RemainingState::Untouched, "{error}");
    assert!(
        error.to_string().ends_with("; the database is as it was"),
        "{error}"
    );
    let mut app = fixture.session().await;
    assert_eq!(
        app.scalar("SELECT count(*) FROM t").await.unwrap().as_deref(),
        Some("3")
    );
    let database = fixture.database();
    database
        .take(&standalone("next"), PATIENCE, &Silent)
        .await
        .unwrap();
}

/// A statement that fails stands near the dump's end.
pub(crate) async fn on_mariadb_the_gate_stays_closed_until_it_is_repeated(fixture: &MariaDbFixture) {
    migrated(fixture).await;
    let desk = Desk::of(&fixture.dsn());
    let file = desk.file().await;
    let dump = std::fs::read_to_string(&file).unwrap();
    let broken = file.with_extension("broken.sql");
    let end = "\n-- Dump completed";
    std::fs::write(
        &broken,
        dump.replace(end, &format!("\nINSERT INTO nowhere VALUES (1);{end}")),
    )
    .unwrap();
    let error = desk.restore(&broken).await.unwrap_err();
    assert_eq!(error.state, RemainingState::Partial, "{error}");
    let database = fixture.database();
    let refused = database
        .take(&standalone("next"), PATIENCE, &Silent)
        .await
        .unwrap_err();
    assert!(matches!(refused, TakeError::GateClosed { .. }), "{refused:?}");
    assert!(finding(&examine(&fixture.dsn()).await, "restore-cut-off").is_some());

    desk.restore(&file).await.unwrap();
    let row = database.inspect().await.unwrap().gate_row.unwrap();
    assert!(!row.is_closed() && row.executor.is_none(), "{row:?}");
    database
        .take(&standalone("next"), PATIENCE, &Silent)
        .await
        .unwrap();
}
