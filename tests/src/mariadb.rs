//! A real MariaDB server.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::ports::Port;
use crate::process::{Process, ProcessSpec};
use crate::scratch::{Scratch, ServerUser, create_owned};
use crate::{template, tools};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A user that has ALL on the databases made here, and no global right: what a service uses.
pub const APP_USER: &str = "app";

/// Its password.
pub const APP_PASSWORD: &str = "app-secret";

/// What mariadbd writes once it accepts connections.
const READY: &str = "ready for connections";

/// A running server; dropping it ends the server and removes its data.
#[derive(Debug)]
pub struct MariaDb {
    pub process: Process,
    port: Port,
    socket: PathBuf,
    starts: usize,
    _scratch: Scratch,
}

/// How to start a server that differs from the usual one.
#[derive(Debug, Default)]
pub struct MariaDbOptions {
    arguments: Vec<String>,
}

impl MariaDbOptions {
    /// An argument to mariadbd, such as `--lock-wait-timeout=2`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Turns the binary log on, under which CREATE TRIGGER asks for more rights (error 1419).
    pub fn binary_log(self) -> Self {
        self.argument("--log-bin=binlog").argument("--binlog-format=ROW")
    }

    pub fn start(self) -> Result<MariaDb> {
        let user = ServerUser::when_root("mysql")?;
        let scratch = Scratch::create("mariadb")?;
        let data = scratch.join("data");
        let program = tools::find("mariadbd")?;
        let key = format!("{}-{}", template::version_of(&program)?, who(user.as_ref()));
        template::fill(&key, &data, |target| initialise(target, user.as_ref()))?;

        let run = scratch.join("run");
        create_owned(&run, user.as_ref())?;
        let init_file = scratch.join("init.sql");
        std::fs::write(&init_file, users_sql()).context("write the init file")?;
        let port = Port::reserve()?;
        let socket = run.join("sock");
        let spec = ProcessSpec::new(program, scratch.join("log"))
            .user(user)
            // Must come first, or /etc/mysql has its say.
            .arg("--no-defaults")
            .args(DEFAULT_ARGUMENTS)
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", socket.display()))
            // A server that starts removes what looks like temporary tables: not those of its neighbours.
            .arg(format!("--tmpdir={}", run.display()))
            .arg(format!("--pid-file={}", run.join("pid").display()))
            .arg(format!("--init-file={}", init_file.display()))
            .arg(format!("--port={}", port.number()))
            .args(&self.arguments);
        let mut server = MariaDb {
            process: Process::spawn(spec)?,
            port,
            socket,
            starts: 0,
            _scratch: scratch,
        };
        server.wait_ready()?;
        Ok(server)
    }
}

const DEFAULT_ARGUMENTS: &[&str] = &[
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--character-set-server=utf8mb4",
    // Kills of a process lose nothing with this, and no test pulls the machine's plug.
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-flush-method=nosync",
    "--innodb-buffer-pool-size=32M",
    "--innodb-buffer-pool-dump-at-shutdown=OFF",
    "--max-connections=200",
];

fn users_sql() -> String {
    // The underscore is a wildcard in a grant's database name; that does no harm here.
    format!(
        "CREATE USER IF NOT EXISTS root@'127.0.0.1';\n\
         GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n\
         CREATE USER IF NOT EXISTS {APP_USER}@'%' IDENTIFIED BY '{APP_PASSWORD}';\n"
    )
}

fn initialise(target: &Path, user: Option<&ServerUser>) -> Result<()> {
    create_owned(target, user)?;
    let spec = ProcessSpec::new(
        tools::find("mariadb-install-db")?,
        target.with_extension("install.log"),
    )
    .user(user.cloned())
    .args([
        "--no-defaults",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    ])
    .args([
        "--skip-name-resolve",
        "--innodb-log-file-size=16M",
        "--innodb-flush-method=nosync",
    ])
    .arg(format!("--datadir={}", target.display()))
    .arg(format!("--tmpdir={}", target.display()));
    let mut process = Process::spawn(spec)?;
    let status = process.wait(START_LIMIT)?;
    if !status.success() {
        bail!(
            "mariadb-install-db {}: {status}\n{}",
            target.display(),
            process.log()
        );
    }
    Ok(())
}

fn who(user: Option<&ServerUser>) -> u32 {
    user.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid)
}

impl MariaDb {
    /// Starts a server with the usual settings. Takes about half a second.
    pub fn start() -> Result<MariaDb> {
        MariaDbOptions::default().start()
    }

    pub fn options() -> MariaDbOptions {
        MariaDbOptions::default()
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The DSN of a user with all rights. `database` may hold a placeholder such as `{region}`.
    pub fn dsn(&self, database: &str) -> String {
        format!("mysql://root@{}/{database}", self.port.address())
    }

    /// The DSN of [`APP_USER`].
    pub fn app_dsn(&self, database: &str) -> String {
        format!(
            "mysql://{APP_USER}:{APP_PASSWORD}@{}/{database}",
            self.port.address()
        )
    }

    /// Creates a database on which [`APP_USER`] has ALL, and gives root's DSN for it.
    pub fn create_database(&self, name: &str) -> Result<String> {
        self.sql(
            "",
            &format!("CREATE DATABASE `{name}`; GRANT ALL ON `{name}`.* TO {APP_USER}@'%'"),
        )?;
        Ok(self.dsn(name))
    }

    /// Runs SQL as root through the client; rows come back as lines with tabs between the values.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let mut client = Command::new(tools::find("mariadb")?)
            .args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"])
            .arg(format!("--socket={}", self.socket.display()))
            .arg(format!("--database={database}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run mariadb")?;
        // Through standard input, where DELIMITER works too. Closing it (the drop) lets the client end.
        let mut input = client.stdin.take().context("reach the input of mariadb")?;
        input.write_all(sql.as_bytes()).context("write to mariadb")?;
        drop(input);
        let output = client.wait_with_output().context("wait for mariadb")?;
        if !output.status.success() {
            bail!(
                "mariadb: {}: {sql}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// SIGKILL. The data stays for [`MariaDb::start_again`].
    pub fn crash(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts a server that ended, on the same port and data, and waits for it.
    pub fn start_again(&mut self) -> Result<()> {
        self.process.start_again()?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        // The log keeps the lines of earlier starts.
        let starts = self.starts + 1;
        self.process.wait_ready(START_LIMIT, |process| {
            (process.log().matches(READY).count() >= starts).then_some(())
        })?;
        self.starts = starts;
        Ok(())
    }
}
