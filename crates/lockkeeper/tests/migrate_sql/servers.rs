//! The verbs on PostgreSQL and MariaDB: the set-up of a new database, then there and back with the user it made.

use lockkeeper_tests::mariadb::MariaDb;
use lockkeeper_tests::postgres::Postgres;
use serde_json::{Value, json};

use super::support::{Done, Folder};

const PASSWORD: &str = "it's a \\ geheim";

fn folder(up: &str) -> Folder {
    let folder = Folder::empty();
    folder.migration("1_users", up, "DROP TABLE users;");
    folder.migration(
        "2_names",
        "INSERT INTO users (name) VALUES ('a');",
        "DELETE FROM users;",
    );
    folder
}

fn create(folder: &Folder, admin: &str, args: &[&str]) -> Done {
    let mut command = folder.command(&["create", admin, "--user", "kratos", "--format", "json"]);
    let done = command.args(args).env("NEW_PASSWORD", PASSWORD).output().unwrap();
    let done = Done::from(done);
    assert!(!format!("{done:?}").contains("geheim"), "{done:?}");
    done
}

fn outcomes(done: &Done) -> Vec<String> {
    assert_eq!(done.code, 0, "{done:?}");
    let steps = done.json()["steps"].take();
    let of = |step: &Value| step["outcome"].as_str().unwrap().to_owned();
    steps.as_array().unwrap().iter().map(of).collect()
}

/// The same on every server: made once, and its user can do all that a migration needs.
fn set_up_and_there_and_back(folder: &Folder, admin: &str, user: &str) {
    let none = folder.run(&["create", admin, "--user", "kratos"]);
    assert_eq!(none.code, 2, "{none:?}");
    assert!(none.stderr.contains("the user has no password"), "{none:?}");
    let look = outcomes(&create(folder, admin, &["--dry-run"]));
    assert!(look.iter().all(|outcome| outcome == "missing"), "{look:?}");
    let made = outcomes(&create(folder, admin, &["--password-env", "NEW_PASSWORD"]));
    assert!(made.iter().all(|outcome| outcome == "made"), "{made:?}");
    folder.file("password", &format!("{PASSWORD}\n"));
    let again = outcomes(&create(folder, admin, &["--password-file", "password"]));
    assert_eq!(
        again[..2],
        ["already", "already"],
        "database and user stay as they are"
    );

    let plan = folder.run(&["plan", user, "--format", "json"]);
    assert_eq!(plan.code, 3, "{plan:?}");
    assert_eq!(plan.json()["steps"].as_array().unwrap().len(), 2);
    folder.ok(&["up-to", "1", "--yes", user]);
    folder.ok(&["up", "--yes", user]);
    folder.ok(&["validate", user]);
    let redo = folder.ok(&["redo", "--steps", "2", "--yes", "--format", "json", user]);
    assert_eq!(redo.json()["ran"], json!(4));
    folder.ok(&["wait", user]);
    folder.ok(&["down", "--to", "none", "--yes", user]);
    assert_eq!(folder.run(&["status", user]).code, 3);
}

#[test]
fn postgres() {
    let server = Postgres::start().unwrap();
    let folder = folder("CREATE TABLE users (id SERIAL PRIMARY KEY, name TEXT);");
    let admin = server.dsn("kra_tos");
    let encoded = "it%27s%20a%20%5C%20geheim";
    let user = admin.replace("postgres@", &format!("kratos:{encoded}@"));
    set_up_and_there_and_back(&folder, &admin, &user);

    let script = folder.ok(&["create", &server.dsn("other"), "--user", "kratos", "--print-sql"]);
    assert!(
        script
            .stdout
            .contains("CREATE ROLE \"kratos\" LOGIN PASSWORD :'password';\n"),
        "{script:?}"
    );
    assert_eq!(
        folder.run(&["status", &server.dsn("other")]).code,
        1,
        "nothing was made"
    );
    let refused = folder.run(&["create", &server.app_dsn("other")]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("permission denied to create database"),
        "{refused:?}"
    );
}

#[test]
fn mariadb() {
    let server = MariaDb::start().unwrap();
    let folder = folder("CREATE TABLE users (id INT AUTO_INCREMENT PRIMARY KEY, name TEXT);");
    let admin = server.dsn("kra_tos");
    let encoded = "it%27s%20a%20%5C%20geheim";
    let user = admin.replace("root@", &format!("kratos:{encoded}@"));
    assert_ne!(admin, user);
    set_up_and_there_and_back(&folder, &admin, &user);
    // The underscore of the database's name is no wildcard in the grant.
    server.create_database("kraxtos").unwrap();
    let other = user.replace("kra_tos", "kraxtos");
    assert_eq!(folder.run(&["status", &other]).code, 1);
}

#[test]
fn sqlite_makes_the_file_and_knows_no_users() {
    let folder = Folder::new();
    let dsn = "sqlite://new.db";
    let look = folder.ok(&["create", dsn, "--dry-run"]);
    assert_eq!(look.stdout, "file new.db: would be made\n");
    assert!(!folder.has("new.db"));
    assert_eq!(folder.ok(&["create", dsn]).stdout, "file new.db: made\n");
    assert_eq!(
        folder.ok(&["create", dsn]).stdout,
        "file new.db: was there already\n"
    );
    folder.ok(&["up", "--yes", dsn]);
    let user = folder.run(&["create", dsn, "--user", "kratos", "--dry-run"]);
    assert_eq!(user.code, 2, "{user:?}");
    assert!(user.stderr.contains("SQLite knows no users"), "{user:?}");
    let folderless = folder.run(&["create", "sqlite://no/such/new.db"]);
    assert_eq!(folderless.code, 1, "{folderless:?}");
}
