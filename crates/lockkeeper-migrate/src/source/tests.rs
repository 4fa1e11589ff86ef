//! Directories of every sort, as tables.

use std::os::unix::fs::symlink;
use std::process::Command;

use super::test_support::{Dir, file, loaded, refused, versions};
use super::*;
use Dialect::{MySql, Postgres, Sqlite};
use Layout::{Dbmate, Diesel, Flyway, GolangMigrate, Goose, Pop, Refinery, Sqlx};

/// Kratos-like: generic files, files per database, autocommit, a sub-folder, twenty digits.
fn kratos() -> Dir {
    Dir::of(&[
        (
            "sql/20150100000001000000_networks.down.sql",
            "DROP TABLE networks;",
        ),
        (
            "sql/20150100000001000000_networks.up.sql",
            "CREATE TABLE networks (id INT);",
        ),
        (
            "sql/20150100000001000000_networks.postgres.up.sql",
            "CREATE TABLE networks (id UUID);",
        ),
        (
            "sql/20150100000001000000_networks.sqlite3.up.sql",
            "CREATE TABLE networks (id TEXT);",
        ),
        (
            "sql/20191100000001000000_identities.cockroach.down.sql",
            "DROP TABLE identities;",
        ),
        (
            "sql/20191100000001000000_identities.cockroach.up.sql",
            "CREATE TABLE identities ();",
        ),
        (
            "sql/20191100000001000000_identities.mysql.down.sql",
            "DROP TABLE identities;",
        ),
        (
            "sql/20191100000001000000_identities.mysql.up.sql",
            "CREATE TABLE identities (id INT);",
        ),
        (
            "sql/20191100000001000000_identities.down.sql",
            "DROP TABLE identities;",
        ),
        (
            "sql/20191100000001000000_identities.postgresql.autocommit.up.sql",
            "CREATE TABLE identities ();",
        ),
        (
            "sql/20191100000001000000_identities.up.sql",
            "CREATE TABLE identities (id INT);",
        ),
        (
            "sql/20200317160354000000_create_profile_request_forms.autocommit.down.sql",
            "",
        ),
        (
            "sql/20200317160354000000_create_profile_request_forms.autocommit.up.sql",
            "-- nothing\n",
        ),
        ("sql/20200402142539_mysql_only.mysql.up.sql", "DELETE FROM x;"),
        ("sql/20200402142539_mysql_only.mysql.down.sql", ""),
        ("sql/README.md", "read me"),
        ("testdata/20191100000001_testdata.sql", "INSERT"),
        ("verify/20191100000001000000_identities.up.sql", "SELECT 1"),
    ])
}

#[test]
fn pop_takes_the_most_specific_file_of_each_direction() {
    let dir = kratos();
    for (dialect, expected) in [
        (
            Postgres,
            [
                (
                    "20150100000001000000",
                    "20150100000001000000_networks.postgres.up.sql",
                    true,
                ),
                (
                    "20191100000001000000",
                    "20191100000001000000_identities.postgresql.autocommit.up.sql",
                    false,
                ),
            ],
        ),
        (
            Sqlite,
            [
                (
                    "20150100000001000000",
                    "20150100000001000000_networks.sqlite3.up.sql",
                    true,
                ),
                (
                    "20191100000001000000",
                    "20191100000001000000_identities.up.sql",
                    true,
                ),
            ],
        ),
        (
            MySql,
            [
                (
                    "20150100000001000000",
                    "20150100000001000000_networks.up.sql",
                    false,
                ),
                (
                    "20191100000001000000",
                    "20191100000001000000_identities.mysql.up.sql",
                    false,
                ),
            ],
        ),
    ] {
        let set = loaded(&dir, Pop, dialect);
        for (migration, (version, up, one_transaction)) in set.migrations.iter().zip(expected) {
            assert_eq!(migration.version.as_str(), version);
            assert_eq!(file(&migration.up), up);
            assert_eq!(
                migration.up.transaction.is_transactional(),
                one_transaction,
                "{dialect} {up}"
            );
        }
        let own = if dialect == MySql {
            "mysql.down.sql"
        } else {
            "identities.down.sql"
        };
        assert!(
            file(set.migrations[1].down.as_ref().unwrap()).ends_with(own),
            "{dialect}"
        );
        let forms = set.get(&"20200317160354000000".into()).unwrap();
        assert_eq!(forms.name, "create_profile_request_forms");
        assert_eq!(forms.up.statements, []);
        assert!(!forms.up.transaction.is_transactional());
        assert_eq!(set.get(&"20200402142539".into()).is_some(), dialect == MySql);
    }
}

#[test]
fn pop_says_what_it_skipped_and_why() {
    let dir = kratos();
    let set = loaded(&dir, Pop, Postgres);
    assert_eq!(set.order, lockkeeper_core::version::VersionOrder::Lexical);
    assert_eq!(set.latest().unwrap().as_str(), "20200317160354000000");
    let reason = |name: &str| {
        let skipped = set
            .skipped
            .iter()
            .find(|s| s.path.ends_with(name))
            .unwrap_or_else(|| panic!("{name}"));
        dir.plain(&skipped.reason)
    };
    assert_eq!(
        reason("20191100000001000000_identities.cockroach.up.sql"),
        "it is for cockroach"
    );
    assert_eq!(
        reason("20150100000001000000_networks.sqlite3.up.sql"),
        "it is for sqlite"
    );
    assert_eq!(reason("README.md"), "its name is not of pop's form");
    assert_eq!(
        reason("20150100000001000000_networks.up.sql"),
        "DIR/sql/20150100000001000000_networks.postgres.up.sql is more specific"
    );
    // The verify folder is neither read nor reported.
    assert_eq!(set.skipped.len() + 2 * set.migrations.len(), 17);
}

#[test]
fn pop_orders_versions_as_strings() {
    let dir = Dir::named(&["10_b.up.sql", "10_b.down.sql", "9_a.up.sql", "9_a.down.sql"]);
    assert_eq!(versions(&loaded(&dir, Pop, Sqlite)), ["10", "9"]);
}

#[test]
fn pop_takes_a_down_of_another_database_for_a_down_that_is_missing_here() {
    let dir = Dir::named(&["1_a.up.sql", "1_a.mysql.down.sql"]);
    assert_eq!(loaded(&dir, Pop, Postgres).migrations[0].down, None);
    assert!(loaded(&dir, Pop, MySql).migrations[0].down.is_some());
}

#[test]
fn pop_refuses() {
    for (files, expected) in [
        (
            &["1_a.up.sql", "1_a.down.sql", "2_b.up.sql", "3_b.down.sql"][..],
            "read DIR/2_b.up.sql: version 2 has no down migration, which pop requires for every up",
        ),
        (
            &["1_a.up.sql", "1_a.down.sql", "x/1_b.up.sql"],
            "order migrations: version 1 (up) is there twice: DIR/1_a.up.sql and DIR/x/1_b.up.sql",
        ),
        (
            &[
                "1_a.postgres.up.sql",
                "1_a.postgres.autocommit.up.sql",
                "1_a.down.sql",
            ],
            "order migrations: version 1 (up) is there twice: DIR/1_a.postgres.autocommit.up.sql and DIR/1_a.postgres.up.sql",
        ),
        (
            &["1_a.up.fizz", "1_a.down.fizz"],
            "run DIR/1_a.down.fizz: migrations in fizz are not supported; write it as SQL",
        ),
        (
            &["1_a.mysql.up.sql", "1_a.mysql.down.sql"],
            "find migrations in DIR: no file of layout pop for postgres (2 other files skipped)",
        ),
        (
            &["1_a.up.sql", "1_a.down.sql", "V2__b.sql"],
            "read migrations as pop: DIR/V2__b.sql belongs to layout refinery/flyway; a directory holds one layout",
        ),
    ] {
        assert_eq!(refused(&Dir::named(files), Some(Pop), Postgres), expected);
    }
}

#[test]
fn pop_leaves_fizz_alone_where_sql_stands_beside_it() {
    let dir = Dir::named(&["1_a.up.fizz", "1_a.up.sql", "1_a.down.sql"]);
    let set = loaded(&dir, Pop, Postgres);
    assert_eq!(
        set.skipped.iter().map(|s| s.reason.as_str()).collect::<Vec<_>>(),
        ["it is fizz, and its version has SQL files"]
    );
}

#[test]
fn a_go_template_is_rendered_where_the_dialect_decides() {
    let text = "{{ if .IsSQLite }}SELECT 'lite';{{ else }}SELECT 'other';{{ end }}\nSELECT '{{1,2},{3,4}}';";
    let dir = Dir::of(&[("1_a.up.sql", text), ("1_a.down.sql", "")]);
    let up = |dialect| loaded(&dir, Pop, dialect).migrations[0].up.clone();
    assert_eq!(up(Sqlite).statements[0].text, "SELECT 'lite'");
    assert_eq!(up(Postgres).statements[0].text, "SELECT 'other'");
    assert_eq!(up(Sqlite).checksum, up(Postgres).checksum);
    assert_eq!(up(Sqlite).raw(), text);
    dir.write("1_a.up.sql", b"SELECT 1;\nSELECT {{ .Parameters.x }};");
    assert_eq!(
        refused(&dir, Some(Pop), Postgres),
        "read DIR/1_a.up.sql:2: {{ .Parameters.x }} of this Go template does not follow from the dialect alone; render \
         the file first"
    );
}

#[test]
fn golang_migrate_counts_versions_and_lets_directions_lack() {
    let dir = Dir::of(&[
        ("000002_b.up.sql", "CREATE TABLE b (a INT);"),
        ("10_c.down.sql", "DROP TABLE c;"),
        ("1_a.x.down.sql", "DROP TABLE a;"),
        ("1_a.x.up.sql", "CREATE TABLE a (a INT);"),
        ("notes.txt", ""),
        ("3_plain.sql", "SELECT 1"),
        ("below/4_d.up.sql", "not SQL '"),
    ]);
    let set = loaded(&dir, GolangMigrate, Postgres);
    assert_eq!(versions(&set), ["1", "2", "10"]);
    assert_eq!(set.migrations[0].name, "a.x");
    assert_eq!(set.get(&"0010".into()).unwrap().up.statements, []);
    assert!(set.migrations[1].down.is_none() && set.migrations[2].down.is_some());
    assert_eq!(
        set.skipped.iter().map(|s| file_name(&s.path)).collect::<Vec<_>>(),
        ["3_plain.sql", "notes.txt"]
    );
    assert!(
        !loaded(&dir, GolangMigrate, MySql).migrations[0]
            .up
            .transaction
            .is_transactional()
    );
}

fn file_name(path: &std::path::Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn golang_migrate_refuses() {
    for (files, expected) in [
        (
            &["1_a.up.sql", "001_b.up.sql"][..],
            "order migrations: version 1 (up) is there twice: DIR/001_b.up.sql and DIR/1_a.up.sql",
        ),
        (
            &["1_a.up.sql", "1_a.up.sql.orig"],
            "order migrations: version 1 (up) is there twice: DIR/1_a.up.sql and DIR/1_a.up.sql.orig",
        ),
        (
            &["20220301082701000001_a.up.sql"],
            "read DIR/20220301082701000001_a.up.sql: version 20220301082701000001 does not fit the 64-bit number that golang-migrate uses",
        ),
        (
            &["README.md"],
            "find migrations in DIR: no file of layout golang-migrate for sqlite (1 other files skipped)",
        ),
    ] {
        assert_eq!(refused(&Dir::named(files), Some(GolangMigrate), Sqlite), expected);
    }
}

#[test]
fn several_directories_are_one_set() {
    let (one, two) = (
        Dir::named(&["1_a.up.sql", "3_c.up.sql"]),
        Dir::named(&["2_b.up.sql"]),
    );
    let dirs = [one.dirs(), two.dirs(), one.dirs()].concat();
    assert_eq!(
        versions(&load(&dirs, Some(GolangMigrate), Sqlite).unwrap()),
        ["1", "2", "3"]
    );
}

#[test]
fn auto_decides_when_one_layout_alone_can_be_meant() {
    assert_eq!(load(&kratos().dirs(), None, Postgres).unwrap().layout, Pop);
    for (files, layout) in [
        // Too large for every number.
        (
            &["20220301082701000001_a.up.sql", "20220301082701000001_a.down.sql"][..],
            Pop,
        ),
        (
            &["20220301082701_a.sqlite3.up.sql", "20220301082701_a.down.sql"],
            Pop,
        ),
        (
            &["20220301082701_a.autocommit.up.sql", "20220301082701_a.down.sql"],
            Pop,
        ),
        // pop wants downs, and sqlx another extension.
        (&["1_a.up.pgsql"], GolangMigrate),
        // Fits u64, but not sqlx' i64; pop wants downs.
        (&["10000000000000000000_a.up.sql"], GolangMigrate),
        (&["1_a.sql", "2_b.up.sql", "2_b.down.sql", "README.md"][..1], Sqlx),
        (&["V1.1.2__a.sql"], Flyway),
        (&["V1__a.sql", "R__b.sql"], Flyway),
        (&["V1__a.sql", "B2__b.sql"], Flyway),
        (
            &["2024-01-01-000000_a/up.sql", "2024-01-01-000000_a/down.sql"],
            Diesel,
        ),
    ] {
        let dir = Dir::named(files);
        assert_eq!(
            load(&dir.dirs(), None, Sqlite)
                .map(|s| s.layout)
                .map_err(|e| e.to_string()),
            Ok(layout)
        );
    }
}

#[test]
fn auto_refuses_what_it_cannot_tell() {
    let pair = "up and down files";
    for (files, expected) in [
        (
            &["1_a.up.sql", "1_a.down.sql"][..],
            format!("it can be pop or golang-migrate or sqlx; saw 2 {pair} (pop/golang-migrate/sqlx): 1_a.down.sql, 1_a.up.sql"),
        ),
        (
            &["20220301082701_a.up.sql", "20220301082701_a.down.sql", "20220301082702_b.up.sql", "20220301082702_b.down.sql"],
            format!("it can be pop or golang-migrate or sqlx; saw 4 {pair} (pop/golang-migrate/sqlx): 20220301082701_a.down.sql, 20220301082701_a.up.sql, 20220301082702_b.down.sql, …"),
        ),
        (&["1_a.up.sql"], format!("it can be golang-migrate or sqlx; saw 1 {pair} (pop/golang-migrate/sqlx): 1_a.up.sql")),
        (&["V1__a.sql", "U1__a.sql"], "it can be refinery or flyway; saw 2 V1__name files (refinery/flyway): U1__a.sql, V1__a.sql".to_owned()),
        (
            &["1_a.up.sql", "1_a.down.sql", "V2__b.sql"],
            format!("it mixes layouts; saw 2 {pair} (pop/golang-migrate/sqlx): 1_a.down.sql, 1_a.up.sql; 1 V1__name files (refinery/flyway): V2__b.sql"),
        ),
        (
            &["1_a.up.sql", "1_b.up.sql", "1_b.down.sql"],
            format!("its files contradict each other as pop/golang-migrate/sqlx; saw 3 {pair} (pop/golang-migrate/sqlx): 1_a.up.sql, 1_b.down.sql, 1_b.up.sql"),
        ),
        (
            &["README.md"],
            "it holds no migration of any known layout; saw nothing of pop, golang-migrate, goose, dbmate, sqlx, refinery, flyway, diesel".to_owned(),
        ),
    ] {
        let message = refused(&Dir::named(files), None, Sqlite);
        assert_eq!(message, format!("tell the layout of DIR: {expected}; say which it is with --layout"));
    }
}

#[test]
fn auto_tells_numbered_files_by_their_directives() {
    for (text, layout) in [
        ("-- a licence\n-- +goose Up\nSELECT 1;", Goose),
        ("-- +GOOSE up\nSELECT 1;", Goose),
        ("-- migrate:up\nSELECT 1;\n-- migrate:down\n", Dbmate),
    ] {
        let text = text.replace("+GOOSE", "+goose");
        for name in ["1_a.sql", "1_a.up.sql"] {
            let dir = Dir::of(&[(name, &text)]);
            assert_eq!(
                load(&dir.dirs(), None, Sqlite)
                    .map(|s| s.layout)
                    .map_err(|e| e.to_string()),
                Ok(layout)
            );
        }
        // Asked for by name, a layout does not pass over another one's files either, and does not run them.
        for (asked, other) in [(GolangMigrate, "2_b.up.sql"), (Sqlx, "2_b.sql")] {
            let dir = Dir::of(&[("1_a.sql", &text), (other, "SELECT 1")]);
            assert_eq!(
                refused(&dir, Some(asked), Sqlite),
                format!(
                    "read migrations as {asked}: DIR/1_a.sql belongs to layout {layout}; a directory holds one layout"
                )
            );
        }
    }
}

#[test]
fn a_plain_file_beside_pairs_does_not_decide() {
    let dir = Dir::named(&["1_a.up.sql", "1_a.down.sql", "2_seed.sql"]);
    let message = refused(&dir, None, Sqlite);
    assert!(
        message.contains("it can be pop or golang-migrate or sqlx; saw 2 up and down files"),
        "{message}"
    );
    assert!(
        message.contains("1 numbered files (sqlx): 2_seed.sql"),
        "{message}"
    );
}

#[test]
fn programs_are_refused_or_left_out() {
    for (layout, sql, program) in [
        (Goose, "1_a.sql", "2_b.go"),
        (GolangMigrate, "1_a.up.sql", "2_b.up.go"),
        (Sqlx, "1_a.sql", "2_b.py"),
        (Refinery, "V1__a.sql", "below/V2__b.rs"),
        (Flyway, "V1__a.sql", "below/V2__b.java"),
        (Flyway, "V1__a.sql", "R__b.kt"),
    ] {
        let dir = Dir::of(&[(sql, "-- +goose Up\nSELECT 1;"), (program, "program")]);
        if layout == Sqlx {
            dir.write(sql, b"SELECT 1");
        }
        let language = program.rsplit('.').next().unwrap();
        assert_eq!(
            refused(&dir, Some(layout), Sqlite),
            format!(
                "run DIR/{program}: a migration in {language} is not supported; write it as an SQL migration, or leave \
                 it out with --skip-programs"
            )
        );
        let options = SourceOptions {
            layout: Some(layout),
            programs: Programs::Skip,
            ..SourceOptions::default()
        };
        let set = load_with(&dir.dirs(), &options, Sqlite).unwrap();
        assert_eq!(versions(&set), ["1"]);
        assert_eq!(
            set.skipped.iter().map(|s| s.reason.clone()).collect::<Vec<_>>(),
            [format!("it is written in {language}")]
        );
    }
}

#[test]
fn bad_directories_and_files_are_named() {
    let dir = Dir::named(&["1_a.up.sql"]);
    let missing = dir.path().join("gone");
    let error = |path: PathBuf| dir.plain(&load(&[path], None, Sqlite).unwrap_err().to_string());
    assert_eq!(
        error(missing),
        "read migrations from DIR/gone: there is no such directory"
    );
    assert_eq!(
        error(dir.path().join("1_a.up.sql")),
        "read migrations from DIR/1_a.up.sql: it is not a directory"
    );

    dir.write("2_b.up.sql", b"SELECT 1;\nSELECT '\xff';\n");
    assert_eq!(
        refused(&dir, Some(GolangMigrate), Sqlite),
        "read DIR/2_b.up.sql:2: byte 18 of the file is not UTF-8; convert the file to UTF-8"
    );
    dir.write("2_b.up.sql", b"SELECT 1;\n\nSELECT 'open");
    assert_eq!(
        refused(&dir, Some(GolangMigrate), Sqlite),
        "read DIR/2_b.up.sql:3: the quoted string that starts here never ends"
    );
    dir.write("2_b.up.sql", b"\\d\n");
    assert_eq!(
        refused(&dir, Some(GolangMigrate), Postgres),
        "read DIR/2_b.up.sql:1: \\d is a command of psql, which no server understands; remove it"
    );
}

#[test]
fn what_is_no_file_of_sane_size_is_not_read() {
    let dir = Dir::named(&["1_a.up.sql"]);
    let path = dir.path().join("2_b.up.sql");
    std::fs::File::create(&path)
        .unwrap()
        .set_len(200 * 1024 * 1024)
        .unwrap();
    assert_eq!(
        refused(&dir, Some(GolangMigrate), Sqlite),
        "read DIR/2_b.up.sql: it has 209715200 bytes, more than the 67108864 that a migration may have"
    );
    std::fs::remove_file(&path).unwrap();
    // Opening a pipe without a writer would wait for ever.
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(
        refused(&dir, Some(GolangMigrate), Sqlite),
        "read DIR/2_b.up.sql: it is not a regular file"
    );
    std::fs::remove_file(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    assert_eq!(refused(&dir, Some(GolangMigrate), Sqlite), "read DIR/2_b.up.sql");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(versions(&loaded(&dir, GolangMigrate, Sqlite)), ["1"]);
}

#[test]
fn a_link_back_is_a_loop_and_a_deep_tree_is_a_mistake() {
    let dir = Dir::named(&["a/1_a.up.sql", "a/1_a.down.sql"]);
    symlink("../a", dir.path().join("a/again")).unwrap();
    assert_eq!(
        refused(&dir, Some(Pop), Sqlite),
        "read migrations from DIR/a/again: the symbolic link leads back to a directory that contains it"
    );
    let deep = Dir::named(&[&format!("{}1_a.up.sql", "d/".repeat(20))]);
    assert!(
        refused(&deep, Some(Pop), Sqlite)
            .ends_with("its folders are more than 16 deep; is it the right directory?")
    );
}

#[test]
fn a_link_to_a_file_or_folder_is_followed() {
    let dir = Dir::named(&["real/1_a.up.sql", "real/1_a.down.sql"]);
    let other = Dir::named(&[]);
    symlink(dir.path().join("real"), other.path().join("linked")).unwrap();
    assert_eq!(versions(&loaded(&other, Pop, Sqlite)), ["1"]);
}

#[test]
fn scripts_keep_text_lines_and_checksums() {
    let dir = Dir::of(&[(
        "1_a.up.sql",
        "\u{feff}-- head\r\nSELECT 1;\r\nSELECT 'a\r\nb';\r\n",
    )]);
    let up = loaded(&dir, GolangMigrate, Sqlite).migrations[0].up.clone();
    assert!(up.text.starts_with("-- head\r\n"));
    assert_eq!(up.statements.iter().map(|s| s.line).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(up.checksum, Checksum::of("-- head\nSELECT 1;\nSELECT 'a\nb';\n"));
    assert_eq!(up.body(), Some("SELECT 1;\r\nSELECT 'a\r\nb'"));
}

#[test]
fn an_own_transaction_is_no_part_of_the_body() {
    let wrapped = "BEGIN;\nSELECT 1;\nSELECT 2;\nCOMMIT;\n";
    let pragmas = "PRAGMA foreign_keys=OFF;BEGIN;SELECT 1;COMMIT;PRAGMA foreign_keys=ON;";
    let dir = Dir::of(&[
        ("1_a.up.sql", wrapped),
        ("2_b.up.sql", pragmas),
        ("3_c.up.sql", ""),
    ]);
    let set = loaded(&dir, GolangMigrate, Sqlite);
    let up = |at: usize| &set.migrations[at].up;
    assert_eq!(up(0).body(), Some("SELECT 1;\nSELECT 2"));
    assert_eq!((up(1).body(), up(1).sets_foreign_keys()), (None, true));
    assert_eq!((up(2).body(), up(2).sets_foreign_keys()), (None, false));
    assert!(set.migrations.iter().all(|m| m.up.transaction.is_transactional()));
}

#[test]
fn verify_scripts_are_for_a_version_or_for_all() {
    let dir = Dir::of(&[
        (
            "verify/20220301_users.sql",
            "SELECT count(*) = 0 FROM x;\nSELECT true",
        ),
        ("verify/20220302_users.postgres.sql", "SELECT 1"),
        ("verify/always.sql", "SELECT 1"),
        ("verify/notes.txt", "'"),
    ]);
    let scripts = load_verify(&dir.dirs(), Sqlite).unwrap();
    let found = scripts.iter().map(|s| {
        (
            file_name(&s.path),
            s.version.as_ref().map(|v| v.as_str()),
            s.statements.len(),
        )
    });
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            ("20220301_users.sql", Some("20220301"), 2),
            ("always.sql", None, 1)
        ]
    );
    assert_eq!(load_verify(&dir.dirs(), Postgres).unwrap().len(), 3);
    assert_eq!(load_verify(&Dir::named(&[]).dirs(), Sqlite).unwrap(), []);
    dir.write("verify/bad.sql", b"SELECT 1;\nSELECT '");
    let error = load_verify(&dir.dirs(), Sqlite).unwrap_err().to_string();
    assert_eq!(
        dir.plain(&error),
        "read DIR/verify/bad.sql:2: the quoted string that starts here never ends"
    );
    assert!(load_verify(&[dir.path().join("gone")], Sqlite).is_err());
}

#[test]
fn fifteen_hundred_files_of_which_most_are_for_others() {
    let names = (0..500).flat_map(|n| {
        let version = 20_200_101_000_000_u64 + n;
        [".cockroach", ".mysql", ""]
            .map(|d| format!("{version}_n{d}.up.sql"))
            .into_iter()
            .chain([format!("{version}_n.down.sql")])
    });
    let names = names.collect::<Vec<_>>();
    let dir = Dir::named(&names.iter().map(String::as_str).collect::<Vec<_>>());
    // Files for others are not even opened.
    dir.write("20200101000000_n.cockroach.up.sql", b"\xff");
    let set = load(&dir.dirs(), None, Postgres).unwrap();
    assert_eq!((set.migrations.len(), set.skipped.len()), (500, 1_000));
}
