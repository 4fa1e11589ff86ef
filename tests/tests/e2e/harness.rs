//! The harness itself: each server starts, answers, and comes back after it was killed.

use std::time::Duration;

use anyhow::Result;
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
use lockkeeper_tests::mariadb::MariaDb;
use lockkeeper_tests::postgres::Postgres;
use sqlx::{Connection, MySqlConnection, PgConnection};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn etcd_3_4_keeps_a_key() -> Result<()> {
    put_and_get(&EtcdCluster::start(1, EtcdRelease::V3_4)?)
}

#[test]
fn etcd_3_5_goes_on_without_its_leader() -> Result<()> {
    let mut cluster = EtcdCluster::start(3, EtcdRelease::V3_5)?;
    let first = cluster.leader()?;
    cluster.member(first)?.kill()?;
    lockkeeper_tests::wait::until("another leader", LIMIT, || {
        let others: Vec<String> = cluster.endpoints();
        let survivor = &others[(first + 1) % others.len()];
        Ok(cluster.etcdctl(&["--endpoints", survivor, "put", "k", "v"]).ok())
    })?;
    cluster.member(first)?.start_again()?;
    cluster.wait_healthy(LIMIT)?;
    put_and_get(&cluster)
}

fn put_and_get(cluster: &EtcdCluster) -> Result<()> {
    cluster.etcdctl(&["put", "gate", "closed"])?;
    assert_eq!(
        cluster.etcdctl(&["get", "gate", "--print-value-only"])?.trim(),
        "closed"
    );
    Ok(())
}

#[tokio::test]
async fn postgres_answers_and_survives_a_crash() -> Result<()> {
    let mut server = Postgres::start()?;
    server.create_database("kratos")?;
    let mut connection = PgConnection::connect(&server.app_dsn("kratos")).await?;
    let super_user: String = sqlx::query_scalar("SELECT current_setting('is_superuser')")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(super_user, "off");
    sqlx::query("CREATE TABLE t (id int)")
        .execute(&mut connection)
        .await?;
    server.crash()?;
    assert!(sqlx::query("SELECT 1").execute(&mut connection).await.is_err());
    server.start_again()?;
    assert_eq!(server.sql("kratos", "SELECT count(*) FROM t")?, "0");
    Ok(())
}

#[test]
fn postgres_servers_have_an_identity_of_their_own_when_asked() -> Result<()> {
    let sql = "SELECT system_identifier FROM pg_control_system()";
    let first = Postgres::options().own_identity().start()?.sql("postgres", sql)?;
    let second = Postgres::start()?.sql("postgres", sql)?;
    assert_ne!(first, second);
    Ok(())
}

#[tokio::test]
async fn mariadb_answers_and_survives_a_crash() -> Result<()> {
    let mut server = MariaDb::start()?;
    let dsn = server.create_database("kratos")?;
    let mut connection = MySqlConnection::connect(&dsn).await?;
    sqlx::query("CREATE TABLE t (id int)")
        .execute(&mut connection)
        .await?;
    let mut app = MySqlConnection::connect(&server.app_dsn("kratos")).await?;
    sqlx::query("INSERT INTO t VALUES (1)").execute(&mut app).await?;
    server.crash()?;
    assert!(sqlx::query("SELECT 1").execute(&mut app).await.is_err());
    server.start_again()?;
    assert_eq!(server.sql("kratos", "SELECT count(*) FROM t")?, "1");
    Ok(())
}

#[test]
fn mariadb_has_a_binary_log_when_asked() -> Result<()> {
    let server = MariaDb::options().binary_log().start()?;
    assert_eq!(server.sql("", "SELECT @@log_bin")?, "1");
    Ok(())
}
