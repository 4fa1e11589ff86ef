//! The harness itself: each server starts, answers, and comes back after it was killed.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
use lockkeeper_tests::grpcurl::Grpcurl;
use lockkeeper_tests::mariadb::MariaDb;
use lockkeeper_tests::ports::Port;
use lockkeeper_tests::postgres::Postgres;
use lockkeeper_tests::process::{Process, ProcessSpec};
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

#[test]
fn grpcurl_says_what_failed() -> Result<()> {
    let port = Port::reserve()?;
    let error = Grpcurl::new(port.address())
        .services()
        .expect_err("nothing listens there");
    assert!(error.to_string().contains("connection refused"), "{error}");
    Ok(())
}

#[test]
fn a_paused_process_goes_on_and_a_dropped_one_is_gone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let spec = ProcessSpec::new("/bin/sh", folder.path().join("log")).args([
        "-c",
        "trap 'echo got it; exit 7' TERM; echo up; while :; do sleep 0.02; done",
    ]);
    let mut process = Process::spawn(spec.clone())?;
    process.wait_ready(LIMIT, |process| process.log().contains("up").then_some(()))?;
    process.pause()?;
    assert!(
        process.terminate(Duration::from_millis(200)).is_err(),
        "a frozen process cannot react"
    );
    process.resume()?;
    assert_eq!(process.wait(LIMIT)?.code(), Some(7));
    assert!(process.log().contains("got it"));

    let process = Process::spawn(spec)?;
    let entry = std::path::PathBuf::from(format!("/proc/{}", process.pid()));
    assert!(entry.exists());
    drop(process);
    assert!(!entry.exists());
    Ok(())
}

#[test]
fn a_process_that_ends_early_shows_its_log() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let spec =
        ProcessSpec::new("/bin/sh", folder.path().join("log")).args(["-c", "echo bad flag >&2; exit 2"]);
    let error = Process::spawn(spec)?
        .wait_ready(LIMIT, |_| None::<()>)
        .expect_err("it has ended");
    let text = format!("{error:#}");
    assert!(
        text.contains("bad flag") && text.contains("exit status: 2"),
        "{text}"
    );
    Ok(())
}

#[test]
fn no_port_is_given_twice() -> Result<()> {
    let reserve = || {
        // The same seed proposes the same numbers again.
        fastrand::seed(1);
        (0..5).map(|_| Port::reserve()).collect::<Result<Vec<_>>>()
    };
    let (first, second) = (reserve()?, reserve()?);
    let numbers: HashSet<u16> = first.iter().chain(&second).map(Port::number).collect();
    assert_eq!(numbers.len(), 10);
    Ok(())
}
