//! Those who are no agents: plain clients that write and read while a rollout runs.

use std::io::Read;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use lockkeeper_tests::postgres::Postgres;
use lockkeeper_tests::{tools, wait};
use serde_json::{Value, json};

use crate::client::Client;
use crate::fleet::{target_of, target_state};
use crate::small::{Databases, REGION, ROLLOUT_LIMIT, SmallFleet, write_files};

const LIMIT: Duration = Duration::from_secs(20);

/// Three migrations, none of which needs a lock on what the others made.
const FILES: [(&str, &str); 6] = [
    (
        "1_items.up.sql",
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(40));",
    ),
    ("1_items.down.sql", "DROP TABLE items;"),
    ("2_notes.up.sql", "CREATE TABLE notes (id INTEGER PRIMARY KEY);"),
    ("2_notes.down.sql", "DROP TABLE notes;"),
    ("3_tags.up.sql", "CREATE TABLE tags (id INTEGER PRIMARY KEY);"),
    ("3_tags.down.sql", "DROP TABLE tags;"),
];

/// A verification that fails: with `on_failure: hold` the gate stays closed until it is mended.
const NEVER: (&str, &str) = ("verify/2_never.sql", "SELECT 1 = 2;");
const ALWAYS: (&str, &str) = ("verify/2_never.sql", "SELECT 1 = 1;");

/// A service `svc` with one database at version 1, and a plain client's view of it.
struct Scene {
    fleet: SmallFleet,
    databases: Databases,
}

const SERVICE: &str = "svc";
const TARGET: &str = "svc/eu";

impl Scene {
    fn set(databases: Databases) -> Result<Scene> {
        let fleet = SmallFleet::start()?;
        let migrations = fleet.migrations("migrations", &FILES)?;
        fleet.declare_one(SERVICE, &databases.create(SERVICE)?, &migrations)?;
        let scene = Scene { fleet, databases };
        scene.roll_out("1", &json!({}), 0)?;
        Ok(scene)
    }

    fn file(&self, file: (&str, &str)) -> Result<()> {
        write_files(&self.fleet.migrations("migrations", &[])?, &[file])
    }

    /// Rolls out to version `to`, which is the rollout's id too, and gives the target in it.
    fn roll_out(&self, to: &str, more: &Value, code: i32) -> Result<Value> {
        self.fleet
            .roll_out(to, SERVICE, to, more)?
            .expect_code(code)
            .with_context(|| self.fleet.logs(20))?;
        self.outcome(to)
    }

    fn start_rollout(&self, to: &str, more: &Value) -> Result<()> {
        self.fleet.create_rollout(to, SERVICE, to, &[REGION], more)
    }

    fn outcome(&self, id: &str) -> Result<Value> {
        let rollout = self.fleet.wait_for_rollout(id, ROLLOUT_LIMIT)?;
        Ok(target_of(&rollout, TARGET).clone())
    }

    /// Waits until `fleet explain` and `fleet status` name somebody with all of these words.
    fn wait_until_named(&self, words: &[&str]) -> Result<Value> {
        let named = |waiting: &Value| {
            let mut all = waiting.as_array().into_iter().flatten();
            all.find(|one| words.iter().all(|word| one.to_string().contains(word)))
                .cloned()
        };
        wait::until(&format!("somebody with {words:?} to be named"), LIMIT, || {
            let status = self.fleet.target_status(TARGET)?;
            let explained = self.fleet.explain(TARGET)?;
            Ok(named(&explained["waiting_on"]).filter(|_| named(&status["waiting_on"]).is_some()))
        })
        .with_context(|| {
            format!(
                "explain: {:?}\n{}",
                self.fleet.explain(TARGET),
                self.fleet.logs(20)
            )
        })
    }

    /// The target's state in a rollout that runs.
    fn outcome_now(&self, id: &str) -> Result<String> {
        let rollout = self.fleet.rollout(id)?;
        Ok(target_state(&rollout, TARGET).to_owned())
    }

    fn sql(&self, sql: &str) -> Result<String> {
        self.databases.sql(SERVICE, sql)
    }

    fn left_behind(&self) -> Result<String> {
        self.sql(match self.databases {
            Databases::Postgres(_) => "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'lockkeeper%'",
            Databases::MariaDb(_) => {
                "SELECT count(*) FROM information_schema.triggers WHERE trigger_name LIKE 'lockkeeper%'"
            }
            Databases::Sqlite(_) => "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'",
        })
    }
}

#[test]
fn psql_is_refused_with_a_hint_and_its_open_transaction_is_waited_for() -> Result<()> {
    let scene = Scene::set(Databases::postgres()?)?;
    let Databases::Postgres(server) = &scene.databases else {
        unreachable!("it was made so")
    };
    let mut report = Client::psql(server, SERVICE, "nightly-report")?;
    report.run("BEGIN; INSERT INTO items VALUES (1, 'before the fence');")?;
    let pid = report.run("SELECT 'pid ' || pg_backend_pid();")?;
    let pid = pid.split_whitespace().nth(1).context("no pid")?.to_owned();

    scene.file(NEVER)?;
    scene.start_rollout("2", &json!({"on_failure": "hold", "budget": "30s"}))?;
    let who = scene.wait_until_named(&[&pid, "nightly-report", "session"])?;
    ensure!(who["who"] == pid.as_str(), "{who}");
    // The last statement that it ran, as pg_stat_activity has it.
    ensure!(
        who["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("SELECT 'marker-")),
        "{who}"
    );
    ensure!(scene.outcome_now("2")? == "FENCING");
    report.run("COMMIT;")?;

    let target = scene.outcome("2")?;
    ensure!(
        target["state"] == "HELD" && target["ended_sessions"] == json!([]),
        "{target}"
    );
    let refusal = report.run("INSERT INTO items VALUES (2, 'through the fence');")?;
    for part in [
        "LK001",
        "public.items is fenced at g",
        "by rollout 2",
        "HINT:",
        "wait until the gate is open",
    ] {
        ensure!(refusal.contains(part), "{part} is missing: {refusal}");
    }
    // The refusal names no statement of lockkeeper's own, and a read is not refused.
    ensure!(
        report
            .run("SELECT name FROM items;")?
            .contains("before the fence")
    );
    for write in [
        "UPDATE items SET name = 'x'",
        "DELETE FROM items",
        "TRUNCATE items",
    ] {
        ensure!(
            report.run(&format!("{write};"))?.contains("LK001"),
            "{write} went through"
        );
    }

    scene.file(ALWAYS)?;
    scene.fleet.run(&["rollout", "retry", "2"])?.expect_code(0)?;
    ensure!(scene.outcome("2")?["state"] == "DONE");
    let through = report.run("INSERT INTO items VALUES (3, 'after');")?;
    ensure!(through.contains("INSERT 0 1"), "{through}");
    ensure!(scene.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM items")? == "1,3");
    wait::until("the triggers to be dropped", LIMIT, || {
        Ok((scene.left_behind()? == "0").then_some(()))
    })
}

#[test]
fn psql_that_never_commits_is_ended_in_time_for_the_rollout_to_go_on() -> Result<()> {
    let scene = Scene::set(Databases::postgres()?)?;
    let Databases::Postgres(server) = &scene.databases else {
        unreachable!("it was made so")
    };
    let mut forgotten = Client::psql(server, SERVICE, "forgotten")?;
    forgotten.run("BEGIN; INSERT INTO items VALUES (1, 'never committed');")?;
    let target = scene.roll_out("2", &json!({"budget": "8s"}), 0)?;
    expect_ended(&target, &["forgotten", "marker-"])?;
    ensure!(scene.sql("SELECT count(*) FROM items")? == "0");
    forgotten.write("SELECT 1;")?;
    let (_, output) = forgotten.end()?;
    ensure!(
        output.contains("terminating connection due to administrator command"),
        "{output}"
    );
    Ok(())
}

#[test]
fn mariadb_client_is_refused_with_a_hint_and_its_open_transaction_is_waited_for() -> Result<()> {
    let scene = Scene::set(Databases::mariadb()?)?;
    let Databases::MariaDb(server) = &scene.databases else {
        unreachable!("it was made so")
    };
    let mut report = Client::mariadb(server, SERVICE)?;
    report.run("BEGIN; INSERT INTO items VALUES (1, 'before the fence');")?;
    let id = report.run("SELECT CONCAT('id ', CONNECTION_ID());")?;
    let id = id
        .lines()
        .find_map(|line| line.strip_prefix("id "))
        .context("no id")?
        .to_owned();

    scene.file(NEVER)?;
    scene.start_rollout("2", &json!({"on_failure": "hold", "budget": "30s"}))?;
    let who = scene.wait_until_named(&["session", "root"])?;
    ensure!(who["who"] == id.as_str(), "connection {id}: {who}");
    ensure!(scene.outcome_now("2")? == "FENCING");
    report.run("COMMIT;")?;

    let target = scene.outcome("2")?;
    ensure!(
        target["state"] == "HELD" && target["ended_sessions"] == json!([]),
        "{target}"
    );
    let refusal = report.run("INSERT INTO items VALUES (2, 'through the fence');")?;
    for part in ["LK001", "is fenced at g", "retry"] {
        ensure!(refusal.contains(part), "{part} is missing: {refusal}");
    }
    ensure!(
        report
            .run("SELECT name FROM items;")?
            .contains("before the fence")
    );
    for write in [
        "UPDATE items SET name = 'x'",
        "DELETE FROM items",
        "REPLACE INTO items VALUES (1, 'x')",
    ] {
        ensure!(
            report.run(&format!("{write};"))?.contains("LK001"),
            "{write} went through"
        );
    }

    scene.file(ALWAYS)?;
    scene.fleet.run(&["rollout", "retry", "2"])?.expect_code(0)?;
    ensure!(scene.outcome("2")?["state"] == "DONE");
    let through = report.run("INSERT INTO items VALUES (3, 'after');")?;
    ensure!(!through.contains("ERROR"), "{through}");
    ensure!(scene.sql("SELECT GROUP_CONCAT(id ORDER BY id) FROM items")? == "1,3");
    wait::until("the triggers to be dropped", LIMIT, || {
        Ok((scene.left_behind()? == "0").then_some(()))
    })
}

#[test]
fn mariadb_client_that_never_commits_is_ended_in_time_for_the_rollout_to_go_on() -> Result<()> {
    let scene = Scene::set(Databases::mariadb()?)?;
    let Databases::MariaDb(server) = &scene.databases else {
        unreachable!("it was made so")
    };
    let mut forgotten = Client::mariadb(server, SERVICE)?;
    forgotten.run("BEGIN; INSERT INTO items VALUES (1, 'never committed');")?;
    let target = scene.roll_out("2", &json!({"budget": "8s"}), 0)?;
    expect_ended(&target, &["session", "root"])?;
    ensure!(scene.sql("SELECT count(*) FROM items")? == "0");
    forgotten.write("SELECT 1;")?;
    let (_, output) = forgotten.end()?;
    ensure!(
        output.to_lowercase().contains("server has gone away") || output.contains("Lost connection"),
        "{output}"
    );
    Ok(())
}

fn expect_ended(target: &Value, words: &[&str]) -> Result<()> {
    let ended = target["ended_sessions"].as_array().map_or(&[][..], Vec::as_slice);
    let named = |one: &Value| words.iter().all(|word| one.to_string().contains(word));
    ensure!(
        target["state"] == "DONE" && ended.len() == 1 && named(&ended[0]),
        "{target}"
    );
    Ok(())
}

#[test]
fn an_open_pg_dump_stops_neither_fence_nor_opening() -> Result<()> {
    let scene = Scene::set(Databases::postgres()?)?;
    let Databases::Postgres(server) = &scene.databases else {
        unreachable!("it was made so")
    };
    // Far more than the pipe and the sockets between server and reader hold.
    scene.sql("INSERT INTO items SELECT i, repeat('x', 40) FROM generate_series(1, 200000) i")?;
    let mut cursor = Client::psql(server, SERVICE, "cursor")?;
    cursor.run(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; DECLARE c CURSOR FOR SELECT * FROM items; FETCH 1 FROM c;",
    )?;
    let dump = Dump::start(server)?;
    let copying =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND query LIKE 'COPY%'";
    wait::until("pg_dump to copy rows", LIMIT, || {
        Ok((scene.sql(copying)? == "1").then_some(()))
    })?;

    let target = scene.roll_out("2", &json!({"budget": "10s"}), 0)?;
    ensure!(
        target["state"] == "DONE" && target["ended_sessions"] == json!([]),
        "{target}"
    );
    // Both still read; the triggers stay until they have ended, and refuse nobody.
    ensure!(scene.sql(copying)? == "1");
    ensure!(cursor.run("FETCH 1 FROM c;")?.contains("xxx"));
    ensure!(
        scene.left_behind()? != "0",
        "a trigger was dropped under a reader"
    );
    scene.sql("INSERT INTO items VALUES (0, 'after')")?;

    let (status, text) = dump.finish()?;
    ensure!(
        status.success() && text.matches("xxxx").count() >= 200_000,
        "{status}"
    );
    cursor.run("COMMIT;")?;
    // Whoever comes next cleans up.
    scene.roll_out("3", &json!({}), 0)?;
    wait::until("the triggers to be dropped", LIMIT, || {
        Ok((scene.left_behind()? == "0").then_some(()))
    })
}

/// A pg_dump whose output nobody reads yet: it stops in the middle of a table.
struct Dump {
    child: Child,
    output: ChildStdout,
}

impl Dump {
    fn start(server: &Postgres) -> Result<Dump> {
        let mut child = Command::new(tools::find("pg_dump")?)
            .arg(format!("--dbname={}", server.dsn(SERVICE)))
            .stdout(Stdio::piped())
            .spawn()
            .context("start pg_dump")?;
        let output = child.stdout.take().context("reach pg_dump's output")?;
        Ok(Dump { child, output })
    }

    /// Reads it to its end.
    fn finish(mut self) -> Result<(ExitStatus, String)> {
        let mut text = String::new();
        self.output
            .read_to_string(&mut text)
            .context("read pg_dump's output")?;
        Ok((self.child.wait().context("wait for pg_dump")?, text))
    }
}

#[test]
fn a_writer_to_sqlite_finds_it_locked_and_a_reader_goes_on() -> Result<()> {
    let scene = Scene::set(Databases::sqlite()?)?;
    scene.sql("INSERT INTO items VALUES (1, 'before the fence')")?;
    scene.file(NEVER)?;
    let target = scene.roll_out("2", &json!({"on_failure": "hold"}), 5)?;
    ensure!(target["state"] == "HELD", "{target}");
    for write in [
        "INSERT INTO items VALUES (2, 'x')",
        "CREATE TABLE other (a)",
        "PRAGMA user_version = 7",
    ] {
        let refusal = scene
            .sql(write)
            .err()
            .ok_or_else(|| anyhow!("{write} went through"))?;
        ensure!(refusal.to_string().contains("database is locked"), "{refusal}");
    }
    ensure!(scene.sql("SELECT name FROM items")? == "before the fence");
    ensure!(
        !scene.databases.has(SERVICE, "notes"),
        "a reader sees the new schema before the opening"
    );
    scene.file(ALWAYS)?;
    scene.fleet.run(&["rollout", "retry", "2"])?.expect_code(0)?;
    ensure!(scene.outcome("2")?["state"] == "DONE");
    scene.sql("INSERT INTO items VALUES (3, 'after')")?;
    ensure!(scene.sql("SELECT count(*) FROM items")? == "2");
    ensure!(scene.left_behind()? == "0");
    Ok(())
}
