//! Every layout with everything that can be wrong with its directory: one clear error, with file and line.

use std::fs;
use std::os::unix::fs::symlink;

use super::test_support::{Dir, refused, versions};
use super::{Layout, load};
use crate::dialect::Dialect::Sqlite;

/// How a layout writes one migration: its file, and what stands in it around `SQL`.
fn file(layout: Layout, version: u32) -> String {
    match layout {
        Layout::Pop | Layout::GolangMigrate => format!("{version}_a.up.sql"),
        Layout::Goose | Layout::Dbmate | Layout::Sqlx => format!("{version}_a.sql"),
        Layout::Refinery | Layout::Flyway => format!("V{version}__a.sql"),
        Layout::Diesel => format!("{version}_a/up.sql"),
    }
}

fn text(layout: Layout, sql: &str) -> String {
    match layout {
        Layout::Goose => format!("-- +goose Up\n{sql}"),
        Layout::Dbmate => format!("-- migrate:up\n{sql}\n-- migrate:down\n"),
        Layout::Pop
        | Layout::GolangMigrate
        | Layout::Sqlx
        | Layout::Refinery
        | Layout::Flyway
        | Layout::Diesel => sql.to_owned(),
    }
}

/// The line of the first line of `sql` in [`text`].
fn line(layout: Layout) -> u32 {
    match layout {
        Layout::Goose | Layout::Dbmate => 2,
        Layout::Pop
        | Layout::GolangMigrate
        | Layout::Sqlx
        | Layout::Refinery
        | Layout::Flyway
        | Layout::Diesel => 1,
    }
}

/// A directory of `count` migrations with a gap between the first two.
fn good(layout: Layout, count: u32) -> Dir {
    let dir = Dir::of(&[]);
    for version in [1].into_iter().chain(3..count + 2) {
        write(&dir, layout, version, "SELECT 1;\n");
    }
    dir
}

fn write(dir: &Dir, layout: Layout, version: u32, sql: &str) {
    let name = file(layout, version);
    dir.write(&name, text(layout, sql).as_bytes());
    if layout == Layout::Pop {
        dir.write(&name.replace(".up.", ".down."), b"SELECT 1;\n");
    }
}

fn each(check: impl Fn(Layout)) {
    for layout in Layout::ALL {
        check(layout);
    }
}

#[test]
fn gaps_and_empty_scripts_are_no_fault() {
    each(|layout| {
        let dir = good(layout, 3);
        let set = load(&dir.dirs(), Some(layout), Sqlite).unwrap_or_else(|e| panic!("{layout}: {e}"));
        assert_eq!(versions(&set), ["1", "3", "4"], "{layout}");
    });
}

#[test]
fn ten_thousand_files_are_read() {
    each(|layout| {
        let dir = good(layout, 10_000);
        assert_eq!(
            load(&dir.dirs(), Some(layout), Sqlite).unwrap().migrations.len(),
            10_000,
            "{layout}"
        );
    });
}

#[test]
fn a_bad_file_is_named_with_its_line() {
    each(|layout| {
        let dir = good(layout, 2);
        let name = file(layout, 7);
        let path = dir.path().join(&name);
        let refused = || refused(&dir, Some(layout), Sqlite);

        write(&dir, layout, 7, "SELECT 1;\nSELECT 'open;");
        let at = line(layout) + 1;
        assert_eq!(
            refused(),
            format!("read DIR/{name}:{at}: the quoted string that starts here never ends")
        );

        write(&dir, layout, 7, "SELECT 1;\nSELECT 'x';\n");
        let bytes = fs::read(&path)
            .unwrap()
            .iter()
            .map(|b| if *b == b'x' { 0xff } else { *b })
            .collect::<Vec<_>>();
        fs::write(&path, bytes).unwrap();
        let message = refused();
        assert!(
            message.starts_with(&format!("read DIR/{name}:{at}: byte ")),
            "{layout}: {message}"
        );

        fs::File::create(&path)
            .unwrap()
            .set_len(200 * 1024 * 1024)
            .unwrap();
        assert_eq!(
            refused(),
            format!(
                "read DIR/{name}: it has 209715200 bytes, more than the 67108864 that a migration may have"
            )
        );

        // Tests may run as root, who can read everything: a link to nowhere cannot be read by anybody.
        fs::remove_file(&path).unwrap();
        symlink("nowhere", &path).unwrap();
        assert_eq!(refused(), format!("read DIR/{name}"));
    });
}

#[test]
fn a_version_that_is_there_twice_is_refused() {
    each(|layout| {
        let dir = good(layout, 2);
        let again = file(layout, 3).replacen("_a", "_b", 1);
        dir.write(&again, text(layout, "SELECT 1;").as_bytes());
        let message = refused(&dir, Some(layout), Sqlite);
        assert!(
            message.starts_with("order migrations: version 3 (up) is there twice: "),
            "{layout}: {message}"
        );
    });
}

#[test]
fn a_folder_that_contains_itself_is_refused_where_folders_are_entered() {
    each(|layout| {
        let dir = good(layout, 2);
        fs::create_dir(dir.path().join("below")).unwrap();
        symlink("..", dir.path().join("below/again")).unwrap();
        let found = load(&dir.dirs(), Some(layout), Sqlite);
        match layout {
            Layout::Pop | Layout::Refinery | Layout::Flyway => assert_eq!(
                dir.plain(&found.unwrap_err().to_string()),
                "read migrations from DIR/below/again: the symbolic link leads back to a directory that contains it"
            ),
            Layout::GolangMigrate | Layout::Goose | Layout::Dbmate | Layout::Sqlx | Layout::Diesel => {
                assert_eq!(found.unwrap().migrations.len(), 2, "{layout}");
            }
        }
    });
}

/// Writes a way back that never ends its string; gives the line where it begins, if the layout has ways back.
fn break_down(dir: &Dir, layout: Layout, version: u32) -> Option<(String, u32)> {
    let sql = "SELECT 'open;\n";
    let (name, before) = match layout {
        Layout::Pop | Layout::GolangMigrate => (format!("{version}_a.down.sql"), ""),
        Layout::Goose => (
            file(layout, version),
            "-- +goose Up\nSELECT 1;\n-- +goose Down\n-- +goose StatementBegin\n",
        ),
        Layout::Dbmate => (
            file(layout, version),
            "-- migrate:up\nSELECT 1;\n-- migrate:down\n",
        ),
        Layout::Sqlx => {
            let up = dir.path().join(file(layout, version));
            fs::rename(&up, up.with_extension("up.sql")).unwrap();
            (format!("{version}_a.down.sql"), "")
        }
        Layout::Refinery => return None,
        Layout::Flyway => (format!("U{version}__a.sql"), ""),
        Layout::Diesel => (format!("{version}_a/down.sql"), ""),
    };
    let after = if layout == Layout::Goose {
        "-- +goose StatementEnd\n"
    } else {
        ""
    };
    dir.write(&name, format!("{before}{sql}{after}").as_bytes());
    let line = u32::try_from(before.lines().count()).unwrap() + 1;
    Some((name, line))
}

#[test]
fn a_way_back_that_cannot_be_split_stops_nobody_from_going_up() {
    each(|layout| {
        let dir = good(layout, 2);
        let Some((name, line)) = break_down(&dir, layout, 3) else {
            return;
        };
        let set = load(&dir.dirs(), Some(layout), Sqlite).unwrap_or_else(|e| panic!("{layout}: {e}"));
        assert_eq!(versions(&set), ["1", "3"], "{layout}");
        assert_eq!(set.migrations[1].down, None, "{layout}");
        let problem = set.migrations[1].down_problem.as_deref().unwrap();
        let start = format!("DIR/{name}:{line}: ");
        assert!(dir.plain(problem).starts_with(&start), "{layout}: {problem}");
        assert_eq!(set.migrations[0].down_problem, None, "{layout}");
    });
}
