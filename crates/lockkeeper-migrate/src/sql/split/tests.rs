//! Splitting: tables per dialect, then properties over arbitrary text.

use proptest::prelude::*;

use super::*;
use crate::sql::statement::{StatementKind, TransactionVerb};
use Dialect::{MySql, Postgres, Sqlite};

const ALL: [Dialect; 3] = [Postgres, MySql, Sqlite];

fn texts(dialect: Dialect, text: &str) -> Vec<String> {
    let statements = split(dialect, text).unwrap_or_else(|e| panic!("{dialect}: {e}\n{text}"));
    statements.into_iter().map(|s| s.text).collect()
}

fn kinds(dialect: Dialect, text: &str) -> Vec<StatementKind> {
    split(dialect, text)
        .unwrap()
        .into_iter()
        .map(|s| s.kind)
        .collect()
}

#[track_caller]
fn splits_into(dialect: Dialect, text: &str, expected: &[&str]) {
    assert_eq!(texts(dialect, text), expected, "{dialect}");
}

#[track_caller]
fn fails(dialect: Dialect, text: &str, message: &str) {
    assert_eq!(split(dialect, text).unwrap_err().to_string(), message);
}

#[test]
fn plain_statements_in_every_dialect() {
    for dialect in ALL {
        splits_into(dialect, "", &[]);
        splits_into(dialect, " \r\n\t;;\n ; ", &[]);
        splits_into(dialect, "-- only a comment; really\n/* and; another */", &[]);
        splits_into(dialect, "SELECT 1", &["SELECT 1"]);
        splits_into(
            dialect,
            "\u{feff}SELECT 1;\r\nSELECT 2;\r\n",
            &["SELECT 1", "SELECT 2"],
        );
        splits_into(
            dialect,
            "SELECT 'a;''b;', \"x;\"\"y\" ; SELECT 2",
            &["SELECT 'a;''b;', \"x;\"\"y\"", "SELECT 2"],
        );
        splits_into(
            dialect,
            "SELECT 1 -- it's; odd\n, 2; -- last; it's",
            &["SELECT 1 -- it's; odd\n, 2"],
        );
        splits_into(dialect, "SELECT /* it's; */ 1;", &["SELECT /* it's; */ 1"]);
        splits_into(dialect, "SELECT 'ünï;çødé', 日本 ;", &["SELECT 'ünï;çødé', 日本"]);
    }
}

#[test]
fn lines_and_ranges_point_at_the_first_token() {
    let text = "-- head\n\nSELECT 1;\n  /* c */ SELECT\n2;";
    for dialect in ALL {
        let statements = split(dialect, text).unwrap();
        assert_eq!(statements.iter().map(|s| s.line).collect::<Vec<_>>(), [3, 4]);
        for statement in statements {
            assert_eq!(&text[statement.range.clone()], statement.text);
        }
    }
}

#[test]
fn postgres_quotes() {
    for one in [
        "SELECT $$a;b$$",
        "SELECT $t$a; $$ ; $x$ ; $t$",
        "SELECT $ä1_$ ; $ä1_$",
        "DO $body$ BEGIN EXECUTE $q$ SELECT ';' $q$; END; $body$ LANGUAGE plpgsql",
        r"SELECT E'it\'s; \\', 'back\'",
        r"SELECT e'a\';b'",
        "SELECT E'a'\n  -- joined\n 'b\\';c'",
        "SELECT a$$b FROM c",
        "SELECT /* outer /* inner; */ still; */ 1",
        "SELECT U&'d\\0061;', B'1', X'f'",
        "SELECT $1, $2",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO a VALUES (1); INSERT INTO b VALUES (2))",
        "SELECT ']' -- `\n",
    ] {
        let one = one.trim_end_matches(" -- `\n");
        splits_into(Postgres, &format!("{one};\nSELECT 2;"), &[one, "SELECT 2"]);
    }
    // Without the E a backslash is a character like any other.
    splits_into(Postgres, r"SELECT 'a\'; SELECT 2", &[r"SELECT 'a\'", "SELECT 2"]);
    // A comment runs to a lone carriage return as well.
    splits_into(Postgres, "-- c\rSELECT 1", &["SELECT 1"]);
}

#[test]
fn postgres_atomic_bodies() {
    let atomic = "CREATE OR REPLACE FUNCTION f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC\n\
                  SELECT CASE WHEN a > 0 THEN 1 ELSE (CASE a WHEN 1 THEN 2 END) END;\n\
                  SELECT 2;\nEND";
    splits_into(Postgres, &format!("{atomic};SELECT 3"), &[atomic, "SELECT 3"]);
    let procedure = "create procedure p() begin atomic end";
    splits_into(
        Postgres,
        &format!("{procedure};SELECT 3"),
        &[procedure, "SELECT 3"],
    );
    splits_into(
        Postgres,
        "BEGIN; SELECT CASE WHEN true THEN 1 END; END;",
        &["BEGIN", "SELECT CASE WHEN true THEN 1 END", "END"],
    );
}

#[test]
fn postgres_refusals_name_the_line() {
    fails(
        Postgres,
        "SELECT 1;\n\\connect other\n",
        "line 2: \\connect is a command of psql, which no server understands; remove it",
    );
    fails(
        Postgres,
        "SELECT 1 \\gexec",
        "line 1: \\gexec is a command of psql, which no server understands; remove it",
    );
    fails(
        Postgres,
        "CREATE TABLE t (a text);\nCOPY t FROM stdin; SELECT 1;\n1\n\\.\n",
        "line 2: the rows of COPY … FROM STDIN begin on the next line: nothing may stand behind its semicolon",
    );
    for without_end in [
        "COPY t FROM stdin;\n1\n",
        "COPY t FROM stdin",
        "COPY t FROM stdin;\n1\n \\.\n",
    ] {
        fails(
            Postgres,
            without_end,
            "line 1: the rows of COPY … FROM STDIN have no end: a line that holds \\. alone",
        );
    }
    fails(
        Postgres,
        "SELECT 1;\n\nSELECT 'open",
        "line 3: the quoted string that starts here never ends",
    );
    fails(
        Postgres,
        "SELECT $a$ open $b$",
        "line 1: the dollar-quoted string that starts here never ends",
    );
    fails(
        Postgres,
        "/* a /* b */",
        "line 1: the comment that starts here never ends",
    );
    fails(
        Postgres,
        "SELECT \"x",
        "line 1: the quoted name that starts here never ends",
    );
}

#[test]
fn postgres_rows_of_a_copy_are_no_statements() {
    let rows = "1\tit's; $$ /* open\n2\t\\N\n";
    for line_end in ["\n", "\r\n"] {
        let rows = rows.replace('\n', line_end);
        let text = format!(
            "SELECT 1;{line_end}COPY public.t (a, \"b\") FROM stdin WITH (FORMAT csv); {line_end}{rows}\\.{line_end}SELECT 2;"
        );
        let statements = split(Postgres, &text).unwrap();
        let texts: Vec<&str> = statements.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "SELECT 1",
                "COPY public.t (a, \"b\") FROM stdin WITH (FORMAT csv)",
                "SELECT 2"
            ]
        );
        assert_eq!(statements[1].rows.as_ref().unwrap().text, rows);
        assert_eq!(statements[2].line, 6);
    }
    // Neither in another dialect, nor where the rows come from elsewhere.
    for (dialect, text) in [
        (Sqlite, "COPY t FROM stdin"),
        (Postgres, "COPY t FROM '/tmp/stdin'"),
        (Postgres, "COPY (SELECT a FROM stdin) TO '/tmp/x'"),
    ] {
        assert_eq!(split(dialect, text).unwrap()[0].rows, None, "{text}");
    }
    let empty = split(Postgres, "COPY t FROM stdin;\n\\.").unwrap();
    assert_eq!(empty[0].rows.as_ref().unwrap().text, "");
}

#[test]
fn mysql_quotes_and_comments() {
    for one in [
        r"SELECT 'it\'s; ok', 'a''b;', `c;``d`",
        r#"SELECT "it\"s; ok""#,
        "SELECT 1 # it's; a comment\n, 2",
        "SELECT 1--1",
        "SELECT `a\\`",
        "/*!40101 SET @x = 'a;*/b' */",
        "/*M!100100 SET @x = 1; SET @y = 2 */",
        "SELECT /*+ MAX_EXECUTION_TIME(1) */ 1",
        "SELECT $$",
    ] {
        splits_into(MySql, &format!("{one};\nSELECT 2;"), &[one, "SELECT 2"]);
    }
    splits_into(MySql, "SELECT 1;--\nSELECT 2;", &["SELECT 1", "SELECT 2"]);
    // Dashes with nothing blank behind them are arithmetic, even before a delimiter.
    splits_into(MySql, "SELECT 1--;SELECT 2", &["SELECT 1--", "SELECT 2"]);
    splits_into(MySql, "# odd ' quote\nSELECT 1", &["SELECT 1"]);
    fails(
        MySql,
        "SELECT 1;\n/*!40101 SET x = 1",
        "line 2: the /*! comment that starts here never ends",
    );
}

#[test]
fn mysql_delimiter_lines() {
    let text = "DELIMITER $$\nCREATE PROCEDURE p()\nBEGIN\n  SELECT 1;\nEND$$\n\ndelimiter ;\nSELECT 2;";
    splits_into(
        MySql,
        text,
        &["CREATE PROCEDURE p()\nBEGIN\n  SELECT 1;\nEND", "SELECT 2"],
    );
    for delimiter in ["//", ";;", "|", "$$", "@@", "~", "go", "§", "\\"] {
        let text = format!(
            "DELIMITER {delimiter}\r\nSELECT 1; SELECT category {delimiter}\nSELECT 3\n{delimiter}\nDELIMITER ;\nSELECT 4;"
        );
        if delimiter == "\\" {
            fails(
                MySql,
                &text,
                "line 1: DELIMITER needs a delimiter behind it, without a backslash, and not in quotes",
            );
        } else {
            splits_into(
                MySql,
                &text,
                &["SELECT 1; SELECT category", "SELECT 3", "SELECT 4"],
            );
        }
    }
    // A statement that nobody ended, and the way back to the semicolon.
    splits_into(
        MySql,
        "DELIMITER //\nSELECT 1;\nDELIMITER ;\nSELECT 2",
        &["SELECT 1;", "SELECT 2"],
    );
    splits_into(MySql, "DELIMITER //\n;\n//\nDELIMITER ;", &[]);
    splits_into(MySql, "SELECT\ndelimiter FROM t", &["SELECT\ndelimiter FROM t"]);
    fails(
        MySql,
        "\nDELIMITER\nx",
        "line 2: DELIMITER needs a delimiter behind it, without a backslash, and not in quotes",
    );
    // As mysqldump writes triggers.
    let dumped = "DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`b`*/ /*!50003 TRIGGER t BEFORE INSERT ON x \
                  FOR EACH ROW BEGIN SET NEW.a = 1; END */;;\nDELIMITER ;\n";
    assert_eq!(texts(MySql, dumped).len(), 1);
    // No other dialect knows the line.
    splits_into(
        Sqlite,
        "DELIMITER //\nSELECT 1; SELECT 2",
        &["DELIMITER //\nSELECT 1", "SELECT 2"],
    );
}

#[test]
fn mysql_bodies_without_delimiter_lines() {
    for one in [
        "CREATE TRIGGER t BEFORE INSERT ON x FOR EACH ROW BEGIN IF NEW.a THEN SET NEW.end = 1; END IF; END",
        "CREATE DEFINER=`a`@`%` PROCEDURE p() lbl: BEGIN DECLARE i INT; WHILE i < 3 DO SET i = i + 1; END WHILE; \
         CASE i WHEN 1 THEN SELECT 1; ELSE BEGIN END; END CASE; SELECT CASE i WHEN 1 THEN 2 END; END lbl",
        "CREATE OR REPLACE FUNCTION f() RETURNS INT BEGIN INSERT INTO t (begin, end) VALUES (1, 2); RETURN (CASE WHEN 1 THEN 2 END); END",
        "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO BEGIN DELETE FROM t; END",
        "BEGIN NOT ATOMIC SELECT 1; SELECT 2; END",
    ] {
        splits_into(MySql, &format!("{one};\nSELECT 2;"), &[one, "SELECT 2"]);
    }
    splits_into(
        MySql,
        "BEGIN; SELECT 1; COMMIT;",
        &["BEGIN", "SELECT 1", "COMMIT"],
    );
    splits_into(
        MySql,
        "CREATE TABLE t (begin INT, end INT); SELECT 1",
        &["CREATE TABLE t (begin INT, end INT)", "SELECT 1"],
    );
}

#[test]
fn sqlite_quotes_and_triggers() {
    for one in [
        "SELECT [a;b], `c;d`, \"e;f\", 'g;h'",
        "SELECT 'a\\'",
        "CREATE TRIGGER t AFTER INSERT ON x BEGIN SELECT CASE WHEN 1 THEN 2 END; UPDATE y SET a = 1; END",
        "CREATE TEMP TRIGGER IF NOT EXISTS t AFTER INSERT ON x WHEN new.a BEGIN\n INSERT INTO f(f, rowid) VALUES ('delete', old.id); -- ; END;\nEND",
    ] {
        splits_into(Sqlite, &format!("{one};\nSELECT 2;"), &[one, "SELECT 2"]);
    }
    splits_into(Sqlite, "BEGIN; SELECT 1; END;", &["BEGIN", "SELECT 1", "END"]);
    // SQLite takes the end of the input as the end of a comment.
    splits_into(Sqlite, "SELECT 1; /* open", &["SELECT 1"]);
    splits_into(Sqlite, "/* a /* b */ SELECT 1", &["SELECT 1"]);
}

#[test]
fn transaction_control_is_told_from_look_alikes() {
    use TransactionVerb::{Begin, BeginWithMode, Commit, Other, Rollback};
    for (dialect, text, verb) in [
        (Postgres, "BEGIN", Begin),
        (Postgres, "begin work", Begin),
        (Sqlite, "BEGIN TRANSACTION", Begin),
        (Sqlite, "BEGIN IMMEDIATE TRANSACTION", BeginWithMode),
        (Postgres, "BEGIN ISOLATION LEVEL SERIALIZABLE", BeginWithMode),
        (MySql, "START TRANSACTION", Begin),
        (MySql, "START TRANSACTION READ ONLY", BeginWithMode),
        (Postgres, "/* x */ COMMIT", Commit),
        (Postgres, "END TRANSACTION", Commit),
        (Postgres, "COMMIT AND CHAIN", Other),
        (Postgres, "COMMIT PREPARED 'x'", Other),
        (Postgres, "PREPARE TRANSACTION 'x'", Other),
        (Postgres, "ABORT", Rollback),
        (MySql, "ROLLBACK WORK", Rollback),
        (MySql, "XA START 'x'", Other),
        (MySql, "SET @@session.autocommit = 0", Other),
        (MySql, "SET autocommit=0", Other),
    ] {
        assert_eq!(
            kinds(dialect, text),
            [StatementKind::TransactionControl(verb)],
            "{dialect}: {text}"
        );
    }
    for text in [
        "SAVEPOINT a",
        "RELEASE a",
        "ROLLBACK TO a",
        "ROLLBACK WORK TO SAVEPOINT a",
    ] {
        assert_eq!(kinds(Postgres, text), [StatementKind::Savepoint], "{text}");
    }
    assert_eq!(
        kinds(MySql, "BEGIN NOT ATOMIC SELECT 1; END"),
        [StatementKind::Other]
    );
}

#[test]
fn what_postgres_refuses_in_a_transaction_is_named() {
    for (text, what) in [
        (
            "CREATE INDEX CONCURRENTLY i ON t (a)",
            "CREATE INDEX CONCURRENTLY",
        ),
        (
            "create unique index concurrently if not exists i ON t (a)",
            "CREATE INDEX CONCURRENTLY",
        ),
        ("DROP INDEX CONCURRENTLY \"i\"", "DROP INDEX CONCURRENTLY"),
        ("REINDEX (VERBOSE, CONCURRENTLY) TABLE t", "REINDEX CONCURRENTLY"),
        ("REINDEX INDEX CONCURRENTLY i", "REINDEX CONCURRENTLY"),
        ("VACUUM (FULL) t", "VACUUM"),
        ("ALTER SYSTEM SET a = 1", "ALTER SYSTEM"),
        ("CREATE DATABASE d", "CREATE DATABASE"),
        ("DROP TABLESPACE d", "DROP TABLESPACE"),
        (
            "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
            "DETACH PARTITION CONCURRENTLY",
        ),
    ] {
        assert_eq!(
            kinds(Postgres, text),
            [StatementKind::NonTransactional { what }],
            "{text}"
        );
    }
    for text in [
        "CREATE INDEX i ON t (a)",
        "CREATE INDEX \"concurrently\" ON t (a)",
        "ALTER TYPE t ADD VALUE 'x'",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'CREATE INDEX CONCURRENTLY i ON t (a)'",
    ] {
        assert_eq!(kinds(Postgres, text), [StatementKind::Ddl], "{text}");
    }
}

#[test]
fn the_remaining_kinds() {
    use StatementKind::{Ddl, Other, Query, RowChange, Session};
    for (dialect, text, kind) in [
        (Postgres, "INSERT INTO t VALUES (1)", RowChange),
        (
            Postgres,
            "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
            RowChange,
        ),
        (Postgres, "WITH a AS (SELECT 1) SELECT * FROM a", Query),
        (
            Postgres,
            "WITH a AS (SELECT b.update FROM b) SELECT * FROM a",
            Query,
        ),
        (Postgres, "COPY t FROM '/tmp/x'", RowChange),
        (Postgres, "COPY (SELECT 1 FROM t) TO '/tmp/x'", Query),
        (Postgres, "SET LOCAL search_path = x", Session),
        (Postgres, "DO $$ BEGIN END $$", Other),
        (Postgres, "(SELECT 1)", Query),
        (MySql, "REPLACE INTO t VALUES (1)", RowChange),
        (MySql, "/*!40101 SET NAMES utf8 */", Session),
        (MySql, "SET PASSWORD = 'x'", Ddl),
        (MySql, "TRUNCATE t", Ddl),
        (MySql, "CALL p()", Other),
        (Sqlite, "ALTER TABLE t ADD COLUMN a", Ddl),
        (
            Sqlite,
            "PRAGMA foreign_keys=OFF",
            StatementKind::Pragma {
                name: "foreign_keys".into(),
            },
        ),
        (
            Sqlite,
            "PRAGMA main.\"Foreign_Keys\"",
            StatementKind::Pragma {
                name: "foreign_keys".into(),
            },
        ),
        (
            Sqlite,
            "VACUUM",
            StatementKind::NonTransactional { what: "VACUUM" },
        ),
        (
            Sqlite,
            "PRAGMA main.journal_mode = WAL",
            StatementKind::NonTransactional {
                what: "a PRAGMA that no transaction may hold",
            },
        ),
    ] {
        assert_eq!(kinds(dialect, text), [kind], "{dialect}: {text}");
    }
    assert!(kinds(Sqlite, "PRAGMA foreign_keys")[0].is_foreign_keys_pragma());
}

#[test]
fn a_long_file_splits_in_linear_time() {
    let text = "INSERT INTO t VALUES (1, 'x;y'); -- c\n".repeat(50_000);
    for dialect in ALL {
        assert_eq!(split(dialect, &text).unwrap().len(), 50_000);
    }
}

/// Whether a gap between statements holds nothing that a server would run. Written without the lexer.
fn is_empty_gap(dialect: Dialect, gap: &str) -> bool {
    let mut rest = gap.trim_start_matches('\u{feff}');
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}' || c == ';');
        let line_end = if dialect == Postgres {
            &['\n', '\r'][..]
        } else {
            &['\n'][..]
        };
        if rest.is_empty() {
            return true;
        } else if rest.starts_with("--") || (dialect == MySql && rest.starts_with('#')) {
            rest = &rest[rest.find(line_end).unwrap_or(rest.len())..];
        } else if let Some(comment) = rest.strip_prefix("/*") {
            let mut depth = 1;
            let mut at = 0;
            while depth > 0 && at < comment.len() {
                let tail = &comment.as_bytes()[at..];
                let (change, step) = match tail {
                    [b'*', b'/', ..] => (-1, 2),
                    [b'/', b'*', ..] if dialect == Postgres => (1, 2),
                    _ => (0, 1),
                };
                depth += change;
                at += step;
            }
            if depth > 0 && dialect != Sqlite {
                return false;
            }
            rest = &comment[at..];
        } else {
            return false;
        }
    }
}

/// Text made of the pieces that splitters stumble over.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            ";",
            "'",
            "\"",
            "`",
            "$",
            "$$",
            "$a$",
            "--",
            "-- ",
            "#",
            "/*",
            "*/",
            "/*!",
            "/*!50003 ",
            "\\",
            "\\'",
            "E'",
            "e'",
            "(",
            ")",
            "[",
            "]",
            "\n",
            "\r\n",
            "\r",
            " ",
            "\t",
            "BEGIN",
            "END",
            "CASE",
            "IF",
            "ATOMIC",
            "CREATE ",
            "TRIGGER ",
            "FUNCTION ",
            "OR REPLACE ",
            "TEMP ",
            "SELECT 1",
            "COMMIT",
            "COPY t FROM STDIN",
            ";\n1;'\n\\.\n",
            "ä",
            "日",
            "\u{feff}",
            "\u{a0}",
            "1.5e3",
            ".",
            "NOT ",
        ])
        .prop_map(str::to_owned),
        "[a-z$_0-9]{1,4}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn check_ranges(dialect: Dialect, text: &str) {
    let Ok(statements) = split(dialect, text) else {
        return;
    };
    let mut joined = String::new();
    let mut end = 0;
    for statement in &statements {
        assert_eq!(statement.text, text[statement.range.clone()]);
        let gap = &text[end..statement.range.start];
        assert!(is_empty_gap(dialect, gap), "{dialect} lost {gap:?} of {text:?}");
        assert!(!statement.text.is_empty());
        let newlines = text[..statement.range.start].matches('\n').count();
        assert_eq!(statement.line as usize, newlines + 1);
        joined.push_str(gap);
        joined.push_str(&statement.text);
        end = statement.range.end;
        if let Some(rows) = &statement.rows {
            let gap = &text[end..rows.range.start];
            assert!(is_empty_gap(dialect, gap), "{dialect} lost {gap:?} of {text:?}");
            assert!(text[rows.range.clone()].starts_with(&rows.text));
            joined.push_str(&text[end..rows.range.end]);
            end = rows.range.end;
        }
    }
    assert!(
        is_empty_gap(dialect, &text[end..]),
        "{dialect} lost {:?} of {text:?}",
        &text[end..]
    );
    joined.push_str(&text[end..]);
    assert_eq!(joined, text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_but_blanks_comments_and_delimiters_is_lost(text in hostile_text()) {
        for dialect in ALL {
            check_ranges(dialect, &text);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), delimiter in "[^\\s]{1,3}") {
        for dialect in ALL {
            check_ranges(dialect, &text);
            let _ = split(dialect, &format!("DELIMITER {delimiter}\n{text}{delimiter}\nDELIMITER ;\n{text}"));
        }
    }

    #[test]
    fn statements_survive_joining(text in hostile_text()) {
        for dialect in ALL {
            // The last one is left out: an open parenthesis in it would hold the delimiter that is put behind it.
            let Ok(mut first) = split(dialect, &text) else { continue };
            first.pop();
            // Rows must stay behind their COPY.
            prop_assume!(first.iter().all(|s| s.rows.is_none()));
            let first = first.into_iter().map(|s| s.text).collect::<Vec<_>>();
            // A blank first: a byte order mark is one only at the very start, and a character elsewhere.
            let joined = first.iter().map(|text| format!(" {text};\n")).collect::<String>();
            prop_assert_eq!(texts(dialect, &joined), first);
        }
    }
}
