//! `diff`: two databases, and a database with a saved schema.

use serde_json::json;

use super::support::{DSN, Folder};

const OTHER: &str = "sqlite://other.db";

/// Two databases of which the second lacks the last migration.
fn two() -> Folder {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", OTHER]);
    folder.ok(&["down", "--yes", OTHER]);
    folder.ok(&["up", "--yes", DSN]);
    folder
}

#[test]
fn two_databases_differ_in_what_one_lacks() {
    let folder = two();
    let differ = folder.run(&["diff", DSN, "--with", OTHER]);
    assert_eq!(differ.code, 4, "{differ:?}");
    assert_eq!(
        differ.stdout,
        "--- sqlite://other.db\n+++ sqlite://app.db\n\
         + index names\n  + definition: create index names on users (name)\n"
    );
    let mut command = folder.command(&["diff", DSN, "--with-env", "OTHER_DSN", "--format", "json"]);
    let differ = super::support::Done::from(command.env("OTHER_DSN", OTHER).output().unwrap()).json();
    assert_eq!(differ["same"], json!(false));
    assert_eq!(differ["differences"][0]["name"], json!("names"));
    assert_eq!(differ["differences"][0]["change"], json!("added"));
    assert_ne!(differ["fingerprint"], differ["reference_fingerprint"]);

    folder.ok(&["up", "--yes", OTHER]);
    let same = folder.ok(&["diff", DSN, "--with", OTHER]);
    assert!(
        same.stdout.contains("have the same schema, fingerprint s1:"),
        "{same:?}"
    );
}

#[test]
fn a_saved_schema_is_compared_with() {
    let folder = two();
    folder.ok(&["diff", DSN, "--save", "schema.json"]);
    folder.ok(&["diff", DSN, "--schema", "schema.json"]);
    let differ = folder.run(&["diff", OTHER, "--schema", "schema.json"]);
    assert_eq!(differ.code, 4, "{differ:?}");
    assert!(differ.stdout.contains("- index names\n"), "{differ:?}");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let folder = two();
    folder.file("schema.json", "{}");
    for (args, why) in [
        (vec!["diff", DSN], "nothing was named to compare with"),
        (
            vec!["diff", DSN, "--schema", "schema.json"],
            "it is no saved schema",
        ),
        (vec!["diff", DSN, "--schema", "none.json"], "read none.json"),
        (
            vec!["diff", DSN, "--with", "postgres://h/d"],
            "it is of another dialect",
        ),
        (
            vec!["diff", DSN, "--with-env", "NO_SUCH_DSN"],
            "NO_SUCH_DSN is not set",
        ),
        (
            vec!["diff", DSN, "--with", OTHER, "--schema", "x"],
            "cannot be used with",
        ),
    ] {
        let done = folder.run(&args);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains(why), "{args:?}: {done:?}");
    }
    let done = folder.run(&["diff", DSN, "--with", "sqlite://none.db"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(!folder.has("none.db"));
}
