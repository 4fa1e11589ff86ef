//! What the adapter costs: bare sqlx and the adapter in alternation, on the same server, pool and rows.
//!
//! `make bench-adapter`, or with settings: `MILLIS=2000 ROUNDS=5 WORKERS=8 cargo run --release -p lockkeeper-agent
//! --features sqlx --example bench-adapter`. One JSON object a line, on standard output and in
//! `target/bench/adapter.json`; `ratio` is the adapter's time per transaction over bare sqlx's.

use std::fs::{File, create_dir_all};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockkeeper_agent::{Agent, VersionOrder};
use lockkeeper_core::strength::Strength;
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_tests::mariadb::MariaDb;
use lockkeeper_tests::postgres::Postgres;
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::time::Instant;

#[path = "../tests/adapter/keeper.rs"]
#[expect(clippy::unwrap_used, reason = "it is the tests', which fail by panicking")]
mod keeper;

type Failed = Box<dyn std::error::Error + Send + Sync>;

const TARGET: &str = "shop/local";
const ROWS: i64 = 10_000;

/// How long, how often, and by how many at once.
#[derive(Debug, Clone, Copy)]
struct Settings {
    round: Duration,
    rounds: usize,
    workers: usize,
}

impl Settings {
    fn read() -> Self {
        let number = |name: &str, default: u64| {
            let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
            given.unwrap_or(default)
        };
        Self {
            round: Duration::from_millis(number("MILLIS", 2000)),
            rounds: number("ROUNDS", 5) as usize,
            workers: number("WORKERS", 8) as usize,
        }
    }
}

/// One way to run one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bare,
    Adapter,
}

/// An application's transaction, bare and through the adapter.
trait Subject: Clone + Send + Sync + 'static {
    fn once(&self, form: Form, row: i64) -> impl Future<Output = Result<(), Failed>> + Send;
}

#[derive(Clone)]
struct PgTransaction(Agent, PgPool);
#[derive(Clone)]
struct PgStatement(Agent, PgPool);
#[derive(Clone)]
struct MySqlTransaction(Agent, MySqlPool);

const PG_UPDATE: &str = "UPDATE stock SET left_over = left_over - 1 WHERE item = $1";
const MYSQL_UPDATE: &str = "UPDATE stock SET left_over = left_over - 1 WHERE item = ?";

impl Subject for PgTransaction {
    async fn once(&self, form: Form, row: i64) -> Result<(), Failed> {
        let Self(agent, pool) = self;
        match form {
            Form::Bare => {
                let mut tx = pool.begin().await?;
                sqlx::query(PG_UPDATE).bind(row).execute(&mut *tx).await?;
                tx.commit().await?;
            }
            Form::Adapter => {
                let mut tx = agent.begin(TARGET, pool).await?;
                sqlx::query(PG_UPDATE).bind(row).execute(&mut *tx).await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }
}

impl Subject for PgStatement {
    async fn once(&self, form: Form, row: i64) -> Result<(), Failed> {
        let Self(agent, pool) = self;
        match form {
            Form::Bare => {
                sqlx::query(PG_UPDATE).bind(row).execute(pool).await?;
            }
            Form::Adapter => {
                agent
                    .execute(TARGET, pool, PG_UPDATE, |query| query.bind(row))
                    .await?;
            }
        }
        Ok(())
    }
}

impl Subject for MySqlTransaction {
    async fn once(&self, form: Form, row: i64) -> Result<(), Failed> {
        let Self(agent, pool) = self;
        match form {
            Form::Bare => {
                let mut tx = pool.begin().await?;
                sqlx::query(MYSQL_UPDATE).bind(row).execute(&mut *tx).await?;
                tx.commit().await?;
            }
            Form::Adapter => {
                let mut tx = agent.begin(TARGET, pool).await?;
                sqlx::query(MYSQL_UPDATE).bind(row).execute(&mut *tx).await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }
}

/// Mean time per transaction, in microseconds, of one round.
async fn round<S: Subject>(subject: &S, form: Form, settings: Settings) -> Result<f64, Failed> {
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let workers = (0..settings.workers).map(|_| {
        let (subject, done) = (subject.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            while started.elapsed() < settings.round {
                subject.once(form, fastrand::i64(0..ROWS)).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Failed>(())
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    let transactions = done.load(Ordering::Relaxed).max(1);
    Ok(started.elapsed().as_secs_f64() * 1e6 / transactions as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn compare<S: Subject>(
    name: &str,
    subject: &S,
    settings: Settings,
    out: &mut File,
) -> Result<(), Failed> {
    for form in [Form::Bare, Form::Adapter] {
        round(subject, form, settings).await?;
    }
    let (mut bare, mut adapter) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        bare.push(round(subject, Form::Bare, settings).await?);
        adapter.push(round(subject, Form::Adapter, settings).await?);
    }
    let (bare, adapter) = (median(bare), median(adapter));
    let line = serde_json::json!({
        "name": name, "value": adapter, "unit": "us/transaction", "baseline": bare, "ratio": adapter / bare,
        "settings": {"workers": settings.workers, "rounds": settings.rounds, "round_ms": settings.round.as_millis() as u64},
    });
    println!("{line}");
    writeln!(out, "{line}")?;
    Ok(())
}

/// Opens the gate at the strength, and gives an agent that needs no coordinator.
async fn agent<DB: lockkeeper_agent::sqlx::Gated>(
    dsn: &str,
    strength: Strength,
    epoch: u64,
    pool: &sqlx::Pool<DB>,
) -> Result<Agent, Failed> {
    let mut keeper = keeper::Keeper::take(&Dsn::parse(dsn)?, strength).await;
    keeper.turn(epoch).await;
    let agent = Agent::builder()
        .service("shop")
        .replica("bench")
        .region("local")
        .coordinators(["127.0.0.1:1"])
        .target(TARGET, ..)
        .gate_row(TARGET, VersionOrder::Numeric, pool)
        .build()?;
    agent.register_and_wait().await?;
    Ok(agent)
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let settings = Settings::read();
    create_dir_all("target/bench")?;
    let mut out = File::create("target/bench/adapter.json")?;
    let (postgres, mariadb) = (Postgres::start()?, MariaDb::start()?);
    let (pg_dsn, my_dsn) = (
        postgres.create_database("shop")?,
        mariadb.create_database("shop")?,
    );
    let table = "CREATE TABLE stock (item BIGINT PRIMARY KEY, left_over BIGINT NOT NULL)";
    postgres.sql(
        "shop",
        &format!(
            "{table}; INSERT INTO stock SELECT n, 1000000 FROM generate_series(0, {}) n",
            ROWS - 1
        ),
    )?;
    mariadb.sql(
        "shop",
        &format!(
            "{table}; INSERT INTO stock SELECT seq, 1000000 FROM seq_0_to_{}",
            ROWS - 1
        ),
    )?;
    let connections = u32::try_from(settings.workers)?;
    let pg = PgPoolOptions::new()
        .max_connections(connections)
        .connect(&pg_dsn)
        .await?;
    let my = MySqlPoolOptions::new()
        .max_connections(connections)
        .connect(&my_dsn)
        .await?;
    for (epoch, strength) in [(1, Strength::Barrier), (2, Strength::Epoch)] {
        let of_pg = agent(&pg_dsn, strength, epoch, &pg).await?;
        let of_my = agent(&my_dsn, strength, epoch, &my).await?;
        let name = |form: &str| format!("adapter/{form}/{strength}");
        let transaction = PgTransaction(of_pg.clone(), pg.clone());
        compare(&name("postgresql-transaction"), &transaction, settings, &mut out).await?;
        let statement = PgStatement(of_pg, pg.clone());
        compare(&name("postgresql-statement"), &statement, settings, &mut out).await?;
        let transaction = MySqlTransaction(of_my, my.clone());
        compare(&name("mariadb-transaction"), &transaction, settings, &mut out).await?;
    }
    Ok(())
}
