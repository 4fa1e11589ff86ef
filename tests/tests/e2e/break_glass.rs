//! Every coordinator is lost while a gate is closed. A person releases the fence with nothing but the database, the
//! application writes, and the next leader holds instead of going on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockkeeper_tests::cli::{Cli, CliOutput};
use lockkeeper_tests::wait;
use serde_json::{Value, json};

use crate::fleet::{Fleet, TargetDeclaration, target_of, target_state};
use crate::small::{Databases, REGION, ROLLOUT_LIMIT, write_files};

const TABLES: [(&str, &str); 2] = [
    (
        "1_init.up.sql",
        "CREATE TABLE items (id INTEGER PRIMARY KEY);\nCREATE TABLE marks (id INTEGER);\n\
         CREATE TABLE pace (seconds INTEGER);\nINSERT INTO pace VALUES (60);\n",
    ),
    ("1_init.down.sql", "DROP TABLE items;"),
];

/// The second migration: slow until somebody has changed the pace.
fn second(databases: &Databases) -> [(&'static str, &'static str); 2] {
    let slow = match databases {
        Databases::Postgres(_) => {
            "INSERT INTO marks SELECT 1 FROM pg_sleep((SELECT seconds FROM pace));\n\
             ALTER TABLE items ADD COLUMN size INTEGER;\n"
        }
        Databases::MariaDb(_) | Databases::Sqlite(_) => {
            "INSERT INTO marks SELECT SLEEP((SELECT seconds FROM pace));\n\
             ALTER TABLE items ADD COLUMN size INTEGER;\n"
        }
    };
    [
        ("2_size.up.sql", slow),
        ("2_size.down.sql", "ALTER TABLE items DROP COLUMN size;"),
    ]
}

/// What a command of `fence` answers when it succeeds.
fn answer(output: CliOutput) -> Result<Value> {
    Ok(serde_json::from_str(&output.expect_code(0)?)?)
}

fn fence(verb: &str, dsn: &str, more: &[&str]) -> Result<CliOutput> {
    Cli::new()?
        .args(["fence", verb, "--dsn", dsn, "--format", "json"])
        .args(more)
        .run()
}

/// How a person releases the fence.
#[derive(Debug, Clone, Copy)]
enum By {
    Command,
    /// What `fence sql` prints, through the database's own client.
    Sql,
}

fn whole_way(databases: &Databases, by: By) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let migrations = folder.path().join("migrations");
    write_files(&migrations, &TABLES)?;
    let store = format!("embedded:{}", folder.path().join("store").display());
    let mut fleet = Fleet::start(&store, &[REGION])?;
    let dsn = databases.create("shop")?;
    fleet.declare(&[TargetDeclaration::new("shop", REGION, &dsn, &migrations)])?;
    fleet.create_rollout("tables", "shop", "1", &[REGION], &json!({}))?;
    let tables = fleet.wait_for_rollout("tables", ROLLOUT_LIMIT)?;
    ensure!(tables["state"] == "DONE", "{tables}");

    write_files(&migrations, &second(databases))?;
    fleet.create_rollout("sizes", "shop", "2", &[REGION], &json!({}))?;
    let target = format!("shop/{REGION}");
    wait::until("MIGRATING", ROLLOUT_LIMIT, || {
        let rollout = fleet.rollout("sizes")?;
        Ok((target_state(&rollout, &target) == "MIGRATING").then_some(()))
    })?;
    wait::until("a running statement", ROLLOUT_LIMIT, || {
        Ok(sleeps(databases)?.then_some(()))
    })?;
    fleet.kill(0)?;
    let outcome =
        released(databases, &dsn, by).and_then(|()| held_and_tried_again(&mut fleet, databases, &dsn));
    outcome.with_context(|| fleet.logs(20))
}

fn sleeps(databases: &Databases) -> Result<bool> {
    let sql = match databases {
        Databases::Postgres(_) => {
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()"
        }
        Databases::MariaDb(_) => {
            "SELECT count(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(%' AND ID <> CONNECTION_ID()"
        }
        Databases::Sqlite(_) => return Ok(true),
    };
    Ok(databases.sql("shop", sql)? != "0")
}

/// The statement of the killed coordinator still runs: it is seen, named, and ended only when that is said.
fn released(databases: &Databases, dsn: &str, by: By) -> Result<()> {
    let state = inspect(dsn)?;
    ensure!(state["closed"] == true, "not closed: {state}");
    // MariaDB notices within five seconds that the client of a sleeping statement is gone.
    let may_end = matches!(databases, Databases::MariaDb(_));
    ensure!(
        may_end || state["executor"]["alive"] == true,
        "no executor: {state}"
    );
    ensure!(
        !state["barrier"].as_array().is_none_or(Vec::is_empty),
        "no barrier: {state}"
    );
    let insert = databases.sql("shop", "INSERT INTO items (id) VALUES (1)");
    ensure!(insert.is_err(), "written behind a closed gate");

    let refused = fence("release", dsn, &["--reason", "all lost", "--yes"])?;
    let ended = may_end && refused.code == Some(0);
    ensure!(
        ended || refused.code == Some(4),
        "released over a living executor: {refused:?}"
    );
    if !ended {
        ensure!(inspect(dsn)?["closed"] == true);
        match by {
            By::Command => release_by_force(dsn)?,
            By::Sql => release_by_sql(databases, &state)?,
        }
    }
    let state = inspect(dsn)?;
    ensure!(state["closed"] == false && state["executor"].is_null(), "{state}");
    let recorded = state["row"]["rollout"].as_str().unwrap_or_default();
    ensure!(recorded.starts_with("released by hand: all lost ("), "{state}");
    databases.sql("shop", "INSERT INTO items (id) VALUES (2)")?;
    Ok(())
}

fn release_by_force(dsn: &str) -> Result<()> {
    let force = ["--reason", "all lost", "--yes", "--force"];
    let done = answer(fence("release", dsn, &force)?)?;
    ensure!(done["was_closed"] == true, "{done}");
    Ok(())
}

fn release_by_sql(databases: &Databases, state: &Value) -> Result<()> {
    let dialect = match databases {
        Databases::Postgres(_) => "postgres",
        Databases::MariaDb(_) => "mysql",
        Databases::Sqlite(_) => "sqlite",
    };
    let printed = Cli::new()?.args(["fence", "sql", "--dialect", dialect]).run()?;
    let sql = printed.expect_code(0)?.replace("REASON", "all lost");
    // While the executor lives it changes nothing: the last part then fails, or has nothing to print.
    let _ = databases.sql("shop", &sql);
    let still = databases.sql("shop", "SELECT gate_epoch - opened FROM lockkeeper_gate")?;
    if matches!(databases, Databases::MariaDb(_)) && still == "0" {
        // Its update waited for the executor's lock on the row, until that had ended by itself.
        return Ok(());
    }
    ensure!(still == "1", "released over a living executor");
    let session = state["row"]["executor"]["session"]
        .as_str()
        .context("no session")?;
    let end = match databases {
        Databases::Postgres(_) => format!("SELECT pg_terminate_backend({session})"),
        Databases::MariaDb(_) | Databases::Sqlite(_) => format!("KILL {session}"),
    };
    // It may have ended by itself.
    let _ = databases.sql("shop", &end);
    wait::until("the end of the executor", Duration::from_secs(20), || {
        let printed = databases.sql("shop", &sql);
        let left = databases.sql("shop", "SELECT gate_epoch - opened FROM lockkeeper_gate")?;
        Ok((left == "0").then_some(printed))
    })??;
    Ok(())
}

fn inspect(dsn: &str) -> Result<Value> {
    answer(fence("inspect", dsn, &[])?)
}

fn held_and_tried_again(fleet: &mut Fleet, databases: &Databases, dsn: &str) -> Result<()> {
    let target = format!("shop/{REGION}");
    fleet.start_again(0)?;
    fleet.wait_for_leader()?;
    let held = fleet.wait_for_rollout("sizes", ROLLOUT_LIMIT)?;
    ensure!(held["state"] == "HELD", "{held}");
    let reason = target_of(&held, &target)["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("a person released the fence") && reason.contains("all lost"),
        "the reason is {reason:?}"
    );
    databases.sql("shop", "INSERT INTO items (id) VALUES (3)")?;
    ensure!(inspect(dsn)?["closed"] == false, "closed again without a person");

    databases.sql("shop", "UPDATE pace SET seconds = 0")?;
    fleet.run(&["rollout", "retry", "sizes"])?.expect_code(0)?;
    wait::until("the second try", ROLLOUT_LIMIT, || {
        let rollout = fleet.rollout("sizes")?;
        Ok((rollout["state"] == "DONE").then_some(()))
    })?;
    let written = databases.sql("shop", "SELECT id FROM items WHERE size IS NULL ORDER BY id")?;
    ensure!(
        written.lines().collect::<Vec<_>>() == ["2", "3"],
        "found {written:?}"
    );
    Ok(())
}

#[test]
fn a_released_fence_is_held_by_the_next_leader_on_postgresql() -> Result<()> {
    whole_way(&Databases::postgres()?, By::Command)
}

#[test]
fn a_released_fence_is_held_by_the_next_leader_on_mariadb() -> Result<()> {
    whole_way(&Databases::mariadb()?, By::Command)
}

#[test]
fn plain_sql_releases_a_fence_on_postgresql() -> Result<()> {
    whole_way(&Databases::postgres()?, By::Sql)
}

#[test]
fn plain_sql_releases_a_fence_on_mariadb() -> Result<()> {
    whole_way(&Databases::mariadb()?, By::Sql)
}

#[test]
fn on_sqlite_there_is_nothing_to_release() -> Result<()> {
    let databases = Databases::sqlite()?;
    let dsn = databases.create("shop")?;
    let refused = fence("release", &dsn, &["--reason", "x", "--yes"])?;
    ensure!(refused.code == Some(4), "{refused:?}");
    let folder = tempfile::tempdir()?;
    write_files(folder.path(), &TABLES)?;
    let dir = folder.path().display().to_string();
    let up = Cli::new()?
        .args([
            "migrate",
            "sql",
            "up",
            "--yes",
            "--layout",
            "golang-migrate",
            "--dir",
            &dir,
            &dsn,
        ])
        .run()?;
    up.expect_code(0)?;
    let released = answer(fence("release", &dsn, &["--reason", "x", "--yes"])?)?;
    ensure!(released["was_closed"] == false);
    let printed = Cli::new()?.args(["fence", "sql", "--dialect", "sqlite"]).run()?;
    databases.sql("shop", "UPDATE lockkeeper_gate SET gate_epoch = 9")?;
    databases.sql("shop", &printed.stdout.replace("REASON", "a copy"))?;
    let state = inspect(&dsn)?;
    ensure!(
        state["closed"] == false && state["row"]["rollout"] == "released by hand: a copy",
        "{state}"
    );
    Ok(())
}
