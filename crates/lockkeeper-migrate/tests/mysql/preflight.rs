//! What preflight finds, and what the calls say when nobody asked it.

use std::collections::BTreeSet;

use lockkeeper_migrate::db::mysql::MySqlDatabase;
use lockkeeper_migrate::db::{Database, DatabaseOptions, DbError, Finding, FindingLevel, Silent, TakeError};
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_tests::mariadb::MariaDb;

use crate::support::{G1, PATIENCE, SHORT, Target, leader, run};

fn as_user(target: &Target, user: &str) -> MySqlDatabase {
    let dsn = format!("mysql://{user}:pw@127.0.0.1:{}/shop", target.server.port());
    MySqlDatabase::new(&Dsn::parse(&dsn).unwrap(), DatabaseOptions::default())
}

fn errors(findings: &[Finding]) -> BTreeSet<&str> {
    findings
        .iter()
        .filter(|f| f.level == FindingLevel::Error)
        .map(|f| f.code.as_str())
        .collect()
}

fn codes(findings: &[Finding]) -> BTreeSet<&str> {
    findings.iter().map(|f| f.code.as_str()).collect()
}

#[tokio::test]
async fn a_healthy_database_has_no_error() {
    let target = Target::new();
    let findings = target.database.preflight().await.unwrap();
    assert_eq!(errors(&findings), BTreeSet::new(), "{findings:?}");
    assert_eq!(target.sql("SHOW TABLES"), "t", "preflight is read-only");
}

#[tokio::test]
async fn the_binary_log_needs_more_rights_and_the_remedy_helps() {
    let target = Target::on(MariaDb::options().binary_log(), DatabaseOptions::default());
    target.sql("CREATE USER lk@'%' IDENTIFIED BY 'pw'; GRANT ALL ON shop.* TO lk@'%'");
    let database = as_user(&target, "lk");
    let findings = database.preflight().await.unwrap();
    assert_eq!(
        errors(&findings),
        BTreeSet::from(["binlog-trigger"]),
        "{findings:?}"
    );
    let mut hand = database.take(&leader(1), PATIENCE, &Silent).await.unwrap();
    hand.close(G1, "r1").await.unwrap();
    let refused = hand.raise_barrier(SHORT, &Silent).await.unwrap_err();
    let DbError::Permission { remedy, .. } = &refused else {
        panic!("{refused}")
    };
    assert!(
        remedy.contains("SET GLOBAL log_bin_trust_function_creators = 1"),
        "{remedy}"
    );
    target.sql("SET GLOBAL log_bin_trust_function_creators = 1");
    hand.raise_barrier(SHORT, &Silent).await.unwrap();
    assert_eq!(errors(&database.preflight().await.unwrap()), BTreeSet::new());
}

#[tokio::test]
async fn missing_rights_are_named_with_their_grant() {
    let target = Target::new();
    target.sql(
        "CREATE USER lk@'%' IDENTIFIED BY 'pw'; GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO lk@'%'",
    );
    let database = as_user(&target, "lk");
    let findings = database.preflight().await.unwrap();
    let missing = findings.iter().find(|f| f.code == "missing-privilege").unwrap();
    assert_eq!(
        missing.remedy,
        "run `GRANT CREATE, TRIGGER ON `shop`.* TO 'lk'@'%'`"
    );
    assert!(codes(&findings).is_superset(&BTreeSet::from(["cannot-see-sessions", "cannot-end-sessions"])));
    let refused = database.take(&leader(1), PATIENCE, &Silent).await.unwrap_err();
    let TakeError::Db(DbError::Permission { remedy, .. }) = &refused else {
        panic!("{refused}")
    };
    assert!(remedy.contains("CREATE"), "{remedy}");
    target.sql("GRANT CREATE, TRIGGER ON `shop`.* TO 'lk'@'%'");
    assert_eq!(errors(&database.preflight().await.unwrap()), BTreeSet::new());
    // One role ends its own older session without any global right.
    let mut old = database.take(&leader(1), PATIENCE, &Silent).await.unwrap();
    database.take(&leader(2), PATIENCE, &Silent).await.unwrap();
    assert!(old.scalar("SELECT 1").await.is_err());
}

#[tokio::test]
async fn what_the_barrier_cannot_cover_is_found() {
    let target = Target::new();
    target.sql(
        "CREATE DATABASE other; CREATE TABLE other.parent (id INT PRIMARY KEY); \
         CREATE TABLE child (p INT, CONSTRAINT fk FOREIGN KEY (p) REFERENCES other.parent (id) ON DELETE CASCADE); \
         CREATE TABLE plain (p INT, CONSTRAINT fk2 FOREIGN KEY (p) REFERENCES other.parent (id)); \
         CREATE TABLE old (a INT) ENGINE = MyISAM; CREATE SEQUENCE numbers",
    );
    let mut app = target.app().await;
    run(
        &mut app,
        "XA START 'pay'; INSERT INTO t VALUES (100, 1); XA END 'pay'; XA PREPARE 'pay'",
    )
    .await
    .unwrap();
    let findings = target.database.preflight().await.unwrap();
    assert_eq!(
        errors(&findings),
        BTreeSet::from(["incoming-foreign-key"]),
        "{findings:?}"
    );
    assert_eq!(
        findings
            .iter()
            .filter(|f| f.code == "incoming-foreign-key")
            .count(),
        1
    );
    assert!(codes(&findings).is_superset(&BTreeSet::from([
        "not-transactional",
        "sequence",
        "prepared-transaction"
    ])));
    target.sql("SET GLOBAL read_only = 1");
    assert!(errors(&target.database.preflight().await.unwrap()).contains("read-only"));
}

#[tokio::test]
async fn a_replica_is_refused() {
    let target = Target::new();
    target.sql("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USER = 'nobody'");
    assert_eq!(
        errors(&target.database.preflight().await.unwrap()),
        BTreeSet::from(["replica"])
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_so_without_the_password() {
    let dsn = Dsn::parse("mysql://u:hunter2@127.0.0.1:1/shop").unwrap();
    let error = MySqlDatabase::new(&dsn, DatabaseOptions::default())
        .inspect()
        .await
        .unwrap_err();
    assert!(matches!(error, DbError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("mysql://127.0.0.1:1/shop"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let odd = Dsn::parse("mysql://u@127.0.0.1:1/shop?tls=maybe").unwrap();
    let error = MySqlDatabase::new(&odd, DatabaseOptions::default())
        .inspect()
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("ssl-mode \"maybe\" is unknown"),
        "{error}"
    );
    let wrong = Target::new();
    let database = as_user(&wrong, "stranger");
    assert!(matches!(
        database.inspect().await,
        Err(DbError::Unreachable { .. })
    ));
}
