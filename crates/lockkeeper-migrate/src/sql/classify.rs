//! What sort of statement it is, told by its leading words.

use super::body::Shape;
use super::statement::{StatementKind, TransactionVerb};
use crate::dialect::Dialect;

/// Pragmas that SQLite refuses inside a transaction.
const PRAGMAS_OUTSIDE_ONLY: [&str; 4] = ["journal_mode", "synchronous", "temp_store", "wal_checkpoint"];

pub(super) fn classify(dialect: Dialect, shape: &Shape) -> StatementKind {
    if let Some(kind) = transaction_control(dialect, shape) {
        return kind;
    }
    let non_transactional = match dialect {
        Dialect::Postgres => postgres_non_transactional(shape),
        Dialect::MySql => None,
        Dialect::Sqlite => sqlite_non_transactional(shape),
    };
    match non_transactional {
        Some(what) => StatementKind::NonTransactional { what },
        None => plain_kind(dialect, shape),
    }
}

fn transaction_control(dialect: Dialect, shape: &Shape) -> Option<StatementKind> {
    let verb = match shape.word(0) {
        // MariaDB's anonymous block.
        "BEGIN" if dialect == Dialect::MySql && shape.word(1) == "NOT" => return None,
        "BEGIN" => begin(shape, 1),
        "START" if shape.word(1) == "TRANSACTION" => begin(shape, 2),
        "COMMIT" | "END" => match shape.word(1) {
            "" | "WORK" | "TRANSACTION" if !shape.has_word("CHAIN") => TransactionVerb::Commit,
            _ => TransactionVerb::Other,
        },
        "ROLLBACK" if shape.has_word("TO") => return Some(StatementKind::Savepoint),
        "ROLLBACK" | "ABORT" => TransactionVerb::Rollback,
        "SAVEPOINT" | "RELEASE" => return Some(StatementKind::Savepoint),
        "PREPARE" if dialect == Dialect::Postgres && shape.word(1) == "TRANSACTION" => TransactionVerb::Other,
        "XA" if dialect == Dialect::MySql => TransactionVerb::Other,
        "SET" if dialect == Dialect::MySql && shape.sets_autocommit => TransactionVerb::Other,
        _ => return None,
    };
    Some(StatementKind::TransactionControl(verb))
}

fn begin(shape: &Shape, after: usize) -> TransactionVerb {
    let optional = usize::from(after == 1 && matches!(shape.word(1), "WORK" | "TRANSACTION"));
    if shape.head.len() > after + optional {
        TransactionVerb::BeginWithMode
    } else {
        TransactionVerb::Begin
    }
}

fn postgres_non_transactional(shape: &Shape) -> Option<&'static str> {
    let concurrently = shape.has_word_anywhere("CONCURRENTLY");
    match (shape.word(0), shape.word(1)) {
        ("CREATE", "INDEX" | "UNIQUE") if concurrently => Some("CREATE INDEX CONCURRENTLY"),
        ("DROP", "INDEX") if concurrently => Some("DROP INDEX CONCURRENTLY"),
        ("REINDEX", _) if concurrently => Some("REINDEX CONCURRENTLY"),
        ("REINDEX", _) if shape.has_word("DATABASE") || shape.has_word("SYSTEM") => Some("REINDEX DATABASE"),
        ("ALTER", "TABLE") if concurrently && shape.has_word("DETACH") => {
            Some("DETACH PARTITION CONCURRENTLY")
        }
        ("VACUUM", _) => Some("VACUUM"),
        ("ALTER", "SYSTEM") => Some("ALTER SYSTEM"),
        ("CREATE", "DATABASE") => Some("CREATE DATABASE"),
        ("DROP", "DATABASE") => Some("DROP DATABASE"),
        ("ALTER", "DATABASE") if shape.has_word("TABLESPACE") => Some("ALTER DATABASE SET TABLESPACE"),
        ("CREATE", "TABLESPACE") => Some("CREATE TABLESPACE"),
        ("DROP", "TABLESPACE") => Some("DROP TABLESPACE"),
        ("CREATE" | "ALTER" | "DROP", "SUBSCRIPTION") => Some("a SUBSCRIPTION command"),
        ("CLUSTER", "" | "VERBOSE") if shape.head.len() <= 2 => Some("CLUSTER without a table"),
        ("DISCARD", "ALL") => Some("DISCARD ALL"),
        _ => None,
    }
}

fn sqlite_non_transactional(shape: &Shape) -> Option<&'static str> {
    match shape.word(0) {
        "VACUUM" => Some("VACUUM"),
        "ATTACH" => Some("ATTACH"),
        "DETACH" => Some("DETACH"),
        "PRAGMA" if PRAGMAS_OUTSIDE_ONLY.contains(&pragma_name(shape).as_str()) => {
            Some("a PRAGMA that no transaction may hold")
        }
        _ => None,
    }
}

fn pragma_name(shape: &Shape) -> String {
    shape.pragma.clone().unwrap_or_default()
}

fn plain_kind(dialect: Dialect, shape: &Shape) -> StatementKind {
    match shape.word(0) {
        "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "MERGE" => StatementKind::RowChange,
        "LOAD" if dialect == Dialect::MySql => StatementKind::RowChange,
        "COPY" if shape.has_word("FROM") => StatementKind::RowChange,
        "WITH" if shape.changes_rows => StatementKind::RowChange,
        "SET" if dialect == Dialect::MySql && matches!(shape.word(1), "PASSWORD" | "ROLE" | "DEFAULT") => {
            StatementKind::Ddl
        }
        "SET" | "RESET" | "USE" | "DISCARD" => StatementKind::Session,
        "PRAGMA" if dialect == Dialect::Sqlite => StatementKind::Pragma {
            name: pragma_name(shape),
        },
        "CREATE" | "ALTER" | "DROP" | "TRUNCATE" | "COMMENT" | "GRANT" | "REVOKE" | "RENAME" | "REINDEX"
        | "REFRESH" | "CLUSTER" | "SECURITY" | "IMPORT" | "REASSIGN" | "OPTIMIZE" | "REPAIR" | "ANALYZE" => {
            StatementKind::Ddl
        }
        "SELECT" | "VALUES" | "TABLE" | "SHOW" | "EXPLAIN" | "DESCRIBE" | "DESC" | "WITH" | "COPY" | "" => {
            StatementKind::Query
        }
        _ => StatementKind::Other,
    }
}
