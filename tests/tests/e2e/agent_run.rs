//! `agent run` around a small server that knows nothing of lockkeeper.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockkeeper_tests::cli::RunningCli;
use lockkeeper_tests::ports::Port;
use lockkeeper_tests::{http, wait};
use serde_json::json;

use crate::small::{Databases, REGION, SmallFleet, write_files};

const LIMIT: Duration = Duration::from_secs(20);

const FILES: [(&str, &str); 6] = [
    ("1_items.up.sql", "CREATE TABLE items (id INTEGER PRIMARY KEY);"),
    ("1_items.down.sql", "DROP TABLE items;"),
    ("2_notes.up.sql", "CREATE TABLE notes (id INTEGER PRIMARY KEY);"),
    ("2_notes.down.sql", "DROP TABLE notes;"),
    ("3_tags.up.sql", "CREATE TABLE tags (id INTEGER PRIMARY KEY);"),
    ("3_tags.down.sql", "DROP TABLE tags;"),
];

/// A fleet of one whose database `svc` is at version 1.
struct Scene {
    fleet: SmallFleet,
    migrations: PathBuf,
    _databases: Databases,
}

impl Scene {
    fn set() -> Result<Scene> {
        let (fleet, databases) = (SmallFleet::start()?, Databases::sqlite()?);
        let migrations = fleet.migrations("migrations", &FILES)?;
        fleet.declare_one("svc", &databases.create("svc")?, &migrations)?;
        let scene = Scene {
            fleet,
            migrations,
            _databases: databases,
        };
        scene.roll_out("1", 0)?;
        Ok(scene)
    }

    fn roll_out(&self, to: &str, code: i32) -> Result<()> {
        self.fleet
            .roll_out(to, "svc", to, &json!({"on_failure": "hold"}))?
            .expect_code(code)?;
        Ok(())
    }

    /// Closes the gate for good: a check of version `to` fails. [`Scene::open_again`] mends it.
    fn close_on_the_way_to(&self, to: &str) -> Result<()> {
        write_files(&self.migrations, &[("verify/check.sql", "SELECT 1 = 2;")])?;
        self.roll_out(to, 5)
    }

    fn open_again(&self, id: &str) -> Result<()> {
        write_files(&self.migrations, &[("verify/check.sql", "SELECT 1 = 1;")])?;
        self.fleet.run(&["rollout", "retry", id])?.expect_code(0)?;
        let rollout = self.fleet.wait_for_rollout(id, LIMIT)?;
        ensure!(rollout["state"] == "DONE", "{rollout}");
        Ok(())
    }

    /// `agent run` for schema versions `range`, of `command`.
    fn run(&self, range: &str, command: &[&str]) -> Result<RunningCli> {
        let target = format!("svc/{REGION}:{range}");
        let run = self
            .fleet
            .cli()?
            .args(["agent", "run", "--service", "svc", "--region", REGION]);
        run.args([
            "--replica",
            "replica-1",
            "--target",
            &target,
            "--grace",
            "5s",
            "--",
        ])
        .args(command)
        .spawn()
    }
}

fn serves(port: &Port) -> bool {
    http::get(port.number(), "/").is_some_and(|answer| answer.contains(" 200 "))
}

fn wait_until_it_serves(port: &Port, server: &RunningCli) -> Result<()> {
    wait::until("the server to answer", LIMIT, || Ok(serves(port).then_some(())))
        .with_context(|| server.process.log())
}

#[test]
fn a_server_runs_only_while_the_schema_fits_and_the_gate_is_open() -> Result<()> {
    let scene = Scene::set()?;
    let port = Port::reserve()?;
    let number = port.number().to_string();
    let mut server = scene.run(
        "2..3",
        &["python3", "-m", "http.server", "--bind", "127.0.0.1", &number],
    )?;
    wait::until("the agent to say why it waits", LIMIT, || {
        Ok(server
            .process
            .log()
            .contains("older than this release needs")
            .then_some(()))
    })?;
    ensure!(!serves(&port), "it was started on a schema that does not fit");

    scene.roll_out("2", 0)?;
    wait_until_it_serves(&port, &server)?;
    // The rollout waited for its end: closed means stopped.
    scene.close_on_the_way_to("3")?;
    ensure!(
        !serves(&port),
        "it serves behind a closed gate: {}",
        server.process.log()
    );
    let rollout = scene.fleet.rollout("3")?;
    ensure!(rollout["state"] == "HELD", "{rollout}");
    ensure!(server.process.is_running(), "the agent ended with its program");
    scene.open_again("3")?;
    wait_until_it_serves(&port, &server)?;

    server.process.terminate(LIMIT)?;
    ensure!(!serves(&port), "it outlived its agent");
    Ok(())
}

#[test]
fn the_program_is_asked_to_end_and_its_exit_code_is_passed_on() -> Result<()> {
    let scene = Scene::set()?;
    let seen = scene.fleet.path("seen");
    let script = format!(
        "trap 'echo asked >> {0}; exit 0' TERM; echo started >> {0}; [ $(grep -c started {0}) -lt 2 ] || exit 23; \
         while :; do sleep 0.05; done",
        seen.display()
    );
    let mut program = scene.run("1..", &["/bin/sh", "-c", &script])?;
    wait_for_lines(&seen, &["started"])?;
    scene.roll_out("2", 0)?;
    let status = program
        .process
        .wait(LIMIT)
        .with_context(|| program.process.log())?;
    ensure!(status.code() == Some(23), "{status}: {}", program.process.log());
    wait_for_lines(&seen, &["started", "asked", "started"])
}

fn wait_for_lines(file: &Path, lines: &[&str]) -> Result<()> {
    let read = || std::fs::read_to_string(file).unwrap_or_default();
    wait::until(&format!("{lines:?}"), LIMIT, || {
        Ok(read().lines().eq(lines.iter().copied()).then_some(()))
    })
    .with_context(|| format!("seen: {}", read()))
}
