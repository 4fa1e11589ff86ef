//! What real migration sets hold, run on real servers: each dialect's constructs that splitters and transactions
//! stumble over.

use super::target::{Dialect, Target, ended};

/// Files and how many statements of them the plan shows.
fn applies(dialect: Dialect, ups: &[&str]) -> Target {
    let target = Target::with(dialect, ups);
    let done = target.up();
    assert_eq!(done.json()["ran"], ups.len());
    target
}

#[test]
fn postgres() {
    let target = applies(
        Dialect::Postgres,
        &[
            // Bodies: dollar quotes with tags, nested; in single quotes; ATOMIC; DO.
            "CREATE TABLE t (id INT PRIMARY KEY, v TEXT);\n\
             CREATE FUNCTION f() RETURNS INT LANGUAGE plpgsql AS $body$\n\
             BEGIN EXECUTE $q$ SELECT ';' $q$; -- it's; $$\n RETURN 1; END $body$;\n\
             CREATE FUNCTION g() RETURNS INT LANGUAGE sql AS 'SELECT ''2;''; SELECT 3';\n\
             CREATE FUNCTION h(a INT) RETURNS INT LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN a > 0 THEN 1 ELSE 2 END; SELECT a; END;\n\
             DO $$ BEGIN INSERT INTO t VALUES (1, E'it\\'s; ok'); END $$;",
            // Comments, nested and trailing, with odd quotes; no last semicolon.
            "/* it's /* nested; */ \"odd */ -- ' ;\nINSERT INTO t VALUES (2, '--no comment;') -- trailing ' ;",
            "",
            "-- nothing; but a comment\n/* ; */",
            // Rows in the file.
            "CREATE TABLE c (a INT, b TEXT);\nCOPY c (a, b) FROM stdin;\n1\tit's; $$\n2\t\\N\n\\.\n\n\
             COPY c FROM stdin WITH (FORMAT csv);\n3,\"x;\ny\"\n\\.\nUPDATE c SET b = 'two' WHERE a = 2;",
            // Own transactions.
            "BEGIN;\nINSERT INTO t VALUES (3, 'own');\nCOMMIT;",
            "BEGIN;\nINSERT INTO t VALUES (4, 'a');\nCOMMIT;\nBEGIN;\nINSERT INTO t VALUES (5, 'b');\nCOMMIT;\n\
             INSERT INTO t VALUES (6, 'c')",
            // Concurrently: alone, among others, and as a text in a body.
            "CREATE INDEX CONCURRENTLY alone ON t (v)",
            "INSERT INTO t VALUES (7, 'd');\nCREATE INDEX CONCURRENTLY among ON t (id, v);\nDROP INDEX CONCURRENTLY alone;",
            "CREATE FUNCTION build() RETURNS void LANGUAGE plpgsql AS $$ BEGIN\n\
             EXECUTE 'CREATE INDEX CONCURRENTLY never ON t (v)'; END $$;",
            "CREATE TYPE mood AS ENUM ('a');\nALTER TYPE mood ADD VALUE 'b';",
            "VACUUM t;",
            // Set for this file only; several statements that need one connection.
            "SET search_path = pg_catalog;\nPREPARE p AS INSERT INTO public.t VALUES (8, 'p;q');\nEXECUTE p;",
            "CREATE TABLE found_in_public (a INT);",
            // A byte order mark and another system's line ends.
            "\u{feff}CREATE TABLE crlf (a INT);\r\nINSERT INTO crlf\r\n VALUES (1);\r\n",
            "CREATE RULE r AS ON INSERT TO crlf DO ALSO (UPDATE t SET v = v; UPDATE t SET v = v);",
        ],
    );
    assert_eq!(
        target.sql("SELECT string_agg(id::text, '' ORDER BY id) FROM t"),
        "12345678"
    );
    assert_eq!(target.sql("SELECT v FROM t WHERE id = 1"), "it's; ok");
    assert_eq!(target.sql("SELECT f() || ' ' || g() || ' ' || h(5)"), "1 3 5");
    assert_eq!(
        target.sql("SELECT string_agg(a || replace(b, E'\\n', '/'), ' ' ORDER BY a) FROM c"),
        "1it's; $$ 2two 3x;/y"
    );
    let indexes = "SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY indexrelid::regclass::text) FROM pg_index \
                   WHERE indrelid = 't'::regclass AND indisvalid";
    assert_eq!(target.sql(indexes), "among t_pkey");
    assert_eq!(
        target.sql("SELECT to_regclass('public.found_in_public') IS NOT NULL"),
        "t"
    );
}

#[test]
fn postgres_refusals_change_nothing_and_name_file_and_line() {
    for (up, words) in [
        (
            "SELECT 1;\n\\connect other\n",
            "2_m.up.sql:2: \\connect is a command of psql",
        ),
        (
            "SELECT 1;\nCOPY t FROM stdin;\n1\n",
            "2_m.up.sql:2: the rows of COPY",
        ),
        (
            "CREATE TABLE x (a INT);\nROLLBACK;\n",
            "2_m.up.sql: line 2: ROLLBACK",
        ),
    ] {
        let target = Target::with(Dialect::Postgres, &["CREATE TABLE t (a INT)", up]);
        let done = target.run(&["up", "--yes"]);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.stderr.contains(words), "{done:?}");
        assert_eq!(target.sql("SELECT to_regclass('x') IS NULL"), "t");
    }
}

/// A COPY whose rows are wrong takes the whole file with it, and the session is of use afterwards.
#[test]
fn postgres_wrong_rows_roll_the_file_back() {
    let wrong = "CREATE TABLE c (a INT);\nCOPY c FROM stdin;\n1\nx\n\\.\n";
    let target = Target::with(Dialect::Postgres, &[wrong]);
    let done = target.run(&["up", "--yes"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(
        done.stderr.contains("line 2") && done.stderr.contains("22P02"),
        "{done:?}"
    );
    target.migration(1, &wrong.replace('x', "2"));
    target.up();
    assert_eq!(target.sql("SELECT sum(a) FROM c"), "3");
}

#[test]
fn mariadb() {
    let target = applies(
        Dialect::MariaDb,
        &[
            "# a comment; it's\n/*!40101 SET @old = @@sql_mode */;\nCREATE TABLE `t;1` (id INT PRIMARY KEY, v VARCHAR(40)) /*!50100 COMMENT 'x;y' */;\n\
             CREATE TABLE log (n INT);",
            "DELIMITER $$\nCREATE PROCEDURE p(IN a INT)\nBEGIN\n  INSERT INTO log VALUES (a);\n  INSERT INTO log VALUES (a + 1);\nEND$$\n\
             DELIMITER //\nCREATE TRIGGER tr BEFORE INSERT ON `t;1` FOR EACH ROW\nBEGIN\n  IF NEW.id > 5 THEN SET NEW.v = 'a;b'; END IF;\nEND //\nDELIMITER ;\n\
             CALL p(1);",
            "CREATE TRIGGER tr2 AFTER INSERT ON `t;1` FOR EACH ROW BEGIN INSERT INTO log VALUES (NEW.id); INSERT INTO log VALUES (NEW.id); END;\n\
             INSERT INTO `t;1` VALUES (6, 'it\\'s; -- no comment');",
            // Variables and PREPARE on one connection, with semicolons in the text.
            "SET @made = (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'u');\n\
             SET @sql = IF(@made = 0, 'CREATE TABLE u (a INT COMMENT '';'')', 'SELECT 1');\nPREPARE s FROM @sql;\nEXECUTE s;\nDEALLOCATE PREPARE s;",
            // Row changes alone are one transaction, also with the file's own around them.
            "START TRANSACTION;\nINSERT INTO log VALUES (100);\nUPDATE log SET n = n + 100 WHERE n = 100;\nCOMMIT;",
            "BEGIN;\nCREATE TABLE w (a INT);\nINSERT INTO w VALUES (1);\nCOMMIT;",
            "",
            "-- only; this",
            "SET FOREIGN_KEY_CHECKS = 0;\nCREATE TABLE child (a INT, FOREIGN KEY (a) REFERENCES missing (a));\nSET FOREIGN_KEY_CHECKS = 1;",
            "SELECT @@foreign_key_checks INTO @checks;\nINSERT INTO log VALUES (1000 + @checks)",
            "\u{feff}CREATE TABLE crlf (a INT);\r\nINSERT INTO crlf\r\n VALUES (1);\r\n",
        ],
    );
    assert_eq!(
        target.sql("SELECT GROUP_CONCAT(n ORDER BY n) FROM log"),
        "1,2,6,6,200,1001"
    );
    assert_eq!(target.sql("SELECT v FROM `t;1`"), "a;b");
    let tables = "SELECT GROUP_CONCAT(TABLE_NAME ORDER BY 1) FROM information_schema.TABLES \
                  WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ('u', 'w', 'crlf', 'child')";
    assert_eq!(target.sql(tables), "child,crlf,u,w");
}

/// A file of row changes alone leaves nothing when its last statement fails.
#[test]
fn mariadb_row_changes_are_one_transaction() {
    let rows = "INSERT INTO t VALUES (1);\nINSERT INTO t VALUES (2);\nINSERT INTO t VALUES (1);";
    let target = Target::with(Dialect::MariaDb, &["CREATE TABLE t (a INT PRIMARY KEY)", rows]);
    let done = target.run(&["up", "--yes"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(
        done.stderr.contains("line 3") && done.stderr.contains("nothing of this migration remains"),
        "{done:?}"
    );
    assert_eq!(target.sql("SELECT COUNT(*) FROM t"), "0");
}

#[test]
fn sqlite() {
    let target = applies(
        Dialect::Sqlite,
        &[
            "CREATE TABLE t (id INTEGER PRIMARY KEY, [v;] TEXT, `w` TEXT);\nCREATE TABLE child (a INT REFERENCES t(id) ON DELETE CASCADE);\n\
             CREATE TABLE log (n INT);\nCREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.id); \
             UPDATE t SET w = CASE WHEN new.id > 1 THEN 'a;b' ELSE 'c' END WHERE id = new.id; END;",
            "INSERT INTO t (id) VALUES (1), (2);\nINSERT INTO child VALUES (1);",
            // SQLite's own recipe for changing a table: the rows that refer to it stay.
            "PRAGMA foreign_keys = OFF;\nBEGIN TRANSACTION;\nDROP TRIGGER tr;\nCREATE TABLE t_new (id INTEGER PRIMARY KEY, w TEXT);\n\
             INSERT INTO t_new SELECT id, w FROM t;\nDROP TABLE t;\nALTER TABLE t_new RENAME TO t;\nCOMMIT;\nPRAGMA foreign_keys = ON;",
            "",
            "-- nothing;\n/* open",
            "CREATE TABLE docs (body TEXT);\nCREATE VIRTUAL TABLE found USING fts5(body, content='docs');\n\
             CREATE TRIGGER docs_ai AFTER INSERT ON docs BEGIN INSERT INTO found(rowid, body) VALUES (new.rowid, new.body); END;\n\
             INSERT INTO docs VALUES ('it''s; here')",
            "VACUUM;\nINSERT INTO log VALUES (9)",
            "\u{feff}CREATE TABLE crlf (a INT);\r\nINSERT INTO crlf\r\n VALUES (1);\r\n",
        ],
    );
    assert_eq!(target.sql("SELECT group_concat(n) FROM log"), "1,2,9");
    assert_eq!(target.sql("SELECT group_concat(w) FROM t"), "c,a;b");
    assert_eq!(target.sql("SELECT count(*) FROM child"), "1");
    assert_eq!(
        target.sql("SELECT count(*) FROM found WHERE found MATCH 'here'"),
        "1"
    );
}

#[test]
fn a_file_of_two_thousand_lines_runs_in_every_dialect() {
    for dialect in [Dialect::Postgres, Dialect::MariaDb, Dialect::Sqlite] {
        let mut text = "CREATE TABLE t (a INT, b VARCHAR(20));\n".to_owned();
        for line in 1..2000 {
            text += &format!("INSERT INTO t VALUES ({line}, 'x;y'); -- line's {line}\n");
        }
        let target = applies(dialect, &[&text]);
        assert_eq!(target.sql("SELECT count(*) FROM t"), "1999", "{dialect:?}");
    }
}

/// Waiters poll with statements of their own and hold no snapshot: one that did would keep the index from ever being
/// valid, and they would wait for each other.
#[test]
fn ten_runners_build_an_index_concurrently_once() {
    let target = Target::with(
        Dialect::Postgres,
        &[
            "CREATE TABLE t (a INT);\nINSERT INTO t SELECT generate_series(1, 20000);",
            "CREATE INDEX CONCURRENTLY i ON t (a);",
            "INSERT INTO t VALUES (0);\nCREATE INDEX CONCURRENTLY j ON t (a);\nCREATE INDEX CONCURRENTLY k ON t (a);",
        ],
    );
    let runners: Vec<_> = (0..10).map(|_| target.start(&[])).collect();
    let mut ran = 0;
    for runner in runners {
        let done = ended(runner);
        assert_eq!(done.code, 0, "{done:?}");
        ran += done.json()["ran"].as_u64().unwrap();
    }
    assert_eq!(ran, 3);
    assert_eq!(target.sql("SELECT count(*) FROM t WHERE a = 0"), "1");
    assert_eq!(
        target.sql("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass AND indisvalid"),
        "3"
    );
}

#[test]
fn ten_runners_on_mariadb_run_each_statement_once() {
    let target = Target::with(
        Dialect::MariaDb,
        &[
            "CREATE TABLE t (a INT);",
            "CREATE INDEX i ON t (a);\nINSERT INTO t VALUES (0);",
            "INSERT INTO t VALUES (0);",
        ],
    );
    let runners: Vec<_> = (0..10).map(|_| target.start(&[])).collect();
    for runner in runners {
        let done = ended(runner);
        assert_eq!(done.code, 0, "{done:?}");
    }
    assert_eq!(target.sql("SELECT COUNT(*) FROM t"), "2");
}
