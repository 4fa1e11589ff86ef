//! An operator steers rollouts: pauses and approvals, targets that are left out, aborts of each kind, and a gate that
//! is opened by force; each ruling once, refused where it makes no sense, and on record.

use anyhow::{Context, Result, ensure};
use lockkeeper_tests::cli::CliOutput;
use lockkeeper_tests::wait;
use serde_json::{Value, json};

use crate::fleet::{Fleet, TargetDeclaration, target_of, target_state};
use crate::small::{Databases, REGION, ROLLOUT_LIMIT, SmallFleet};

const TABLE: [(&str, &str); 2] = [
    ("1_init.up.sql", "CREATE TABLE items (id INTEGER PRIMARY KEY);\n"),
    ("1_init.down.sql", "DROP TABLE items;\n"),
];

const REGIONS: [&str; 3] = ["eu", "us", "ap"];

fn order(fleet: &Fleet, arguments: &[&str]) -> Result<CliOutput> {
    fleet.run(&[&["rollout"], arguments].concat())
}

fn accepted(fleet: &Fleet, arguments: &[&str]) -> Result<()> {
    order(fleet, arguments)?.expect_code(0).map(drop)
}

/// Refused as something that does not fit the state, with the reason.
fn refused(fleet: &Fleet, arguments: &[&str], why: &str) -> Result<()> {
    let output = order(fleet, arguments)?;
    ensure!(
        output.code == Some(4) && output.stderr.contains(why),
        "{arguments:?} is not refused with {why:?}: {output:?}"
    );
    Ok(())
}

fn reached(fleet: &Fleet, id: &str, state: &str) -> Result<Value> {
    let reached = wait::until(&format!("{id} to be {state}"), ROLLOUT_LIMIT, || {
        let rollout = fleet.rollout(id)?;
        Ok((rollout["state"] == state).then_some(rollout))
    });
    reached.with_context(|| format!("{:?}", fleet.rollout(id)))
}

fn history(fleet: &Fleet, id: &str) -> Result<Vec<String>> {
    let output = order(fleet, &["history", id, "--format", "json"])?;
    let history: Value = serde_json::from_str(&output.expect_code(0)?)?;
    let entries = history["history"].as_array().cloned().unwrap_or_default();
    let entry = |e: &Value| format!("{}: {}", e["ruling"], e["reason"]).replace('"', "");
    ensure!(
        entries.iter().all(|e| e["by"] != "" && e["from"] != ""),
        "{history}"
    );
    Ok(entries.iter().map(entry).collect())
}

#[test]
fn waves_wait_for_bake_approval_and_pause_and_every_ruling_is_on_record() -> Result<()> {
    let fleet = SmallFleet::start()?;
    let databases = Databases::sqlite()?;
    let migrations = fleet.migrations("m", &TABLE)?;
    let declared: Vec<TargetDeclaration> = REGIONS
        .iter()
        .map(|region| {
            Ok(TargetDeclaration::new(
                "s",
                region,
                &databases.create(region)?,
                &migrations,
            ))
        })
        .collect::<Result<_>>()?;
    fleet.declare(&declared)?;
    let waves = json!({"waves": [
        {"regions": ["eu"], "bake": "2s"}, {"regions": ["us"], "approve": true}, {"regions": ["ap"]}
    ]});
    fleet.create_rollout("r", "s", "latest", &[], &waves)?;

    let baking = reached(&fleet, "r", "BAKE")?;
    ensure!(
        target_state(&baking, "s/eu") == "DONE" && baking["waiting"]["until"].is_string(),
        "{baking}"
    );
    let waiting = reached(&fleet, "r", "APPROVAL")?;
    ensure!(waiting["waiting"]["wave"] == 1, "{waiting}");
    let explained = fleet.explain("s/us")?;
    ensure!(explained["waiting_on"][0]["kind"] == "approval", "{explained}");

    let pause = ["pause", "r", "--reason", "lunch", "--request-id", "p1"];
    accepted(&fleet, &pause)?;
    accepted(&fleet, &pause).context("the same request again")?;
    refused(&fleet, &["pause", "r"], "is paused already")?;
    refused(&fleet, &["retry", "r"], "resume it first")?;
    refused(&fleet, &["approve", "r", "--wave", "2"], "asks for no approval")?;
    accepted(&fleet, &["approve", "r", "--reason", "looks good"])?;
    refused(&fleet, &["approve", "r"], "no wave waits")?;
    refused(&fleet, &["skip", "r", "s/eu", "--reason", "x"], "come to its end")?;
    refused(
        &fleet,
        &["force-open", "r", "s/us", "--reason", "x"],
        "is not held",
    )?;
    accepted(&fleet, &["skip", "r", "s/ap", "--reason", "is moved away"])?;
    let unknown = order(&fleet, &["skip", "r", "s/xx", "--reason", "x"])?;
    ensure!(unknown.code == Some(2), "{unknown:?}");
    let paused = reached(&fleet, "r", "PAUSED")?;
    ensure!(
        target_state(&paused, "s/us") == "PENDING",
        "an approved wave started in a pause: {paused}"
    );
    accepted(&fleet, &["resume", "r"])?;

    let done = reached(&fleet, "r", "DONE")?;
    ensure!(
        target_state(&done, "s/us") == "DONE" && target_state(&done, "s/ap") == "SKIPPED",
        "{done}"
    );
    ensure!(databases.has("us", "items") && !databases.has("ap", "items"));
    refused(&fleet, &["abort", "r"], "has ended")?;
    ensure!(
        history(&fleet, "r")?
            == [
                "pause: lunch",
                "approve wave 1: looks good",
                "skip s/ap: is moved away",
                "resume: no reason given",
            ],
        "{:?}",
        history(&fleet, "r")
    );
    Ok(())
}

/// A target whose second migration fails, held behind its fence.
fn held(fleet: &SmallFleet, databases: &Databases) -> Result<()> {
    let migrations = fleet.migrations("m", &TABLE)?;
    fleet.declare_one("s", &databases.create("s")?, &migrations)?;
    let first = fleet.roll_out("first", "s", "1", &json!({}))?;
    ensure!(first.code == Some(0), "{first:?}");
    let broken = [
        ("2_size.up.sql", "ALTER TABLE nothing ADD COLUMN size INTEGER;\n"),
        ("2_size.down.sql", ""),
    ];
    fleet.migrations("m", &broken)?;
    let second = fleet.roll_out("second", "s", "2", &json!({"on_failure": "hold"}))?;
    ensure!(second.code == Some(5), "{second:?}");
    Ok(())
}

fn opened_by_force(databases: &Databases) -> Result<()> {
    let fleet = SmallFleet::start()?;
    held(&fleet, databases)?;
    let target = format!("s/{REGION}");
    ensure!(
        databases.sql("s", "INSERT INTO items VALUES (1)").is_err(),
        "written behind a fence"
    );
    refused(
        &fleet,
        &["skip", "second", &target, "--reason", "x"],
        "its gate is closed",
    )?;
    let without = order(&fleet, &["force-open", "second", &target])?;
    ensure!(without.code == Some(2), "opened without a reason: {without:?}");

    accepted(
        &fleet,
        &["force-open", "second", &target, "--reason", "customers wait"],
    )?;
    let opened = wait::until("the open gate", ROLLOUT_LIMIT, || {
        let status = fleet.target_status(&target)?;
        Ok((status["gate"] == "open").then_some(status))
    })?;
    let reason = opened["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("opened by force: customers wait ("),
        "not told why: {opened}"
    );
    ensure!(opened["version"] == "1", "{opened}");
    databases
        .sql("s", "INSERT INTO items VALUES (1)")
        .context("write after force-open")?;
    ensure!(fleet.rollout("second")?["state"] == "HELD");
    accepted(&fleet, &["abort", "second"])?;
    reached(&fleet, "second", "ABORTED")?;
    ensure!(history(&fleet, "second")?[0] == format!("force-open {target}: customers wait"));
    Ok(())
}

#[test]
fn a_gate_is_opened_by_force_with_a_reason_that_stays_on_postgresql() -> Result<()> {
    let databases = Databases::postgres()?;
    opened_by_force(&databases)?;
    let row = databases.sql("s", "SELECT rollout FROM lockkeeper_gate")?;
    ensure!(
        row.starts_with("released by hand: force-open: customers wait ("),
        "{row}"
    );
    Ok(())
}

#[test]
fn a_gate_is_opened_by_force_on_sqlite() -> Result<()> {
    opened_by_force(&Databases::sqlite()?)
}

#[test]
fn an_abort_holds_or_reopens_as_it_was_told() -> Result<()> {
    let (fleet, databases) = (SmallFleet::start()?, Databases::postgres()?);
    let slow = [
        (
            "2_size.up.sql",
            "SELECT pg_sleep(60);\nALTER TABLE items ADD COLUMN size INTEGER;\n",
        ),
        ("2_size.down.sql", "ALTER TABLE items DROP COLUMN size;\n"),
    ];
    let migrations = fleet.migrations("m", &TABLE)?;
    fleet.declare_one("s", &databases.create("s")?, &migrations)?;
    ensure!(fleet.roll_out("first", "s", "1", &json!({}))?.code == Some(0));
    fleet.migrations("m", &slow)?;
    fleet.create_rollout("second", "s", "2", &[REGION], &json!({}))?;
    let target = format!("s/{REGION}");
    wait::until("MIGRATING", ROLLOUT_LIMIT, || {
        Ok((target_state(&fleet.rollout("second")?, &target) == "MIGRATING").then_some(()))
    })?;

    accepted(
        &fleet,
        &["abort", "second", "--way", "hold", "--reason", "let me see"],
    )?;
    let held = reached(&fleet, "second", "HELD")?;
    let reason = target_of(&held, &target)["reason"].as_str().unwrap_or_default();
    ensure!(reason.starts_with("aborted: let me see ("), "{held}");
    ensure!(fleet.target_status(&target)?["gate"] == "closed");
    ensure!(
        databases.sql("s", "INSERT INTO items VALUES (1)").is_err(),
        "the fence fell with the abort"
    );

    accepted(
        &fleet,
        &["abort", "second", "--way", "reopen", "--reason", "nothing ran"],
    )?;
    reached(&fleet, "second", "ABORTED")?;
    let status = fleet.target_status(&target)?;
    ensure!(status["gate"] == "open" && status["version"] == "1", "{status}");
    databases.sql("s", "INSERT INTO items VALUES (1)").map(drop)
}
