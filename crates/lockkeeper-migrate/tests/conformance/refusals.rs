//! What cannot work says so clearly, and without secrets.

use std::time::Duration;

use lockkeeper_migrate::db::{DatabaseOptions, DbError, Silent, TakeError, open};
use lockkeeper_migrate::dsn::Dsn;

use crate::fixture::Fixture;
use crate::support::{PATIENCE, leader};

pub(crate) async fn an_unreachable_server_is_named_without_secrets(fixture: &impl Fixture) {
    let (dsn, secret) = fixture.unreachable_dsn();
    check(&dsn, secret).await;
}

pub(crate) async fn a_wrong_login_is_named_without_secrets(fixture: &impl Fixture) {
    if let Some((dsn, secret)) = fixture.refused_dsn() {
        check(&dsn, secret).await;
    }
}

async fn check(dsn: &str, secret: &str) {
    let dsn = Dsn::parse(dsn).unwrap();
    let options = DatabaseOptions {
        connect_timeout: Duration::from_secs(3),
        ..DatabaseOptions::default()
    };
    let database = open(&dsn, options);
    let error = database.take(&leader(1), PATIENCE, &Silent).await.unwrap_err();
    let TakeError::Db(DbError::Unreachable { place, reason }) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*place, dsn.place());
    assert!(!reason.is_empty());
    let shown = format!("{error} {error:?} {database:?} {dsn} {dsn:?}");
    assert!(!shown.contains(secret), "{shown}");
    assert!(database.inspect().await.is_err());
    assert!(database.preflight().await.is_err());
}
