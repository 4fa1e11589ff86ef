//! A real PostgreSQL server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::ports::Port;
use crate::process::{Process, ProcessSpec};
use crate::scratch::{Scratch, ServerUser, create_owned};
use crate::{template, tools};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A role that may log in and own objects, and nothing more: what a service uses.
pub const APP_ROLE: &str = "app";

/// Its password. The server trusts everyone; a DSN with a password shows whether a message leaks it.
pub const APP_PASSWORD: &str = "app-secret";

/// A running server; dropping it ends the server and removes its data.
#[derive(Debug)]
pub struct Postgres {
    pub process: Process,
    port: Port,
    data: PathBuf,
    _scratch: Scratch,
}

/// How to start a server that differs from the usual one.
#[derive(Debug, Default)]
pub struct PostgresOptions {
    settings: Vec<(String, String)>,
    own_identity: bool,
}

impl PostgresOptions {
    /// A server setting, as in postgresql.conf.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs initdb (1 s more). Servers copied from the template share one system identifier, like a clone.
    pub fn own_identity(mut self) -> Self {
        self.own_identity = true;
        self
    }

    pub fn start(self) -> Result<Postgres> {
        let user = ServerUser::when_root("postgres")?;
        let scratch = Scratch::create("postgres")?;
        let data = scratch.join("data");
        let initdb = tools::find("initdb")?;
        if self.own_identity {
            initialise(&initdb, &data, user.as_ref())?;
        } else {
            let key = format!("{}-{}", template::version_of(&initdb)?, who(user.as_ref()));
            template::fill(&key, &data, |target| initialise(&initdb, target, user.as_ref()))?;
        }
        let port = Port::reserve()?;
        let spec = ProcessSpec::new(tools::find("postgres")?, scratch.join("log"))
            .user(user)
            .quit_at_the_end()
            .arg("-D")
            .arg(&data)
            .args(DEFAULT_SETTINGS.iter().flat_map(|setting| ["-c", *setting]))
            .args(["-c", &format!("port={}", port.number())])
            .args(
                self.settings
                    .iter()
                    .flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]),
            );
        let mut server = Postgres {
            process: Process::spawn(spec)?,
            port,
            data,
            _scratch: scratch,
        };
        server.wait_ready()?;
        server.create_app_role()?;
        Ok(server)
    }
}

const DEFAULT_SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    // A killed process loses nothing without these (it does without synchronous_commit), and no test pulls
    // the machine's plug.
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_connections=200",
    // What the fence has to cope with must be possible: prepared transactions and logical replication.
    "max_prepared_transactions=20",
    "wal_level=logical",
    "log_line_prefix=%m [%p] %u@%d ",
];

fn initialise(initdb: &Path, target: &Path, user: Option<&ServerUser>) -> Result<()> {
    create_owned(target, user)?;
    let log = target.with_extension("initdb.log");
    let spec = ProcessSpec::new(initdb, &log)
        .user(user.cloned())
        .args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
        ])
        .arg(target);
    let mut process = Process::spawn(spec)?;
    let status = process.wait(START_LIMIT)?;
    if !status.success() {
        bail!("initdb {}: {status}\n{}", target.display(), process.log());
    }
    Ok(())
}

fn who(user: Option<&ServerUser>) -> u32 {
    user.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid)
}

impl Postgres {
    /// Starts a server with the usual settings. Takes about half a second.
    pub fn start() -> Result<Postgres> {
        PostgresOptions::default().start()
    }

    pub fn options() -> PostgresOptions {
        PostgresOptions::default()
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// A superuser's DSN. `database` may hold a placeholder such as `{region}`.
    pub fn dsn(&self, database: &str) -> String {
        format!(
            "postgres://postgres@{}/{database}?sslmode=disable",
            self.port.address()
        )
    }

    /// The DSN of [`APP_ROLE`].
    pub fn app_dsn(&self, database: &str) -> String {
        format!(
            "postgres://{APP_ROLE}:{APP_PASSWORD}@{}/{database}?sslmode=disable",
            self.port.address()
        )
    }

    /// Creates a database that [`APP_ROLE`] owns, its schema `public` included, and gives its superuser DSN.
    pub fn create_database(&self, name: &str) -> Result<String> {
        self.sql(
            "postgres",
            &format!(r#"CREATE DATABASE "{name}" OWNER {APP_ROLE}"#),
        )?;
        self.sql(name, &format!("ALTER SCHEMA public OWNER TO {APP_ROLE}"))?;
        Ok(self.dsn(name))
    }

    /// Runs SQL as superuser through psql; rows come back as lines with `|` between the values.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let output = Command::new(tools::find("psql")?)
            .args([
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--no-align",
                "--set=ON_ERROR_STOP=1",
            ])
            .arg(format!("--dbname={}", self.dsn(database)))
            .arg(format!("--command={sql}"))
            .output()
            .context("run psql")?;
        if !output.status.success() {
            bail!("psql: {}: {sql}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// SIGQUIT, "immediate shutdown": like a crash, every session is lost and nothing is written.
    pub fn crash(&mut self) -> Result<()> {
        self.process.quit(START_LIMIT)?;
        Ok(())
    }

    /// Starts a server that ended, on the same port and data, and waits for it.
    pub fn start_again(&mut self) -> Result<()> {
        self.process.start_again()?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        // The postmaster writes its state into the eighth line. A crashed one leaves an old file, with an old pid.
        let file = self.data.join("postmaster.pid");
        self.process.wait_ready(START_LIMIT, |process| {
            let text = std::fs::read_to_string(&file).ok()?;
            let mut lines = text.lines().map(str::trim);
            let ours = lines.next()?.parse() == Ok(process.pid());
            (ours && lines.nth(6)? == "ready").then_some(())
        })
    }

    fn create_app_role(&self) -> Result<()> {
        self.sql(
            "postgres",
            &format!("CREATE ROLE {APP_ROLE} LOGIN PASSWORD '{APP_PASSWORD}'"),
        )?;
        Ok(())
    }
}
