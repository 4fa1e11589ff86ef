//! What cannot be done is said clearly, with an exit code other than 0, and changes nothing.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use lockkeeper_tests::cli::Cli;
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
use lockkeeper_tests::ports::Port;
use lockkeeper_tests::postgres::Postgres;
use lockkeeper_tests::{http, wait};
use serde_json::{Value, json};

use crate::client::Client;
use crate::fleet::{Fleet, TargetDeclaration, target_of, target_state};
use crate::small::{Databases, REGION, SmallFleet, write_files};

const LIMIT: Duration = Duration::from_secs(30);

const FILES: [(&str, &str); 6] = [
    ("1_items.up.sql", "CREATE TABLE items (id INTEGER PRIMARY KEY);"),
    ("1_items.down.sql", "DROP TABLE items;"),
    ("2_notes.up.sql", "CREATE TABLE notes (id INTEGER PRIMARY KEY);"),
    ("2_notes.down.sql", "DROP TABLE notes;"),
    ("3_tags.up.sql", "CREATE TABLE tags (id INTEGER PRIMARY KEY);"),
    ("3_tags.down.sql", "DROP TABLE tags;"),
];

/// Runs a command that must fail with `code`, and checks what it says.
fn refused(fleet: &Fleet, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let output = fleet.run(arguments)?;
    let told = words.iter().all(|word| output.stderr.contains(word));
    ensure!(
        output.code == Some(code) && told && output.stderr.starts_with("error: "),
        "{arguments:?}: expected exit code {code} and {words:?}: {output:?}"
    );
    Ok(())
}

/// Writes a file of the fleet's and gives its path.
fn file(fleet: &Fleet, name: &str, text: &str) -> Result<String> {
    let path = fleet.path(name);
    fs::write(&path, text).with_context(|| format!("write {name}"))?;
    Ok(path.display().to_string())
}

/// What must not change: the targets, their gates, and which rollouts there are.
fn picture(fleet: &Fleet) -> Result<(Value, String)> {
    let mut status = fleet.status()?;
    let rollouts = fleet
        .run(&["rollout", "list", "--format", "json"])?
        .expect_code(0)?;
    Ok((status["targets"].take(), rollouts))
}

#[test]
fn files_that_cannot_be_used() -> Result<()> {
    let (fleet, databases) = (SmallFleet::start()?, Databases::sqlite()?);
    let migrations = fleet.migrations("migrations", &FILES)?;
    fleet.declare_one("svc", &databases.create("svc")?, &migrations)?;
    let before = picture(&fleet)?;
    let rollout = "service: svc\nto: latest\nwaves:\n  - regions: [eu]\n";
    for (name, text, words) in [
        (
            "field.yaml",
            format!("{rollout}buget: 5s\n"),
            &["line 5", "column 1", "buget"][..],
        ),
        (
            "wave.yaml",
            format!("{rollout}    bakes: 5s\n"),
            &["line 5", "column 5", "bakes"],
        ),
        (
            "budget.yaml",
            format!("{rollout}budget: soon\n"),
            &["line 5", "soon"],
        ),
        (
            "failure.yaml",
            format!("{rollout}on_failure: pray\n"),
            &["line 5", "pray"],
        ),
        ("form.yaml", "service: [svc\n".to_owned(), &["line", "column"]),
        (
            "missing.yaml",
            "service: svc\nto: latest\n".to_owned(),
            &["waves"],
        ),
        (
            "none.yaml",
            "service: svc\nto: latest\nwaves: []\n".to_owned(),
            &["waves"],
        ),
        (
            "empty.yaml",
            "service: svc\nto: latest\nwaves: [{}]\n".to_owned(),
            &["waves[0]"],
        ),
        (
            "target.yaml",
            "service: svc\nto: latest\nwaves: [{targets: [svc/nowhere]}]\n".to_owned(),
            &["svc/nowhere", "not a declared target", "lockkeeper target list"],
        ),
        (
            "region.yaml",
            "service: svc\nto: latest\nwaves: [{regions: [moon]}]\n".to_owned(),
            &["waves[0]", "no declared target of service svc matches"],
        ),
        (
            "service.yaml",
            "service: other\nto: latest\nwaves: [{regions: [eu]}]\n".to_owned(),
            &["no declared target of service other"],
        ),
    ] {
        let path = file(&fleet, name, &text)?;
        refused(&fleet, &["rollout", "create", "--wait", "-f", &path], 2, words)?;
    }
    let target = "targets:\n  - name: svc/us\n    service: svc\n    region: us\n    dsn: {env: DSN}\n";
    for (name, text, words) in [
        (
            "t1.yaml",
            format!("{target}    migrations: {{dir: m}}\n    colour: red\n"),
            &["line 7", "column 5", "colour"][..],
        ),
        ("t2.yaml", target.to_owned(), &["line", "migrations"]),
        (
            "t3.yaml",
            target.replace("svc/us", "svc//us"),
            &["line 2", "svc//us"],
        ),
        (
            "t4.yaml",
            target.replace("{env: DSN}", "postgres://u:geheim@h/db"),
            &["line 5", "one of {env: NAME}"],
        ),
    ] {
        let path = file(&fleet, name, &text)?;
        refused(&fleet, &["target", "apply", "-f", &path], 2, words)?;
        let said = fleet.run(&["target", "apply", "-f", &path])?.stderr;
        ensure!(!said.contains("geheim"), "{said}");
    }
    refused(
        &fleet,
        &["rollout", "create", "-f", "/no/such/file"],
        2,
        &["/no/such/file"],
    )?;
    refused(
        &fleet,
        &["rollout", "get", "nothing"],
        2,
        &["there is no rollout nothing"],
    )?;
    refused(
        &fleet,
        &["rollout", "retry", "nothing"],
        2,
        &["there is no rollout nothing"],
    )?;
    refused(&fleet, &["target", "remove", "svc/nowhere"], 2, &["svc/nowhere"])?;
    refused(&fleet, &["fleet", "explain", "svc/nowhere"], 2, &["svc/nowhere"])?;
    ensure!(picture(&fleet)? == before, "something changed");
    Ok(())
}

#[test]
fn targets_that_cannot_be_reached_get_no_gate_and_no_rollout() -> Result<()> {
    let fleet = SmallFleet::start()?;
    let migrations = fleet.migrations("migrations", &FILES)?;
    let mixed = fleet.migrations("mixed", &FILES)?;
    write_files(&mixed, &[("V9__other.sql", "SELECT 1;")])?;
    let closed = Port::reserve()?;
    let unreachable = format!("postgres://u:geheim@{}/db?sslmode=disable", closed.address());
    let sqlite = format!("sqlite://{}", fleet.path("here.db").display());
    fs::write(fleet.path("here.db"), "").context("make an empty database")?;
    let cases = [
        (
            "scheme",
            "oracle://u:geheim@h/db",
            &migrations,
            "auto",
            "DSN scheme \"oracle\" is unknown",
        ),
        (
            "unreachable",
            &unreachable,
            &migrations,
            "auto",
            "connect to postgres://127.0.0.1:",
        ),
        (
            "absent",
            "sqlite:///no/such/folder/a.db",
            &migrations,
            "auto",
            "/no/such/folder",
        ),
        (
            "nodir",
            &sqlite,
            &fleet.path("nowhere"),
            "golang-migrate",
            "nowhere",
        ),
        (
            "mixed",
            &sqlite,
            &mixed,
            "golang-migrate",
            "a directory holds one layout",
        ),
        ("layout", &sqlite, &migrations, "rails", "rails"),
    ];
    let described: Vec<Value> = cases
        .iter()
        .map(|(name, dsn, dir, layout, _)| {
            let dsn = file(&fleet, &format!("{name}.dsn"), dsn)?;
            Ok(
                json!({"name": format!("{name}/eu"), "service": name, "region": REGION, "dsn": {"file": dsn},
                      "migrations": {"layout": layout, "dir": dir}}),
            )
        })
        .collect::<Result<_>>()?;
    let path = file(&fleet, "targets.yaml", &json!({"targets": described}).to_string())?;
    fleet.run(&["target", "apply", "-f", &path])?.expect_code(0)?;
    for (name, _, _, _, reason) in cases {
        let target = format!("{name}/eu");
        let explained = wait::until(&format!("{target} to be explained"), LIMIT, || {
            let explained = fleet.explain(&target)?;
            Ok(explained
                .to_string()
                .contains(&reason.replace('"', "\\\""))
                .then_some(explained))
        })
        .with_context(|| format!("{reason}: {:?}", fleet.explain(&target)))?;
        ensure!(!explained.to_string().contains("geheim"), "{explained}");
        ensure!(fleet.target_status(&target)?["gate"] != "open");
    }
    // All of them in one: nothing is begun.
    let rollout = file(
        &fleet,
        "r.yaml",
        "service: scheme\nto: latest\nwaves: [{regions: [eu]}]\n",
    )?;
    let hint = [
        "target scheme/eu has no gate yet",
        "lockkeeper fleet explain scheme/eu",
    ];
    refused(&fleet, &["rollout", "create", "--wait", "-f", &rollout], 4, &hint)?;
    let rollouts = fleet.run(&["rollout", "list", "--format", "json"])?.json()?;
    ensure!(rollouts["rollouts"] == json!([]), "{rollouts}");
    ensure!(!fleet.logs(10_000).contains("geheim"), "a password was logged");
    Ok(())
}

#[test]
fn a_role_without_the_rights_is_told_what_it_lacks() -> Result<()> {
    let (fleet, server) = (SmallFleet::start()?, Postgres::start()?);
    let migrations = fleet.migrations("migrations", &FILES)?;
    server.create_database("svc")?;
    fleet.declare_one("svc", &server.app_dsn("svc"), &migrations)?;
    fleet.roll_out("first", "svc", "1", &json!({}))?.expect_code(0)?;
    // Somebody made a table by hand.
    server.sql("svc", "CREATE TABLE foreign_table (id int)")?;
    let gate = "SELECT gate_epoch, opened, changed_at FROM lockkeeper_gate";
    let before = (fleet.target_status("svc/eu")?, server.sql("svc", gate)?);
    let output = fleet.roll_out("second", "svc", "latest", &json!({}))?;
    let target = target_of(&fleet.rollout("second")?, "svc/eu").clone();
    let reason = target["reason"].as_str().unwrap_or_default();
    ensure!(
        output.code == Some(7) && target["state"] == "ABORTED",
        "{output:?}"
    );
    ensure!(
        reason.contains("foreign_table") && reason.contains("OWNER TO"),
        "{reason}"
    );
    ensure!(
        (fleet.target_status("svc/eu")?, server.sql("svc", gate)?) == before,
        "the gate was touched"
    );
    ensure!(
        server.sql(
            "svc",
            "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'lockkeeper%'"
        )? == "0"
    );
    ensure!(
        !(reason.to_owned() + &fleet.logs(10_000)).contains("app-secret"),
        "a password was shown"
    );
    // What the remedy says helps.
    server.sql("svc", "ALTER TABLE foreign_table OWNER TO app")?;
    fleet
        .roll_out("third", "svc", "latest", &json!({}))?
        .expect_code(0)?;
    Ok(())
}

#[test]
fn a_rollout_whose_database_has_gone_away_is_aborted_before_the_gate() -> Result<()> {
    let (fleet, mut server) = (SmallFleet::start()?, Postgres::start()?);
    let migrations = fleet.migrations("migrations", &FILES)?;
    fleet.declare_one("svc", &server.create_database("svc")?, &migrations)?;
    let before = fleet.target_status("svc/eu")?;
    server.crash()?;
    let output = fleet.roll_out("first", "svc", "latest", &json!({}))?;
    ensure!(
        output.code == Some(7) && output.stdout.contains("ABORTED"),
        "{output:?}"
    );
    ensure!(
        output.stdout.contains("connect to postgres://127.0.0.1:"),
        "{output:?}"
    );
    ensure!(fleet.target_status("svc/eu")? == before, "{before}");
    Ok(())
}

#[test]
fn a_second_rollout_over_a_busy_target_is_refused() -> Result<()> {
    let (fleet, server) = (SmallFleet::start()?, Postgres::start()?);
    let migrations = fleet.migrations("migrations", &FILES)?;
    fleet.declare_one("svc", &server.create_database("svc")?, &migrations)?;
    fleet.roll_out("first", "svc", "1", &json!({}))?.expect_code(0)?;
    let mut writer = Client::psql(&server, "svc", "slow")?;
    writer.run("BEGIN; INSERT INTO items VALUES (1);")?;
    fleet.create_rollout("second", "svc", "2", &[REGION], &json!({}))?;
    wait::until("the fence to wait", LIMIT, || {
        Ok((target_state(&fleet.rollout("second")?, "svc/eu") == "FENCING").then_some(()))
    })?;
    let path = fleet.rollout_file("svc", "latest", &[REGION], &json!({}))?;
    let path = path.display().to_string();
    let words = [
        "rollout second is working on target svc/eu",
        "nothing was changed",
    ];
    refused(&fleet, &["rollout", "create", "--wait", "-f", &path], 4, &words)?;
    // Neither is the target taken away under it, nor its id given to another rollout.
    refused(&fleet, &["target", "remove", "svc/eu"], 4, &["second"])?;
    refused(
        &fleet,
        &["rollout", "create", "--id", "second", "-f", &path],
        4,
        &["another content"],
    )?;
    writer.run("COMMIT;")?;
    let rollout = fleet.wait_for_rollout("second", LIMIT)?;
    ensure!(rollout["state"] == "DONE", "{rollout}");
    fleet
        .roll_out("third", "svc", "latest", &json!({}))?
        .expect_code(0)?;
    Ok(())
}

#[test]
fn a_coordinator_without_its_store_ends_and_says_so() -> Result<()> {
    let (nobody, listen, admin) = (Port::reserve()?, Port::reserve()?, Port::reserve()?);
    let serve = |store: &str| {
        let serve = Cli::new()?.args(["serve", "--store", store, "--listen", &listen.address()]);
        serve.args(["--admin-listen", &admin.address()]).run()
    };
    for (store, code, words) in [
        (
            format!("etcd://{}", nobody.address()),
            1,
            &["error: ", "--store", "hint: is the store up"][..],
        ),
        (
            "redis://127.0.0.1:1".to_owned(),
            2,
            &["error: --store: ", "redis"],
        ),
        ("etcd://127.0.0.1".to_owned(), 2, &["is no HOST:PORT"]),
        (
            "embedded:/proc/nowhere".to_owned(),
            1,
            &["error: --store embedded:/proc/nowhere"],
        ),
    ] {
        let output = serve(&store)?;
        let told = words.iter().all(|word| output.stderr.contains(word));
        ensure!(output.code == Some(code) && told, "{store}: {output:?}");
    }
    Ok(())
}

/// A service that writes through psql, without pause, as long as it runs.
const WRITER: &str =
    r#"while :; do psql -qXc 'INSERT INTO writes DEFAULT VALUES' "$DSN" || exit 9; sleep 0.05; done"#;

#[test]
fn agents_write_on_while_etcd_is_gone_and_coordinators_recover() -> Result<()> {
    let mut etcd = EtcdCluster::start(3, EtcdRelease::V3_5)?;
    let server = Postgres::start()?;
    let mut fleet = Fleet::start(&etcd.store_url(), &[REGION, REGION])?;
    let migrations = fleet.path("migrations");
    write_files(&migrations, &FILES)?;
    write_files(
        &migrations,
        &[("1_items.up.sql", "CREATE TABLE writes (id serial PRIMARY KEY);")],
    )?;
    let dsn = server.create_database("svc")?;
    fleet.declare(&[TargetDeclaration::new("svc", REGION, &dsn, &migrations)])?;
    fleet.create_rollout("first", "svc", "1", &[REGION], &json!({}))?;
    fleet.wait_for_rollout("first", LIMIT)?;
    let agent = fleet
        .cli()?
        .env("DSN", &dsn)
        .args(["agent", "run", "--service", "svc", "--region", REGION]);
    let mut agent = agent
        .args([
            "--replica",
            "r1",
            "--target",
            "svc/eu",
            "--go-on-without-coordinator",
            "--",
            "sh",
            "-c",
            WRITER,
        ])
        .spawn()?;
    let writes = || -> Result<u64> { Ok(server.sql("svc", "SELECT count(*) FROM writes")?.parse()?) };
    wait::until("the first write", LIMIT, || Ok((writes()? > 0).then_some(())))
        .with_context(|| agent.process.log())?;

    for member in etcd.members() {
        member.pause()?;
    }
    // Longer than every lease of this fleet.
    std::thread::sleep(Duration::from_secs(8));
    let before = writes()?;
    wait::until("writes without a store", Duration::from_secs(3), || {
        Ok((writes()? > before + 5).then_some(()))
    })
    .with_context(|| agent.process.log())?;
    ensure!(
        agent.process.is_running() && !agent.process.log().contains("SIGTERM"),
        "{}",
        agent.process.log()
    );
    let output = fleet.cli()?.limit(LIMIT).args(["fleet", "status"]).run()?;
    ensure!(
        output.code == Some(1) && output.stderr.contains("store"),
        "{output:?}"
    );
    for coordinator in fleet.coordinators() {
        ensure!(coordinator.is_running(), "{}", coordinator.log());
        let admin = coordinator.admin_address();
        let port = admin
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .context("no port")?;
        let answer = |path| http::get(port, path).ok_or_else(|| anyhow!("{path} is silent"));
        ensure!(answer("/livez")?.contains(" 200 ") && answer("/readyz")?.contains(" 503 "));
    }

    for member in etcd.members() {
        member.resume()?;
    }
    fleet.wait_for_leader()?;
    // The agent is back: the next fence waits for its ack, and closes without a write refused.
    wait::until("the agent to be back", LIMIT, || {
        Ok((fleet.agents()?.len() == 1).then_some(()))
    })?;
    fleet.create_rollout("second", "svc", "2", &[REGION], &json!({}))?;
    let rollout = fleet.wait_for_rollout("second", LIMIT)?;
    ensure!(rollout["state"] == "DONE", "{rollout}");
    ensure!(
        agent.process.is_running(),
        "a write was refused: {}",
        agent.process.log()
    );
    let before = writes()?;
    wait::until("writes after the rollout", LIMIT, || {
        Ok((writes()? > before).then_some(()))
    })
    .with_context(|| agent.process.log())?;
    Ok(())
}

#[test]
fn a_rollout_goes_on_after_every_member_of_etcd_was_killed() -> Result<()> {
    let mut etcd = EtcdCluster::start(3, EtcdRelease::V3_4)?;
    let server = Postgres::start()?;
    let mut fleet = Fleet::start(&etcd.store_url(), &[REGION, REGION])?;
    let migrations = fleet.path("migrations");
    write_files(&migrations, &FILES)?;
    write_files(
        &migrations,
        &[(
            "2_notes.up.sql",
            "CREATE TABLE notes (id INTEGER PRIMARY KEY);\nSELECT pg_sleep(3);",
        )],
    )?;
    fleet.declare(&[TargetDeclaration::new(
        "svc",
        REGION,
        &server.create_database("svc")?,
        &migrations,
    )])?;
    fleet.create_rollout("first", "svc", "latest", &[REGION], &json!({}))?;
    let watch = fleet.watch("first", None)?;
    watch.wait_until("the migrations to run", LIMIT, |rollout| {
        target_state(rollout, "svc/eu") == "MIGRATING"
    })?;
    for member in etcd.members() {
        member.kill()?;
    }
    std::thread::sleep(Duration::from_secs(4));
    for member in etcd.members() {
        member.start_again()?;
    }
    etcd.wait_healthy(LIMIT)?;
    fleet.wait_for_leader()?;
    let rollout = fleet
        .wait_for_rollout("first", LIMIT)
        .with_context(|| fleet.logs(20))?;
    ensure!(rollout["state"] == "DONE", "{rollout}\n{}", fleet.logs(20));
    let once = "SELECT string_agg(version || ':' || n, ',' ORDER BY version) \
                FROM (SELECT version, count(*) n FROM lockkeeper_ledger GROUP BY version) v";
    ensure!(server.sql("svc", once)? == "1:1,2:1,3:1");
    for coordinator in fleet.coordinators() {
        ensure!(coordinator.is_running(), "{}", coordinator.log());
    }
    // Whoever followed the rollout followed it to its end.
    watch.wait_until("the end", LIMIT, |rollout| rollout["state"] == "DONE")?;
    Ok(())
}
