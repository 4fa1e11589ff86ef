//! An operator steers rollouts: pauses and approvals, targets that are left out, aborts of each kind, and a gate that
//! is opened by force; each ruling once, refused where it makes no sense, and on record.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

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
        target_state(&baking, "s/eu") == "BAKING" && baking["waiting"]["until"].is_string(),
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

/// Answers every HTTP request with what `answer` says at that moment, for as long as the test runs.
fn serve_http(answer: Arc<Mutex<&'static str>>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or_default();
            let query =
                String::from_utf8_lossy(&request[..length]).contains("/api/v1/query?query=up%20%3E%200");
            let body = match (query, *answer.lock().expect("no panic holds it")) {
                (true, "well") => {
                    r#"{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"1"]}]}}"#
                }
                (true, _) => r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
                (false, _) => "",
            };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    Ok(format!("http://{address}"))
}

#[test]
fn a_canary_that_is_not_well_goes_back_behind_a_fence_and_the_rest_never_starts() -> Result<()> {
    let (fleet, databases) = (SmallFleet::start()?, Databases::postgres()?);
    let migrations = fleet.migrations("m", &TABLE)?;
    let declared = ["eu", "us"].map(|region| {
        Ok(TargetDeclaration::new(
            "s",
            region,
            &databases.create(region)?,
            &migrations,
        ))
    });
    fleet.declare(&declared.into_iter().collect::<Result<Vec<_>>>()?)?;
    let wellness = Arc::new(Mutex::new("well"));
    let url = serve_http(Arc::clone(&wellness))?;
    let spec = json!({"waves": [
        {"regions": ["eu"], "bake": "4s", "health": [
            {"sql": {"name": "empty", "query": "SELECT count(*) = 0 FROM items"}},
            {"http": {"name": "up", "url": url}},
            {"prometheus": {"name": "errors", "url": url, "query": "up > 0"}},
            {"command": {"name": "script", "run": "true"}},
        ]},
        {"regions": ["us"]}
    ]});
    // By the metrics, by the database itself, and by nobody.
    for (id, spoil) in [
        ("by-metrics", Some("metrics")),
        ("by-rows", Some("rows")),
        ("well", None),
    ] {
        fleet.create_rollout(id, "s", "latest", &[], &spec)?;
        reached(&fleet, id, "BAKE")?;
        ensure!(
            fleet.target_status("s/eu")?["version"] == "1",
            "the gate is not open while it bakes"
        );
        match spoil {
            Some("metrics") => *wellness.lock().expect("no panic holds it") = "ill",
            Some(_) => databases.sql("eu", "INSERT INTO items VALUES (1)").map(drop)?,
            None => {
                let done = reached(&fleet, id, "DONE")?;
                ensure!(target_state(&done, "s/us") == "DONE", "{done}");
                continue;
            }
        }
        let back = reached(&fleet, id, "ROLLED_BACK")?;
        let reason = target_of(&back, "s/eu")["reason"].as_str().unwrap_or_default();
        let expected = match spoil {
            Some("metrics") => "health check errors: up > 0 does not hold",
            _ => "health check empty: on s/eu: ",
        };
        ensure!(reason.starts_with(expected), "{reason}");
        ensure!(target_state(&back, "s/us") == "ABORTED", "{back}");
        ensure!(
            !databases.has("eu", "items") && !databases.has("us", "items"),
            "not reverted"
        );
        let status = fleet.target_status("s/eu")?;
        ensure!(status["gate"] == "open" && status["version"] == "", "{status}");
        *wellness.lock().expect("no panic holds it") = "well";
    }
    Ok(())
}

#[test]
fn a_rollout_waits_for_its_window_and_says_so() -> Result<()> {
    let (fleet, databases) = (SmallFleet::start()?, Databases::sqlite()?);
    let migrations = fleet.migrations("m", &TABLE)?;
    fleet.declare_one("s", &databases.create("s")?, &migrations)?;
    let unknown = json!({"window": {"time_zone": "Mars/Olympus"}});
    let refused = fleet.roll_out("r", "s", "latest", &unknown)?;
    ensure!(
        refused.code == Some(2) && refused.stderr.contains("time_zone"),
        "{refused:?}"
    );
    let frozen = json!({"window": {"time_zone": "Europe/Berlin", "freezes": [
        {"from": "2020-01-01", "to": "2999-12-31", "reason": "for good"}
    ]}});
    fleet.create_rollout("r", "s", "latest", &[REGION], &frozen)?;
    let waiting = reached(&fleet, "r", "WINDOW")?;
    let detail = waiting["waiting"]["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("Europe/Berlin"), "{waiting}");
    ensure!(fleet.explain(&format!("s/{REGION}"))?["waiting_on"][0]["kind"] == "window");
    accepted(&fleet, &["abort", "r"])?;
    reached(&fleet, "r", "ABORTED")?;
    ensure!(!databases.has("s", "items"));
    Ok(())
}

#[test]
fn targets_are_grouped_by_version_and_schema_and_outliers_are_told() -> Result<()> {
    let (fleet, databases) = (SmallFleet::start()?, Databases::sqlite()?);
    let migrations = fleet.migrations("m", &TABLE)?;
    let declared: Vec<TargetDeclaration> = REGIONS
        .iter()
        .map(|region| {
            let dsn = databases.create(region)?;
            Ok(TargetDeclaration::new("s", region, &dsn, &migrations))
        })
        .collect::<Result<_>>()?;
    fleet.declare(&declared)?;
    fleet.create_rollout("r", "s", "latest", &REGIONS, &json!({}))?;
    reached(&fleet, "r", "DONE")?;
    let drift = |code: i32| -> Result<Value> {
        let output = fleet.run(&["fleet", "drift", "--format", "json"])?;
        Ok(serde_json::from_str(&output.expect_code(code)?)?)
    };
    let alike = drift(0)?;
    ensure!(
        alike["groups"].as_array().is_some_and(|g| g.len() == 1) && alike["outliers"] == 0,
        "{alike}"
    );

    databases.sql("us", "ALTER TABLE items ADD COLUMN by_hand TEXT")?;
    let one_differs = drift(4)?;
    let outlier = &one_differs["groups"][1];
    ensure!(
        outlier["targets"] == json!(["s/us"]) && outlier["version"] == "1",
        "{one_differs}"
    );
    ensure!(
        outlier["differences"].to_string().contains("by_hand"),
        "{one_differs}"
    );
    Ok(())
}
