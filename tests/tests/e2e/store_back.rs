//! A store that went back in time, was rebuilt, or was moved: the target is the authority.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lockkeeper_tests::cli::Cli;
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
use lockkeeper_tests::wait;
use serde_json::{Value, json};

use crate::fleet::{ELECTION_LIMIT, Fleet, TargetDeclaration, target_of};
use crate::small::{Databases, REGION, ROLLOUT_LIMIT, write_files};

const FILES: [(&str, &str); 6] = [
    ("1_items.up.sql", "CREATE TABLE items (id INTEGER PRIMARY KEY);"),
    ("1_items.down.sql", "DROP TABLE items;"),
    ("2_notes.up.sql", "CREATE TABLE notes (id INTEGER PRIMARY KEY);"),
    ("2_notes.down.sql", "DROP TABLE notes;"),
    ("3_tags.up.sql", "CREATE TABLE tags (id INTEGER PRIMARY KEY);"),
    ("3_tags.down.sql", "DROP TABLE tags;"),
];

/// One coordinator on some store, and one PostgreSQL target of a service `shop`.
struct Scene {
    fleet: Fleet,
    databases: Databases,
    migrations: PathBuf,
    dsn: String,
}

const TARGET: &str = "shop/eu";

impl Scene {
    fn set(store: &str) -> Result<Self> {
        let fleet = Fleet::start(store, &[REGION])?;
        let databases = Databases::postgres()?;
        let dsn = databases.create("shop")?;
        let migrations = fleet.path("migrations");
        write_files(&migrations, &FILES)?;
        let scene = Scene {
            fleet,
            databases,
            migrations,
            dsn,
        };
        scene.fleet.declare(&[scene.target()])?;
        Ok(scene)
    }

    fn target(&self) -> TargetDeclaration {
        TargetDeclaration::new("shop", REGION, &self.dsn, &self.migrations)
    }

    /// Creates a rollout and gives the target at its end or hold.
    fn roll_out(&self, id: &str, to: &str) -> Result<Value> {
        self.fleet.create_rollout(id, "shop", to, &[REGION], &json!({}))?;
        let rollout = self.fleet.wait_for_rollout(id, ROLLOUT_LIMIT)?;
        Ok(target_of(&rollout, TARGET).clone())
    }

    /// Restarts the coordinator while `with` happens to its store.
    fn restart(&mut self, with: impl FnOnce() -> Result<()>) -> Result<()> {
        self.fleet.kill(0)?;
        with()?;
        self.fleet.start_again(0)?;
        self.fleet.wait_for_leader().map(drop)
    }

    /// Waits until what the target waits for says so.
    fn wait_for_word(&self, word: &str) -> Result<()> {
        wait::until(&format!("explain to say {word:?}"), ELECTION_LIMIT, || {
            let told = self.fleet.explain(TARGET)?.to_string();
            Ok(told.contains(word).then_some(()))
        })
        .with_context(|| self.fleet.logs(20))
    }

    fn wait_for_gate(&self, epoch: u64, version: &str) -> Result<()> {
        wait::until(
            &format!("the gate at g{epoch}, version {version}"),
            ELECTION_LIMIT,
            || {
                let status = self.fleet.target_status(TARGET)?;
                let there =
                    status["gate_epoch"] == epoch && status["version"] == version && status["gate"] == "open";
                Ok(there.then_some(()))
            },
        )
        .with_context(|| self.fleet.logs(20))
    }

    fn adopt(&self) -> Result<Value> {
        let output = self.fleet.run(&[
            "fleet",
            "adopt",
            "--yes",
            "--reason",
            "restored from last night",
            "--format",
            "json",
        ])?;
        ensure!(output.code == Some(0), "{output:?}");
        output.json()
    }

    /// The leader epoch in the target's own row.
    fn row_epoch(&self) -> Result<String> {
        self.databases.sql(
            "shop",
            "SELECT generation || '.' || revision FROM lockkeeper_gate",
        )
    }
}

#[test]
fn a_target_that_is_ahead_of_a_restored_store_is_held_until_a_person_adopts_it() -> Result<()> {
    let mut etcd = EtcdCluster::start(1, EtcdRelease::V3_5)?;
    let mut scene = Scene::set(&etcd.store_url())?;
    assert_eq!(scene.roll_out("one", "1")?["state"], "DONE");
    let snapshot = etcd.snapshot()?;
    assert_eq!(scene.roll_out("two", "2")?["state"], "DONE");

    scene.restart(|| etcd.start_over(Some(&snapshot)))?;
    scene.wait_for_word("the store knows only g1")?;
    assert_eq!(
        scene.fleet.target_status(TARGET)?["version"],
        "1",
        "what the old store says"
    );
    let held = scene.roll_out("three", "latest")?;
    assert_eq!(held["state"], "HELD", "{held}");
    assert!(held["reason"].to_string().contains("fleet adopt"), "{held}");
    assert!(!scene.databases.has("shop", "tags"), "nothing ran");

    let look = scene
        .fleet
        .run(&["fleet", "adopt", "--dry-run", "--format", "json"])?
        .json()?;
    assert_eq!((&look["previous"], &look["raised"]), (&json!(1), &Value::Null));
    assert_eq!(look["targets"][0]["ahead"], true, "{look}");
    let raised = scene.adopt()?;
    assert_eq!((&raised["previous"], &raised["raised"]), (&json!(1), &json!(2)));
    scene.fleet.wait_for_leader()?;
    scene.fleet.run(&["rollout", "retry", "three"])?.expect_code(0)?;
    let done = scene.fleet.wait_for_rollout("three", ROLLOUT_LIMIT)?;
    assert_eq!(done["state"], "DONE", "{done}\n{}", scene.fleet.logs(30));
    scene.wait_for_gate(3, "3")?;
    assert!(scene.row_epoch()?.starts_with("2."), "{}", scene.row_epoch()?);
    Ok(())
}

#[test]
fn a_rebuilt_store_takes_targets_up_where_they_stand() -> Result<()> {
    let mut etcd = EtcdCluster::start(1, EtcdRelease::V3_4)?;
    let mut scene = Scene::set(&etcd.store_url())?;
    assert_eq!(scene.roll_out("one", "2")?["state"], "DONE");
    scene.restart(|| etcd.start_over(None))?;
    let file = scene.fleet.path("targets.yaml");
    scene
        .fleet
        .cli()?
        .args(["target", "apply", "-f"])
        .arg(file)
        .run()?
        .expect_code(0)?;
    scene.wait_for_word("fleet adopt")?;
    let refused = scene.fleet.run(&["fleet", "adopt", "--yes"])?;
    assert_eq!(refused.code, Some(2), "a decision needs a reason: {refused:?}");
    scene.adopt()?;
    scene.wait_for_gate(1, "2")?;
    assert_eq!(scene.roll_out("two", "3")?["state"], "DONE");
    scene.wait_for_gate(2, "3")
}

#[test]
fn a_fleet_moves_from_the_embedded_store_to_etcd() -> Result<()> {
    let etcd = EtcdCluster::start(1, EtcdRelease::V3_5)?;
    let folder = tempfile::tempdir()?;
    let embedded = format!("embedded:{}", folder.path().join("store").display());
    let mut scene = Scene::set(&embedded)?;
    assert_eq!(scene.roll_out("one", "1")?["state"], "DONE");
    let store = etcd.store_url();
    let migrate = || {
        Cli::new()?
            .args(["store", "migrate", "--from", &embedded, "--to", &store])
            .run()
    };
    let refused = migrate()?;
    assert_eq!(
        refused.code,
        Some(1),
        "the coordinator has the store: {refused:?}"
    );
    scene.fleet.terminate(0)?;
    let moved = migrate()?;
    assert_eq!(moved.code, Some(0), "{moved:?}");
    let again = Cli::new()?
        .args(["serve", "--store", &embedded, "--listen", "127.0.0.1:0"])
        .run()?;
    assert_eq!(again.code, Some(1), "nobody starts on the old store: {again:?}");
    assert!(again.stderr.contains("move from embedded:"), "{again:?}");

    let fleet = Fleet::start(&store, &[REGION])?;
    let after = Scene { fleet, ..scene };
    after.wait_for_gate(1, "1")?;
    assert_eq!(
        after.fleet.rollout("one")?["state"],
        "DONE",
        "the history came along"
    );
    assert_eq!(after.roll_out("two", "latest")?["state"], "DONE");
    assert!(after.row_epoch()?.starts_with("2."), "{}", after.row_epoch()?);
    Ok(())
}
