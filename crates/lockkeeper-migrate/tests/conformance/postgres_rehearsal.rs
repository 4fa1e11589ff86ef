//! What a rehearsal needs of a PostgreSQL role.

use std::time::Duration;

use lockkeeper_migrate::db::scratch::{Look, ScratchName, scratch_server};
use lockkeeper_migrate::db::{Blocks, DatabaseOptions, Evidence};
use lockkeeper_migrate::dsn::Dsn;

use crate::fixture::{AppSession, Fixture};
use crate::postgres::PostgresFixture;
use crate::rehearsal::{Rehearsing, make};

pub(crate) async fn a_role_that_may_not_make_databases_gets_the_statement(fixture: &PostgresFixture) {
    let mut admin = fixture.admin().await;
    admin
        .execute("CREATE ROLE plain LOGIN PASSWORD 'p'")
        .await
        .unwrap();
    let place = fixture.dsn().rsplit_once('@').unwrap().1.to_owned();
    let dsn = Dsn::parse(&format!("postgres://plain:p@{place}")).unwrap();
    let mut server = scratch_server(&dsn, &DatabaseOptions::default()).await.unwrap();
    let name = ScratchName::random();
    let error = server
        .create(&name, &Look::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("ALTER ROLE \"plain\" CREATEDB"), "{error}");
    assert!(server.sweep(Duration::ZERO).await.is_ok());
}

pub(crate) async fn an_index_built_concurrently_is_measured(fixture: &PostgresFixture) {
    make(fixture, &["CREATE TABLE t (a INT)"]).await;
    let scripts = [(
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "DROP INDEX CONCURRENTLY i",
    )];
    let report = Rehearsing::new(fixture, &scripts).run().await.unwrap();
    assert!(report.passed(), "{report:#?}");
    let lock = &report.migrations[0].up.statements[0].locks[0];
    assert_eq!(lock.mode, "ShareUpdateExclusiveLock");
    assert_eq!(lock.blocks, Blocks::SchemaChanges);
    assert_ne!(lock.evidence, Evidence::Seen);
}
