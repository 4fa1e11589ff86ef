//! Two regions, one on PostgreSQL and one on MariaDB, with generated migrations that agents can write beside.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockkeeper_tests::mariadb::MariaDb;
use lockkeeper_tests::postgres::Postgres;
use lockkeeper_tests::report::tell;
use serde_json::{Value, json};

use crate::fleet::{Fleet, READY_LIMIT, TargetDeclaration};
use crate::load::{LoadAgent, MARIADB_TABLE, POSTGRES_TABLE, check_writes, numbers};

pub(crate) const SERVICE: &str = "shop";

pub(crate) const AGENTS_PER_REGION: u64 = 10;

/// The first version makes the tables; each generation adds three: expand, backfill, contract.
pub(crate) const VERSIONS_PER_GENERATION: u32 = 3;

/// The schema version after a generation; 0: only the tables.
pub(crate) fn version_after(generation: u32) -> u32 {
    1 + generation * VERSIONS_PER_GENERATION
}

/// How long the generated migrations take, in seconds: each state must last long enough to be hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slowness {
    pub(crate) backfill: f64,
    pub(crate) revert: f64,
    pub(crate) verify: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    MariaDb,
}

impl Kind {
    fn sleep(self, seconds: f64) -> String {
        match self {
            Kind::Postgres => format!("(SELECT pg_sleep({seconds})) AS pause"),
            Kind::MariaDb => format!("(SELECT SLEEP({seconds})) AS pause"),
        }
    }

    fn table(self) -> &'static str {
        match self {
            Kind::Postgres => POSTGRES_TABLE,
            Kind::MariaDb => MARIADB_TABLE,
        }
    }
}

/// The servers of both regions.
#[derive(Debug)]
pub(crate) struct Regions {
    pub(crate) postgres: Postgres,
    pub(crate) mariadb: MariaDb,
    pub(crate) targets: Vec<TargetDeclaration>,
}

const DATABASE: &str = "shop";

impl Regions {
    /// Starts both servers and writes `generations` of migrations for each.
    pub(crate) fn start(fleet: &Fleet, generations: u32, slowness: Slowness) -> Result<Regions> {
        let (postgres, mariadb) = (Postgres::start()?, MariaDb::start()?);
        postgres.create_database(DATABASE)?;
        mariadb.create_database(DATABASE)?;
        let target = |region: &str, dsn: &str, kind: Kind| {
            let folder = fleet.path(&format!("migrations-{region}"));
            write_migrations(&folder, kind, generations, slowness)?;
            let target = TargetDeclaration::new(SERVICE, region, dsn, &folder)
                .invariant("writes", "SELECT count(*) FROM writes")
                .invariant("numbers", "SELECT sum(write_id) FROM writes");
            anyhow::Ok(target)
        };
        // What a service has: no superuser, and on MariaDB no right beyond its own database.
        let targets = vec![
            target("eu", &postgres.app_dsn(DATABASE), Kind::Postgres)?,
            target("us", &mariadb.app_dsn(DATABASE), Kind::MariaDb)?,
        ];
        Ok(Regions {
            postgres,
            mariadb,
            targets,
        })
    }

    /// Declares the targets and takes them to their first version. Only then can the row invariants be asked.
    pub(crate) fn make_tables(&self, fleet: &Fleet) -> Result<()> {
        let mut without = self.targets.clone();
        without.iter_mut().for_each(|target| target.invariants.clear());
        fleet.declare(&without)?;
        let regions: Vec<&str> = self.targets.iter().map(|target| target.region.as_str()).collect();
        fleet.create_rollout("tables", SERVICE, "1", &regions, &json!({}))?;
        let rollout = fleet.wait_for_rollout("tables", READY_LIMIT)?;
        ensure!(rollout["state"] == "DONE", "the tables cannot be made: {rollout}");
        fleet.declare(&self.targets)
    }

    pub(crate) fn kind(&self, target: &TargetDeclaration) -> Kind {
        if target.dsn.starts_with("mysql:") {
            Kind::MariaDb
        } else {
            Kind::Postgres
        }
    }

    /// Asks a target's database.
    pub(crate) fn sql(&self, target: &TargetDeclaration, sql: &str) -> Result<String> {
        match self.kind(target) {
            Kind::Postgres => self.postgres.sql(DATABASE, sql),
            Kind::MariaDb => self.mariadb.sql(DATABASE, sql),
        }
    }

    /// Whether the slow statement of a backfill runs on a target right now.
    pub(crate) fn backfill_runs(&self, target: &str) -> Result<bool> {
        let target = self.targets.iter().find(|one| one.name == target);
        let target = target.context("no such target")?;
        let question = match self.kind(target) {
            Kind::Postgres => {
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%INSERT INTO marks%' AND state = 'active' \
                 AND query_start < now() - interval '30 ms' AND pid <> pg_backend_pid()"
            }
            Kind::MariaDb => {
                "SELECT count(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%INSERT INTO marks%' \
                 AND TIME_MS > 30 AND ID <> CONNECTION_ID()"
            }
        };
        Ok(self.sql(target, question)? != "0")
    }

    /// Checks the writes of each region against what its agents had acknowledged.
    pub(crate) fn check_all_writes(&self, agents: &[Vec<LoadAgent>]) -> Result<()> {
        for (target, agents) in self.targets.iter().zip(agents) {
            let mut acked = Vec::new();
            for agent in agents {
                acked.extend(agent.acked()?);
            }
            let found = numbers(&self.sql(target, "SELECT write_id FROM writes")?)?;
            check_writes(&acked, &found).with_context(|| target.name.clone())?;
        }
        Ok(())
    }

    /// Ends the agents. Nothing that they had acknowledged is missing, and none of them had an error.
    pub(crate) fn finish(&self, agents: &mut [Vec<LoadAgent>]) -> Result<()> {
        let (mut acked, mut refused, mut longest) = (0, 0, Duration::ZERO);
        for agent in agents.iter_mut().flatten() {
            let report = agent.stop()?;
            let replica = &agent.replica;
            ensure!(
                report.errors.is_empty(),
                "{replica} had errors: {:?}",
                report.errors
            );
            let recorded = u64::try_from(agent.acked()?.len())?;
            ensure!(
                recorded == report.acked,
                "{replica} has lost a part of its record"
            );
            acked += report.acked;
            refused += report.refused;
            longest = longest.max(report.longest_pause);
        }
        tell(format_args!(
            "{acked} writes acknowledged, {refused} refused and retried, longest pause {longest:?}"
        ));
        self.check_all_writes(agents)
    }

    /// Checks that each migration up to `version` has taken effect exactly once, and none beyond it: by what the
    /// migrations themselves have written, and by the ledger.
    pub(crate) fn check_once(&self, target: &TargetDeclaration, version: u32) -> Result<()> {
        let expected: Vec<u64> = (1..=u64::from(version)).collect();
        let marks = numbers(&self.sql(target, "SELECT version FROM marks ORDER BY version")?)?;
        ensure!(
            marks == expected,
            "{}: migrations have run as {marks:?}, not once each up to {version}",
            target.name
        );
        let mut ledger = numbers(&self.sql(target, "SELECT version FROM lockkeeper_ledger")?)?;
        ledger.sort_unstable();
        ensure!(
            ledger == expected,
            "{}: the ledger holds {ledger:?}, not 1 to {version}",
            target.name
        );
        Ok(())
    }
}

/// Checks a rollout's target by the database's own answers: what was there when the fence stood is what was there
/// before the opening.
pub(crate) fn check_quiet(target: &Value) -> Result<()> {
    let invariants = target["invariants"].as_array().cloned().unwrap_or_default();
    // Already there, or aborted before its fence stood.
    if target["fence_ms"].is_null() && invariants.is_empty() {
        return Ok(());
    }
    ensure!(invariants.len() == 2, "invariants are missing: {target}");
    for invariant in invariants {
        let before = invariant["before"].as_str().unwrap_or_default();
        ensure!(!before.is_empty(), "not asked after the draining: {invariant}");
        ensure!(
            invariant["before"] == invariant["after"],
            "written while fenced: {invariant}"
        );
    }
    Ok(())
}

fn write_migrations(folder: &Path, kind: Kind, generations: u32, slowness: Slowness) -> Result<()> {
    let verify = folder.join("verify");
    fs::create_dir_all(&verify).context("create the migrations' folder")?;
    let file = |name: String, sql: String| {
        fs::write(folder.join(&name), sql).with_context(|| format!("write {name}"))
    };
    file(
        "1_tables.up.sql".to_owned(),
        format!(
            "{}\nCREATE TABLE marks (version BIGINT NOT NULL);\nINSERT INTO marks VALUES (1);",
            kind.table()
        ),
    )?;
    file(
        "1_tables.down.sql".to_owned(),
        "DROP TABLE marks;\nDROP TABLE writes;".to_owned(),
    )?;
    for generation in 1..=generations {
        let expand = version_after(generation - 1) + 1;
        let column = format!("c{expand}");
        let add = format!("ALTER TABLE writes ADD COLUMN {column} BIGINT;");
        let drop = format!("ALTER TABLE writes DROP COLUMN {column};");
        let fill = format!("UPDATE writes SET {column} = write_id;");
        let marked = |version: u32, seconds: f64| {
            format!(
                "INSERT INTO marks (version) SELECT {version} FROM {};",
                kind.sleep(seconds)
            )
        };
        let unmarked = |version: u32, seconds: f64| {
            let pause = kind.sleep(seconds);
            format!("DELETE FROM marks WHERE version IN (SELECT {version} FROM {pause});")
        };
        let steps = [
            ("expand", add.clone(), 0.0, drop.clone()),
            ("backfill", fill, slowness.backfill, String::new()),
            ("contract", drop, 0.0, add),
        ];
        for (version, (name, up, seconds, down)) in (expand..).zip(steps) {
            file(
                format!("{version}_{name}.up.sql"),
                format!("{up}\n{}", marked(version, seconds)),
            )?;
            file(
                format!("{version}_{name}.down.sql"),
                format!("{down}\n{}", unmarked(version, slowness.revert)),
            )?;
        }
    }
    let check = format!(
        "SELECT count(*) = count(DISTINCT write_id) FROM writes, {};",
        kind.sleep(slowness.verify)
    );
    fs::write(verify.join("writes.sql"), check).context("write the verify script")
}
