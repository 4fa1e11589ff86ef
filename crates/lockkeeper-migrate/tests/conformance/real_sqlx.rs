//! sqlx' own migrator on the table that lockkeeper keeps, and the other way round: neither complains of the other.

use std::path::Path;

use lockkeeper_migrate::ledger::{LedgerChoice, Tool};
use lockkeeper_migrate::plan::{self, Goal};
use lockkeeper_migrate::source::{Layout, load};
use sqlx::migrate::{Migrate, Migrator};
use sqlx::{Connection, MySqlConnection, PgConnection, SqliteConnection};

use crate::fixture::Fixture;
use crate::ledgers::{go, with_ledger, write};

/// The second file has what a checkout on Windows has.
const FILES: [(&str, &str); 6] = [
    ("1_first_table.up.sql", "CREATE TABLE a1 (id INT);\n"),
    ("1_first_table.down.sql", "DROP TABLE a1;\n"),
    ("2_second.up.sql", "CREATE TABLE a2 (id INT);\r\n"),
    ("2_second.down.sql", "DROP TABLE a2;\r\n"),
    ("3_third.up.sql", "CREATE TABLE a3 (id INT);"),
    ("3_third.down.sql", "DROP TABLE a3;"),
];

async fn carries_on<C: Migrate>(fixture: &impl Fixture, tool: &mut C, dir: &Path) {
    let set = load(&[dir.to_owned()], Some(Layout::Sqlx), fixture.dialect()).unwrap();
    let ours = with_ledger(fixture, LedgerChoice::Tool(Tool::Sqlx));
    let migrator = Migrator::new(dir).await.unwrap();
    // Lockkeeper begins; sqlx compares each checksum and applies the rest.
    go(&*ours, &set, &Goal::To("2".into())).await;
    migrator.run_direct(None, tool, false).await.unwrap();
    let ledger = ours.inspect().await.unwrap().ledger;
    plan::verify(&set, &ledger, set.latest()).unwrap();
    assert_eq!(
        (ledger[0].name.as_str(), ledger[2].name.as_str()),
        ("first table", "third")
    );
    // Lockkeeper takes back; sqlx applies again.
    go(&*ours, &set, &Goal::DownSteps(2)).await;
    migrator.run_direct(None, tool, false).await.unwrap();
    let ledger = ours.inspect().await.unwrap().ledger;
    plan::verify(&set, &ledger, set.latest()).unwrap();
}

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &FILES);
    dir
}

pub(crate) async fn sqlx_carries_on_on_postgres(fixture: &impl Fixture) {
    let mut tool = PgConnection::connect(&fixture.dsn()).await.unwrap();
    carries_on(fixture, &mut tool, directory().path()).await;
}

pub(crate) async fn sqlx_carries_on_on_mariadb(fixture: &impl Fixture) {
    let mut tool = MySqlConnection::connect(&fixture.dsn()).await.unwrap();
    carries_on(fixture, &mut tool, directory().path()).await;
}

pub(crate) async fn sqlx_carries_on_on_sqlite(fixture: &impl Fixture) {
    drop(fixture.session().await);
    let mut tool = SqliteConnection::connect(&fixture.dsn()).await.unwrap();
    carries_on(fixture, &mut tool, directory().path()).await;
}
