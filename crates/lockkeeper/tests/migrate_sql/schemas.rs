//! What the verbs print is what the schemas in docs/schema say, no key more and none less.

use std::path::Path;

use boon::{Compiler, Schemas};
use serde_json::Value;

use super::support::{DSN, Folder};

pub(crate) fn check(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/schema")
        .join(format!("{name}.json"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let place = format!("http://localhost/{name}.json");
    let mut compiler = Compiler::new();
    compiler.add_resource(&place, schema).unwrap();
    let mut schemas = Schemas::new();
    let schema = compiler.compile(&place, &mut schemas).unwrap();
    let outcome = schemas.validate(value, schema);
    assert!(outcome.is_ok(), "{name}: {:#}\n{value:#}", outcome.unwrap_err());
}

#[test]
fn results_have_the_shapes_that_are_documented() {
    let folder = Folder::new();
    folder.migration("4_vacuum", "VACUUM;", "");
    let json = |args: &[&str]| folder.run(&[args, &["--format", "json"]].concat()).json();
    check("create-sql", &json(&["create", DSN, "--print-sql"]));
    check("create", &json(&["create", DSN]));
    check("validate", &json(&["validate", "--dialect", "sqlite"]));
    check("plan", &json(&["plan", DSN]));
    check("change", &json(&["up-to", "3", "--yes", DSN]));
    check("plan", &json(&["down", "--dry-run", DSN]));
    check("change", &json(&["redo", "--yes", DSN]));
    check("change", &json(&["redo", "--yes", "--backup", "auto", DSN]));
    let made = json(&["backup", DSN]);
    check("backup", &made);
    let place = made["place"].as_str().unwrap();
    check(
        "restore",
        &json(&["restore", place.split_once(':').unwrap().1, "--yes", DSN]),
    );
    check("backup-list", &json(&["backup", "--list", DSN]));
    check("doctor", &json(&["doctor", DSN]));
    check("status", &json(&["status", DSN]));
    check("lint", &json(&["lint", DSN]));
    folder.ok(&["up-to", "1", "--yes", "sqlite://other.db"]);
    check("diff", &json(&["diff", DSN, "--with", "sqlite://other.db"]));
    check("diff", &json(&["diff", DSN, "--with", DSN]));
    check("rehearse", &json(&["rehearse", "sqlite://other.db"]));
    check("verify", &json(&["verify", DSN]));
    check("new", &json(&["new", "more"]));
    folder.file("migrations/2_names.up.sql", "SELECT 3;");
    check("status", &json(&["status", DSN]));
    check("validate", &json(&["validate", DSN]));
    let edit = json(&["accept-edit", "2", "--reason", "why", "--yes", DSN]);
    check("accept-edit", &edit);
    check("status", &json(&["status", DSN]));
    let moved = ["adopt", "--from", "own", "--ledger", "golang-migrate"];
    check("adopt", &json(&[&moved[..], &["--yes", DSN]].concat()));
}

#[test]
fn a_baseline_has_the_shape_of_an_adoption() {
    let folder = Folder::new();
    folder.journal_mode("delete");
    let baseline = folder.ok(&["baseline", "2", "--dry-run", "--format", "json", DSN]);
    check("adopt", &baseline.json());
}

#[test]
#[should_panic(expected = "status")]
fn a_key_that_no_schema_knows_is_found() {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    let mut value = folder.ok(&["status", DSN, "--format", "json"]).json();
    value["surprise"] = Value::Null;
    check("status", &value);
}
