//! What PostgreSQL's preflight finds, and how a target of the wrong shape is refused.

use std::time::Duration;

use lockkeeper_migrate::db::{DatabaseOptions, DbError, FindingLevel, Silent, TakeError, open};
use lockkeeper_migrate::dsn::Dsn;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::fixture::{AppSession, Fixture};
use crate::postgres::PostgresFixture;
use crate::support::{G1, PATIENCE, epoch, fenced, leader, standalone, take};

const ONE_TABLE: &str = "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)";

pub(crate) async fn a_table_of_another_role_is_named_with_its_remedy(fixture: &PostgresFixture) {
    fixture
        .admin()
        .await
        .execute("CREATE TABLE theirs (a INT)")
        .await
        .unwrap();
    let database = fixture.database();
    let findings = database.preflight().await.unwrap();
    let found = findings.iter().find(|f| f.code == "not-owner").unwrap();
    assert_eq!(found.level, FindingLevel::Error);
    assert!(
        found
            .remedy
            .contains("ALTER TABLE \"public\".\"theirs\" OWNER TO \"app\""),
        "{}",
        found.remedy
    );
    let mut hand = take(&*database, &leader(1)).await;
    hand.close(G1, "r1").await.unwrap();
    let error = hand.raise_barrier(PATIENCE, &Silent).await.unwrap_err();
    assert!(
        matches!(&error, DbError::Permission { .. }) && error.to_string().contains("public.theirs"),
        "{error:?}"
    );
}

pub(crate) async fn preflight_names_what_stops_a_fence(fixture: &PostgresFixture) {
    let database = fixture.database();
    assert!(database.preflight().await.unwrap().is_empty());
    let mut admin = fixture.admin().await;
    admin
        .execute(
            "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; \
             CREATE FOREIGN TABLE remote (a INT) SERVER far",
        )
        .await
        .unwrap();
    admin
        .execute("CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)")
        .await
        .unwrap();
    admin.execute("ALTER SUBSCRIPTION feed ENABLE").await.unwrap();
    admin
        .execute("REVOKE CREATE ON SCHEMA public FROM app; ALTER SCHEMA public OWNER TO postgres")
        .await
        .unwrap();
    let findings = database.preflight().await.unwrap();
    let level = |code: &str| findings.iter().find(|f| f.code == code).map(|f| f.level);
    assert_eq!(
        level("foreign-table"),
        Some(FindingLevel::Warning),
        "{findings:?}"
    );
    assert_eq!(level("subscription"), Some(FindingLevel::Error), "{findings:?}");
    assert_eq!(level("no-create"), Some(FindingLevel::Error), "{findings:?}");
    assert_eq!(
        level("cannot-end"),
        Some(FindingLevel::Warning),
        "a superuser is connected: {findings:?}"
    );
    admin.execute("ALTER SUBSCRIPTION feed DISABLE").await.unwrap();
    admin
        .execute("ALTER SUBSCRIPTION feed SET (slot_name = NONE)")
        .await
        .unwrap();
    admin.execute("DROP SUBSCRIPTION feed").await.unwrap();
}

pub(crate) async fn a_role_without_create_gets_the_grant(fixture: &PostgresFixture) {
    fixture
        .admin()
        .await
        .execute("ALTER SCHEMA public OWNER TO postgres")
        .await
        .unwrap();
    let error = fixture
        .database()
        .take(&standalone("x"), PATIENCE, &Silent)
        .await
        .unwrap_err();
    let TakeError::Db(DbError::Permission { remedy, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(remedy, "GRANT CREATE, USAGE ON SCHEMA \"public\" TO \"app\"");
    assert!(!error.to_string().contains("app-secret"));
}

pub(crate) async fn a_foreign_table_of_our_name_is_not_touched(fixture: &PostgresFixture) {
    fixture
        .app()
        .await
        .execute("CREATE TABLE lockkeeper_gate (x INT); CREATE TABLE lockkeeper_ledger (x INT)")
        .await
        .unwrap();
    let error = fixture
        .database()
        .take(&leader(1), PATIENCE, &Silent)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, TakeError::Db(DbError::ForeignTable { .. })),
        "{error:?}"
    );
    let found = fixture
        .app()
        .await
        .scalar("SELECT to_regclass('lockkeeper_journal')")
        .await
        .unwrap();
    assert_eq!(found, None, "tables were made beside a foreign one");
}

pub(crate) async fn a_database_made_from_a_closed_one_is_told(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    drop(app);
    fenced(&*fixture.database()).await.release().await.unwrap();
    let copy = format!("{}_copy", fixture.name);
    let mut admin = fixture.admin().await;
    admin.execute("SELECT 1").await.unwrap();
    drop(admin);
    let mut elsewhere = PostgresFixture {
        server: fixture.server.clone(),
        name: "postgres".to_owned(),
    }
    .admin()
    .await;
    let clone = format!("CREATE DATABASE {copy} TEMPLATE {} OWNER app", fixture.name);
    // A session that was dropped a moment ago may still be on its way out.
    let mut tries = 0;
    while let Err(refusal) = elsewhere.execute(&clone).await {
        tries += 1;
        assert!(tries < 50, "{refusal:?}");
        sleep(Duration::from_millis(50)).await;
    }
    let database = open(
        &Dsn::parse(&fixture.server.app_dsn(&copy)).unwrap(),
        DatabaseOptions::default(),
    );
    let error = database.take(&leader(2), PATIENCE, &Silent).await.unwrap_err();
    assert!(
        matches!(&error, TakeError::Db(DbError::IdentityChanged { .. })),
        "{error:?}"
    );
    let findings = database.preflight().await.unwrap();
    assert!(
        findings
            .iter()
            .any(|f| f.code == "identity-changed" && f.level == FindingLevel::Error),
        "{findings:?}"
    );
}

pub(crate) async fn ten_processes_make_the_tables_at_once(fixture: &PostgresFixture) {
    let mut takers = JoinSet::new();
    for number in 1..=10 {
        let database = fixture.database();
        takers.spawn(async move {
            match database
                .take(&leader(number), Duration::from_secs(60), &Silent)
                .await
            {
                Ok(_) => Ok(()),
                // Ended by a newer one in the middle of its taking, or behind it.
                Err(TakeError::TargetAhead { .. } | TakeError::Db(DbError::ConnectionLost(_))) => Ok(()),
                Err(error) => Err(error),
            }
        });
    }
    while let Some(taken) = takers.join_next().await {
        taken.unwrap().unwrap();
    }
    let row = fixture.database().inspect().await.unwrap().gate_row.unwrap();
    assert_eq!(row.leader_epoch, epoch(10));
}

/// A pooler that is told to ignore what it does not know drops the setting which marks our session.
pub(crate) async fn a_pooler_in_between_is_refused(fixture: &PostgresFixture) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pooled = fixture.dsn().replace(
        &format!(":{}/", fixture.server.port()),
        &format!(":{}/", listener.local_addr().unwrap().port()),
    );
    let server = format!("127.0.0.1:{}", fixture.server.port());
    let proxy = tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            tokio::spawn(forward_without_options(client, server.clone()));
        }
    });
    let database = open(&Dsn::parse(&pooled).unwrap(), DatabaseOptions::default());
    let error = database.take(&leader(1), PATIENCE, &Silent).await.unwrap_err();
    assert!(
        matches!(&error, TakeError::Db(DbError::Unsupported(why)) if why.contains("pooler")),
        "{error:?}"
    );
    let findings = database.preflight().await.unwrap();
    assert_eq!(findings[0].code, "pooler");
    proxy.abort();
    let found = fixture
        .app()
        .await
        .scalar("SELECT to_regclass('lockkeeper_gate')")
        .await
        .unwrap();
    assert_eq!(found, None);
}

async fn forward_without_options(mut client: TcpStream, server: String) {
    let mut upstream = TcpStream::connect(server).await.unwrap();
    let length = client.read_u32().await.unwrap() as usize;
    let mut startup = vec![0; length - 4];
    client.read_exact(&mut startup).await.unwrap();
    let (protocol, rest) = startup.split_at(4);
    let words: Vec<&[u8]> = rest.split(|byte| *byte == 0).collect();
    let kept = words
        .chunks(2)
        .filter(|pair| pair.len() == 2 && !pair[0].is_empty() && pair[0] != b"options");
    let mut message = protocol.to_vec();
    for word in kept.flatten() {
        message.extend_from_slice(word);
        message.push(0);
    }
    message.push(0);
    upstream
        .write_u32(u32::try_from(message.len() + 4).unwrap())
        .await
        .unwrap();
    upstream.write_all(&message).await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut upstream).await;
}
