//! The third of five migrations fails: the target goes back and opens, or is held behind its gate, and says why.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use lockkeeper_tests::wait;
use serde_json::{Value, json};

use crate::fleet::{TargetDeclaration, target_of};
use crate::small::{Databases, REGION, ROLLOUT_LIMIT, SmallFleet, write_files};

/// Five migrations; the third is as it should be.
const FILES: [(&str, &str); 10] = [
    (
        "1_init.up.sql",
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(40));\nINSERT INTO items VALUES (1, 'first');",
    ),
    ("1_init.down.sql", "DROP TABLE items;"),
    ("2_notes.up.sql", "CREATE TABLE notes (id INTEGER PRIMARY KEY);"),
    ("2_notes.down.sql", "DROP TABLE notes;"),
    (
        "3_more.up.sql",
        "CREATE TABLE more (id INTEGER PRIMARY KEY);\nINSERT INTO more VALUES (3);",
    ),
    ("3_more.down.sql", "DROP TABLE more;"),
    (
        "4_size.up.sql",
        "ALTER TABLE items ADD COLUMN size INTEGER DEFAULT 4;",
    ),
    ("4_size.down.sql", "ALTER TABLE items DROP COLUMN size;"),
    ("5_tags.up.sql", "CREATE TABLE tags (id INTEGER PRIMARY KEY);"),
    ("5_tags.down.sql", "DROP TABLE tags;"),
];

/// Fails before it has changed anything.
const FAILS_CLEANLY: (&str, &str) = ("3_more.up.sql", "\nINSERT INTO nowhere VALUES (3);\n");

/// Fails after a statement that commits by itself on MariaDB.
const FAILS_HALFWAY: (&str, &str) = (
    "3_more.up.sql",
    "CREATE TABLE more (id INTEGER PRIMARY KEY);\n\nINSERT INTO nowhere VALUES (3);\n",
);

/// A service with one database at version 1, in the middle of nothing.
struct Scene<'a> {
    fleet: &'a SmallFleet,
    databases: &'a Databases,
    service: &'static str,
    migrations: PathBuf,
}

impl<'a> Scene<'a> {
    /// `broken` replaces or adds files, once version 1 is there.
    fn set(
        fleet: &'a SmallFleet,
        databases: &'a Databases,
        service: &'static str,
        broken: &[(&str, &str)],
    ) -> Result<Self> {
        let migrations = fleet.migrations(service, &FILES)?;
        let dsn = databases.create(service)?;
        let target = TargetDeclaration::new(service, REGION, &dsn, &migrations)
            .invariant("rows of items", "SELECT count(*) FROM items");
        // Its table is not there before version 1.
        fleet.declare(&[TargetDeclaration {
            invariants: Vec::new(),
            ..target.clone()
        }])?;
        fleet
            .roll_out(&format!("{service}-0"), service, "1", &json!({}))?
            .expect_code(0)?;
        fleet.declare(&[target])?;
        write_files(&migrations, broken)?;
        Ok(Scene {
            fleet,
            databases,
            service,
            migrations,
        })
    }

    fn target(&self) -> String {
        format!("{}/{REGION}", self.service)
    }

    /// Rolls out to the newest version with `--wait`, expects the exit code, and gives the target in the rollout.
    fn roll_out(&self, more: &Value, code: i32) -> Result<Value> {
        self.fleet
            .roll_out(self.service, self.service, "latest", more)?
            .expect_code(code)
            .with_context(|| self.fleet.logs(20))?;
        self.outcome()
    }

    fn outcome(&self) -> Result<Value> {
        let rollout = self.fleet.rollout(self.service)?;
        Ok(target_of(&rollout, &self.target()).clone())
    }

    fn decide(&self, verb: &str) -> Result<Value> {
        self.fleet.run(&["rollout", verb, self.service])?.expect_code(0)?;
        let target = self.target();
        let at_rest =
            |rollout: Value| (rollout["state"] != "RUNNING").then(|| target_of(&rollout, &target).clone());
        wait::until(
            &format!("{} to come to rest", self.service),
            ROLLOUT_LIMIT,
            || Ok(at_rest(self.fleet.rollout(self.service)?)),
        )
    }

    fn write(&self) -> Result<String> {
        let next = "INSERT INTO items (id, name) SELECT max(id) + 1, 'foreign' FROM items";
        self.databases.sql(self.service, next)
    }

    /// The target is open at version 1, and nothing of what was tried is left.
    fn expect_untouched(&self) -> Result<()> {
        let status = self.fleet.target_status(&self.target())?;
        ensure!(status["gate"] == "open" && status["version"] == "1", "{status}");
        for table in ["notes", "more", "tags"] {
            ensure!(!self.databases.has(self.service, table), "{table} is left behind");
        }
        self.write().context("write through the open gate")?;
        Ok(())
    }

    /// The gate is closed, for everybody.
    fn expect_closed(&self) -> Result<()> {
        let status = self.fleet.target_status(&self.target())?;
        ensure!(status["gate"] == "closed", "{status}");
        let refusal = self
            .write()
            .err()
            .ok_or_else(|| anyhow!("a write went through a closed gate"))?;
        let refusal = refusal.to_string();
        let by_the_fence = match self.databases {
            Databases::Sqlite(_) => refusal.contains("database is locked"),
            Databases::Postgres(_) | Databases::MariaDb(_) => refusal.contains("fenced"),
        };
        ensure!(by_the_fence, "{refusal}");
        Ok(())
    }

    /// The target is open at the newest version, with each migration applied once.
    fn expect_newest(&self) -> Result<()> {
        let status = self.fleet.target_status(&self.target())?;
        ensure!(status["gate"] == "open" && status["version"] == "5", "{status}");
        ensure!(self.databases.sql(self.service, "SELECT count(*) FROM more")? == "1");
        let ledger = "SELECT count(*) FROM lockkeeper_ledger";
        ensure!(self.databases.sql(self.service, ledger)? == "5");
        self.write().context("write through the open gate")?;
        Ok(())
    }
}

fn expect_reason(target: &Value, state: &str, parts: &[&str]) -> Result<()> {
    let reason = target["reason"].as_str().unwrap_or_default();
    let told = parts.iter().all(|part| reason.contains(part));
    ensure!(
        target["state"] == state && told,
        "expected {state} with {parts:?}: {target}"
    );
    Ok(())
}

fn rolls_back(fleet: &SmallFleet, databases: &Databases, broken: (&str, &str)) -> Result<()> {
    let scene = Scene::set(fleet, databases, "back", &[broken])?;
    let target = scene.roll_out(&json!({}), 7)?;
    expect_reason(&target, "ROLLED_BACK", &["version 3", "3_more.up.sql", "nowhere"])?;
    scene.expect_untouched()?;
    // Mended, another rollout does it all.
    write_files(&scene.migrations, &FILES[4..5])?;
    fleet
        .roll_out("back-again", "back", "latest", &json!({}))?
        .expect_code(0)?;
    scene.expect_newest()
}

fn is_held_and_mended(fleet: &SmallFleet, databases: &Databases, broken: (&str, &str)) -> Result<()> {
    let scene = Scene::set(fleet, databases, "mended", &[broken])?;
    let target = scene.roll_out(&json!({"on_failure": "hold"}), 5)?;
    expect_reason(&target, "HELD", &["version 3", "3_more.up.sql", "nowhere"])?;
    scene.expect_closed()?;
    // Nothing was mended: it is held again, for the same reason.
    expect_reason(&scene.decide("retry")?, "HELD", &["version 3"])?;
    scene.expect_closed()?;
    write_files(&scene.migrations, &FILES[4..5])?;
    expect_reason(&scene.decide("retry")?, "DONE", &[])?;
    scene.expect_newest()
}

fn is_held_and_aborted(fleet: &SmallFleet, databases: &Databases, broken: (&str, &str)) -> Result<()> {
    let scene = Scene::set(fleet, databases, "aborted", &[broken])?;
    scene.roll_out(&json!({"on_failure": "hold"}), 5)?;
    expect_reason(&scene.decide("abort")?, "ROLLED_BACK", &["aborted"])?;
    scene.expect_untouched()
}

fn a_verify_script_says_no(fleet: &SmallFleet, databases: &Databases) -> Result<()> {
    let script = (
        "verify/5_sizes.sql",
        "SELECT count(*) = 99 FROM items WHERE size = 4;",
    );
    let scene = Scene::set(fleet, databases, "verified", &[script])?;
    let target = scene.roll_out(&json!({}), 7)?;
    expect_reason(&target, "ROLLED_BACK", &["5_sizes.sql"])?;
    scene.expect_untouched()?;
    write_files(
        &scene.migrations,
        &[(
            "verify/5_sizes.sql",
            "SELECT count(*) > 0 FROM items WHERE size = 4;",
        )],
    )?;
    fleet
        .roll_out("verified-again", "verified", "latest", &json!({}))?
        .expect_code(0)?;
    scene.expect_newest()
}

fn a_row_gets_lost(fleet: &SmallFleet, databases: &Databases) -> Result<()> {
    let loses = (
        "2_notes.up.sql",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY);\nINSERT INTO items VALUES (77, 'x');",
    );
    let again = (
        "2_notes.down.sql",
        "DELETE FROM items WHERE id = 77;\nDROP TABLE notes;",
    );
    let scene = Scene::set(fleet, databases, "counted", &[loses, again])?;
    let target = scene.roll_out(&json!({}), 7)?;
    expect_reason(
        &target,
        "ROLLED_BACK",
        &["row invariant rows of items changed from 1 to 2"],
    )?;
    scene.expect_untouched()
}

fn every_scene(databases: &Databases, broken: (&str, &str)) -> Result<()> {
    let fleet = SmallFleet::start()?;
    rolls_back(&fleet, databases, broken).context("rolls back")?;
    is_held_and_mended(&fleet, databases, broken).context("is held and mended")?;
    is_held_and_aborted(&fleet, databases, broken).context("is held and aborted")?;
    a_verify_script_says_no(&fleet, databases).context("a verify script says no")?;
    a_row_gets_lost(&fleet, databases).context("a row gets lost")
}

#[test]
fn on_postgres() -> Result<()> {
    // Its DDL is transactional: halfway is as good as not at all.
    every_scene(&Databases::postgres()?, FAILS_HALFWAY)
}

#[test]
fn on_sqlite() -> Result<()> {
    every_scene(&Databases::sqlite()?, FAILS_HALFWAY)
}

#[test]
fn on_mariadb() -> Result<()> {
    every_scene(&Databases::mariadb()?, FAILS_CLEANLY)
}

#[test]
fn on_mariadb_half_of_a_file_is_held_whatever_the_policy() -> Result<()> {
    let databases = Databases::mariadb()?;
    let fleet = SmallFleet::start()?;
    let scene = Scene::set(&fleet, &databases, "half", &[FAILS_HALFWAY])?;
    let target = scene.roll_out(&json!({"on_failure": "rollback"}), 5)?;
    expect_reason(
        &target,
        "HELD",
        &["version 3", "3_more.up.sql", "line 3", "nowhere"],
    )?;
    scene.expect_closed()?;
    ensure!(
        databases.has("half", "more"),
        "its first statement commits by itself"
    );
    // Half a file cannot be reverted by a script that expects a whole one.
    expect_reason(&scene.decide("abort")?, "HELD", &["version 3 is applied in part"])?;
    scene.expect_closed()?;
    mend(&scene.migrations)?;
    expect_reason(&scene.decide("retry")?, "DONE", &[])?;
    scene.expect_newest()
}

/// Mends the second statement only: the first one is done already.
fn mend(migrations: &Path) -> Result<()> {
    write_files(migrations, &FILES[4..5])
}
