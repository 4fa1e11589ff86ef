//! Every coordinator and the store are lost for ten lease lengths, with the gates open and writers at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockkeeper_agent::sqlx::Gated;
use lockkeeper_agent::{Agent, AgentBuilder, AgentError, Cause, OnLoss, VersionOrder, WriteError};
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
use lockkeeper_tests::mariadb::MariaDb;
use lockkeeper_tests::postgres::Postgres;
use serde_json::json;
use sqlx::{AssertSqlSafe, MySqlPool, PgPool, Pool, SqlitePool, raw_sql};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::fleet::{Fleet, READY_LIMIT, TargetDeclaration};
use crate::small::{ROLLOUT_LIMIT, write_files};

/// Of [`Fleet`]'s coordinators.
const WRITE_LEASE: Duration = Duration::from_millis(2500);

const LOST_FOR: Duration = Duration::from_millis(25_000);

/// A pause of a writer that a loaded machine explains. A lease's end would be a pause until the end of the loss.
const PAUSE_MAX: Duration = Duration::from_secs(2);

const FILES: [(&str, &str); 4] = [
    ("1_init.up.sql", "CREATE TABLE writes (id BIGINT NOT NULL);"),
    ("1_init.down.sql", "DROP TABLE writes;"),
    ("2_more.up.sql", "ALTER TABLE writes ADD COLUMN note VARCHAR(20);"),
    ("2_more.down.sql", "ALTER TABLE writes DROP COLUMN note;"),
];

/// One writer that inserts 1, 2, 3, … as fast as every 20 ms.
struct Writer {
    agent: Agent,
    acked: Arc<AtomicU64>,
    longest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
}

trait Inserts: Gated {
    async fn insert(conn: &mut Self::Connection, id: u64) -> Result<(), sqlx::Error>;
}

macro_rules! inserts {
    ($($db:ty),*) => {$(
        impl Inserts for $db {
            async fn insert(conn: &mut Self::Connection, id: u64) -> Result<(), sqlx::Error> {
                let sql = format!("INSERT INTO writes (id) VALUES ({id})");
                raw_sql(AssertSqlSafe(sql)).execute(conn).await.map(drop)
            }
        }
    )*};
}
inserts!(sqlx::Postgres, sqlx::MySql, sqlx::Sqlite);

macro_rules! start_writer {
    ($db:ty, $agent:expr, $target:expr, $pool:expr) => {{
        let (agent, target, pool): (Agent, String, Pool<$db>) = ($agent, $target.to_owned(), $pool.clone());
        let (acked, longest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let (writer, done, pause, ended) = (
            agent.clone(),
            Arc::clone(&acked),
            Arc::clone(&longest),
            Arc::clone(&stop),
        );
        let task = tokio::spawn(async move {
            let mut last = Instant::now();
            let mut id = 0;
            while !ended.load(Ordering::Relaxed) {
                id += 1;
                writer
                    .transaction::<$db, (), sqlx::Error, _>(&target, &pool, |tx| {
                        Box::pin(<$db as Inserts>::insert(tx, id))
                    })
                    .await?;
                done.store(id, Ordering::Relaxed);
                let paused = last.elapsed().as_millis() as u64;
                pause.fetch_max(paused, Ordering::Relaxed);
                last = Instant::now();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        });
        Writer {
            agent,
            acked,
            longest,
            stop,
            task,
        }
    }};
}

impl Writer {
    fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// The longest pause since the last time this was asked.
    fn take_pause(&self) -> Duration {
        Duration::from_millis(self.longest.swap(0, Ordering::Relaxed))
    }

    async fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await??;
        Ok(self.acked.load(Ordering::Relaxed))
    }
}

fn agent(fleet: &Fleet, replica: &str, target: &str) -> AgentBuilder {
    Agent::builder()
        .service("shop")
        .replica(replica)
        .region("eu")
        .coordinators(fleet.addresses())
        .target(target, "1"..="2")
}

struct Scene {
    etcd: EtcdCluster,
    fleet: Fleet,
    postgres: PgPool,
    mariadb: MySqlPool,
    sqlite: SqlitePool,
    _servers: (Postgres, MariaDb, tempfile::TempDir),
}

const TARGETS: [(&str, &str); 3] = [("a", "barrier"), ("b", "epoch"), ("c", "cooperative")];

impl Scene {
    async fn set() -> Result<Scene> {
        let etcd = EtcdCluster::start(1, EtcdRelease::V3_4)?;
        let fleet = Fleet::start(&etcd.store_url(), &["eu", "eu"])?;
        let (postgres, mariadb, folder) = (Postgres::start()?, MariaDb::start()?, tempfile::tempdir()?);
        let migrations = folder.path().join("migrations");
        write_files(&migrations, &FILES)?;
        let file = folder.path().join("shop.db");
        std::fs::write(&file, "")?;
        let dsns = [
            postgres.create_database("shop")?,
            mariadb.create_database("shop")?,
            format!("sqlite://{}", file.display()),
        ];
        let declared: Vec<_> = TARGETS
            .iter()
            .zip(&dsns)
            .map(|((region, strength), dsn)| TargetDeclaration {
                more: json!({"strength": strength}),
                ..TargetDeclaration::new("shop", region, dsn, &migrations)
            })
            .collect();
        fleet.declare(&declared)?;
        roll_out(&fleet, "tables", "1")?;
        Ok(Scene {
            etcd,
            fleet,
            postgres: PgPool::connect(&dsns[0]).await?,
            mariadb: MySqlPool::connect(&dsns[1]).await?,
            sqlite: SqlitePool::connect(&dsns[2]).await?,
            _servers: (postgres, mariadb, folder),
        })
    }

    async fn run(&mut self) -> Result<()> {
        let on = |fleet: &Fleet, replica: &str, target: &str| {
            agent(fleet, replica, target)
                .on_loss(target, OnLoss::GoOn)
                .build()
        };
        let barrier = start_writer!(
            sqlx::Postgres,
            on(&self.fleet, "a-1", "shop/a")?,
            "shop/a",
            self.postgres
        );
        let epoch = start_writer!(
            sqlx::MySql,
            on(&self.fleet, "b-1", "shop/b")?,
            "shop/b",
            self.mariadb
        );
        let leased = agent(&self.fleet, "c-1", "shop/c")
            .write_timeout(Duration::from_secs(1))
            .build()?;
        let cooperative = start_writer!(sqlx::Sqlite, leased.clone(), "shop/c", self.sqlite);
        for writer in [&barrier, &epoch, &cooperative] {
            soon(writer.agent.register_and_wait()).await??;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        for writer in [&barrier, &epoch] {
            writer.take_pause();
        }

        for index in 0..2 {
            self.fleet.kill(index)?;
        }
        self.etcd.member(0)?.kill()?;
        let lost_at = Instant::now();
        // A replica that starts in the middle of it.
        let fresh =
            agent(&self.fleet, "b-2", "shop/b").gate_row("shop/b", VersionOrder::Numeric, &self.mariadb);
        let fresh = start_writer!(sqlx::MySql, fresh.build()?, "shop/b", self.mariadb);
        soon(fresh.agent.register_and_wait())
            .await
            .context("a start without a coordinator")??;
        tokio::time::sleep((WRITE_LEASE + Duration::from_secs(1)).saturating_sub(lost_at.elapsed())).await;
        let stopped = leased
            .try_write("shop/c")
            .err()
            .context("a permit after the lease")?;
        ensure!(stopped.cause == Cause::LeaseExpired, "{stopped}");
        tokio::time::sleep(LOST_FOR.saturating_sub(lost_at.elapsed())).await;

        for (writer, name) in [(&barrier, "barrier"), (&epoch, "epoch"), (&fresh, "fresh")] {
            let pause = writer.take_pause();
            ensure!(!writer.task.is_finished(), "{name}: the writer saw an error");
            ensure!(pause < PAUSE_MAX, "{name}: paused for {pause:?}");
            ensure!(writer.acked() > 100, "{name}: {} writes", writer.acked());
        }
        // Cooperative: stopped by the lease, and it said so.
        let Writer { task, .. } = cooperative;
        let error = soon(task)
            .await??
            .err()
            .context("the cooperative writer went on")?;
        let error = error
            .downcast_ref::<WriteError<sqlx::Error>>()
            .context("another error")?;
        ensure!(
            matches!(
                error,
                WriteError::Agent(AgentError::TimedOut { .. }) | WriteError::DeadlinePassed
            ),
            "{error}"
        );
        ensure!(error.to_string().contains("lease"), "{error}");

        self.etcd.member(0)?.start_again()?;
        self.etcd.wait_healthy(READY_LIMIT)?;
        for index in 0..2 {
            self.fleet.start_again(index)?;
        }
        self.fleet.wait_for_leader()?;
        // A rollout that begins while agents still come back.
        roll_out(&self.fleet, "more", "2")?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let acked = [barrier.end().await?, epoch.end().await?, fresh.end().await?];
        self.check(acked).await
    }

    /// Every acknowledged write is there, once, and no other.
    async fn check(&self, [barrier, epoch, fresh]: [u64; 3]) -> Result<()> {
        let count = "SELECT CAST(count(*) AS CHAR(20)) FROM writes";
        let of_a: String = sqlx::query_scalar(count).fetch_one(&self.postgres).await?;
        let of_b: String = sqlx::query_scalar(count).fetch_one(&self.mariadb).await?;
        ensure!(
            of_a.trim() == barrier.to_string(),
            "{barrier} acked, {of_a} found"
        );
        ensure!(
            of_b == (epoch + fresh).to_string(),
            "{epoch} and {fresh} acked, {of_b} found"
        );
        Ok(())
    }
}

fn roll_out(fleet: &Fleet, id: &str, to: &str) -> Result<()> {
    let more = json!({"require_strength": "cooperative", "waves": [{"regions": ["a", "b", "c"]}]});
    fleet.create_rollout(id, "shop", to, &[], &more)?;
    let rollout = fleet.wait_for_rollout(id, ROLLOUT_LIMIT)?;
    ensure!(rollout["state"] == "DONE", "{rollout:#}");
    Ok(())
}

async fn soon<T>(future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .context("waited in vain")
}

#[test]
fn losing_every_coordinator_stops_no_writer_behind_a_barrier() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut scene = Scene::set().await?;
        let outcome = scene.run().await;
        outcome.with_context(|| scene.fleet.logs(15))
    })
}
