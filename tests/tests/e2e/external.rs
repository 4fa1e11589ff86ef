//! Targets whose migrations are another migrator's commands: dbmate and Alembic as they are, and migrators that fail,
//! hang, or outlive their leader.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockkeeper_tests::postgres::Postgres;
use lockkeeper_tests::{tools, wait};
use serde_json::{Value, json};

use crate::fleet::{TargetDeclaration, target_of};
use crate::small::{Databases, REGION, ROLLOUT_LIMIT, SmallFleet, write_files};

/// A role as a careful administrator makes it: no superuser.
const KEEPER: &str = "CREATE ROLE keeper LOGIN PASSWORD 'kept' CREATEROLE; GRANT pg_signal_backend TO keeper; \
     ALTER DATABASE s OWNER TO keeper; ALTER SCHEMA public OWNER TO keeper";

const FIRST: (&str, &str) = (
    "1_init.sql",
    "-- migrate:up\nCREATE TABLE items (id int PRIMARY KEY);\nINSERT INTO items VALUES (1);\n\
     -- migrate:down\nDROP TABLE items;\n",
);

/// Sleeps in its transaction until the database says otherwise.
const SLEEPS: (&str, &str) = (
    "2_more.sql",
    "-- migrate:up\nINSERT INTO items VALUES (2);\n\
     SELECT pg_sleep(coalesce(current_setting('test.sleep_s', true), '60')::float);\n\
     -- migrate:down\nDELETE FROM items WHERE id = 2;\n",
);

const GUESTS: &str = "SELECT (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'lockkeeper_g%') \
     + (SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'lockkeeper_g%')";

/// One database of a service that another migrator serves.
struct Scene {
    fleet: SmallFleet,
    server: Postgres,
    folder: PathBuf,
}

impl Scene {
    fn start(files: &[(&str, &str)]) -> Result<Scene> {
        let fleet = SmallFleet::start()?;
        let server = Postgres::start()?;
        server.create_database("s")?;
        server.sql("s", KEEPER)?;
        let folder = fleet.migrations("external", files)?;
        Ok(Scene {
            fleet,
            server,
            folder,
        })
    }

    fn sql(&self, sql: &str) -> Result<String> {
        self.server.sql("s", sql)
    }

    fn declare(&self, migrations: &Value) -> Result<()> {
        let dsn = self.server.dsn("s").replace("postgres@", "keeper:kept@");
        let mut target = TargetDeclaration::new("s", REGION, &dsn, &self.folder);
        target.more = json!({ "migrations": migrations });
        self.fleet.declare(&[target])
    }

    fn roll_out(&self, id: &str, more: &Value, code: i32) -> Result<Value> {
        let rolled = self.fleet.roll_out(id, "s", "latest", more)?.expect_code(code);
        rolled.with_context(|| self.fleet.logs(60))?;
        Ok(target_of(&self.fleet.rollout(id)?, "s/eu").clone())
    }

    fn sleeping(&self) -> Result<()> {
        wait::until("the migrator to sleep", ROLLOUT_LIMIT, || {
            let asleep = "SELECT count(*) FROM pg_stat_activity \
                 WHERE wait_event = 'PgSleep' AND usename LIKE 'lockkeeper_g%'";
            Ok((self.sql(asleep)? == "1").then_some(()))
        })
        .with_context(|| self.fleet.logs(60))
    }

    fn expect_no_guests(&self) -> Result<()> {
        let left = self.sql(GUESTS)?;
        ensure!(left == "0", "{left} roles or sessions of migrators are left");
        Ok(())
    }
}

fn dbmate(folder: &Path) -> Result<Value> {
    let program = tools::find("dbmate")?;
    let command = |verb: &str| json!([program, "--no-dump-schema", "-d", folder, verb]);
    Ok(json!({
        "up": command("up"), "status": command("status"), "down": command("rollback"),
        "rule": {"pending": "^Pending: [1-9]", "version": r"^\[X\] (\d+)_"},
    }))
}

#[test]
fn dbmate_goes_up_fails_and_goes_back_down() -> Result<()> {
    let scene = Scene::start(&[FIRST])?;
    scene.declare(&dbmate(&scene.folder)?)?;
    let first = scene.roll_out("r1", &json!({}), 0)?;
    ensure!(first["state"] == "DONE" && first["to"] == "1", "{first}");
    let owner = scene.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'items'")?;
    ensure!(owner == "keeper", "items belongs to {owner}");
    scene.expect_no_guests()?;

    let good = "-- migrate:up\nCREATE TABLE notes (id int);\n-- migrate:down\nDROP TABLE notes;\n";
    let bad = "-- migrate:up\nINSERT INTO nowhere VALUES (1);\n-- migrate:down\nSELECT 1;\n";
    write_files(&scene.folder, &[("2_notes.sql", good), ("3_bad.sql", bad)])?;
    let back = scene.roll_out("r2", &json!({}), 7)?;
    ensure!(back["state"] == "ROLLED_BACK", "{back}");
    let reason = back["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("nowhere"), "{reason}");
    ensure!(scene.sql("SELECT to_regclass('notes') IS NULL")? == "t");
    let status = scene.fleet.target_status("s/eu")?;
    ensure!(status["gate"] == "open" && status["version"] == "1", "{status}");
    scene.sql("INSERT INTO items VALUES (9)")?;
    let again = scene.roll_out("r3", &json!({"on_failure": "hold"}), 5)?;
    ensure!(again["state"] == "HELD", "{again}");
    scene.expect_no_guests()
}

#[test]
fn alembic_goes_up() -> Result<()> {
    let scene = Scene::start(&ALEMBIC)?;
    let program = tools::find("alembic")?;
    let command = |words: &[&str]| {
        let words = words.iter().map(|word| json!(word));
        Value::Array([json!(program)].into_iter().chain(words).collect())
    };
    scene.declare(&json!({
        "up": command(&["upgrade", "head"]), "status": command(&["current"]),
        "down": command(&["downgrade", "{from}"]), "working_dir": scene.folder,
        "rule": {"applied": r"\(head\)", "version": "^([0-9a-f]+)"},
    }))?;
    let done = scene.roll_out("r", &json!({}), 0)?;
    ensure!(done["state"] == "DONE" && done["to"] == "ab02", "{done}");
    ensure!(scene.sql("SELECT name FROM crew")? == "first");
    let same = scene.roll_out("again", &json!({}), 0)?;
    ensure!(same["gate_epoch"] == 0, "closed the gate for nothing: {same}");
    scene.expect_no_guests()
}

#[test]
fn writers_are_refused_while_the_migrator_passes() -> Result<()> {
    let scene = Scene::start(&[FIRST])?;
    scene.declare(&dbmate(&scene.folder)?)?;
    scene.roll_out("r1", &json!({}), 0)?;
    write_files(&scene.folder, &[SLEEPS])?;
    scene
        .fleet
        .create_rollout("r2", "s", "latest", &[REGION], &json!({}))?;
    scene.sleeping()?;
    let refused = scene
        .sql("INSERT INTO items VALUES (7)")
        .err()
        .map(|e| format!("{e:#}"));
    ensure!(
        refused.as_deref().is_some_and(|e| e.contains("is fenced")),
        "{refused:?}"
    );
    // Whoever merely bears such a name is nobody.
    let forged = "CREATE ROLE lockkeeper_g2_00000000000000ff SUPERUSER LOGIN; \
         SET SESSION AUTHORIZATION lockkeeper_g2_00000000000000ff; INSERT INTO items VALUES (8)";
    let refused = scene.sql(forged).err().map(|e| format!("{e:#}"));
    ensure!(
        refused.as_deref().is_some_and(|e| e.contains("is none any more")),
        "{refused:?}"
    );
    scene.sql("DROP ROLE IF EXISTS lockkeeper_g2_00000000000000ff")?;
    ensure!(
        !scene.fleet.logs(500).contains("keeper:kept"),
        "a DSN is in the log"
    );
    scene.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")?;
    let ended = scene.fleet.wait_for_rollout("r2", ROLLOUT_LIMIT)?;
    ensure!(target_of(&ended, "s/eu")["state"] == "ROLLED_BACK", "{ended}");
    ensure!(scene.sql("SELECT string_agg(id::text, ',') FROM items")? == "1");
    scene.expect_no_guests()
}

#[test]
fn a_migrator_that_outlives_its_leader_is_ended_before_the_successor_decides() -> Result<()> {
    let mut scene = Scene::start(&[FIRST])?;
    scene.declare(&dbmate(&scene.folder)?)?;
    scene.roll_out("r1", &json!({}), 0)?;
    write_files(&scene.folder, &[SLEEPS])?;
    scene
        .fleet
        .create_rollout("r2", "s", "latest", &[REGION], &json!({"budget": "90s"}))?;
    scene.sleeping()?;
    let role = "SELECT usename FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let first = scene.sql(role)?;
    scene.fleet.kill(0)?;
    ensure!(
        scene.sql(role)? == first,
        "the migrator went with its leader: nothing is tested"
    );
    scene.sql("ALTER DATABASE s SET test.sleep_s = '0'")?;
    scene.fleet.start_again(0)?;
    scene.fleet.wait_for_leader()?;
    let done = scene.fleet.wait_for_rollout("r2", Duration::from_secs(90))?;
    ensure!(done["state"] == "DONE", "{done}\n{}", scene.fleet.logs(80));
    let logs = scene.fleet.logs(2_000);
    ensure!(
        logs.contains("ended an external migrator's session") && logs.contains(&first),
        "{logs}"
    );
    ensure!(scene.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM items")? == "1,2");
    scene.expect_no_guests()
}

#[test]
fn a_migrator_that_hangs_and_ignores_term_is_killed_in_time() -> Result<()> {
    let scene = Scene::start(&[FIRST])?;
    let alive = scene.folder.join("alive");
    let up = format!(
        "trap '' TERM; while :; do date > {}; sleep 0.1; done",
        alive.display()
    );
    scene.declare(&json!({
        "up": ["/bin/sh", "-c", up], "status": ["/bin/sh", "-c", "echo at 1; echo 1 pending"],
        "rule": {"pending": "pending", "version": r"^at (\d+)"}, "timeout": "1s",
    }))?;
    let ended = scene.roll_out("r", &json!({}), 7)?;
    let reason = ended["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("did not end in time"), "{ended}");
    std::fs::remove_file(&alive).context("it has never run")?;
    std::thread::sleep(Duration::from_millis(400));
    ensure!(!alive.exists(), "it goes on");
    scene.expect_no_guests()
}

#[test]
fn what_cannot_be_let_through_a_fence_is_refused_before_it() -> Result<()> {
    let fleet = SmallFleet::start()?;
    let sqlite = Databases::sqlite()?;
    let server = Postgres::start()?;
    server.create_database("s")?;
    let command = json!({
        "up": ["true"], "status": ["echo", "pending"], "rule": {"pending": "pending"},
    });
    let cases = [
        ("lite", sqlite.create("lite")?, "one write transaction"),
        ("pg", server.app_dsn("s"), "CREATEROLE"),
    ];
    for (service, dsn, why) in cases {
        let mut target = TargetDeclaration::new(service, REGION, &dsn, Path::new("/"));
        target.more = json!({ "migrations": command });
        fleet.declare(&[target])?;
        fleet
            .roll_out(service, service, "latest", &json!({}))?
            .expect_code(7)?;
        let rollout = fleet.rollout(service)?;
        let target = target_of(&rollout, &format!("{service}/{REGION}"));
        let reason = target["reason"].as_str().unwrap_or_default();
        ensure!(target["state"] == "ABORTED" && reason.contains(why), "{target}");
    }
    Ok(())
}

/// A minimal Alembic environment with two revisions.
const ALEMBIC: [(&str, &str); 4] = [
    ("alembic.ini", "[alembic]\nscript_location = %(here)s\n"),
    (
        "env.py",
        "import os\nfrom alembic import context\nfrom sqlalchemy import create_engine\n\
         url = os.environ['DATABASE_URL'].replace('postgres://', 'postgresql+psycopg://')\n\
         with create_engine(url).connect() as connection:\n    \
             context.configure(connection=connection)\n    \
             with context.begin_transaction():\n        \
                 context.run_migrations()\n",
    ),
    (
        "versions/ab01_init.py",
        "from alembic import op\nrevision = 'ab01'\ndown_revision = None\n\
         def upgrade():\n    op.execute('CREATE TABLE crew (name text)')\n\
         def downgrade():\n    op.execute('DROP TABLE crew')\n",
    ),
    (
        "versions/ab02_first.py",
        "from alembic import op\nrevision = 'ab02'\ndown_revision = 'ab01'\n\
         def upgrade():\n    op.execute(\"INSERT INTO crew VALUES ('first')\")\n\
         def downgrade():\n    op.execute('DELETE FROM crew')\n",
    ),
];
