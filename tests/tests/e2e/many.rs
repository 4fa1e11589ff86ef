//! Many targets in one rollout, more than a store's transaction can record. A bad one neither blocks nor hides others,
//! and what a target costs the store and the leader is told.

use std::time::Duration;

use anyhow::{Result, ensure};
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
use lockkeeper_tests::report::tell;
use lockkeeper_tests::wait;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fleet::{Fleet, TargetDeclaration, target_of};
use crate::small::{Databases, write_files};

const LIMIT: Duration = Duration::from_secs(600);

/// Most commits of the store that a target may need, from PENDING to DONE: some per state, and not one per other target.
const COMMITS_MAX: u64 = 30;

/// How many targets there are on SQLite and on PostgreSQL.
fn sizes() -> (usize, usize) {
    match std::env::var_os("LOCKKEEPER_TEST_FULL") {
        Some(_) => (500, 100),
        None => (60, 10),
    }
}

fn targets(
    fleet: &Fleet,
    databases: &Databases,
    region: &str,
    count: usize,
) -> Result<Vec<TargetDeclaration>> {
    let declare = |number: usize| {
        let dsn = databases.create(&format!("{region}_{number}"))?;
        let mut target = TargetDeclaration::new("s", region, &dsn, &fleet.path("m"));
        target.name = format!("s/{region}-{number}");
        Ok(target)
    };
    (0..count).map(declare).collect()
}

fn all_open(fleet: &Fleet, count: usize) -> Result<()> {
    wait::until("all gates", LIMIT, || {
        let status = fleet.status()?;
        let targets = status["targets"].as_array().map_or(&[][..], Vec::as_slice);
        let open = targets.iter().filter(|t| t["gate"] == "open").count();
        Ok((open == count).then_some(()))
    })
}

fn done(rollout: &Value) -> usize {
    let targets = rollout["targets"].as_array().map_or(&[][..], Vec::as_slice);
    targets.iter().filter(|t| t["state"] == "DONE").count()
}

#[test]
fn one_bad_target_of_many_neither_blocks_nor_hides_the_others() -> Result<()> {
    let (etcd, mut fleet);
    etcd = EtcdCluster::start(1, EtcdRelease::V3_4)?;
    fleet = Fleet::start(&etcd.store_url(), &["eu"])?;
    let (files, server) = (Databases::sqlite()?, Databases::postgres()?);
    let (on_sqlite, on_postgres) = sizes();
    write_files(
        &fleet.path("m"),
        &[
            ("1_init.up.sql", "CREATE TABLE items (id INTEGER);"),
            ("1_init.down.sql", "DROP TABLE items;"),
        ],
    )?;
    let mut all = targets(&fleet, &files, "files", on_sqlite)?;
    all.extend(targets(&fleet, &server, "server", on_postgres)?);
    files.sql("files_7", "CREATE TABLE items (stands_in_the_way INTEGER)")?;
    fleet.apply(&all)?;
    all_open(&fleet, all.len())?;

    let before = (fleet.coordinators()[0].memory_peak()?, Instant::now());
    let spec = json!({"on_failure": "continue", "waves": [{"regions": ["files", "server"], "parallel": 16}]});
    fleet.create_rollout("r", "s", "latest", &[], &spec)?;
    let first = fleet.rollout("r")?["revision"].as_u64().unwrap_or_default();
    let rollout = fleet.wait_for_rollout("r", LIMIT)?;
    let took = before.1.elapsed();
    ensure!(
        done(&rollout) == all.len() - 1,
        "{} are done: {rollout}",
        done(&rollout)
    );
    let bad = target_of(&rollout, "s/files-7");
    let reason = bad["reason"].as_str().unwrap_or_default();
    ensure!(
        bad["state"] == "ROLLED_BACK" && reason.contains("already exists"),
        "{bad}"
    );

    let commits = rollout["revision"].as_u64().unwrap_or_default() - first;
    let (count, memory) = (u64::try_from(all.len())?, fleet.coordinators()[0].memory_peak()?);
    tell(format_args!(
        "{count} targets in {took:.1?}; {:.1} commits a target; the leader's memory went from {} MiB to {} MiB",
        f64::from(u32::try_from(commits)?) / f64::from(u32::try_from(count)?),
        before.0 / 1024,
        memory / 1024,
    ));
    ensure!(
        commits <= count * COMMITS_MAX,
        "{commits} commits for {count} targets"
    );
    Ok(())
}
