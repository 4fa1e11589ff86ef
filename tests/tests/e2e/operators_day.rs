//! The day of an operator: a canary region that turns out ill and goes back by itself, the fix, another try with an
//! approval, a pause over which the leader is killed, and everything done in the end, with a record of all of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
use lockkeeper_tests::postgres::Postgres;
use lockkeeper_tests::wait;
use serde_json::{Value, json};

use crate::fleet::{Fleet, TargetDeclaration, target_of, target_state};
use crate::small::write_files;

const LIMIT: Duration = Duration::from_secs(60);

const REGIONS: [&str; 3] = ["canary", "eu", "us"];

fn migrations(fleet: &Fleet, index: &str) -> Result<()> {
    let second = format!("ALTER TABLE items ADD COLUMN owner TEXT;\n{index}");
    write_files(
        &fleet.path("m"),
        &[
            ("1_init.up.sql", "CREATE TABLE items (id INTEGER PRIMARY KEY);"),
            ("1_init.down.sql", "DROP TABLE items;"),
            ("2_owner.up.sql", &second),
            ("2_owner.down.sql", "ALTER TABLE items DROP COLUMN owner;"),
        ],
    )
}

fn reached(fleet: &Fleet, id: &str, state: &str) -> Result<Value> {
    let reached = wait::until(&format!("{id} to be {state}"), LIMIT, || {
        // The coordinator that is asked may just have been killed.
        Ok(fleet.rollout(id).ok().filter(|rollout| rollout["state"] == state))
    });
    reached.with_context(|| format!("{:?}", fleet.rollout(id)))
}

fn versions(fleet: &Fleet) -> Result<Vec<String>> {
    let version = |region: &&str| {
        let status = fleet.target_status(&format!("shop/{region}"))?;
        ensure!(status["gate"] == "open", "{status}");
        Ok(status["version"].as_str().unwrap_or_default().to_owned())
    };
    REGIONS.iter().map(version).collect()
}

#[test]
fn from_an_ill_canary_to_done_over_a_killed_leader() -> Result<()> {
    let etcd = EtcdCluster::start(1, EtcdRelease::V3_4)?;
    let postgres = Postgres::start()?;
    let mut fleet = Fleet::start(&etcd.store_url(), &["eu", "us"])?;
    migrations(&fleet, "")?;
    let declared: Vec<TargetDeclaration> = REGIONS
        .iter()
        .map(|region| {
            let dsn = postgres.create_database(region)?;
            Ok(TargetDeclaration::new("shop", region, &dsn, &fleet.path("m")))
        })
        .collect::<Result<_>>()?;
    fleet.declare(&declared)?;
    fleet.create_rollout("tables", "shop", "1", &REGIONS, &json!({}))?;
    reached(&fleet, "tables", "DONE")?;

    // In the afternoon: the canary lacks the index that the release needs, goes back, and nobody else was touched.
    let indexed = "SELECT count(*) = 1 FROM pg_indexes WHERE indexname = 'items_owner'";
    let waves = json!({"waves": [
        {"regions": ["canary"], "bake": "2s", "health": [{"sql": {"name": "index", "query": indexed}}]},
        {"regions": ["eu"], "approve": true},
        {"regions": ["us"]}
    ]});
    fleet.create_rollout("owners", "shop", "latest", &[], &waves)?;
    let back = reached(&fleet, "owners", "ROLLED_BACK")?;
    let reason = target_of(&back, "shop/canary")["reason"]
        .as_str()
        .unwrap_or_default();
    ensure!(
        reason.starts_with("health check index: on shop/canary: "),
        "{reason}"
    );
    ensure!(target_state(&back, "shop/us") == "ABORTED", "{back}");
    ensure!(versions(&fleet)? == ["1", "1", "1"]);

    // The fix, and another try: the canary is well, and a person lets it go on to Europe, and pauses for the night.
    migrations(&fleet, "CREATE INDEX items_owner ON items (owner);")?;
    fleet.create_rollout("owners-2", "shop", "latest", &[], &waves)?;
    let waiting = reached(&fleet, "owners-2", "APPROVAL")?;
    ensure!(target_state(&waiting, "shop/canary") == "DONE", "{waiting}");
    let rule = |fleet: &Fleet, arguments: &[&str]| -> Result<()> {
        let output = fleet.run(&[&["rollout"], arguments].concat())?;
        output.expect_code(0).map(drop)
    };
    rule(&fleet, &["pause", "owners-2", "--reason", "until tomorrow"])?;
    rule(&fleet, &["approve", "owners-2", "--reason", "canary is well"])?;

    // Over night the leader is lost. Its successor keeps to what was ruled.
    let leader = fleet.wait_for_leader()?;
    fleet.kill(leader)?;
    fleet.wait_for_leader()?;
    let paused = reached(&fleet, "owners-2", "PAUSED")?;
    ensure!(target_state(&paused, "shop/eu") == "PENDING", "{paused}");
    ensure!(versions(&fleet)? == ["2", "1", "1"]);

    // In the morning.
    rule(&fleet, &["resume", "owners-2", "--reason", "good morning"])?;
    reached(&fleet, "owners-2", "DONE")?;
    ensure!(versions(&fleet)? == ["2", "2", "2"]);
    let alike = fleet.run(&["fleet", "drift"])?;
    ensure!(alike.code == Some(0), "{alike:?}");
    let history = fleet.run(&["rollout", "history", "owners-2"])?.expect_code(0)?;
    for ruled in ["until tomorrow", "approve wave 1", "good morning"] {
        ensure!(history.contains(ruled), "{ruled} is not on record: {history}");
    }
    Ok(())
}
