//! Verdicts, statement by statement.

use super::*;
use crate::sql::split;

fn why(dialect: Dialect, text: &str) -> Vec<String> {
    obstacles(dialect, &split(dialect, text).unwrap())
        .into_iter()
        .map(|o| o.why)
        .collect()
}

fn taken(dialect: Dialect, text: &str) -> Vec<String> {
    contracts(dialect, &split(dialect, text).unwrap())
        .into_iter()
        .map(|t| t.what)
        .collect()
}

const POSTGRES_ONLINE: &[&str] = &[
    "",
    "CREATE TABLE t (id bigint PRIMARY KEY, parent bigint REFERENCES t (id))",
    "CREATE TABLE IF NOT EXISTS public.t (id int); CREATE INDEX i ON public.t (id); COMMENT ON TABLE public.t IS 'x'",
    "CREATE TABLE t (id int); ALTER TABLE t ADD CONSTRAINT c CHECK (id > 0); INSERT INTO t (id) VALUES (1)",
    "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (a int REFERENCES a)",
    "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, a int GENERATED ALWAYS AS (1) STORED)",
    "CREATE TABLE t (id int) PARTITION BY RANGE (id)",
    "ALTER TABLE users ADD COLUMN note text",
    "ALTER TABLE users ADD COLUMN IF NOT EXISTS a varchar(20), ADD b numeric(10, 2) DEFAULT 0, ADD c int[]",
    "ALTER TABLE users ADD COLUMN a boolean NOT NULL DEFAULT false",
    "ALTER TABLE users ADD COLUMN a timestamp with time zone DEFAULT now()",
    "ALTER TABLE users ADD COLUMN a text DEFAULT 'x'::text, ADD COLUMN b int DEFAULT -1",
    "CREATE INDEX CONCURRENTLY i ON users (name)",
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY users USING btree (name, id DESC)",
    "ALTER TABLE users VALIDATE CONSTRAINT c",
    "ALTER TYPE mood ADD VALUE 'new'",
    "CREATE TYPE mood AS ENUM ('a'); CREATE SEQUENCE s; CREATE VIEW v AS SELECT 1",
    "SET lock_timeout = '1s'; SET LOCAL statement_timeout TO 0",
    "GRANT SELECT ON users TO reader",
];

const POSTGRES_FENCED: &[&str] = &[
    "CREATE TABLE t AS SELECT * FROM users",
    "CREATE TABLE t (id int REFERENCES users)",
    "CREATE TABLE t PARTITION OF users FOR VALUES IN (1)",
    "CREATE TABLE t () INHERITS (users)",
    "CREATE TABLE t (id int); INSERT INTO t SELECT id FROM users",
    "CREATE TABLE t (id int); ALTER TABLE t ADD FOREIGN KEY (id) REFERENCES users (id)",
    "ALTER TABLE users ADD COLUMN a int NOT NULL",
    "ALTER TABLE users ADD COLUMN a int DEFAULT random()",
    "ALTER TABLE users ADD COLUMN a uuid DEFAULT gen_random_uuid()",
    "ALTER TABLE users ADD COLUMN a int DEFAULT 1 + f()",
    "ALTER TABLE users ADD COLUMN a serial",
    "ALTER TABLE users ADD COLUMN a us_postal_code",
    "ALTER TABLE users ADD COLUMN a int UNIQUE",
    "ALTER TABLE users ADD COLUMN a int REFERENCES t",
    "ALTER TABLE users ADD COLUMN a int CHECK (a > 0)",
    "ALTER TABLE users ADD COLUMN a int GENERATED ALWAYS AS (b + 1) STORED",
    "ALTER TABLE users ADD COLUMN a int, DROP COLUMN b",
    "ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
    "ALTER TABLE users ALTER COLUMN a TYPE bigint",
    "ALTER TABLE users RENAME COLUMN a TO b",
    "CREATE INDEX i ON users (name)",
    "CREATE UNIQUE INDEX CONCURRENTLY i ON users (name)",
    "CREATE INDEX CONCURRENTLY i ON users (lower(name))",
    "CREATE INDEX CONCURRENTLY i ON users (name) WHERE a / b > 1",
    "DROP INDEX CONCURRENTLY i",
    "DROP TABLE users",
    "TRUNCATE users",
    "UPDATE users SET a = 1",
    "INSERT INTO users VALUES (1)",
    "WITH d AS (DELETE FROM users RETURNING *) SELECT * FROM d",
    "DO $$ BEGIN END $$",
    "SELECT setval('s', 1)",
    "SET search_path = other",
    "SET session_replication_role = replica",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER t BEFORE INSERT ON users EXECUTE FUNCTION f()",
    "CREATE OR REPLACE VIEW v AS SELECT 1",
    "CREATE EXTENSION hstore",
    "REVOKE ALL ON users FROM app",
    "VACUUM",
];

const MYSQL_ONLINE: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY, KEY k (id)) ENGINE=InnoDB",
    "ALTER TABLE users ADD COLUMN note TEXT, ALGORITHM=INSTANT",
    "ALTER TABLE `users` ADD note VARCHAR(20) NOT NULL DEFAULT '' COMMENT 'x', ALGORITHM = INSTANT",
    "ALTER TABLE users ADD INDEX i (name), ALGORITHM=INPLACE, LOCK=NONE",
    "CREATE INDEX i ON users (name) ALGORITHM=INPLACE LOCK=NONE",
    "CREATE TABLE t (id INT); CREATE INDEX i ON t (id)",
];

const MYSQL_FENCED: &[&str] = &[
    "ALTER TABLE users ADD COLUMN note TEXT",
    "ALTER TABLE users ADD COLUMN note TEXT, ALGORITHM=INPLACE, LOCK=NONE",
    "ALTER TABLE users ADD INDEX i (name)",
    "ALTER TABLE users ADD UNIQUE u (name), ALGORITHM=INPLACE, LOCK=NONE",
    "ALTER TABLE users DROP COLUMN a, ALGORITHM=INSTANT",
    "ALTER TABLE users ADD COLUMN a INT AFTER b, ALGORITHM=INSTANT",
    "CREATE INDEX i ON users (name)",
    "CREATE UNIQUE INDEX i ON users (name) ALGORITHM=INPLACE LOCK=NONE",
    "CREATE TABLE t (id INT, FOREIGN KEY (id) REFERENCES users (id))",
    "CREATE TABLE t SELECT * FROM users",
    "CREATE OR REPLACE TABLE t (id INT)",
    "CREATE TRIGGER x BEFORE INSERT ON users FOR EACH ROW SET NEW.a = 1",
    "CALL p()",
    "UPDATE users SET a = 1",
];

const SQLITE_ONLINE: &[&str] = &[
    "CREATE TABLE t (id INTEGER PRIMARY KEY, u REFERENCES users (id)); CREATE UNIQUE INDEX i ON t (id)",
    "ALTER TABLE users ADD COLUMN note TEXT",
    "ALTER TABLE users ADD note TEXT NOT NULL DEFAULT ''",
    "CREATE VIEW v AS SELECT 1",
];

const SQLITE_FENCED: &[&str] = &[
    "CREATE INDEX i ON users (name)",
    "CREATE TABLE t AS SELECT * FROM users",
    "CREATE TRIGGER x AFTER INSERT ON users BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE f USING fts5(a)",
    "ALTER TABLE users RENAME TO people",
    "ALTER TABLE users ADD COLUMN a REFERENCES t (id)",
    "PRAGMA foreign_keys = OFF",
    "DROP TABLE users",
    "DELETE FROM users",
];

/// The statements whose number of obstacles is not the expected one, all of them.
fn wrong(cases: [(Dialect, &[&str]); 3], expected: usize) -> Vec<String> {
    let of_dialect = |(dialect, texts): (Dialect, &[&str])| {
        let found = texts.iter().map(|text| (text.to_string(), why(dialect, text)));
        let wrong = found.filter(|(_, why)| why.len() != expected);
        wrong
            .map(|(text, why)| format!("{dialect}: {text}: {why:?}"))
            .collect::<Vec<_>>()
    };
    cases.into_iter().flat_map(of_dialect).collect()
}

#[test]
fn what_is_on_the_list_is_online() {
    let cases = [
        (Dialect::Postgres, POSTGRES_ONLINE),
        (Dialect::MySql, MYSQL_ONLINE),
        (Dialect::Sqlite, SQLITE_ONLINE),
    ];
    assert_eq!(wrong(cases, 0), Vec::<String>::new());
}

#[test]
fn everything_else_needs_a_fence_and_says_why() {
    let cases = [
        (Dialect::Postgres, POSTGRES_FENCED),
        (Dialect::MySql, MYSQL_FENCED),
        (Dialect::Sqlite, SQLITE_FENCED),
    ];
    assert_eq!(wrong(cases, 1), Vec::<String>::new());
}

#[test]
fn a_drop_or_a_new_name_is_taken_from_somebody() {
    for (dialect, text, expected) in [
        (
            Dialect::Postgres,
            "DROP TABLE IF EXISTS a, public.b CASCADE",
            &["drops table a", "drops table public.b"][..],
        ),
        (
            Dialect::Postgres,
            "ALTER TABLE users DROP COLUMN IF EXISTS a, DROP b, DROP CONSTRAINT c",
            &["drops column users.a", "drops column users.b"],
        ),
        (
            Dialect::Postgres,
            "ALTER TABLE users RENAME a TO b",
            &["renames column users.a"],
        ),
        (
            Dialect::Postgres,
            "ALTER TABLE users RENAME TO people",
            &["renames table users"],
        ),
        (
            Dialect::Postgres,
            "ALTER TABLE t ALTER a TYPE bigint, ALTER COLUMN b SET DATA TYPE text",
            &["changes the type of column t.a", "changes the type of column t.b"],
        ),
        (
            Dialect::Postgres,
            "DROP INDEX i; ALTER TABLE t ALTER COLUMN a DROP DEFAULT",
            &[],
        ),
        (Dialect::MySql, "RENAME TABLE a TO b", &["renames table a"]),
        (
            Dialect::MySql,
            "ALTER TABLE t CHANGE a b INT, CHANGE c c BIGINT",
            &["renames column t.a"],
        ),
        (
            Dialect::MySql,
            "ALTER TABLE t DROP FOREIGN KEY f, DROP PRIMARY KEY",
            &[],
        ),
        // How a table is rebuilt where ALTER TABLE cannot do it: nobody misses it afterwards.
        (
            Dialect::Sqlite,
            "CREATE TABLE new (a); INSERT INTO new SELECT a FROM t; DROP TABLE t; ALTER TABLE new RENAME TO t",
            &[],
        ),
        (Dialect::Sqlite, "CREATE TEMP TABLE x (a); DROP TABLE x", &[]),
    ] {
        assert_eq!(taken(dialect, text), expected, "{dialect}: {text}");
    }
}
