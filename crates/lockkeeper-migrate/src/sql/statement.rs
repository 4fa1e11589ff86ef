//! One SQL statement of a file.

use std::ops::Range;

use serde::Serialize;

/// One statement as the file writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// The statement without its delimiter, and without comments before its first and after its last token.
    pub text: String,
    /// The same with the names that the file has in place of the values that are run, when it has any.
    pub shown: Option<String>,
    /// The line of its first token, counted from 1.
    pub line: u32,
    /// Where [`text`](Self::text) lies in the text that was split, in bytes.
    pub range: Range<usize>,
    /// What sort of statement it is.
    pub kind: StatementKind,
    /// The rows that follow PostgreSQL's `COPY … FROM STDIN` in the file.
    pub rows: Option<CopyRows>,
}

impl Statement {
    /// What plans, logs and messages say: never a value that stands for a name, which may be a password.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.shown.as_deref().unwrap_or(&self.text)
    }
}

/// Rows that stand in a file behind `COPY … FROM STDIN`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyRows {
    /// The rows as they are sent, without the line `\.` that ends them.
    pub text: String,
    /// Where they lie in the text that was split, in bytes, with that line.
    pub range: Range<usize>,
}

/// What sort of statement it is, as far as running it is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatementKind {
    /// It begins or ends a transaction, so it cannot run inside ours.
    TransactionControl(TransactionVerb),
    /// SAVEPOINT, RELEASE, ROLLBACK TO: fine inside a transaction.
    Savepoint,
    /// The server refuses it inside a transaction.
    NonTransactional {
        /// The construct that makes it so, for messages: `CREATE INDEX CONCURRENTLY`.
        what: &'static str,
    },
    /// INSERT, UPDATE, DELETE, REPLACE, MERGE, COPY … FROM, LOAD DATA, or a WITH that holds one of them.
    RowChange,
    /// CREATE, ALTER, DROP, TRUNCATE, GRANT and the like. On MySQL and MariaDB each commits implicitly.
    Ddl,
    /// SQLite's PRAGMA.
    Pragma {
        /// Its name in lower case, without the schema: `foreign_keys`.
        name: String,
    },
    /// SELECT, VALUES, SHOW, EXPLAIN and the like.
    Query,
    /// SET, RESET, USE: changes the session only.
    Session,
    /// Anything else, for example DO, CALL, EXECUTE, LOCK: may do anything.
    Other,
}

/// What a transaction control statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransactionVerb {
    /// A plain BEGIN or START TRANSACTION, without a mode.
    Begin,
    /// A BEGIN or START TRANSACTION that asks for a mode (isolation level, READ ONLY, IMMEDIATE, …).
    BeginWithMode,
    /// COMMIT, or END as a statement.
    Commit,
    /// ROLLBACK or ABORT.
    Rollback,
    /// PREPARE TRANSACTION, XA, SET autocommit, COMMIT AND CHAIN, …
    Other,
}

impl StatementKind {
    /// Whether this is SQLite's `PRAGMA foreign_keys`, which does nothing inside a transaction and must
    /// therefore be run before it.
    #[must_use]
    pub fn is_foreign_keys_pragma(&self) -> bool {
        matches!(self, Self::Pragma { name } if name == "foreign_keys")
    }
}
