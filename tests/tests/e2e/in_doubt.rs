//! A statement of which nobody can tell whether it took effect, on a target that a rollout holds: a person says what
//! became of it, and the rollout goes on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockkeeper_tests::wait;
use serde_json::{Value, json};

use crate::fleet::target_of;
use crate::small::{Databases, ROLLOUT_LIMIT, SmallFleet};

/// A procedure can do anything: the catalogue never tells how far a call came.
const FILES: [(&str, &str); 2] = [
    (
        "1_init.up.sql",
        "CREATE TABLE items (id INTEGER PRIMARY KEY);\n\
         DELIMITER //\n\
         CREATE PROCEDURE fill() BEGIN INSERT INTO items VALUES (7); COMMIT; DO SLEEP(30); END //\n\
         DELIMITER ;\n",
    ),
    (
        "2_fill.up.sql",
        "CALL fill();\nALTER TABLE items ADD COLUMN size INTEGER;\n",
    ),
];

const TARGET: &str = "s/eu";

#[test]
fn a_statement_in_doubt_is_settled_through_the_leaders_own_hand() -> Result<()> {
    let fleet = SmallFleet::start()?;
    let databases = Databases::mariadb()?;
    let dsn = databases.create("s")?;
    let migrations = fleet.migrations("m", &FILES)?;
    fleet.declare_one("s", &dsn, &migrations)?;
    fleet.create_rollout("r", "s", "latest", &[], &json!({"waves": [{"regions": ["eu"]}]}))?;

    end_the_call(&databases)?;
    held_with(&fleet, "in doubt")?;
    let resolve = |version: &str, outcome: &str| {
        let arguments = ["rollout", "resolve", "r", TARGET, version, "--as", outcome];
        fleet.run(&[&arguments[..], &["--reason", "row 7 is there"]].concat())
    };
    resolve("1", "done")?.expect_code(0)?;
    held_with(&fleet, "nothing is in doubt there; in doubt is version 2")?;
    resolve("2", "done")?.expect_code(0)?;
    let done = wait::until("the rollout to be done", ROLLOUT_LIMIT, || {
        Ok((fleet.rollout("r")?["state"] == "DONE").then_some(()))
    });
    done.with_context(|| format!("{:?}\n{}", fleet.rollout("r"), fleet.logs(30)))?;
    ensure!(databases.sql("s", "SELECT id, size FROM items")? == "7\tNULL");
    let again = resolve("2", "done")?;
    ensure!(again.code == Some(4), "{again:?}");
    let recorded = databases.sql(
        "s",
        "SELECT count(*) FROM lockkeeper_resolution WHERE version = '2'",
    )?;
    ensure!(recorded == "1", "{recorded} resolutions");
    Ok(())
}

/// Ends the session in the middle of the procedure, as an administrator might.
fn end_the_call(databases: &Databases) -> Result<()> {
    let look =
        "SELECT id FROM information_schema.processlist WHERE state = 'User sleep' AND db = 's' LIMIT 1";
    let session = wait::until("the procedure to sleep", Duration::from_secs(30), || {
        let found = databases.sql("s", look)?;
        Ok((!found.is_empty()).then_some(found))
    })?;
    databases.sql("s", &format!("KILL {session}")).map(drop)
}

fn held_with(fleet: &SmallFleet, reason: &str) -> Result<Value> {
    let held = wait::until(&format!("{TARGET} to be held: {reason}"), ROLLOUT_LIMIT, || {
        let rollout = fleet.rollout("r")?;
        let target = target_of(&rollout, TARGET).clone();
        let says = target["reason"]
            .as_str()
            .is_some_and(|text| text.contains(reason));
        Ok((target["state"] == "HELD" && says).then_some(target))
    });
    held.with_context(|| format!("{:?}\n{}", fleet.rollout("r"), fleet.logs(30)))
}
