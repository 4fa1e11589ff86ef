//! A service replica under load: writes uniquely numbered rows through the agent library, and keeps a record of
//! every write that its database acknowledged. The end-to-end tests start many of them.
//!
//! It takes one argument, its settings as JSON. SIGTERM ends it; it then prints what it saw as JSON.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use lockkeeper_agent::{Agent, OnLoss, Refusal, Refused, WriteError};
use serde::Deserialize;
use serde_json::json;
use sqlx::{Connection, MySqlConnection, PgConnection};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// How often a lost database is tried again, and the pause between two tries.
const RECONNECTS_MAX: usize = 100;
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// How often the hold's file is looked at.
const HOLD_POLL: Duration = Duration::from_millis(5);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    service: String,
    replica: String,
    region: String,
    target: String,
    dsn: String,
    coordinators: Vec<String>,
    /// Numbers of its writes count up from here.
    first_id: u64,
    /// Pause between two writes.
    pause_ms: u64,
    /// Every acknowledged number, one per line.
    acked: PathBuf,
    /// Every number whose write failed: it may be in the database or not.
    unknown: PathBuf,
    /// Every number whose write the database refused, each time that it did.
    refused: PathBuf,
    /// While this file exists, a writer that has a permit waits before it writes, and makes `holding`.
    hold: PathBuf,
    holding: PathBuf,
}

/// One connection, which both kinds of database are written through.
enum Database {
    Postgres(PgConnection),
    MariaDb(MySqlConnection),
}

impl Database {
    async fn connect(dsn: &str) -> Result<Self, sqlx::Error> {
        if dsn.starts_with("mysql:") {
            Ok(Self::MariaDb(MySqlConnection::connect(dsn).await?))
        } else {
            Ok(Self::Postgres(PgConnection::connect(dsn).await?))
        }
    }

    /// One write transaction. Every other one is explicit: a fence has to cope with both kinds.
    async fn write(&mut self, id: i64) -> Result<(), sqlx::Error> {
        let explicit = id % 2 == 1;
        match self {
            Self::Postgres(connection) => {
                let insert = "INSERT INTO writes (write_id) VALUES ($1)";
                if !explicit {
                    sqlx::query(insert).bind(id).execute(connection).await?;
                    return Ok(());
                }
                let mut transaction = connection.begin().await?;
                match sqlx::query(insert).bind(id).execute(&mut *transaction).await {
                    Ok(_) => transaction.commit().await,
                    Err(error) => {
                        // Dropped, it would be rolled back at the connection's next use only: after the fence.
                        transaction.rollback().await?;
                        Err(error)
                    }
                }
            }
            Self::MariaDb(connection) => {
                let insert = "INSERT INTO writes (write_id) VALUES (?)";
                if !explicit {
                    sqlx::query(insert).bind(id).execute(connection).await?;
                    return Ok(());
                }
                let mut transaction = connection.begin().await?;
                match sqlx::query(insert).bind(id).execute(&mut *transaction).await {
                    Ok(_) => transaction.commit().await,
                    Err(error) => {
                        // Dropped, it would be rolled back at the connection's next use only: after the fence.
                        transaction.rollback().await?;
                        Err(error)
                    }
                }
            }
        }
    }
}

/// What is told in the end.
#[derive(Debug, Default)]
struct Seen {
    acked: u64,
    refused: Cell<u64>,
    errors: Vec<String>,
    longest_pause: Duration,
}

struct Writer {
    settings: Settings,
    agent: Agent,
    database: Mutex<Database>,
    acked: File,
    unknown: File,
    refused: File,
    seen: Seen,
    last_ack: Instant,
}

impl Writer {
    async fn start(settings: Settings, agent: Agent) -> Result<Self> {
        let append = |path: &PathBuf| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("open {}", path.display()))
        };
        Ok(Self {
            database: Mutex::new(Database::connect(&settings.dsn).await?),
            acked: append(&settings.acked)?,
            unknown: append(&settings.unknown)?,
            refused: append(&settings.refused)?,
            seen: Seen::default(),
            last_ack: Instant::now(),
            settings,
            agent,
        })
    }

    /// Writes until dropped.
    async fn run(&mut self) -> Result<()> {
        for id in self.settings.first_id.. {
            self.write(id).await?;
            let jitter = 0.5 + fastrand::f64();
            sleep(Duration::from_millis(self.settings.pause_ms).mul_f64(jitter)).await;
        }
        Ok(())
    }

    async fn write(&mut self, id: u64) -> Result<()> {
        let number = i64::try_from(id)?;
        let (settings, database, refused) = (&self.settings, &self.database, &self.refused);
        let seen = &self.seen.refused;
        let once = || async {
            hold(settings).await;
            let outcome = database.lock().await.write(number).await;
            if outcome.as_ref().err().and_then(Refused::refusal) == Some(Refusal::Fenced) {
                seen.set(seen.get() + 1);
                let mut file: &File = refused;
                if let Err(error) = writeln!(file, "{id}") {
                    eprintln!("record a refused write: {error}");
                }
            }
            outcome
        };
        let outcome = self.agent.write_with(&self.settings.target, once).await;
        match outcome {
            Ok(()) => {
                writeln!(self.acked, "{id}").context("record an acknowledged write")?;
                self.seen.acked += 1;
                self.seen.longest_pause = self.seen.longest_pause.max(self.last_ack.elapsed());
                self.last_ack = Instant::now();
                Ok(())
            }
            Err(WriteError::Write(error)) => {
                writeln!(self.unknown, "{id}").context("record a failed write")?;
                eprintln!("write {id}: {error}");
                self.seen.errors.push(error.to_string());
                self.reconnect().await
            }
            Err(error) => Err(anyhow!(error)),
        }
    }

    async fn reconnect(&mut self) -> Result<()> {
        for _ in 0..RECONNECTS_MAX {
            match Database::connect(&self.settings.dsn).await {
                Ok(database) => {
                    *self.database.get_mut() = database;
                    return Ok(());
                }
                Err(error) => eprintln!("connect: {error}"),
            }
            sleep(RECONNECT_PAUSE).await;
        }
        bail!("the database does not come back")
    }

    fn report(&self) -> String {
        let Seen {
            acked,
            refused,
            errors,
            longest_pause,
        } = &self.seen;
        json!({
            "replica": self.settings.replica, "acked": acked, "refused": refused.get(), "errors": errors,
            "longest_pause_ms": u64::try_from(longest_pause.as_millis()).unwrap_or(u64::MAX),
        })
        .to_string()
    }
}

/// Waits, permit in hand, while the test wants it.
async fn hold(settings: &Settings) {
    while settings.hold.exists() {
        if let Err(error) = std::fs::write(&settings.holding, "") {
            eprintln!("tell that a permit is held: {error}");
        }
        sleep(HOLD_POLL).await;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let argument = std::env::args().nth(1).context("the settings are missing")?;
    let settings: Settings = serde_json::from_str(&argument).context("read the settings")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let agent = Agent::builder()
        .service(&settings.service)
        .replica(&settings.replica)
        .region(&settings.region)
        .release("1")
        .coordinators(settings.coordinators.clone())
        .target(&settings.target, ..)
        // Safe, since the target has a barrier.
        .on_loss(&settings.target, OnLoss::GoOn)
        .build()?;
    agent.register_and_wait().await?;
    let mut writer = Writer::start(settings, agent.clone()).await?;
    tokio::select! {
        outcome = writer.run() => outcome?,
        _ = terminate.recv() => {}
    }
    println!("{}", writer.report());
    drop(writer);
    agent.shutdown().await?;
    Ok(())
}
