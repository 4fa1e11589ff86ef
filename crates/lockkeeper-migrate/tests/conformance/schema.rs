//! What a schema is told as.

use lockkeeper_migrate::db::Database;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::fingerprint::{Change, Schema, diff};

use crate::fixture::Fixture;
use crate::support::{G1, apply, fenced, standalone, take};

/// The schema that the tests change: one object of as many kinds as the dialect has.
pub(crate) fn base(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Postgres => &[
            "CREATE TYPE mood AS ENUM ('sad', 'glad')",
            "CREATE DOMAIN short AS text CHECK (length(value) < 9)",
            "CREATE SEQUENCE counter",
            "CREATE TABLE users (id bigserial PRIMARY KEY, name short NOT NULL DEFAULT 'x', m mood, \
             twice bigint GENERATED ALWAYS AS (2) STORED, age int CONSTRAINT grown CHECK (age > 0))",
            "CREATE TABLE posts (id int PRIMARY KEY, author bigint REFERENCES users (id))",
            "CREATE TABLE parts (id int, at date) PARTITION BY RANGE (at)",
            "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
            "CREATE INDEX names ON users (name)",
            "CREATE VIEW adults AS SELECT id, name FROM users WHERE age > 18",
            "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM users",
            "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE PROCEDURE nothing() LANGUAGE sql AS ''",
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE TRIGGER touched BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch()",
            "ALTER TABLE posts ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON posts USING (author = 1)",
            "CREATE RULE quiet AS ON DELETE TO posts DO INSTEAD NOTHING",
            "CREATE STATISTICS two ON id, author FROM posts",
        ],
        Dialect::MySql => &[
            "CREATE TABLE users (id bigint AUTO_INCREMENT PRIMARY KEY, name varchar(9) NOT NULL DEFAULT 'x', \
             mood enum('sad', 'glad'), twice bigint AS (2) STORED, age int, CHECK (age > 0)) ENGINE=InnoDB",
            "CREATE TABLE posts (id int PRIMARY KEY, author bigint, FOREIGN KEY (author) REFERENCES users (id))",
            "CREATE TABLE parts (id int) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10))",
            "CREATE SEQUENCE counter",
            "CREATE INDEX names ON users (name)",
            "CREATE VIEW adults AS SELECT id, name FROM users WHERE age > 18",
            "CREATE FUNCTION one(a int) RETURNS int DETERMINISTIC RETURN a",
            "CREATE PROCEDURE nothing(IN a int) SELECT a",
            "CREATE TRIGGER touched BEFORE UPDATE ON users FOR EACH ROW SET NEW.age = 1",
        ],
        Dialect::Sqlite => &[
            "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'x', age INT, \
             twice INT AS (2 * age), CONSTRAINT grown CHECK (age > 0)) STRICT",
            "CREATE TABLE posts (id INTEGER PRIMARY KEY, author INT, FOREIGN KEY (author) REFERENCES users (id))",
            "CREATE INDEX names ON users (name)",
            "CREATE VIEW adults AS SELECT id, name FROM users WHERE age > 18",
            "CREATE TRIGGER touched AFTER UPDATE ON users BEGIN SELECT 1; END",
        ],
    }
}

/// Changes of the base that must be told, and the object whose difference tells each.
fn changes(dialect: Dialect) -> &'static [(&'static str, &'static str)] {
    match dialect {
        Dialect::Postgres => &[
            ("ALTER TYPE mood ADD VALUE 'mad'", "type public.mood"),
            ("ALTER DOMAIN short SET NOT NULL", "type public.short"),
            ("ALTER SEQUENCE counter INCREMENT 7", "sequence public.counter"),
            (
                "ALTER TABLE users ALTER name DROP DEFAULT",
                "column public.users.name",
            ),
            (
                "ALTER TABLE users ALTER name DROP NOT NULL",
                "column public.users.name",
            ),
            (
                "ALTER TABLE users DROP CONSTRAINT grown",
                "constraint public.users.grown",
            ),
            ("ALTER TABLE posts SET UNLOGGED", "table public.posts"),
            ("DROP TABLE parts_1", "table public.parts_1"),
            ("CREATE UNIQUE INDEX more ON users (age)", "index public.more"),
            (
                "CREATE OR REPLACE VIEW adults AS SELECT id, name FROM users",
                "view public.adults",
            ),
            (
                "DROP MATERIALIZED VIEW counted",
                "materialized-view public.counted",
            ),
            (
                "ALTER TABLE users ALTER age TYPE bigint USING age",
                "column public.users.age",
            ),
            (
                "CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 2'",
                "function public.one()",
            ),
            ("DROP PROCEDURE nothing", "procedure public.nothing()"),
            (
                "ALTER TABLE users DISABLE TRIGGER touched",
                "trigger public.users.touched",
            ),
            (
                "ALTER POLICY own ON posts USING (true)",
                "policy public.posts.own",
            ),
            ("DROP RULE quiet ON posts", "rule public.posts.quiet"),
            ("DROP STATISTICS two", "statistics public.two"),
            ("COMMENT ON TABLE posts IS 'words'", "table public.posts"),
            ("CREATE SCHEMA other", "schema other"),
        ],
        Dialect::MySql => &[
            ("ALTER TABLE users MODIFY mood enum('sad')", "column users.mood"),
            ("ALTER TABLE users ALTER name DROP DEFAULT", "column users.name"),
            ("ALTER TABLE users COMMENT 'words'", "table users"),
            (
                "ALTER TABLE users DROP CONSTRAINT CONSTRAINT_1",
                "constraint users.(check (`age` > 0))",
            ),
            ("ALTER TABLE users ADD UNIQUE more (age)", "index users.more"),
            (
                "ALTER TABLE posts DROP FOREIGN KEY posts_ibfk_1",
                "constraint posts.(",
            ),
            (
                "ALTER TABLE parts ADD PARTITION (PARTITION p1 VALUES LESS THAN (20))",
                "partition parts.p1",
            ),
            ("ALTER SEQUENCE counter INCREMENT 7", "sequence counter"),
            (
                "CREATE OR REPLACE VIEW adults AS SELECT id, name FROM users",
                "view adults",
            ),
            ("DROP FUNCTION one", "function one"),
            ("DROP PROCEDURE nothing", "procedure nothing"),
            ("DROP TRIGGER touched", "trigger users.touched"),
        ],
        Dialect::Sqlite => &[
            ("ALTER TABLE users ADD COLUMN x BLOB", "column users.x"),
            (
                "ALTER TABLE posts RENAME COLUMN author TO writer",
                "column posts.author",
            ),
            ("DROP INDEX names", "index names"),
            ("DROP VIEW adults", "view adults"),
            ("DROP TRIGGER touched", "trigger users.touched"),
            (
                "CREATE TABLE more (a INT PRIMARY KEY) WITHOUT ROWID",
                "table more",
            ),
        ],
    }
}

async fn run(fixture: &impl Fixture, statements: &[&str]) {
    let mut app = fixture.session().await;
    for statement in statements {
        app.execute(statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

fn told(from: &Schema, to: &Schema) -> Vec<String> {
    diff(from, to)
        .differences
        .iter()
        .map(|difference| difference.object.to_string())
        .collect()
}

pub(crate) async fn every_object_and_property_is_told(fixture: &impl Fixture) {
    let database = fixture.database();
    let dialect = fixture.dialect();
    run(fixture, base(dialect)).await;
    let mut before = database.schema().await.unwrap();
    let again = database.schema().await.unwrap();
    assert_eq!(before.fingerprint(), again.fingerprint());
    for (statement, object) in changes(dialect) {
        run(fixture, &[statement]).await;
        let after = database.schema().await.unwrap();
        let told = told(&before, &after);
        assert!(
            told.iter().any(|name| name.starts_with(object)),
            "{statement}: {told:?}"
        );
        assert_ne!(before.fingerprint(), after.fingerprint(), "{statement}");
        before = after;
    }
}

/// Two tables made in the one order and the other, with their columns in the one order and the other.
pub(crate) async fn the_order_of_making_does_not_matter(fixture: &impl Fixture) {
    let database = fixture.database();
    let tables = ["CREATE TABLE a (x INT, y INT)", "CREATE TABLE b (x INT)"];
    run(fixture, &tables).await;
    let one = database.schema().await.unwrap();
    let drops = ["DROP TABLE a", "DROP TABLE b"];
    run(fixture, &drops).await;
    assert_ne!(database.schema().await.unwrap().fingerprint(), one.fingerprint());
    let other_way = [
        "CREATE TABLE b (x INT)",
        "INSERT INTO b VALUES (1)",
        "CREATE TABLE a (y INT)",
        "ALTER TABLE a ADD COLUMN x INT",
    ];
    run(fixture, &other_way).await;
    let other = database.schema().await.unwrap();
    assert_eq!(told(&one, &other), Vec::<String>::new());
    assert_eq!(one.fingerprint(), other.fingerprint());
}

pub(crate) async fn lockkeepers_own_objects_are_no_part_of_it(fixture: &impl Fixture) {
    let database = fixture.database();
    run(fixture, &["CREATE TABLE a (x INT)"]).await;
    let untouched = database.schema().await.unwrap();
    run(fixture, &["CREATE TABLE goose_db_version (id INT)"]).await;
    let mut hand = fenced(&*database).await;
    let fenced = hand.schema().await.unwrap();
    assert_eq!(told(&untouched, &fenced), Vec::<String>::new());
    assert_eq!(untouched.fingerprint(), fenced.fingerprint());
    hand.open(G1, None).await.unwrap();
    let opened = database.schema().await.unwrap();
    assert_eq!(untouched.fingerprint(), opened.fingerprint());
}

pub(crate) async fn going_down_gives_the_old_fingerprint(fixture: &impl Fixture) {
    let database = fixture.database();
    run(fixture, base(fixture.dialect())).await;
    let before = database.schema().await.unwrap();
    let mut hand = take(&*database, &standalone("test")).await;
    let dialect = fixture.dialect();
    apply(&mut *hand, dialect, "1", "ALTER TABLE posts ADD COLUMN x INT")
        .await
        .unwrap();
    let after = hand.schema().await.unwrap();
    let found = diff(&before, &after);
    assert_eq!(found.differences.len(), 1, "{found:?}");
    assert!(
        matches!(found.differences[0].change, Change::Added { .. }),
        "{found:?}"
    );
    apply(&mut *hand, dialect, "2", "ALTER TABLE posts DROP COLUMN x")
        .await
        .unwrap();
    let back = hand.schema().await.unwrap();
    assert_eq!(
        back.fingerprint(),
        before.fingerprint(),
        "{:?}",
        diff(&before, &back)
    );
    hand.release().await.unwrap();
    assert_eq!(read(&*database).await.fingerprint(), before.fingerprint());
}

async fn read(database: &dyn Database) -> Schema {
    database.schema().await.unwrap()
}
