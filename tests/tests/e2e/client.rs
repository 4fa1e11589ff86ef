//! A program that a person has open: it runs what is written to it, at once.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use lockkeeper_tests::mariadb::MariaDb;
use lockkeeper_tests::postgres::Postgres;
use lockkeeper_tests::{tools, wait};

const LIMIT: Duration = Duration::from_secs(20);

/// A running program; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Client {
    child: Child,
    input: Option<ChildStdin>,
    folder: tempfile::TempDir,
}

impl Client {
    pub(crate) fn start(mut command: Command) -> Result<Client> {
        let folder = tempfile::tempdir().context("create a folder for a client's output")?;
        let output = File::create(folder.path().join("output")).context("create a client's output")?;
        let errors = output.try_clone().context("share a client's output")?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let input = child.stdin.take();
        Ok(Client { child, input, folder })
    }

    /// psql as superuser, its session called `application`. It shows SQLSTATEs.
    pub(crate) fn psql(server: &Postgres, database: &str, application: &str) -> Result<Client> {
        let mut command = Command::new(tools::find("psql")?);
        command
            .args([
                "--no-psqlrc",
                "--tuples-only",
                "--no-align",
                "--set=VERBOSITY=verbose",
            ])
            .arg(format!("--dbname={}", server.dsn(database)))
            .env("PGAPPNAME", application);
        Client::start(command)
    }

    /// mariadb as root.
    pub(crate) fn mariadb(server: &MariaDb, database: &str) -> Result<Client> {
        let mut command = Command::new(tools::find("mariadb")?);
        command
            .args([
                "--no-defaults",
                "--user=root",
                "--batch",
                "--unbuffered",
                "--force",
            ])
            .arg("--skip-reconnect")
            .arg(format!("--socket={}", server.socket().display()))
            .arg(format!("--database={database}"));
        Client::start(command)
    }

    /// Everything that it said so far, errors included.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }

    /// Writes a line.
    pub(crate) fn write(&mut self, text: &str) -> Result<()> {
        let input = self.input.as_mut().context("the client's input is closed")?;
        writeln!(input, "{text}").context("write to the client")
    }

    /// Runs SQL, and gives what was said until it had ended one way or the other.
    pub(crate) fn run(&mut self, sql: &str) -> Result<String> {
        let before = self.output().len();
        let marker = format!("marker-{before}");
        self.write(&format!("{sql}\nSELECT '{marker}';"))?;
        wait::until(&format!("a client to run {sql}"), LIMIT, || {
            let output = self.output();
            Ok(output.contains(&marker).then(|| output[before..].to_owned()))
        })
        .with_context(|| format!("the client said: {}", self.output()))
    }

    /// Waits until it has said something, and gives all that it said.
    pub(crate) fn wait_for(&self, text: &str) -> Result<String> {
        wait::until(&format!("a client to say {text}"), LIMIT, || {
            Ok(Some(self.output()).filter(|output| output.contains(text)))
        })
        .with_context(|| format!("the client said: {}", self.output()))
    }

    /// Waits for its end, and gives all that it said.
    pub(crate) fn wait(&mut self) -> Result<(ExitStatus, String)> {
        let status = wait::until("a client to end", LIMIT, || Ok(self.child.try_wait()?))
            .with_context(|| format!("the client said: {}", self.output()))?;
        Ok((status, self.output()))
    }

    /// Closes its input, which ends most programs, and waits for its end.
    pub(crate) fn end(mut self) -> Result<(ExitStatus, String)> {
        drop(self.input.take());
        self.wait()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
